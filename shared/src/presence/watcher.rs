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

/// One watched peer and what is concluded of it.
#[derive(Clone, Debug)]
pub struct Buddy {
    /// `None`: not judged yet.
    pub liveness: Option<Liveness>,
    /// When the liveness last changed.
    pub since: Moment,
    /// What it last said; `None`: never heard.
    pub status: Option<Status>,
    /// Version of the presence information that the status came with.
    pub version: u64,
    /// Misses in a row.
    pub missed: u32,
    /// Why the last one was missed.
    pub missed_for: Option<Reason>,
    /// When something authenticated last came from it.
    pub heard_at: Option<Moment>,
    /// When it last showed that it gets what we send.
    pub answered_at: Option<Moment>,
    streak_from: Option<Moment>,
    /// Misses of pings opened since it was last heard.
    unheard: u32,
    first: bool,
    due: Moment,
}

impl Buddy {
    /// Something authenticated came from it since the misses began (or ever, if none is missed).
    pub fn hears(&self) -> bool {
        match (self.heard_at, self.streak_from) {
            (Some(heard), Some(from)) => heard >= from,
            (heard, None) => heard.is_some(),
            (None, _) => false,
        }
    }

    /// It answered the last ping that was due: it gets what we send.
    pub fn is_heard(&self) -> bool {
        self.missed == 0 && self.answered_at.is_some()
    }
}

