//! Timelines in virtual time: what is heard goes in, whom it calls comes out.

use std::collections::BTreeSet;

use pams_shared::frame::{Member, SERVERS_MAX};

use super::*;

const SEED: [u8; 32] = [1; 32];

fn at(s: u64) -> Moment {
    Moment::new(s * 1_000_000_000, 0)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn id(n: u8) -> ServerId {
    ServerId::from_bytes([n; 16])
}

fn place(n: u8) -> Place {
    Place::Server(id(n))
}

fn named(name: &str) -> Place {
    Place::Named(name.to_owned())
}

/// Server `n` with a load, in thousandths.
fn server(n: u8, load: u32) -> Server {
    let member = Member {
        id: id(n),
        generation: 1,
        name: format!("s{n}"),
        addresses: vec![([192, 0, 2, n], 7420).into()],
        http: None,
        region: String::new(),
        software: String::new(),
    };
    Server { member, load }
}

fn servers(loads: &[(u8, u32)]) -> Heard {
    Heard::Servers(loads.iter().map(|(n, load)| server(*n, *load)).collect())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// One that found server 1 at `home:1` and was told of these.
fn at_home(loads: &[(u8, u32)]) -> Choice {
    let mut choice = Choice::new(names(&["home:1"]), Servers::default(), SEED);
    let call = choice.next(at(0)).unwrap();
    assert_eq!((&call.place, call.because, call.others), (&named("home:1"), Because::Start, false));
    up(&mut choice, at(0), &call.place, 1, 80);
    choice.handle(at(0), servers(loads));
    choice
}

fn up(choice: &mut Choice, now: Moment, place: &Place, n: u8, rtt_ms: u64) {
    choice.handle(now, Heard::Reached { place: place.clone(), server: id(n) });
    choice.handle(now, Heard::Up { place: place.clone(), server: id(n), rtt: ms(rtt_ms) });
}

/// All that are called before the next pause, none of which answers.
fn pass(choice: &mut Choice, now: Moment) -> Vec<Place> {
    std::iter::from_fn(|| {
        let call = choice.next(now)?;
        choice.handle(now, Heard::Failed { place: call.place.clone() });
        Some(call.place)
    })
    .collect()
}

#[test]
fn homes_of_the_configuration_are_called_in_their_order() {
    let mut choice = Choice::new(names(&["a:1", "b:1"]), Servers::default(), SEED);
    assert_eq!(pass(&mut choice, at(0)), [named("a:1"), named("b:1")]);
    choice.again();
    assert_eq!(pass(&mut choice, at(1)), [named("a:1"), named("b:1")]);
    choice.again();
    let call = choice.next(at(2)).unwrap();
    up(&mut choice, at(2), &call.place, 1, 10);
    choice.handle(at(9), Heard::Down { because: Because::Lost });
    assert_eq!(pass(&mut choice, at(9)), [named("b:1")], "the one that was lost has its pause");
    choice.again();
    assert_eq!(pass(&mut choice, at(9)), [named("a:1"), named("b:1")]);
}

#[test]
fn one_server_is_called_again_after_the_pause_by_its_name_first() {
    let mut choice = at_home(&[(1, 0)]);
    assert_eq!((choice.others(), choice.deadline()), (0, None), "there is nobody to measure");
    choice.handle(at(9), Heard::Down { because: Because::Silent });
    assert_eq!(choice.next(at(9)), None);
    choice.again();
    let call = choice.next(at(9)).unwrap();
    assert_eq!((call.place, call.names, call.others), (place(1), names(&["home:1", "192.0.2.1:7420"]), false));
}

#[test]
fn when_the_home_is_lost_the_others_are_called_at_once_and_it_comes_last() {
    let mut choice = at_home(&[(1, 0), (2, 0), (3, 0)]);
    choice.handle(at(9), Heard::Down { because: Because::Silent });
    let call = choice.next(at(9)).unwrap();
    assert!(call.place != place(1) && call.others && call.because == Because::Silent, "{call:?}");
    let called: BTreeSet<Place> = pass(&mut choice, at(9)).into_iter().collect();
    assert_eq!(called, [place(2), place(3)].into());
    choice.again();
    assert_eq!(pass(&mut choice, at(10)).len(), 3);
    // After a while the one that failed is as good as the others.
    choice.again();
    assert_eq!(choice.next(at(50)).map(|call| call.place), Some(place(1)), "it is the only one whose way is known");
}

#[test]
fn a_pass_knocks_at_few_doors_and_all_have_their_turn() {
    let loads: Vec<(u8, u32)> = (1..=10).map(|n| (n, 0)).collect();
    let mut choice = at_home(&loads);
    choice.handle(at(9), Heard::Down { because: Because::Lost });
    let mut called = BTreeSet::new();
    for second in 9..12 {
        let places = pass(&mut choice, at(second));
        assert!(places.len() <= PASS_MAX);
        called.extend(places);
        choice.again();
    }
    assert_eq!(called.len(), 10);
}

#[test]
fn a_restart_knows_all_servers_and_the_way_to_them() {
    let mut choice = at_home(&[(1, 0), (2, 0)]);
    choice.handle(at(1), Heard::Measured { server: id(2), rtt: Some(ms(5)), home: ms(80) });
    let kept = choice.kept();
    assert_eq!(kept.servers.iter().map(|s| s.rtt_us).collect::<Vec<_>>(), [Some(80_000), Some(5_000)]);
    let mut again = Choice::new(names(&["home:1"]), kept.clone(), SEED);
    let call = again.next(at(0)).unwrap();
    assert_eq!((&call.place, call.because), (&place(2), Because::Start), "the nearer one");
    assert_eq!(pass(&mut again, at(0)), [place(2), place(1)], "the name leads to a server that is known");
    let mut seedless = Choice::new(names(&["dead:1"]), kept, SEED);
    assert_eq!(pass(&mut seedless, at(0)), [place(2), place(1), named("dead:1")]);
}

#[test]
fn servers_that_a_home_leaves_out_are_called_last_and_there_is_a_bound() {
    let mut choice = at_home(&[(1, 0), (2, 0)]);
    choice.handle(at(1), servers(&[(1, 0)]));
    assert_eq!(choice.others(), 0);
    choice.handle(at(2), Heard::Down { because: Because::Lost });
    assert_eq!(pass(&mut choice, at(2)), [place(2)]);
    let many: Vec<(u8, u32)> = (100..=200).map(|n| (n, u32::MAX)).collect();
    choice.handle(at(3), servers(&many));
    assert_eq!(choice.kept().servers.len(), SERVERS_MAX);
    assert!(choice.kept().servers.iter().all(|s| s.id >= id(100)));
    choice.again();
    assert!(choice.next(at(3)).is_some());
}

#[test]
fn agents_of_one_server_that_is_lost_spread_over_the_others() {
    let mut counts = [0; 3];
    for seed in 0..100 {
        let mut choice = Choice::new(names(&["home:1"]), Servers::default(), [seed; 32]);
        up(&mut choice, at(0), &named("home:1"), 1, 1);
        choice.handle(at(0), servers(&[(1, 0), (2, 0), (3, 0), (4, 900)]));
        for n in 2..=4 {
            choice.handle(at(1), Heard::Measured { server: id(n), rtt: Some(ms(u64::from(n))), home: ms(1) });
        }
        choice.handle(at(2), Heard::Down { because: Because::Lost });
        let Some(Call { place: Place::Server(server), .. }) = choice.next(at(2)) else { panic!("nobody") };
        counts[usize::from(server.as_bytes()[0] - 2)] += 1;
    }
    assert!(counts[0] > 20 && counts[1] > 20, "{counts:?}");
    assert_eq!(counts[2], 0, "nobody goes to a server that is full, {counts:?}");
}

/// Lets time pass until it wants to measure; whom.
fn measures(choice: &mut Choice) -> (Moment, Vec<Place>) {
    let now = choice.deadline().expect("something is due");
    match choice.poll(now) {
        Some(Advice::Measure(calls)) => (now, calls.into_iter().map(|call| call.place).collect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_is_nearer_again_and_again_becomes_the_home() {
    let mut choice = at_home(&[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    let (now, whom) = measures(&mut choice);
    assert!(now >= at(5) && now <= at(15) && whom.len() == MEASURED_MAX, "{now:?} {whom:?}");
    choice.handle(now, Heard::Measured { server: id(2), rtt: Some(ms(40)), home: ms(80) });
    choice.handle(now, Heard::Measured { server: id(3), rtt: Some(ms(30)), home: ms(80) });
    for _ in 1..TIMES {
        assert_eq!(choice.poll(now), None);
        let (now, whom) = measures(&mut choice);
        assert_eq!(whom, [place(2)], "one at a time");
        choice.handle(now, Heard::Measured { server: id(2), rtt: Some(ms(40)), home: ms(80) });
    }
    let now = at(60);
    let Some(Advice::Move(call)) = choice.poll(now) else { panic!("it stays") };
    assert_eq!((&call.place, call.because), (&place(2), Because::Nearer));
    choice.handle(now, Heard::Left);
    up(&mut choice, now, &call.place, 2, 40);

    // A change of home is followed by a rest.
    choice.handle(now, servers(&[(1, 0), (2, 0), (3, 0)]));
    for _ in 0..2 * TIMES {
        choice.handle(at(600), Heard::Measured { server: id(3), rtt: Some(ms(1)), home: ms(40) });
    }
    assert_eq!(choice.poll(at(600)).filter(|a| matches!(a, Advice::Move(_))), None);
    for _ in 0..TIMES {
        choice.handle(at(660), Heard::Measured { server: id(3), rtt: Some(ms(1)), home: ms(40) });
    }
    assert!(matches!(choice.poll(at(660)), Some(Advice::Move(_))));
}

#[test]
fn a_home_is_left_by_a_clear_margin_only() {
    for (home, other, loads, expected) in [
        (80, 57, (0, 0), None),   // not by three tenths
        (20, 11, (0, 0), None),   // not by 10 ms
        (80, 40, (0, 601), None), // there is no room
        (80, 40, (0, 600), Some(Because::Nearer)),
        (10, 30, (899, 0), None),   // it is not full yet
        (10, 30, (900, 601), None), // nor is the other one empty
        (10, 30, (900, 600), Some(Because::LessLoaded)),
    ] {
        let mut choice = at_home(&[(1, loads.0), (2, loads.1)]);
        for _ in 0..TIMES {
            choice.handle(at(20), Heard::Measured { server: id(2), rtt: Some(ms(other)), home: ms(home) });
        }
        let moves = std::iter::from_fn(|| choice.poll(at(1))).find_map(|advice| match advice {
            Advice::Move(call) => Some(call.because),
            Advice::Measure(_) => None,
        });
        assert_eq!(moves, expected, "{home} {other} {loads:?}");
    }
    // One measurement that says otherwise, or none at all, begins the count anew.
    let mut choice = at_home(&[(1, 0), (2, 0)]);
    for rtt in [Some(ms(1)), Some(ms(1)), None, Some(ms(1)), Some(ms(1)), Some(ms(80)), Some(ms(1)), Some(ms(1))] {
        choice.handle(at(20), Heard::Measured { server: id(2), rtt, home: ms(80) });
    }
    assert_eq!(choice.poll(at(1)), None);
}

#[test]
fn a_home_that_sends_us_away_is_not_judged_and_taken_again_if_nobody_else_would_have_us() {
    let mut choice = at_home(&[(1, 0), (2, 0), (3, 0)]);
    let call = choice.told(at(5), Some(id(3))).unwrap();
    assert_eq!((&call.place, call.because), (&place(3), Because::Told));
    choice.handle(at(5), Heard::Failed { place: call.place });
    let call = choice.next(at(5)).unwrap();
    assert_eq!((&call.place, call.because), (&place(2), Because::Told));
    // It answers, so that we leave, and then turns us away.
    choice.handle(at(5), Heard::Left);
    choice.handle(at(5), Heard::Failed { place: call.place });
    assert_eq!(choice.next(at(5)).map(|call| call.place), Some(place(1)));

    let mut alone = at_home(&[(1, 0)]);
    assert_eq!(alone.told(at(5), None), None);
    alone.stay();
    alone.handle(at(6), Heard::Down { because: Because::Lost });
    alone.again();
    assert_eq!(alone.next(at(6)).map(|call| call.because), Some(Because::Lost));

    // One that is gone before we are has sent us away all the same.
    let mut choice = at_home(&[(1, 0), (2, 0)]);
    choice.told(at(5), None).unwrap();
    choice.handle(at(5), Heard::Down { because: Because::Lost });
    assert_eq!(choice.next(at(5)).map(|call| (call.place, call.because)), Some((place(2), Because::Told)));
}

#[test]
fn whoever_connects_anew_stays_and_whoever_was_superseded_pauses() {
    let mut choice = at_home(&[(1, 0), (2, 0)]);
    choice.handle(at(5), Heard::Anew);
    assert_eq!(choice.next(at(5)).map(|call| call.place), Some(place(1)));
    up(&mut choice, at(5), &place(1), 1, 80);
    choice.handle(at(6), Heard::Superseded);
    assert_eq!(choice.next(at(6)), None);
    choice.again();
    assert!(choice.next(at(6)).is_some());
}

#[test]
fn another_configuration_leaves_a_home_that_it_does_not_lead_to() {
    let mut choice = at_home(&[(1, 0), (2, 0)]);
    assert!(!choice.names(names(&["other:1", "home:1"])));
    assert!(choice.names(names(&["other:1"])));
    choice.handle(at(5), Heard::Anew);
    assert_eq!(choice.next(at(5)).map(|call| call.place), Some(named("other:1")));
    // One that was told of stays, whatever the configuration names.
    up(&mut choice, at(5), &place(2), 2, 10);
    assert!(!choice.names(names(&["third:1"])));
}
