//! Both sides of subscriptions: their rules one by one, and then together over two paths that lose connections.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    frame::News,
    id::{Order, PeerId},
    moment::Moment,
    record::{Reason, Why},
    status::{Liveness, Presence, Status},
};

const P: PeerId = PeerId::from_bytes([1; 16]);
const A: PeerId = PeerId::from_bytes([2; 16]);
const B: PeerId = PeerId::from_bytes([3; 16]);
const BOUNDS: PublisherConfig =
    PublisherConfig { patience: Duration::from_secs(5), subscribers_max: 2, subscriptions_max: 2, total_max: 3 };

fn at(ms: u64) -> Moment {
    Moment::new(ms * 1_000_000, 1_700_000_000_000 + ms)
}

fn publisher() -> Publisher {
    let mut p = Publisher::new(BOUNDS);
    p.subscribe(at(0), P, A).unwrap();
    p
}

/// Subscribers and numbers of all that is to be written now.
fn told(p: &mut Publisher, ms: u64) -> Vec<(PeerId, u64)> {
    let told = std::iter::from_fn(|| p.next(at(ms))).map(|t| (t.subscriber, t.number)).collect();
    assert!(p.is_consistent(), "{p:?}");
    told
}

fn news(epoch: u64, version: u64) -> News {
    let status = if version.is_multiple_of(2) { Status::Busy } else { Status::Away };
    let presence = Presence { status, note: None, since_ms: version, version };
    let order = Order { epoch, attach: 1, version };
    News { peer: P, order, presence: Some(presence), liveness: None, age_ms: 0 }
}

#[test]
fn one_is_under_way_and_the_next_says_the_newest() {
    let mut p = publisher();
    assert_eq!(told(&mut p, 0), [], "the answer told the present state");
    p.changed(at(10), P);
    assert_eq!(told(&mut p, 10), [(A, 1)]);
    p.changed(at(20), P);
    p.changed(at(30), P);
    assert_eq!(told(&mut p, 30), []);
    assert_eq!(p.acked(at(50), P, A, 9), None, "what was never sent is not acknowledged");
    assert_eq!(p.acked(at(50), P, A, 1), Some(Acked { took: Duration::from_millis(40), returned: false }));
    let next = p.next(at(50)).unwrap();
    assert_eq!((next.number, next.published, next.again), (3, at(30), false));
    assert_eq!(p.acked(at(60), P, A, 1), None, "twice");
    assert!(p.acked(at(60), P, A, 3).is_some());
    assert_eq!((told(&mut p, 60), p.deadline()), (vec![], None));
}

#[test]
fn who_does_not_acknowledge_is_silent_and_told_more_once_it_does() {
    let mut p = publisher();
    p.changed(at(10), P);
    told(&mut p, 10);
    p.changed(at(20), P);
    assert_eq!(p.expired(at(5_009)), None);
    assert_eq!(p.expired(at(5_010)), Some(Expired::Silent { presentity: P, subscriber: A }));
    p.changed(at(6_000), P);
    assert_eq!((told(&mut p, 6_000), p.deadline()), (vec![], None));
    assert_eq!(p.of(P).next().unwrap().1.standing(), Standing::Silent);
    assert!(p.acked(at(9_000), P, A, 1).unwrap().returned);
    assert_eq!(told(&mut p, 9_000), [(A, 3)]);
}

#[test]
fn a_lost_connection_is_a_lost_subscriber_unless_it_comes_back_soon() {
    let mut p = publisher();
    p.changed(at(10), P);
    told(&mut p, 10);
    p.timed_by(P, A, crate::id::Correlator::of_uuid([7; 16]));
    p.down(at(100), A);
    p.changed(at(110), P);
    assert_eq!(told(&mut p, 110), []);
    p.subscribe(at(200), P, A).unwrap();
    let again = p.next(at(200)).unwrap();
    assert_eq!((again.number, again.again, again.correlator.is_some()), (1, true, true), "its transaction goes on");
    p.acked(at(210), P, A, 1).unwrap();
    assert_eq!(told(&mut p, 210), [], "what changed meanwhile stood in the answer");
    p.down(at(300), A);
    p.down(at(4_000), A);
    assert_eq!(p.expired(at(5_299)), None);
    let Some(Expired::Lost(ended)) = p.expired(at(5_300)) else { panic!("not lost") };
    assert_eq!((ended.subscriber, ended.silent, ended.under_way, p.len()), (A, false, false, 0));
    p.changed(at(6_000), P);
    assert_eq!(told(&mut p, 6_000), []);
}

