//! What happens to the clusters.

use std::{pin::Pin, time::Duration};

use anyhow::ensure;
use nix::sys::signal::Signal;
use pams_shared::clock::Clock;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Case, Noticed,
    company::{AGENTS, Cluster, Cut, SERVERS, fill},
    prometheus::Prometheus,
};
use crate::pams::PATIENCE;

type Outcome = anyhow::Result<Noticed>;
pub type Run = for<'a> fn(&'a mut Cluster<'_>) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

pub const CASES: [Case; 10] = [
    case("cluster-kill", "s1: kill -9", |c| Box::pin(a_server_is_killed(c))),
    case("cluster-stop", "s1: SIGSTOP for 20 s", |c| Box::pin(a_server_is_stopped(c))),
    case("cluster-mute", "s1 reaches nobody for 15 s", |c| Box::pin(cut(c, Cut::Out, ONE_WAY))),
    case("cluster-deaf", "s1 hears nobody for 15 s", |c| Box::pin(cut(c, Cut::In, ONE_WAY))),
    case("cluster-cut", "s1 cut both ways for 30 s", |c| Box::pin(cut(c, Cut::Both, BOTH_WAYS))),
    case("cluster-loss", "3 % lost everywhere for 30 s", |c| Box::pin(packets_are_lost(c))),
    Case {
        small_disk: Some("s2"),
        ..case("cluster-disk", "s2: disk full, s3 restarts", |c| Box::pin(a_disk_is_full(c)))
    },
    case("cluster-drain", "s1: pams-server drain", |c| Box::pin(a_server_is_drained(c))),
    case("cluster-restart", "s1, s2, s3 restart in turn", |c| Box::pin(all_restart_in_turn(c))),
    case("cluster-prometheus", "Prometheus asks any; s1: kill -9", |c| Box::pin(prometheus_asks_any_server(c))),
];

/// What a server did not answer for so long is at most noticed and mended within this, in a debug build on a busy machine.
const WITHIN: Duration = Duration::from_secs(10);
const STOPPED: Duration = Duration::from_secs(20);
const ONE_WAY: Duration = Duration::from_secs(15);
const BOTH_WAYS: Duration = Duration::from_secs(30);
const LOSSY: Duration = Duration::from_secs(30);
/// The drain's own bound, and what the server takes to end.
const DRAINED: Duration = Duration::from_secs(30);
/// The load goes on for so long after the last thing that happens.
const ON: Duration = Duration::from_secs(3);

const fn case(name: &'static str, what: &'static str, run: Run) -> Case {
    Case { name, what, small_disk: None, run }
}

async fn a_server_is_killed(cluster: &mut Cluster<'_>) -> Outcome {
    let begin = Clock.now();
    cluster.end("s1", Signal::SIGKILL).await?;
    let (detected, homed) = cluster.noticed("s1", begin, &["down"], WITHIN).await?;
    let equal = cluster.equal(begin, WITHIN).await?;
    sleep(ON).await;
    Ok(Noticed { detected: Some(detected), homed: Some(homed), equal: Some(equal), ..Noticed::default() })
}

async fn a_server_is_stopped(cluster: &mut Cluster<'_>) -> Outcome {
    let begin = Clock.now();
    cluster.signal("s1", Signal::SIGSTOP)?;
    let (detected, homed) = cluster.noticed("s1", begin, &["down"], WITHIN).await?;
    sleep(STOPPED.saturating_sub(Clock.now().since(begin))).await;
    cluster.signal("s1", Signal::SIGCONT)?;
    mended(cluster, detected, homed).await
}

async fn cut(cluster: &mut Cluster<'_>, way: Cut, time: Duration) -> Outcome {
    let begin = Clock.now();
    cluster.cut("s1", way);
    let (detected, homed) = cluster.noticed("s1", begin, &["down"], WITHIN).await?;
    sleep(time.saturating_sub(Clock.now().since(begin))).await;
    cluster.cut("s1", Cut::None);
    mended(cluster, detected, homed).await
}

