//! A server's host: the shell around its core. What is on its disk stays: its starts, the servers it knew, whom it banned.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use pams_server::core::{
    Forgot, Input, Myself, Output, Pams, SessionId,
    cluster::{
        book::Book,
        io::{FollowId, LinkId, SiblingInput},
    },
    share::FollowerId,
};
use pams_shared::{
    frame::{Frame, HelloAck, close},
    id::{PeerId, ServerId},
    moment::Moment,
    pulse::{BEAT, Pulse},
};
use pams_simulator::seed_bytes;

use crate::{
    conn::ConnId,
    setup::{self, node, ns, peer},
    trace,
    world::{Event, MS, SALT, SECOND, US, World},
};

/// A core whose deadline makes it wake so often in one second does nothing when it wakes.
const WAKES_MAX: u64 = 3_000;
/// Outputs of one input: each agent and stream is told a few things at most.
const OUTPUTS_MAX: usize = 600;

#[derive(Debug)]
pub struct Server {
    pub core: Option<Pams>,
    pulse: Option<Pulse>,
    /// What came while it did not run.
    pub missed: VecDeque<Event>,
    wake: Option<u64>,
    wakes: (u64, u64),
    /// On disk.
    pub book: Book,
    pub banned: BTreeSet<PeerId>,
    /// The shell's tables.
    pub links: BTreeMap<LinkId, ConnId>,
    pub follows: BTreeMap<FollowId, (ConnId, u64)>,
    pub feeds: BTreeMap<FollowerId, (ConnId, u64)>,
    pub next: u64,
    /// Epochs of the sessions that said Hello, and who waits for an answer.
    pub hellos: BTreeMap<ConnId, u64>,
    asker: Option<(ConnId, u64)>,
    /// The newest (epoch, batch) of each peer that it has acknowledged: that it may say again.
    pub acked: BTreeMap<PeerId, (u64, u64)>,
    /// When it last concluded something of another server.
    pub turned: BTreeMap<ServerId, u64>,
    /// When it last did not run, or had just started.
    pub shaken: u64,
}

impl Server {
    pub fn new() -> Self {
        Self {
            core: None,
            pulse: None,
            missed: VecDeque::new(),
            wake: None,
            wakes: (0, 0),
            book: Book::default(),
            banned: BTreeSet::new(),
            links: BTreeMap::new(),
            follows: BTreeMap::new(),
            feeds: BTreeMap::new(),
            next: 0,
            hellos: BTreeMap::new(),
            asker: None,
            acked: BTreeMap::new(),
            turned: BTreeMap::new(),
            shaken: 0,
        }
    }
}

impl World {
    pub fn start_server(&mut self, s: usize) {
        if self.processes[s].up {
            return;
        }
        self.begin(s);
        let (now, life) = (self.moment(s), self.processes[s].life);
        let seed = seed_bytes(SALT, self.chance.below(u64::MAX));
        let seeds = self.seeds(s);
        self.line(s, || format!("! starts, generation {life}, seeds {seeds:?}"));
        let banned = self.servers[s].banned.clone();
        let myself = Myself { member: setup::member(s, life), seeds, seed, banned };
        let core = Pams::among(myself, self.setup.config.clone(), now);
        let old = &mut self.servers[s];
        let (book, banned) = (std::mem::take(&mut old.book), std::mem::take(&mut old.banned));
        let pulse = Some(Pulse::new(now, None));
        self.servers[s] = Server { core: Some(core), pulse, book, banned, shaken: self.now, ..Server::new() };
        if life > 1 {
            self.tally.count("server_restart");
        }
        self.plan(self.now + ns(BEAT), Event::Beat { server: s, life });
        self.give(s, Input::Tick, None);
    }