#[test]
fn patience_does_not_run_out_while_we_do_not_run() {
    let mut p = publisher();
    p.subscribe(at(0), P, B).unwrap();
    p.changed(at(10), P);
    told(&mut p, 10);
    p.down(at(20), B);
    p.doubt(at(60_000));
    assert_eq!((p.expired(at(60_000)), p.is_consistent()), (None, true));
    // What was in the socket all the time.
    assert!(!p.acked(at(60_001), P, A, 1).unwrap().returned);
    assert_eq!((p.expired(at(64_999)), p.deadline()), (None, Some(at(65_000))));
    assert!(matches!(p.expired(at(65_000)), Some(Expired::Lost(Ended { subscriber: B, .. }))));
    // One that has longer keeps it.
    p.down_for(at(66_000), A, Duration::from_secs(20));
    p.doubt(at(70_000));
    assert_eq!((p.deadline(), p.is_consistent()), (Some(at(86_000)), true));
}

#[test]
fn what_is_withdrawn_is_not_waited_for() {
    let mut p = publisher();
    p.changed(at(10), P);
    told(&mut p, 10);
    p.withdraw(P, A);
    assert_eq!((told(&mut p, 11), p.deadline(), p.acked(at(12), P, A, 1)), (vec![], None, None));
    p.changed(at(20), P);
    assert_eq!(told(&mut p, 20), [(A, 2)]);
}

#[test]
fn the_bounds_hold_and_leaving_makes_room() {
    let mut p = publisher();
    let (c, other, third) = (PeerId::from_bytes([4; 16]), PeerId::from_bytes([5; 16]), PeerId::from_bytes([6; 16]));
    p.subscribe(at(0), P, B).unwrap();
    assert_eq!(p.subscribe(at(0), P, c), Err(NoRoom::Subscribers(2)));
    p.subscribe(at(0), other, A).unwrap();
    assert_eq!(p.subscribe(at(0), third, A), Err(NoRoom::Subscriptions(2)));
    assert_eq!(p.subscribe(at(0), third, B), Err(NoRoom::Total(3)));
    assert_eq!(p.subscribe(at(0), P, A), Ok(()), "a renewal needs no room");
    assert_eq!(p.leave(A).len(), 2);
    assert_eq!((p.len(), p.subscribe(at(0), P, c)), (1, Ok(())));
    assert!(p.unsubscribe(P, c).is_some() && p.unsubscribe(P, c).is_none() && p.is_consistent());
}

#[test]
fn what_is_newer_is_news_and_a_gap_is_told() {
    let mut s = Subscriber::new(8);
    let mut hear = |path, n: News| s.heard(at(1), path, &n);
    assert_eq!(hear(Path::Peer, news(1, 1)), Heard::Stranger);
    s.want(P, false).unwrap();
    let mut hear = |path, n: News| s.heard(at(1), path, &n);
    let heard = |skipped| Heard::News { skipped, presence: true, liveness: false };
    assert_eq!(hear(Path::Peer, news(1, 5)), heard(0), "the first one has no gap");
    assert_eq!(hear(Path::Peer, news(1, 6)), heard(0));
    assert_eq!(hear(Path::Home, news(1, 6)), Heard::Known);
    assert_eq!(hear(Path::Home, news(1, 9)), heard(2));
    assert_eq!(hear(Path::Peer, news(1, 8)), Heard::Known, "nothing goes backwards");
    assert_eq!(hear(Path::Peer, news(2, 9)), Heard::Known, "a restart alone is no change");
    assert_eq!(hear(Path::Peer, news(1, 10)), Heard::Known, "and what the dead start said is older");
    assert_eq!(hear(Path::Peer, news(2, 11)), heard(1));
    assert_eq!(hear(Path::Peer, news(3, 1)), heard(0), "it lost its data: what was between is not known");
    let mut gone = News { liveness: Some(Liveness::Gone), presence: None, ..news(3, 1) };
    let liveness = Heard::News { skipped: 0, presence: false, liveness: true };
    assert_eq!((hear(Path::Home, gone.clone()), hear(Path::Home, gone.clone())), (liveness, Heard::Known));
    gone.order.epoch = 2;
    gone.liveness = Some(Liveness::Live);
    assert_eq!(hear(Path::Home, gone), Heard::Known, "of a start that is over");
}

