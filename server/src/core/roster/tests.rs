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

/// Where a peer stands, as the engine says it.
type At = (BTreeSet<&'static str>, Stand);

fn here(overlays: &[&'static str]) -> At {
    (overlays.iter().copied().collect(), Stand { watched: true, watches: true, own: true })
}

fn gone() -> At {
    (BTreeSet::new(), Stand::default())
}

fn place(rosters: &mut Rosters, peer: PeerId, at: &At) {
    rosters.place(peer, &at.0.iter().copied().collect::<Vec<_>>(), at.1);
}

fn finish(rosters: &mut Rosters) {
    while rosters.has_work() {
        rosters.work();
    }
}

/// What it should be in these overlays, from the definition: all pairs, whoever is their home.
fn expected(k: usize, places: &BTreeMap<PeerId, At>, of: impl Fn(&str) -> bool) -> BTreeSet<(PeerId, PeerId)> {
    let mut edges = BTreeSet::new();
    for (watched, (overlays, _)) in places.iter().filter(|(_, (_, stand))| stand.watched) {
        for name in overlays.iter().filter(|name| of(name)) {
            let weigher = weight::Weigher::new(*watched);
            let able = places.iter().filter(|(w, (all, stand))| stand.watches && all.contains(name) && *w != watched);
            let mut ranked: Vec<_> = able.map(|(w, _)| (weigher.weigh(*w), *w)).collect();
            ranked.sort_unstable_by(|a, b| b.cmp(a));
            edges.extend(ranked.into_iter().take(k).map(|(_, w)| (*watched, w)));
        }
    }
    edges
}

/// Those of our peers.
fn edges(rosters: &Rosters) -> BTreeSet<(PeerId, PeerId)> {
    let own = rosters.own.keys().map(|peer| rosters.peers.id(*peer));
    own.flat_map(|watcher| rosters.watched_by(watcher).into_iter().map(move |watched| (watched, watcher))).collect()
}

fn check(rosters: &Rosters, k: usize, places: &BTreeMap<PeerId, At>) -> Result<(), TestCaseError> {
    let expected_of_all = expected(k, places, |_| true);
    let is_own = |peer: &PeerId| places[peer].1.own;
    let ours: BTreeSet<_> = expected_of_all.iter().filter(|(_, watcher)| is_own(watcher)).copied().collect();
    prop_assert_eq!(&edges(rosters), &ours);
    let takes_part =
        |name: &str| places.values().any(|(overlays, stand)| stand.own && stand.is_member() && overlays.contains(name));
    let known = expected(k, places, takes_part);
    let mut short = 0;
    for (peer, (overlays, stand)) in places {
        let by =
            expected_of_all.iter().filter(|(watched, _)| watched == peer).map(|(_, w)| *w).collect::<BTreeSet<_>>();
        let whom = if stand.own { &expected_of_all } else { &known };
        let whom = whom.iter().filter(|(_, w)| w == peer).map(|(watched, _)| *watched).collect::<BTreeSet<_>>();
        prop_assert_eq!(&by, &rosters.watchers_of(*peer));
        if stand.own || rosters.resting.is_empty() {
            prop_assert_eq!(&whom, &rosters.watched_by(*peer));
        }
        short += u64::from(stand.own && stand.watched && !overlays.is_empty() && by.len() < k);
    }
    let counted = rosters.summary();
    prop_assert_eq!((counted.edges, counted.short, counted.waiting), (ours.len() as u64, short, 0));
    let listed = |overlay: &Overlay| overlay.lists.is_some();
    let listed = rosters.overlays.iter().filter(|(name, overlay)| listed(overlay) && !rosters.resting.contains(name));
    prop_assert!(listed.map(|(name, _)| name).all(|name| takes_part(name)), "lists of nobody's");
    Ok(())
}

fn any_place() -> impl Strategy<Value = At> {
    let overlays = prop_oneof![6 => select(&OVERLAYS[..]), 1 => Just(&[][..])];
    (overlays, any::<[bool; 2]>(), 0..4_u8, 0..3_u8).prop_map(|(overlays, [watched, watches], odd, home)| {
        let stand = Stand { watched: watched || odd > 0, watches: watches || odd > 0, own: home == 0 };
        (overlays.iter().copied().collect(), stand)
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
        for (n, at, work, to) in moves {
            if to < 5 {
                rosters.watch_by(to);
                k = to;
            }
            place(&mut rosters, id(n), &at);
            places.insert(id(n), at);
            if work {
                finish(&mut rosters);
                check(&rosters, k, &places)?;
            }
        }
        finish(&mut rosters);
        check(&rosters, k, &places)?;
        for n in 0..24 {
            place(&mut rosters, id(n), &gone());
        }
        finish(&mut rosters);
        prop_assert_eq!((rosters.peers.each().count(), rosters.own.len(), rosters.overlays.len()), (0, 0, 0));
        prop_assert!(rosters.resting.is_empty() && rosters.gaps.is_empty());
        let changed = rosters.summary().changed;
        prop_assert_eq!(rosters.summary(), RosterSummary { wanted: k as u64, changed, ..RosterSummary::default() });
    }

    #[test]
    fn each_peer_of_an_overlay_larger_than_k_has_k_watchers_and_of_a_smaller_one_all(k in 1..6_usize, n in 1..40_u64) {
        let mut rosters = Rosters::new(k);
        (0..n).for_each(|i| place(&mut rosters, id(i), &here(&["a"])));
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
    (0..n).for_each(|i| place(&mut rosters, id(i), &here(&["a", "a/b"])));
    finish(&mut rosters);
    let mut most = 0;
    for i in 0..60 {
        for at in [gone(), here(&["a", "a/b"])] {
            let before = (edges(&rosters), rosters.summary().changed);
            place(&mut rosters, id(i), &at);
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
    (0..40).for_each(|i| place(&mut rosters, id(i), &here(if i < 20 { &["a", "a/b"] } else { &["a"] })));
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
    (0..2_000).for_each(|i| place(&mut rosters, id(i), &here(&["a"])));
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
    rosters.place(id(1), &names.iter().map(String::as_str).collect::<Vec<_>>(), here(&[]).1);
    finish(&mut rosters);
    let summary = rosters.summary();
    assert_eq!((summary.overlays, summary.memberships_cut), (MEMBERSHIPS_MAX as u64, 5));
    place(&mut rosters, id(1), &gone());
    finish(&mut rosters);
    assert_eq!(rosters.summary().memberships_cut, 0);
}

#[test]
fn where_none_of_ours_takes_part_nobody_is_listed_but_for_a_while() {
    let mut rosters = Rosters::new(2);
    let foreign = |overlays: &[&'static str]| (here(overlays).0, Stand { own: false, ..here(&[]).1 });
    let names: Vec<&'static str> = (0..RESTING_MAX + 3).map(|n| &*format!("o{n:02}").leak()).collect();
    let listed = |rosters: &Rosters| rosters.overlays.values().filter(|overlay| overlay.lists.is_some()).count();
    for name in &names {
        (0..5).for_each(|i| place(&mut rosters, id(100 * i), &foreign(&names)));
        place(&mut rosters, id(7), &here(&[name]));
        finish(&mut rosters);
        assert_eq!(rosters.watched_by(id(7)).len() as u64, rosters.summary().edges);
    }
    // One is ours, and of those that it was in before the last so many.
    assert_eq!(listed(&rosters), 1 + RESTING_MAX);
    place(&mut rosters, id(7), &here(&[names[names.len() - 2]]));
    finish(&mut rosters);
    assert_eq!(
        (listed(&rosters), rosters.resting.len()),
        (1 + RESTING_MAX, RESTING_MAX),
        "one that is back rests no more"
    );
    place(&mut rosters, id(7), &gone());
    (0..5).for_each(|i| place(&mut rosters, id(100 * i), &gone()));
    finish(&mut rosters);
    assert_eq!((rosters.overlays.len(), rosters.resting.len()), (0, 0));
}

#[test]
fn a_peer_that_changes_its_home_changes_no_pairs_and_is_counted_by_its_home_alone() {
    let foreign = |at: &At| (at.0.clone(), Stand { own: false, ..at.1 });
    let at = here(&["a", "a/b"]);
    let (mut one, mut other) = (Rosters::new(3), Rosters::new(3));
    for i in 0..30 {
        let ours = i % 2 == 0;
        place(&mut one, id(i), &if ours { at.clone() } else { foreign(&at) });
        place(&mut other, id(i), &if ours { foreign(&at) } else { at.clone() });
    }
    finish(&mut one);
    finish(&mut other);
    let counts = |r: &Rosters| (r.summary().edges, r.summary().changed);
    let (before, pairs) = ((counts(&one), counts(&other)), &edges(&one) | &edges(&other));
    let told = one.watched_by(id(4));
    place(&mut one, id(4), &foreign(&at));
    place(&mut other, id(4), &at);
    finish(&mut one);
    finish(&mut other);
    assert_eq!(other.watched_by(id(4)), told);
    assert_eq!(&edges(&one) | &edges(&other), pairs);
    let (one, other) = (counts(&one), counts(&other));
    assert_eq!((one.1, other.1), (before.0.1, before.1.1), "no pair was made or unmade");
    assert_eq!(one.0 + other.0, before.0.0 + before.1.0);
}
