//! What servers share: an entry for each peer, written by its home (its *owner*) and held by all.
//!
//! # What is told, and to whom
//! Each owner numbers its changes 1, 2, ... within its generation, and of each peer only the newest counts: its log is compacted.
//! Whoever *follows* an owner is told what is newer than it holds, from a cursor into that log, so that a slow follower costs
//! nothing. Everybody may serve an owner's log, as a *relay*: that of a server which is dead or can't be reached, and that of a
//! server's own life before its restart, which it gets back in this way.
//!
//! A stream begins with a frame without entries. Either it is told *anew*: all that there is, in two passes (peers that may be
//! reached first), and at the end the follower *sweeps* what it holds of the owner and was not told. Or it goes on after `from`.
//! What came since the stream began is told in between. `upto` never says more than was told: as long as the old part is under
//! way it stays behind. Told anew is whoever holds nothing, another generation, or less than the *floor*: a tombstone above
//! that is dropped by now, and what it buried would stay for ever.
//!
//! # Who is right
//! - Of two entries of a peer the greater (epoch, attach) is the newer; then a tombstone, so that what is forgotten stays so
//!   until its peer begins a new epoch or comes to another home; then owner, generation and seq, so that all decide alike.
//! - An entry is in one log, its owner's. It leaves it when a newer one of another owner comes.
//! - The owner is the authority on its log. A relay is a server of the cluster and is trusted not to forge; it may also bring a
//!   newer generation. But it tells only news: nothing that, by what the owner told us, is no more; it sweeps nothing that is
//!   newer than what it holds itself, or older than the owner's last start; and it says that it is through only if it was itself told all.
//! - An owner says its digest where it has told everything. One that differs from ours for 10 s makes [`Share::take`] fail, and
//!   the next stream is told anew.
//! - An owner of which nobody has had news for `orphan_life` is given up: its entries are dropped.
//!
//! # After a restart
//! Our entries of earlier generations come back from siblings as leftovers, which keep their (generation, seq). Meanwhile we are
//! [`Share::recovering`]: followers are told all, but not that it was all, or they would sweep what we have not got back yet.
//!
//! # What may come back
//! Something forgotten can live again if one server was away for longer than `tombstone_life` and all that knew better lost
//! their memory. And if it was forgotten elsewhere than at its dead home, such a server keeps it until the home is back or
//! `orphan_life` is over.

mod care;
mod cursor;
mod digest;
mod follower;
mod log;
mod store;
mod take;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use pams_shared::{
    frame::{Follow, Packed, Shared},
    id::{PeerId, ServerId},
    moment::Moment,
};

use self::{
    cursor::Cursor,
    log::Log,
    store::{Slot, Store},
};

/// Streams on which we tell.
pub const FOLLOWERS_MAX: usize = 256;
/// Owners that are known, those that are dead included.
pub const ORIGINS_MAX: usize = 1_024;
/// Largest generation, epoch, attach and seq: milliseconds since 1970 fit for 8,000 years, and a number gone wild can't take
/// the place of all that come after it.
pub const NUMBER_MAX: u64 = 1 << 48;

/// Bounds and times of what is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// Entries in all, tombstones included; beyond it, entries of other owners are shed.
    pub entries_max: usize,
    /// How long a tombstone is kept. A server that was away for longer is told anew.
    pub tombstone_life: Duration,
    /// How long the entries of an owner are kept of which there is no news.
    pub orphan_life: Duration,
    /// On a stream without news, how often its follower hears that there are none.
    pub heartbeat: Duration,
    /// After a restart: how long siblings may take to tell us what we owned, from the first contact.
    pub recover: Duration,
    /// After a restart: how long nothing more of it has come when it is taken for all.
    pub settle: Duration,
}

impl Default for ShareConfig {
    fn default() -> Self {
        Self {
            entries_max: 2_000_000,
            tombstone_life: Duration::from_secs(3_600),
            orphan_life: Duration::from_secs(86_400),
            heartbeat: Duration::from_secs(1),
            recover: Duration::from_secs(30),
            settle: Duration::from_secs(2),
        }
    }
}

/// One stream on which we tell; a number that the caller uses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowerId(pub u64);