#[test]
fn it_asks_on_each_contact_and_after_a_refusal_later() {
    let mut s = Subscriber::new(2);
    assert_eq!((s.want(P, false), s.want(P, false), s.next(at(0))), (Ok(true), Ok(false), None), "no contact");
    s.home_up();
    let home = s.next(at(0)).unwrap();
    assert_eq!((home.path, home.peer, s.next(at(0))), (Path::Home, P, None));
    assert!(s.answered(at(1), home, Ok(())));
    s.linked(P);
    let first = s.next(at(2)).unwrap();
    s.linked(P); // another connection took its place
    let second = s.next(at(3)).unwrap();
    let no = || Err(Why::new(Reason::Refused, "full"));
    assert!(!s.answered(at(4), first, no()), "of a connection that is no more");
    assert!(s.answered(at(4), second, no()));
    assert_eq!((s.next(at(30_003)), s.deadline()), (None, Some(at(30_004))));
    assert_eq!(s.next(at(30_004)).unwrap().path, Path::Peer);
    let unanswered = Why::new(Reason::NoAnswer, "silence");
    s.linked(P);
    let third = s.next(at(40_000)).unwrap();
    assert!(s.answered(at(43_000), third, Err(unanswered)));
    assert_eq!(s.deadline(), Some(at(46_000)));
    s.unlinked(P);
    assert_eq!((s.next(at(99_000)), s.deadline()), (None, None));
    s.want(A, true).unwrap();
    assert_eq!(s.want(B, true), Err(Full(2)));
    assert_eq!(s.unwant(P), Some(vec![Path::Home]));
    assert_eq!(s.unwant(P), None);
    let mut left: Vec<_> = std::iter::from_fn(|| s.next(at(99_000))).map(|a| (a.path, a.peer)).collect();
    left.sort();
    assert_eq!(left, [(Path::Peer, A), (Path::Home, A)]);
}

#[test]
fn many_questions_go_out_as_answers_come_in() {
    let mut s = Subscriber::new(100);
    (0..100).for_each(|n| assert!(s.want(PeerId::from_bytes([n; 16]), false).is_ok()));
    s.home_up();
    let mut under_way: VecDeque<Ask> = std::iter::from_fn(|| s.next(at(0))).collect();
    assert_eq!(under_way.len(), 32);
    let mut asked = under_way.len();
    while let Some(ask) = under_way.pop_front() {
        assert!(s.answered(at(1), ask, Ok(())));
        let more: Vec<Ask> = std::iter::from_fn(|| s.next(at(1))).collect();
        asked += more.len();
        under_way.extend(more);
    }
    assert_eq!(asked, 100);
}

