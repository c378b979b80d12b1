//! Looks at all servers all the time for peers that are said to be gone, while no agent ever stops.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pams_shared::{control::Control, id::PeerId};
use serde::Deserialize;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// Between two looks. What is over by the next one stands in the events.
const LOOK: Duration = Duration::from_millis(200);

pub struct Watch {
    /// Ends with the watch.
    _task: JoinSet<()>,
    gone: Arc<Mutex<Gone>>,
}

/// Pairs of a server and a peer that it took for gone.
pub type Gone = BTreeSet<(&'static str, PeerId)>;

#[derive(Deserialize)]
struct Page {
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
struct Peer {
    id: PeerId,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    peer: PeerId,
    what: String,
}

impl Watch {
    pub fn start(servers: Vec<(&'static str, Control)>) -> Self {
        let gone = Arc::new(Mutex::new(Gone::default()));
        let mut task = JoinSet::new();
        task.spawn(watch(servers, gone.clone()));
        Self { _task: task, gone }
    }

    /// What was seen.
    pub fn found(&self) -> Gone {
        lock(&self.gone).clone()
    }
}

async fn watch(servers: Vec<(&'static str, Control)>, gone: Arc<Mutex<Gone>>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = |(server, control): (&'static str, Control)| async move { (server, gone_at(&control).await) };
        let mut answers: JoinSet<_> = servers.iter().cloned().map(now).collect();
        while let Some(answer) = answers.join_next().await {
            let Ok((server, peers)) = answer else { continue };
            lock(&gone).extend(peers.into_iter().map(|peer| (server, peer)));
        }
    }
}

/// Who is gone or was gone by the word of a server; nobody while it does not answer.
async fn gone_at(control: &Control) -> Vec<PeerId> {
    let mut gone = Vec::new();
    if let Ok(page) = control.get::<Page>("/api/v1/peers?liveness=gone&limit=1000").await {
        gone.extend(page.peers.into_iter().map(|p| p.id));
    }
    if let Ok(events) = control.get::<Events>("/api/v1/events?limit=1000").await {
        gone.extend(events.events.into_iter().filter(|e| e.what == "gone").map(|e| e.peer));
    }
    gone
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
