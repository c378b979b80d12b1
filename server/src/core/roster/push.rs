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
    sync::Arc,
};

use pams_shared::{
    frame::{ADDRESSES_MAX, Profile, Roster, Rostered, capability},
    id::PeerId,
    moment::Moment,
    status::Liveness,
};

use super::{
    super::{LOOKS_MAX, Output, Pams, Push, cluster::Foreign, view::memberships},
    Place, Rosters,
    weight::Weigher,
};

/// Rosters told by one call of `handle`, so that after a start the others get their turn.
const PUSHES_MAX: usize = 256;

impl Pams {
    /// The peer's row is new, changed or gone.
    pub(in super::super) fn place(&mut self, now: Moment, peer: PeerId) {
        let row = self.directory.row(peer);
        if row.is_none()
            && let Some(by) = self.cluster.outline(peer)
        {
            // Most changes are of presence alone, and to read an entry is what costs here.
            if self.rosters.stands_by(peer, by) {
                return;
            }
            if let Some(foreign) = self.cluster.foreign(now, peer) {
                self.place_foreign(peer, &foreign);
                return self.rosters.stand_by(peer, by);
            }
        }
        let end =
            row.filter(|row| row.liveness == Liveness::Gone).map(|row| row.liveness_since + self.config.gone_watched);
        let place = row.map_or_else(Place::default, |row| Place {
            overlays: Arc::new(memberships(&row.profile).into_iter().map(str::to_owned).collect()),
            watched: match row.liveness {
                Liveness::Live | Liveness::Overdue => true,
                Liveness::Gone => end.is_some_and(|end| now < end),
                Liveness::Left => false,
            },
            watches: !row.departed() && row.takes > 0,
        });
        if row.is_none_or(|row| row.liveness == Liveness::Left) {
            self.rosters.holds_none(peer);
        }
        self.rosters.place(peer, place);
        self.rosters.end_at(peer, end.filter(|end| now < *end));
    }

    /// The peer's home is another server: it is watched by our agents too, and watches ours by its home's word.
    fn place_foreign(&mut self, peer: PeerId, foreign: &Foreign) {
        let (profile, liveness) = (&foreign.lot.profile, foreign.lot.liveness);
        let here = matches!(liveness, Liveness::Live | Liveness::Overdue);
        let takes = profile.capabilities & capability::ROSTERS != 0 && profile.roster_max > 0;
        let overlays = Arc::new(memberships(profile).into_iter().map(str::to_owned).collect());
        self.rosters.holds_none(peer);
        self.rosters.place(peer, Place { overlays, watched: here, watches: here && takes });
        self.rosters.end_at(peer, None);
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
        let (watched, cut) = ranked(peer, self.rosters.watched_by(peer).collect(), row.takes);
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
    /// Until when a peer that is gone stays watched; `None`: it is not gone.
    fn end_at(&mut self, peer: PeerId, at: Option<Moment>) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let before = std::mem::replace(&mut member.end, at);
        if let Some(before) = before.filter(|before| at != Some(*before)) {
            self.ends.remove(&(before, peer));
        }
        self.ends.extend(at.map(|at| (at, peer)));
    }

    /// A new session: its agent is told, whatever the one before it was told.
    fn attached(&mut self, peer: PeerId) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.told = None;
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
        if let Some(member) = self.members.get_mut(&peer) {
            member.holds = false;
            self.moved.insert(peer);
        }
    }

    /// Whoever's roster changed is told then, unless it is to be told before.
    fn schedule(&mut self, at: Moment) {
        for peer in std::mem::take(&mut self.changed) {
            let Some(member) = self.members.get_mut(&peer) else { continue };
            if member.due.is_none() {
                member.due = Some(at);
                self.due.insert((at, peer));
            }
        }
    }

    /// The next whose time to be told has come.
    fn take_due(&mut self, now: Moment) -> Option<PeerId> {
        let &(at, peer) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, peer));
        if let Some(member) = self.members.get_mut(&peer) {
            member.due = None;
        }
        Some(peer)
    }

    /// Takes note of what an agent is told; false if it was told the same before.
    fn tell(&mut self, peer: PeerId, roster: &Roster, cut: usize) -> bool {
        let Some(member) = self.members.get_mut(&peer) else { return false };
        self.count.cut += cut as u64;
        self.count.cut -= std::mem::replace(&mut member.cut, cut) as u64;
        let mut digest = DefaultHasher::new();
        roster.peers.hash(&mut digest);
        let digest = Some(digest.finish());
        if std::mem::replace(&mut member.told, digest) == digest {
            return false;
        }
        member.holds = !roster.peers.is_empty();
        self.count.pushed += 1;
        self.drop_idle(peer);
        true
    }
}
