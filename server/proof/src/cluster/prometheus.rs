//! Debian's Prometheus on a host of the lab. Of each server it asks whom to scrape, each as if that were the only one it knew.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use pams_shared::moment::Moment;
use tokio::process::{Child, Command};

use super::company::{SERVER_HTTP, SERVERS, until};
use crate::lab::Lab;

/// Where it listens, on its host.
const AT: &str = "127.0.0.1:9090";

/// Killed when dropped.
pub struct Prometheus<'a> {
    lab: &'a Lab,
    host: &'static str,
    _child: Child,
}

impl<'a> Prometheus<'a> {
    pub fn start(lab: &'a Lab, host: &'static str) -> anyhow::Result<Self> {
        let folder = lab.folder("prometheus");
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("prometheus.yml");
        let jobs = SERVERS.map(|server| {
            let api = format!("http://{}/api/v1/sd", lab.at(server, SERVER_HTTP));
            format!(
                "  - {{ job_name: servers-{server}, http_sd_configs: [{{ url: \"{api}/servers\", refresh_interval: 1s }}] }}\n  \
                 - {{ job_name: agents-{server}, http_sd_configs: [{{ url: \"{api}/prometheus\", refresh_interval: 1s }}] }}\n"
            )
        });
        let global = "global: { scrape_interval: 2s, scrape_timeout: 2s }";
        std::fs::write(&config, format!("{global}\nscrape_configs:\n{}", jobs.concat()))?;
        let mut command = lab.command(host, Path::new("prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={AT}"));
        let log = std::fs::File::create(folder.join("log"))?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn().context("prometheus cannot be started")?;
        Ok(Self { lab, host, _child: child })
    }

    /// Waits until it scrapes so many servers and agents, as each of `servers` tells of them.
    pub async fn scrapes(
        &self,
        servers: &[&str],
        (expected_servers, expected_agents): (usize, usize),
        begin: Moment,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        until(begin, patience, async || {
            for server in servers {
                for (kind, expected) in [("servers", expected_servers), ("agents", expected_agents)] {
                    let query = format!("count(up{{job=\"{kind}-{server}\"}} == 1)");
                    let found = self.number(&query).await;
                    if !found.as_ref().is_ok_and(|n| *n == expected) {
                        return Some(format!("by the word of {server} it scrapes {found:?} {kind}, not {expected}"));
                    }
                }
            }
            None
        })
        .await
    }

    /// The one number that a query gives; 0: it gives none.
    async fn number(&self, query: &str) -> anyhow::Result<usize> {
        let mut command: Command = self.lab.command(self.host, Path::new("promtool"));
        let output = command.args(["query", "instant", &format!("http://{AT}"), query]).output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        number_of(&text)
    }
}

/// Of what `promtool` prints: `{} => 60 @[1764345600.123]`, or nothing.
fn number_of(text: &str) -> anyhow::Result<usize> {
    match text.split_once("=> ").and_then(|(_, rest)| rest.split_once(' ')) {
        Some((number, _)) => number.parse().with_context(|| format!("{text:?} has no number")),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_answer_is_read() {
        assert_eq!(number_of("{} => 60 @[1764345600.123]\n").unwrap(), 60);
        assert_eq!(number_of("").unwrap(), 0);
        assert!(number_of("{} => many @[1]").is_err());
    }
}
