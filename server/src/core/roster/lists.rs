//! Who watches whom in one overlay: each of those that are to be watched by its `k` highest watchers, or by all if there are
//! no more. The result is a function of the two sets, whatever the order in which they came about.
//!
//! Costs, with n members: somebody who comes takes 2n weights; a watcher that goes takes n, and leaves a gap in k lists on
//! average, each of which takes n weights to fill. [`super::Rosters`] does this in slices. Weights are not kept but computed
//! again where a list changes, so that a member costs some 44 bytes, and 4 for each of its watchers.

use pams_shared::id::PeerId;

use super::{
    overlay::Stand,
    peers::{Handle, Peers},
    weight::Weigher,
};

/// Somebody watches another, or does no longer, as far as this overlay goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub watched: Handle,
    pub watcher: Handle,
    pub is: bool,
}

/// In a list: nobody.
const NOBODY: Handle = Handle::MAX;

/// What is walked whole, again and again, lies in a row and has the ids with it.
#[derive(Debug)]
pub(super) struct Lists {
    watchers: Vec<Watcher>,
    watched: Vec<Watched>,
    /// The watchers of each, in any order, `width` places for each; those that nobody has are at the end.
    rows: Vec<Handle>,
    width: usize,
    /// Lists that are to be filled.
    gaps: usize,
    /// Where the next gap is looked for.
    next: usize,
}

#[derive(Debug)]
struct Watcher {
    id: PeerId,
    peer: Handle,
}

#[derive(Debug)]
struct Watched {
    weigher: Weigher,
    /// The weight below which nobody is wanted; 0 while the list is not full.
    floor: u64,
    peer: Handle,
    /// The list is to be filled; until then nobody is put in.
    gap: bool,
}

impl Lists {
    /// All members as they stand, and a gap for each.
    pub fn of(members: &[Handle], peers: &Peers, k: usize) -> Self {
        let (mut watchers, mut watched) = (Vec::new(), Vec::new());
        for &peer in members {
            let (id, stand) = (peers.id(peer), peers.at(peer).place.stand);
            if stand.watches {
                watchers.push(Watcher { id, peer });
            }
            if stand.watched {
                watched.push(Watched { weigher: Weigher::new(id), floor: 0, peer, gap: true });
            }
        }
        let (rows, gaps) = (vec![NOBODY; watched.len() * k], watched.len());
        Self { watchers, watched, rows, width: k, gaps, next: 0 }
    }

    /// Lists, with gaps or without.
    pub fn len(&self) -> usize {
        self.watched.len()
    }

    pub fn has_gaps(&self) -> bool {
        self.gaps > 0
    }

    /// Another number is wanted: all lists are to be filled.
    pub fn widen(&mut self, k: usize) {
        if k > self.width {
            let mut rows = vec![NOBODY; self.watched.len() * k];
            for at in 0..self.watched.len() {
                rows[at * k..at * k + self.width].copy_from_slice(self.row(at));
            }
            (self.rows, self.width) = (rows, k);
        }
        self.watched.iter_mut().for_each(|one| one.gap = true);
        self.gaps = self.watched.len();
    }

    /// Who watches a peer.
    pub fn watchers_of(&self, peer: Handle) -> impl Iterator<Item = Handle> {
        self.find(peer).into_iter().flat_map(|at| self.row(at)).copied().take_while(|watcher| *watcher != NOBODY)
    }

    /// Whom a peer watches.
    pub fn watched_by(&self, watcher: Handle, peers: &Peers) -> impl Iterator<Item = Handle> {
        let id = peers.id(watcher);
        let may = move |one: &Watched| one.gap || one.weigher.weigh(id) >= one.floor;
        let found = self.watched.iter().enumerate().filter(move |(_, one)| may(one));
        found.filter(move |(at, _)| self.row(*at).contains(&watcher)).map(|(_, one)| one.peer)
    }

    /// A peer stands otherwise; how many weights that took.
    pub fn moved(
        &mut self,
        peer: Handle,
        [from, to]: [Stand; 2],
        peers: &Peers,
        k: usize,
        edges: &mut Vec<Edge>,
    ) -> usize {
        let able = match (from.watches, to.watches) {
            (true, false) => self.go(peer, peers, edges),
            (false, true) => self.come(peer, peers, k, edges),
            _ => 0,
        };
        able + match (from.watched, to.watched) {
            (true, false) => self.unwatch(peer, edges),
            (false, true) => self.watch(peer, peers, k, edges),
            _ => 0,
        }
    }

    /// A peer that is to be watched came; how many weights that took.
    fn watch(&mut self, peer: Handle, peers: &Peers, k: usize, edges: &mut Vec<Edge>) -> usize {
        self.watched.push(Watched { weigher: Weigher::new(peers.id(peer)), floor: 0, peer, gap: false });
        self.rows.resize(self.watched.len() * self.width, NOBODY);
        self.fill(self.watched.len() - 1, k, edges)
    }

    /// Nobody is to watch it any more.
    fn unwatch(&mut self, watched: Handle, edges: &mut Vec<Edge>) -> usize {
        let Some(at) = self.find(watched) else { return 0 };
        let row = self.row(at).iter().take_while(|watcher| **watcher != NOBODY);
        edges.extend(row.map(|watcher| Edge { watched, watcher: *watcher, is: false }));
        self.gaps -= usize::from(self.watched.swap_remove(at).gap);
        let last = self.watched.len() * self.width;
        self.rows.copy_within(last.., at * self.width);
        self.rows.truncate(last);
        0
    }

