//! An agent's host: the shell around its core, and what outlives its process. What the core asks for is done as the real
//! shell does it, with queues, losses and stamps that are sometimes missing.

use std::{collections::VecDeque, time::Duration};

use pams_agent::core::{Agent, AgentConfig, BuddyConfig, Input, Output};
use pams_shared::{
    frame::{Frame, Hello, Ping, Pong, Profile, capability},
    id::{Correlator, PeerId},
    presence::{Ask, WatcherConfig},
    status::Presence,
};

use crate::{
    facts::Facts,
    links::{Links, ended},
    net::{ConnId, News},
    path::{NO_WAY, Way},
    setup::{HOME, Setup, address, node, peer},
    trace,
    uplink::{LEAVE_PATIENCE, Uplink},
    world::{MS, US, World},
};

#[derive(Debug)]
pub struct Node {
    pub core: Option<Agent>,
    pub links: Links,
    pub uplink: Uplink,
    /// Kept over restarts.
    pub presence: Presence,
    pub buddies: Vec<(usize, bool)>,
    pub takes: u32,
    /// Between two polls; and the longest it ever was.
    pub interval: Duration,
    pub longest: Duration,
    /// Which of its addresses its host has now; the first one is good always.
    pub place: u8,
    pub answer_after: Duration,
    /// What its present or last life did in truth, and what those before did.
    pub facts: Facts,
    pub past: Vec<Facts>,
    pub leaving: bool,
    /// It is started again as soon as it has left.
    pub returns: bool,
    /// It is not started again.
    pub stays_away: bool,
    pub token: u64,
    /// Of the buddies, those whose presence is wanted.
    pub subscribes: Vec<usize>,
    /// Questions to be told, in order.
    pub asks: VecDeque<(ConnId, Ask)>,
    /// The notify at hand: where it came from, and its transaction.
    pub answering: Option<(ConnId, Option<Correlator>)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Timer {
    CallHome,
    HomePatience {
        conn: ConnId,
        answered: bool,
    },
    AskPatience {
        conn: ConnId,
        question: u64,
    },
    CallPatience {
        conn: ConnId,
    },
    Close {
        conn: ConnId,
        code: u32,
    },
    SubscribePatience {
        ask: Ask,
    },
    /// The last reports were not acknowledged in time.
    Farewell,
    Exit,
}

impl Node {
    pub fn new(me: usize, setup: &Setup) -> Self {
        let own = me.checked_sub(1);
        Self {
            core: None,
            links: Links::default(),
            uplink: Uplink::new(),
            presence: Presence::default(),
            buddies: own.map(|i| setup.buddies[i].clone()).unwrap_or_default(),
            takes: own.map(|i| setup.takes[i]).unwrap_or_default(),
            interval: setup.watcher.interval,
            longest: setup.watcher.interval,
            place: 1,
            answer_after: own.map(|i| setup.answer_after[i]).unwrap_or_default(),
            facts: Facts::default(),
            past: Vec::new(),
            leaving: false,
            returns: false,
            stays_away: false,
            token: 0,
            subscribes: own.map(|i| setup.subscribes[i].clone()).unwrap_or_default(),
            asks: VecDeque::new(),
            answering: None,
        }
    }
}

impl Node {
    pub fn configures(&self, other: usize) -> bool {
        self.buddies.iter().any(|(buddy, _)| *buddy == other)
    }
}

impl World {
    pub fn start_agent(&mut self, me: usize) {
        if self.processes[me].up {
            return;
        }
        self.begin(me);
        let now = self.moment(me);
        let life = self.processes[me].life;
        let config = self.config(me);
        let mut seed = [me as u8; 32];
        seed[..8].copy_from_slice(&self.chance.below(u64::MAX).to_le_bytes());
        let node = &mut self.agents[me];
        node.core = Some(Agent::new(config, peer(me), life, seed, now));
        let facts = std::mem::replace(&mut node.facts, Facts::new(life, self.now));
        if facts.life > 0 {
            node.past.push(facts);
        }
        (node.links, node.uplink) = (Links::default(), Uplink::new());
        (node.leaving, node.returns) = (false, false);
        node.asks.clear();
        self.trace.line(self.now, me, || format!("! starts, epoch {life}"));
        self.tell_at(self.now + MS, me, News::Timer(Timer::CallHome));
        self.agent_handle(me, Input::Tick);
    }

