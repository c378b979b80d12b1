//! Whom each agent is to watch: every peer by its `k` highest watchers in each of its overlays, a peer of `a/b` being one of
//! `a` too. Pure bookkeeping: it knows neither rows nor sessions; the engine (`push.rs`) tells it who stands where, and asks
//! whose roster is to be told.
//!
//! Who watches whom goes by the peers of all servers, but a server tells only its own, and keeps the pairs of these. So of an
//! overlay in which none of them takes part it keeps who is there (`overlay.rs`), and works out who watches whom only in the
//! others (`lists.rs`).
//!
//! What changed is taken in slices: [`Rosters::work`] does about [`SLICE`] weights at a time, some milliseconds, so that
//! thousands that attach at once keep nobody waiting. The whole is quadratic in the members of an overlay: one that comes
//! to 10,000 costs 0.1 ms and one that goes 0.3 ms, all 10,000 after a start 0.4 s of computing, 30,000 take 3 s (k = 10, one
//! core of a virtual machine). That is fine for overlays of some 10,000; beyond, name several smaller ones that share no
//! parent.

mod lists;
mod overlay;
mod own;
mod peers;
mod push;
#[cfg(test)]
mod tests;
pub(super) mod weight;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use pams_shared::{id::PeerId, moment::Moment};

use self::{
    lists::{Edge, Lists, highest},
    overlay::{Overlay, Stand},
    own::Own,
    peers::{Handle, Peers, Place},
    weight::Weigher,
};

/// Weights computed by one call of [`Rosters::work`], but for what one peer takes.
const SLICE: usize = 200_000;
/// What it costs to move a peer where there are no weights, in weights.
const MOVE: usize = 50;
/// Sets of overlays that are kept without looking whether they serve anybody.
const SETS_MIN: usize = 1_024;
/// Overlays whose lists are kept though the last of our peers has left: to have them anew takes a weight for each pair, and
/// an agent can come and go between two homes as often as it likes.
const RESTING_MAX: usize = 16;
/// Overlays in which a peer counts, those that its own are nested in included; the others are left out, and counted.
pub const MEMBERSHIPS_MAX: usize = 32;

type Name = Arc<str>;

/// All in numbers; gauges but for `changed` and `pushed`. Peers are those whose home is here, and pairs those whose watcher
/// is such a one, so that a sum over servers counts each once; but for `overlays` and `waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RosterSummary {
    /// Watchers of each peer that are wanted; 0: no rosters are given.
    pub wanted: u64,
    /// With peers of any server.
    pub overlays: u64,
    /// Pairs of a watched peer and one of its watchers.
    pub edges: u64,
    /// Pairs made and unmade so far.
    pub changed: u64,
    /// Watched peers with fewer watchers than are wanted.
    pub short: u64,
    /// Pairs that no roster holds, because the watcher's agent takes no more.
    pub cut: u64,
    /// Memberships left out beyond [`MEMBERSHIPS_MAX`].
    pub memberships_cut: u64,
    /// Rosters told to agents so far.
    pub pushed: u64,
    /// Peers of any server whose place is to be worked in yet.
    pub waiting: u64,
}

#[derive(Debug, Default)]
pub(super) struct Rosters {
    k: usize,
    peers: Peers,
    /// Of the peers whose home is here.
    own: BTreeMap<Handle, Own>,
    overlays: BTreeMap<Name, Overlay>,
    /// The sets of overlays that peers are in, by a digest: many are in the same, and one copy serves them all.
    sets: BTreeMap<u64, Arc<BTreeSet<String>>>,
    /// With so many sets, those that serve nobody are looked for.
    sets_checked: usize,
    /// Where peers should be, and that is to be worked in.
    moved: BTreeMap<Handle, Place>,
    /// Overlays with lists to be filled.
    gaps: BTreeSet<Name>,
    /// Overlays with lists and none of our peers, by how long.
    resting: VecDeque<Name>,
    /// Whose roster is to be told, and when.
    due: BTreeSet<(Moment, PeerId)>,
    /// Until when those that are gone stay watched.
    ends: BTreeSet<(Moment, PeerId)>,
    /// Those whose roster changed, for the engine to say when it is told.
    changed: BTreeSet<PeerId>,
    count: RosterSummary,
}

