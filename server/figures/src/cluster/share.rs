//! From a change at the first of three servers until the others have applied it, and how many a second they take.

use std::{path::Path, time::Duration};

use super::{
    Lags, Node, bar, bare, busy, cluster,
    load::{Crowd, Loaded},
    node::{Ask, Setting},
};
use crate::proc::usage;

/// Peers that change, for the lag and for the most that can be taken. Of a peer that changes again before it was told only the
/// newest is told, so there have to be many.
const PEERS: usize = 10_000;
const MANY: usize = 100_000;
/// Above the bare stream, at 1,000 and at 10,000 changes a second.
const ABOVE_MS: [f64; 2] = [2.0, 10.0];
/// They take it: nothing falls behind by more than this, and so much of it is seen.
const BEHIND: Duration = Duration::from_millis(250);
const TOLD: f64 = 0.99;
const SUSTAINED: usize = 50_000;

pub async fn measure(time: Duration, rates: &[usize], steps: &[usize]) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    println!("change at s1 until applied at s2 and s3, three processes; {}", busy());
    if !rates.is_empty() {
        let mut nodes = fed(dir.path(), PEERS).await?;
        for &rate in rates {
            let bare = bare::measure(dir.path(), rate, time).await?;
            let run = run(&mut nodes, rate, time).await?;
            let above = run.worst().p99_us.max(0.0) / 1e3 - worst(&bare).p99_us / 1e3;
            let most = ABOVE_MS[usize::from(rate > 1_000)];
            println!("{rate:>7}/s  s2 {}; s3 {}; {}", run.seen[0], run.seen[1], run.cost);
            println!(
                "           bare {}, ratio of p99 {:.2}; p99 {above:.2} ms above it, bar {most} ms: {}",
                worst(&bare),
                run.worst().p99_us / worst(&bare).p99_us,
                bar(above <= most)
            );
        }
    }
    if steps.is_empty() {
        return Ok(());
    }
    let many = tempfile::tempdir()?;
    let mut nodes = fed(many.path(), MANY).await?;
    let mut sustained = 0;
    for &rate in steps {
        let run = run(&mut nodes, rate, time).await?;
        let told = run.seen.iter().map(|seen| seen.count as f64 / run.loaded.changes.max(1) as f64).fold(1.0, f64::min);
        let behind = (run.loaded.late_us as f64).max(run.worst().p99_us);
        let takes = told >= TOLD && behind <= BEHIND.as_micros() as f64;
        println!(
            "{rate:>7}/s  s2 {}; s3 {}; {:.1} % told, put in {} ms late; {}",
            run.seen[0],
            run.seen[1],
            told * 100.0,
            run.loaded.late_us / 1_000,
            run.cost
        );
        if !takes {
            break;
        }
        sustained = rate;
    }
    println!("sustained: {sustained} changes/s, bar {SUSTAINED}: {}; {}", bar(sustained >= SUSTAINED), busy());
    Ok(())
}

async fn fed(dir: &Path, peers: usize) -> anyhow::Result<Vec<Node>> {
    let mut nodes = cluster(dir, Setting::Fed { peers }, 3).await?;
    nodes[0].ask::<()>(Ask::Fill(Crowd::of(peers))).await?;
    settle(&mut nodes).await?;
    Ok(nodes)
}

/// Waits until the others hold what the first shares.
async fn settle(nodes: &mut [Node]) -> anyhow::Result<()> {
    let first = nodes[0].ready.id;
    loop {
        let own = nodes[0].origin(first).await?;
        let mut equal = 0;
        for node in &mut nodes[1..] {
            let there = node.origin(first).await?;
            equal += usize::from(there.map(|o| (o.upto, o.digest)) == own.map(|o| (o.upto, o.digest)));
        }
        if equal == nodes.len() - 1 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Run {
    loaded: Loaded,
    seen: Vec<Lags>,
    /// CPU of each, for people.
    cost: String,
}

impl Run {
    fn worst(&self) -> Lags {
        worst(&self.seen)
    }
}

fn worst(lags: &[Lags]) -> Lags {
    lags.iter().copied().max_by(|a, b| a.p99_us.total_cmp(&b.p99_us)).unwrap_or_default()
}

async fn run(nodes: &mut [Node], rate: usize, time: Duration) -> anyhow::Result<Run> {
    let mut before = Vec::new();
    for node in nodes.iter_mut() {
        node.ask::<Lags>(Ask::Seen).await?;
        before.push(usage(node.pid()?)?.cpu_ms);
    }
    nodes[0].ask::<()>(Ask::Load { rate, ms: time.as_millis() as u64 }).await?;
    let loaded: Loaded = nodes[0].ask(Ask::Rest).await?;
    let mut cost = Vec::new();
    for (node, before) in nodes.iter().zip(before) {
        cost.push(format!("{:.0}", (usage(node.pid()?)?.cpu_ms - before) as f64 / time.as_secs_f64() / 10.0));
    }
    let cost = format!("CPU {} %", cost.join(" + "));
    settle(nodes).await?;
    let mut seen = Vec::new();
    for node in &mut nodes[1..] {
        seen.push(node.ask(Ask::Seen).await?);
    }
    Ok(Run { loaded, seen, cost })
}
