//! One overlay: who could watch, who is watched, and by whom: each peer by its `k` highest watchers, or by all if there are
//! no more. The result is a function of the two sets, whatever the order in which they came about.
//!
//! Costs, with n members: somebody who comes takes 2n weights, about 10 ns each; a watcher that goes leaves a gap in k lists on
//! average, and each takes n weights to fill. [`super::Rosters`] does this in slices.

use pams_shared::id::PeerId;

use super::weight::Weigher;

/// Somebody watches another, or does no longer, as far as this overlay goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub watched: PeerId,
    pub watcher: PeerId,
    pub is: bool,
}

/// Sorted lists and no trees: what costs is to walk them whole, again and again.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    watchers: Vec<PeerId>,
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    peer: PeerId,
    weigher: Weigher,
    /// The weight below which nobody is wanted; 0 while the list is not full.
    floor: u64,
    /// Its watchers, the highest first.
    list: Vec<(u64, PeerId)>,
}

impl Overlay {
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty() && self.watched.is_empty()
    }

    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    pub fn each_watched(&self) -> impl Iterator<Item = PeerId> {
        self.watched.iter().map(|one| one.peer)
    }

    pub fn watchers_of(&self, peer: PeerId) -> impl Iterator<Item = PeerId> {
        self.find(peer).ok().into_iter().flat_map(|at| &self.watched[at].list).map(|(_, watcher)| *watcher)
    }

    /// A peer that is to be watched came.
    pub fn watch(&mut self, peer: PeerId, k: usize, edges: &mut Vec<Edge>) {
        if let Err(at) = self.find(peer) {
            self.watched.insert(at, Watched { peer, weigher: Weigher::new(peer), floor: 0, list: Vec::new() });
        }
        self.fill(peer, k, edges);
    }

    /// Nobody is to watch it any more.
    pub fn unwatch(&mut self, watched: PeerId, edges: &mut Vec<Edge>) {
        let Ok(at) = self.find(watched) else { return };
        let list = self.watched.remove(at).list;
        edges.extend(list.into_iter().map(|(_, watcher)| Edge { watched, watcher, is: false }));
    }

    /// One that can watch came: it takes its place wherever it is among the highest.
    pub fn come(&mut self, watcher: PeerId, k: usize, edges: &mut Vec<Edge>) {
        if let Err(at) = self.watchers.binary_search(&watcher) {
            self.watchers.insert(at, watcher);
        }
        for one in &mut self.watched {
            let weight = one.weigher.weigh(watcher);
            if weight < one.floor || one.peer == watcher || !insert(&mut one.list, (weight, watcher), k) {
                continue;
            }
            edges.push(Edge { watched: one.peer, watcher, is: true });
            if one.list.len() > k
                && let Some((_, last)) = one.list.pop()
            {
                edges.push(Edge { watched: one.peer, watcher: last, is: false });
            }
            one.floor = floor(&one.list, k);
        }
    }

    /// One that can watch is no more; `watches` are all that it may have watched here. Those with a gap are left to
    /// [`Overlay::fill`].
    pub fn go(&mut self, watcher: PeerId, watches: &[PeerId], edges: &mut Vec<Edge>, gaps: &mut Vec<PeerId>) {
        if let Ok(at) = self.watchers.binary_search(&watcher) {
            self.watchers.remove(at);
        }
        for &watched in watches {
            let Ok(at) = self.find(watched) else { continue };
            let one = &mut self.watched[at];
            if let Some(at) = one.list.iter().position(|(_, w)| *w == watcher) {
                one.list.remove(at);
                one.floor = 0;
                edges.push(Edge { watched, watcher, is: false });
                gaps.push(watched);
            }
        }
    }

    /// Makes the list of one watched peer what it should be.
    pub fn fill(&mut self, watched: PeerId, k: usize, edges: &mut Vec<Edge>) {
        let Ok(at) = self.find(watched) else { return };
        let one = &mut self.watched[at];
        let old = std::mem::take(&mut one.list);
        one.floor = 0;
        for &watcher in &self.watchers {
            let weight = one.weigher.weigh(watcher);
            if weight >= one.floor && watcher != watched && insert(&mut one.list, (weight, watcher), k) {
                one.list.truncate(k);
                one.floor = floor(&one.list, k);
            }
        }
        let edge = |(_, watcher): &(u64, PeerId), is| Edge { watched, watcher: *watcher, is };
        edges.extend(old.iter().filter(|w| !one.list.contains(w)).map(|w| edge(w, false)));
        edges.extend(one.list.iter().filter(|w| !old.contains(w)).map(|w| edge(w, true)));
    }

    fn find(&self, peer: PeerId) -> Result<usize, usize> {
        self.watched.binary_search_by_key(&peer, |one| one.peer)
    }
}

fn floor(list: &[(u64, PeerId)], k: usize) -> u64 {
    k.checked_sub(1).and_then(|last| list.get(last)).map_or(0, |(weight, _)| *weight)
}

/// Puts a watcher where it belongs, unless `k` higher ones are there; then the list may be one too long.
fn insert(list: &mut Vec<(u64, PeerId)>, new: (u64, PeerId), k: usize) -> bool {
    if list.len() >= k && list.last().is_none_or(|last| new <= *last) {
        return false;
    }
    let at = list.partition_point(|other| *other > new);
    if list.get(at) == Some(&new) {
        return false;
    }
    list.insert(at, new);
    true
}
