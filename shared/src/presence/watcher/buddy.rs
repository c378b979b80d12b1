//! What is known and concluded of one watched peer, and how a conclusion that changed is told. When it is polled and what a
//! miss means is the Watcher's.

use crate::{
    id::PeerId,
    moment::Moment,
    record::Reason,
    status::{Liveness, Status},
};

/// One watched peer and what is concluded of it.
#[derive(Clone, Debug)]
pub struct Buddy {
    /// `None`: not judged yet.
    pub liveness: Option<Liveness>,
    /// When the liveness last changed.
    pub since: Moment,
    /// What it last said; `None`: never heard.
    pub status: Option<Status>,
    /// Version of the presence information that the status came with.
    pub version: u64,
    /// Misses in a row.
    pub missed: u32,
    /// Why the last one was missed.
    pub missed_for: Option<Reason>,
    /// When something authenticated last came from it.
    pub heard_at: Option<Moment>,
    /// When it last showed that it gets what we send.
    pub answered_at: Option<Moment>,
    pub(super) streak_from: Option<Moment>,
    /// Misses of pings opened since it was last heard.
    pub(super) unheard: u32,
    pub(super) first: bool,
    pub(super) due: Moment,
}

impl Buddy {
    /// Something authenticated came from it since the misses began (or ever, if none is missed).
    pub fn hears(&self) -> bool {
        match (self.heard_at, self.streak_from) {
            (Some(heard), Some(from)) => heard >= from,
            (heard, None) => heard.is_some(),
            (None, _) => false,
        }
    }

    /// It answered the last ping that was due: it gets what we send.
    pub fn is_heard(&self) -> bool {
        self.missed == 0 && self.answered_at.is_some()
    }

    /// Watched from now on; its first turn is at `due`.
    pub(super) fn new(now: Moment, due: Moment) -> Self {
        Self {
            liveness: None,
            since: now,
            status: None,
            version: 0,
            missed: 0,
            missed_for: None,
            heard_at: None,
            answered_at: None,
            streak_from: None,
            unheard: 0,
            first: true,
            due,
        }
    }

    pub(super) fn conclude(&mut self, now: Moment, peer: PeerId, to: Liveness, out: &mut Vec<Change>) {
        let from = self.liveness;
        if from != Some(to) {
            self.liveness = Some(to);
            self.since = now;
            out.push(Change::Liveness { peer, from, to });
        }
    }

    /// Takes what the buddy says of itself, unless it is older than what is known.
    pub(super) fn says(&mut self, peer: PeerId, status: Status, version: u64, out: &mut Vec<Change>) {
        if version < self.version {
            return;
        }
        self.version = version;
        let from = self.status.replace(status);
        if from != Some(status) {
            out.push(Change::Status { peer, from, to: status });
        }
    }
}

/// A conclusion that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Liveness {
        peer: PeerId,
        from: Option<Liveness>,
        to: Liveness,
    },
    Status {
        peer: PeerId,
        from: Option<Status>,
        to: Status,
    },
    /// It is overdue, and something has come from it since: we hear it, and it may not hear us. Told once for each run of
    /// misses.
    Heard {
        peer: PeerId,
    },
}
