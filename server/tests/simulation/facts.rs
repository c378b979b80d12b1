//! What an agent's life was in truth, as seen from outside its core: who was heard when, what was sent, what ended how. The
//! checkers compare the core's and the home's conclusions with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pams_shared::{
    id::Correlator,
    record::{Kind, Ledger},
};

use crate::path::Way;

#[derive(Debug, Default)]
pub struct Facts {
    pub life: u64,
    pub started: u64,
    pub ended: Option<u64>,
    /// By goodbye, not by a crash.
    pub left: bool,
    /// Goodbyes are on their way; true: all was acknowledged before.
    pub farewell: Option<bool>,
    /// Pings that left the core.
    pub sent: BTreeMap<Correlator, u64>,
    /// Transactions that ended.
    pub closed: BTreeSet<Correlator>,
    /// Those that were answered after that.
    pub late: BTreeSet<Correlator>,
    /// What the records and notices add up to; `opened` and `in_flight` are the core's to say.
    pub counted: BTreeMap<Kind, Ledger>,
    /// The ledgers as last looked at.
    pub ledgers: BTreeMap<Kind, Ledger>,
    /// The records of each batch that is not acknowledged, and the newest number.
    pub batches: BTreeMap<u64, Vec<Correlator>>,
    pub newest: u64,
    /// Records that were acknowledged.
    pub acked: u64,
    /// Records for the home, and how many of them were shed.
    pub records: u64,
    pub shed: u64,
    /// Pings of people and programs that were not answered yet, and when they were asked.
    pub asked: BTreeMap<u64, u64>,
    /// When something authenticated last came from whom.
    pub heard: BTreeMap<usize, u64>,
    /// When a ping was last answered by whom.
    pub answered: BTreeMap<usize, u64>,
    /// When a connection with whom last became ready.
    pub linked: BTreeMap<usize, u64>,
    /// Who said goodbye, and when.
    pub goodbyes: BTreeMap<usize, u64>,
    /// Whom the home gave it to watch, and since when.
    pub given: BTreeMap<usize, u64>,
    /// Whom the configuration named since the start, and when.
    pub added: BTreeMap<usize, u64>,
    /// When somebody was last looked for or dialled.
    pub reached: BTreeMap<usize, u64>,
    /// When a transaction last failed: nobody waited for its deadline.
    pub failed: u64,
    /// When the pool was last full: polls were left out.
    pub starved: u64,
    /// The newest presence that was told of whom, as epoch and version.
    pub told: BTreeMap<usize, (u64, u64)>,
    /// The pong that is handled now.
    pub answer: Option<(Correlator, Way)>,
    /// Pings not answered yet, and how long they were under way.
    ways: BTreeMap<(usize, Correlator), VecDeque<Way>>,
}

impl Facts {
    pub fn new(life: u64, now: u64) -> Self {
        Self { life, started: now, ..Self::default() }
    }

    pub fn end(&mut self, now: u64, left: bool) {
        (self.ended, self.left) = (Some(now), left);
    }

    pub fn heard(&mut self, now: u64, from: usize) {
        self.heard.insert(from, now);
    }

    pub fn said_goodbye(&mut self, from: usize, now: u64) {
        self.goodbyes.insert(from, now);
    }

    pub fn asks(&mut self, from: usize, correlator: Correlator, way: Way) {
        self.ways.entry((from, correlator)).or_default().push_back(way);
    }

    /// The pong to the oldest such ping leaves now: how long that ping was under way.
    pub fn asked_by(&mut self, from: usize, correlator: Correlator) -> Way {
        let ways = self.ways.get_mut(&(from, correlator));
        ways.and_then(VecDeque::pop_front).expect("a pong to a ping that never came")
    }

    /// The home says whom to watch.
    pub fn given(&mut self, now: u64, nodes: BTreeSet<usize>) {
        self.given.retain(|n, _| nodes.contains(n));
        nodes.into_iter().for_each(|n| {
            self.given.entry(n).or_insert(now);
        });
    }

    /// When a node was last heard; its own start, if never.
    pub fn silent_since(&self, node: usize) -> u64 {
        self.heard.get(&node).copied().unwrap_or(self.started)
    }

    /// Since when it is watched; the start, if by the configuration.
    pub fn watched_since(&self, node: usize, configured: bool) -> u64 {
        let given = self.given.get(&node).filter(|_| !configured);
        given.max(self.added.get(&node)).copied().unwrap_or(self.started)
    }
}
