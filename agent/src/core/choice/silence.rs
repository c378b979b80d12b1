//! When a home counts as silent: a report was written, and no frame at all has come since.

use std::time::Duration;

use pams_shared::moment::Moment;

/// How long a home may keep silent, if another one is known; else it is given the time of a report.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_LAST: Duration = Duration::from_secs(10);
/// More for each record on its way, so that nobody is left because the way up is slow: 100 bytes at 5 kB/s.
const PER_RECORD: Duration = Duration::from_millis(20);
/// Whoever looks so late did not run meanwhile, and has heard nobody by that.
const LATE: Duration = Duration::from_millis(500);

/// The silence after what was written.
#[derive(Debug, Default)]
pub struct Silence {
    /// The first write that nothing followed, and the last one.
    wrote: Option<(Moment, Moment)>,
    /// Records in them.
    records: usize,
}

impl Silence {
    /// A report with so many records was written.
    pub fn wrote(&mut self, now: Moment, records: usize) {
        self.wrote = Some((self.wrote.map_or(now, |(first, _)| first), now));
        self.records = self.records.saturating_add(records);
    }

    /// A frame came, whatever it was, at this moment or before.
    pub fn heard(&mut self, at: Moment) {
        if let Some((first, last)) = self.wrote
            && first <= at
        {
            self.wrote = (at < last).then_some((last, last));
            self.records = 0;
        }
    }

    /// When the silence will have lasted too long; `None`: nothing is to be answered. `others`: another server is known.
    pub fn deadline(&self, others: bool) -> Option<Moment> {
        let (first, _) = self.wrote?;
        let records = u32::try_from(self.records).unwrap_or(u32::MAX);
        let patience = PATIENCE.saturating_add(PER_RECORD.saturating_mul(records)).min(PATIENCE_LAST);
        Some(first + if others { patience } else { PATIENCE_LAST })
    }

    /// Whether it has lasted too long. If we look too late for that to be told, it begins anew.
    pub fn is_over(&mut self, now: Moment, others: bool) -> bool {
        let Some(deadline) = self.deadline(others).filter(|at| *at <= now) else { return false };
        if now.since(deadline) < LATE {
            return true;
        }
        self.wrote = Some((now, now));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    #[test]
    fn any_frame_ends_the_silence_and_only_what_was_written_begins_one() {
        let mut s = Silence::default();
        assert_eq!(s.deadline(true), None);
        s.wrote(at(1_000), 0);
        s.wrote(at(2_500), 0);
        assert_eq!((s.deadline(true), s.deadline(false)), (Some(at(3_000)), Some(at(11_000))));
        assert!(!s.is_over(at(2_999), true) && s.is_over(at(3_000), true) && !s.is_over(at(3_000), false));
        // What came before it was written says nothing of it; what came between the two speaks for the first.
        s.heard(at(999));
        assert_eq!(s.deadline(true), Some(at(3_000)));
        s.heard(at(1_010));
        assert_eq!(s.deadline(true), Some(at(4_500)));
        s.heard(at(2_500));
        assert_eq!(s.deadline(true), None);
    }

    #[test]
    fn a_long_report_has_more_time_and_never_more_than_one_without_another_home() {
        let mut s = Silence::default();
        s.wrote(at(0), 50);
        assert_eq!(s.deadline(true), Some(at(3_000)));
        s.wrote(at(100), 100_000);
        assert_eq!(s.deadline(true), s.deadline(false));
    }

    #[test]
    fn who_did_not_run_judges_nobody() {
        let mut s = Silence::default();
        s.wrote(at(0), 0);
        assert!(!s.is_over(at(7_000), true));
        assert_eq!(s.deadline(true), Some(at(9_000)));
        assert!(s.is_over(at(9_100), true));
    }
}