impl Rosters {
    pub fn new(k: usize) -> Self {
        Self { k, count: RosterSummary { wanted: k as u64, ..RosterSummary::default() }, ..Self::default() }
    }

    pub fn summary(&self) -> RosterSummary {
        let (overlays, waiting) = (self.overlays.len() as u64, self.moved.len() as u64);
        RosterSummary { overlays, waiting, ..self.count }
    }

    /// So many are to watch each peer from now on. Worked in by [`Rosters::work`].
    pub fn watch_by(&mut self, k: usize) {
        if std::mem::replace(&mut self.k, k) == k {
            return;
        }
        self.count.wanted = k as u64;
        for (name, overlay) in &mut self.overlays {
            if let Some(lists) = &mut overlay.lists {
                lists.widen(k);
                self.gaps.insert(name.clone());
            }
        }
        let own: Vec<Handle> = self.own.keys().copied().collect();
        own.into_iter().for_each(|peer| self.judge(peer));
    }

    /// Says where a peer stands now: how, and in which overlays, those that they are nested in too; each once, and in order.
    /// Worked in by [`Rosters::work`].
    pub fn place(&mut self, peer: PeerId, overlays: &[&str], mut stand: Stand) {
        let mut names = &overlays[..overlays.len().min(MEMBERSHIPS_MAX)];
        if !stand.is_member() || names.is_empty() {
            (names, stand) = (&[], Stand { own: stand.own, ..Stand::default() });
        }
        let known = if stand.is_member() { Some(self.peers.find_or_add(peer)) } else { self.peers.find(peer) };
        let Some(peer) = known else { return };
        if stand.own {
            let own = self.own.entry(peer).or_default();
            let over = if stand.is_member() { overlays.len().saturating_sub(MEMBERSHIPS_MAX) } else { 0 };
            self.count.memberships_cut += over as u64;
            self.count.memberships_cut -= std::mem::replace(&mut own.memberships_cut, over) as u64;
        }
        let wanted = self.moved.get(&peer).unwrap_or(&self.peers.at(peer).place);
        if wanted.stand != stand || !wanted.overlays.iter().eq(names) {
            let overlays = self.shared(names);
            self.moved.insert(peer, Place { overlays, stand });
        }
    }

    /// The copy of a set that serves all. When many have come to be of no use, all such go.
    fn shared(&mut self, names: &[&str]) -> Arc<BTreeSet<String>> {
        let mut digest = DefaultHasher::new();
        names.hash(&mut digest);
        let digest = digest.finish();
        if let Some(known) = self.sets.get(&digest).filter(|known| known.iter().eq(names)) {
            return known.clone();
        }
        if self.sets.len() >= self.sets_checked {
            self.sets.retain(|_, set| Arc::strong_count(set) > 1);
            self.sets_checked = (2 * self.sets.len()).max(SETS_MIN);
        }
        let set: Arc<BTreeSet<String>> = Arc::new(names.iter().map(|name| (*name).to_owned()).collect());
        self.sets.insert(digest, set.clone());
        set
    }

    pub fn has_work(&self) -> bool {
        !(self.moved.is_empty() && self.gaps.is_empty())
    }

    /// Works in some of what changed. Call while [`Rosters::has_work`].
    pub fn work(&mut self) {
        let mut spent = 0;
        while spent < SLICE {
            // Gaps last, so that lists are filled once.
            if let Some((peer, to)) = self.moved.pop_first() {
                spent += MOVE + self.settle(peer, to);
            } else if let Some(name) = self.gaps.first().cloned() {
                spent += 1 + self.fill(&name);
            } else {
                return;
            }
        }
    }