/// A conclusion that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Liveness {
        peer: PeerId,
        from: Option<Liveness>,
        to: Liveness,
    },
    Status {
        peer: PeerId,
        from: Option<Status>,
        to: Status,
    },
    /// It is overdue, and something has come from it since: we hear it, and it may not hear us. Told once for each run of
    /// misses.
    Heard {
        peer: PeerId,
    },
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
        let buddy = Buddy {
            liveness: None,
            since: now,
            status: None,
            version: 0,
            missed: 0,
            missed_for: None,
            heard_at: None,
            answered_at: None,
            streak_from: None,
            unheard: 0,
            first: true,
            due,
        };
        self.buddies.insert(peer, buddy);
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
        says(buddy, peer, status, version, out);
        conclude(buddy, now, peer, Liveness::Live, out);
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
            conclude(buddy, now, peer, verdict, out);
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
            Some(Liveness::Gone) => conclude(buddy, now, peer, Liveness::Overdue, out),
            Some(Liveness::Left) => {}
            _ => return,
        }
        self.hasten(peer, now);
    }

    /// A late pong: no answer in time, but what it says is news.
    pub fn late(&mut self, now: Moment, peer: PeerId, status: Status, version: u64, out: &mut Vec<Change>) {
        if let Some(buddy) = self.buddies.get_mut(&peer) {
            says(buddy, peer, status, version, out);
        }
        self.heard(now, peer, out);
    }

    /// It said goodbye.
    pub fn left(&mut self, now: Moment, peer: PeerId, out: &mut Vec<Change>) {
        let pause = self.config.interval * LEFT_SLOWER;
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        conclude(buddy, now, peer, Liveness::Left, out);
        self.reschedule(peer, now + pause);
    }

    /// It is another start of the peer, which was heard: its versions begin anew, and if it had left, it is back.
    pub fn restarted(&mut self, now: Moment, peer: PeerId, out: &mut Vec<Change>) {
        let Some(buddy) = self.buddies.get_mut(&peer) else { return };
        buddy.version = 0;
        if buddy.liveness == Some(Liveness::Left) {
            conclude(buddy, now, peer, Liveness::Overdue, out);
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

fn conclude(buddy: &mut Buddy, now: Moment, peer: PeerId, to: Liveness, out: &mut Vec<Change>) {
    let from = buddy.liveness;
    if from != Some(to) {
        buddy.liveness = Some(to);
        buddy.since = now;
        out.push(Change::Liveness { peer, from, to });
    }
}

/// Takes what the buddy says of itself, unless it is older than what is known.
fn says(buddy: &mut Buddy, peer: PeerId, status: Status, version: u64, out: &mut Vec<Change>) {
    if version < buddy.version {
        return;
    }
    buddy.version = version;
    let from = buddy.status.replace(status);
    if from != Some(status) {
        out.push(Change::Status { peer, from, to: status });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: PeerId = PeerId::from_bytes([2; 16]);

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    /// Runs a script: `12.5 pong` (`pong 12.1`: to a ping opened at 12.1), `15 miss 10` (opened at 10), `20 heard`,
    /// `21 bye`, `22 late`, `23 restarted`, `24 slept` (we did); returns the conclusions as they come.
    fn check(script: &str, expected: &str) {
        let mut minter = Minter::new([1; 32]);
        let mut w = Watcher::new(WatcherConfig::default());
        w.watch(at(0), B, &mut minter);
        let mut seen = Vec::new();
        for line in script.split('|') {
            let mut words = line.split_whitespace();
            let secs = |s: &str| at((s.parse::<f64>().unwrap() * 1e3) as u64);
            let now = secs(words.next().unwrap());
            let mut out = Vec::new();
            match words.next().unwrap() {
                "pong" => w.answered(now, B, words.next().map_or(now, secs), (Status::Online, 1), &mut out),
                "miss" => w.missed(now, B, secs(words.next().unwrap()), Reason::NoAnswer, &mut out),
                "heard" => w.heard(now, B, &mut out),
                "bye" => w.left(now, B, &mut out),
                "restarted" => w.restarted(now, B, &mut out),
                "late" => w.late(now, B, Status::Busy, 2, &mut out),
                "slept" => w.doubt(now, &mut minter),
                other => panic!("{other}"),
            }
            for change in out {
                let what = match change {
                    Change::Liveness { to, .. } => to.as_str(),
                    Change::Status { to, .. } => to.as_str(),
                    Change::Heard { .. } => "heard",
                };
                seen.push(format!("{} {what}", now.ns() as f64 / 1e9));
            }
        }
        assert_eq!(seen.join(" | "), expected);
    }

    #[test]
    fn a_silent_buddy_is_overdue_and_then_gone() {
        check(
            "0.1 pong | 15 miss 10 | 16 miss 11 | 17 miss 12 | 18 miss 13",
            "0.1 online | 0.1 live | 15 overdue | 17 gone",
        );
    }

    #[test]
    fn one_that_is_still_heard_is_never_gone_and_goes_when_it_falls_silent() {
        // One-way block: our pings are lost, its own arrive, the last at 18; silence is 16 s.
        check(
            "0.1 pong | 15 miss 10 | 15.5 heard | 16 miss 11 | 17 miss 12 | 18 heard | 19 miss 14 | 33.9 miss 28 | 34 miss 29",
            "0.1 online | 0.1 live | 15 overdue | 15.5 heard",
        );
        check(
            "0.1 pong | 15 miss 10 | 16 miss 11 | 17 miss 12 | 20 heard",
            "0.1 online | 0.1 live | 15 overdue | 17 gone | 20 overdue",
        );
    }

    #[test]
    fn one_that_was_heard_after_the_misses_began_and_then_fell_silent_is_gone() {
        check(
            "0.1 pong | 15 miss 10 | 15.5 heard | 16 miss 11 | 21 miss 16 | 31.4 miss 26.4 | 31.6 miss 26.6",
            "0.1 online | 0.1 live | 15 overdue | 15.5 heard | 31.6 gone",
        );
    }

    #[test]
    fn a_goodbye_is_left_at_once_and_stays_so_until_it_starts_again() {
        check(
            "0.1 pong | 3 bye | 8 miss 3 | 9 miss 4 | 10 miss 5 | 60 restarted | 61 pong",
            "0.1 online | 0.1 live | 3 left | 60 overdue | 60 heard | 61 live",
        );
    }

    #[test]
    fn what_was_sent_before_a_goodbye_and_comes_after_it_brings_nobody_back() {
        check("0.1 pong | 3 bye | 3.1 pong 2.9 | 3.2 heard | 3.3 late", "0.1 online | 0.1 live | 3 left | 3.3 busy");
        // A goodbye that came out of turn: the ping that is hastened by what is heard is answered.
        check("0.1 pong | 3 bye | 9 heard | 9.1 pong 9", "0.1 online | 0.1 live | 3 left | 9.1 live");
        let (mut w, mut minter, mut out) = (Watcher::new(WatcherConfig::default()), Minter::new([1; 32]), Vec::new());
        w.watch(at(0), B, &mut minter);
        w.left(at(3_000), B, &mut out);
        assert_eq!(w.deadline(), Some(at(63_000)));
        w.restarted(at(4_000), B, &mut out);
        assert_eq!(w.deadline(), Some(at(4_000)), "another start is called at once");
        w.left(at(5_000), B, &mut out);
        w.heard(at(9_000), B, &mut out);
        assert_eq!(w.deadline(), Some(at(9_000)));
        assert_eq!(w.due(at(9_000), &mut minter), Some(B));
        w.answered(at(9_100), B, at(9_000), (Status::Online, 1), &mut out);
        assert!(w.deadline().unwrap() <= at(19_100), "watched as often as others again");
    }

    #[test]
    fn a_miss_from_before_the_last_answer_says_nothing() {
        check("0.1 pong | 12 pong | 15 miss 10", "0.1 online | 0.1 live");
    }

    #[test]
    fn a_late_pong_is_news_of_the_status_but_no_answer() {
        check("0.1 pong | 15 miss 10 | 15.2 late", "0.1 online | 0.1 live | 15 overdue | 15.2 busy | 15.2 heard");
    }

    #[test]
    fn never_heard_is_gone_after_three() {
        check("5 miss 0 | 6 miss 1 | 7 miss 2", "5 overdue | 7 gone");
    }

    #[test]
    fn buddies_do_not_align_and_a_miss_is_retried_each_second() {
        let mut minter = Minter::new([3; 32]);
        let mut w = Watcher::new(WatcherConfig::default());
        let peers: Vec<PeerId> = (1..=50).map(|n| PeerId::from_bytes([n; 16])).collect();
        peers.iter().for_each(|p| assert!(w.watch(at(0), *p, &mut minter)));
        let (mut turns, mut out) = (BTreeMap::<PeerId, Vec<u64>>::new(), Vec::new());
        for ms in 0..60_000 {
            while let Some(p) = w.due(at(ms), &mut minter) {
                turns.entry(p).or_default().push(ms);
                w.answered(at(ms), p, at(ms), (Status::Online, 1), &mut out);
            }
        }
        for t in turns.values() {
            assert!((6..=8).contains(&t.len()), "{t:?}");
            assert!(t[1..].windows(2).all(|w| (8_999..=11_001).contains(&(w[1] - w[0]))), "{t:?}");
        }
        let fullest = (0..60).map(|s| turns.values().flatten().filter(|ms| **ms / 1_000 == s && s > 1).count()).max();
        assert!(fullest.unwrap() < 16, "{fullest:?}");
        // One miss: its turn comes within 1.1 s, and again.
        let p = peers[0];
        w.missed(at(70_000), p, at(65_000), Reason::NoAnswer, &mut out);
        assert!(w.buddy(p).unwrap().due <= at(71_000));
        let turn = (70_000..).find(|ms| std::iter::from_fn(|| w.due(at(*ms), &mut minter)).any(|q| q == p)).unwrap();
        assert!((900..=1_100).contains(&(w.buddy(p).unwrap().due.since(at(turn)).as_millis())));
    }

    #[test]
    fn who_did_not_run_itself_finds_nobody_gone_for_a_whole_silence() {
        // Two misses before the sleep count no more, and neither does the hour of it.
        check(
            "0.1 pong | 15 miss 10 | 16 miss 11 | 3600 slept | 3606 miss 3601 | 3607 miss 3602 | 3608 miss 3603 | \
             3616.1 miss 3611",
            "0.1 online | 0.1 live | 15 overdue | 3616.1 gone",
        );
        check("0.1 pong | 3600 slept | 3600.5 pong | 3605 miss 3600.4", "0.1 online | 0.1 live");
    }

    #[test]
    fn after_a_sleep_all_are_asked_within_a_second_and_a_shorter_interval_holds_at_once() {
        let mut minter = Minter::new([1; 32]);
        let mut w = Watcher::new(WatcherConfig { interval: Duration::from_secs(3_600), ..WatcherConfig::default() });
        let peers: Vec<PeerId> = (1..=50).map(|n| PeerId::from_bytes([n; 16])).collect();
        for peer in &peers {
            w.watch(at(0), *peer, &mut minter);
            w.hasten(*peer, at(0));
            assert_eq!(w.due(at(0), &mut minter), Some(*peer));
        }
        let within = |w: &Watcher, ms: u64| w.buddies.values().filter(|b| b.due <= at(ms)).count();
        assert!(within(&w, 11_000) < 10);
        w.reconfigure(at(1_000), WatcherConfig::default(), &mut minter);
        assert_eq!(within(&w, 11_000), 50);
        assert!(within(&w, 6_000) < 40, "they are spread");
        w.doubt(at(1_000), &mut minter);
        assert_eq!((within(&w, 1_000), within(&w, 2_000)), (0, 50));
        assert!(w.unwatch(peers[0]) && !w.unwatch(peers[0]));
        assert_eq!((w.len(), w.due.len()), (49, 49));
    }
}
