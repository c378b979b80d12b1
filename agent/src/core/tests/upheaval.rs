//! Timelines of an agent whose configuration, host or own process changes under it.

use pams_shared::{presence::WatcherConfig, record::Outcome};

use super::*;

const C: PeerId = PeerId::from_bytes([0xC; 16]);
const HOUR: Duration = Duration::from_secs(3_600);

fn buddy(peer: PeerId, address: &str) -> BuddyConfig {
    BuddyConfig { peer, name: None, addresses: vec![address.to_owned()] }
}

fn config(buddies: Vec<BuddyConfig>) -> AgentConfig {
    AgentConfig { buddies, ..AgentConfig::default() }
}

impl Run {
    /// B answers its first ping.
    fn settled() -> Self {
        let mut run = Self::with_buddy(&["b:1"]);
        run.until("dial", 1_000.0);
        run.link_up(1_000.0);
        let pong = run.pong(1);
        assert!(run.step(1_020.0, pong).contains("live"));
        run
    }

    fn reconfigure(&mut self, ms: f64, config: AgentConfig) -> String {
        self.step(ms, Input::Command(Command::Reconfigure(Box::new(config))))
    }

    fn slept(&mut self, ms: f64, stopped: Duration, suspended: Duration) -> String {
        self.step(ms, Input::Slept { stopped, suspended })
    }

    fn last(&self) -> (Outcome, Option<Reason>) {
        self.records.last().map(|r| (r.outcome, r.reason)).unwrap()
    }
}

#[test]
fn a_buddy_that_is_taken_off_the_list_is_asked_no_more_and_its_ping_ends() {
    let mut run = Run::settled();
    let (t, _) = run.until("ping #2", 12_000.0);
    let now = t + 100.0;
    assert_eq!(run.reconfigure(now, config(vec![buddy(C, "c:1")])), "");
    run.home_up(now, 0);
    let views = run.reports.iter().flat_map(|r| &r.views).map(|v| (v.peer, v.dropped));
    assert_eq!(views.collect::<Vec<_>>(), [(B, true), (C, false)]);
    // What was sent may be answered; it is counted, and concludes nothing.
    let pong = run.pong(2);
    assert_eq!(run.step(now + 10.0, pong), "presence.ping good");
    let view = run.agent.view(at(now));
    assert_eq!(view.buddies.iter().map(|b| b.peer).collect::<Vec<_>>(), [C]);
    assert!(run.until("dial", now + 1_100.0).1.contains("dial c:1"));
}

#[test]
fn polls_that_wait_for_a_connection_with_one_that_is_taken_off_are_cancelled_and_what_a_person_asked_is_not() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.step(1_000.0, Input::Command(Command::Ping { peer: B, token: 7 }));
    assert_eq!(run.reconfigure(1_010.0, config(vec![])), "presence.ping aborted cancelled");
    assert_eq!(run.link_up(1_100.0), "link_up > ping #1");
    let pong = run.pong(1);
    assert_eq!(run.step(1_120.0, pong), "pinged 7 > presence.ping good");
    // Nobody is watched, so nothing more is asked.
    assert!(run.agent.deadline().is_none_or(|(_, due)| due != Due::Ping));
}

#[test]
fn new_addresses_of_a_buddy_are_tried_at_once_unless_it_is_connected() {
    let mut run = Run::with_buddy(&["b:1"]);
    run.until("dial", 1_000.0);
    run.step(1_000.0, Input::Tick);
    run.step(1_000.0, Input::DialFailed { peer: B, why: Why::new(Reason::Refused, "no") });
    assert!(run.agent.deadline().unwrap().0 > at(1_500.0));
    assert_eq!(run.reconfigure(1_100.0, config(vec![buddy(B, "b:2")])), "dial b:2");
    run.link_up(1_200.0);
    assert_eq!(run.reconfigure(1_300.0, config(vec![buddy(B, "b:3")])), "");
    let down = Input::LinkDown { peer: B, link: 1, why: Why::new(Reason::NoAnswer, "cut"), restarted: true };
    assert_eq!(run.step(1_400.0, down), "link_down > dial b:3");
}

