//! The hash by which two servers find out that they hold the same of an owner: the same on all machines and in all versions.

use std::time::Duration;

use pams_shared::moment::Moment;

use super::store::Slot;

/// How long digests may differ before the owner's entries are asked for anew: an entry that a third server took over is
/// missing here and still there at its old owner, until the news has reached both.
const PATIENCE: Duration = Duration::from_secs(10);
/// What asking anew did not cure is asked for less and less often.
const PATIENCE_MAX: Duration = Duration::from_secs(3_600);

/// FNV-1a in 64 bits over peer, generation, seq, epoch, attach (numbers in 8 bytes, the least significant first) and the
/// bytes of the lot; then the finalizer of splitmix64, so that hashes that are alike do not cancel out under XOR. A
/// tombstone has 0: each server drops it in its own time.
pub(super) fn hash(slot: &Slot) -> u64 {
    let Some(lot) = &slot.lot else { return 0 };
    let mut hash = fnv(0xcbf2_9ce4_8422_2325, slot.peer.as_bytes());
    for number in [slot.generation, slot.seq, slot.epoch, slot.attach] {
        hash = fnv(hash, &number.to_le_bytes());
    }
    mix(fnv(hash, lot.bytes()))
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// How long an owner's digest has differed from ours.
#[derive(Debug)]
pub(super) struct Doubt {
    since: Option<Moment>,
    patience: Duration,
}

impl Default for Doubt {
    fn default() -> Self {
        Self { since: None, patience: PATIENCE }
    }
}

impl Doubt {
    /// Takes the result of one comparison; true if it has failed for too long.
    pub fn compare(&mut self, now: Moment, equal: bool) -> bool {
        if equal {
            *self = Self::default();
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let lasts = now.since(since) >= self.patience;
        if lasts {
            self.since = None;
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        lasts
    }
}
