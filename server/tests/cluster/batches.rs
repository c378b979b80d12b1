//! What an agent keeps for its home, as the agent's batcher does: numbered batches that stay until they are acknowledged and are
//! given again to each next connection, a window of them, an empty one each pace.

use std::collections::{BTreeMap, VecDeque};

use pams_shared::{
    frame::{CHANGES_MAX, RECORDS_MAX},
    record::{Kind, Ledger, Record},
    status::Presence,
};

/// Batches under way at once.
const WINDOW: usize = 4;

pub type Totals = BTreeMap<Kind, Ledger>;

#[derive(Clone, Debug)]
pub struct Batch {
    pub number: u64,
    pub changes: Vec<Presence>,
    pub records: Vec<Record>,
    /// What had been told when it was first given to a home.
    told: Option<Totals>,
}

#[derive(Debug, Default)]
pub struct Batches {
    records: VecDeque<Record>,
    changes: VecDeque<Presence>,
    unacked: VecDeque<Batch>,
    given: usize,
    pub last: u64,
    /// When the next one is due at the latest; `None`: no home.
    pub due: Option<u64>,
    urgent: bool,
    pace: u64,
    /// The totals of whatever was acknowledged.
    pub acked: Totals,
}

impl Batches {
    pub fn record(&mut self, record: Record) {
        self.records.push_back(record);
    }

    pub fn change(&mut self, presence: Presence) {
        self.changes.push_back(presence);
        self.urgent = true;
    }

    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    pub fn attach(&mut self, now: u64, applied: u64, pace: u64) {
        self.acked(applied);
        self.given = 0;
        (self.pace, self.due) = (pace, Some(now));
    }

    pub fn detach(&mut self) {
        self.due = None;
    }

    pub fn acked(&mut self, number: u64) {
        assert!(number <= self.last, "batch {number} is acknowledged and {} is the newest", self.last);
        while let Some(batch) = self.unacked.pop_front_if(|b| b.number <= number) {
            self.given = self.given.saturating_sub(1);
            // What an empty one says of transactions under way may be known to its home alone.
            let full = !(batch.records.is_empty() && batch.changes.is_empty());
            for (kind, ledger) in batch.told.into_iter().flatten().filter(|_| full) {
                self.acked.entry(kind).or_default().merge(&ledger);
            }
        }
    }

    /// The next batch to give to the home now, if any; the totals go with it. Call until `None`.
    pub fn next(&mut self, now: u64, totals: &Totals) -> Option<Batch> {
        let due = self.due?;
        if self.given == self.unacked.len() {
            if self.unacked.len() >= WINDOW {
                self.due = if due <= now { Some(now + self.pace) } else { return None };
                return self.unacked.front().cloned();
            }
            if !(self.records.len() >= RECORDS_MAX || self.urgent || due <= now) {
                return None;
            }
            let batch = self.cut();
            self.unacked.push_back(batch);
            self.due = Some(now + self.pace);
        }
        self.given += 1;
        let batch = self.unacked.get_mut(self.given - 1)?;
        batch.told.get_or_insert_with(|| totals.clone());
        Some(batch.clone())
    }

    fn cut(&mut self) -> Batch {
        self.last += 1;
        let changes: Vec<_> = self.changes.drain(..self.changes.len().min(CHANGES_MAX)).collect();
        let records: Vec<_> = self.records.drain(..self.records.len().min(RECORDS_MAX)).collect();
        self.urgent = !self.changes.is_empty();
        Batch { number: self.last, changes, records, told: None }
    }

    /// The newest batch up to this one that said something and is not acknowledged yet.
    pub fn newest_full(&self, upto: u64) -> Option<u64> {
        let said = |b: &&Batch| b.number <= upto && !(b.records.is_empty() && b.changes.is_empty());
        self.unacked.iter().filter(said).map(|b| b.number).next_back()
    }

    /// All that there was to say is acknowledged.
    pub fn is_settled(&self) -> bool {
        let said = self.unacked.iter().all(|b| b.records.is_empty() && b.changes.is_empty());
        self.records.is_empty() && self.changes.is_empty() && said
    }

    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }
}
