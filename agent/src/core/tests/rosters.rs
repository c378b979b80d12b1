//! Buddies by the home's word, beside those of the configuration.

use pams_shared::frame::{Roster, Rostered};

use super::*;
use crate::core::Origin;

fn run(takes: u32, configured: &[u8]) -> Run {
    let buddy = |n: &u8| BuddyConfig { peer: peer(*n), name: Some("mine".into()), addresses: vec!["own:1".into()] };
    let profile = Profile { roster_max: takes, ..Profile::default() };
    let buddies = configured.iter().map(buddy).collect();
    Run::new(AgentConfig { buddies, profile, ..AgentConfig::default() })
}

const fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 16])
}

fn given(peers: &[u8]) -> Input {
    let rostered = |n: &u8| Rostered {
        peer: peer(*n),
        name: format!("peer-{n}"),
        addresses: vec![format!("192.0.2.{n}:7421").parse().unwrap()],
    };
    Input::Home(HomeInput::Roster(Roster { peers: peers.iter().map(rostered).collect() }))
}

/// Who is watched, by whose word, under which name.
fn buddies(run: &Run) -> Vec<(u8, Origin, String)> {
    let view = run.agent.view(at(0.0));
    view.buddies.into_iter().map(|b| (b.peer.as_bytes()[0], b.origin, b.name.unwrap())).collect()
}

#[test]
fn explicit_buddies_come_on_top_and_stay_what_they_are() {
    let mut run = run(9, &[0xB, 0xC]);
    assert_eq!(run.step(0.0, given(&[0xA, 0xB, 0xD])), "roster_came");
    let mine = |n| (n, Origin::Config, "mine".to_owned());
    let home = |n| (n, Origin::Roster, format!("peer-{n}"));
    assert_eq!(buddies(&run), [mine(0xB), mine(0xC), home(0xD)], "nobody watches itself");
    run.step(0.0, given(&[0xD, 0xE]));
    assert_eq!(buddies(&run), [mine(0xB), mine(0xC), home(0xD), home(0xE)]);
    run.step(0.0, given(&[]));
    assert_eq!(buddies(&run), [mine(0xB), mine(0xC)]);
}

#[test]
fn no_more_are_taken_than_the_agent_said() {
    let mut run = run(2, &[0xC]);
    run.step(0.0, given(&[0xB, 0xC, 0xD, 0xE]));
    assert_eq!(buddies(&run).iter().map(|b| b.0).collect::<Vec<_>>(), [0xB, 0xC]);
    let mut none = self::run(0, &[]);
    none.step(0.0, given(&[0xB]));
    assert!(buddies(&none).is_empty());
}

#[test]
fn a_given_buddy_is_called_where_the_home_says_and_watched_while_the_home_is_away() {
    let mut run = run(9, &[]);
    run.home_up(0.0, 0);
    run.step(0.0, given(&[0xB]));
    run.step(1.0, Input::Home(HomeInput::Down { why: Why::new(Reason::NoAnswer, "gone") }));
    let (t, out) = run.until("dial", 1_100.0);
    assert_eq!(out, "dial 192.0.2.11:7421");
    assert!(run.link_up(t + 1.0).contains("ping #1"));
    assert!(run.step(t + 2.0, run.pong(1)).ends_with("live"));
    assert_eq!(buddies(&run).len(), 1);
}

#[test]
fn one_that_is_taken_away_leaves_nothing_behind_and_its_ping_ends() {
    let mut run = run(9, &[]);
    run.home_up(0.0, 0);
    run.step(0.0, given(&[0xB]));
    let (t, _) = run.until("dial", 1_100.0);
    run.link_up(t);
    run.step(t + 1.0, run.pong(1));
    let (t, _) = run.until("ping #2", 20_000.0);
    let batch = run.reports.len() as u64;
    run.step(t, Input::Home(HomeInput::Acked(ReportAck { batch, pace_ms: 1_500, came: 0 })));
    let out = run.step(t + 1.0, given(&[]));
    assert!(out.starts_with("roster_came > report"), "{out}");
    let views = &run.reports.last().unwrap().views;
    assert_eq!(views.iter().map(|v| (v.peer, v.dropped)).collect::<Vec<_>>(), [(B, true)], "the home drops the view");
    assert!(run.agent.view(at(t)).buddies.is_empty() && run.agent.last.is_empty());

    assert_eq!(run.step(t + 2.0, run.pong(2)), "presence.ping good", "counted, and no news of a buddy");
    assert!(run.agent.last.is_empty());
    let ledger = run.agent.ledgers().into_iter().find(|(kind, _)| *kind == Kind::Ping).unwrap().1;
    assert_eq!((ledger.opened, ledger.good, ledger.in_flight), (2, 2, 0));
    let why = Why::new(Reason::NoAnswer, "idle");
    run.step(t + 30_000.0, Input::LinkDown { peer: B, link: 1, why, restarted: false });
    assert!(run.agent.roster.contact(B).is_none(), "a stranger without a connection is forgotten");
    assert_eq!(run.sent.len(), 2, "it is not pinged any more");
}

#[test]
fn a_ping_that_waits_for_the_connection_of_one_taken_away_is_cancelled() {
    let mut run = run(9, &[]);
    run.step(0.0, given(&[0xB]));
    run.until("dial", 1_100.0);
    let out = run.step(1_200.0, given(&[]));
    assert!(out.contains("presence.ping aborted cancelled"), "{out}");
    let failed = Input::DialFailed { peer: B, why: Why::new(Reason::NoAnswer, "nobody") };
    run.step(1_300.0, failed);
    assert!(run.agent.roster.contact(B).is_none());
}

#[test]
fn one_that_takes_nobody_any_more_lets_go_of_whom_the_home_named() {
    let mut run = run(9, &[0xC]);
    run.step(0.0, given(&[0xB, 0xC, 0xD]));
    let buddy = BuddyConfig { peer: peer(0xC), name: Some("mine".into()), addresses: vec!["own:1".into()] };
    let config = AgentConfig { buddies: vec![buddy], profile: Profile::default(), ..AgentConfig::default() };
    let out = run.step(0.0, Input::Command(Command::Reconfigure(Box::new(config))));
    assert_eq!((buddies(&run), out.as_str()), (vec![(0xC, Origin::Config, "mine".to_owned())], "rejoin"));
}
