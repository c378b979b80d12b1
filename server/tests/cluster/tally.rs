//! What a run, or many, went through: a promise that was never put to the test is none kept.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{AddAssign, Index},
};

/// What a run, or many, went through.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub seconds: u64,
    counts: BTreeMap<&'static str, u64>,
}

/// All that is counted, so that what never happens shows.
const COUNTED: &[&str] = &[
    // What befell.
    "agent_crash",
    "agent_leave",
    "agent_return",
    "storm",
    "publish",
    "server_crash",
    "server_restart",
    "without_seeds",
    "evacuate",
    "evacuated",
    "stall",
    "stalled",
    "cut",
    "one_way",
    "bad_path",
    "slow_path",
    "wall_step",
    "forget",
    "forgot",
    "forced",
    // What came of it.
    "linked",
    "idle",
    "reset",
    "call_failed",
    "follow_ended",
    "deltas",
    "gossip",
    "move",
    "servers",
    "moved",
    "rehomed",
    "gave_up",
    "word_asks",
    "word_late",
    "word_lost",
    "word_moves",
    "busy",
    "settling",
    "resumed",
    "replayed",
    "restarted",
    "gone",
    "left",
    "returned",
    "abandoned",
    "held",
    "acked_alone",
    "nudged",
    "banned",
    "told",
    "told_across",
    "roster",
    "server_down",
    "server_left",
    "stale_view",
    "orphan",
    // What was checked at the end.
    "exact_books",
    "whole_books",
    "bounded_books",
    "calm",
];

/// What need not happen in each run.
const RARE: &[&str] = &["bad_deltas", "behind", "lives_on", "foreign_forget"];

impl Tally {
    pub fn count(&mut self, what: &'static str) {
        self.count_n(what, 1);
    }

    pub fn count_n(&mut self, what: &'static str, n: u64) {
        debug_assert!(COUNTED.contains(&what) || RARE.contains(&what), "{what}");
        self.counts.entry(what).or_default().add_assign(n);
    }

    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.seconds += other.seconds;
        other.counts.iter().for_each(|(what, n)| self.count_n(what, *n));
    }

    /// What never happened.
    pub fn idle(&self) -> Vec<&'static str> {
        COUNTED.iter().copied().filter(|what| self[what] == 0).collect()
    }
}

impl Index<&str> for Tally {
    type Output = u64;

    fn index(&self, what: &str) -> &u64 {
        self.counts.get(what).unwrap_or(&0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s of virtual time, {} events", self.seconds, self.events)?;
        COUNTED.iter().chain(RARE).try_for_each(|what| write!(f, ", {what} {}", self[what]))
    }
}