    /// Where it begins to look for the others: all but the first joined there, and then whom its book has.
    fn seeds(&self, s: usize) -> Vec<String> {
        let joined = (s != 0).then(|| setup::address(0).to_string());
        let mut seeds: Vec<String> = Vec::new();
        for seed in joined.into_iter().chain(self.servers[s].book.seeds()) {
            if seed != setup::address(s).to_string() && !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        seeds
    }

    /// The process ends, and nobody is told.
    pub fn kill_server(&mut self, s: usize) {
        self.end(s);
        self.processes[s].stalled = 0;
        self.servers[s].core = None;
        self.servers[s].missed.clear();
    }

    /// Something happened; the loop takes it a moment later, one thing after the other.
    pub fn tell(&mut self, server: usize, input: Input) {
        self.tell_asked(server, input, None);
    }

    pub fn tell_asked(&mut self, server: usize, input: Input, asker: Option<(ConnId, u64)>) {
        let lag = match self.chance.below(40) {
            0 => self.chance.below(5 * MS),
            _ => 5 * US + self.chance.below(100 * US),
        };
        let process = &mut self.processes[server];
        process.taken = process.taken.max(self.now + lag);
        let (at, life) = (process.taken, process.life);
        self.plan(at, Event::Input { server, life, input: Box::new(input), asker });
    }

    /// The loop looks at the clock, and gives the core what happened.
    pub fn give(&mut self, s: usize, input: Input, asker: Option<(ConnId, u64)>) {
        if !self.processes[s].up {
            return;
        }
        self.look(s);
        self.servers[s].asker = asker;
        self.handle(s, input);
    }

    fn look(&mut self, s: usize) {
        let now = self.moment(s);
        let gap = self.servers[s].pulse.as_mut().and_then(|pulse| pulse.look(now, || None));
        if let Some(gap) = gap {
            self.tally.count("stalled");
            self.handle(s, Input::Stalled { late: gap.stopped + gap.suspended });
        }
    }

    pub fn beat(&mut self, s: usize) {
        self.look(s);
        let life = self.processes[s].life;
        self.plan(self.now + ns(BEAT), Event::Beat { server: s, life });
    }

    /// It runs again: what came meanwhile is taken, in the order in which it came.
    pub fn awake(&mut self, s: usize) {
        if self.processes[s].stalled > self.now {
            return;
        }
        self.servers[s].shaken = self.now;
        self.line(s, || "! runs again".to_owned());
        self.look(s);
        for event in std::mem::take(&mut self.servers[s].missed) {
            self.happen(event);
        }
    }

    pub fn wake(&mut self, s: usize) {
        let server = &mut self.servers[s];
        if server.wake.is_none_or(|at| at > self.now) {
            return; // planned anew meanwhile
        }
        server.wake = None;
        let second = self.now / SECOND;
        server.wakes = if server.wakes.0 == second { (second, server.wakes.1 + 1) } else { (second, 1) };
        assert!(server.wakes.1 < WAKES_MAX, "{} wakes for nothing: {:?}", trace::name(s), self.due(s));
        self.give(s, Input::Tick, None);
    }

    fn due(&self, s: usize) -> Option<(Moment, pams_server::core::Due)> {
        self.servers[s].core.as_ref()?.deadline()
    }

    /// A core says when it wants to be woken; a loop is a little late.
    fn wake_at(&mut self, s: usize) {
        let Some((deadline, _)) = self.due(s) else { return };
        let at = self.real(s, deadline).max(self.now);
        if self.servers[s].wake.is_some_and(|planned| planned <= at + MS) {
            return;
        }
        let at = at + 50 * US + self.chance.below(900 * US);
        self.servers[s].wake = Some(at);
        let life = self.processes[s].life;
        self.plan(at, Event::Wake { server: s, life });
    }

    fn handle(&mut self, s: usize, input: Input) {
        self.trace.line(self.now, s, || format!("< {}", trace::input(&input)));
        self.check_input(s, &input);
        let now = self.moment(s);
        let Some(core) = &mut self.servers[s].core else { return };
        core.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| core.poll()).collect();
        assert!(outputs.len() <= OUTPUTS_MAX, "{} outputs at once", outputs.len());
        for output in &outputs {
            self.trace.line(self.now, s, || format!("> {}", trace::output(output)));
        }
        self.wake_at(s);
        for output in outputs {
            self.perform(s, output);
        }
    }

    fn perform(&mut self, s: usize, output: Output) {
        self.check_output(s, &output);
        match output {
            Output::Accept { session, terms } => {
                let ack = HelloAck { terms: Some(terms), ..self.hello_ack(s, Ok(())) };
                self.say(session, Frame::HelloAck(ack));
            }
            Output::Reject { session, rejected } => {
                let ack = self.hello_ack(s, Err(rejected));
                self.say(session, Frame::HelloAck(ack));
                let (conn, code) = (session.0 as ConnId, close::REJECTED);
                self.plan(self.now + SECOND, Event::Close { conn, side: 1, code });
            }
            Output::Close { session, code } => self.close(session.0 as ConnId, 1, code),
            Output::Ack { session, ack } => self.say(session, Frame::ReportAck(ack)),
            Output::Push { session, push } => self.say(session, frame_of(push)),
            Output::Subscribed { ack, .. } => {
                if let Some((conn, stream)) = self.servers[s].asker.take() {
                    self.send_frame(conn, 1, stream, &Frame::SubscribeAck(ack));
                }
            }
            Output::Fetched { entry, .. } => {
                if let Some((conn, stream)) = self.servers[s].asker.take() {
                    self.send_frame(conn, 1, stream, &Frame::FetchAck(entry));
                }
            }
            Output::Sibling(output) => self.perform_sibling(s, output),
            Output::Forgot { peer, answer: Forgot::Done } => self.ban(s, peer),
            Output::Evacuated { .. } => self.leave_for_good(s),
            Output::Probed { .. } => panic!("nobody asks for probes here"),
            Output::Forgot { .. }
            | Output::Held { .. }
            | Output::NotifyAcked { .. }
            | Output::Record { .. }
            | Output::Abandoned { .. }
            | Output::Event(_)
            | Output::Notice(_) => {}
        }
    }

