//! One timeline per rule of rosters: who is told, when, and what. Who of more than enough is chosen, `roster/tests.rs` tries.

use std::time::Duration;

use super::*;

fn config(watchers: usize) -> PamsConfig {
    PamsConfig {
        watchers,
        sd_grace: Some(Duration::from_secs(5)),
        gone_watched: Duration::from_secs(20),
        gone_after: Duration::from_secs(600),
        pace: Duration::from_secs(300),
        ..PamsConfig::default()
    }
}

#[test]
fn nobody_is_told_before_the_grace_is_over_and_many_changes_are_one() {
    check_with(
        config(2),
        "
        0.0 < open #1 a in=eu takes=9 > a came > accept #1 0
        0.1 < open #2 b in=eu/de takes=9 > b came > accept #2 0
        0.2 < open #3 c in=cdn takes=9 > c came > accept #3 0
        0.3 < open #4 d takes=9 > d came > accept #4 0
        4.9 ? of a > by b watches b
        5.000 > push #1 roster b > push #2 roster a > push #3 roster -
        6.0 ? rosters > 2 edges 3 short 0 cut 3 pushed
        7.0 < open #5 e in=eu takes=9 > e came > accept #5 0
        7.4 < open #6 f in=cdn takes=9 > f came > accept #6 0
        8.000 > push #1 roster be > push #2 roster ae > push #5 roster ab
        8.400 > push #3 roster f > push #6 roster c
        60.0 ? rosters > 8 edges 2 short 0 cut 8 pushed
        ",
    );
}

#[test]
fn whoever_leaves_is_watched_no_more_and_whoever_is_forgotten() {
    check_with(
        config(2),
        "
        0.0 < open #1 a in=x takes=9 > a came > accept #1 0
        0.0 < open #2 b in=x takes=9 > b came > accept #2 0
        0.0 < open #3 c in=x takes=9 > c came > accept #3 0
        5.000 > push #1 roster bc > push #2 roster ac > push #3 roster ab
        6.0 < bye #3 > c left
        6.1 < lost #3
        7.000 > push #1 roster b > push #2 roster a
        8.0 < forget b force > b forgotten > close #2 rejected > forgot b Done
        9.000 > push #1 roster -
        10.0 ? rosters > 0 edges 1 short 0 cut 6 pushed
        ",
    );
}

#[test]
fn one_that_is_gone_is_watched_on_for_a_while_and_watches_nobody() {
    let config = PamsConfig { gone_after: Duration::from_secs(4), pace: Duration::from_secs(1), ..config(2) };
    check_with(
        PamsConfig { sd_grace: Some(Duration::ZERO), ..config },
        "
        0.0 < open #1 a in=x takes=9 > a came > accept #1 0
        0.0 < open #2 b in=x takes=9 > b came > accept #2 0
        1.0 < heard #1 > push #1 roster b > push #2 roster a
        2.0 < heard #1
        3.0 < heard #1
        4.000 > b gone
        4.1 ? of b > by a watches -
        5.0 < heard #1 > push #2 roster -
        8.0 < heard #1
        11.0 < heard #1
        14.0 < heard #1
        17.0 < heard #1
        20.0 < heard #1
        23.0 < heard #1
        23.9 ? of b > by a watches -
        24.1 ? of b > by - watches -
        25.0 < heard #1 > push #1 roster -
        26.0 < heard #2 > b returned
        27.0 < heard #1 > push #1 roster b > push #2 roster a
        ",
    );
}

#[test]
fn a_new_session_is_told_anew_and_the_others_only_what_is_new() {
    check_with(
        config(2),
        "
        0.0 < open #1 a in=x takes=9 > a came > accept #1 0
        0.0 < open #2 b in=x takes=9 > b came > accept #2 0
        5.000 > push #1 roster b > push #2 roster a
        6.0 < lost #2
        7.0 < open #3 b in=x takes=9 > accept #3 0
        8.000 > push #3 roster a
        9.0 < open #4 b in=y takes=9 > close #3 superseded > notice superseded 1 > b superseded > accept #4 0
        10.000 > push #1 roster - > push #4 roster -
        11.0 < open #5 a takes=9 > close #1 superseded > notice superseded 1 > a superseded > accept #5 0
        20.0 ? rosters > 0 edges 1 short 0 cut 5 pushed
        ",
    );
}

#[test]
fn an_agent_is_told_as_many_as_it_takes_and_one_that_takes_none_watches_nobody() {
    check_with(
        config(3),
        "
        0.0 < open #1 a in=x takes=2 > a came > accept #1 0
        0.0 < open #2 b in=x > b came > accept #2 0
        0.0 < open #3 c in=x > c came > accept #3 0
        0.0 < open #4 d in=x > d came > accept #4 0
        5.0 < tick > push #1 roster bc
        6.0 ? rosters > 3 edges 4 short 1 cut 1 pushed
        6.0 ? of b > by a watches -
        7.0 < drain
        7.1 < bye #2 > b left
        20.0 ? rosters > 2 edges 3 short 1 cut 1 pushed
        ",
    );
}

#[test]
fn without_watchers_rosters_are_empty() {
    check_with(
        config(0),
        "
        0.0 < open #1 a in=x takes=9 > a came > accept #1 0
        0.0 < open #2 b in=x takes=9 > b came > accept #2 0
        5.000 > push #1 roster - > push #2 roster -
        6.0 ? rosters > 0 edges 0 short 0 cut 2 pushed
        ",
    );
}

#[test]
fn whoever_is_called_elsewhere_or_otherwise_is_told_to_its_watchers() {
    let mut pams = Pams::new(PamsConfig { sd_grace: Some(Duration::ZERO), ..config(2) }, at(0));
    let mut told = |ms, input: Option<(u64, &str, &str)>| {
        let input = input.map_or(Input::Tick, |(session, letter, name)| {
            let mut hello = hello(at(ms), id(letter), 1);
            hello.capabilities = capability::ROSTERS;
            let profile = hello.profile.as_mut().unwrap();
            (profile.roster_max, profile.overlays, profile.name) = (9, vec!["x".into()], name.into());
            Input::Opened {
                session: SessionId(session),
                peer: id(letter),
                hello: Box::new(hello),
                observed: observed(),
                same_host: false,
            }
        });
        pams.handle(at(ms), input);
        let pushed = std::iter::from_fn(|| pams.poll()).filter_map(|output| match output {
            Output::Push { session, push: Push::Roster(roster) } => Some((session.0, roster.peers)),
            _ => None,
        });
        pushed.collect::<Vec<_>>()
    };
    told(0, Some((1, "a", "alpha")));
    told(0, Some((2, "b", "beta")));
    let first = told(1_000, None);
    let rostered = &first[0].1[0];
    assert_eq!((first.len(), first[0].0, rostered.peer, rostered.name.as_str()), (2, 1, id("b"), "beta"));
    assert_eq!(rostered.addresses, ["0.0.0.0:9000".parse().unwrap(), observed()]);
    told(2_000, Some((3, "b", "bravo")));
    let second = told(3_000, None);
    assert_eq!(second.iter().map(|(s, p)| (*s, p[0].name.as_str())).collect::<Vec<_>>(), [(1, "bravo"), (3, "alpha")]);
    assert_eq!(told(5_000, None), []);
}
