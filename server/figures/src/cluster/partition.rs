//! One of three servers is cut off while its peers change, until all hold the same again after the cut has healed.

use std::time::Duration;

use anyhow::{Context, bail};
use pams_shared::id::ServerId;
use tokio::time::{Instant, sleep};

use super::{
    Node, bar, busy, cluster,
    load::{Crowd, Loaded},
    node::{Ask, Origin, Setting},
};

const PEERS: usize = 10_000;
const RATE: usize = 1_000;
const WITHIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
/// Changes go on for so long before and after the cut.
const AROUND: Duration = Duration::from_secs(3);

pub async fn measure(time: Duration) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut nodes = cluster(dir.path(), Setting::Fed { peers: PEERS }, 3).await?;
    nodes[0].ask::<()>(Ask::Fill(Crowd::of(PEERS))).await?;
    let first = nodes[0].ready.id;
    let load = time + 2 * AROUND;
    nodes[0].ask::<()>(Ask::Load { rate: RATE, ms: load.as_millis() as u64 }).await?;
    sleep(AROUND).await;
    println!("s1 is cut off for {} s while {RATE} of its peers change each second; {}", time.as_secs(), busy());
    cut(&mut nodes, true).await?;
    sleep(time).await;
    let behind = numbers(&mut nodes, first).await?;
    cut(&mut nodes, false).await?;
    let healed = Instant::now();
    let mut reached = vec![None; nodes.len()];
    while reached[1..].iter().any(Option::is_none) {
        // Asked first, so that the others need not have what came since.
        let own = upto(nodes[0].origin(first).await?)?;
        for (node, reached) in nodes.iter_mut().zip(&mut reached).skip(1) {
            let there = upto(node.origin(first).await?)?;
            *reached = reached.or((there >= own).then(|| healed.elapsed()));
        }
        if healed.elapsed() > PATIENCE {
            bail!("not equal {} s after the cut", PATIENCE.as_secs());
        }
    }
    let took = reached.into_iter().flatten().max().context("they were reached")?;
    nodes[0].ask::<Loaded>(Ask::Rest).await?;
    sleep(AROUND).await;
    let mut digests = Vec::new();
    for node in &mut nodes {
        digests.push(node.origin(first).await?.map(|origin| (origin.upto, origin.entries, origin.digest)));
    }
    let equal = digests.iter().all(|digest| *digest == digests[0]);
    println!(
        "behind by {} and {} changes at its end; equal again after {:.2} s, bar {} s: {}; digests of all three at the end: {}",
        behind[0] - behind[1],
        behind[0] - behind[2],
        took.as_secs_f64(),
        WITHIN.as_secs(),
        bar(took <= WITHIN && equal),
        if equal { "equal" } else { "DIFFERENT" }
    );
    println!("{}", busy());
    Ok(())
}

/// Cuts between the first and the others, both ways, or heals it.
async fn cut(nodes: &mut [Node], cut: bool) -> anyhow::Result<()> {
    let all: Vec<_> = nodes.iter().map(|node| node.ready.quic).collect();
    for (n, node) in nodes.iter_mut().enumerate() {
        let to = if n == 0 { all[1..].to_vec() } else { vec![all[0]] };
        node.ask::<u64>(Ask::Cut { to, cut }).await?;
    }
    Ok(())
}

async fn numbers(nodes: &mut [Node], of: ServerId) -> anyhow::Result<Vec<u64>> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(upto(node.origin(of).await?)?);
    }
    Ok(all)
}

fn upto(origin: Option<Origin>) -> anyhow::Result<u64> {
    Ok(origin.context("it knows what the first shares")?.upto)
}