#[test]
fn a_shorter_interval_holds_at_once_and_another_profile_is_told_to_the_home() {
    let watcher = WatcherConfig { interval: Duration::from_secs(1), ..WatcherConfig::default() };
    let mut run = Run::settled();
    run.until("ping #2", 12_000.0);
    let pong = run.pong(2);
    run.step(12_010.0, pong);
    let new = AgentConfig { watcher, ..config(vec![buddy(B, "b:1")]) };
    assert_eq!(run.reconfigure(12_020.0, new.clone()), "");
    let (t, _) = run.until("ping #3", 13_100.0);
    let profile = Profile { name: "new".into(), ..Profile::default() };
    let renamed = AgentConfig { profile: profile.clone(), ..new.clone() };
    assert_eq!(run.reconfigure(t, renamed.clone()), "rejoin");
    assert_eq!(run.reconfigure(t, renamed), "", "told once");
    assert_eq!(run.agent.profile(), &profile);
    let own = AgentConfig { buddies: vec![buddy(A, "a:1")], profile, ..new };
    assert!(run.reconfigure(t, own).contains("roster_names_self"));
}

#[test]
fn smaller_bounds_hold_for_what_comes_and_shed_what_is_over() {
    let mut run = Run::settled();
    for n in 0..4 {
        run.step(1_200.0, Input::Command(Command::Ping { peer: B, token: n }));
        let pong = run.pong(run.sent.len());
        run.step(1_210.0, pong);
    }
    let small = AgentConfig { backlog_max: 1, pool_max: 1, ..config(vec![buddy(B, "b:1")]) };
    assert!(run.reconfigure(1_300.0, small).contains("shed"));
    let first = run.step(1_300.0, Input::Command(Command::Ping { peer: B, token: 8 }));
    assert!(first.contains("ping #"), "{first}");
    assert_eq!(run.step(1_300.0, Input::Command(Command::Ping { peer: B, token: 9 })), "pool_full > pinged 9 not_sent");
}

#[test]
fn one_that_was_suspended_concludes_nothing_from_it_and_connects_anew_at_once() {
    let mut run = Run::settled();
    let (t, _) = run.until("ping #2", 12_000.0);
    // The monotonic clock left the two hours out.
    let out = run.slept(t + 1.0, Duration::ZERO, 2 * HOUR);
    assert!(out.starts_with("slept > presence.ping unknown stalled > "), "{out}");
    assert!(out.contains("hang_up > rejoin"), "{out}");
    let view = run.agent.view(at(t + 1.0));
    let sleep = view.slept.unwrap();
    assert_eq!((sleep.for_s, sleep.suspended), (7_200.0, true));
    assert_eq!(sleep.from_ms, at(t + 1.0).wall_ms() - 7_200_000);
    assert_eq!((view.buddies[0].liveness, view.buddies[0].missed), (Some(Liveness::Live), 0));
    // Its connection is called anew within a second; nothing says gone or overdue meanwhile.
    let (dialled, out) = run.until("dial", t + 1_100.0);
    assert_eq!(out, "dial b:1");
    run.step(dialled + 50.0, Input::LinkUp { peer: B, link: 2, epoch: 1, clock_offset_ms: 0 });
    let pong = run.pong(run.sent.len());
    assert_eq!(run.step(dialled + 90.0, pong), "presence.ping good");
    // The closing of the old one is no news.
    let old = Input::LinkDown { peer: B, link: 1, why: Why::new(Reason::Cancelled, "closed"), restarted: false };
    assert_eq!(run.step(dialled + 95.0, old), "");
}

#[test]
fn one_that_was_stopped_books_what_ran_out_as_unknown_and_whoever_is_dead_is_gone_a_silence_later() {
    let mut run = Run::settled();
    let (t, _) = run.until("ping #2", 12_000.0);
    run.step(t, Input::Sent { correlator: run.sent[1], at: at(t) });
    let woke = t + 60_000.0;
    let out = run.slept(woke, Duration::from_secs(60), Duration::ZERO);
    assert!(!out.contains("overdue") && !out.contains("no_answer") && out.contains("stalled"), "{out}");
    // The answer was in the socket all the time: it comes late, and shows that B lives.
    let pong = run.pong(2);
    assert_eq!(run.step(woke + 1.0, pong), "late");
    // From now on B is dead: the bound of the watcher holds from the waking.
    let (gone, _) = run.until("gone", woke + 60_000.0);
    let silence = WatcherConfig::default();
    let bound = (silence.interval * 11 / 10 + silence.patience * 2 + silence.retry * 2).as_secs_f64() * 1e3;
    assert!(gone > woke + 15_000.0 && gone < woke + bound, "{}", gone - woke);
}

