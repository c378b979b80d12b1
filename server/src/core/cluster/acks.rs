//! Which batches wait for their acknowledgement until a sibling holds what they said. One wait for each peer: batches of a
//! peer that waits are acknowledged together, when its newest entry is held.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{id::PeerId, moment::Moment};

/// An agent that waits for so long is told that it was heard, lest it takes its home for dead.
const NUDGE: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    seq: u64,
    batch: u64,
    since: Moment,
    nudge: Moment,
}

/// A wait that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub peer: PeerId,
    pub batch: u64,
    pub waited: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Acks {
    of: BTreeMap<PeerId, Waiting>,
    by_seq: BTreeSet<(u64, PeerId)>,
    nudges: BTreeSet<(Moment, PeerId)>,
}

impl Acks {
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// The batch waits for what stands under `seq`. An earlier wait of the peer ends with this one.
    pub fn wait(&mut self, now: Moment, peer: PeerId, batch: u64, seq: u64) {
        let before = self.take(peer);
        let since = before.map_or(now, |w| w.since);
        let nudge = before.map_or(now + NUDGE, |w| w.nudge);
        let batch = before.map_or(batch, |w| w.batch.max(batch));
        self.of.insert(peer, Waiting { seq, batch, since, nudge });
        self.by_seq.insert((seq, peer));
        self.nudges.insert((nudge, peer));
    }

    /// The peer's entry has another number now.
    pub fn moved(&mut self, now: Moment, peer: PeerId, seq: u64) {
        if let Some(waiting) = self.of.get(&peer).copied() {
            self.wait(now, peer, waiting.batch, seq);
        }
    }

    pub fn is_waiting(&self, peer: PeerId) -> bool {
        self.of.contains_key(&peer)
    }

    /// The next whose entry is held, all up to `covered` being.
    pub fn release(&mut self, now: Moment, covered: u64) -> Option<Released> {
        let &(_, peer) = self.by_seq.first().filter(|(seq, _)| *seq <= covered)?;
        let waiting = self.take(peer)?;
        Some(Released { peer, batch: waiting.batch, waited: now.since(waiting.since) })
    }

    /// The peer is another's now, or forgotten.
    pub fn drop(&mut self, peer: PeerId) {
        self.take(peer);
    }

    /// The next that is to be told that it was heard.
    pub fn nudge(&mut self, now: Moment) -> Option<PeerId> {
        let (at, peer) = self.nudges.first().copied().filter(|(at, _)| *at <= now)?;
        self.nudges.remove(&(at, peer));
        let waiting = self.of.get_mut(&peer)?;
        waiting.nudge = now + NUDGE;
        self.nudges.insert((waiting.nudge, peer));
        Some(peer)
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.nudges.first().map(|(at, _)| *at)
    }

    fn take(&mut self, peer: PeerId) -> Option<Waiting> {
        let waiting = self.of.remove(&peer)?;
        self.by_seq.remove(&(waiting.seq, peer));
        self.nudges.remove(&(waiting.nudge, peer));
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u8) -> PeerId {
        PeerId::from_bytes([n; 16])
    }

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    #[test]
    fn waits_end_when_their_entry_is_held_and_an_entry_that_moves_takes_its_wait_along() {
        let mut acks = Acks::default();
        acks.wait(at(0), id(1), 7, 10);
        acks.wait(at(1), id(2), 3, 11);
        acks.moved(at(2), id(1), 12);
        assert_eq!(acks.release(at(3), 10), None);
        let released = |peer, batch, ms| Some(Released { peer, batch, waited: Duration::from_millis(ms) });
        assert_eq!(acks.release(at(3), 11), released(id(2), 3, 2));
        acks.wait(at(4), id(1), 8, 13);
        assert_eq!(acks.release(at(5), 12), None);
        assert_eq!(acks.release(at(6), 13), released(id(1), 8, 6));
        assert_eq!((acks.len(), acks.deadline()), (0, None));
    }

    #[test]
    fn whoever_waits_long_is_told_that_it_was_heard() {
        let mut acks = Acks::default();
        acks.wait(at(0), id(1), 1, 1);
        assert_eq!(acks.nudge(at(699)), None);
        assert_eq!((acks.nudge(at(700)), acks.nudge(at(700))), (Some(id(1)), None));
        assert_eq!(acks.deadline(), Some(at(1_400)));
    }
}
