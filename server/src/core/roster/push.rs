//! The engine's side of rosters: who stands where, by what the directory says, and telling the agents.
//!
//! - Watchers are peers that are live or overdue and whose agent takes a roster. Watched are these too, and those that are
//!   gone, for a while: their buddies are the witnesses that tell gone from cut off from us alone. Whoever left is not.
//! - Nothing is told before the directory is full again after a start: agents keep what the home before told them.
//! - An agent is told some time after its roster changed, so that many changes are one, and only if it is another roster.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
};

use pams_shared::{
    frame::{ADDRESSES_MAX, Profile, Roster, Rostered, capability},
    id::PeerId,
    moment::Moment,
    status::Liveness,
};

use super::{
    super::{
        LOOKS_MAX, Output, Pams, Push,
        view::{memberships, nesting},
    },
    Rosters,
    overlay::Stand,
    own::Own,
    weight::Weigher,
};

/// Rosters told by one call of `handle`, so that after a start the others get their turn.
const PUSHES_MAX: usize = 256;

impl Pams {
    /// The peer's row is new, changed or gone.
    pub(in super::super) fn place(&mut self, now: Moment, peer: PeerId) {
        let Some(row) = self.directory.row(peer) else { return self.place_foreign(now, peer) };
        let end = (row.liveness == Liveness::Gone).then(|| row.liveness_since + self.config.gone_watched);
        let end = end.filter(|end| now < *end);
        let watched = match row.liveness {
            Liveness::Live | Liveness::Overdue => true,
            Liveness::Gone => end.is_some(),
            Liveness::Left => false,
        };
        if row.liveness == Liveness::Left {
            self.rosters.holds_none(peer);
        }
        let stand = Stand { watched, watches: !row.departed() && row.takes > 0, own: true };
        let overlays: Vec<_> = memberships(&row.profile).into_iter().collect();
        self.rosters.place(peer, &overlays, stand);
        self.rosters.end_at(peer, end);
    }

    /// The peer's home is another server: it is watched by our agents too, and watches ours by its home's word. Or nobody knows
    /// it any more.
    fn place_foreign(&mut self, now: Moment, peer: PeerId) {
        let Some((standing, here)) = self.cluster.standing(now, peer) else {
            return self.rosters.place(peer, &[], Stand::default());
        };
        let takes = standing.capabilities & capability::ROSTERS != 0 && standing.roster_max > 0;
        let mut overlays: Vec<_> = standing.overlays().flat_map(nesting).collect();
        overlays.sort_unstable();
        overlays.dedup();
        self.rosters.place(peer, &overlays, Stand { watched: here, watches: here && takes, own: false });
    }

    /// The peer has a new session; what is told of it may have changed.
    pub(in super::super) fn place_anew(&mut self, now: Moment, peer: PeerId, renamed: bool) {
        self.place(now, peer);
        self.rosters.attached(peer);
        if renamed {
            self.rosters.renamed(peer);
        }
    }

    /// When there is something to do for the rosters.
    pub(in super::super) fn roster_due(&self) -> Option<(Moment, PeerId)> {
        let none = PeerId::from_bytes([0; 16]);
        let work = self.rosters.has_work().then_some((self.worked, none));
        let ready = self.started + self.config.grace();
        let tell = self.rosters.due.first().filter(|_| !self.draining).map(|(at, peer)| ((*at).max(ready), *peer));
        [work, tell, self.rosters.ends.first().copied()].into_iter().flatten().min()
    }

    /// Does what is due for the rosters.
    pub(in super::super) fn work_rosters(&mut self, now: Moment) {
        for _ in 0..LOOKS_MAX {
            match self.rosters.ends.first() {
                Some(&(at, peer)) if at <= now => self.place(now, peer),
                _ => break,
            }
        }
        if self.rosters.has_work() {
            self.rosters.work();
            self.worked = now;
        }
        self.rosters.schedule(now + self.config.roster_settle);
        if !self.ready(now) {
            return;
        }
        for _ in 0..PUSHES_MAX {
            let Some(peer) = self.rosters.take_due(now) else { break };
            self.tell_roster(now, peer);
        }
    }

