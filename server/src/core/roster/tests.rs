//! The promises of rosters, tried with random comings and goings: who watches whom is a function of who is there, each peer
//! of an overlay larger than `k` is watched by exactly `k`, and somebody who comes or goes changes few edges.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const OVERLAYS: [&[&str]; 5] = [&["a"], &["a", "a/b"], &["a", "a/c"], &["a", "a/b", "d"], &["d"]];

fn id(n: u64) -> PeerId {
    // Spread, as real ids are.
    let half = |x: u64| x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93);
    PeerId::from_bytes((u128::from(half(n + 1)) << 64 | u128::from(half(n + 1_000_003))).to_be_bytes())
}

fn here(overlays: &[&str]) -> Place {
    let overlays = Arc::new(overlays.iter().map(|o| (*o).to_owned()).collect());
    Place { overlays, watched: true, watches: true }
}

fn finish(rosters: &mut Rosters) {
    while rosters.has_work() {
        rosters.work();
    }
}

/// What it should be, from the definition.
fn expected(k: usize, places: &BTreeMap<PeerId, Place>) -> BTreeSet<(PeerId, PeerId)> {
    let mut edges = BTreeSet::new();
    for (watched, place) in places.iter().filter(|(_, p)| p.watched) {
        for name in place.overlays.iter() {
            let weigher = weight::Weigher::new(*watched);
            let able = places.iter().filter(|(w, p)| p.watches && p.overlays.contains(name) && *w != watched);
            let mut ranked: Vec<_> = able.map(|(w, _)| (weigher.weigh(*w), *w)).collect();
            ranked.sort_unstable_by(|a, b| b.cmp(a));
            edges.extend(ranked.into_iter().take(k).map(|(_, w)| (*watched, w)));
        }
    }
    edges
}

fn edges(rosters: &Rosters) -> BTreeSet<(PeerId, PeerId)> {
    let of = |(watcher, m): (&PeerId, &Member)| m.watches.keys().map(|w| (*w, *watcher)).collect::<Vec<_>>();
    rosters.members.iter().flat_map(of).collect()
}

fn check(rosters: &Rosters, k: usize, places: &BTreeMap<PeerId, Place>) -> Result<(), TestCaseError> {
    let (found, expected) = (edges(rosters), expected(k, places));
    prop_assert_eq!(&found, &expected);
    let by = |peer| found.iter().filter(|(watched, _)| *watched == peer).map(|(_, w)| *w).collect::<BTreeSet<_>>();
    let mut short = 0;
    for (peer, place) in places {
        prop_assert_eq!(by(*peer), rosters.watchers_of(*peer));
        short += u64::from(place.watched && !place.overlays.is_empty() && by(*peer).len() < k);
    }
    let counted = rosters.summary();
    prop_assert_eq!((counted.edges, counted.short, counted.waiting), (expected.len() as u64, short, 0));
    Ok(())
}

fn any_place() -> impl Strategy<Value = Place> {
    let overlays = prop_oneof![6 => select(&OVERLAYS[..]), 1 => Just(&[][..])];
    (overlays, any::<[bool; 2]>(), 0..4_u8).prop_map(|(overlays, [watched, watches], odd)| Place {
        watched: watched || odd > 0,
        watches: watches || odd > 0,
        ..here(overlays)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_befell_the_edges_are_those_of_who_is_there(
        mut k in 0..5_usize,
        moves in vec((0..24_u64, any_place(), any::<bool>(), 0..25_usize), 1..120),
    ) {
        let (mut rosters, mut places) = (Rosters::new(k), BTreeMap::new());
        for (n, place, work, to) in moves {
            if to < 5 {
                rosters.watch_by(to);
                k = to;
            }
            places.insert(id(n), place.clone());
            rosters.place(id(n), place);
            if work {
                finish(&mut rosters);
                check(&rosters, k, &places)?;
            }
        }
        finish(&mut rosters);
        check(&rosters, k, &places)?;
        for n in 0..24 {
            rosters.place(id(n), Place::default());
        }
        finish(&mut rosters);
        prop_assert_eq!((rosters.members.len(), rosters.overlays.len()), (0, 0));
        let changed = rosters.summary().changed;
        prop_assert_eq!(rosters.summary(), RosterSummary { wanted: k as u64, changed, ..RosterSummary::default() });
    }

    #[test]
    fn each_peer_of_an_overlay_larger_than_k_has_k_watchers_and_of_a_smaller_one_all(k in 1..6_usize, n in 1..40_u64) {
        let mut rosters = Rosters::new(k);
        (0..n).for_each(|i| rosters.place(id(i), here(&["a"])));
        finish(&mut rosters);
        for i in 0..n {
            prop_assert_eq!(rosters.watchers_of(id(i)).len(), k.min(n as usize - 1));
        }
    }
}

#[test]
fn one_that_comes_or_goes_changes_few_edges() {
    let (k, n) = (10, 300);
    let mut rosters = Rosters::new(k);
    (0..n).for_each(|i| rosters.place(id(i), here(&["a", "a/b"])));
    finish(&mut rosters);
    let mut most = 0;
    for i in 0..60 {
        for place in [Place::default(), here(&["a", "a/b"])] {
            let before = (edges(&rosters), rosters.summary().changed);
            rosters.place(id(i), place);
            finish(&mut rosters);
            let after = edges(&rosters);
            let differ = before.0.symmetric_difference(&after).count();
            assert_eq!(rosters.summary().changed - before.1, differ as u64, "none is made and unmade on the way");
            most = most.max(differ);
        }
    }
    // Its own k, and twice those it watches: k on average, and never three times that many of 300.
    assert!(most <= k + 2 * 3 * k, "{most} edges changed");
    assert_eq!(rosters.summary().short, 0);
}

#[test]
fn nested_overlays_share_their_edges() {
    let mut rosters = Rosters::new(3);
    (0..40).for_each(|i| rosters.place(id(i), here(if i < 20 { &["a", "a/b"] } else { &["a"] })));
    finish(&mut rosters);
    let of = |i| rosters.watchers_of(id(i)).len();
    assert!((0..20).all(|i| (3..=6).contains(&of(i))) && (20..40).all(|i| of(i) == 3));
    assert!((0..20).map(of).sum::<usize>() < 20 * 6, "no edge is in both");
    assert_eq!(rosters.overlay("a"), (40, 40));
    assert_eq!(rosters.overlay("a/b"), (20, 20));
}

#[test]
fn a_slice_is_bounded_and_the_rest_is_done_later() {
    let mut rosters = Rosters::new(10);
    (0..2_000).for_each(|i| rosters.place(id(i), here(&["a"])));
    let mut slices = 0;
    while rosters.has_work() {
        rosters.work();
        slices += 1;
    }
    // 2,000 x 2,000 weights, and less, as they come one after the other.
    assert!((10..=21).contains(&slices), "{slices} slices");
    assert_eq!(rosters.summary().edges, 20_000);
}

#[test]
fn too_many_memberships_are_left_out_and_counted() {
    let mut rosters = Rosters::new(2);
    let names: Vec<String> = (0..MEMBERSHIPS_MAX + 5).map(|n| format!("o{n:03}")).collect();
    rosters.place(id(1), here(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    finish(&mut rosters);
    let summary = rosters.summary();
    assert_eq!((summary.overlays, summary.memberships_cut), (MEMBERSHIPS_MAX as u64, 5));
    rosters.place(id(1), Place::default());
    finish(&mut rosters);
    assert_eq!(rosters.summary().memberships_cut, 0);
}