    /// Fills a gap of an overlay, and takes it off the list if that was the last; how many weights that took.
    fn fill(&mut self, name: &str) -> usize {
        let (mut edges, mut spent) = (Vec::new(), 0);
        let lists = self.overlays.get_mut(name).and_then(|overlay| overlay.lists.as_mut());
        if let Some(lists) = lists.filter(|lists| lists.has_gaps()) {
            spent = lists.fill_one(self.k, &mut edges);
        } else {
            self.gaps.remove(name);
        }
        self.apply(&edges);
        spent
    }

    /// Who watches a peer.
    pub fn watchers_of(&self, peer: PeerId) -> BTreeSet<PeerId> {
        let Some(peer) = self.peers.find(peer) else { return BTreeSet::new() };
        let place = &self.peers.at(peer).place;
        let mut watchers = BTreeSet::new();
        if !place.stand.watched {
            return watchers;
        }
        if let Some(own) = self.own.get(&peer).filter(|_| place.stand.own) {
            watchers.extend(own.watchers.each().map(|watcher| self.peers.id(watcher)));
            return watchers;
        }
        for overlay in place.overlays.iter().filter_map(|name| self.overlays.get(name.as_str())) {
            if let Some(lists) = &overlay.lists {
                watchers.extend(lists.watchers_of(peer).map(|watcher| self.peers.id(watcher)));
            } else {
                let able = overlay.members().iter().map(|member| (self.peers.at(*member), *member));
                let able = able.filter(|(slot, _)| slot.place.stand.watches).map(|(slot, member)| (slot.peer, member));
                let best = highest(Weigher::new(self.peers.id(peer)), peer, self.k, able);
                watchers.extend(best.into_iter().map(|(_, watcher, _)| watcher));
            }
        }
        watchers
    }

    /// Whom a peer watches, in order of their ids. Of a peer whose home is elsewhere: in overlays with peers of ours.
    pub fn watched_by(&self, peer: PeerId) -> BTreeSet<PeerId> {
        let Some(peer) = self.peers.find(peer) else { return BTreeSet::new() };
        let place = &self.peers.at(peer).place;
        if let Some(own) = self.own.get(&peer).filter(|_| place.stand.own) {
            return own.watches.each().map(|watched| self.peers.id(watched)).collect();
        }
        let lists = self.lists_of(place).filter(|_| place.stand.watches);
        lists.flat_map(|lists| lists.watched_by(peer, &self.peers)).map(|watched| self.peers.id(watched)).collect()
    }

    fn lists_of(&self, place: &Place) -> impl Iterator<Item = &Lists> {
        let overlays = place.overlays.iter().filter_map(|name| self.overlays.get(name.as_str()));
        overlays.filter_map(|overlay| overlay.lists.as_deref())
    }

    /// How many can watch, and how many are watched, in an overlay.
    pub fn overlay(&self, name: &str) -> (usize, usize) {
        self.overlays.get(name).map_or((0, 0), |o| (o.watchers(), o.watched()))
    }

    /// Moves a peer from where it was worked in to where it should be; how many weights that took.
    fn settle(&mut self, peer: Handle, to: Place) -> usize {
        let from = std::mem::replace(&mut self.peers.at_mut(peer).place, to.clone());
        let mut spent = if to.stand.own && !from.stand.own { self.adopt(peer, &from) } else { 0 };
        self.judge(peer);
        let mut edges = Vec::new();
        for name in from.overlays.union(&to.overlays) {
            spent += self.settle_in(name, peer, [from.within(name), to.within(name)], &mut edges);
        }
        self.apply(&edges);
        if !to.stand.own {
            self.retire(peer);
        }
        self.drop_idle(peer);
        spent
    }