    /// What its configuration file says now.
    pub fn config(&self, me: usize) -> AgentConfig {
        let node = &self.agents[me];
        let buddy = |(other, known): &(usize, bool)| BuddyConfig {
            peer: peer(*other),
            name: None,
            addresses: if *known { vec![address(*other, 1)] } else { Vec::new() },
        };
        AgentConfig {
            watcher: WatcherConfig { interval: node.interval, ..self.setup.watcher },
            buddies: node.buddies.iter().map(buddy).collect(),
            subscribe: node.subscribes.iter().map(|n| peer(*n)).collect(),
            presence: node.presence.clone(),
            profile: profile(me, self.setup.nested, node),
            pool_max: self.setup.pool_max,
            backlog_max: self.setup.backlog_max,
            answer_after: node.answer_after,
        }
    }

    /// The process is no more; nobody is told.
    pub fn stop_agent(&mut self, me: usize, left: bool) {
        self.processes[me].up = false;
        let node = &mut self.agents[me];
        node.core = None;
        node.facts.end(self.now, left);
    }

    pub fn agent_news(&mut self, me: usize, news: News) {
        let of_home = |conn: ConnId, world: &World| world.agents[me].uplink.conn == Some(conn);
        // One that leaves hears its home alone.
        let deaf = self.agents[me].leaving;
        match news {
            News::Timer(timer) => self.timer(me, timer),
            News::Connected { conn } if of_home(conn, self) => self.home_reached(me, conn),
            News::Frame { conn, frame, .. } if of_home(conn, self) => self.home_said(me, conn, frame),
            News::Ended { conn, how } if of_home(conn, self) => self.home_down(me, ended(how).0),
            News::Connected { conn }
            | News::Frame { conn, .. }
            | News::Datagram { conn, .. }
            | News::Ended { conn, .. }
                if self.other(conn, me) == HOME || deaf => {}
            News::Connected { conn } => self.say_hello(me, conn),
            News::Frame { conn, side, frame } => self.peer_frame(me, conn, side, frame),
            News::Datagram { conn, frame, arrived, way } => self.datagram(me, conn, frame, arrived, way),
            News::Ended { conn, how } => self.link_ended(me, conn, how),
            News::Input(input) => self.agent_handle(me, *input),
        }
    }

    fn timer(&mut self, me: usize, timer: Timer) {
        match timer {
            Timer::CallHome => self.call_home(me),
            Timer::HomePatience { conn, answered } => self.home_patience(me, conn, answered),
            Timer::AskPatience { conn, question } => self.ask_patience(me, conn, question),
            Timer::SubscribePatience { ask } => self.subscribe_patience(me, ask),
            Timer::CallPatience { conn } => self.give_up(me, conn),
            Timer::Close { conn, code } => self.close(conn, self.side(conn, me), code),
            Timer::Farewell => self.farewell(me),
            Timer::Exit => self.exit(me),
        }
    }

    fn datagram(&mut self, me: usize, conn: ConnId, frame: Frame, arrived: u64, way: Way) {
        let from = self.other(conn, me);
        let stamped = !self.odds(self.setup.stampless);
        let stamp = self.stamp(me, arrived).filter(|_| stamped);
        if !stamped {
            self.tally.count("unstamped");
        }
        self.agents[me].facts.heard(self.now, from);
        match frame {
            Frame::Ping(ping) => {
                self.agents[me].facts.asks(from, ping.correlator, way);
                self.agent_handle(me, Input::Ping { from: peer(from), ping, arrived: stamp });
            }
            Frame::Pong(pong) => {
                self.agents[me].facts.answer = Some((pong.correlator, way));
                let input = Input::Pong { from: peer(from), pong, arrived: stamp, path_rtt_ns: Some(way.ns) };
                self.agent_handle(me, input);
            }
            frame => panic!("a datagram of {frame:?}"),
        }
    }

    /// Gives the core what happened and does what it asks for.
    pub fn agent_handle(&mut self, me: usize, input: Input) {
        self.trace.line(self.now, me, || format!("< {}", trace::agent_input(&input)));
        let now = self.moment(me);
        let Some(core) = &mut self.agents[me].core else { return };
        core.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| core.poll()).collect();
        let deadline = core.deadline().map(|(at, _)| at);
        for output in &outputs {
            self.trace.line(self.now, me, || format!("> {}", trace::agent_output(output)));
            self.check_output(me, output);
        }
        self.check_agent(me, outputs.len());
        self.wake_at(me, deadline);
        outputs.into_iter().for_each(|output| self.perform(me, output));
    }

