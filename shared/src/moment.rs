//! A point in time as the cores see it. It has no `now()`: only a shell (`clock`) or a test makes one.

use std::{
    cmp::Ordering,
    ops::{Add, AddAssign},
    time::Duration,
};

/// Monotonic nanoseconds, which measure, and the wall clock at that moment, which only labels. Moments compare by the
/// monotonic part alone, so a wall clock that steps changes no order and no duration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    ns: u64,
    wall_ms: u64,
}

impl Moment {
    /// `ns` since any fixed origin of this process; `wall_ms` since 1970-01-01 UTC.
    pub const fn new(ns: u64, wall_ms: u64) -> Self {
        Self { ns, wall_ms }
    }

    pub const fn ns(self) -> u64 {
        self.ns
    }

    /// Wall clock in ms since 1970: a label, never a measure.
    pub const fn wall_ms(self) -> u64 {
        self.wall_ms
    }

    /// Time since `earlier`; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }

    /// This moment `d` ago, not before the origin.
    pub fn before(self, d: Duration) -> Moment {
        let ns = nanos(d).min(self.ns);
        Moment { ns: self.ns - ns, wall_ms: self.wall_ms.saturating_sub(ns / 1_000_000) }
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, d: Duration) -> Moment {
        Moment { ns: self.ns.saturating_add(nanos(d)), wall_ms: self.wall_ms.saturating_add(millis(d)) }
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.ns == other.ns
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.ns.cmp(&other.ns)
    }
}

/// A duration in whole milliseconds, saturating.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in whole nanoseconds, saturating at 584 years.
pub fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_orders_and_measures_nothing() {
        let a = Moment::new(1_000, 9_000_000);
        let b = Moment::new(5_000, 1_000); // an hour back on the wall, later in truth
        assert!(a < b);
        assert_eq!(b.since(a), Duration::from_nanos(4_000));
        assert_eq!(a.since(b), Duration::ZERO);
    }

    #[test]
    fn adding_moves_both_parts_and_saturates() {
        let m = Moment::new(0, 100) + Duration::from_millis(7);
        assert_eq!((m.ns(), m.wall_ms()), (7_000_000, 107));
        assert_eq!((m + Duration::MAX).ns(), u64::MAX);
        assert_eq!(m.before(Duration::MAX).ns(), 0);
    }
}