    /// Tells an agent whom to watch, if that is news to it.
    fn tell_roster(&mut self, now: Moment, peer: PeerId) {
        let Some(row) = self.directory.row(peer) else { return };
        let Some(session) = row.session.filter(|_| row.takes > 0) else { return };
        let (watched, cut) = ranked(peer, self.rosters.watched_by(peer).into_iter().collect(), row.takes);
        let rostered = watched.into_iter().filter_map(|peer| match self.directory.row(peer) {
            Some(row) => Some(rostered(peer, &row.profile, Some(row.observed))),
            None => self.cluster.foreign(now, peer).map(|f| rostered(peer, &f.lot.profile, f.lot.observed)),
        });
        let roster = Roster::fitted(rostered.collect());
        if self.rosters.tell(peer, &roster, cut) {
            self.outputs.push_back(Output::Push { session, push: Push::Roster(roster) });
        }
    }
}

/// The first `takes` of whom a peer is to watch, those that want it most, in order of their ids; and how many are left out.
fn ranked(watcher: PeerId, mut watched: Vec<PeerId>, takes: usize) -> (Vec<PeerId>, usize) {
    let cut = watched.len().saturating_sub(takes);
    if cut > 0 {
        watched.sort_by_cached_key(|peer| std::cmp::Reverse(Weigher::new(*peer).weigh(watcher)));
        watched.truncate(takes);
        watched.sort_unstable();
    }
    (watched, cut)
}

/// Where it can be called: the addresses it named, then the one that we see it at.
fn rostered(peer: PeerId, profile: &Profile, observed: Option<SocketAddr>) -> Rostered {
    let mut addresses: Vec<_> = profile.addresses.iter().take(ADDRESSES_MAX - 1).copied().collect();
    addresses.extend(observed.filter(|observed| !addresses.contains(observed)));
    Rostered { peer, name: profile.name.clone(), addresses }
}

impl Rosters {
    fn own_mut(&mut self, peer: PeerId) -> Option<&mut Own> {
        self.peers.find(peer).and_then(|peer| self.own.get_mut(&peer))
    }

    /// Until when a peer that is gone stays watched; `None`: it is not gone.
    fn end_at(&mut self, peer: PeerId, at: Option<Moment>) {
        let Some(own) = self.own_mut(peer) else { return };
        let before = std::mem::replace(&mut own.end, at);
        if let Some(before) = before.filter(|before| at != Some(*before)) {
            self.ends.remove(&(before, peer));
        }
        self.ends.extend(at.map(|at| (at, peer)));
    }

    /// A new session: its agent is told, whatever the one before it was told.
    fn attached(&mut self, peer: PeerId) {
        if let Some(own) = self.own_mut(peer) {
            own.told = None;
            self.changed.insert(peer);
        }
    }

    /// What is told of a peer changed.
    fn renamed(&mut self, peer: PeerId) {
        let watchers: BTreeSet<_> = self.watchers_of(peer);
        self.changed.extend(watchers);
    }

    /// Its agent has no roster of ours, or none that matters.
    fn holds_none(&mut self, peer: PeerId) {
        let Some(peer) = self.peers.find(peer) else { return };
        if let Some(own) = self.own.get_mut(&peer) {
            own.holds = false;
            let place = &self.peers.at(peer).place;
            self.moved.entry(peer).or_insert_with(|| place.clone());
        }
    }

    /// Whoever's roster changed is told then, unless it is to be told before.
    fn schedule(&mut self, at: Moment) {
        for peer in std::mem::take(&mut self.changed) {
            let Some(own) = self.own_mut(peer) else { continue };
            if own.due.is_none() {
                own.due = Some(at);
                self.due.insert((at, peer));
            }
        }
    }

    /// The next whose time to be told has come.
    fn take_due(&mut self, now: Moment) -> Option<PeerId> {
        let &(at, peer) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, peer));
        if let Some(own) = self.own_mut(peer) {
            own.due = None;
        }
        Some(peer)
    }

    /// Takes note of what an agent is told; false if it was told the same before.
    fn tell(&mut self, peer: PeerId, roster: &Roster, cut: usize) -> bool {
        let Some(handle) = self.peers.find(peer) else { return false };
        let Some(own) = self.own.get_mut(&handle) else { return false };
        self.count.cut += cut as u64;
        self.count.cut -= std::mem::replace(&mut own.cut, cut) as u64;
        let mut digest = DefaultHasher::new();
        roster.peers.hash(&mut digest);
        let digest = Some(digest.finish());
        if std::mem::replace(&mut own.told, digest) == digest {
            return false;
        }
        own.holds = !roster.peers.is_empty();
        self.count.pushed += 1;
        self.drop_idle(handle);
        true
    }
}