    fn perform(&mut self, me: usize, output: Output) {
        match output {
            Output::SendPing { peer, ping } => self.send_ping(me, peer, ping),
            Output::SendPong { peer, pong } => self.send_pong(me, peer, pong),
            Output::Dial { peer, addresses } => self.dial_peer(me, peer, &addresses),
            Output::Resolve { peer } => self.resolve(me, peer),
            Output::Greet { attach, profile } => {
                if let Some(conn) = self.agents[me].uplink.conn {
                    let capabilities = profile.capabilities;
                    let hello = Hello { attach, capabilities, profile: Some(profile), ..self.hello(me) };
                    self.send_frame(conn, 0, &Frame::Hello(hello));
                }
            }
            Output::Report(report) => self.send_report(me, report),
            Output::AskToSubscribe(ask) => self.ask_to_subscribe(me, ask),
            Output::Unsubscribe { path, peer } => self.unsubscribe(me, path, peer),
            Output::AnswerSubscribe { question, ack } => {
                let conn = question as ConnId;
                self.send_frame(conn, self.side(conn, me), &Frame::SubscribeAck(ack));
            }
            Output::SendNotify { peer, notify } => self.send_notify(me, peer, notify),
            Output::AckNotify(ack) => self.ack_notify(me, ack),
            Output::Told(_) => {}
            Output::Published(presence) => self.agents[me].presence = presence,
            Output::Goodbye => {
                self.agents[me].leaving = true;
                self.tell_at(self.now + LEAVE_PATIENCE, me, News::Timer(Timer::Farewell));
                let settled = self.agents[me].core.as_ref().is_some_and(Agent::is_settled);
                if settled || !self.agents[me].uplink.up {
                    self.tell_at(self.now, me, News::Timer(Timer::Farewell));
                }
            }
            Output::Checked { .. } => panic!("the home asked for no check"),
            Output::Record(_) | Output::Pinged { .. } | Output::Notice(_) => {}
            Output::HangUp { peer } => self.hang_up(me, peer),
            Output::Rejoin { why } => self.rejoin(me, why),
        }
    }

    /// A ping waits in the socket's queue for a while; some are dropped there, and some are sent and nobody says so.
    fn send_ping(&mut self, me: usize, whom: PeerId, ping: Ping) {
        let Some(live) = node(whom).and_then(|n| self.agents[me].links.live.get(&n)) else { return };
        let conn = live.conn;
        let queued = match self.chance.below(30) {
            0 => self.chance.below(20 * MS),
            _ => 10 * US + self.chance.below(300 * US),
        };
        // Nothing goes amiss any more when all is mended.
        let fate = if self.healed { 49 } else { self.chance.below(50) };
        if fate == 0 {
            return;
        }
        let at = self.now + queued;
        self.send_datagram(conn, self.side(conn, me), at, &Frame::Ping(ping), NO_WAY);
        if fate == 1 {
            return self.tally.count("unsent");
        }
        let lag = if fate == 2 { self.chance.below(300 * MS) } else { self.chance.below(50 * US) };
        let input = Input::Sent { correlator: ping.correlator, at: self.moment_of(me, at) };
        self.give_at(at + lag, me, input);
    }

    fn send_pong(&mut self, me: usize, whom: PeerId, pong: Pong) {
        let Some(other) = node(whom) else { return };
        let way = self.agents[me].facts.asked_by(other, pong.correlator);
        let Some(conn) = self.agents[me].links.live.get(&other).map(|l| l.conn) else { return };
        // The hold ends where the pong is made: what it waits after that, the network is charged with.
        let queued = 10 * US + self.chance.below(300 * US);
        let way = Way { ns: way.ns + queued, least: way.least + queued, most: way.most + queued, ..way };
        self.send_datagram(conn, self.side(conn, me), self.now + queued, &Frame::Pong(pong), way);
    }
}

fn profile(me: usize, nested: bool, node: &Node) -> Profile {
    let takes = node.takes;
    let overlays: &[&str] = match me % 3 {
        _ if !nested => &["sim/all"],
        0 => &["sim/a", "sim/b"],
        1 => &["sim/a"],
        _ => &["sim/b"],
    };
    Profile {
        name: trace::name(me).to_string(),
        addresses: vec![address(me, node.place).parse().expect("an address")],
        software: "sim".to_owned(),
        overlays: overlays.iter().map(|o| (*o).to_owned()).collect(),
        capabilities: if takes > 0 { capability::ROSTERS } else { 0 },
        roster_max: takes,
        ..Profile::default()
    }
}