/// One presentity, one subscriber, and two ways between them, each in order and without loss while its connection lasts.
struct World {
    ms: u64,
    version: u64,
    epoch: u64,
    /// What the home knows; reports come late but come.
    home_knows: Option<(u64, u64)>,
    publishers: [Publisher; 2],
    subscriber: Subscriber,
    up: [bool; 2],
    wire: [VecDeque<(u64, News)>; 2],
    acks: [VecDeque<u64>; 2],
    asks: [VecDeque<Ask>; 2],
    told: Vec<(u64, u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish,
    Restart,
    Report,
    Down(usize),
    Up(usize),
    Deliver(usize),
    Ack(usize),
    Pass(u16),
}

impl World {
    fn new() -> Self {
        let config = PublisherConfig { subscribers_max: 9, subscriptions_max: 9, total_max: 9, ..BOUNDS };
        let mut subscriber = Subscriber::new(1);
        subscriber.want(P, false).unwrap();
        Self {
            ms: 0,
            version: 0,
            epoch: 1,
            home_knows: None,
            publishers: [Publisher::new(config), Publisher::new(config)],
            subscriber,
            up: [false; 2],
            wire: Default::default(),
            acks: Default::default(),
            asks: Default::default(),
            told: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        at(self.ms)
    }

    fn state(&self, path: usize) -> Option<News> {
        let known = if path == 0 { Some((self.epoch, self.version)) } else { self.home_knows };
        known.map(|(epoch, version)| news(epoch, version))
    }

    fn step(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Publish => {
                self.version += 1;
                self.publishers[0].changed(now, P);
            }
            Step::Restart => {
                self.epoch += 1;
                self.publishers[0] = Publisher::new(BOUNDS);
                self.step(Step::Down(0));
            }
            Step::Report => {
                if self.home_knows.replace((self.epoch, self.version)) != Some((self.epoch, self.version)) {
                    self.publishers[1].changed(now, P);
                }
            }
            Step::Down(path) => {
                self.up[path] = false;
                self.wire[path].clear();
                self.acks[path].clear();
                self.asks[path].clear();
                self.publishers[path].down(now, A);
                if path == 0 { self.subscriber.unlinked(P) } else { self.subscriber.home_down() }
            }
            Step::Up(path) => {
                self.step(Step::Down(path));
                self.up[path] = true;
                if path == 0 { self.subscriber.linked(P) } else { self.subscriber.home_up() }
            }
            Step::Deliver(path) => self.deliver(path),
            Step::Ack(path) => {
                if let Some(number) = self.acks[path].pop_front() {
                    self.publishers[path].acked(now, P, A, number);
                }
            }
            Step::Pass(ms) => self.ms += u64::from(ms),
        }
        self.turn();
    }

    fn deliver(&mut self, path: usize) {
        if let Some((number, news)) = self.wire[path].pop_front() {
            self.hear(path, &news);
            self.acks[path].push_back(number);
        } else if let Some(ask) = self.asks[path].pop_front() {
            self.publishers[path].subscribe(self.now(), P, A).unwrap();
            assert!(self.subscriber.answered(self.now(), ask, Ok(())));
            if let Some(news) = self.state(path) {
                self.hear(path, &news);
            }
        }
    }

    fn hear(&mut self, path: usize, news: &News) {
        let now = self.now();
        if let Heard::News { skipped, presence: true, .. } = self.subscriber.heard(now, Path::ALL[path], news) {
            self.told.push((news.order.epoch, news.order.version, skipped));
        }
    }

    fn turn(&mut self) {
        let now = self.now();
        for path in 0..2 {
            while self.publishers[path].expired(now).is_some() {}
            while let Some(tell) = self.publishers[path].next(now) {
                assert!(self.up[path]);
                let news = self.state(path).unwrap();
                self.wire[path].push_back((tell.number, news));
            }
            assert!(self.wire[path].len() <= 2, "one, and one again after a renewal");
            assert!(self.publishers[path].is_consistent());
        }
        while let Some(ask) = self.subscriber.next(now) {
            self.asks[ask.path as usize].push_back(ask);
        }
    }

    /// All connections stand, and everything arrives.
    fn settle(&mut self, paths: &[usize]) {
        self.step(Step::Report);
        paths.iter().for_each(|path| self.step(Step::Up(*path)));
        for _ in 0..64 {
            paths.iter().for_each(|path| {
                self.step(Step::Deliver(*path));
                self.step(Step::Ack(*path));
            });
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Publish),
        1 => Just(Step::Restart),
        2 => Just(Step::Report),
        1 => (0..2_usize).prop_map(Step::Down),
        2 => (0..2_usize).prop_map(Step::Up),
        6 => (0..2_usize).prop_map(Step::Deliver),
        6 => (0..2_usize).prop_map(Step::Ack),
        1 => (0..9_000_u16).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn the_last_state_arrives_in_order_and_each_gap_is_told(steps in prop::collection::vec(any_step(), 0..120), by in 1..4_usize) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        let paths: &[usize] = [&[0][..], &[1], &[0, 1]][by - 1];
        world.settle(paths);
        let known = world.subscriber.get(P).unwrap().known.clone().unwrap();
        prop_assert_eq!((known.epoch, known.presence.version), (world.epoch, world.version));
        for pair in world.told.windows(2) {
            let ((_, before, _), (_, after, skipped)) = (pair[0], pair[1]);
            prop_assert!(after > before, "{:?}", world.told);
            prop_assert_eq!(skipped, after - before - 1, "told if, and only if, there is one");
        }
    }
}
