//! The one place that reads clocks. Everything else gets a [`Moment`] from here, from a test, or from a simulator.
//!
//! Monotonic time measures, the wall clock labels. All clocks of a process share one origin, so moments of many agents in
//! one process (tests, the demo) can be compared.
//!
//! The kernel stamps packets with the wall clock; [`KernelTime`] turns such stamps into moments and distrusts them when the
//! wall clock was stepped.
#![allow(clippy::disallowed_methods)] // The ban on reading clocks elsewhere points here.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use crate::moment::{Moment, nanos};

/// A kernel stamp older than this is not believed: no packet waits so long in a socket that is read at all.
pub const STAMP_AGE_MAX: Duration = Duration::from_secs(10);

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Reads the clocks of this machine. Costs nothing to copy; all copies agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    pub fn now(self) -> Moment {
        self.read().now
    }

    /// Monotonic time alone, at half the cost: a moment to compare with others, without a label.
    pub fn stamp(self) -> Moment {
        Moment::new(nanos(ORIGIN.elapsed()), 0)
    }

    /// Both clocks at once, to turn kernel stamps into moments.
    pub fn read(self) -> Reading {
        let monotonic = ORIGIN.elapsed();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Reading { now: Moment::new(nanos(monotonic), nanos(wall) / 1_000_000), wall_ns: nanos(wall) }
    }

    /// The kernel's monotonic clock in microseconds, as service managers compare it.
    pub fn monotonic_us(self) -> u64 {
        let read = nix::time::ClockId::CLOCK_MONOTONIC.now().map(Duration::from);
        read.map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX))
    }

    /// How long this host has been suspended since it booted: time that the monotonic clock, which measures, leaves out.
    /// `None` where the system does not tell.
    pub fn suspended(self) -> Option<Duration> {
        #[cfg(target_os = "linux")]
        {
            use nix::time::ClockId;
            let monotonic = Duration::from(ClockId::CLOCK_MONOTONIC.now().ok()?);
            let with_sleep = Duration::from(ClockId::CLOCK_BOOTTIME.now().ok()?);
            Some(with_sleep.saturating_sub(monotonic))
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// When to wake up for a deadline of a core.
    pub fn instant(self, at: Moment) -> tokio::time::Instant {
        let origin = *ORIGIN;
        // A deadline beyond what the clock can hold is as good as a year away.
        let at =
            origin.checked_add(Duration::from_nanos(at.ns())).unwrap_or(origin + Duration::from_secs(365 * 86_400));
        tokio::time::Instant::from_std(at)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub now: Moment,
    /// Nanoseconds since 1970-01-01 UTC.
    pub wall_ns: u64,
}

impl Reading {
    /// The moment of a wall clock stamp (ns since 1970) taken shortly before: `now` less the stamp's age. A stamp that
    /// lies in the future or is older than [`STAMP_AGE_MAX`] says nothing; then the answer is `now`.
    pub fn at_realtime(&self, stamp_ns: u64) -> Moment {
        match self.wall_ns.checked_sub(stamp_ns).map(Duration::from_nanos) {
            Some(age) if age <= STAMP_AGE_MAX => self.now.before(age),
            _ => self.now,
        }
    }
}

/// Turns kernel stamps into moments, batch by batch. Where the wall clock was stepped between two batches, stamps of the
/// second may be from before the step: that batch gets the time of its reading instead.
#[derive(Debug, Default)]
pub struct KernelTime {
    last: Option<Reading>,
    stepped: bool,
}

/// How far the two clocks may drift apart: slewing by NTP is 500 ppm at most; twice that, and 100 us for reading the one
/// after the other.
const DRIFT_PPM: u64 = 1_000;
const DRIFT_NS: u64 = 100_000;

impl KernelTime {
    /// A new batch of packets was read at `reading`.
    pub fn batch(&mut self, reading: Reading) {
        self.stepped = self.last.is_some_and(|last| {
            let monotonic = reading.now.ns().saturating_sub(last.now.ns());
            let wall = i128::from(reading.wall_ns) - i128::from(last.wall_ns);
            let apart = (wall - i128::from(monotonic)).unsigned_abs();
            apart > u128::from(DRIFT_NS + monotonic / 1_000_000 * DRIFT_PPM)
        });
        self.last = Some(reading);
    }

    /// When the kernel received a packet of the current batch; never later than the batch's reading.
    pub fn moment(&self, stamp_ns: Option<u64>) -> Option<Moment> {
        let reading = self.last?;
        Some(match stamp_ns {
            Some(stamp) if !self.stepped => reading.at_realtime(stamp),
            _ => reading.now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_700_000_000_000_000_000;

    fn reading(ns: u64, wall_ns: u64) -> Reading {
        Reading { now: Moment::new(ns, wall_ns / 1_000_000), wall_ns }
    }

    #[test]
    fn copies_agree_and_time_goes_forward() {
        let (a, b) = (Clock, Clock);
        let first = a.now();
        let second = b.now();
        assert!(second >= first);
        assert!(second.wall_ms() > 1_600_000_000_000, "{second:?}");
        let deadline = second + Duration::from_secs(3);
        let left = a.instant(deadline).into_std() - a.instant(second).into_std();
        assert_eq!(left, Duration::from_secs(3));
        assert!(a.instant(Moment::new(u64::MAX, 0)) > a.instant(deadline));
    }

    #[test]
    fn time_in_suspend_only_grows() {
        let (before, after) = (Clock.suspended(), Clock.suspended());
        // The two clocks are not read at once.
        assert!(after.zip(before).is_none_or(|(a, b)| a + Duration::from_secs(1) > b), "{before:?} {after:?}");
        assert!(Clock.monotonic_us() > 0);
    }

    #[test]
    fn a_stamp_is_as_old_as_the_wall_clock_says_within_reason() {
        let r = reading(60_000_000_000, WALL);
        assert_eq!(r.at_realtime(WALL - 250_000).ns(), 60_000_000_000 - 250_000);
        assert_eq!(r.at_realtime(WALL + 1).ns(), 60_000_000_000, "from the future");
        assert_eq!(r.at_realtime(WALL - 11_000_000_000).ns(), 60_000_000_000, "too old");
        assert_eq!(r.at_realtime(0).ns(), 60_000_000_000);
    }

    #[test]
    fn a_stepped_wall_clock_costs_one_batch_of_stamps_and_no_absurd_time() {
        let mut k = KernelTime::default();
        assert_eq!(k.moment(Some(WALL)), None);
        let second = 1_000_000_000;
        k.batch(reading(60 * second, WALL));
        assert_eq!(k.moment(Some(WALL - 5_000)).unwrap().ns(), 60 * second - 5_000);
        assert_eq!(k.moment(None).unwrap().ns(), 60 * second);
        // Three seconds forward: a stamp from before the step would look three seconds old.
        k.batch(reading(61 * second, WALL + 4 * second));
        assert_eq!(k.moment(Some(WALL + second - 5_000)).unwrap().ns(), 61 * second);
        // From then on the new wall clock is the wall clock.
        k.batch(reading(62 * second, WALL + 5 * second));
        assert_eq!(k.moment(Some(WALL + 5 * second - 7_000)).unwrap().ns(), 62 * second - 7_000);
        // An hour back.
        k.batch(reading(63 * second, WALL - 3_600 * second));
        assert_eq!(k.moment(Some(WALL + 6 * second)).unwrap().ns(), 63 * second);
        // Slewing is no step.
        k.batch(reading(64 * second, WALL - 3_599 * second + 500_000));
        assert_eq!(k.moment(Some(WALL - 3_599 * second)).unwrap().ns(), 64 * second - 500_000);
    }
}
