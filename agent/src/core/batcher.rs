//! What goes to the home: numbers it, keeps it until acknowledged, replays it to the next home or the next connection.
//! Records are bounded and the oldest are shed; changes of the own Status and of views never are (a newer change of the same
//! thing replaces an older one beyond the bound). It does not know what a connection is.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use pams_shared::{
    frame::{CHANGES_MAX, RECORDS_MAX, VIEWS_MAX},
    id::{Correlator, PeerId},
    moment::Moment,
    record::Record,
    status::Presence,
};

/// Changes of the own presence that wait for a home.
const CHANGES_KEPT_MAX: usize = 64;
/// Batches under way at once: enough to fill a slow path, few enough to bound memory.
const WINDOW: usize = 4;

#[derive(Debug)]
pub struct Batcher {
    records: VecDeque<Record>,
    records_max: usize,
    shed: u64,
    changes: VecDeque<Presence>,
    dirty: BTreeSet<PeerId>,
    unacked: VecDeque<Batch>,
    /// How many of `unacked` have been given to the present connection.
    given: usize,
    next: u64,
    pace: Duration,
    /// When the next one is due at the latest; `None`: no home.
    due: Option<Moment>,
    urgent: bool,
    draining: bool,
}

/// One numbered batch, kept until acknowledged.
#[derive(Clone, Debug)]
pub struct Batch {
    pub number: u64,
    pub changes: Vec<Presence>,
    /// Whose views to tell; what they are is looked up when it is sent, so that a replay tells the present.
    pub views: Vec<PeerId>,
    pub records: Vec<Record>,
    /// The transaction that times it.
    pub correlator: Option<Correlator>,
}

impl Batcher {
    pub fn new(records_max: usize) -> Self {
        Self {
            records: VecDeque::new(),
            records_max,
            shed: 0,
            changes: VecDeque::new(),
            dirty: BTreeSet::new(),
            unacked: VecDeque::new(),
            given: 0,
            next: 1,
            pace: Duration::from_secs(1),
            due: None,
            urgent: false,
            draining: false,
        }
    }

    /// Takes a record; says how many old ones it had to shed.
    pub fn record(&mut self, record: Record) -> u64 {
        self.records.push_back(record);
        self.trim()
    }

    /// Keeps so many records from now on; says how many old ones it had to shed.
    pub fn resize(&mut self, records_max: usize) -> u64 {
        self.records_max = records_max;
        self.trim()
    }

    fn trim(&mut self) -> u64 {
        let over = self.records.len().saturating_sub(self.records_max);
        self.records.drain(..over);
        self.shed += over as u64;
        over as u64
    }

    /// Takes a change of the own presence; it leaves at once.
    pub fn change(&mut self, presence: Presence) {
        if self.changes.len() >= CHANGES_KEPT_MAX {
            self.changes.pop_back(); // the newest takes its place: what is, is never lost
        }
        self.changes.push_back(presence);
        self.urgent = true;
    }

    /// Marks the view of a peer as changed; it leaves at once.
    pub fn view(&mut self, peer: PeerId) {
        self.dirty.insert(peer);
        self.urgent = true;
    }

    /// A home is there that has applied our batches up to `applied`. What it lacks is given again, then what is new. Says
    /// which transactions that ends.
    pub fn attach(&mut self, now: Moment, applied: u64, pace: Duration) -> Vec<Correlator> {
        let ended = self.acked(applied);
        self.given = 0;
        self.pace = pace;
        self.due = Some(now);
        ended
    }

    /// From here on nothing waits for its pace: the agent stops. At least one more batch goes, with the last totals.
    pub fn drain(&mut self) {
        self.urgent = true;
        self.draining = true;
    }

    pub fn detach(&mut self) {
        self.due = None;
    }

