//! The home's host: the shell around its core, and a model of what it should know: who was heard when, which batches reached
//! it, and what they add up to. Its memory ends with its process.

use std::collections::BTreeSet;

use pams_server::core::{Input, Notice, Output, Pams, Push, SessionId, What};
use pams_shared::{
    frame::{Frame, HelloAck, Report, close},
    id::Correlator,
    record::Kind,
    status::Liveness,
};

use crate::{
    agent::Timer,
    check::grew,
    memory::Memory,
    net::{ConnId, News},
    setup::{self, HOME, node, peer},
    trace::{self, name},
    world::{MS, SECOND, World},
};

#[derive(Debug)]
pub struct Home {
    pub core: Option<Pams>,
    /// Counted by any of its lives.
    pub counted_ever: BTreeSet<Correlator>,
    pub memory: Memory,
}

impl Home {
    pub fn new() -> Self {
        Self { core: None, counted_ever: BTreeSet::new(), memory: Memory::default() }
    }
}

impl World {
    pub fn start_home(&mut self) {
        if self.processes[HOME].up {
            return;
        }
        self.begin(HOME);
        self.home.core = Some(Pams::new(self.setup.home.clone(), self.moment(HOME)));
        self.home.memory = Memory::default();
        let life = self.processes[HOME].life;
        self.trace.line(self.now, HOME, || format!("! starts, generation {life}"));
        self.home_handle(Input::Tick);
    }

    pub fn stop_home(&mut self) {
        self.processes[HOME].up = false;
        self.home.core = None;
    }

    pub fn home_news(&mut self, news: News) {
        match news {
            News::Frame { conn, frame, .. } => self.said_to_home(conn, frame),
            News::Ended { conn, .. } => {
                self.home.memory.sessions.retain(|_, (c, _)| *c != conn);
                self.home_handle(Input::Closed { session: SessionId(conn as u64) });
            }
            News::Timer(Timer::Close { conn, code }) => self.close(conn, 1, code),
            news => panic!("not for a home: {news:?}"),
        }
    }

    fn said_to_home(&mut self, conn: ConnId, frame: Frame) {
        let session = SessionId(conn as u64);
        let from = self.other(conn, HOME);
        let memory = &mut self.home.memory;
        let current = memory.sessions.get(&from).is_some_and(|(c, _)| *c == conn);
        if current {
            memory.heard.insert(from, self.now);
        }
        let input = match frame {
            Frame::Hello(hello) => {
                memory.hellos.insert(conn, hello.epoch);
                let observed = setup::address(from, self.agents[from].place).parse().expect("an address");
                Input::Opened { session, peer: peer(from), hello: Box::new(hello), observed, same_host: false }
            }
            Frame::Report(report) => return self.reported(conn, from, current, report),
            Frame::Subscribe(peer) => Input::Subscribe { session, peer },
            Frame::Unsubscribe(peer) => Input::Unsubscribe { session, peer },
            Frame::NotifyAck(ack) => Input::NotifyAck { session, ack },
            Frame::Fetch(peer) => Input::Fetch { session, peer },
            Frame::Goodbye => {
                if current {
                    memory.left.insert(from);
                }
                Input::Goodbye { session }
            }
            _ => Input::Heard { session },
        };
        self.home_handle(input);
    }

    /// A report: what it should change, and that it changes just that.
    fn reported(&mut self, conn: ConnId, from: usize, current: bool, report: Report) {
        let memory = &mut self.home.memory;
        let due = if current { memory.apply(from, &report) } else { 0 };
        let before = memory.counted.len();
        self.home_handle(Input::Report { session: SessionId(conn as u64), report });
        let counted = self.home.memory.counted.len() - before;
        assert_eq!(counted, due, "records of a batch of {}", name(from));
        self.check_totals();
    }

    /// The totals are what should be booked, conserved, and never fall.
    fn check_totals(&mut self) {
        let now = self.moment(HOME);
        let Some(core) = &self.home.core else { return };
        let memory = &mut self.home.memory;
        let summary = core.summary(now);
        for (label, ledger) in summary.ledger {
            assert!(ledger.is_conserved(), "{label} {ledger:?}");
            let kind = Kind::parse(&label).expect("a kind");
            let expected = memory.totals.get(&kind).copied().unwrap_or_default();
            assert_eq!(ledger, expected, "{label}");
            let before = memory.shown.insert(label.clone(), ledger).unwrap_or_default();
            assert!(grew(&before, &ledger), "{label} fell: {before:?} {ledger:?}");
        }
        assert_eq!(summary.records, memory.counted.len() as u64);
        assert_eq!((summary.outputs_shed, summary.sessions), (0, memory.sessions.len() as u64));
    }

