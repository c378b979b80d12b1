//! Each rule as a timeline.

use pams_shared::frame::{Deltas, Frame, Held, STREAM_BYTES_MAX, wire};

use super::*;

const STREAM: FollowerId = FollowerId(1);

fn share(n: u64, generation: u64) -> Share {
    Share::new(server(n), generation, ShareConfig::default(), at(0))
}

/// Opens a stream from `teller` to `follower`, which must ask for what it wants.
fn open(ms: u64, teller: &mut Share, follower: &Share, owner: u64, id: FollowerId) {
    let want = follower.want(server(owner), teller.me);
    teller.follow(at(ms), id, follower.me, want).unwrap();
}

/// Moves all that a stream has.
fn flow(ms: u64, teller: &mut Share, follower: &mut Share, id: FollowerId) -> Result<usize, ShareError> {
    let frames = frames(teller, id);
    for deltas in frames.clone() {
        let held = follower.take(at(ms), teller.me, deltas)?;
        teller.held(id, held);
    }
    Ok(frames.len())
}

#[test]
fn what_is_published_is_told_acknowledged_and_covered() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    assert_eq!(a.publish(at(0), peer(1), 1, 1, lot(4)), Some(1));
    assert_eq!(a.publish(at(0), peer(1), 1, 1, lot(4)), Some(1), "the same again is not told again");
    assert_eq!(a.covered(), 0);
    open(0, &mut a, &b, 1, STREAM);
    assert_eq!(flow(0, &mut a, &mut b, STREAM), Ok(3), "begin, the entry, end");
    assert_eq!(a.covered(), 1);
    assert_eq!((b.changed(), b.changed()), (Some(peer(1)), None));
    assert_eq!(b.origin(server(1)).map(|o| (o.upto, o.entries, o.caught_up)), Some((1, 1, true)));

    assert_eq!(a.ready(), None);
    assert_eq!(a.publish(at(5), peer(1), NUMBER_MAX + 1, 1, lot(8)), None, "no sibling would take it");
    assert_eq!(a.publish(at(5), peer(1), 1, 1, lot(8)), Some(2));
    assert_eq!((a.ready(), a.ready()), (Some(STREAM), None));
    flow(5, &mut a, &mut b, STREAM).unwrap();
    assert_eq!(a.covered(), 2);
    assert_eq!(b.entry(peer(1)).and_then(|e| e.lot.cloned()), Some(lot(8)));
}

#[test]
fn an_idle_stream_shows_that_it_is_with_every_heartbeat() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    open(0, &mut a, &b, 1, STREAM);
    flow(0, &mut a, &mut b, STREAM).unwrap();
    assert_eq!(a.deadline(), Some(at(1_000)));
    a.tick(at(1_000));
    assert_eq!(a.ready(), Some(STREAM));
    assert_eq!(flow(1_000, &mut a, &mut b, STREAM), Ok(1));
    assert_eq!(b.origin(server(1)).map(|o| o.heard), Some(at(1_000)));
}

#[test]
fn a_stream_goes_on_where_the_last_one_ended_and_the_live_tail_passes_the_bulk() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    (0..2_000).for_each(|n| assert!(a.publish(at(0), peer(n), 1, 1, lot(n)).is_some()));
    open(0, &mut a, &b, 1, STREAM);
    let mut frames = Vec::new();
    for n in 0.. {
        let Some(frame) = a.next(STREAM) else { break };
        // While the bulk is under way, there is news with each frame.
        if n < 5 {
            a.publish(at(1), peer(5_000 + n), 1, 1, lot(0));
        }
        frames.push(frame);
    }
    let kinds: Vec<bool> = frames.iter().map(|frame| frame.bulk).collect();
    assert_eq!(kinds[..6], [true, false, true, false, true, false], "the two alternate");
    let first: Vec<_> = frames.iter().filter(|f| f.bulk).flat_map(|f| &f.entries).take(1_000).collect();
    let reachable = |lot: &Packed| matches!(lot.lot().since_ms % 4, 0 | 1);
    assert!(first.iter().all(|e| e.lot.as_ref().is_some_and(reachable)), "peers that may be reached come first");

    let end = frames.iter().position(|frame| frame.bulk_end).unwrap();
    for (i, frame) in frames.into_iter().enumerate() {
        b.take(at(1), server(1), frame).unwrap();
        assert_eq!(b.want(server(1), server(1)).from > 0, i >= end, "before the end of the bulk nothing is certain");
    }
    assert_eq!((b.len(), b.want(server(1), server(1)).from), (2_005, 2_005));
    a.unfollow(STREAM);
    a.publish(at(2), peer(1), 1, 2, lot(1));
    open(2, &mut a, &b, 1, STREAM);
    let rest: usize = frames_of(&mut a).iter().map(|frame| frame.entries.len()).sum();
    assert_eq!((rest, a.stats().told_on), (1, 1));
}

fn frames_of(share: &mut Share) -> Vec<Deltas> {
    frames(share, STREAM)
}

