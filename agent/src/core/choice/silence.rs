//! When a home counts as silent: a report was written, and nothing has come since that shows that it was heard. What the home tells
//! unasked shows nothing of the kind: one that is deaf may talk on.

use std::time::Duration;

use pams_shared::moment::Moment;

/// How long a home may keep silent, if another one is known; else it is given the time of a report.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_LAST: Duration = Duration::from_secs(10);
/// More for each record on its way, so that nobody is left because the way up is slow: 100 bytes at 5 kB/s.
const PER_RECORD: Duration = Duration::from_millis(20);
/// Whoever looks so late did not run meanwhile, and has heard nobody by that.
const LATE: Duration = Duration::from_millis(500);

/// One that was written: which of this connection, and when.
#[derive(Clone, Copy, Debug)]
struct Written {
    number: u64,
    at: Moment,
}

/// The silence after what was written.
#[derive(Debug, Default)]
pub struct Silence {
    /// Reports written on this connection.
    written: u64,
    /// The first that was not heard, as far as we know, and the last one.
    waits: Option<(Written, Written)>,
    /// Records in them.
    records: usize,
}

impl Silence {
    /// A report with so many records was written. Which of this connection it is, from 1 on.
    pub fn wrote(&mut self, now: Moment, records: usize) -> u64 {
        self.written += 1;
        let last = Written { number: self.written, at: now };
        self.waits = Some((self.waits.map_or(last, |(first, _)| first), last));
        self.records = self.records.saturating_add(records);
        self.written
    }

    /// The home has heard so many of them.
    pub fn heard(&mut self, came: u64) {
        if let Some((first, last)) = self.waits
            && first.number <= came
        {
            // When those between were written is not kept; the last is the kindest guess.
            self.waits = (came < last.number).then_some((Written { number: came + 1, ..last }, last));
            self.records = 0;
        }
    }

    /// When the silence will have lasted too long; `None`: nothing is to be answered. `others`: another server is known.
    pub fn deadline(&self, others: bool) -> Option<Moment> {
        let (first, _) = self.waits?;
        let records = u32::try_from(self.records).unwrap_or(u32::MAX);
        let patience = PATIENCE.saturating_add(PER_RECORD.saturating_mul(records)).min(PATIENCE_LAST);
        Some(first.at + if others { patience } else { PATIENCE_LAST })
    }

    /// Whether it has lasted too long. If we look too late for that to be told, it begins anew.
    pub fn is_over(&mut self, now: Moment, others: bool) -> bool {
        let Some(deadline) = self.deadline(others).filter(|at| *at <= now) else { return false };
        if now.since(deadline) < LATE {
            return true;
        }
        self.waits = self.waits.map(|(first, last)| (Written { at: now, ..first }, Written { at: now, ..last }));
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
    fn only_what_was_written_begins_a_silence_and_only_that_it_was_heard_ends_one() {
        let mut s = Silence::default();
        assert_eq!(s.deadline(true), None);
        assert_eq!((s.wrote(at(1_000), 0), s.wrote(at(2_500), 0)), (1, 2));
        assert_eq!((s.deadline(true), s.deadline(false)), (Some(at(3_000)), Some(at(11_000))));
        assert!(!s.is_over(at(2_999), true) && s.is_over(at(3_000), true) && !s.is_over(at(3_000), false));
        // That what came before was heard says nothing of it; that the first was heard speaks for that one.
        s.heard(0);
        assert_eq!(s.deadline(true), Some(at(3_000)));
        s.heard(1);
        assert_eq!(s.deadline(true), Some(at(4_500)));
        // Told again, as a home that waits for a sibling does.
        s.heard(1);
        assert_eq!(s.deadline(true), Some(at(4_500)));
        s.heard(2);
        assert_eq!(s.deadline(true), None);
    }

    #[test]
    fn a_home_that_hears_us_is_kept_however_long_it_waits_and_a_deaf_one_is_not() {
        let mut s = Silence::default();
        // It is told once for each report, 700 ms after it came, that it was heard.
        for n in 1..=20 {
            assert_eq!(s.wrote(at(1_000 * n), 10), n);
            assert!(!s.is_over(at(1_000 * n + 700), true));
            s.heard(n);
        }
        // From here on it is deaf, and acknowledges what it heard before as often as it likes.
        s.wrote(at(21_000), 0);
        for n in 0..20 {
            s.heard(20);
            assert_eq!(s.is_over(at(21_000 + 100 * n), true), 100 * n >= 2_000);
        }
        assert!(s.is_over(at(23_000), true));
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
