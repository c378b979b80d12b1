use pams_shared::frame::FrameError;

use super::{
    cluster::{Cluster, soon},
    handle::Handle,
    *,
};
use crate::core::AgentConfig;

#[tokio::test]
async fn peers_that_send_without_end_keep_nobody_from_asking() {
    let mut cluster = Cluster::new();
    let side = cluster.side("alpha");
    let (links, _) = side.links();
    let (flood, link_events) = mpsc::channel(link::EVENTS_MAX);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let flood = flood.clone();
        tasks.spawn(async move {
            let label = FrameError::LABELS[0];
            while flood.send(LinkEvent::Rejected { from: None, label }).await.is_ok() {}
        });
    }
    let (handle, requests) = Handle::new();
    let (uplink, _uplink) = mpsc::channel(1);
    let (_told, uplink_events) = mpsc::channel(1);
    let (_call, calls) = mpsc::channel(1);
    let shell = Shell {
        core: Agent::new(AgentConfig::default(), side.me.peer, side.me.epoch, [1; 32], Clock.now()),
        endpoint: side.endpoint.clone(),
        calls,
        links,
        link_events,
        sent: side.sent,
        uplink,
        uplink_events,
        requests,
        metrics: std::sync::Arc::new(Metrics::new(0)),
        tap: None,
        keep: keep::Keep::start(cluster.folder.path(), &mut tasks),
        supervisor: Default::default(),
        pulse: Pulse::new(Clock.now(), None),
        moves: mpsc::channel(1).1,
        place: Place { homes: vec![], token_homes: vec![], found: vec![], advertised: false },
        asked: HashMap::new(),
        token: 0,
        leaving: false,
    };
    while flood.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    let asking = async { soon(handle.view()).await.unwrap().peer };
    let peer = tokio::select! {
        peer = asking => peer,
        () = shell.run(std::future::pending()) => unreachable!("nobody ends it"),
    };
    assert_eq!(peer, side.me.peer);
}
