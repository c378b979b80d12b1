//! A fresh server among others gets what they share: how long it takes, how late changes are meanwhile, and what memory it takes.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};

use super::{
    Lags, Node, bar, busy, cluster,
    load::{Crowd, Loaded, OVERLAY},
    node::{Ask, Setting},
    token,
};
use crate::proc::{Usage, usage};

/// Seconds for 100,000 and for 1,000,000 peers; between them in proportion.
const COPIED: [(f64, f64); 2] = [(100_000.0, 1.2), (1_000_000.0, 4.0)];
const LAG_MS: f64 = 50.0;
const BYTES: f64 = 500.0;
/// Changes a second while the copy is made.
const RATE: usize = 1_000;
/// How long that goes on; longer than any copy that is near the bar.
const LOAD: Duration = Duration::from_secs(12);
/// It does next to nothing for so long.
const QUIET: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn copy(peers: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut nodes = filled(dir.path(), peers, 2).await?;
    println!("a third server gets {peers} peers while {RATE} change each second; {}", busy());
    nodes[0].ask::<()>(Ask::Load { rate: RATE, ms: LOAD.as_millis() as u64 }).await?;
    sleep(Duration::from_secs(2)).await;
    nodes[1].ask::<Lags>(Ask::Seen).await?;
    let mut fresh =
        Node::start(&dir.path().join("s3"), Setting::Fed { peers }, Some(&token(dir.path(), nodes[0].ready.quic)?))
            .await?;
    let took = held(&mut fresh, peers).await?;
    let lags: [Lags; 2] = [nodes[1].ask(Ask::Seen).await?, fresh.ask(Ask::Seen).await?];
    nodes[0].ask::<Loaded>(Ask::Rest).await?;
    let [(few, least), (many, most)] = COPIED;
    let within = least + (most - least) * ((peers as f64 - few) / (many - few)).max(0.0);
    println!("{took:.2} s from its first link, bar {within:.1} s: {}", bar(took <= within));
    for (server, lags) in ["s2", "s3"].into_iter().zip(lags) {
        let met = bar(lags.p99_us / 1e3 <= LAG_MS);
        println!("changes meanwhile at {server}: {lags} of {}, bar {LAG_MS} ms: {met}", lags.count);
    }
    println!("{}", busy());
    Ok(())
}

/// `watched`: the peers take rosters, and to each of their overlays a peer of the server that is measured comes too.
pub async fn directory(peers: usize, watched: bool) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut nodes = cluster(dir.path(), Setting::Fed { peers }, 2).await?;
    let pid = nodes[1].pid()?;
    let before = usage(pid)?;
    nodes[0].ask::<()>(Ask::Fill(Crowd { rosters: watched, ..Crowd::of(peers) })).await?;
    held(&mut nodes[1], peers).await?;
    if watched {
        nodes[1].ask::<()>(Ask::Fill(Crowd { peers, step: OVERLAY, rosters: true })).await?;
    }
    rest(pid).await?;
    let after = usage(pid)?;
    let each = |of: fn(&Usage) -> u64| (of(&after) - of(&before)) as f64 * 1_024.0 / peers as f64;
    let rss = each(|usage| usage.rss_kib);
    println!(
        "{peers} peers of another server{}: RSS {:.1} MiB before, {:.1} MiB after: {rss:.0} bytes a peer ({:.0} private), \
         bar {BYTES} bytes: {}",
        if watched { ", in overlays with peers of this one" } else { "" },
        before.rss_kib as f64 / 1_024.0,
        after.rss_kib as f64 / 1_024.0,
        each(|usage| usage.private_kib),
        bar(rss <= BYTES)
    );
    Ok(())
}

/// Waits until a process has next to nothing to do.
async fn rest(pid: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = usage(pid)?.cpu_ms;
        sleep(QUIET).await;
        if usage(pid)?.cpu_ms - before <= QUIET.as_millis() as u64 / 50 {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("a server was busy for more than {} s", PATIENCE.as_secs());
        }
    }
}

async fn filled(dir: &Path, peers: usize, servers: usize) -> anyhow::Result<Vec<Node>> {
    let mut nodes = cluster(dir, Setting::Fed { peers }, servers).await?;
    nodes[0].ask::<()>(Ask::Fill(Crowd::of(peers))).await?;
    for node in &mut nodes[1..] {
        held(node, peers).await?;
    }
    Ok(nodes)
}

/// Seconds from a server's first link until it held so many entries.
async fn held(node: &mut Node, entries: usize) -> anyhow::Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (linked, held): (Option<u64>, Option<u64>) = node.ask(Ask::Held { entries }).await?;
        if let Some(held) = held {
            let linked = linked.context("who holds something had a link")?;
            return Ok((held - linked) as f64 / 1e6);
        }
        if Instant::now() > deadline {
            bail!("a server did not get {entries} entries within {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(50)).await;
    }
}
