//! What a run, or many, went through: a promise that was never put to the test is none kept.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{AddAssign, Index},
};

#[derive(Clone, Debug)]
pub struct Tally {
    /// All that is counted, so that what never happens shows; and what need not happen in all of many runs.
    counted: &'static [&'static str],
    rare: &'static [&'static str],
    pub events: u64,
    /// Of virtual time.
    pub seconds: u64,
    counts: BTreeMap<&'static str, u64>,
    longest: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn new(counted: &'static [&'static str], rare: &'static [&'static str]) -> Self {
        Self { counted, rare, events: 0, seconds: 0, counts: BTreeMap::new(), longest: BTreeMap::new() }
    }

    pub fn count(&mut self, what: &'static str) {
        self.count_n(what, 1);
    }

    pub fn count_n(&mut self, what: &'static str, n: u64) {
        debug_assert!(self.counted.contains(&what) || self.rare.contains(&what), "{what}");
        self.counts.entry(what).or_default().add_assign(n);
    }

    /// Something took so long, ns; the longest is kept.
    pub fn took(&mut self, what: &'static str, ns: u64) {
        let longest = self.longest.entry(what).or_default();
        *longest = ns.max(*longest);
    }

    pub fn add(&mut self, other: &Tally) {
        self.events += other.events;
        self.seconds += other.seconds;
        other.counts.iter().for_each(|(what, n)| self.count_n(what, *n));
        other.longest.iter().for_each(|(what, ns)| self.took(what, *ns));
    }

    /// What never happened.
    pub fn idle(&self) -> Vec<&'static str> {
        self.counted.iter().copied().filter(|what| self[what] == 0).collect()
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
        let longest = self.longest.iter().map(|(what, ns)| (what, *ns as f64 / 1e9));
        longest.into_iter().try_for_each(|(what, s)| write!(f, ", {what} {s:.3} s at most"))?;
        self.counted.iter().chain(self.rare).try_for_each(|what| write!(f, ", {what} {}", self[what]))
    }
}