    pub fn pace(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// All batches up to `number` are applied. Says which transactions that ends.
    pub fn acked(&mut self, number: u64) -> Vec<Correlator> {
        let mut ended = Vec::new();
        while let Some(batch) = self.unacked.pop_front_if(|b| b.number <= number) {
            self.given = self.given.saturating_sub(1);
            ended.extend(batch.correlator);
        }
        ended
    }

    /// The next batch to give to the home now, if any. Call until `None`.
    pub fn next(&mut self, now: Moment) -> Option<&mut Batch> {
        let due = self.due?;
        if self.given == self.unacked.len() {
            let full = self.records.len() >= RECORDS_MAX;
            if self.unacked.len() >= WINDOW {
                // Still a sign of life, and what makes a restarted home tell that it knows nothing of this connection.
                self.due = if due <= now { Some(now + self.pace) } else { return None };
                return self.unacked.front_mut();
            }
            if !(full || self.urgent || due <= now) {
                return None;
            }
            let batch = self.cut();
            self.unacked.push_back(batch);
            self.due = Some(now + self.pace);
        }
        self.given += 1;
        self.unacked.get_mut(self.given - 1)
    }

    /// The transaction that times a batch.
    pub fn correlator(&self, number: u64) -> Option<Correlator> {
        self.unacked.iter().find(|b| b.number == number)?.correlator
    }

    /// The transactions of all that are not acknowledged.
    pub fn correlators(&self) -> Vec<Correlator> {
        self.unacked.iter().filter_map(|b| b.correlator).collect()
    }

    pub fn timed_by(&mut self, number: u64, correlator: Option<Correlator>) {
        if let Some(batch) = self.unacked.iter_mut().find(|b| b.number == number) {
            batch.correlator = correlator;
        }
    }

    /// When the next batch is due, be it an old one again; `None` while there is no home.
    pub fn deadline(&self) -> Option<Moment> {
        let due = self.due?;
        let waits = self.given == self.unacked.len() && self.unacked.len() >= WINDOW;
        Some(if self.urgent && !waits { Moment::default() } else { due })
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.changes.is_empty() && self.dirty.is_empty()
    }

    /// Everything taken has been given to the present home and acknowledged.
    pub fn is_settled(&self) -> bool {
        self.is_empty() && self.unacked.is_empty()
    }

    pub fn backlog(&self) -> usize {
        self.records.len() + self.unacked.iter().map(|b| b.records.len()).sum::<usize>()
    }

    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    pub fn shed(&self) -> u64 {
        self.shed
    }

    fn cut(&mut self) -> Batch {
        let number = self.next;
        self.next += 1;
        let changes = self.changes.drain(..self.changes.len().min(CHANGES_MAX)).collect();
        let views: Vec<PeerId> = self.dirty.iter().take(VIEWS_MAX).copied().collect();
        views.iter().for_each(|p| {
            self.dirty.remove(p);
        });
        let records = self.records.drain(..self.records.len().min(RECORDS_MAX)).collect();
        self.urgent = !self.dirty.is_empty() || !self.changes.is_empty() || (self.draining && !self.records.is_empty());
        Batch { number, changes, views, records, correlator: None }
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::{
        record::{Kind, Outcome, Stages},
        status::Status,
    };

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    fn record(n: u64) -> Record {
        Record {
            kind: Kind::Ping,
            target: uuid::Uuid::nil(),
            correlator: Correlator::of_uuid([1; 16]),
            outcome: Outcome::Good,
            reason: None,
            opened_ms: n,
            total_ns: None,
            stages: Stages::default(),
            target_status: None,
            path_rtt_ns: None,
        }
    }

    fn given(b: &mut Batcher, ms: u64) -> Vec<(u64, Vec<u64>)> {
        std::iter::from_fn(|| b.next(at(ms)).map(|b| (b.number, b.records.iter().map(|r| r.opened_ms).collect())))
            .collect()
    }

    const PACE: Duration = Duration::from_millis(1_500);

    #[test]
    fn an_empty_batch_each_pace_keeps_the_home_sure_of_us() {
        let mut b = Batcher::new(10);
        assert_eq!(given(&mut b, 0), []);
        b.attach(at(0), 0, PACE);
        assert_eq!(given(&mut b, 0), [(1, vec![])]);
        assert_eq!(b.deadline(), Some(at(1_500)));
        assert_eq!(given(&mut b, 1_499), []);
        assert_eq!(given(&mut b, 1_500), [(2, vec![])]);
    }

    #[test]
    fn what_is_not_acknowledged_is_given_again_and_nothing_else() {
        let mut b = Batcher::new(10);
        b.attach(at(0), 0, PACE);
        b.record(record(1));
        assert_eq!(given(&mut b, 0), [(1, vec![1])]);
        b.record(record(2));
        assert_eq!(given(&mut b, 1_500), [(2, vec![2])]);
        b.detach();
        b.record(record(3));
        assert_eq!(given(&mut b, 9_000), []);
        b.attach(at(9_000), 1, PACE);
        assert_eq!(given(&mut b, 9_000), [(2, vec![2]), (3, vec![3])]);
        b.acked(3);
        assert!(b.is_settled());
    }

    #[test]
    fn the_window_bounds_what_is_under_way_and_the_oldest_goes_again() {
        let mut b = Batcher::new(10);
        b.attach(at(0), 0, PACE);
        for ms in 0..4 {
            given(&mut b, ms * 1_500);
        }
        b.change(Presence::default());
        assert_eq!((b.unacked(), b.deadline()), (WINDOW, Some(at(6_000))));
        assert_eq!(given(&mut b, 5_999), []);
        assert_eq!(given(&mut b, 6_000), [(1, vec![])]);
        assert_eq!(b.deadline(), Some(at(7_500)));
        b.acked(1);
        assert_eq!(given(&mut b, 20_000), [(5, vec![])]);
    }

    #[test]
    fn oldest_records_are_shed_and_changes_never() {
        let mut b = Batcher::new(2);
        let shed: u64 = (0..5).map(|n| b.record(record(n))).sum();
        (0..200).for_each(|v| b.change(Presence { version: v, status: Status::Busy, ..Presence::default() }));
        b.attach(at(0), 0, PACE);
        let batch = b.next(at(0)).unwrap().clone();
        assert_eq!((shed, batch.records[0].opened_ms, batch.records.len()), (3, 3, 2));
        assert_eq!(batch.changes.len(), CHANGES_MAX);
        let mut last = None;
        for n in 1.. {
            let Some(batch) = b.next(at(0)) else { break };
            last = batch.changes.last().cloned().or(last);
            b.acked(n);
        }
        assert_eq!(last.unwrap().version, 199);
    }

    #[test]
    fn a_change_leaves_at_once_and_a_full_batch_too() {
        let mut b = Batcher::new(10_000);
        b.attach(at(0), 0, PACE);
        given(&mut b, 0);
        b.change(Presence::default());
        assert!(b.deadline().unwrap() <= at(1));
        assert_eq!(given(&mut b, 1).len(), 1);
        (0..RECORDS_MAX as u64 + 5).for_each(|n| {
            b.record(record(n));
        });
        assert_eq!(given(&mut b, 2).len(), 1);
        assert_eq!(b.backlog(), RECORDS_MAX + 5);
    }
}
