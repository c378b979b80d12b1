//! Taking what others tell.

use pams_shared::{
    frame::{Deltas, Held, Shared},
    id::{PeerId, ServerId},
    moment::Moment,
};

use super::{
    NUMBER_MAX, ORIGINS_MAX, Share, ShareError,
    log::{Log, Settled},
    store::{Slot, rank},
};

impl Share {
    /// Takes a frame of a stream from this server; returns what to acknowledge. Frames are taken in the order of the stream,
    /// and of an older stream from the same server about the same owner none may be taken any more.
    ///
    /// # Errors
    /// The sender's fault, or ([`ShareError::Differs`], [`ShareError::Gap`]) the end of what can be cured by going on: close the
    /// stream, and open another with [`Share::want`].
    pub fn take(&mut self, now: Moment, from: ServerId, deltas: Deltas) -> Result<Held, ShareError> {
        self.now = self.now.max(now);
        check(&deltas)?;
        if deltas.owner == self.me {
            return self.take_back(from, deltas);
        }
        let Deltas { owner, generation, bulk_end, upto, digest, .. } = deltas;
        let direct = from == owner;
        if !self.admit(from, &deltas)? {
            return Ok(self.held_of(owner, direct));
        }
        let now = self.now;
        let log = self.logs.get_mut(&owner).ok_or(ShareError::NotBegun { owner })?;
        let line = log.line(from).ok_or(ShareError::NotBegun { owner })?;
        line.check(owner, direct, &deltas)?;
        line.upto = upto;
        let (anew, before) = (line.round, log.all.held);
        log.heard = now;
        let mark = anew.unwrap_or(log.round);
        let shed = self.stats.shed;
        let applied = self.tell_all(owner, direct, mark, deltas.entries);
        let log = self.logs.get_mut(&owner).ok_or(ShareError::NotBegun { owner })?;
        if let Some(line) = log.line(from) {
            line.hole |= self.stats.shed > shed;
        }
        log.reach(from, direct, upto);
        let mut done = false;
        if bulk_end {
            done = log.end(from, direct, upto);
            if let Some(round) = anew {
                // What the owner wrote before its last start may be only here, and it may not have got it back yet.
                let since = if direct { 0 } else { generation };
                self.sweep(owner, round, Settled { since, to: (generation, upto) });
            }
        }
        let log = self.logs.get_mut(&owner).ok_or(ShareError::NotBegun { owner })?;
        if direct || applied > 0 || log.all.held > before {
            log.news = now;
        }
        if applied > 0 || done {
            self.wake(owner);
        }
        if direct {
            self.compare(owner, upto, digest)?;
        }
        Ok(self.held_of(owner, direct))
    }

    /// Whether a frame is to be taken; false: it is of an older generation, which a relay may not know yet.
    fn admit(&mut self, from: ServerId, deltas: &Deltas) -> Result<bool, ShareError> {
        let Deltas { owner, generation, anew, upto, .. } = *deltas;
        let begins = begins(deltas);
        if !self.logs.contains_key(&owner) {
            if !begins {
                return Err(ShareError::NotBegun { owner });
            }
            self.make_room(owner)?;
            self.logs.insert(owner, Log::new(self.now, generation));
            self.orphan_at.get_or_insert(self.now + self.config.orphan_life);
        }
        let Some(log) = self.logs.get_mut(&owner) else { return Ok(false) };
        if generation < log.generation {
            let older = ShareError::Older { owner, generation, known: log.generation };
            return if from == owner { Err(older) } else { Ok(false) };
        }
        if generation > log.generation {
            if !begins {
                return Err(ShareError::NotBegun { owner });
            }
            log.renew(self.now, generation);
        }
        log.ripe |= self.now.since(log.since) >= self.config.tombstone_life;
        if begins {
            let mark = log.mark(from == owner);
            let held = if mark.complete { mark.held } else { 0 };
            if !anew && upto > held {
                return Err(ShareError::Gap { owner, begins: upto, held });
            }
            log.begin(from, anew, upto);
            *(if anew { &mut self.stats.taken_anew } else { &mut self.stats.taken_on }) += 1;
        }
        Ok(true)
    }

    /// Forgets an owner that is given up if there is no room for another.
    fn make_room(&mut self, owner: ServerId) -> Result<(), ShareError> {
        if self.logs.len() < ORIGINS_MAX {
            return Ok(());
        }
        let empty = |log: &Log| log.order.is_empty() && !log.is_followed() && !log.is_being_told();
        let spare = self.logs.iter().filter(|(id, log)| **id != self.me && empty(log)).min_by_key(|(_, log)| log.news);
        let spare = spare.map(|(id, _)| *id).ok_or(ShareError::Origins { owner })?;
        self.logs.remove(&spare);
        Ok(())
    }

    fn held_of(&self, owner: ServerId, direct: bool) -> Held {
        let log = self.logs.get(&owner);
        let (generation, upto) = log.map_or((0, 0), |log| (log.generation, log.mark(direct).held));
        Held { generation, upto }
    }

