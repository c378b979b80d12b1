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
    /// From a crash until the home called it gone, in ns, the longest.
    pub gone_after: u64,
}

/// All that is counted, so that what never happens shows.
const COUNTED: &[&str] = &[
    "crash",
    "leave",
    "home_restart",
    "home_drained",
    "partition",
    "cut_home",
    "one_way",
    "storm",
    "break",
    "wall_step",
    "publish",
    "cli_ping",
    "forget",
    "forgot",
    "stall",
    "suspend",
    "slept",
    "slept_suspended",
    "hung_up",
    "rejoined",
    "reconfigured",
    "added",
    "removed",
    "home_reconfigured",
    "moved",
    "good",
    "aborted",
    "failed",
    "unknown",
    "late",
    "duplicate",
    "pool_full",
    "shed",
    "record",
    "resumed",
    "replayed",
    "superseded",
    "crossed",
    "reset",
    "idle",
    "returned",
    "restarted",
    "abandoned",
    "live",
    "overdue",
    "gone",
    "left",
    "split",
    "whole_split",
    "unstamped",
    "unsent",
    "resolved",
    "stalled",
    "exact_books",
    "forgotten",
    "clock_offset",
    "roster",
    "given",
    "cut",
    "exactly_k",
    "notify",
    "home_notify",
    "told",
    "told_by_home",
    "told_within",
    "gap",
    "subscriber_lost",
    "subscriber_returned",
    "home_lost_subscriber",
];

impl Tally {
    pub fn count(&mut self, what: &'static str) {
        self.count_n(what, 1);
    }

    pub fn count_n(&mut self, what: &'static str, n: u64) {
        debug_assert!(COUNTED.contains(&what), "{what}");
        self.counts.entry(what).or_default().add_assign(n);
    }

    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.seconds += other.seconds;
        self.gone_after = self.gone_after.max(other.gone_after);
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
        let (seconds, events) = (self.seconds, self.events);
        let slowest = self.gone_after as f64 / 1e9;
        write!(f, "{seconds} s of virtual time, {events} events, gone at home at most {slowest:.3} s after a crash")?;
        COUNTED.iter().try_for_each(|what| write!(f, ", {what} {}", self[what]))
    }
}