    /// One that can watch came: it takes its place wherever it is among the highest; how many weights that took.
    fn come(&mut self, watcher: Handle, peers: &Peers, k: usize, edges: &mut Vec<Edge>) -> usize {
        let id = peers.id(watcher);
        self.watchers.push(Watcher { id, peer: watcher });
        for (at, one) in self.watched.iter_mut().enumerate() {
            let weight = one.weigher.weigh(id);
            if weight < one.floor || one.gap || one.peer == watcher {
                continue;
            }
            let row = &mut self.rows[at * self.width..][..k];
            let weigher = one.weigher;
            let lowest = |row: &[Handle]| {
                let ranked = row.iter().enumerate().map(|(at, peer)| (peers.id(*peer), at));
                ranked.map(|(id, at)| (weigher.weigh(id), id, at)).min()
            };
            if let Some(free) = row.iter().position(|other| *other == NOBODY) {
                row[free] = watcher;
                if free + 1 < k {
                    edges.push(Edge { watched: one.peer, watcher, is: true });
                    continue;
                }
            } else {
                let Some((_, _, last)) = lowest(row).filter(|(low, other, _)| (weight, id) > (*low, *other)) else {
                    continue;
                };
                edges.push(Edge { watched: one.peer, watcher: row[last], is: false });
                row[last] = watcher;
            }
            edges.push(Edge { watched: one.peer, watcher, is: true });
            one.floor = lowest(row).map_or(0, |(weight, ..)| weight);
        }
        self.watched.len()
    }

    /// One that can watch is no more, and leaves gaps; how many weights that took.
    fn go(&mut self, watcher: Handle, peers: &Peers, edges: &mut Vec<Edge>) -> usize {
        let id = peers.id(watcher);
        if let Some(at) = self.watchers.iter().position(|other| other.peer == watcher) {
            self.watchers.swap_remove(at);
        }
        for (at, one) in self.watched.iter_mut().enumerate() {
            if one.weigher.weigh(id) < one.floor && !one.gap {
                continue;
            }
            let row = &mut self.rows[at * self.width..][..self.width];
            let Some(place) = row.iter().position(|other| *other == watcher) else { continue };
            row[place..].rotate_left(1);
            row[self.width - 1] = NOBODY;
            edges.push(Edge { watched: one.peer, watcher, is: false });
            self.gaps += usize::from(!std::mem::replace(&mut one.gap, true));
        }
        self.watched.len()
    }

    /// Fills the next gap; how many weights that took.
    pub fn fill_one(&mut self, k: usize, edges: &mut Vec<Edge>) -> usize {
        let all = (self.next..self.watched.len()).chain(0..self.next.min(self.watched.len()));
        let Some(at) = all.into_iter().find(|at| self.watched[*at].gap) else {
            self.gaps = 0;
            return 0;
        };
        self.next = at + 1;
        self.gaps -= 1;
        self.fill(at, k, edges)
    }

    /// Makes the list of one watched peer what it should be.
    fn fill(&mut self, at: usize, k: usize, edges: &mut Vec<Edge>) -> usize {
        let one = &mut self.watched[at];
        let best = highest(one.weigher, one.peer, k, self.watchers.iter().map(|w| (w.id, w.peer)));
        one.floor = k.checked_sub(1).and_then(|last| best.get(last)).map_or(0, |(weight, ..)| *weight);
        one.gap = false;
        let row = &mut self.rows[at * self.width..][..self.width];
        let is_new = |row: &[Handle], watcher| !row.contains(&watcher);
        let mut edge = |watcher, is| edges.push(Edge { watched: one.peer, watcher, is });
        let left = row.iter().filter(|old| **old != NOBODY && best.iter().all(|(_, _, watcher)| watcher != *old));
        left.for_each(|old| edge(*old, false));
        best.iter().filter(|(_, _, watcher)| is_new(row, *watcher)).for_each(|(_, _, watcher)| edge(*watcher, true));
        row.fill(NOBODY);
        row.iter_mut().zip(best).for_each(|(place, (_, _, watcher))| *place = watcher);
        self.watchers.len()
    }

    fn row(&self, at: usize) -> &[Handle] {
        &self.rows[at * self.width..][..self.width]
    }

    fn find(&self, peer: Handle) -> Option<usize> {
        self.watched.iter().position(|one| one.peer == peer)
    }
}

/// The `k` that a peer is to be watched by, of all that could; the highest first.
pub(super) fn highest(
    weigher: Weigher,
    watched: Handle,
    k: usize,
    watchers: impl Iterator<Item = (PeerId, Handle)>,
) -> Vec<(u64, PeerId, Handle)> {
    let mut best: Vec<(u64, PeerId, Handle)> = Vec::with_capacity(k + 1);
    let mut floor = 0;
    for (id, peer) in watchers {
        let weight = weigher.weigh(id);
        if weight < floor || peer == watched {
            continue;
        }
        let at = best.partition_point(|(other, its, _)| (*other, *its) > (weight, id));
        best.insert(at, (weight, id, peer));
        best.truncate(k);
        floor = if best.len() < k { 0 } else { best.last().map_or(0, |(weight, ..)| *weight) };
    }
    best
}
