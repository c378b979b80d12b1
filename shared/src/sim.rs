//! An emulated network from a seed: delay, jitter, loss, duplicates, reordering, partitions.
//!
//! Pure and in virtual time: it says what becomes of a packet and when; whoever asks carries the packet. The socket asks it
//! for the demo and for loopback tests, the simulator of the cores for everything else. It models no bandwidth and no queue:
//! presence is small.

use std::{collections::BTreeMap, ops::Deref, time::Duration};

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::moment::{Moment, nanos};

/// Longest delay and jitter that a link can have; longer ones are cut to it.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

/// One direction between two parties. The default is perfect: everything arrives, at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    pub delay: Duration,
    /// Each packet's delay is drawn evenly from `delay - jitter ..= delay + jitter`, not below zero.
    pub jitter: Duration,
    /// Probabilities, 0.0 to 1.0.
    pub loss: f64,
    pub duplicate: f64,
    /// A packet so struck takes a detour of up to one more `delay` (at least 1 ms) and may be overtaken; all others of one
    /// path stay in order.
    pub reorder: f64,
}

impl Link {
    /// Nothing gets through.
    pub const PARTITION: Link =
        Link { delay: Duration::ZERO, jitter: Duration::ZERO, loss: 1.0, duplicate: 0.0, reorder: 0.0 };

    pub fn is_perfect(&self) -> bool {
        *self == Link::default()
    }

    /// This link with every value in its range; what is not a number becomes 0.
    fn clamped(self) -> Link {
        let probability = |p: f64| if p.is_nan() { 0.0 } else { p.clamp(0.0, 1.0) };
        Link {
            delay: self.delay.min(DELAY_MAX),
            jitter: self.jitter.min(DELAY_MAX),
            loss: probability(self.loss),
            duplicate: probability(self.duplicate),
            reorder: probability(self.reorder),
        }
    }
}

/// When the copies of one packet arrive: none, one or two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    at: [Moment; 2],
    len: usize,
}

impl Fates {
    fn push(&mut self, at: Moment) {
        self.at[self.len] = at;
        self.len += 1;
    }
}

impl Deref for Fates {
    type Target = [Moment];

    fn deref(&self) -> &[Moment] {
        &self.at[..self.len]
    }
}

/// One direction between two parties, with its own sequence of chances.
#[derive(Debug)]
pub struct Path {
    link: Link,
    chances: ChaCha12Rng,
    last: Moment,
}

impl Path {
    pub fn new(link: Link, seed: [u8; 32]) -> Self {
        Self { link: link.clamped(), chances: ChaCha12Rng::from_seed(seed), last: Moment::default() }
    }

    pub fn link(&self) -> Link {
        self.link
    }

    /// From now on the path is like this; what is under way stays so.
    pub fn set(&mut self, link: Link) {
        self.link = link.clamped();
    }

    /// What becomes of a packet that leaves at `now`. Each packet takes as many chances as any other, so that a changed
    /// link does not change what later packets draw.
    pub fn fate(&mut self, now: Moment) -> Fates {
        let [lost, twice, struck, first, second, detour] = std::array::from_fn(|_| self.chance());
        let mut fates = Fates::default();
        if lost < self.link.loss {
            return fates;
        }
        if struck < self.link.reorder {
            let detour = self.link.delay.max(Duration::from_millis(1)).mul_f64(detour);
            fates.push(now + self.delay(first) + detour);
        } else {
            fates.push(self.in_order(now + self.delay(first)));
        }
        if twice < self.link.duplicate {
            fates.push(self.in_order(now + self.delay(second)));
        }
        fates
    }

    fn in_order(&mut self, due: Moment) -> Moment {
        self.last = self.last.max(due);
        self.last
    }

    fn delay(&self, chance: f64) -> Duration {
        let jitter = 2.0 * nanos(self.link.jitter) as f64 * chance;
        Duration::from_nanos((nanos(self.link.delay) + jitter as u64).saturating_sub(nanos(self.link.jitter)))
    }