#[test]
fn no_frame_is_longer_than_a_stream_takes() {
    let mut a = share(1, 1);
    let profile = pams_shared::frame::Profile { name: "n".repeat(120), ..Default::default() };
    let overlays = (0..16).map(|n| format!("{n}{}", "a".repeat(40))).collect();
    let long = Lot { profile: pams_shared::frame::Profile { overlays, ..profile }, ..Lot::default() };
    (0..900).for_each(|n| assert!(a.publish(at(0), peer(n), 1 << 48, 1 << 48, Packed::new(&long)).is_some()));
    a.follow(
        at(0),
        STREAM,
        server(2),
        Share::new(server(2), 1, ShareConfig::default(), at(0)).want(server(1), server(1)),
    )
    .unwrap();
    let frames = frames_of(&mut a);
    assert_eq!(frames.iter().map(|frame| frame.entries.len()).sum::<usize>(), 900);
    for frame in frames {
        let bytes = wire::encode(&Frame::Deltas(frame));
        assert!(bytes.len() < STREAM_BYTES_MAX, "{} bytes", bytes.len());
    }
}

#[test]
fn the_greater_order_wins_and_the_old_home_sees_it() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    a.publish(at(0), peer(1), 5, 1, lot(0));
    b.publish(at(0), peer(1), 5, 2, lot(4));
    open(0, &mut b, &a, 2, STREAM);
    flow(0, &mut b, &mut a, STREAM).unwrap();
    assert_eq!(a.changed(), Some(peer(1)));
    assert_eq!(a.entry(peer(1)).map(|e| (e.owner, e.attach)), Some((server(2), 2)));
    assert_eq!(a.origin(server(1)).map(|o| (o.entries, o.digest)), Some((0, 0)), "it left our log");
    assert_eq!(a.publish(at(1), peer(1), 5, 1, lot(8)), None, "the peer is elsewhere");
}

#[test]
fn the_forgotten_stay_so_until_their_peer_begins_anew() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    a.publish(at(0), peer(1), 5, 1, lot(0));
    open(0, &mut a, &b, 1, STREAM);
    flow(0, &mut a, &mut b, STREAM).unwrap();
    assert!(b.bury(at(1), peer(1), 5, 1, true).is_some());
    open(1, &mut b, &a, 2, STREAM);
    flow(1, &mut b, &mut a, STREAM).unwrap();
    assert_eq!(a.entry(peer(1)).map(|e| (e.lot.is_none(), e.banned)), Some((true, true)));
    assert_eq!(a.publish(at(2), peer(1), 5, 1, lot(4)), None);
    assert!(a.publish(at(2), peer(1), 6, 1, lot(4)).is_some());
    a.bury(at(3), peer(1), 6, 1, false);
    assert_eq!(a.deadline().map(|at| at.ns() > 0), Some(true));
    a.tick(at(3_600_004));
    assert!(a.entry(peer(1)).is_none() && a.stats().unburied == 1);
}

#[test]
fn whoever_was_away_for_longer_than_a_tombstone_lives_is_told_anew() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    for n in 0..3 {
        a.publish(at(0), peer(n), 1, 1, lot(n));
    }
    open(0, &mut a, &b, 1, STREAM);
    flow(0, &mut a, &mut b, STREAM).unwrap();
    a.unfollow(STREAM);
    a.bury(at(1), peer(1), 1, 1, false);
    a.tick(at(3_600_002));
    open(3_600_002, &mut a, &b, 1, STREAM);
    flow(3_600_002, &mut a, &mut b, STREAM).unwrap();
    assert_eq!(lives(&a), lives(&b));
    assert_eq!((b.stats().swept, b.stats().taken_anew), (1, 2));
}

#[test]
fn after_a_restart_what_we_owned_comes_back_before_others_sweep_it() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    a.publish(at(0), peer(1), 1, 1, lot(0));
    a.publish(at(0), peer(2), 1, 1, lot(4));
    open(0, &mut a, &b, 1, STREAM);
    flow(0, &mut a, &mut b, STREAM).unwrap();

    let mut a = share(1, 2);
    assert!(a.recovering());
    assert_eq!(a.publish(at(100), peer(1), 1, 1, lot(8)), Some(1));
    open(100, &mut a, &b, 1, STREAM);
    flow(100, &mut a, &mut b, STREAM).unwrap();
    assert_eq!((a.covered(), b.len()), (1, 2), "covered, but nothing is swept yet");
    open(200, &mut b, &a, 1, STREAM);
    flow(200, &mut b, &mut a, STREAM).unwrap();
    assert_eq!(a.changed(), Some(peer(2)));
    assert_eq!(a.entry(peer(2)).map(|e| (e.generation, e.lot.cloned())), Some((1, Some(lot(4)))));
    assert_eq!(a.deadline(), Some(at(1_100)), "a heartbeat, then the end of the recovery");
    a.tick(at(2_200));
    assert!(!a.recovering());
    flow(2_200, &mut a, &mut b, STREAM).unwrap();
    assert_eq!((b.stats().swept, lives(&a)), (0, lives(&b)));
    assert_eq!(digests(&a), digests(&b));
}

