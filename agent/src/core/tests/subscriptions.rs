//! Subscriptions in timelines: told and timed, lost and back, by the peer itself and by the home.

use pams_shared::{
    frame::{News, NotifyAck},
    id::Order,
    presence::Path,
    record::Told as Bounds,
};

use super::*;

fn subscribe(question: u64) -> Input {
    Input::Subscribe { from: B, peer: A, question }
}

fn publish(status: Status) -> Input {
    Input::Command(Command::Publish { status, note: None })
}

fn news(epoch: u64, version: u64, status: Status) -> News {
    let presence = Presence { status, note: None, since_ms: 0, version };
    let order = Order { epoch, attach: 1, version };
    News { peer: B, order, presence: Some(presence), liveness: None, age_ms: 0 }
}

/// From the peer itself, or from the home.
fn notify(path: Path, number: u64, news: News, arrived_ms: f64) -> Input {
    let from = (path == Path::Peer).then_some(B);
    Input::Notify { from, notify: Notify { number, news, correlator: None }, arrived: at(arrived_ms) }
}

impl Run {
    /// Has a connection with B, which B made, and a subscriber there.
    fn with_subscriber() -> Self {
        let mut run = Self::new(AgentConfig::default());
        assert_eq!(run.link_up(0.0), "link_up");
        assert_eq!(run.step(1.0, subscribe(7)), "subscriber_came > accept v0");
        run
    }

    /// B's acknowledgement of the nth notify, which comes off the stream at `arrived_ms`.
    fn ack(&self, n: usize, hold_ms: Option<u64>, arrived_ms: f64) -> Input {
        let notify = &self.notifies[n - 1];
        let ack = NotifyAck {
            peer: A,
            number: notify.number,
            hold_ns: hold_ms.map(|ms| ms * 1_000_000),
            correlator: notify.correlator,
        };
        Input::NotifyAck { from: B, ack, arrived: at(arrived_ms) }
    }

    fn left(&mut self, n: usize, ms: f64) {
        let correlator = self.notifies[n - 1].correlator.unwrap();
        assert_eq!(self.step(ms, Input::Sent { correlator, at: at(ms) }), "");
    }

    fn answered(&mut self, ms: f64, n: usize, answer: Result<Option<News>, Why>) -> String {
        let ask = self.asks[n - 1];
        self.step(ms, Input::Subscribed { ask, answer })
    }

    /// Wants B's presence, and is told of it by B, from version 3.
    fn subscribed() -> Self {
        let mut run = Self::new(AgentConfig { subscribe: vec![B], ..AgentConfig::default() });
        run.link_up(1.0);
        assert_eq!(run.answered(10.0, 1, Ok(Some(news(1, 3, Status::Busy)))), "told busy by peer > busy");
        run
    }
}

#[test]
fn a_change_is_pushed_at_once_and_when_it_was_told_is_a_bound() {
    let mut run = Run::with_subscriber();
    assert_eq!(run.step(10.0, publish(Status::Busy)), "published busy > notify v1");
    run.left(1, 11.0);
    assert_eq!(run.step(60.0, run.ack(1, Some(4), 58.0)), "presence.notify good");
    let record = &run.records[0];
    assert_eq!((record.target, record.total_ns), (B.0, Some(50_000_000)));
    let ms = |s| record.stages.get(s).unwrap() / 1_000_000;
    assert_eq!(Stage::EXCHANGE.map(ms), [1, 43, 4, 2]);
    assert_eq!(record.told(), Some(Bounds { least_ns: 5_000_000, most_ns: 48_000_000 }));
    let view = &run.agent.view(at(70.0)).subscribers[0];
    assert_eq!((view.state, view.acked_s, view.told), ("active", Some(0.01), record.told()));
}

#[test]
fn changes_that_come_meanwhile_are_told_by_one_that_waited_since_the_newest() {
    let mut run = Run::with_subscriber();
    run.step(10.0, publish(Status::Busy));
    run.left(1, 10.0);
    assert_eq!(run.step(20.0, publish(Status::Away)), "published away");
    assert_eq!(run.step(30.0, publish(Status::Online)), "published online");
    assert_eq!(run.step(60.0, run.ack(1, Some(1), 60.0)), "presence.notify good > notify v3");
    run.left(2, 61.0);
    assert_eq!(run.step(90.0, run.ack(2, Some(1), 90.0)), "presence.notify good");
    let record = run.records.last().unwrap();
    assert_eq!((record.total_ns, record.stages.get(Stage::Queued)), (Some(60_000_000), Some(31_000_000)));
}

#[test]
fn a_silent_subscriber_is_noticed_and_one_that_wakes_is_told_the_newest() {
    let mut run = Run::with_subscriber();
    run.step(10.0, publish(Status::Busy));
    run.left(1, 10.0);
    let (t, out) = run.until("lost", 6_000.0);
    assert_eq!((t, out.as_str()), (5_010.0, "presence.notify aborted no_answer > subscriber_lost"));
    assert_eq!(run.step(6_000.0, publish(Status::Away)), "published away");
    assert_eq!(run.agent.view(at(6_000.0)).subscribers[0].state, "silent");
    assert_eq!(run.step(8_000.0, run.ack(1, Some(1), 8_000.0)), "subscriber_returned > notify v2");
    assert_eq!(run.agent.ledgers().iter().find(|(k, _)| *k == Kind::Notify).unwrap().1.late, 1);
}

