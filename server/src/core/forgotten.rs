//! What stays known of forgotten peers: enough to go on where an epoch stopped, should it come back after all, and no more.
//! Without it the cumulative totals and the kept batches of such a peer would count a second time.

use std::collections::{BTreeMap, BTreeSet};

use pams_shared::id::PeerId;

use super::{books::Books, directory::Row};

/// The rest of one peer.
#[derive(Debug)]
pub(super) struct Trace {
    pub epoch: u64,
    pub applied: u64,
    pub shed: u64,
    pub books: Books,
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Forgotten {
    traces: BTreeMap<PeerId, Trace>,
    oldest: BTreeSet<(u64, PeerId)>,
    number: u64,
}

impl Forgotten {
    pub fn len(&self) -> usize {
        self.traces.len()
    }

    /// Keeps the trace of a row. Returns the peer whose trace made room for it.
    pub fn keep(&mut self, peer: PeerId, row: Row, max: usize) -> Option<PeerId> {
        self.take(peer);
        self.number += 1;
        let trace =
            Trace { epoch: row.epoch, applied: row.applied, shed: row.shed, books: row.books, number: self.number };
        self.oldest.insert((trace.number, peer));
        self.traces.insert(peer, trace);
        self.trim(max)
    }

    /// Drops the oldest trace if there are more than `max`; whose it was.
    pub fn trim(&mut self, max: usize) -> Option<PeerId> {
        let (_, oldest) = self.oldest.first().copied().filter(|_| self.traces.len() > max)?;
        self.take(oldest);
        Some(oldest)
    }

    /// The trace of a peer that is back.
    pub fn take(&mut self, peer: PeerId) -> Option<Trace> {
        let trace = self.traces.remove(&peer)?;
        self.oldest.remove(&(trace.number, peer));
        Some(trace)
    }
}
