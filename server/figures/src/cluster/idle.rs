//! Bytes between two servers when nothing happens.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    Node, bar, busy, cluster,
    node::{Ask, Setting, Traffic},
};

const BYTES: f64 = 1_024.0;
/// Of IPv4 and UDP, for each packet.
const HEADERS: u64 = 28;
/// After they have met: what they had to tell is told, and path MTU discovery is through.
const REST: Duration = Duration::from_secs(10);

pub async fn measure(time: Duration) -> anyhow::Result<()> {
    println!("bytes/s between two idle servers, both ways, with UDP and IP headers; {}", busy());
    for servers in [2, 3] {
        let dir = tempfile::tempdir()?;
        let mut nodes = cluster(dir.path(), Setting::Usual, servers).await?;
        sleep(REST).await;
        let before = sent(&mut nodes).await?;
        sleep(time).await;
        let after = sent(&mut nodes).await?;
        let pairs = servers * (servers - 1) / 2;
        let per_pair = |n: u64| n as f64 / time.as_secs_f64() / pairs as f64;
        let bytes = per_pair(after.0 - before.0);
        println!(
            "{servers} servers: {bytes:.0} bytes/s a pair in {:.1} packets/s, bar {BYTES} bytes/s: {}",
            per_pair(after.1 - before.1),
            bar(bytes <= BYTES)
        );
    }
    Ok(())
}

/// Bytes and packets that all have sent.
async fn sent(nodes: &mut [Node]) -> anyhow::Result<(u64, u64)> {
    let (mut bytes, mut packets) = (0, 0);
    for node in nodes {
        let traffic: Traffic = node.ask(Ask::Traffic).await?;
        bytes += traffic.sent.0 + HEADERS * traffic.sent.1;
        packets += traffic.sent.1;
    }
    Ok((bytes, packets))
}
