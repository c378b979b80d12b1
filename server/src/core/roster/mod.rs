//! Whom each agent is to watch: every peer by its `k` highest watchers in each of its overlays, a peer of `a/b` being one of
//! `a` too. Pure bookkeeping: it knows neither rows nor sessions; the engine (`push.rs`) tells it who stands where, and asks
//! whose roster is to be told.
//!
//! What changed is taken in slices: [`Rosters::work`] does about [`SLICE`] weights at a time, some milliseconds, so that
//! thousands that attach at once keep nobody waiting. The whole is quadratic in the members of an overlay: one that comes
//! to 10,000 costs 0.2 ms and one that goes 0.7 ms, all 10,000 after a start 1 s of computing, 30,000 take 9 s (k = 10, one
//! core of a virtual machine). That is fine for overlays of some 10,000; beyond, name several smaller ones that share no
//! parent.

mod overlay;
mod push;
#[cfg(test)]
mod tests;
pub(super) mod weight;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pams_shared::{id::PeerId, moment::Moment};

use self::overlay::{Edge, Overlay};

/// Weights computed by one call of [`Rosters::work`], but for what one peer takes.
const SLICE: usize = 200_000;
/// Sets of overlays that are kept without looking whether they serve anybody.
const SETS_MIN: usize = 1_024;
/// Overlays in which a peer counts, those that its own are nested in included; the others are left out, and counted.
pub const MEMBERSHIPS_MAX: usize = 32;

type Name = Arc<str>;

/// Where a peer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// With those that they are nested in.
    pub overlays: Arc<BTreeSet<String>>,
    /// Others watch it.
    pub watched: bool,
    /// It can watch others.
    pub watches: bool,
}

/// All in numbers; gauges but for `changed` and `pushed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RosterSummary {
    /// Watchers of each peer that are wanted; 0: no rosters are given.
    pub wanted: u64,
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
    /// Peers whose place is to be worked in yet.
    pub waiting: u64,
}

#[derive(Debug, Default)]
pub(super) struct Rosters {
    k: usize,
    overlays: BTreeMap<Name, Overlay>,
    members: BTreeMap<PeerId, Member>,
    /// The sets of overlays that members are in: many are in the same, and one copy serves them all.
    sets: BTreeSet<Arc<BTreeSet<String>>>,
    /// With so many sets, those that serve nobody are looked for.
    sets_checked: usize,
    /// Whose place is to be worked in.
    moved: BTreeSet<PeerId>,
    /// Lists with a gap to be filled.
    gaps: BTreeSet<(Name, PeerId)>,
    /// Whose roster is to be told, and when.
    due: BTreeSet<(Moment, PeerId)>,
    /// Until when those that are gone stay watched.
    ends: BTreeSet<(Moment, PeerId)>,
    /// Those whose roster changed, for the engine to say when it is told.
    changed: BTreeSet<PeerId>,
    count: RosterSummary,
}

#[derive(Debug, Default)]
struct Member {
    /// As it should be.
    wanted: Place,
    /// As it is worked in.
    place: Place,
    /// Of a peer of another home: by what `wanted` is so, as a digest.
    by: u64,
    /// Whom it watches, and in how many overlays.
    watches: BTreeMap<PeerId, u32>,
    /// How many watch it.
    watchers: usize,
    due: Option<Moment>,
    end: Option<Moment>,
    /// What its agent was told last in this session, as a digest.
    told: Option<u64>,
    /// Its agent has a roster of ours that is not empty, so that it is to be told of the end.
    holds: bool,
    cut: usize,
    memberships_cut: usize,
}

impl Member {
    fn is_short(&self, k: usize) -> bool {
        self.place.watched && !self.place.overlays.is_empty() && self.watchers < k
    }

