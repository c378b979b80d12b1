//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): of all who could watch
//! a peer, those with the highest weight do. Each weight depends on the two alone, so every server that knows the same members
//! chooses the same watchers, in every overlay, and somebody who comes or goes changes only its own edges.
//!
//! The weight is SplitMix64's finalizer (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014; the
//! constants are Stafford's variant 13) chained over the four halves of both ids. It is written here and not taken from the
//! standard library or a crate, because servers of other versions and platforms must agree on it: a test keeps its values.
//! It is no secret: whoever chooses its id can choose whom it watches, which gives it nothing but work.

use pams_shared::id::PeerId;

/// "pams.buddies" has no meaning but to be ours: other uses of the same ids rank them otherwise.
const SEED: u64 = 0x7061_6d73_2e62_7564;
/// 2^64 over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The weights of all that could watch one peer: half of the work is done once.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Weigher(u64);

impl Weigher {
    pub fn new(watched: PeerId) -> Self {
        Self(absorb(SEED, watched))
    }

    /// How much this watcher is wanted; the more the higher.
    pub fn weigh(self, watcher: PeerId) -> u64 {
        absorb(self.0, watcher)
    }
}

fn absorb(state: u64, id: PeerId) -> u64 {
    let id = u128::from_be_bytes(*id.as_bytes());
    [(id >> 64) as u64, id as u64].into_iter().fold(state, |state, half| mix(state.wrapping_add(GOLDEN) ^ half))
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(watched: u128, watcher: u128) -> u64 {
        let id = |n: u128| PeerId::from_bytes(n.to_be_bytes());
        Weigher::new(id(watched)).weigh(id(watcher))
    }

    #[test]
    fn the_weights_are_the_same_for_ever() {
        assert_eq!(mix(GOLDEN), 0xe220_a839_7b1d_cdaf, "the first output of SplitMix64 from 0, as published");
        let spread = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
        let weights = [weight(0, 0), weight(1, 2), weight(2, 1), weight(spread, 7), weight(7, spread)];
        assert_eq!(
            weights.map(|w| format!("{w:016x}")),
            ["f1e27169ebf3d307", "7da2cee6596cf7de", "1a6de2513ff04826", "bedfd24659a782f2", "972bb5f21a623b5f"]
        );
    }

    #[test]
    fn the_work_is_spread() {
        let (n, k) = (1_000_u128, 10);
        let mut watches = vec![0_usize; n as usize];
        for watched in 0..n {
            let mut ranked: Vec<_> = (0..n).filter(|w| *w != watched).map(|w| (weight(watched, w), w)).collect();
            ranked.sort_unstable_by(|a, b| b.cmp(a));
            ranked[..k].iter().for_each(|(_, w)| watches[*w as usize] += 1);
        }
        // Binomial, 10 on average, a deviation of 3.2.
        let (least, most) = (watches.iter().min(), watches.iter().max());
        assert!(least >= Some(&1) && most <= Some(&24), "{least:?} to {most:?} of {k} on average");
    }
}
