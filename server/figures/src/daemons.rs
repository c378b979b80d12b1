//! Memory, CPU and size of the real binaries.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use pams_agent::config::Buddy;
use pams_shared::{
    clock::Clock,
    control::Control,
    frame::Role,
    identity::{Grant, Token, TokenStore, pin_of},
    status::Liveness,
};
use serde_json::Value;

use crate::{
    crowd,
    proc::{binary, spawn, usage},
};

/// How long all buddies may take to be live.
const SETTLE: Duration = Duration::from_secs(120);

/// The agent binary among so many buddies, all in this process.
pub async fn agent(buddies: usize, watch: Duration, bin: Option<&Path>) -> anyhow::Result<()> {
    let program = binary(bin, "pams-agent")?;
    let dir = tempfile::tempdir()?;
    let (server, _) = crowd::server(dir.path()).await?;
    let token = token_of(&dir.path().join("server"), &server.ready.quic.to_string())?;
    let mut company = Vec::new();
    for i in 0..buddies {
        company.push(crowd::agent(dir.path(), &format!("b{i}"), &token, Vec::new()).await?);
    }
    let roster: Vec<Buddy> = company
        .iter()
        .map(|b| Buddy { id: b.ready.peer, name: None, addresses: vec![b.ready.quic.into()], subscribe: false })
        .collect();
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, roster_toml(&roster))?;
    let (data, socket) = (dir.path().join("measured"), dir.path().join("measured.sock"));
    let args = [
        "--config",
        &config.display().to_string(),
        "--data-dir",
        &data.display().to_string(),
        "--socket",
        &socket.display().to_string(),
        "--listen",
        crowd::LOOPBACK,
        "--http",
        crowd::LOOPBACK,
        "--join",
        &token,
        "--ready-json",
        "--log",
        "warn",
    ];
    let (child, _) = spawn(&program, &args).await?;
    let pid = child.id().context("it runs")?;
    let control = Control::new(&socket, "pams-agent");
    all_live(&control, buddies).await?;
    // One interval more, so that all connections have come to rest.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = usage(pid)?;
    tokio::time::sleep(watch).await;
    let after = usage(pid)?;
    println!(
        "pams-agent, {buddies} buddies, {} s: RSS {:.1} MiB ({:.1} MiB of it private), CPU {:.2} ms/s, binary {:.2} MB",
        watch.as_secs(),
        after.rss_kib as f64 / 1024.0,
        after.private_kib as f64 / 1024.0,
        (after.cpu_ms - before.cpu_ms) as f64 / watch.as_secs_f64(),
        std::fs::metadata(&program)?.len() as f64 / 1e6,
    );
    drop(child);
    for b in company {
        b.stop().await;
    }
    server.stop().await;
    Ok(())
}

/// The server binary with so many agents in this process, beside a bare endpoint with as many connections.
pub async fn server(agents: usize, bin: Option<&Path>) -> anyhow::Result<()> {
    let program = binary(bin, "pams-server")?;
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("server");
    let args = [
        "--data-dir",
        &data.display().to_string(),
        "--listen",
        crowd::LOOPBACK,
        "--http",
        crowd::LOOPBACK,
        "--ready-json",
        "--log",
        "warn",
    ];
    let (child, line) = spawn(&program, &args).await?;
    let pid = child.id().context("it runs")?;
    let ready: Value = serde_json::from_str(&line).with_context(|| format!("not the line of --ready-json: {line}"))?;
    let address = ready["quic"].as_str().context("quic")?.to_owned();
    let token = token_of(&data, &address)?;
    let empty = usage(pid)?;
    let mut company = Vec::new();
    for i in 0..agents {
        company.push(crowd::agent(dir.path(), &format!("a{i}"), &token, Vec::new()).await?);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let full = usage(pid)?;
    let per_agent = (full.rss_kib - empty.rss_kib) as f64 / agents as f64;
    println!(
        "pams-server: {:.1} MiB empty, {:.1} MiB with {agents} agents: {per_agent:.1} KiB an agent",
        empty.rss_kib as f64 / 1024.0,
        full.rss_kib as f64 / 1024.0,
    );
    drop(child);
    let bare = crate::rtt::hold_many(dir.path(), agents).await?;
    println!("bare quinn, same transport and TLS: {bare:.1} KiB a connection; ratio {:.2}", per_agent / bare);
    Ok(())
}

/// Sizes of the binaries that are built.
pub fn size() -> anyhow::Result<()> {
    for build in ["release", "dist"] {
        for name in ["pams-agent", "pams-server"] {
            let path = Path::new("target").join(build).join(name);
            match std::fs::metadata(&path) {
                Ok(file) => println!("{:<28} {:.2} MB", path.display(), file.len() as f64 / 1e6),
                Err(_) => println!("{:<28} not built: cargo build --profile {build}", path.display()),
            }
        }
    }
    Ok(())
}

/// A token for agents, without a limit.
pub fn token_of(data: &Path, address: &str) -> anyhow::Result<String> {
    token_for(data, address, Role::Agent)
}

/// A token without a limit, made beside the running server as `pams-server token create` does.
pub fn token_for(data: &Path, address: &str, role: Role) -> anyhow::Result<String> {
    let now = Clock.now().wall_ms() / 1_000;
    let grant = Grant { role, uses: None, expires_at: now + 3_600, note: "figures".into() };
    let (id, secret) = TokenStore::open(data)?.create(&grant, now)?;
    Ok(Token { pin: pin_of(data)?, id, secret, addresses: vec![address.parse()?] }.to_string())
}

pub fn roster_toml(roster: &[Buddy]) -> String {
    let line = |b: &Buddy| format!("[[buddy]]\nid = \"{}\"\naddresses = [\"{}\"]\n", b.id, b.addresses[0]);
    roster.iter().map(line).collect()
}

/// Waits until every buddy is live; reports what is missing when that takes too long.
pub async fn all_live(control: &Control, buddies: usize) -> anyhow::Result<()> {
    let asked = async {
        loop {
            let live = match control.get::<Value>("/v1/buddies").await {
                Ok(answer) => answer["buddies"]
                    .as_array()
                    .map_or(0, |all| all.iter().filter(|b| b["liveness"] == Liveness::Live.as_str()).count()),
                Err(_) => 0,
            };
            if live == buddies {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if tokio::time::timeout(SETTLE, asked).await.is_err() {
        bail!("not all of the {buddies} buddies were live within {} s", SETTLE.as_secs());
    }
    Ok(())
}