#[test]
fn one_that_is_stopped_while_a_ping_leaves_says_nothing_of_the_others_before_it_has_noticed() {
    let mut run = Run::settled();
    let (t, _) = run.until("ping #2", 12_000.0);
    run.step(t, Input::Sent { correlator: run.sent[1], at: at(t) });
    run.step(t + 1.0, Input::Command(Command::Ping { peer: B, token: 7 }));
    // The shell tells of a ping without a stamp in the same turn, which takes a minute.
    assert_eq!(run.step(t + 60_000.0, Input::SentUnstamped { correlator: run.sent[2] }), "");
    let out = run.slept(t + 60_001.0, Duration::from_secs(60), Duration::ZERO);
    assert!(
        out.starts_with("slept > presence.ping unknown stalled > pinged 7 stalled > presence.ping unknown"),
        "{out}"
    );
}

#[test]
fn no_subscriber_is_lost_by_a_stop_of_our_own_and_one_that_is_hung_up_on_has_time_to_call_again() {
    let mut run = Run::new(AgentConfig::default());
    run.link_up(0.0);
    run.step(1.0, Input::Subscribe { from: B, peer: A, question: 7 });
    run.step(10.0, Input::Command(Command::Publish { status: Status::Busy, note: None }));
    run.step(10.0, Input::Sent { correlator: run.notifies[0].correlator.unwrap(), at: at(10.0) });
    let out = run.slept(12_000.0, Duration::from_secs(12), Duration::ZERO);
    assert_eq!(out, "slept > presence.notify unknown stalled");
    // The acknowledgement was in the socket all the time.
    let ack = pams_shared::frame::NotifyAck { peer: A, number: 1, hold_ns: None, correlator: None };
    assert_eq!(run.step(12_001.0, Input::NotifyAck { from: B, ack, arrived: at(12_001.0) }), "");
    assert_eq!(run.agent.view(at(12_001.0)).subscribers[0].state, "active");
    // B is no buddy of ours: it calls again when it polls us.
    assert!(run.slept(40_000.0, Duration::from_secs(20), Duration::ZERO).contains("hang_up"));
    assert_eq!(run.agent.view(at(40_000.0)).subscribers[0].state, "away");
    let (lost, _) = run.until("subscriber_lost", 90_000.0);
    assert_eq!(lost, 56_000.0, "an interval and 10 % of it, and patience");
    assert!(run.agent.view(at(lost)).subscribers.is_empty());
}

#[test]
fn a_short_stop_leaves_connections_and_what_is_still_in_time_alone() {
    let mut run = Run::settled();
    let (t, _) = run.until("ping #2", 12_000.0);
    run.step(t, Input::Sent { correlator: run.sent[1], at: at(t) });
    assert_eq!(run.slept(t + 3_000.0, Duration::from_secs(3), Duration::ZERO), "slept");
    let pong = run.pong(2);
    assert_eq!(run.step(t + 3_001.0, pong), "presence.ping good");
    assert_eq!(run.last(), (Outcome::Good, None));
}

#[test]
fn other_addresses_are_told_to_the_home_and_everybody_is_asked_at_once() {
    let mut run = Run::settled();
    let new: Vec<std::net::SocketAddr> = vec!["198.51.100.9:7421".parse().unwrap()];
    assert_eq!(run.step(2_000.0, Input::Moved { addresses: new.clone() }), "moved > rejoin");
    let view = run.agent.view(at(2_000.0));
    assert_eq!((view.addresses, view.moved.unwrap().at_ms), (new.clone(), at(2_000.0).wall_ms()));
    run.until("ping #2", 3_100.0);
    // A change that alters nothing of what others call us by.
    assert_eq!(run.step(4_000.0, Input::Moved { addresses: new }), "moved");
}
