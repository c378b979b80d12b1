//! Who watches: polls each buddy and concludes its Liveness from what comes back, never from a goodbye alone.
//!
//! A buddy is polled every `interval`, each at a phase and with a jitter of its own so that buddies do not align. After a
//! miss it is polled every `retry` until it answers or is gone; gone buddies are polled every `interval` again, and those
//! that left every sixth, so that their return is seen even if they do not call.
//!
//! `gone` needs three misses in a row of pings opened since something authenticated was last heard, *and* silence: nothing
//! heard within `interval` (+10 %) and `patience`. So on a path that is cut one way the side that still hears never says
//! gone, and a buddy that fell silent, cut off before or not, is gone at the latest `interval` + 10 % + `patience` after it
//! was last heard, or at the third miss.
//!
//! Who did not run for a while has heard nothing for want of listening: after [`Watcher::doubt`] misses and silence count
//! from then on (the "local health" of Lifeguard, arXiv:1707.00788, in its simplest form).
//!
//! `left` is the buddy's own word, and what it sent before may arrive after it. So it ends with another start of the buddy,
//! or with the answer to a ping that was opened since; anything else heard only hastens that ping.

mod buddy;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    id::{Minter, PeerId},
    moment::{Moment, nanos},
    record::Reason,
    status::{Liveness, Status},
};

pub use self::buddy::{Buddy, Change};

/// Misses in a row that make a silent buddy gone.
const MISSED_GONE: u32 = 3;
/// A buddy that left is polled this many times less often.
const LEFT_SLOWER: u32 = 6;
/// First polls fall within this span after the watching begins, the second ones anywhere within an interval.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub struct WatcherConfig {
    pub interval: Duration,
    pub retry: Duration,
    /// How long a ping waits for its pong.
    pub patience: Duration,
}

impl Default for WatcherConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), retry: Duration::from_secs(1), patience: Duration::from_secs(5) }
    }
}

#[derive(Debug)]
pub struct Watcher {
    config: WatcherConfig,
    buddies: BTreeMap<PeerId, Buddy>,
    due: BTreeSet<(Moment, PeerId)>,
    /// Since when we run without a stall; silence before it proves nothing.
    awake: Option<Moment>,
}

impl Watcher {
    pub fn new(config: WatcherConfig) -> Self {
        Self { config, buddies: BTreeMap::new(), due: BTreeSet::new(), awake: None }
    }

    /// Begins to watch; `false` if it is watched already.
    pub fn watch(&mut self, now: Moment, peer: PeerId, minter: &mut Minter) -> bool {
        if self.buddies.contains_key(&peer) {
            return false;
        }
        let span = FIRST_WITHIN.min(self.config.interval);
        let due = now + Duration::from_nanos(minter.below(nanos(span)));
        self.buddies.insert(peer, Buddy::new(now, due));
        self.due.insert((due, peer));
        true
    }

    pub fn unwatch(&mut self, peer: PeerId) -> bool {
        let Some(buddy) = self.buddies.remove(&peer) else { return false };
        self.due.remove(&(buddy.due, peer));
        true
    }

    /// Takes another configuration. Turns that are further off than it has them are drawn anew.
    pub fn reconfigure(&mut self, now: Moment, config: WatcherConfig, minter: &mut Minter) {
        self.config = config;
        let late = |b: &Buddy| b.due > now + self.pause(b) * 11 / 10;
        let late: Vec<PeerId> = self.buddies.iter().filter(|(_, b)| late(b)).map(|(p, _)| *p).collect();
        for peer in late {
            let pause = self.pause(&self.buddies[&peer]);
            self.reschedule(peer, now + Duration::from_nanos(minter.below(nanos(pause))));
        }
    }

    /// We did not run for a while, or were cut off by our own doing: whom we missed meanwhile may be well. Nobody is gone
    /// before three more misses and a whole silence from now on; all but those that left are asked within a second.
    pub fn doubt(&mut self, now: Moment, minter: &mut Minter) {
        self.awake = Some(now);
        let span = nanos(FIRST_WITHIN.min(self.config.interval));
        let here: Vec<PeerId> =
            self.buddies.iter().filter(|(_, b)| b.liveness != Some(Liveness::Left)).map(|(p, _)| *p).collect();
        for peer in here {
            if let Some(buddy) = self.buddies.get_mut(&peer) {
                buddy.unheard = 0;
            }
            self.reschedule(peer, now + Duration::from_nanos(minter.below(span)));
        }
    }

    pub fn buddies(&self) -> impl Iterator<Item = (PeerId, &Buddy)> {
        self.buddies.iter().map(|(p, b)| (*p, b))
    }

    pub fn buddy(&self, peer: PeerId) -> Option<&Buddy> {
        self.buddies.get(&peer)
    }

    pub fn len(&self) -> usize {
        self.buddies.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buddies.is_empty()
    }

    /// The next buddy to ping; its following turn is set. Call until `None`.
    pub fn due(&mut self, now: Moment, minter: &mut Minter) -> Option<PeerId> {
        let &(_, peer) = self.due.first().filter(|(due, _)| *due <= now)?;
        let pause = self.pause(&self.buddies[&peer]);
        let buddy = self.buddies.get_mut(&peer)?;
        let next = if std::mem::take(&mut buddy.first) {
            now + Duration::from_nanos(minter.below(nanos(pause))) // from here on buddies are spread
        } else {
            now + pause * 9 / 10 + Duration::from_nanos(minter.below(nanos(pause) / 5 + 1)) // +-10 %
        };
        self.reschedule(peer, next);
        Some(peer)
    }