/// What came cannot be: the stream it came on is to be closed, and the error counted. The next one begins with
/// [`Share::want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    #[error("{field} is {is}; at most {max} can be: the sender is broken")]
    Absurd { field: &'static str, is: u64, max: u64 },
    #[error("deltas of {owner} came before the stream said where it begins: the sender is broken")]
    NotBegun { owner: ServerId },
    #[error("the stream of {owner} begins after {begins}, but only {held} is held: follow it again")]
    Gap { owner: ServerId, begins: u64, held: u64 },
    #[error("deltas of {owner} went back from {before} to {upto}: the sender is broken")]
    Backwards { owner: ServerId, upto: u64, before: u64 },
    #[error("deltas of {owner} up to {upto} contain {seq}: the sender is broken")]
    Beyond { owner: ServerId, upto: u64, seq: u64 },
    #[error("deltas of {owner} have more of the past after its end: the sender is broken")]
    Ended { owner: ServerId },
    #[error("{owner} itself says generation {generation}, but was in {known} before: was its data directory restored?")]
    Older { owner: ServerId, generation: u64, known: u64 },
    #[error(
        "a sibling knows us in generation {generation} at {seq}, which we have not reached: another server has our id, or our \
         data directory was restored; give one of them a new data directory"
    )]
    Impostor { generation: u64, seq: u64 },
    #[error("what {owner} shares differs from what we hold of it: follow it again, it is told anew")]
    Differs { owner: ServerId },
    #[error("{ORIGINS_MAX} owners are known; {owner} is one too many")]
    Origins { owner: ServerId },
    #[error("{FOLLOWERS_MAX} streams are served; this is one too many")]
    Followers,
}

/// How it stands with what an owner shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub owner: ServerId,
    pub generation: u64,
    /// All up to it are held; of our own: the last number given.
    pub upto: u64,
    pub entries: usize,
    /// XOR of the hashes of its entries.
    pub digest: u64,
    /// Last frame of a stream that tells of it.
    pub heard: Moment,
    /// A stream has told all that was there when it began, and goes on. Of our own: not [`Share::recovering`].
    pub caught_up: bool,
}

/// The entry of a peer.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    pub owner: ServerId,
    pub generation: u64,
    pub seq: u64,
    pub epoch: u64,
    pub attach: u64,
    /// `None`: it was forgotten.
    pub lot: Option<&'a Packed>,
    /// It was forgotten by an operator's will.
    pub banned: bool,
    /// When it came here.
    pub told: Moment,
}

impl<'a> From<&'a Slot> for EntryRef<'a> {
    fn from(slot: &'a Slot) -> Self {
        let Slot { owner, generation, seq, epoch, attach, banned, told, .. } = *slot;
        Self { owner, generation, seq, epoch, attach, lot: slot.lot.as_ref(), banned, told }
    }
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShareStats {
    /// Entries that others told and that were news.
    pub applied: u64,
    /// Entries that were older than what is held: told by others, or our own of a peer that has moved.
    pub stale: u64,
    /// Entries dropped because a telling anew did not name them.
    pub swept: u64,
    /// Tombstones made or taken.
    pub buried: u64,
    /// Tombstones whose life was over.
    pub unburied: u64,
    /// Entries of others that there was no room for.
    pub shed: u64,
    /// Entries dropped with an owner that was given up.
    pub orphaned: u64,
    /// Streams to us that told anew, and that went on.
    pub taken_anew: u64,
    pub taken_on: u64,
    /// Streams of ours that told anew, and that went on.
    pub told_anew: u64,
    pub told_on: u64,
    /// Digests that differed for too long.
    pub mismatches: u64,
    /// Bytes of all lots now.
    pub lot_bytes: usize,
}

#[derive(Debug)]
pub struct Share {
    config: ShareConfig,
    me: ServerId,
    generation: u64,
    started: Moment,
    /// As last told by the caller.
    now: Moment,
    store: Store,
    /// By owner; ours is always there.
    logs: BTreeMap<ServerId, Log>,
    /// Tombstones, by when they came.
    graves: BTreeSet<(Moment, PeerId)>,
    changed: BTreeSet<PeerId>,
    followers: BTreeMap<FollowerId, Cursor>,
    ready: VecDeque<FollowerId>,
    /// `None`: all that we owned before our start is here, or given up.
    recovery: Option<care::Recovery>,
    /// No heartbeat is due before, and no owner is given up.
    beat_at: Option<Moment>,
    orphan_at: Option<Moment>,
    stats: ShareStats,
}

impl Share {
    /// `generation` counts our starts, from 1; the data directory keeps it.
    pub fn new(me: ServerId, generation: u64, config: ShareConfig, now: Moment) -> Self {
        Self {
            config,
            me,
            generation,
            started: now,
            now,
            store: Store::default(),
            logs: BTreeMap::from([(me, Log::new(now, generation))]),
            graves: BTreeSet::new(),
            changed: BTreeSet::new(),
            followers: BTreeMap::new(),
            ready: VecDeque::new(),
            recovery: (generation > 1).then(care::Recovery::default),
            beat_at: None,
            orphan_at: None,
            stats: ShareStats::default(),
        }
    }

    /// Shares what we know of a peer that is here. Returns the number under which it is told; the same again makes no new
    /// one. `None`: what is held is newer, because the peer is elsewhere or was forgotten; or epoch or attach is above
    /// [`NUMBER_MAX`], which no sibling takes.
    pub fn publish(&mut self, now: Moment, peer: PeerId, epoch: u64, attach: u64, lot: Packed) -> Option<u64> {
        self.write(now, Shared { peer, generation: 0, seq: 0, epoch, attach, lot: Some(lot), banned: false })
    }

