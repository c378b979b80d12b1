//! Looks at all servers all the time for peers that are said to be gone, while no agent ever stops.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pams_shared::{clock::Clock, control::Control, id::PeerId};
use serde::Deserialize;
use tokio::task::JoinHandle;

/// Between two looks. What is over by the next one stands in the events.
const LOOK: Duration = Duration::from_millis(200);

pub struct Watch {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// A server that hears nobody can know nothing: from when on, and until when if that is over.
    cut_off: Vec<(&'static str, u64, Option<u64>)>,
    found: Gone,
}

/// Pairs of a server and a peer that it took for gone.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    pub wrongly: BTreeSet<(&'static str, PeerId)>,
    /// At a server while it heard nobody.
    pub cut_off: BTreeSet<(&'static str, PeerId)>,
}

#[derive(Deserialize)]
struct Page {
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
struct Peer {
    id: PeerId,
    liveness_since_ms: u64,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    at_ms: u64,
    peer: PeerId,
    what: String,
}

impl Watch {
    pub fn start(servers: Vec<(&'static str, Control)>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(watch(servers, seen.clone()));
        Self { task, seen }
    }

    /// From now on `server` hears nobody, or does again.
    pub fn cut_off(&self, server: &'static str, cut: bool) {
        let (mut seen, now) = (lock(&self.seen), Clock.now().wall_ms());
        if cut {
            seen.cut_off.push((server, now, None));
        } else {
            seen.cut_off.iter_mut().filter(|(of, ..)| *of == server).for_each(|(.., until)| *until = Some(now));
        }
    }

    /// What was seen.
    pub fn found(&self) -> Gone {
        lock(&self.seen).found.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(servers: Vec<(&'static str, Control)>, seen: Arc<Mutex<Seen>>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = |(server, control): (&'static str, Control)| async move { (server, gone_at(&control).await) };
        let mut answers: tokio::task::JoinSet<_> = servers.iter().cloned().map(now).collect();
        while let Some(answer) = answers.join_next().await {
            let Ok((server, gone)) = answer else { continue };
            let mut seen = lock(&seen);
            for (peer, at) in gone {
                seen.note(server, peer, at);
            }
        }
    }
}

/// Who is gone or was gone by the word of a server, and since when; nobody while it does not answer.
async fn gone_at(control: &Control) -> Vec<(PeerId, u64)> {
    let mut gone = Vec::new();
    if let Ok(page) = control.get::<Page>("/api/v1/peers?liveness=gone&limit=1000").await {
        gone.extend(page.peers.into_iter().map(|p| (p.id, p.liveness_since_ms)));
    }
    if let Ok(events) = control.get::<Events>("/api/v1/events?limit=1000").await {
        gone.extend(events.events.into_iter().filter(|e| e.what == "gone").map(|e| (e.peer, e.at_ms)));
    }
    gone
}

impl Seen {
    fn note(&mut self, server: &'static str, peer: PeerId, at: u64) {
        let covers = |(of, from, until): &(&str, u64, Option<u64>)| {
            *of == server && *from <= at && until.is_none_or(|until| at <= until)
        };
        let excused = self.cut_off.iter().any(covers);
        let set = if excused { &mut self.found.cut_off } else { &mut self.found.wrongly };
        set.insert((server, peer));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
