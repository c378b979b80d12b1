//! Which batches wait for their acknowledgement until a sibling holds what they said. One wait for each peer: batches of a
//! peer that waits are acknowledged together, when its newest entry is held.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{id::PeerId, moment::Moment};

/// An agent whose report waits for so long is told that it was heard, lest it takes its home for dead. Once for each report: whoever
/// is not heard any more must not go on being told so.
const NUDGE: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    seq: u64,
    batch: u64,
    since: Moment,
    /// `None`: nothing has come since it was told.
    nudge: Option<Moment>,
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

    /// A report came, and the batch waits for what stands under `seq`. An earlier wait of the peer ends with this one.
    pub fn wait(&mut self, now: Moment, peer: PeerId, batch: u64, seq: u64) {
        let before = self.take(peer);
        let since = before.map_or(now, |w| w.since);
        let nudge = before.and_then(|w| w.nudge).unwrap_or(now + NUDGE);
        let batch = before.map_or(batch, |w| w.batch.max(batch));
        self.put(peer, Waiting { seq, batch, since, nudge: Some(nudge) });
    }

    /// The peer's entry has another number now.
    pub fn moved(&mut self, peer: PeerId, seq: u64) {
        if let Some(waiting) = self.take(peer) {
            self.put(peer, Waiting { seq, ..waiting });
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
        self.of.get_mut(&peer)?.nudge = None;
        Some(peer)
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.nudges.first().map(|(at, _)| *at)
    }

    fn put(&mut self, peer: PeerId, waiting: Waiting) {
        self.by_seq.insert((waiting.seq, peer));
        self.nudges.extend(waiting.nudge.map(|nudge| (nudge, peer)));
        self.of.insert(peer, waiting);
    }

    fn take(&mut self, peer: PeerId) -> Option<Waiting> {
        let waiting = self.of.remove(&peer)?;
        self.by_seq.remove(&(waiting.seq, peer));
        if let Some(nudge) = waiting.nudge {
            self.nudges.remove(&(nudge, peer));
        }
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
        acks.moved(id(1), 12);
        assert_eq!(acks.release(at(3), 10), None);
        let released = |peer, batch, ms| Some(Released { peer, batch, waited: Duration::from_millis(ms) });
        assert_eq!(acks.release(at(3), 11), released(id(2), 3, 2));
        acks.wait(at(4), id(1), 8, 13);
        assert_eq!(acks.release(at(5), 12), None);
        assert_eq!(acks.release(at(6), 13), released(id(1), 8, 6));
        assert_eq!((acks.len(), acks.deadline()), (0, None));
    }

    #[test]
    fn whoever_waits_long_is_told_that_it_was_heard_once_for_each_report() {
        let mut acks = Acks::default();
        acks.wait(at(0), id(1), 1, 1);
        assert_eq!(acks.nudge(at(699)), None);
        assert_eq!((acks.nudge(at(700)), acks.nudge(at(700))), (Some(id(1)), None));
        acks.moved(id(1), 2);
        assert_eq!(acks.deadline(), None, "nothing has come since");
        acks.wait(at(1_000), id(1), 2, 3);
        acks.wait(at(1_500), id(1), 3, 4);
        assert_eq!((acks.deadline(), acks.nudge(at(1_700))), (Some(at(1_700)), Some(id(1))));
    }
}
