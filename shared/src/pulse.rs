//! Notices that a daemon did not run: its process was stopped or starved, or its host suspended. The loop looks at each
//! turn, and at least once each [`BEAT`], so that a longer gap between two looks is a time in which nothing was heard.

use std::time::Duration;

use crate::moment::Moment;

/// Longest pause between two looks of a loop that runs.
pub const BEAT: Duration = Duration::from_secs(1);
/// A gap longer than this is a stall: shorter ones are a busy host's.
const STALL: Duration = Duration::from_secs(2);
/// The two clocks are not read at once, so less says nothing.
const SUSPENDED_MIN: Duration = Duration::from_secs(1);
/// A suspend is looked for no more often than this, unless the wall clock leaps: that takes two clocks more, and a busy loop
/// looks many thousand times a second.
const SUSPEND_PAUSE: Duration = Duration::from_millis(100);
/// The wall clock leaps if it gains so much on the monotonic one between two looks: in a suspend, or because it was set. Less
/// than the shortest suspend, as its label has whole milliseconds.
const LEAP: Duration = Duration::from_millis(900);

/// When the loop looked last.
#[derive(Debug)]
pub struct Pulse {
    seen: Moment,
    suspended: Option<Duration>,
    /// When that was asked.
    asked: Moment,
}

/// How long it did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Of monotonic time.
    pub stopped: Duration,
    /// Of the host's, which the monotonic clock leaves out.
    pub suspended: Duration,
}

impl Pulse {
    /// `suspended`: how long the host has been suspended since it booted, where that is known.
    pub fn new(now: Moment, suspended: Option<Duration>) -> Self {
        Self { seen: now, suspended, asked: now }
    }

    /// A look at both clocks; the gap since the last one, if it is one. `suspended` is as for [`new`](Self::new). It is asked when
    /// the wall clock has gone on without the monotonic one, as it does in a suspend, and else at most once each 100 ms: should
    /// somebody have set the wall clock back meanwhile, a suspend may be told so much later.
    pub fn look(&mut self, now: Moment, suspended: impl FnOnce() -> Option<Duration>) -> Option<Gap> {
        let seen = std::mem::replace(&mut self.seen, now);
        let stopped = now.since(seen);
        let by_wall = Duration::from_millis(now.wall_ms().saturating_sub(seen.wall_ms()));
        let leapt = by_wall.saturating_sub(stopped) >= LEAP;
        let asks = leapt || now.since(self.asked) >= SUSPEND_PAUSE;
        let grown = if asks { self.grown(now, suspended()) } else { Duration::ZERO };
        let gap = Gap {
            stopped: if stopped > STALL { stopped } else { Duration::ZERO },
            suspended: if grown >= SUSPENDED_MIN { grown } else { Duration::ZERO },
        };
        (gap.stopped > Duration::ZERO || gap.suspended > Duration::ZERO).then_some(gap)
    }

    /// How much longer the host has been suspended than when that was asked last.
    fn grown(&mut self, now: Moment, suspended: Option<Duration>) -> Duration {
        self.asked = now;
        let before = std::mem::replace(&mut self.suspended, suspended);
        suspended.zip(before).map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_stop_and_a_suspend_are_told_apart_and_a_busy_moment_is_neither() {
        let mut pulse = Pulse::new(at(0), Some(s(100)));
        assert_eq!(pulse.look(at(1_000), || Some(s(100))), None);
        assert_eq!(pulse.look(at(2_900), || Some(s(100) + Duration::from_millis(3))), None);
        assert_eq!(pulse.look(at(12_900), || Some(s(100))), Some(Gap { stopped: s(10), suspended: Duration::ZERO }));
        assert_eq!(
            pulse.look(at(13_000), || Some(s(7_300))),
            Some(Gap { stopped: Duration::ZERO, suspended: s(7_200) })
        );
        assert_eq!(pulse.look(at(16_000), || Some(s(7_310))), Some(Gap { stopped: s(3), suspended: s(10) }));
        assert_eq!(pulse.look(at(16_001), || Some(s(7_310))), None);
    }

    #[test]
    fn where_the_system_does_not_tell_of_suspends_stops_are_still_seen() {
        let mut pulse = Pulse::new(at(0), None);
        assert_eq!(pulse.look(at(1_000), || None), None);
        assert_eq!(pulse.look(at(9_000), || None).unwrap().stopped, s(8));
        assert_eq!(pulse.look(at(9_500), || Some(s(7_200))), None, "told for the first time");
    }

    #[test]
    fn a_suspend_is_told_with_the_first_look_after_it() {
        let busy = |ms: u64, wall_ms: u64| Moment::new(ms * 1_000_000, 1_800_000_000_000 + wall_ms);
        let mut pulse = Pulse::new(busy(0, 0), Some(s(0)));
        assert_eq!(pulse.look(busy(1, 1), || panic!("nothing calls for it")), None);
        let gap = pulse.look(busy(2, 1_502), || Some(Duration::from_millis(1_500)));
        assert_eq!(gap.map(|g| g.suspended), Some(Duration::from_millis(1_500)));
        // Somebody sets the wall clock: that is asked for, and is nothing.
        assert_eq!(pulse.look(busy(3, 7_200_000), || Some(Duration::from_millis(1_500))), None);
        assert_eq!(pulse.look(busy(4, 5_000), || panic!("backwards is no suspend")), None);
    }

    #[test]
    fn a_busy_loop_asks_for_suspends_ten_times_a_second_and_misses_none() {
        let (mut pulse, mut asked) = (Pulse::new(at(0), Some(s(0))), 0);
        let gaps: Vec<_> = (1..=1_000)
            .filter_map(|ms| {
                // Two hours pass between two looks a millisecond apart.
                let suspended = if ms < 450 { s(0) } else { s(7_200) };
                let gap = pulse.look(at(ms), || {
                    asked += 1;
                    Some(suspended)
                });
                gap.map(|gap| (ms, gap))
            })
            .collect();
        assert_eq!(gaps, [(500, Gap { stopped: Duration::ZERO, suspended: s(7_200) })]);
        assert_eq!(asked, 10);
    }
}
