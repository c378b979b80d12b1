//! What time does: tombstones end, owners are given up, idle streams show that they are, and after a restart we take what has
//! come back for all.

use std::time::Duration;

use pams_shared::{
    id::{PeerId, ServerId},
    moment::Moment,
};

use super::{Share, cursor::Pace, log::Log};

/// Entries dropped by one tick, so that it takes a few milliseconds; the next one is due at once.
const CARE_MAX: usize = 4_096;

/// How far we are in getting back what we owned before our start.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// When it is over in any case; `None`: no sibling was heard yet.
    by: Option<Moment>,
    /// When a sibling last told of it.
    last: Option<Moment>,
    /// A sibling has told all that it holds of it.
    answered: bool,
}

impl Recovery {
    /// It may still bring something: siblings were heard, or the start was not long ago.
    pub fn is_on(&self, now: Moment, alone: Moment) -> bool {
        self.by.is_some() || now < alone
    }

    /// When it is over; `open`: a sibling is still telling.
    fn due(&self, open: bool, settle: Duration) -> Option<Moment> {
        let quiet = self.last.filter(|_| self.answered && !open).map(|last| last + settle);
        self.by.into_iter().chain(quiet).min()
    }
}

impl Share {
    pub fn tick(&mut self, now: Moment) {
        self.now = self.now.max(now);
        self.unbury();
        self.give_up();
        self.beat();
        if self.recovered_at().is_some_and(|at| at <= self.now) {
            self.recovery = None;
            self.wake(self.me);
        }
    }

    /// When [`Share::tick`] has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let grave = self.graves.first().map(|(told, _)| *told + self.config.tombstone_life);
        [grave, self.orphan_at, self.beat_at, self.recovered_at()].into_iter().flatten().min()
    }

    fn recovered_at(&self) -> Option<Moment> {
        let open = self.logs.get(&self.me).is_some_and(Log::is_being_told);
        self.recovery.as_ref().and_then(|recovery| recovery.due(open, self.config.settle))
    }

    /// A sibling was heard of what we owned before our start, or may tell of it soon.
    pub(super) fn contact(&mut self, answered: bool) {
        if let Some(recovery) = &mut self.recovery {
            recovery.by.get_or_insert(self.now + self.config.recover);
            recovery.last = Some(self.now);
            recovery.answered |= answered;
        }
    }

    /// Drops tombstones whose life is over. Who holds less than they had may hold what they buried, and is told anew.
    fn unbury(&mut self) {
        for _ in 0..CARE_MAX {
            let Some(&(told, peer)) = self.graves.first() else { return };
            if told + self.config.tombstone_life > self.now {
                return;
            }
            self.graves.pop_first();
            let Some(slot) = self.cut(peer) else { continue };
            self.stats.unburied += 1;
            self.changed.insert(peer);
            let own = slot.owner == self.me;
            if let Some(log) = self.logs.get_mut(&slot.owner) {
                if own {
                    log.floor = log.floor.max(slot.stamp);
                } else if slot.generation == log.generation {
                    log.floor = log.floor.max(slot.seq);
                }
            }
        }
    }

    /// Drops the entries of owners that nobody had news of.
    fn give_up(&mut self) {
        if self.orphan_at.is_none_or(|at| at > self.now) {
            return;
        }
        let mut left = CARE_MAX;
        let due: Vec<ServerId> = self.orphans().filter(|(_, at)| *at <= self.now).map(|(owner, _)| owner).collect();
        for owner in due {
            let Some(log) = self.logs.get_mut(&owner) else { continue };
            log.doubt();
            let doomed: Vec<PeerId> =
                log.order.values().filter_map(|h| self.store.at(*h)).map(|s| s.peer).take(left).collect();
            left -= doomed.len();
            self.stats.orphaned += doomed.len() as u64;
            self.drop_silently(owner, &doomed);
        }
        self.orphan_at = self.orphans().map(|(_, at)| at).min();
    }

    /// Other owners of which something is held, and when they are given up.
    fn orphans(&self) -> impl Iterator<Item = (ServerId, Moment)> {
        let life = self.config.orphan_life;
        let others = self.logs.iter().filter(|(owner, log)| **owner != self.me && !log.order.is_empty());
        others.map(move |(owner, log)| (*owner, log.news + life))
    }

    /// Wakes the streams that have said nothing for a heartbeat.
    fn beat(&mut self) {
        if self.beat_at.is_none_or(|at| at > self.now) {
            return;
        }
        let (now, every) = (self.now, self.config.heartbeat);
        for (id, cursor) in &mut self.followers {
            if cursor.pace == Pace::Idle && cursor.last + every <= now {
                cursor.beat = true;
                cursor.pace = Pace::Queued;
                self.ready.push_back(*id);
            }
        }
        let next = self.followers.values().map(|cursor| cursor.last + every).min();
        self.beat_at = next.map(|next| if next > now { next } else { now + every });
    }
}