    /// Makes a buddy's turn come at `when`, if that is sooner than planned.
    pub fn hasten(&mut self, peer: PeerId, when: Moment) {
        if self.buddies.get(&peer).is_some_and(|b| when < b.due) {
            self.reschedule(peer, when);
        }
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.due.first().map(|(m, _)| *m)
    }

    /// A pong came in time to the ping opened at `opened`.
    pub fn answered(
        &mut self,
        now: Moment,
        peer: PeerId,
        opened: Moment,
        (status, version): (Status, u64),
        out: &mut Vec<Change>,
    ) {
        let turn = now + self.config.interval;
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        if buddy.liveness == Some(Liveness::Left) {
            if opened < buddy.since {
                return; // from before its goodbye
            }
            self.hasten(peer, turn);
        }
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        buddy.heard_at = Some(now);
        buddy.answered_at = Some(now);
        buddy.missed = 0;
        buddy.missed_for = None;
        buddy.streak_from = None;
        buddy.unheard = 0;
        buddy.says(peer, status, version, out);
        buddy.conclude(now, peer, Liveness::Live, out);
    }

    /// A ping opened at `opened` was not answered in time.
    pub fn missed(&mut self, now: Moment, peer: PeerId, opened: Moment, reason: Reason, out: &mut Vec<Change>) {
        let (silence, awake) = (self.silence(), self.awake);
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        // Pings opened before the last answer say nothing about now: the answer to a later one has come.
        if buddy.answered_at.is_some_and(|a| a >= opened) {
            return;
        }
        buddy.missed = buddy.missed.saturating_add(1);
        buddy.missed_for = Some(reason);
        buddy.streak_from.get_or_insert(opened);
        if buddy.heard_at.is_none_or(|h| h < opened) {
            buddy.unheard = buddy.unheard.saturating_add(1);
        }
        if buddy.liveness == Some(Liveness::Left) {
            return;
        }
        let silent = buddy.heard_at.max(awake).is_none_or(|from| now.since(from) >= silence);
        let gone = buddy.unheard >= MISSED_GONE && silent;
        let verdict = if gone { Liveness::Gone } else { Liveness::Overdue };
        // Gone is not softened by one more miss, only by hearing something.
        if buddy.liveness != Some(Liveness::Gone) || gone {
            buddy.conclude(now, peer, verdict, out);
        }
        if verdict == Liveness::Overdue {
            let retry = now + self.config.retry;
            self.hasten(peer, retry);
        }
    }

    /// Something authenticated came from it.
    pub fn heard(&mut self, now: Moment, peer: PeerId, out: &mut Vec<Change>) {
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        let heard_before = buddy.hears();
        buddy.heard_at = Some(now);
        buddy.unheard = 0;
        match buddy.liveness {
            Some(Liveness::Overdue) if !heard_before => return out.push(Change::Heard { peer }),
            Some(Liveness::Gone) => buddy.conclude(now, peer, Liveness::Overdue, out),
            Some(Liveness::Left) => {}
            _ => return,
        }
        self.hasten(peer, now);
    }

    /// A late pong: no answer in time, but what it says is news.
    pub fn late(&mut self, now: Moment, peer: PeerId, status: Status, version: u64, out: &mut Vec<Change>) {
        if let Some(buddy) = self.buddies.get_mut(&peer) {
            buddy.says(peer, status, version, out);
        }
        self.heard(now, peer, out);
    }

    /// It said goodbye.
    pub fn left(&mut self, now: Moment, peer: PeerId, out: &mut Vec<Change>) {
        let pause = self.config.interval * LEFT_SLOWER;
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        buddy.conclude(now, peer, Liveness::Left, out);
        self.reschedule(peer, now + pause);
    }

    /// It is another start of the peer, which was heard: its versions begin anew, and if it had left, it is back.
    pub fn restarted(&mut self, now: Moment, peer: PeerId, out: &mut Vec<Change>) {
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        buddy.version = 0;
        if buddy.liveness == Some(Liveness::Left) {
            buddy.conclude(now, peer, Liveness::Overdue, out);
            self.hasten(peer, now);
        }
        self.heard(now, peer, out);
    }

    /// The longest silence of a buddy that is not yet gone.
    pub fn silence(&self) -> Duration {
        self.config.interval + self.config.interval / 10 + self.config.patience
    }

    fn pause(&self, buddy: &Buddy) -> Duration {
        match buddy.liveness {
            Some(Liveness::Left) => self.config.interval * LEFT_SLOWER,
            Some(Liveness::Gone) => self.config.interval,
            _ if buddy.missed > 0 => self.config.retry,
            _ => self.config.interval,
        }
    }

    fn reschedule(&mut self, peer: PeerId, when: Moment) {
        if let Some(buddy) = self.buddies.get_mut(&peer) {
            self.due.remove(&(buddy.due, peer));
            buddy.due = when;
            self.due.insert((when, peer));
        }
    }
}

#[cfg(test)]
mod tests;