    fn is_idle(&self) -> bool {
        let nowhere = |p: &Place| p.overlays.is_empty() || !(p.watched || p.watches);
        nowhere(&self.wanted) && nowhere(&self.place) && self.watches.is_empty() && self.watchers == 0 && !self.holds
    }
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
        self.count.short = self.members.values().filter(|member| member.is_short(k)).count() as u64;
        for (name, overlay) in &self.overlays {
            self.gaps.extend(overlay.each_watched().map(|watched| (name.clone(), watched)));
        }
    }

    /// Says where a peer stands now. Worked in by [`Rosters::work`].
    pub fn place(&mut self, peer: PeerId, mut place: Place) {
        let over = place.overlays.len().saturating_sub(MEMBERSHIPS_MAX);
        if over > 0 {
            place.overlays = Arc::new(place.overlays.iter().take(MEMBERSHIPS_MAX).cloned().collect());
        }
        if place.overlays.is_empty() && !self.members.contains_key(&peer) {
            return;
        }
        place.overlays = self.shared(place.overlays);
        let member = self.members.entry(peer).or_default();
        member.by = 0;
        self.count.memberships_cut += over as u64;
        self.count.memberships_cut -= std::mem::replace(&mut member.memberships_cut, over) as u64;
        if member.wanted != place {
            member.wanted = place;
            self.moved.insert(peer);
        }
    }

    /// The copy of a set that serves all. When many have come to be of no use, all such go.
    fn shared(&mut self, set: Arc<BTreeSet<String>>) -> Arc<BTreeSet<String>> {
        if let Some(known) = self.sets.get(&set) {
            return known.clone();
        }
        if self.sets.len() >= self.sets_checked {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.sets_checked = (2 * self.sets.len()).max(SETS_MIN);
        }
        self.sets.insert(set.clone());
        set
    }

    /// Whether the peer of another home stands where this digest says.
    pub fn stands_by(&self, peer: PeerId, digest: u64) -> bool {
        self.members.get(&peer).is_some_and(|member| member.by == digest)
    }

    /// It does now.
    pub fn stand_by(&mut self, peer: PeerId, digest: u64) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.by = digest;
        }
    }

    pub fn has_work(&self) -> bool {
        !(self.moved.is_empty() && self.gaps.is_empty())
    }

    /// Works in some of what changed. Call while [`Rosters::has_work`].
    pub fn work(&mut self) {
        let mut spent = 0;
        while spent < SLICE {
            // Gaps last: whoever comes meanwhile may fill them, and lists are filled once.
            if let Some(peer) = self.moved.pop_first() {
                spent += self.settle(peer);
            } else if let Some((name, watched)) = self.gaps.pop_first() {
                let mut edges = Vec::new();
                if let Some(overlay) = self.overlays.get_mut(&name) {
                    spent += overlay.watchers();
                    overlay.fill(watched, self.k, &mut edges);
                }
                self.apply(&edges);
            } else {
                return;
            }
        }
    }

    /// Who watches a peer.
    pub fn watchers_of(&self, peer: PeerId) -> BTreeSet<PeerId> {
        let overlays = self.members.get(&peer).into_iter().flat_map(|m| m.place.overlays.iter());
        overlays.filter_map(|name| self.overlays.get(name.as_str())).flat_map(|o| o.watchers_of(peer)).collect()
    }

    /// Whom a peer watches.
    pub fn watched_by(&self, peer: PeerId) -> impl Iterator<Item = PeerId> {
        self.members.get(&peer).into_iter().flat_map(|m| m.watches.keys().copied())
    }

    /// How many can watch, and how many are watched, in an overlay.
    pub fn overlay(&self, name: &str) -> (usize, usize) {
        self.overlays.get(name).map_or((0, 0), |o| (o.watchers(), o.watched()))
    }

    /// Moves a peer from where it was worked in to where it should be; how many weights that took.
    fn settle(&mut self, peer: PeerId) -> usize {
        let Some(member) = self.members.get_mut(&peer) else { return 0 };
        let (k, was_short) = (self.k, member.is_short(self.k));
        let to = member.wanted.clone();
        let from = std::mem::replace(&mut member.place, to.clone());
        self.count.short += u64::from(member.is_short(k));
        self.count.short -= u64::from(was_short);
        let watches: Vec<PeerId> = member.watches.keys().copied().collect();
        let (mut edges, mut spent) = (Vec::new(), 0);
        for name in from.overlays.union(&to.overlays) {
            let (was, is) = (from.overlays.contains(name), to.overlays.contains(name));
            let name: Name = name.as_str().into();
            let overlay = self.overlays.entry(name.clone()).or_default();
            let (watched, watching) =
                ((was && from.watched, is && to.watched), (was && from.watches, is && to.watches));
            match watching {
                (true, false) => {
                    let mut gaps = Vec::new();
                    overlay.go(peer, &watches, &mut edges, &mut gaps);
                    self.gaps.extend(gaps.into_iter().map(|watched| (name.clone(), watched)));
                }
                (false, true) => {
                    spent += overlay.watched();
                    overlay.come(peer, k, &mut edges);
                }
                _ => {}
            }
            match watched {
                (true, false) => overlay.unwatch(peer, &mut edges),
                (false, true) => {
                    spent += overlay.watchers();
                    overlay.watch(peer, k, &mut edges);
                }
                _ => {}
            }
            if overlay.is_empty() {
                self.overlays.remove(&name);
            }
        }
        self.apply(&edges);
        self.drop_idle(peer);
        spent + 1
    }

    /// Counts edges; one that several overlays make is one.
    fn apply(&mut self, edges: &[Edge]) {
        for &Edge { watched, watcher, is } in edges {
            let Some(member) = self.members.get_mut(&watcher) else { continue };
            let count = member.watches.entry(watched).or_default();
            *count = if is { *count + 1 } else { count.saturating_sub(1) };
            let count = *count;
            if count == 0 {
                member.watches.remove(&watched);
            }
            if count > 1 || (count == 1 && !is) {
                continue; // through another overlay as before
            }
            self.changed.insert(watcher);
            self.count.changed += 1;
            self.count.edges = if is { self.count.edges + 1 } else { self.count.edges - 1 };
            self.watched_by_one(watched, is);
        }
        for &Edge { watched, watcher, .. } in edges.iter().filter(|e| !e.is) {
            self.drop_idle(watched);
            self.drop_idle(watcher);
        }
    }

    /// A peer has one watcher more, or less.
    fn watched_by_one(&mut self, watched: PeerId, more: bool) {
        let Some(member) = self.members.get_mut(&watched) else { return };
        let was_short = member.is_short(self.k);
        member.watchers = if more { member.watchers + 1 } else { member.watchers.saturating_sub(1) };
        self.count.short += u64::from(member.is_short(self.k));
        self.count.short -= u64::from(was_short);
    }

    /// Whoever stands nowhere any more is forgotten.
    fn drop_idle(&mut self, peer: PeerId) {
        if !self.members.get(&peer).is_some_and(Member::is_idle) || self.moved.contains(&peer) {
            return;
        }
        if let Some(member) = self.members.remove(&peer) {
            self.count.cut -= member.cut as u64;
            self.count.memberships_cut -= member.memberships_cut as u64;
            member.due.map(|at| self.due.remove(&(at, peer)));
            member.end.map(|at| self.ends.remove(&(at, peer)));
            self.changed.remove(&peer);
        }
    }
}
