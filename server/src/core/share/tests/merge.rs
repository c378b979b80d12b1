//! Whatever the order, with repetition and replay: what is told by several owners gives equal stores.

use pams_shared::frame::{Deltas, Shared};
use proptest::prelude::*;

use super::*;

/// One entry, and whose.
fn entries() -> impl Strategy<Value = Vec<(u64, Shared)>> {
    let entry = (0..4_u64, 0..6_u64, 1..3_u64, 1..4_u64, 1..4_u64, 0..4_u8);
    prop::collection::vec(entry, 1..60).prop_map(|entries| {
        let numbered = entries.into_iter().enumerate().map(|(i, (owner, n, generation, epoch, attach, kind))| {
            let lot = (kind > 0).then(|| lot(i as u64));
            let banned = kind == 0 && i.is_multiple_of(2);
            (owner, Shared { peer: peer(n), generation, seq: i as u64 + 1, epoch, attach, lot, banned })
        });
        numbered.collect()
    })
}

fn frame(owner: u64, entries: Vec<Shared>) -> Deltas {
    let begins = entries.is_empty();
    Deltas {
        owner: server(owner),
        generation: 2,
        anew: begins,
        bulk: begins,
        bulk_end: false,
        upto: 0,
        entries,
        digest: None,
    }
}

fn told(entries: &[(u64, Shared)], order: &[usize]) -> Share {
    let mut share = Share::new(server(9), 1, ShareConfig::default(), at(0));
    for owner in 0..4 {
        share.take(at(0), server(owner), frame(owner, Vec::new())).unwrap();
    }
    for i in order {
        let (owner, entry) = entries[i % entries.len()].clone();
        share.take(at(1), server(owner), frame(owner, vec![entry])).unwrap();
    }
    share
}

fn all(share: &Share) -> Vec<String> {
    share.after(None).map(|(peer, e)| format!("{peer} {e:?}")).collect()
}

proptest! {
    #[test]
    fn any_order_and_repetition_gives_equal_stores(
        entries in entries(), extra in prop::collection::vec(0..1000_usize, 0..80), seed in any::<u64>(),
    ) {
        let straight: Vec<usize> = (0..entries.len()).collect();
        let mut other: Vec<usize> = straight.iter().copied().chain(extra).collect();
        let mut random = pams_shared::id::Minter::new([seed as u8; 32]);
        for i in (1..other.len()).rev() {
            other.swap(i, random.below(i as u64 + 1) as usize);
        }
        let (a, b) = (told(&entries, &straight), told(&entries, &other));
        prop_assert_eq!(all(&a), all(&b));
        prop_assert_eq!(digests(&a), digests(&b));
        let newest = |n: u64| entries.iter().filter(|(_, e)| e.peer == peer(n)).map(|(_, e)| (e.epoch, e.attach)).max();
        for n in 0..6 {
            prop_assert_eq!(a.entry(peer(n)).map(|e| (e.epoch, e.attach)), newest(n));
        }
    }
}