#[test]
fn a_dead_owners_entries_are_relayed_and_given_up_after_a_day() {
    let (mut a, mut b, mut c) = (share(1, 1), share(2, 1), share(3, 1));
    a.publish(at(0), peer(1), 1, 1, lot(0));
    open(0, &mut a, &b, 1, STREAM);
    flow(0, &mut a, &mut b, STREAM).unwrap();
    open(0, &mut b, &c, 1, STREAM);
    flow(0, &mut b, &mut c, STREAM).unwrap();
    assert_eq!(lives(&b), lives(&c));
    assert_eq!(c.want(server(1), server(2)).from, 1);
    assert_eq!(c.want(server(1), server(1)).from, 0, "the owner itself is asked for all");
    c.tick(at(86_400_000));
    assert_eq!((c.len(), c.stats().orphaned), (0, 1));
    open(86_400_000, &mut b, &c, 1, STREAM);
    flow(86_400_000, &mut b, &mut c, STREAM).unwrap();
    assert_eq!(c.len(), 0, "a relay does not bring it back");
    open(86_400_001, &mut a, &c, 1, FollowerId(2));
    flow(86_400_001, &mut a, &mut c, FollowerId(2)).unwrap();
    assert_eq!(c.len(), 1, "its owner does");
}

#[test]
fn a_digest_that_differs_for_long_ends_the_stream_and_the_next_is_told_anew() {
    let (mut a, mut b) = (share(1, 1), share(2, 1));
    a.publish(at(0), peer(1), 1, 1, lot(0));
    open(0, &mut a, &b, 1, STREAM);
    flow(0, &mut a, &mut b, STREAM).unwrap();
    b.cut(peer(1));
    let beat = |a: &mut Share, b: &mut Share, ms: u64| {
        a.tick(at(ms));
        flow(ms, a, b, STREAM)
    };
    assert_eq!(beat(&mut a, &mut b, 1_000), Ok(1));
    assert_eq!(beat(&mut a, &mut b, 10_000), Ok(1), "not for long enough");
    assert_eq!(beat(&mut a, &mut b, 11_000), Err(ShareError::Differs { owner: server(1) }));
    assert_eq!(b.stats().mismatches, 1);
    open(11_001, &mut a, &b, 1, STREAM);
    flow(11_001, &mut a, &mut b, STREAM).unwrap();
    assert_eq!(lives(&a), lives(&b));
}

#[test]
fn others_entries_beyond_the_bound_are_shed_and_not_acknowledged() {
    let config = ShareConfig { entries_max: 2, ..ShareConfig::default() };
    let (mut a, mut b) = (share(1, 1), Share::new(server(2), 1, config, at(0)));
    for n in 0..3 {
        a.publish(at(0), peer(n), 1, 1, lot(0));
    }
    open(0, &mut a, &b, 1, STREAM);
    flow(0, &mut a, &mut b, STREAM).unwrap();
    assert_eq!((b.len(), b.stats().shed, a.covered()), (2, 1, 0));
    assert!(b.publish(at(0), peer(9), 1, 1, lot(0)).is_some(), "our own are never shed");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut b = share(2, 1);
    let begin = |owner, generation| Deltas {
        owner: server(owner),
        generation,
        anew: true,
        bulk: true,
        bulk_end: false,
        upto: 0,
        entries: Vec::new(),
        digest: None,
    };
    let live = |upto| Deltas { anew: false, bulk: false, upto, ..begin(1, 5) };
    let owner = server(1);
    assert_eq!(b.take(at(0), owner, live(1)), Err(ShareError::NotBegun { owner }));
    assert_eq!(b.take(at(0), server(3), begin(2, 2)), Err(ShareError::Impostor { generation: 2, seq: 0 }));
    b.take(at(0), owner, begin(1, 5)).unwrap();
    b.take(at(0), owner, live(7)).unwrap();
    assert_eq!(b.take(at(0), owner, live(6)), Err(ShareError::Backwards { owner, upto: 6, before: 7 }));
    let absurd = b.take(at(0), owner, live(NUMBER_MAX + 1)).unwrap_err();
    assert!(absurd.to_string().starts_with("deltas.upto is 281474976710657"), "{absurd}");
    let older = ShareError::Older { owner, generation: 4, known: 5 };
    assert_eq!(b.take(at(0), owner, begin(1, 4)), Err(older));
    assert_eq!(b.take(at(0), server(3), begin(1, 4)), Ok(Held { generation: 5, upto: 7 }), "a relay may be behind");
    let on = Deltas { anew: false, upto: 9, ..begin(1, 5) };
    assert_eq!(b.take(at(0), owner, on), Err(ShareError::Gap { owner, begins: 9, held: 0 }));
    let ahead = Follow { owner: server(2), generation: 1, from: 1 };
    assert_eq!(b.follow(at(0), STREAM, owner, ahead), Err(ShareError::Impostor { generation: 1, seq: 1 }));
    for n in 0..FOLLOWERS_MAX as u64 {
        b.follow(at(0), FollowerId(n), owner, Follow { from: 0, ..ahead }).unwrap();
    }
    let full = b.follow(at(0), FollowerId(999), owner, Follow { from: 0, ..ahead });
    assert_eq!(full, Err(ShareError::Followers));
}