    /// Evenly from 0.0 up to, not including, 1.0.
    fn chance(&mut self) -> f64 {
        (self.chances.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// All paths of one network, by whatever names a path: an address, a pair of nodes. A path not named is perfect.
#[derive(Debug)]
pub struct Network<K> {
    seed: [u8; 32],
    opened: u64,
    paths: BTreeMap<K, Path>,
}

impl<K: Ord> Network<K> {
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, opened: 0, paths: BTreeMap::new() }
    }

    /// Makes the path `key` like `link`. A path keeps its sequence of chances; a new one's follows from the seed and from
    /// how many were named before.
    pub fn set(&mut self, key: K, link: Link) {
        if let Some(path) = self.paths.get_mut(&key) {
            return path.set(link);
        }
        let mut path = Path::new(link, self.seed);
        path.chances.set_stream(self.opened);
        self.opened += 1;
        self.paths.insert(key, path);
    }

    /// How the path is now.
    pub fn link(&self, key: &K) -> Link {
        self.paths.get(key).map(Path::link).unwrap_or_default()
    }

    pub fn fate(&mut self, key: &K, now: Moment) -> Fates {
        match self.paths.get_mut(key) {
            Some(path) => path.fate(now),
            None => Fates { at: [now, Moment::default()], len: 1 },
        }
    }

    /// Paths named so far.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn link() -> Link {
        Link { delay: 20 * MS, jitter: 10 * MS, loss: 0.1, duplicate: 0.05, reorder: 0.0 }
    }

    fn run(link: Link, seed: u8, packets: u64) -> Vec<Fates> {
        let mut path = Path::new(link, [seed; 32]);
        (0..packets).map(|i| path.fate(Moment::new(i * 1_000_000, 0))).collect()
    }

    #[test]
    fn one_seed_gives_one_network() {
        assert_eq!(run(link(), 7, 1_000), run(link(), 7, 1_000));
        assert_ne!(run(link(), 7, 1_000), run(link(), 8, 1_000));
    }

    #[test]
    fn ratios_and_delays_are_near_the_set_ones() {
        let fates = run(link(), 1, 20_000);
        let lost = fates.iter().filter(|f| f.is_empty()).count();
        let twice = fates.iter().filter(|f| f.len() == 2).count();
        assert!((1_850..2_150).contains(&lost), "{lost}");
        assert!((780..1_020).contains(&twice), "{twice}");

        let mut path = Path::new(Link { loss: 0.0, duplicate: 0.0, ..link() }, [3; 32]);
        let delays = (0..5_000).map(|i| {
            let now = Moment::new(i * 1_000_000_000, 0); // far apart: order plays no part
            path.fate(now)[0].since(now)
        });
        let (mut least, mut most, mut sum) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
        delays.for_each(|d| (least, most, sum) = (least.min(d), most.max(d), sum + d));
        assert!(least >= 10 * MS && least < 11 * MS, "{least:?}");
        assert!(most <= 30 * MS && most > 29 * MS, "{most:?}");
        assert!(sum / 5_000 > 19 * MS && sum / 5_000 < 21 * MS, "{:?}", sum / 5_000);
    }

    #[test]
    fn nothing_overtakes_unless_reordering_strikes() {
        let arrivals = |link| run(link, 2, 5_000).iter().flat_map(|f| f.to_vec()).collect::<Vec<_>>();
        assert!(arrivals(link()).is_sorted());
        assert!(!arrivals(Link { reorder: 0.1, ..link() }).is_sorted());
    }

    #[test]
    fn a_partition_loses_everything_and_heals() {
        let mut n = Network::new([1; 32]);
        let now = Moment::new(5, 0);
        assert_eq!(n.fate(&"a", now).to_vec(), [now], "not named: perfect");
        n.set("a", Link::PARTITION);
        assert!((0..1_000).all(|_| n.fate(&"a", now).is_empty()));
        n.set("a", Link::default());
        assert_eq!(n.fate(&"a", now).to_vec(), [now]);
        assert!(n.link(&"a").is_perfect());
    }

    #[test]
    fn two_paths_of_one_network_have_their_own_chances() {
        let mut n = Network::new([1; 32]);
        n.set(1, Link { loss: 0.5, ..Link::default() });
        n.set(2, Link { loss: 0.5, ..Link::default() });
        let now = Moment::new(0, 0);
        let lost = |n: &mut Network<i32>, k| (0..64).map(|_| n.fate(&k, now).is_empty()).collect::<Vec<_>>();
        assert_ne!(lost(&mut n, 1), lost(&mut n, 2));
    }

    #[test]
    fn absurd_values_are_brought_into_range() {
        let l = Link { delay: Duration::MAX, jitter: Duration::MAX, loss: f64::NAN, duplicate: 9.0, reorder: -1.0 };
        let fates = run(l, 1, 100);
        assert!(fates.iter().all(|f| f.len() == 2), "loss 0, duplicate 1");
    }
}