    /// Gives the core what happened and does what it asks for.
    pub fn home_handle(&mut self, input: Input) {
        self.trace.line(self.now, HOME, || format!("< {}", trace::home_input(&input)));
        let now = self.moment(HOME);
        let Some(core) = &mut self.home.core else { return };
        core.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| core.poll()).collect();
        let deadline = core.deadline().map(|(at, _)| at);
        for output in &outputs {
            self.trace.line(self.now, HOME, || format!("> {}", trace::home_output(output)));
        }
        self.wake_at(HOME, deadline);
        outputs.into_iter().for_each(|output| self.perform_home(output));
    }

    fn perform_home(&mut self, output: Output) {
        let now = self.now;
        match output {
            Output::Accept { session, terms } => {
                let conn = session.0 as ConnId;
                let from = self.other(conn, HOME);
                let known = self.home.memory.accept(now, from, conn);
                assert_eq!(terms.applied_batch, known, "{}: what was applied is known", name(from));
                let ack = HelloAck { verdict: Ok(()), terms: Some(terms), ..self.home_ack(from) };
                self.send_frame(conn, 1, &Frame::HelloAck(ack));
            }
            Output::Reject { session, rejected } => {
                let conn = session.0 as ConnId;
                let ack = HelloAck { verdict: Err(rejected), ..self.home_ack(self.other(conn, HOME)) };
                self.send_frame(conn, 1, &Frame::HelloAck(ack));
                let timer = Timer::Close { conn, code: close::REJECTED };
                self.tell_at(now + SECOND, HOME, News::Timer(timer));
            }
            Output::Close { session, code } => {
                let conn = session.0 as ConnId;
                self.home.memory.sessions.retain(|_, (c, _)| *c != conn);
                self.close(conn, 1, code);
            }
            Output::Ack { session, ack } => self.send_frame(session.0 as ConnId, 1, &Frame::ReportAck(ack)),
            Output::Push { session, push: Push::Roster(roster) } => {
                self.send_frame(session.0 as ConnId, 1, &Frame::Roster(roster));
            }
            Output::Push { session, push: Push::Notify(notify) } => {
                self.send_frame(session.0 as ConnId, 1, &Frame::Notify(notify));
            }
            Output::Subscribed { session, ack } => {
                self.send_frame(session.0 as ConnId, 1, &Frame::SubscribeAck(ack));
            }
            Output::NotifyAcked { .. } => self.tally.count("home_notify"),
            Output::Fetched { session, entry } => {
                self.send_frame(session.0 as ConnId, 1, &Frame::FetchAck(entry));
            }
            Output::Record { peer, record } => {
                let memory = &mut self.home.memory;
                assert!(memory.counted.insert(record.correlator), "counted twice: {record:?}");
                self.home.counted_ever.insert(record.correlator);
                assert!(node(peer).is_some_and(|n| self.made(n, &record.correlator)), "{peer} never had {record:?}");
                self.tally.count("record");
            }
            Output::Abandoned { peer, kind, count, .. } => self.abandoned(node(peer).expect("a node"), kind, count),
            Output::Event(event) => self.came_or_went(node(event.peer).expect("a node"), event.what),
            Output::Forgot { .. } => {}
            Output::Push { .. }
            | Output::Sibling(_)
            | Output::Held { .. }
            | Output::Probed { .. }
            | Output::Evacuated { .. } => {
                panic!("this home knows of no other server: {output:?}")
            }
            Output::Notice(notice) => self.home_notice(&notice),
        }
    }

    fn home_ack(&self, from: usize) -> HelloAck {
        HelloAck {
            software: "sim".to_owned(),
            epoch: self.processes[HOME].life,
            capabilities: 0,
            wall_ms: self.moment(HOME).wall_ms(),
            observed: setup::address(from, self.agents[from].place).parse().ok(),
            verdict: Ok(()),
            terms: None,
            member: None,
        }
    }

    fn made(&self, node: usize, correlator: &Correlator) -> bool {
        let agent = &self.agents[node];
        agent.facts.closed.contains(correlator) || agent.past.iter().any(|f| f.closed.contains(correlator))
    }

    /// The home books what an epoch had in flight as unknown.
    fn abandoned(&mut self, who: usize, kind: Kind, count: u64) {
        let expected = self.home.memory.abandon(who, &kind);
        assert_eq!(expected, count, "{} {kind}", name(who));
        self.tally.count("abandoned");
    }

    fn came_or_went(&mut self, who: usize, what: What) {
        let heard = self.home.memory.heard.get(&who).copied().unwrap_or_default();
        match what {
            What::Gone => self.gone(who, self.now - heard),
            What::Left => assert!(self.home.memory.left.contains(&who), "{} left without a goodbye", name(who)),
            What::Forgotten => {
                self.home.memory.forgotten.insert(who);
                self.tally.count("forgotten");
            }
            What::Returned => self.tally.count("returned"),
            What::Restarted => self.tally.count("restarted"),
            What::Superseded => self.tally.count("superseded"),
            What::Came => {}
            What::Moved => panic!("{} has no other home", name(who)),
        }
    }

    /// Gone: after just so long a silence, and never while the connection works.
    fn gone(&mut self, who: usize, silent: u64) {
        let gone_after = setup::ns(self.setup.home.gone_after);
        let woke = self.processes[HOME].sleep.woke;
        assert!(woke == 0 || self.now - woke >= gone_after, "{} gone because its home slept", name(who));
        let due = gone_after..=gone_after + 2 * MS;
        if !self.stalled_lately(HOME) {
            assert!(due.contains(&silent), "{} gone, heard {silent} ns ago", name(who));
        }
        if !self.processes[who].up
            && let Some(died) = self.agents[who].facts.ended
            && !self.stalled_lately(HOME)
        {
            let after = self.now - died;
            assert!(after <= gone_after + setup::WAY_MAX + 2 * MS, "{} gone {after} ns after its end", name(who));
            self.tally.took("gone_at_home", after);
        }
        assert!(!self.works(who, gone_after + SECOND), "{} is gone and its connection works", name(who));
    }

    /// An agent runs, and for so long its session has been open at both ends without a packet sent twice. Whether the
    /// home itself ran meanwhile does not matter: what came in then waits for it.
    pub fn works(&self, who: usize, since: u64) -> bool {
        let uplink = &self.agents[who].uplink;
        let Some((conn, epoch)) = self.home.memory.sessions.get(&who).copied() else { return false };
        let quiet = self.now.saturating_sub(since);
        let steady = self.net.conns[conn].troubled < quiet && !self.stalled_lately(who);
        let open = self.is_open(conn, 0) && self.is_open(conn, 1);
        let same = uplink.conn == Some(conn) && uplink.up && self.lives(who, epoch) && !self.agents[who].leaving;
        steady && open && same
    }

    /// It did not run for a while, less than ten seconds ago.
    pub fn stalled_lately(&self, node: usize) -> bool {
        self.processes[node].stalled + 10 * SECOND > self.now && self.processes[node].stalled > 0
    }

    fn home_notice(&mut self, notice: &Notice) {
        let what = match notice {
            Notice::Resumed { .. } => "resumed",
            // An agent whose window is full gives its oldest batch again; that it counts once is checked with the books.
            Notice::Replayed { .. } => "replayed",
            Notice::SubscriberLost { .. } => "home_lost_subscriber",
            // No life speaks after the next one began.
            Notice::OlderOrder { .. } => panic!("{notice:?}"),
            Notice::ForgottenForGood { .. } | Notice::Evicted { .. } | Notice::Gap { .. } | Notice::BadHello { .. } => {
                panic!("{notice:?}")
            }
            Notice::KindsFull { .. }
            | Notice::Implausible { .. }
            | Notice::ViewsFull { .. }
            | Notice::SubscriptionRefused { .. }
            | Notice::LateChecked { .. }
            | Notice::Server { .. }
            | Notice::Settling { .. }
            | Notice::Gossip(_)
            | Notice::BadDeltas { .. }
            | Notice::SiblingsFull { .. }
            | Notice::PeersFull { .. } => {
                panic!("{notice:?}")
            }
            Notice::Stalled { late } => {
                assert!(self.stalled_lately(HOME), "a stall of {late:?} that was none");
                "stalled"
            }
            Notice::Superseded { .. }
            | Notice::Draining { .. }
            | Notice::StaleSession { .. }
            | Notice::StalePresence { .. }
            | Notice::ClockOff { .. }
            | Notice::RecordsShed { .. } => return,
        };
        self.tally.count(what);
    }

    /// What the home says of an agent.
    pub fn verdict(&self, who: usize) -> Option<Liveness> {
        let now = self.moment(HOME);
        self.home.core.as_ref()?.peer(now, peer(who)).map(|detail| detail.home.liveness)
    }
}