    /// Takes what we owned before our start.
    fn take_back(&mut self, from: ServerId, deltas: Deltas) -> Result<Held, ShareError> {
        let Deltas { owner, generation, anew, bulk_end, upto, .. } = deltas;
        let held = Held { generation, upto };
        let recent = self.now.since(self.started) < self.config.tombstone_life;
        let mine = self.generation;
        let log = self.logs.get_mut(&owner).ok_or(ShareError::NotBegun { owner })?;
        let ours = deltas.entries.iter().filter(|entry| entry.generation == mine).map(|entry| entry.seq).max();
        let seq = if generation > mine { upto } else { ours.unwrap_or(0) };
        if generation > mine || seq > log.head {
            return Err(ShareError::Impostor { generation, seq });
        }
        // What we buried since our start is known for so long; later, what a sibling brings may have been buried.
        if !recent {
            return Ok(held);
        }
        if begins(&deltas) {
            if !anew {
                return Err(ShareError::Gap { owner, begins: upto, held: 0 });
            }
            log.begin(from, true, 0);
        }
        let line = log.line(from).ok_or(ShareError::NotBegun { owner })?;
        line.check(owner, false, &deltas)?;
        let round = line.round.unwrap_or(0);
        line.upto = upto;
        line.ended |= bulk_end;
        let earlier = deltas.entries.into_iter().filter(|entry| entry.generation < mine).collect();
        let applied = self.tell_all(owner, false, round, earlier);
        if bulk_end && upto > 0 && generation < mine {
            let known = Settled { since: if anew { 0 } else { generation }, to: (generation, upto) };
            self.sweep(owner, round, known);
            if let Some(log) = self.logs.get_mut(&owner).filter(|log| log.settled.to < known.to) {
                log.settled = known;
            }
        }
        if applied > 0 {
            self.wake(owner);
        }
        self.contact(bulk_end);
        Ok(held)
    }

    fn tell_all(&mut self, owner: ServerId, direct: bool, mark: u32, entries: Vec<Shared>) -> usize {
        entries.into_iter().filter_map(|entry| self.tell(owner, direct, mark, entry)).count()
    }

    /// Takes one entry; `Some` if it is news.
    fn tell(&mut self, owner: ServerId, direct: bool, mark: u32, shared: Shared) -> Option<()> {
        let (peer, rank) = (shared.peer, rank(owner, &shared));
        let held = self.store.find_mut(peer);
        let known = held.as_ref().map(|held| held.rank());
        if let Some(held) = held.filter(|held| held.owner == owner && held.rank() >= rank) {
            held.round = held.round.max(mark);
            self.stats.stale += u64::from(held.rank() > rank);
            return None;
        }
        let log = self.logs.get_mut(&owner)?;
        let settled = !direct && log.is_settled(shared.generation, shared.seq);
        if settled || known.is_some_and(|known| known >= rank) {
            self.stats.stale += 1;
            return None;
        }
        if owner != self.me && known.is_none() && self.store.len() >= self.config.entries_max {
            self.stats.shed += 1;
            return None;
        }
        if shared.generation < log.generation {
            log.before = log.before.max(shared.generation);
        }
        self.put(Slot { round: mark, ..Slot::new(owner, shared, self.now) });
        self.changed.insert(peer);
        self.stats.applied += 1;
        Some(())
    }

    /// Drops this part of what is held of the owner, but for what was told since the round began.
    fn sweep(&mut self, owner: ServerId, round: u32, part: Settled) {
        let Some(log) = self.logs.get(&owner) else { return };
        // What we wrote ourselves since our start nobody else can know better.
        let below = if owner == self.me { self.generation } else { u64::MAX };
        let within = |s: &Slot| s.generation < below && part.contains(s.generation, s.seq);
        let doomed = |s: &&Slot| s.round < round && within(s);
        let slots = log.order.values().filter_map(|handle| self.store.at(*handle)).filter(doomed);
        let doomed: Vec<PeerId> = slots.map(|slot| slot.peer).collect();
        self.drop_silently(owner, &doomed);
        self.stats.swept += doomed.len() as u64;
    }

    /// Drops entries without a tombstone; whoever follows the owner here is told anew.
    pub(super) fn drop_silently(&mut self, owner: ServerId, doomed: &[PeerId]) {
        let mut lived = false;
        for peer in doomed {
            lived |= self.cut(*peer).is_some_and(|slot| slot.lot.is_some());
            self.changed.insert(*peer);
        }
        if let Some(log) = self.logs.get_mut(&owner).filter(|_| lived) {
            log.cut += 1;
            self.wake(owner);
        }
    }

    /// Compares what the owner says that it shares with what is held of it.
    fn compare(&mut self, owner: ServerId, upto: u64, digest: Option<u64>) -> Result<(), ShareError> {
        let Some(log) = self.logs.get_mut(&owner) else { return Ok(()) };
        let Some(digest) = digest.filter(|_| log.direct.complete && log.direct.held == upto) else {
            return Ok(());
        };
        if log.doubt.compare(self.now, digest == log.digest) {
            log.doubt();
            self.stats.mismatches += 1;
            return Err(ShareError::Differs { owner });
        }
        Ok(())
    }
}

/// The first frame of a stream.
pub(super) fn begins(deltas: &Deltas) -> bool {
    deltas.bulk && !deltas.bulk_end && deltas.entries.is_empty()
}

fn check(deltas: &Deltas) -> Result<(), ShareError> {
    within("deltas.generation", deltas.generation, NUMBER_MAX)?;
    within("deltas.upto", deltas.upto, NUMBER_MAX)?;
    for entry in &deltas.entries {
        within("shared.generation", entry.generation, deltas.generation)?;
        within("shared.seq", entry.seq, NUMBER_MAX)?;
        within("shared.epoch", entry.epoch, NUMBER_MAX)?;
        within("shared.attach", entry.attach, NUMBER_MAX)?;
    }
    Ok(())
}

fn within(field: &'static str, is: u64, max: u64) -> Result<(), ShareError> {
    if is > max { Err(ShareError::Absurd { field, is, max }) } else { Ok(()) }
}