#[test]
fn a_subscriber_whose_connection_ends_is_lost_without_a_goodbye_unless_it_is_back_soon() {
    let mut run = Run::with_subscriber();
    run.step(10.0, publish(Status::Busy));
    run.left(1, 10.0);
    let why = Why::new(Reason::NoAnswer, "timed out");
    let down = |link| Input::LinkDown { peer: B, link, why: why.clone(), restarted: false };
    assert_eq!(run.step(100.0, down(1)), "link_down");
    assert_eq!(run.step(200.0, publish(Status::Away)), "published away", "there is nobody to tell it to");
    let up = Input::LinkUp { peer: B, link: 2, epoch: 1, clock_offset_ms: 0 };
    assert_eq!(run.step(1_000.0, up), "link_up");
    assert_eq!(
        run.step(1_001.0, subscribe(8)),
        "accept v2 > notify v2",
        "what is under way goes on, saying the newest"
    );
    run.left(2, 1_001.0);
    assert_eq!(run.notifies[0].correlator, run.notifies[1].correlator);
    assert_eq!(run.step(1_050.0, run.ack(2, None, 1_050.0)), "presence.notify good");
    assert_eq!(run.records[0].told(), None, "it knew it from the answer");
    assert_eq!(run.step(2_000.0, down(2)), "link_down");
    assert_eq!(run.until("lost", 9_000.0), (7_000.0, "subscriber_lost".to_owned()));
    assert!(run.agent.view(at(7_000.0)).subscribers.is_empty());
}

#[test]
fn who_says_goodbye_or_ends_it_is_not_lost() {
    for end in [Input::Goodbye { peer: B }, Input::Unsubscribe { from: B }] {
        let mut run = Run::with_subscriber();
        run.step(10.0, publish(Status::Busy));
        assert_eq!(run.step(11.0, end), "presence.notify aborted cancelled");
        assert_eq!(run.step(12.0, publish(Status::Away)), "published away");
    }
}

#[test]
fn only_our_own_presence_is_told_and_only_so_many_are_told() {
    let mut run = Run::with_subscriber();
    let out = run.step(2.0, Input::Subscribe { from: B, peer: B, question: 0 });
    assert_eq!(out, "subscriber_refused > reject this agent tells of its own peer only; ask a home");
    for n in 0..1_023_u32 {
        let from = PeerId(uuid::Uuid::from_u128(1_000 + u128::from(n)));
        assert_eq!(run.step(3.0, Input::Subscribe { from, peer: A, question: 0 }), "subscriber_came > accept v0");
    }
    let from = PeerId::from_bytes([0xC; 16]);
    let out = run.step(4.0, Input::Subscribe { from, peer: A, question: 0 });
    assert!(out.starts_with("subscriber_refused > reject this peer has 1024 subscribers"), "{out}");
    assert_eq!(run.step(5.0, subscribe(9)), "accept v0", "a renewal needs no room");
    run.step(6.0, Input::Command(Command::Shutdown));
    let out = run.step(7.0, subscribe(10));
    assert!(out.contains("about to stop"), "{out}");
}

#[test]
fn an_answer_of_another_kind_closes_no_notify() {
    let mut run = Run::with_subscriber();
    run.step(10.0, publish(Status::Busy));
    let correlator = run.notifies[0].correlator.unwrap();
    let pong = Pong { correlator, status: Status::Online, hold_ns: None, version: 1 };
    let out = run.step(11.0, Input::Pong { from: B, pong, arrived: None, path_rtt_ns: None });
    assert_eq!(out, "unknown_correlator");
    run.step(12.0, Input::Command(Command::Ping { peer: B, token: 1 }));
    let ack = NotifyAck { peer: A, number: 99, hold_ns: None, correlator: Some(run.sent[0]) };
    assert_eq!(run.step(13.0, Input::NotifyAck { from: B, ack, arrived: at(13.0) }), "unknown_correlator");
}

#[test]
fn a_wanted_peer_is_watched_asked_on_contact_and_what_it_tells_is_passed_on() {
    let mut run = Run::new(AgentConfig { subscribe: vec![B], ..AgentConfig::default() });
    let (t, out) = run.until("resolve", 1_000.0);
    assert_eq!(out, "resolve", "its pings make the contact");
    run.step(t, Input::Resolved { peer: B, found: Ok(vec!["b:1".into()]) });
    assert_eq!(run.link_up(t + 5.0), "link_up > ping #1 > ask peer");
    assert_eq!(run.answered(t + 10.0, 1, Ok(Some(news(1, 3, Status::Busy)))), "told busy by peer > busy");
    let out = run.step(t + 22.0, notify(Path::Peer, 1, news(1, 4, Status::Away), t + 20.0));
    assert_eq!(out, "told away by peer > ack 1 hold 2 > away");
    let out = run.step(t + 30.0, notify(Path::Peer, 2, news(1, 7, Status::Online), t + 30.0));
    assert_eq!(out, "notify_gap > told online by peer > ack 2 hold 0 > online");
    assert_eq!(run.told.iter().map(|t| t.skipped).collect::<Vec<_>>(), [0, 0, 2]);
    let view = &run.agent.view(at(t + 40.0)).subscriptions[0];
    assert_eq!((view.by_peer.state, view.by_home.state, view.configured), ("active", "waiting", true));
}

