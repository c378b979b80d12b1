//! Any interleaving of reports (lost, repeated, on old sessions, with gaps), crashes, cuts, goodbyes and forgetting, against a
//! model of what agents did and of what reached the home.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// Dial the home; the older connection may still be open there.
    Attach(usize),
    /// Open and close some transactions.
    Work(usize, u64, u64, u64),
    /// Put what happened into a numbered batch.
    Batch(usize),
    /// Send the oldest batch that was not acknowledged, and get the acknowledgement or not.
    Send(usize, bool),
    /// Any batch of this epoch or the one before, acknowledged or not, arrives on any session of that epoch.
    Stray(usize, usize, usize, bool),
    Lose(usize),
    Crash(usize),
    Goodbye(usize),
    /// By force, or only if it is gone or left.
    Forget(usize, bool),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..4_usize;
    prop_oneof![
        3 => who.clone().prop_map(Op::Attach),
        4 => (who.clone(), 0..4_u64, 0..4_u64, 0..2_u64).prop_map(|(p, o, g, a)| Op::Work(p, o, g, a)),
        4 => who.clone().prop_map(Op::Batch),
        6 => (who.clone(), any::<bool>()).prop_map(|(p, acked)| Op::Send(p, acked)),
        3 => (who.clone(), 0..8_usize, 0..8_usize, any::<bool>()).prop_map(|(p, b, s, past)| Op::Stray(p, b, s, past)),
        1 => who.clone().prop_map(Op::Lose),
        2 => who.clone().prop_map(Op::Crash),
        1 => who.clone().prop_map(Op::Goodbye),
        2 => (who, any::<bool>()).prop_map(|(p, force)| Op::Forget(p, force)),
        2 => (1..6_000_u64).prop_map(Op::Wait),
    ]
}

/// An agent in truth.
#[derive(Default)]
struct Agent {
    epoch: u64,
    session: Option<u64>,
    sessions: Vec<u64>,
    truth: Ledger,
    pending: Vec<Record>,
    batches: Vec<Report>,
    acked: u64,
    /// Its life before the crash, of which something may still be under way.
    past: Option<Box<Agent>>,
}

/// What reached the home of one epoch of a peer.
#[derive(Default)]
struct Applied {
    batch: u64,
    /// The totals of all batches, merged.
    ledger: Ledger,
    /// Booked as unknown by the home, and not closed by the agent since.
    owed: u64,
}

struct World {
    pams: Pams,
    now: u64,
    agents: Vec<Agent>,
    next: u64,
    /// The session that the home holds for each peer.
    home: BTreeMap<usize, u64>,
    /// The epoch that the home last accepted of each peer.
    epochs: BTreeMap<usize, u64>,
    applied: BTreeMap<(usize, u64), Applied>,
    seen: BTreeSet<Correlator>,
    due_records: u64,
    abandoned: u64,
    /// Closings that came after the home had booked them as unknown.
    set_off: u64,
    last: Ledger,
}

const CONFIG: PamsConfig = PamsConfig {
    pace: std::time::Duration::from_millis(1_500),
    slack: std::time::Duration::from_millis(500),
    gone_after: std::time::Duration::from_millis(4_500),
    peers_max: 3,
    departed_max: 2,
    forget_after: std::time::Duration::from_secs(20),
    forgotten_max: 4,
    recent_records: 3,
    recent_total: 9,
    events_max: 5,
    views_per_watcher: 2,
    views_total: 3,
    subscribers_per_peer: 2,
    subscriptions_per_agent: 2,
    subscriptions_total: 3,
    kinds_max: 2,
    sd_grace: None,
    watchers: 2,
    gone_watched: std::time::Duration::from_secs(9),
    roster_settle: std::time::Duration::from_millis(700),
    ack_held: true,
    stale_after: std::time::Duration::from_secs(3),
    orphan_gone: std::time::Duration::from_secs(60),
    entries_max: 100,
    probe_http: false,
};

fn peer(n: usize) -> PeerId {
    PeerId::from_bytes([b'a' + n as u8; 16])
}

impl World {
    fn new() -> Self {
        let agents = (0..4).map(|_| Agent { epoch: 1, ..Agent::default() }).collect();
        Self {
            pams: Pams::new(CONFIG, at(0)),
            now: 0,
            agents,
            next: 0,
            home: BTreeMap::new(),
            epochs: BTreeMap::new(),
            applied: BTreeMap::new(),
            seen: BTreeSet::new(),
            due_records: 0,
            abandoned: 0,
            set_off: 0,
            last: Ledger::default(),
        }
    }

