//! How often probes may be asked for: by one caller, and of one peer. A bucket of tokens each, kept as the moment at which it
//! is full again (GCRA), so that one that is full needs no memory.

use std::{collections::BTreeMap, time::Duration};

use pams_shared::moment::Moment;

#[derive(Debug)]
pub(super) struct Limit<K> {
    /// A token comes so often.
    every: Duration,
    /// Tokens in a full bucket; at least 1.
    burst: u32,
    /// Buckets that are not full at once.
    buckets_max: usize,
    full_at: BTreeMap<K, Moment>,
}

impl<K: Ord + Copy> Limit<K> {
    pub fn new(every: Duration, burst: u32, buckets_max: usize) -> Self {
        Self { every, burst, buckets_max, full_at: BTreeMap::new() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, now: Moment, key: K) -> Result<(), Duration> {
        let full_at = self.full_at.get(&key).copied().map_or(now, |at| at.max(now));
        let room = self.every * (self.burst - 1);
        if let Some(wait) = full_at.since(now).checked_sub(room).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        if !self.full_at.contains_key(&key) && self.full_at.len() >= self.buckets_max {
            self.full_at.retain(|_, at| *at > now);
            if self.full_at.len() >= self.buckets_max {
                return Err(self.every);
            }
        }
        self.full_at.insert(key, full_at + self.every);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::new(ms * 1_000_000, 0)
    }

    #[test]
    fn a_burst_goes_through_and_then_one_at_a_time() {
        let mut limit = Limit::new(Duration::from_secs(1), 5, 9);
        for _ in 0..5 {
            assert_eq!(limit.take(at(100), 'a'), Ok(()));
        }
        assert_eq!(limit.take(at(100), 'a'), Err(Duration::from_secs(1)));
        assert_eq!(limit.take(at(600), 'a'), Err(Duration::from_millis(500)));
        assert_eq!(limit.take(at(600), 'b'), Ok(()), "another one's bucket is full");
        assert_eq!((limit.take(at(1_100), 'a'), limit.take(at(1_100), 'a').is_err()), (Ok(()), true));
        for _ in 0..5 {
            assert_eq!(limit.take(at(60_000), 'a'), Ok(()));
        }
        assert!(limit.take(at(60_000), 'a').is_err(), "a bucket holds no more than a burst");
    }

    #[test]
    fn buckets_are_bounded_and_full_ones_forgotten() {
        let mut limit = Limit::new(Duration::from_secs(1), 2, 3);
        for key in 0..3 {
            assert_eq!(limit.take(at(0), key), Ok(()));
        }
        assert_eq!(limit.take(at(0), 3), Err(Duration::from_secs(1)), "no room for another");
        assert_eq!(limit.take(at(0), 2), Ok(()));
        assert_eq!((limit.take(at(1_000), 3), limit.full_at.len()), (Ok(()), 2));
    }
}