#[test]
fn the_home_tells_too_and_what_came_by_both_ways_is_told_once() {
    let mut run = Run::subscribed();
    let out = run.home_up(20.0, 0);
    assert!(out.ends_with("home_up > home_moved > ask home > report 1"), "{out}");
    let known = News { liveness: Some(Liveness::Live), age_ms: 700, ..news(1, 3, Status::Busy) };
    assert_eq!(run.answered(30.0, 2, Ok(Some(known.clone()))), "told live by home");
    assert_eq!(run.told.last().unwrap().age_ms, Some(700));
    let next = |version| News { liveness: Some(Liveness::Live), ..news(1, version, Status::Away) };
    assert_eq!(run.step(40.0, notify(Path::Home, 1, next(4), 40.0)), "told live by home > ack 1 hold 0");
    let out = run.step(41.0, notify(Path::Peer, 1, news(1, 4, Status::Away), 41.0));
    assert_eq!(out, "ack 1 hold - > away > report 2");
    let gone = News { liveness: Some(Liveness::Gone), ..next(4) };
    assert_eq!(run.step(50.0, notify(Path::Home, 2, gone, 50.0)), "told gone by home > ack 2 hold 0");
    assert_eq!(run.agent.view(at(50.0)).subscriptions[0].liveness, Some(Liveness::Gone));
    let down = HomeInput::Down { why: Why::new(Reason::NoAnswer, "gone") };
    run.step(60.0, Input::Home(down));
    assert_eq!(run.agent.view(at(60.0)).subscriptions[0].liveness, None, "nobody concludes it now");
    assert!(run.home_up(70.0, 1).contains("ask home"), "and the next home is asked anew");
}

#[test]
fn a_home_that_knows_nothing_yet_is_subscribed_to_all_the_same() {
    let mut run = Run::new(AgentConfig { subscribe: vec![B], ..AgentConfig::default() });
    run.home_up(1.0, 0);
    assert_eq!(run.answered(2.0, 1, Ok(None)), "");
    assert_eq!(run.agent.view(at(2.0)).subscriptions[0].by_home.state, "active");
    let came = News { liveness: Some(Liveness::Live), ..news(1, 1, Status::Online) };
    assert_eq!(run.step(9_000.0, notify(Path::Home, 1, came, 9_000.0)).split(" > ").next(), Some("told live by home"));
}

#[test]
fn a_refusal_is_told_and_asked_again_later() {
    let mut run = Run::new(AgentConfig { subscribe: vec![B], ..AgentConfig::default() });
    run.home_up(1.0, 0);
    let why = Why::new(Reason::Refused, "too many");
    assert_eq!(run.answered(2.0, 1, Err(why.clone())), "subscription_refused");
    assert_eq!(run.agent.view(at(2.0)).subscriptions[0].by_home.why, Some(why));
    assert_eq!(run.until("ask home", 40_000.0).0, 30_002.0);
}

#[test]
fn what_nobody_wants_any_more_is_acknowledged_and_ended() {
    let mut run = Run::subscribed();
    assert_eq!(run.step(20.0, Input::Command(Command::Unsubscribe { peer: B })), "unsubscribe peer");
    assert!(run.agent.view(at(20.0)).buddies.is_empty(), "it was watched for that alone");
    let late = notify(Path::Peer, 1, news(1, 4, Status::Away), 30.0);
    assert_eq!(run.step(30.0, late), "unsubscribe peer > ack 1 hold -");
    let for_another = News { peer: PeerId::from_bytes([0xC; 16]), ..news(1, 9, Status::Away) };
    assert_eq!(run.step(31.0, notify(Path::Peer, 2, for_another, 31.0)), "frame_rejected");
    assert!(run.agent.can_subscribe(A).is_err());
    run.step(40.0, Input::Command(Command::Subscribe { peer: B }));
    assert_eq!(run.asks.len(), 2, "there is a connection, so it is asked at once");
}

#[test]
fn our_own_conclusion_is_told_where_there_is_no_home() {
    let mut run = Run::subscribed();
    let why = Why::new(Reason::NoAnswer, "timed out");
    run.step(20.0, Input::LinkDown { peer: B, link: 1, why, restarted: false });
    let (_, out) = run.until("told gone", 60_000.0);
    assert!(out.contains("told gone by agent"), "{out}");
}