    fn unique(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Attach(p) => {
                let session = self.unique();
                let hello = Box::new(hello(at(self.now), peer(p), self.agents[p].epoch));
                let id = SessionId(session);
                self.agents[p].sessions.push(session);
                self.agents[p].session = None;
                self.handle(Input::Opened {
                    session: id,
                    peer: peer(p),
                    hello,
                    observed: observed(),
                    same_host: false,
                });
            }
            Op::Work(p, opened, good, aborted) => self.work(p, opened, good, aborted),
            Op::Batch(p) => self.batch(p),
            Op::Send(p, acked) => {
                let agent = &self.agents[p];
                let agent_epoch = agent.epoch;
                let report = agent.batches.iter().find(|b| b.batch > agent.acked).cloned();
                if let (Some(session), Some(report)) = (agent.session, report) {
                    let batch = report.batch;
                    self.send(p, agent_epoch, session, report);
                    if acked && self.home.get(&p) == Some(&session) {
                        self.agents[p].acked = batch;
                    }
                }
            }
            Op::Stray(p, batch, session, past) => {
                let agent = &self.agents[p];
                let agent = if past { agent.past.as_deref().unwrap_or(agent) } else { agent };
                let pick = |n: usize, len: usize| (len > 0).then(|| n % len);
                let report = pick(batch, agent.batches.len()).map(|i| agent.batches[i].clone());
                let session = pick(session, agent.sessions.len()).map(|i| agent.sessions[i]);
                if let (epoch, Some(session), Some(report)) = (agent.epoch, session, report) {
                    self.send(p, epoch, session, report);
                }
            }
            Op::Lose(p) => self.lose(p),
            Op::Crash(p) => {
                let epoch = self.agents[p].epoch + 1;
                // Its connection stays open at the home: nobody tells.
                let past = std::mem::take(&mut self.agents[p]);
                self.agents[p] =
                    Agent { epoch, past: Some(Box::new(Agent { past: None, ..past })), ..Agent::default() };
            }
            Op::Goodbye(p) => {
                if let Some(session) = self.agents[p].session {
                    self.handle(Input::Goodbye { session: SessionId(session) });
                    self.lose(p);
                }
            }
            Op::Forget(p, force) => self.handle(Input::Forget { peer: peer(p), force }),
            Op::Wait(ms) => self.wait(ms),
        }
        self.check();
    }

    fn work(&mut self, p: usize, opened: u64, good: u64, aborted: u64) {
        let truth = &mut self.agents[p].truth;
        truth.opened += opened;
        truth.in_flight += opened;
        let good = good.min(truth.in_flight);
        truth.good += good;
        truth.in_flight -= good;
        let aborted = aborted.min(truth.in_flight);
        truth.aborted += aborted;
        truth.in_flight -= aborted;
        for _ in 0..good + aborted {
            let number = self.unique();
            self.agents[p].pending.push(record(7, number));
        }
    }

    fn batch(&mut self, p: usize) {
        let agent = &mut self.agents[p];
        let batch = agent.batches.len() as u64 + 1;
        let watched = View { peer: peer((p + batch as usize) % 5), ..super::view("x:live") };
        let status = Status::ALL[batch as usize % 4];
        agent.batches.push(Report {
            batch,
            totals: vec![(Kind::Ping, agent.truth), (Kind::parse("app.x").unwrap(), agent.truth)],
            changes: vec![Presence { status, version: batch, ..Presence::default() }],
            views: vec![watched],
            records: std::mem::take(&mut agent.pending),
            shed: 0,
        });
    }

    /// A report reaches the home; what should come of it goes into the model.
    fn send(&mut self, p: usize, epoch: u64, session: u64, report: Report) {
        if self.home.get(&p) == Some(&session) {
            let applied = self.applied.entry((p, epoch)).or_default();
            if report.batch > applied.batch {
                let before = applied.ledger;
                applied.batch = report.batch;
                applied.ledger.merge(&report.totals[0].1);
                let closed = applied.ledger.good + applied.ledger.aborted - before.good - before.aborted;
                let set_off = applied.owed.min(closed);
                applied.owed -= set_off;
                self.set_off += set_off;
                self.due_records += report.records.len() as u64;
            }
        }
        self.handle(Input::Report { session: SessionId(session), report });
    }

    fn lose(&mut self, p: usize) {
        if let Some(session) = self.agents[p].session.take() {
            self.handle(Input::Closed { session: SessionId(session) });
            if self.home.get(&p) == Some(&session) {
                self.home.remove(&p);
            }
        }
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some((due, _)) = self.pams.deadline().filter(|(due, _)| *due <= at(until)) {
            self.now = self.now.max(due.ns() / 1_000_000);
            self.handle(Input::Tick);
        }
        self.now = until;
    }

    fn handle(&mut self, input: Input) {
        self.pams.handle(at(self.now), input);
        while let Some(output) = self.pams.poll() {
            match output {
                Output::Accept { session, terms } => self.accepted(session.0, terms.applied_batch),
                Output::Close { session, .. } => {
                    self.home.retain(|_, s| *s != session.0);
                    self.agents.iter_mut().filter(|a| a.session == Some(session.0)).for_each(|a| a.session = None);
                }
                Output::Record { record, .. } => {
                    assert!(self.seen.insert(record.correlator), "counted twice: {record:?}");
                }
                Output::Abandoned { peer, kind: Kind::Ping, count, .. } => {
                    let p = usize::from(peer.as_bytes()[0] - b'a');
                    self.abandoned += count;
                    self.applied.get_mut(&(p, self.epochs[&p])).unwrap().owed += count;
                }
                Output::Ack { session, ack } => {
                    let (p, _) =
                        self.home.iter().find(|(_, s)| **s == session.0).expect("ack on a session that is over");
                    assert_eq!(ack.batch, self.applied_batch(*p, self.epochs[p]));
                }
                _ => {}
            }
        }
    }

    fn applied_batch(&self, p: usize, epoch: u64) -> u64 {
        self.applied.get(&(p, epoch)).map_or(0, |applied| applied.batch)
    }

    fn accepted(&mut self, session: u64, applied_batch: u64) {
        let p = self.agents.iter().position(|a| a.sessions.contains(&session)).unwrap();
        let epoch = self.agents[p].epoch;
        assert_eq!(applied_batch, self.applied_batch(p, epoch), "what was applied is known");
        self.epochs.insert(p, epoch);
        let agent = &mut self.agents[p];
        agent.acked = agent.acked.max(applied_batch);
        agent.session = Some(session);
        self.home.insert(p, session);
    }

    /// What must hold at every look.
    fn check(&mut self) {
        let summary = self.pams.summary(at(self.now));
        let total = summary.ledger[0].1;
        assert!(total.is_conserved(), "{total:?}");
        let of = |l: &Ledger| [l.opened, l.good, l.aborted, l.failed, l.unknown];
        assert!(of(&self.last).iter().zip(of(&total)).all(|(before, now)| *before <= now), "a total fell");
        self.last = total;

        let mut expected = Ledger::default();
        self.applied.values().for_each(|applied| expected.add(&applied.ledger));
        assert_eq!(total.opened, expected.opened, "each opened transaction is booked once");
        assert_eq!(total.unknown, self.abandoned);
        let closed = expected.good + expected.aborted - self.set_off;
        assert_eq!(total.good + total.aborted, closed, "each closing is booked once");
        assert_eq!((summary.records, self.seen.len() as u64), (self.due_records, self.due_records));
        let other = &summary.ledger.last().unwrap().1;
        assert!(other.is_conserved() && (summary.ledger.len() == 2 || other.opened == total.opened));

        assert!(self.pams.directory.is_consistent());
        assert!(self.pams.directory.len() <= CONFIG.peers_max && self.pams.directory.departed() <= CONFIG.departed_max);
        assert!(self.pams.sessions.len() <= self.pams.directory.len());
        assert_eq!(self.pams.sessions.len(), self.home.len());
        assert!(summary.forgotten <= CONFIG.forgotten_max as u64 && summary.views <= CONFIG.views_total as u64);
        assert!(self.pams.events().count() <= CONFIG.events_max);
        let page = self.pams.peers(at(self.now), &Filter::default(), None, 9);
        for shown in page.peers {
            let detail = self.pams.peer(at(self.now), shown.id).unwrap();
            assert!(detail.records.len() <= CONFIG.recent_records);
            assert!(detail.ledger.values().all(Ledger::is_conserved));
            assert!(detail.watchers.iter().all(|w| w.name.is_some()), "views of watchers that are no more");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_counted_twice_and_no_total_falls(ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.run(op));
    }
}
