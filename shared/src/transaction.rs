//! The transaction pool (ARM: start, stop, and what can go wrong between): opens, times, closes and expires, and keeps the
//! ledger conserved. What a transaction is for is the caller's context `T`, which comes back when it ends. No socket, no
//! clock, no opinion on what to do about a failure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map::Entry};

use uuid::Uuid;

use crate::{
    id::Correlator,
    moment::Moment,
    record::{Kind, Ledger, Outcome, Reason, Record, Stage, Stages},
    status::Status,
};

/// Transactions in flight, and the memory of the last ones that ended, so that late and second answers are recognised.
#[derive(Debug)]
pub struct Pool<T> {
    slots: BTreeMap<Correlator, Slot<T>>,
    deadlines: BTreeSet<(Moment, Correlator)>,
    ledgers: BTreeMap<Kind, Ledger>,
    past: HashMap<Correlator, Past>,
    past_order: VecDeque<Correlator>,
    slots_max: usize,
}

#[derive(Debug)]
struct Slot<T> {
    kind: Kind,
    target: Uuid,
    opened: Moment,
    sent: Option<Moment>,
    /// It left, though when was not measured.
    left: bool,
    deadline: Moment,
    patience: std::time::Duration,
    context: T,
}

#[derive(Debug)]
struct Past {
    kind: Kind,
    opened: Moment,
    answered: bool,
}

/// What is known of an answer when it is handled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// When it came out of the kernel; `None`: not measured.
    pub arrived: Option<Moment>,
    /// The other side's hold in ns; `None`: not measured.
    pub hold_ns: Option<u64>,
    pub status: Option<Status>,
    pub path_rtt_ns: Option<u64>,
}

/// What an answer turned out to be.
#[derive(Debug)]
pub enum Closed<T> {
    /// It closed its own transaction.
    Good(Box<Record>, T),
    /// Its transaction had run out; the record stands as it was. Total time in ns.
    Late { total_ns: u64 },
    /// Its transaction was answered before.
    Duplicate,
    /// No transaction of ours, or one forgotten long ago.
    Stranger,
}

/// The pool has no free slot; nothing was opened or counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction pool is full")]
pub struct Full;

/// How many ended transactions are remembered to tell late and duplicate answers from strangers.
const PAST_MAX: usize = 4_096;