    fn say(&mut self, session: SessionId, frame: Frame) {
        self.send_frame(session.0 as ConnId, 1, 0, &frame);
    }

    pub fn hello_ack(&self, s: usize, verdict: Result<(), pams_shared::frame::Rejected>) -> HelloAck {
        HelloAck {
            software: "sim/1".to_owned(),
            epoch: self.processes[s].life,
            capabilities: 0,
            wall_ms: self.moment(s).wall_ms(),
            observed: None,
            verdict,
            terms: None,
            member: None,
        }
    }

    /// From now on the peer is turned away, whatever comes of its entry meanwhile.
    pub fn ban(&mut self, s: usize, peer: PeerId) {
        if self.servers[s].banned.insert(peer) {
            self.tally.count("banned");
            self.line(s, || format!("! bans {}", node(peer).map_or('?', trace::name)));
            self.tell(s, Input::Forget { peer, force: true });
        }
    }

    /// Its agents have gone: the process ends in order, and another begins later.
    fn leave_for_good(&mut self, s: usize) {
        self.tally.count("evacuated");
        self.give(s, Input::Drain, None);
        self.give(s, Input::Sibling(SiblingInput::Leave), None);
        for conn in 0..self.net.conns.len() {
            for side in [0, 1] {
                let end = &self.net.conns[conn].ends[side];
                if end.node == s && self.is_open(conn, side) {
                    self.close(conn, side, close::GOODBYE);
                }
            }
        }
        self.kill_server(s);
        let back = self.now + SECOND + self.chance.below(6 * SECOND);
        self.plan(back, Event::Start { node: s });
    }

    /// What an agent says.
    pub fn agents_frame(&mut self, s: usize, conn: ConnId, stream: u64, frame: Frame) {
        let from = self.other(conn, s);
        let session = SessionId(conn as u64);
        let mut asker = None;
        let input = match frame {
            Frame::Hello(_) if self.servers[s].banned.contains(&peer(from)) => {
                return self.close(conn, 1, close::REJECTED);
            }
            Frame::Hello(hello) => {
                self.servers[s].hellos.insert(conn, hello.epoch);
                self.unpark(conn, 1);
                let observed = setup::address(from);
                Input::Opened { session, peer: peer(from), hello: Box::new(hello), observed, same_host: false }
            }
            Frame::Report(report) => Input::Report { session, report },
            Frame::Subscribe(peer) => {
                asker = Some((conn, stream));
                Input::Subscribe { session, peer }
            }
            Frame::Fetch(peer) => {
                asker = Some((conn, stream));
                Input::Fetch { session, peer }
            }
            Frame::NotifyAck(ack) => Input::NotifyAck { session, ack },
            Frame::Goodbye => Input::Goodbye { session },
            _ => Input::Heard { session },
        };
        self.tell_asked(s, input, asker);
    }

    pub fn session_over(&mut self, s: usize, conn: ConnId) {
        self.servers[s].hellos.remove(&conn);
        self.tell(s, Input::Closed { session: SessionId(conn as u64) });
    }

    /// A server that does nothing for a while.
    pub fn stall(&mut self, s: usize, for_ns: u64) {
        if !self.processes[s].up || self.processes[s].stalled > self.now {
            return;
        }
        let (until, life) = (self.now + for_ns, self.processes[s].life);
        self.line(s, || format!("! does not run for {:?}", Duration::from_nanos(for_ns)));
        self.processes[s].stalled = until;
        self.servers[s].shaken = until;
        self.plan(until, Event::Awake { server: s, life });
    }
}

fn frame_of(push: pams_server::core::Push) -> Frame {
    use pams_server::core::Push;
    match push {
        Push::Roster(roster) => Frame::Roster(roster),
        Push::Notify(notify) => Frame::Notify(notify),
        Push::Servers(servers) => Frame::Servers(servers),
        Push::Move(to) => Frame::Move(to),
        Push::Check(check) => Frame::Check(check),
    }
}
