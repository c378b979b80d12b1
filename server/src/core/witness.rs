//! What watchers report of the peers that they watch: other witnesses of a peer's liveness beside its own session.
//!
//! A watcher that goes silent keeps its views: it may only be cut off from us, and what it last saw is still what somebody
//! saw; whoever reads it sees the watcher's own liveness and the age. A watcher that leaves, begins a new epoch or is
//! forgotten watches no more (or reports all afresh): its views are dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use pams_shared::{
    frame::View,
    id::PeerId,
    moment::Moment,
    status::{Liveness, Status},
};

/// A view, without the peer that it is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub liveness: Option<Liveness>,
    pub status: Option<Status>,
    pub hears: bool,
    pub heard: bool,
    pub missed: u32,
    /// When it was reported.
    pub at: Moment,
}

#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// By watched peer, then watcher.
    seen: BTreeMap<(PeerId, PeerId), Seen>,
    watched: BTreeMap<PeerId, BTreeSet<PeerId>>,
}

impl Witnesses {
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Takes a view; false if a bound is reached.
    pub fn take(&mut self, now: Moment, watcher: PeerId, view: &View, per_watcher: usize, total: usize) -> bool {
        if view.dropped {
            self.drop_one(watcher, view.peer);
            return true;
        }
        let watched = self.watched.get(&watcher);
        let known = watched.is_some_and(|w| w.contains(&view.peer));
        if !known && (watched.map_or(0, BTreeSet::len) >= per_watcher || self.seen.len() >= total) {
            return false;
        }
        if !known {
            self.watched.entry(watcher).or_default().insert(view.peer);
        }
        let View { liveness, status, missed, hears, heard, .. } = *view;
        self.seen.insert((view.peer, watcher), Seen { liveness, status, missed, hears, heard, at: now });
        true
    }

    fn drop_one(&mut self, watcher: PeerId, peer: PeerId) {
        self.seen.remove(&(peer, watcher));
        if let Some(watched) = self.watched.get_mut(&watcher) {
            watched.remove(&peer);
            if watched.is_empty() {
                self.watched.remove(&watcher);
            }
        }
    }

    /// Drops all views of a watcher.
    pub fn drop_watcher(&mut self, watcher: PeerId) {
        for peer in self.watched.remove(&watcher).into_iter().flatten() {
            self.seen.remove(&(peer, watcher));
        }
    }

    /// Who reports what of a peer, in order of the watchers' ids.
    pub fn of(&self, peer: PeerId) -> impl Iterator<Item = (PeerId, &Seen)> {
        self.seen.range(all_of(peer)).map(|((_, watcher), seen)| (*watcher, seen))
    }
}

fn all_of(peer: PeerId) -> RangeInclusive<(PeerId, PeerId)> {
    (peer, PeerId::from_bytes([0; 16]))..=(peer, PeerId::from_bytes([0xff; 16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(n: u8) -> PeerId {
        PeerId::from_bytes([n; 16])
    }

    fn view(peer: u8) -> View {
        let liveness = Some(Liveness::Live);
        View { peer: id(peer), liveness, status: None, missed: 0, hears: true, heard: true, dropped: false }
    }

    #[test]
    fn views_are_kept_within_both_bounds_and_dropped_one_by_one_or_all() {
        let (mut w, now) = (Witnesses::default(), Moment::default());
        assert!(w.take(now, id(1), &view(2), 2, 3));
        assert!(w.take(now, id(1), &view(3), 2, 3));
        assert!(!w.take(now, id(1), &view(4), 2, 3), "a watcher's bound");
        assert!(w.take(now, id(1), &view(3), 2, 3), "known: replaced");
        assert!(w.take(now, id(9), &view(3), 2, 3));
        assert!(!w.take(now, id(9), &view(2), 2, 3), "the bound of all");
        assert_eq!(w.of(id(3)).map(|(watcher, _)| watcher).collect::<Vec<_>>(), [id(1), id(9)]);
        assert!(w.take(now, id(9), &View { dropped: true, ..view(3) }, 2, 3));
        w.drop_watcher(id(1));
        assert_eq!((w.len(), w.watched.len()), (0, 0));
    }
}
