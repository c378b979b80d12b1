//! A server and as many agents as wanted, in this process: the company that a measured daemon keeps.

use std::path::Path;

use anyhow::Context;
use pams_agent::{
    config::{Buddy, Config, Http},
    shell::{Options, Running, start},
};
use pams_server::{config::Config as ServerConfig, shell as server};

pub const LOOPBACK: &str = "127.0.0.1:0";

/// A server of its own, and a token of it.
pub async fn server(dir: &Path) -> anyhow::Result<(server::Running, String)> {
    let config = ServerConfig {
        data_dir: dir.join("server"),
        listen: LOOPBACK.parse()?,
        http: pams_server::config::Http::Off,
        ..ServerConfig::default()
    };
    let running = server::start(config, server::Options::default()).await?;
    let token = running.ready.first_token.as_ref().context("a new server makes a token")?.to_string();
    Ok((running, token))
}

/// An agent that watches `buddies`.
pub async fn agent(dir: &Path, name: &str, token: &str, buddies: Vec<Buddy>) -> anyhow::Result<Running> {
    let config = Config {
        name: Some(name.into()),
        data_dir: dir.join(name),
        socket: Some(dir.join(format!("{name}.sock"))),
        listen: LOOPBACK.parse()?,
        http: Http::Off,
        buddy: buddies,
        ..Config::default()
    };
    start(config, Options { join: Some(token.into()), ..Options::default() }).await
}