    /// Shares that a peer is forgotten, whoever is its home: what is known of it up to (epoch, attach) is no more. Returns as
    /// [`Share::publish`].
    pub fn bury(&mut self, now: Moment, peer: PeerId, epoch: u64, attach: u64, banned: bool) -> Option<u64> {
        self.write(now, Shared { peer, generation: 0, seq: 0, epoch, attach, lot: None, banned })
    }

    fn write(&mut self, now: Moment, mut shared: Shared) -> Option<u64> {
        self.now = self.now.max(now);
        if shared.epoch.max(shared.attach) > NUMBER_MAX {
            return None;
        }
        let head = self.logs.get(&self.me)?.head;
        (shared.generation, shared.seq) = (self.generation, head + 1);
        let held = self.store.find(shared.peer);
        if let Some(held) = held.filter(|h| (h.owner, h.generation) == (self.me, shared.generation)) {
            let same = (held.epoch, held.attach, held.banned) == (shared.epoch, shared.attach, shared.banned);
            if same && held.lot == shared.lot {
                return Some(held.seq);
            }
        }
        let slot = Slot::new(self.me, shared, self.now);
        if held.is_some_and(|held| held.rank() >= slot.rank()) {
            self.stats.stale += 1;
            return None;
        }
        let seq = slot.seq;
        self.put(slot);
        self.wake(self.me);
        Some(seq)
    }

    /// The next peer whose entry is another since it was last looked at, by what others told or by time.
    pub fn changed(&mut self) -> Option<PeerId> {
        self.changed.pop_first()
    }

    /// What to ask this server for when a stream about this owner is opened. Our own: what we owned before our start.
    pub fn want(&self, owner: ServerId, at: ServerId) -> Follow {
        let log = self.logs.get(&owner);
        let generation = log.map_or(0, |log| log.generation);
        let mark = log.map(|log| log.mark(at == owner)).filter(|mark| mark.complete);
        Follow { owner, generation, from: mark.map_or(0, |mark| mark.held) }
    }

    pub fn origin(&self, owner: ServerId) -> Option<Origin> {
        self.logs.get(&owner).map(|log| self.summary(owner, log))
    }

    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        self.logs.iter().map(|(owner, log)| self.summary(*owner, log))
    }

    fn summary(&self, owner: ServerId, log: &Log) -> Origin {
        let own = owner == self.me;
        Origin {
            owner,
            generation: log.generation,
            upto: if own { log.head } else { log.all.held },
            entries: log.order.len(),
            digest: log.digest,
            heard: if own { self.now } else { log.heard },
            caught_up: if own { !self.recovering() } else { log.all.complete && log.is_followed() },
        }
    }

    /// We were restarted, and what we owned before has not come back yet: of a peer that attaches now, its earlier ledgers may
    /// still be unknown.
    pub fn recovering(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.is_on(self.now, self.started + self.config.recover))
    }

    pub fn entry(&self, peer: PeerId) -> Option<EntryRef<'_>> {
        self.store.find(peer).map(Into::into)
    }

    /// Entries in the order of their peers, after this one.
    pub fn after(&self, peer: Option<PeerId>) -> impl Iterator<Item = (PeerId, EntryRef<'_>)> {
        self.store.after(peer).map(|slot| (slot.peer, slot.into()))
    }

    /// Entries, tombstones included.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn stats(&self) -> ShareStats {
        ShareStats { lot_bytes: self.store.lot_bytes(), ..self.stats }
    }

    /// Puts an entry in, in the place of the peer's older one. Its owner's log is there.
    fn put(&mut self, mut slot: Slot) {
        let Some(log) = self.logs.get_mut(&slot.owner) else { return };
        log.head += 1;
        log.digest ^= slot.hash;
        let (owner, peer, stamp) = (slot.owner, slot.peer, log.head);
        slot.stamp = stamp;
        if slot.lot.is_none() {
            self.stats.buried += 1;
            self.graves.insert((slot.told, peer));
        }
        let (handle, old) = self.store.put(slot);
        if let Some(old) = old {
            self.unlink(&old);
        }
        if let Some(log) = self.logs.get_mut(&owner) {
            log.order.insert(stamp, handle);
        }
    }

    /// Takes an entry out.
    fn cut(&mut self, peer: PeerId) -> Option<Slot> {
        let slot = self.store.remove(peer)?;
        self.unlink(&slot);
        Some(slot)
    }

    fn unlink(&mut self, slot: &Slot) {
        // One told at the same time as its successor has the same key.
        if slot.lot.is_none() && self.store.find(slot.peer).is_none_or(|s| s.lot.is_some() || s.told != slot.told) {
            self.graves.remove(&(slot.told, slot.peer));
        }
        if let Some(log) = self.logs.get_mut(&slot.owner) {
            log.order.remove(&slot.stamp);
            log.digest ^= slot.hash;
        }
    }
}
