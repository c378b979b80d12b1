//! Peers whose agents are played by this program: they attach, and then they change, in turn and at a pace. What a change says
//! is when it was due, so that whoever sees it knows how late it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use pams_server::{
    core::{Input, SessionId},
    shell::feed::Feed,
};
use pams_shared::{
    clock::Clock,
    frame::{Hello, Profile, Report, capability},
    id::PeerId,
    status::{Presence, Status},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Inputs put into the loop at once when peers attach.
const FILL: usize = 256;
/// Between two batches of changes.
const STEP: Duration = Duration::from_millis(1);
/// Members of an overlay: each peer is in two, and they have no parent in common, as the notes on rosters advise.
pub const OVERLAY: usize = 1_000;
/// Whom the agents of such that take rosters take.
const ROSTER_MAX: u32 = 256;
/// Before the digits of a note that says when.
pub const MARK: &[u8] = b"@@@@";

/// How it went.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Loaded {
    pub changes: usize,
    /// How late the last of them were put in.
    pub late_us: u64,
}

/// Peers that attach.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Crowd {
    /// Of so many.
    pub peers: usize,
    /// Each so-manieth.
    pub step: usize,
    /// Their agents take rosters.
    pub rosters: bool,
}

impl Crowd {
    /// All of so many, who watch nobody.
    pub fn of(peers: usize) -> Self {
        Self { peers, step: 1, rosters: false }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Peers {
    ids: Arc<Vec<PeerId>>,
    /// Changes that were made in all.
    made: Arc<AtomicUsize>,
}

impl Peers {
    /// They attach and report once.
    pub fn fill(&mut self, feed: &Feed, crowd: Crowd) -> anyhow::Result<()> {
        let Crowd { peers, step, rosters } = crowd;
        self.ids = (0..peers).map(|_| PeerId::from_bytes(*Uuid::new_v4().as_bytes())).collect::<Vec<_>>().into();
        for from in (0..peers).step_by(FILL * step) {
            let some = (from..peers.min(from + FILL * step)).step_by(step);
            let inputs = some.flat_map(|n| [self.opened(n, rosters), report(n, 1, Clock.monotonic_us())]).collect();
            feed.put(inputs)?.blocking_recv()?;
        }
        Ok(())
    }

    fn opened(&self, n: usize, rosters: bool) -> Input {
        let capabilities = if rosters { capability::ROSTERS } else { 0 };
        let at = |net: u8| ([net, (n >> 16) as u8, (n >> 8) as u8, n as u8], 7_421).into();
        let profile = Profile {
            name: format!("peer-{n:07}"),
            addresses: vec![at(10), at(11)],
            software: "pams-agent/0.1.0".into(),
            overlays: vec![format!("games{}", n / OVERLAY), format!("files{}", n / OVERLAY)],
            capabilities,
            roster_max: if rosters { ROSTER_MAX } else { 0 },
            ..Profile::default()
        };
        let hello = Hello {
            software: profile.software.clone(),
            epoch: 1,
            capabilities,
            wall_ms: Clock.now().wall_ms(),
            attach: 1,
            profile: Some(profile),
            member: None,
        };
        let (session, peer, observed) = (SessionId(n as u64), self.ids[n], at(10));
        Input::Opened { session, peer, hello: Box::new(hello), observed, same_host: false }
    }

    /// Changes them in turn, so many each second for so long; runs on a thread of its own.
    pub fn change(&self, feed: &Feed, rate: usize, time: Duration) -> anyhow::Result<Loaded> {
        let (begin, step) = (Clock.monotonic_us(), STEP.as_micros() as u64);
        let first = self.made.load(Relaxed);
        let (mut made, mut late_us) = (first, 0);
        for k in 1..=time.as_micros() as u64 / step {
            let due = begin + k * step;
            std::thread::sleep(Duration::from_micros(due.saturating_sub(Clock.monotonic_us())));
            let until = first + (due - begin) as usize * rate / 1_000_000;
            // The first of each was its report after attaching.
            let change = |n: usize| report(n % self.ids.len(), 2 + (n / self.ids.len()) as u64, due);
            feed.put((made..until).map(change).collect())?;
            made = until;
            late_us = Clock.monotonic_us() - due;
        }
        self.made.store(made, Relaxed);
        Ok(Loaded { changes: made - first, late_us })
    }
}

fn report(n: usize, version: u64, due: u64) -> Input {
    let note = format!("{}{due:016}", str::from_utf8(MARK).unwrap_or_default());
    let presence = Presence { status: Status::Online, note: Some(note), since_ms: 0, version };
    let (totals, views, records) = (Vec::new(), Vec::new(), Vec::new());
    let report = Report { batch: version, totals, changes: vec![presence], views, records, shed: 0 };
    Input::Report { session: SessionId(n as u64), report }
}

/// When a change was due, by the bytes that carry it.
pub fn due(bytes: &[u8]) -> Option<u64> {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    str::from_utf8(bytes.get(at..at + 16)?).ok()?.parse().ok()
}