/// Until all see each other, and say the same.
async fn mended(cluster: &mut Cluster<'_>, detected: Duration, homed: Duration) -> Outcome {
    let begin = Clock.now();
    let back = cluster.all_alive(begin, WITHIN).await?;
    let equal = cluster.equal(begin, WITHIN).await?;
    sleep(ON).await;
    Ok(Noticed { detected: Some(detected), homed: Some(homed), back: Some(back), equal: Some(equal), moves: 0 })
}

/// Nobody is to notice.
async fn packets_are_lost(cluster: &mut Cluster<'_>) -> Outcome {
    cluster.lose(0.03);
    let begin = Clock.now();
    let mut seen_down = 0;
    while Clock.now().since(begin) < LOSSY {
        seen_down += u64::from(cluster.all_alive(Clock.now(), Duration::ZERO).await.is_err());
        sleep(Duration::from_millis(500)).await;
    }
    cluster.lose(0.0);
    let healed = Clock.now();
    let back = cluster.all_alive(healed, WITHIN).await?;
    let equal = cluster.equal(healed, WITHIN).await?;
    ensure!(seen_down <= 3, "{seen_down} times some server took another for suspect or down");
    Ok(Noticed { back: Some(back), equal: Some(equal), ..Noticed::default() })
}

/// It cannot write which servers it knows, nor let anybody in, and serves on.
async fn a_disk_is_full(cluster: &mut Cluster<'_>) -> Outcome {
    fill(&cluster.lab.folder("s2"))?;
    let begin = Clock.now();
    cluster.end("s3", Signal::SIGKILL).await?;
    let (detected, homed) = cluster.noticed("s3", begin, &["down"], WITHIN).await?;
    let (at, _) = cluster.homes().await?;
    ensure!(at[1] > 0, "s2 is the home of nobody: {at:?}");
    cluster.start_again("s3").await?;
    mended(cluster, detected, homed).await
}

/// As `pams-server drain` asks.
async fn a_server_is_drained(cluster: &mut Cluster<'_>) -> Outcome {
    let begin = Clock.now();
    let _: Value = cluster.server("s1").control.post("/admin/v1/drain", &json!({})).await?;
    let (detected, homed) = cluster.noticed("s1", begin, &["left"], DRAINED).await?;
    cluster.ended("s1").await?;
    let equal = cluster.equal(begin, DRAINED).await?;
    sleep(ON).await;
    Ok(Noticed { detected: Some(detected), homed: Some(homed), equal: Some(equal), ..Noticed::default() })
}

/// Each with SIGTERM; the next when all is as before. The longest times stand.
async fn all_restart_in_turn(cluster: &mut Cluster<'_>) -> Outcome {
    let mut longest = Noticed::default();
    for host in SERVERS {
        let begin = Clock.now();
        cluster.signal(host, Signal::SIGTERM)?;
        let (detected, homed) = cluster.noticed(host, begin, &["left"], WITHIN).await?;
        cluster.ended(host).await?;
        cluster.start_again(host).await?;
        let Noticed { back, equal, .. } = mended(cluster, detected, homed).await?;
        longest.detected = longest.detected.max(Some(detected));
        longest.homed = longest.homed.max(Some(homed));
        (longest.back, longest.equal) = (longest.back.max(back), longest.equal.max(equal));
    }
    Ok(longest)
}

/// From each server it learns of all servers and all agents; with one dead, from each of the others.
async fn prometheus_asks_any_server(cluster: &mut Cluster<'_>) -> Outcome {
    let prometheus = Prometheus::start(cluster.lab, "h6")?;
    prometheus.scrapes(&SERVERS, (SERVERS.len(), AGENTS), Clock.now(), PATIENCE).await?;
    let begin = Clock.now();
    cluster.end("s1", Signal::SIGKILL).await?;
    let (detected, homed) = cluster.noticed("s1", begin, &["down"], WITHIN).await?;
    prometheus.scrapes(&["s2", "s3"], (SERVERS.len() - 1, AGENTS), begin, PATIENCE).await?;
    let equal = cluster.equal(begin, PATIENCE).await?;
    Ok(Noticed { detected: Some(detected), homed: Some(homed), equal: Some(equal), ..Noticed::default() })
}
