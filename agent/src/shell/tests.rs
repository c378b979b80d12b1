use std::net::SocketAddr;

use nix::{sys::stat::Mode, unistd::mkfifo};
use pams_shared::{expo, frame::FrameError, id::PeerId};
use tokio::task::JoinSet;

use super::{
    cluster::{Cluster, Side, soon},
    handle::Handle,
    *,
};
use crate::{
    consumer::csv::tests::broken,
    core::{AgentConfig, BuddyConfig},
    metrics::Extras,
};

#[tokio::test]
async fn peers_that_send_without_end_keep_nobody_from_asking() {
    let mut cluster = Cluster::new();
    let mut tasks = JoinSet::new();
    let side = cluster.side("alpha");
    let misplaced = || LinkEvent::Rejected { from: None, label: FrameError::LABELS[0] };
    let (flood, link_events) = mpsc::channel(link::EVENTS_MAX);
    let (mut shell, handle) = shell(&cluster, side, Vec::new(), &mut tasks);
    shell.links.listen(futures_util::stream::repeat_with(misplaced));
    shell.link_events = link_events;
    for _ in 0..2 {
        let flood = flood.clone();
        tasks.spawn(async move { while flood.send(misplaced()).await.is_ok() {} });
    }
    while flood.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    let me = shell.core.view(Clock.now()).peer;
    let asking = async { soon(handle.view()).await.unwrap().peer };
    let peer = tokio::select! {
        peer = asking => peer,
        () = shell.run(std::future::pending()) => unreachable!("nobody ends it"),
    };
    assert_eq!(peer, me);
}

#[tokio::test]
async fn files_that_are_stuck_delay_no_ping() {
    let mut cluster = Cluster::new();
    let mut tasks = JoinSet::new();
    let (alpha, beta) = (cluster.side("alpha"), cluster.side("beta"));
    let (peer, at) = (beta.me.peer, beta.at());
    // To open a pipe that nobody reads takes for ever.
    let pipe = cluster.folder.path().join("pipe");
    mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
    let (csv, _) = broken(&cluster.folder.path().join("csv"), &pipe);
    let observer = csv.observer();
    let (beta, _beta) = shell(&cluster, beta, Vec::new(), &mut tasks);
    let (mut alpha, handle) = shell(&cluster, alpha, vec![(peer, at)], &mut tasks);
    let (tap, mut tapped) = mpsc::channel(1_024);
    let metrics = alpha.metrics.clone();
    alpha.consumers = Consumers::new(metrics.clone(), Some(tap), Some(csv));
    tasks.spawn(beta.run(std::future::pending()));
    tasks.spawn(alpha.run(std::future::pending()));
    for _ in 0..100 {
        soon(handle.ping(peer)).await.unwrap().unwrap();
    }
    assert!(observer.progress().failing && observer.progress().written == 0);
    let dropped = |view| {
        let text = metrics.render(&view, &Extras::default());
        expo::parse(&text).unwrap().value("pams_agent_records_dropped_total", &[("consumer", "csv")]).unwrap()
    };
    // One is in the hand of the thread that hangs, or some, and four wait.
    let lost = dropped(handle.view().await.unwrap());
    assert!(lost >= 90.0, "{lost}");

    // Somebody reads: what waited is written, and what comes then.
    let reader = std::fs::File::open(&pipe).unwrap();
    while observer.progress().failing {
        soon(handle.ping(peer)).await.unwrap().unwrap();
    }
    let pings = std::iter::from_fn(|| tapped.try_recv().ok()).count() as u64;
    let lost = dropped(handle.view().await.unwrap()) as u64;
    soon(async {
        while observer.progress().written != pings - lost {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(reader);
}

/// A shell without a home, and its handle.
fn shell(
    cluster: &Cluster,
    side: Side,
    buddies: Vec<(PeerId, SocketAddr)>,
    tasks: &mut JoinSet<()>,
) -> (Shell, Handle) {
    let (links, link_events) = side.links();
    let (handle, requests) = Handle::new();
    let (uplink, _) = mpsc::channel(1);
    let (told, uplink_events) = mpsc::channel(1);
    let (call, calls) = mpsc::channel(1);
    let endpoint = side.endpoint.clone();
    tasks.spawn(async move {
        let _told = told;
        while let Some(incoming) = endpoint.accept().await {
            if call.send(incoming).await.is_err() {
                return;
            }
        }
    });
    let buddy = |(peer, at): (PeerId, SocketAddr)| BuddyConfig { peer, name: None, addresses: vec![at.to_string()] };
    let config = AgentConfig { buddies: buddies.into_iter().map(buddy).collect(), ..AgentConfig::default() };
    let metrics = std::sync::Arc::new(Metrics::new(0));
    let shell = Shell {
        core: Agent::new(config, side.me.peer, side.me.epoch, [1; 32], Clock.now()),
        endpoint: side.endpoint.clone(),
        calls,
        links,
        link_events,
        sent: side.sent,
        uplink,
        uplink_events,
        requests,
        supervisor: Default::default(),
        pulse: Pulse::new(Clock.now(), None),
        moves: mpsc::channel(1).1,
        place: Place { homes: vec![], token_homes: vec![], found: vec![], advertised: false },
        metrics: metrics.clone(),
        consumers: Consumers::new(metrics, None, None),
        keep: keep::Keep::start(cluster.folder.path(), tasks),
        asked: HashMap::new(),
        checks: HashMap::new(),
        asker: None,
        listeners: Listeners::default(),
        token: 0,
        leaving: false,
    };
    (shell, handle)
}