impl<T> Pool<T> {
    /// At most `slots_max` in flight. The ledgers of `kinds` start at zero.
    pub fn new(slots_max: usize, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            slots: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ledgers: kinds.into_iter().map(|k| (k, Ledger::default())).collect(),
            past: HashMap::new(),
            past_order: VecDeque::new(),
            slots_max,
        }
    }

    /// Opens a transaction. It runs out `patience` after it was sent, or after now if it never is.
    pub fn open(
        &mut self,
        now: Moment,
        kind: Kind,
        target: Uuid,
        correlator: Correlator,
        patience: std::time::Duration,
        context: T,
    ) -> Result<(), Full> {
        if self.slots.len() >= self.slots_max {
            return Err(Full);
        }
        let deadline = now + patience;
        let slot =
            Slot { kind: kind.clone(), target, opened: now, sent: None, left: false, deadline, patience, context };
        match self.slots.entry(correlator) {
            Entry::Occupied(_) => return Err(Full), // 74 random bits collided: as good as no slot
            Entry::Vacant(v) => v.insert(slot),
        };
        self.deadlines.insert((deadline, correlator));
        self.ledgers.entry(kind).or_default().opened += 1;
        Ok(())
    }

    /// It began before it could be opened; its deadline stays.
    pub fn began(&mut self, correlator: Correlator, at: Moment) {
        if let Some(slot) = self.slots.get_mut(&correlator) {
            slot.opened = slot.opened.min(at);
        }
    }

    /// The question left at `at`; the deadline runs from there. `false`: not in flight (any more).
    pub fn sent(&mut self, correlator: Correlator, at: Moment) -> bool {
        let known = self.left(correlator, at);
        if let Some(slot) = self.slots.get_mut(&correlator) {
            slot.sent = Some(at);
        }
        known
    }

    /// As [`sent`](Self::sent), where it can leave more than once and the answer may be to the first: its deadline runs from this
    /// time, its stages from the first, so that none is taken for shorter than it was.
    pub fn sent_again(&mut self, correlator: Correlator, at: Moment) -> bool {
        let known = self.left(correlator, at);
        if let Some(slot) = self.slots.get_mut(&correlator) {
            slot.sent.get_or_insert(at);
        }
        known
    }

    /// The question left at about `now`: enough for its deadline, too little for the split of its time.
    pub fn left(&mut self, correlator: Correlator, now: Moment) -> bool {
        let Some(slot) = self.slots.get_mut(&correlator) else { return false };
        slot.left = true;
        self.deadlines.remove(&(slot.deadline, correlator));
        slot.deadline = now + slot.patience;
        self.deadlines.insert((slot.deadline, correlator));
        true
    }

    /// An answer is handled now. `from` must be the target, else it is a stranger's.
    pub fn close(&mut self, now: Moment, correlator: Correlator, from: Uuid, answer: Answer) -> Closed<T> {
        if self.slots.get(&correlator).is_some_and(|s| s.target == from) {
            let slot = self.take(correlator, Outcome::Good);
            let record = slot.record(correlator, Outcome::Good, None, Some((now, answer)));
            return Closed::Good(Box::new(record), slot.context);
        }
        match self.past.get_mut(&correlator) {
            Some(past) if past.answered => {
                self.ledgers.entry(past.kind.clone()).or_default().duplicate += 1;
                Closed::Duplicate
            }
            Some(past) => {
                past.answered = true;
                self.ledgers.entry(past.kind.clone()).or_default().late += 1;
                Closed::Late { total_ns: crate::moment::nanos(now.since(past.opened)) }
            }
            None => Closed::Stranger,
        }
    }

    /// Ends a transaction that will not be answered.
    pub fn fail(&mut self, correlator: Correlator, reason: Reason) -> Option<(Record, T)> {
        self.slots.contains_key(&correlator).then(|| {
            let slot = self.take(correlator, reason.outcome());
            (slot.record(correlator, reason.outcome(), Some(reason), None), slot.context)
        })
    }

    /// Ends the next transaction whose deadline has passed: `no_answer` if it was sent, else `not_sent`. Call until `None`.
    pub fn expire(&mut self, now: Moment) -> Option<(Record, T)> {
        let correlator = self.due(now)?;
        self.cut_short(correlator)
    }

    /// Ends this one as [`expire`](Self::expire) does, though its deadline may not have passed.
    pub fn cut_short(&mut self, correlator: Correlator) -> Option<(Record, T)> {
        let left = self.slots.get(&correlator).is_some_and(|s| s.left);
        self.fail(correlator, if left { Reason::NoAnswer } else { Reason::NotSent })
    }

    /// As [`expire`](Self::expire), where the deadline passed while we did not run: an answer may have come and nobody
    /// looked, so nothing is said of the other side.
    pub fn stall(&mut self, now: Moment) -> Option<(Record, T)> {
        let correlator = self.due(now)?;
        self.fail(correlator, Reason::Stalled)
    }

    /// Ends one transaction, for a reason of our own. Call until `None`.
    pub fn abandon(&mut self, reason: Reason) -> Option<(Record, T)> {
        let &correlator = self.slots.keys().next()?;
        self.fail(correlator, reason)
    }

    /// At most so many in flight from now on; what is in flight beyond stays.
    pub fn resize(&mut self, slots_max: usize) {
        self.slots_max = slots_max;
    }

    fn due(&self, now: Moment) -> Option<Correlator> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, correlator)| *correlator)
    }

    pub fn deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|(m, _)| *m)
    }

    pub fn context(&self, correlator: Correlator) -> Option<&T> {
        self.slots.get(&correlator).map(|s| &s.context)
    }

    /// Who is to answer it; `None`: not in flight.
    pub fn target(&self, correlator: Correlator) -> Option<Uuid> {
        self.slots.get(&correlator).map(|s| s.target)
    }

    pub fn in_flight(&self) -> usize {
        self.slots.len()
    }

    /// The ledger of each kind. What is in flight is counted from the slots themselves, so that a slot lost or counted
    /// twice would show.
    pub fn ledgers(&self) -> Vec<(Kind, Ledger)> {
        let mut ledgers = self.ledgers.clone();
        for slot in self.slots.values() {
            ledgers.entry(slot.kind.clone()).or_default().in_flight += 1;
        }
        ledgers.into_iter().collect()
    }

    fn take(&mut self, correlator: Correlator, outcome: Outcome) -> Slot<T> {
        let slot = self.slots.remove(&correlator).expect("the caller has seen it");
        self.deadlines.remove(&(slot.deadline, correlator));
        self.ledgers.entry(slot.kind.clone()).or_default().count(outcome);
        let past = Past { kind: slot.kind.clone(), opened: slot.opened, answered: outcome == Outcome::Good };
        self.past.insert(correlator, past);
        self.past_order.push_back(correlator);
        if self.past_order.len() > PAST_MAX
            && let Some(oldest) = self.past_order.pop_front()
        {
            self.past.remove(&oldest);
        }
        slot
    }
}