    /// The same in one overlay.
    fn settle_in(&mut self, name: &str, peer: Handle, [from, to]: [Stand; 2], edges: &mut Vec<Edge>) -> usize {
        let overlay = match self.overlays.get_mut(name) {
            Some(overlay) => overlay,
            None => self.overlays.entry(name.into()).or_default(),
        };
        let was_ours = overlay.is_ours();
        overlay.moved(peer, from, to);
        let mut spent = 0;
        if let Some(lists) = &mut overlay.lists {
            spent = lists.moved(peer, [from, to], &self.peers, self.k, edges);
        } else if overlay.is_ours() {
            spent = overlay.list(&self.peers, self.k);
        }
        if overlay.lists.as_ref().is_some_and(|lists| lists.has_gaps()) {
            self.gaps.insert(name.into());
        }
        let (is_ours, is_empty) = (overlay.is_ours(), overlay.is_empty());
        if is_empty {
            self.overlays.remove(name);
        }
        if is_ours || is_empty {
            self.resting.retain(|resting| **resting != *name);
        } else if was_ours {
            self.rest(name.into());
        }
        spent
    }

    /// The last of our peers has left an overlay.
    fn rest(&mut self, name: Name) {
        self.resting.push_back(name);
        if self.resting.len() > RESTING_MAX
            && let Some(overlay) = self.resting.pop_front().and_then(|oldest| self.overlays.get_mut(&oldest))
        {
            overlay.lists = None;
        }
    }

    /// The peer's home is here by now: its pairs are of interest. How many weights it took to find them.
    fn adopt(&mut self, peer: Handle, place: &Place) -> usize {
        let Some(mut own) = self.own.remove(&peer) else { return 0 };
        let mut spent = 0;
        for lists in self.lists_of(place) {
            spent += lists.len();
            for watched in lists.watched_by(peer, &self.peers).filter(|_| place.stand.watches) {
                own.watches.name(watched, true);
            }
            for watcher in lists.watchers_of(peer) {
                own.watchers.name(watcher, true);
            }
        }
        own.counts = true;
        self.count.edges += own.watches.len() as u64;
        self.changed.insert(self.peers.id(peer));
        self.own.insert(peer, own);
        spent
    }

    /// Its home is here no longer.
    fn retire(&mut self, peer: Handle) {
        let Some(own) = self.own.remove(&peer) else { return };
        let id = self.peers.id(peer);
        self.count.edges -= own.watches.len() as u64;
        self.count.short -= u64::from(own.short);
        self.count.cut -= own.cut as u64;
        self.count.memberships_cut -= own.memberships_cut as u64;
        own.due.map(|at| self.due.remove(&(at, id)));
        own.end.map(|at| self.ends.remove(&(at, id)));
        self.changed.remove(&id);
    }

    /// Counts the edges of our peers; one that several overlays make is one.
    fn apply(&mut self, edges: &[Edge]) {
        for &Edge { watched, watcher, is } in edges {
            if let Some(own) = self.of_ours(watcher)
                && own.watches.name(watched, is)
            {
                self.changed.insert(self.peers.id(watcher));
                self.count.changed += 1;
                self.count.edges = if is { self.count.edges + 1 } else { self.count.edges - 1 };
            }
            if let Some(own) = self.of_ours(watched)
                && own.watchers.name(watcher, is)
            {
                self.judge(watched);
            }
        }
    }

    /// Of a peer whose home is here, as far as that is worked in.
    fn of_ours(&mut self, peer: Handle) -> Option<&mut Own> {
        self.own.get_mut(&peer).filter(|own| own.counts)
    }

    /// Counts the peer if it has too few watchers.
    fn judge(&mut self, peer: Handle) {
        let (k, is_watched) = (self.k, self.peers.at(peer).place.stand.watched);
        let Some(own) = self.of_ours(peer) else { return };
        let short = is_watched && own.watchers.len() < k;
        let was = std::mem::replace(&mut own.short, short);
        self.count.short += u64::from(short);
        self.count.short -= u64::from(was);
    }

    /// Whoever stands nowhere any more is forgotten.
    fn drop_idle(&mut self, peer: Handle) {
        let holds = self.own.get(&peer).is_some_and(|own| own.holds);
        if !holds && self.peers.at(peer).place.overlays.is_empty() && !self.moved.contains_key(&peer) {
            self.retire(peer);
            self.peers.remove(peer);
        }
    }
}
