//! The home of many agents is killed, until the last of them has another.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

use super::{
    Node, bar, busy, cluster,
    node::{Ask, Setting},
};
use crate::{
    daemons::token_of,
    proc::{myself, spawn},
};

const WITHIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(25);

pub async fn measure(agents: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut nodes = cluster(dir.path(), Setting::Usual, 3).await?;
    let token = token_of(&dir.path().join("s1"), &nodes[0].ready.quic.to_string())?;
    let company = dir.path().join("company").display().to_string();
    let (_company, _) = spawn(&myself()?, &["role", "company", &company, &token, &agents.to_string()]).await?;
    // All have reported, and know of the other servers.
    sleep(Duration::from_secs(5)).await;
    let home = sessions(&mut nodes[..1]).await?;
    println!("{home} of {agents} agents in one process have their home at s1, which is killed; {}", busy());
    let mut dead = nodes.remove(0);
    let killed = Instant::now();
    dead.child.kill().await?;
    let (mut half, mut most) = (None, 0);
    loop {
        let (at, now) = (killed.elapsed(), sessions(&mut nodes).await?);
        half = half.or((now >= agents - home / 2).then_some(at));
        most = most.max(now);
        if now >= agents {
            break;
        }
        if at > PATIENCE {
            bail!("after {} s only {now} of {agents} agents have a home, {most} at most", PATIENCE.as_secs());
        }
        sleep(LOOK).await;
    }
    let (took, half) = (killed.elapsed(), half.unwrap_or_default());
    println!(
        "half of them have another after {:.2} s, the last after {:.2} s, bar {} s: {}; {}",
        half.as_secs_f64(),
        took.as_secs_f64(),
        WITHIN.as_secs(),
        bar(took <= WITHIN),
        busy()
    );
    Ok(())
}

/// Agents that are connected with these servers.
async fn sessions(nodes: &mut [Node]) -> anyhow::Result<usize> {
    let mut all = 0;
    for node in nodes {
        all += node.ask::<usize>(Ask::Sessions).await?;
    }
    Ok(all)
}