impl<T> Slot<T> {
    fn record(
        &self,
        correlator: Correlator,
        outcome: Outcome,
        reason: Option<Reason>,
        answer: Option<(Moment, Answer)>,
    ) -> Record {
        Record {
            kind: self.kind.clone(),
            target: self.target,
            correlator,
            outcome,
            reason,
            opened_ms: self.opened.wall_ms(),
            total_ns: answer.map(|(now, _)| now.ns().saturating_sub(self.opened.ns())),
            stages: self.stages(answer),
            target_status: answer.and_then(|(_, a)| a.status),
            path_rtt_ns: answer.and_then(|(_, a)| a.path_rtt_ns),
        }
    }

    /// The split of the time. The network is what the other three leave, so it is known only when all of them are, and
    /// then the four add up to the total.
    fn stages(&self, answer: Option<(Moment, Answer)>) -> Stages {
        let mut stages = Stages::default();
        let Some(sent) = self.sent else { return stages };
        stages = stages.with(Stage::Queued, sent.since(self.opened));
        let Some((now, answer)) = answer else { return stages };
        let arrived = answer.arrived.filter(|a| (sent..=now).contains(a));
        if let Some(arrived) = arrived {
            stages = stages.with(Stage::LocalWait, now.since(arrived));
        }
        // A hold longer than the whole way there and back is not a measurement.
        let away_ns = arrived.unwrap_or(now).ns() - sent.ns().min(now.ns());
        if let Some(hold) = answer.hold_ns.filter(|h| *h <= away_ns) {
            stages.set(Stage::RemoteHold, hold);
            if arrived.is_some() {
                stages.set(Stage::Network, away_ns - hold);
            }
        }
        stages
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const B: Uuid = Uuid::from_u128(2);
    const PATIENCE: Duration = Duration::from_secs(5);

    fn at(us: u64) -> Moment {
        Moment::new(us * 1_000, 1_700_000_000_000)
    }

    fn corr(n: u8) -> Correlator {
        Correlator::of_uuid([n; 16])
    }

    fn opened(n: u8) -> Pool<u8> {
        let mut pool = Pool::new(8, Kind::BUILT_IN);
        pool.open(at(0), Kind::Ping, B, corr(n), PATIENCE, n).unwrap();
        pool
    }

    fn ping(pool: &Pool<u8>) -> Ledger {
        pool.ledgers().into_iter().find(|(k, _)| *k == Kind::Ping).unwrap().1
    }

    #[test]
    fn the_stages_of_an_answered_ping_add_up() {
        let mut pool = opened(1);
        pool.sent(corr(1), at(210));
        let answer = Answer { arrived: Some(at(85_010)), hold_ns: Some(800_000), ..Answer::default() };
        let Closed::Good(r, 1) = pool.close(at(85_110), corr(1), B, answer) else { panic!("not good") };
        let ns = |s| r.stages.get(s).unwrap();
        assert_eq!(ns(Stage::Queued), 210_000);
        assert_eq!(ns(Stage::Network), 84_000_000);
        assert_eq!(ns(Stage::RemoteHold), 800_000);
        assert_eq!(ns(Stage::LocalWait), 100_000);
        assert_eq!(r.stages.iter().map(|(_, ns)| ns).sum::<u64>(), r.total_ns.unwrap());
    }

    #[test]
    fn what_began_earlier_has_waited_longer_and_its_deadline_stays() {
        let mut pool = Pool::new(8, Kind::BUILT_IN);
        pool.open(at(4_000), Kind::Notify, B, corr(1), PATIENCE, 1).unwrap();
        pool.began(corr(1), at(1_000));
        pool.began(corr(1), at(9_000));
        assert_eq!(pool.deadline(), Some(at(5_004_000)));
        pool.sent(corr(1), at(5_000));
        let Closed::Good(r, _) = pool.close(at(9_000), corr(1), B, Answer::default()) else { panic!("not good") };
        assert_eq!((r.total_ns, r.stages.get(Stage::Queued)), (Some(8_000_000), Some(4_000_000)));
    }

    #[test]
    fn what_leaves_twice_is_timed_from_the_first_and_runs_out_after_the_second() {
        let mut pool = opened(1);
        assert!(pool.sent_again(corr(1), at(100)) && pool.sent_again(corr(1), at(2_000)));
        assert_eq!(pool.deadline(), Some(at(5_002_000)));
        let answer = Answer { arrived: Some(at(2_100)), hold_ns: Some(5_000), ..Answer::default() };
        let Closed::Good(r, _) = pool.close(at(2_200), corr(1), B, answer) else { panic!("not good") };
        assert_eq!((r.stages.get(Stage::Queued), r.stages.get(Stage::Network)), (Some(100_000), Some(1_995_000)));
    }

    #[test]
    fn the_network_is_unknown_where_another_part_is() {
        let cases = [
            Answer { arrived: None, hold_ns: Some(5), ..Answer::default() },
            Answer { arrived: Some(at(900)), hold_ns: None, ..Answer::default() },
            // A hold longer than the way, and a stamp from before the question left.
            Answer { arrived: Some(at(900)), hold_ns: Some(900_000), ..Answer::default() },
            Answer { arrived: Some(at(50)), hold_ns: Some(5), ..Answer::default() },
        ];
        for answer in cases {
            let mut pool = opened(1);
            pool.sent(corr(1), at(100));
            let Closed::Good(r, _) = pool.close(at(1_000), corr(1), B, answer) else { panic!("not good") };
            assert_eq!(r.stages.get(Stage::Network), None, "{answer:?}");
            assert_eq!(r.total_ns, Some(1_000_000));
        }
    }

    #[test]
    fn the_deadline_runs_from_sent_and_tells_the_two_silences_apart() {
        let mut pool = opened(1);
        pool.open(at(0), Kind::Ping, B, corr(2), PATIENCE, 2).unwrap();
        pool.sent(corr(1), at(1_000_000));
        let (r, who) = pool.expire(at(5_000_000)).unwrap();
        assert_eq!((who, r.reason, r.stages.iter().count()), (2, Some(Reason::NotSent), 0));
        assert!(pool.expire(at(5_999_999)).is_none());
        let (r, who) = pool.expire(at(6_000_000)).unwrap();
        assert_eq!((who, r.reason, r.outcome), (1, Some(Reason::NoAnswer), Outcome::Aborted));
        assert_eq!(r.stages.get(Stage::Network), None);
        assert_eq!(ping(&pool), Ledger { opened: 2, aborted: 2, ..Ledger::default() });
    }

    #[test]
    fn a_deadline_that_passed_while_nobody_looked_tells_nothing_of_the_other_side() {
        let mut pool = opened(1);
        pool.open(at(0), Kind::Ping, B, corr(2), PATIENCE, 2).unwrap();
        pool.sent(corr(1), at(0));
        pool.sent(corr(2), at(9_000_000));
        let (r, who) = pool.stall(at(10_000_000)).unwrap();
        assert_eq!((who, r.reason, r.outcome), (1, Some(Reason::Stalled), Outcome::Unknown));
        assert!(pool.stall(at(10_000_000)).is_none(), "the other one is still in time");
        assert!(matches!(pool.close(at(10_000_001), corr(1), B, Answer::default()), Closed::Late { .. }));
        pool.resize(1);
        assert_eq!(pool.open(at(0), Kind::Ping, B, corr(3), PATIENCE, 3), Err(Full));
        assert!(ping(&pool).is_conserved());
    }

    #[test]
    fn what_left_without_a_stamp_has_a_deadline_and_no_split() {
        let mut pool = opened(1);
        assert!(pool.left(corr(1), at(1_000)));
        let answer = Answer { arrived: Some(at(2_000)), hold_ns: Some(5), ..Answer::default() };
        let Closed::Good(r, _) = pool.close(at(2_100), corr(1), B, answer) else { panic!("not good") };
        assert_eq!((r.total_ns, r.stages.iter().count()), (Some(2_100_000), 0));
        let mut pool = opened(2);
        pool.left(corr(2), at(1_000));
        assert_eq!(pool.expire(at(5_001_000)).unwrap().0.reason, Some(Reason::NoAnswer));
    }

    #[test]
    fn late_twice_and_strange_answers_change_no_outcome() {
        let mut pool = opened(1);
        pool.sent(corr(1), at(0));
        assert!(pool.expire(at(5_000_000)).is_some());
        let answer = Answer::default();
        assert!(matches!(pool.close(at(5_250_000), corr(1), B, answer), Closed::Late { total_ns: 5_250_000_000 }));
        assert!(matches!(pool.close(at(5_300_000), corr(1), B, answer), Closed::Duplicate));
        assert!(matches!(pool.close(at(5_300_000), corr(9), B, answer), Closed::Stranger));
        assert_eq!(ping(&pool), Ledger { opened: 1, aborted: 1, late: 1, duplicate: 1, ..Ledger::default() });
    }

    #[test]
    fn nobody_else_can_answer_for_the_target() {
        let mut pool = opened(1);
        pool.sent(corr(1), at(0));
        assert!(matches!(pool.close(at(10), corr(1), Uuid::from_u128(3), Answer::default()), Closed::Stranger));
        assert_eq!(pool.in_flight(), 1);
    }

    #[test]
    fn a_full_pool_refuses_and_counts_nothing() {
        let mut pool = Pool::new(1, Kind::BUILT_IN);
        pool.open(at(0), Kind::Ping, B, corr(1), PATIENCE, ()).unwrap();
        assert_eq!(pool.open(at(0), Kind::Ping, B, corr(2), PATIENCE, ()), Err(Full));
        assert_eq!(pool.ledgers()[0].1.opened, 1);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Open(u8),
        Sent(u8),
        Close(u8),
        Fail(u8),
        Expire,
        Abandon,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_ledger_is_conserved_and_each_transaction_ends_once(ops in prop::collection::vec(prop_oneof![
            4 => (0..12u8).prop_map(Op::Open), 3 => (0..12u8).prop_map(Op::Sent), 3 => (0..12u8).prop_map(Op::Close),
            1 => (0..12u8).prop_map(Op::Fail), 1 => Just(Op::Expire), 1 => Just(Op::Abandon),
        ], 0..200)) {
            let mut pool = Pool::new(6, Kind::BUILT_IN);
            let (mut opens, mut ends) = (0u64, 0u64);
            for (i, op) in ops.into_iter().enumerate() {
                let now = at(i as u64 * 700_000);
                ends += match op {
                    Op::Open(n) => { opens += u64::from(pool.open(now, Kind::Ping, B, corr(n), PATIENCE, n).is_ok()); 0 }
                    Op::Sent(n) => { pool.sent(corr(n), now); 0 }
                    Op::Close(n) => u64::from(matches!(pool.close(now, corr(n), B, Answer::default()), Closed::Good(..))),
                    Op::Fail(n) => u64::from(pool.fail(corr(n), Reason::Refused).is_some()),
                    Op::Expire => std::iter::from_fn(|| pool.expire(now)).count() as u64,
                    Op::Abandon => u64::from(pool.abandon(Reason::Shutdown).is_some()),
                };
                let l = ping(&pool);
                prop_assert!(l.is_conserved(), "{l:?}");
                prop_assert_eq!((l.opened, l.opened - l.in_flight), (opens, ends));
                prop_assert!(pool.in_flight() <= 6);
            }
        }
    }
}
