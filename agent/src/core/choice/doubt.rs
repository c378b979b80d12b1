//! Whether the home is still there, when somebody says that it is not: another server, or the network. Either may be wrong or lie, so
//! what they say is a reason to ask the home at once, and no more. It is left if it does not answer soon.

use std::time::Duration;

use pams_shared::moment::Moment;

/// How long the home may take to answer, and more for each round trip: QUIC has sent the question several times by then.
const PATIENCE: Duration = Duration::from_millis(500);
const ROUND_TRIPS: u32 = 4;
const PATIENCE_MAX: Duration = Duration::from_secs(2);
/// Least time between two questions: whoever talks on and on costs no more.
const REST: Duration = Duration::from_secs(1);
/// Whoever looks so late did not run meanwhile, and has heard nobody by that.
const LATE: Duration = Duration::from_millis(500);

/// A question to the home, on somebody's word.
#[derive(Debug, Default)]
pub struct Doubt {
    /// It is not answered: until when it may be, and how long that was given.
    asked: Option<(Moment, Duration)>,
    /// The next one, at the soonest.
    next: Option<Moment>,
}

impl Doubt {
    /// Somebody says that the home is not there; a round trip to it takes `rtt`. Whether it is to be asked.
    pub fn raise(&mut self, now: Moment, rtt: Duration) -> bool {
        if self.asked.is_some() || self.next.is_some_and(|next| now < next) {
            return false;
        }
        let patience = PATIENCE.saturating_add(rtt.saturating_mul(ROUND_TRIPS)).min(PATIENCE_MAX);
        self.asked = Some((now + patience, patience));
        self.next = Some(now + REST);
        true
    }

    /// The home has answered.
    pub fn answered(&mut self) {
        self.asked = None;
    }

    /// When the answer will be overdue.
    pub fn deadline(&self) -> Option<Moment> {
        self.asked.map(|(until, _)| until)
    }

    /// Whether it is. If we look too late for that to be told, the answer has its time anew.
    pub fn is_over(&mut self, now: Moment) -> bool {
        let Some((until, patience)) = self.asked.filter(|(until, _)| *until <= now) else { return false };
        if now.since(until) < LATE {
            return true;
        }
        self.asked = Some((now + patience, patience));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(10);

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    #[test]
    fn a_home_that_answers_is_kept_whoever_doubts_it_and_how_often() {
        let mut doubt = Doubt::default();
        assert!(!doubt.is_over(at(0)), "nobody doubts it");
        let mut asked = 0;
        for ms in (0..10_000).step_by(10) {
            asked += u64::from(doubt.raise(at(ms), RTT));
            assert!(!doubt.is_over(at(ms)));
            if ms % 100 == 90 {
                doubt.answered();
            }
        }
        assert_eq!(asked, 10, "once a second");
    }

    #[test]
    fn one_that_does_not_is_left_soon_and_sooner_where_it_is_near() {
        for (rtt, ms) in [(RTT, 540), (100 * RTT, 2_000)] {
            let mut doubt = Doubt::default();
            assert!(doubt.raise(at(1_000), rtt) && !doubt.raise(at(1_100), rtt));
            assert_eq!(doubt.deadline(), Some(at(1_000 + ms)));
            assert!(!doubt.is_over(at(1_000 + ms - 1)) && doubt.is_over(at(1_000 + ms)));
        }
    }

    #[test]
    fn who_did_not_run_judges_nobody() {
        let mut doubt = Doubt::default();
        assert!(doubt.raise(at(0), RTT));
        assert!(!doubt.is_over(at(60_000)));
        assert_eq!(doubt.deadline(), Some(at(60_540)));
        assert!(doubt.is_over(at(60_600)));
    }
}
