//! An agent, as far as a home can tell: its starts, its transactions and their ledger, what it says of itself, and the homes that
//! it tries. What goes between it and its home is in `uplink`.

use std::collections::{BTreeMap, BTreeSet};

use pams_shared::{
    frame::News,
    id::PeerId,
    record::{Kind, Outcome, Reason, Record, Stages},
    status::{Presence, Status},
};

use crate::{
    batches::{Batches, Totals},
    conn::ConnId,
    setup::{self, peer},
    world::{Event, MS, SECOND, World},
};

/// Transactions in flight at most.
const IN_FLIGHT_MAX: u64 = 20;
pub const WATCH_EVERY: u64 = 250 * MS;
/// How long a goodbye waits for the last acknowledgement, and the end for the goodbye.
const LEAVE_PATIENCE: u64 = 1_500 * MS;
const GOODBYE_PATIENCE: u64 = 300 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Dial,
    Work,
    Pace,
    Watch,
    Gone,
}

/// How a connection to the home ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Ours,
    Theirs(u32),
    Silence,
}

/// What a life of an agent added up to.
#[derive(Debug)]
pub struct Past {
    pub totals: Totals,
    pub acked: Totals,
    pub ended: u64,
}

#[derive(Debug)]
pub struct Agent {
    /// Of this life.
    pub batches: Batches,
    pub totals: Totals,
    pub presence: Presence,
    pub attach: u64,
    pub home: Option<usize>,
    pub conn: Option<ConnId>,
    /// Since when the home has accepted us.
    pub up: Option<u64>,
    /// Since when the home owes us a word.
    pub asked: Option<u64>,
    /// Since when the home owes an answer to a question that was asked because somebody said that it is lost.
    pub doubted: Option<u64>,
    /// Reports written on this connection.
    pub written: u64,
    /// What it was told on this connection.
    pub told: BTreeMap<PeerId, Option<News>>,
    pub asks: BTreeMap<u64, PeerId>,
    leaving: Option<u64>,
    /// Over all lives.
    pub servers: Vec<usize>,
    pub turn: usize,
    pub wants: BTreeSet<PeerId>,
    pub past: Vec<Past>,
    /// It does not start again.
    pub retired: bool,
    /// An operator made servers forget it.
    pub banned: bool,
}

impl Agent {
    pub fn new(servers: usize) -> Self {
        Self {
            batches: Batches::default(),
            totals: Totals::new(),
            presence: Presence::default(),
            attach: 0,
            home: None,
            conn: None,
            up: None,
            asked: None,
            doubted: None,
            written: 0,
            told: BTreeMap::new(),
            asks: BTreeMap::new(),
            leaving: None,
            servers: (0..servers).collect(),
            turn: 0,
            wants: BTreeSet::new(),
            past: Vec::new(),
            retired: false,
            banned: false,
        }
    }
}

impl World {
    /// Before the first start.
    pub fn prepare(&mut self, a: usize) {
        self.agents[a].turn = self.some_server();
        for _ in 0..self.chance.below(4) {
            let other = self.some_agent();
            if other != a {
                self.agents[a].wants.insert(peer(other));
            }
        }
    }

    pub fn start_agent(&mut self, a: usize) {
        if self.processes[a].up || self.agents[a].retired {
            return;
        }
        self.begin(a);
        let life = self.processes[a].life;
        self.line(a, || format!("! starts, epoch {life}"));
        let old = &mut self.agents[a];
        let (servers, turn, wants) = (old.servers.clone(), old.turn, std::mem::take(&mut old.wants));
        let (past, banned) = (std::mem::take(&mut old.past), old.banned);
        let presence = Presence { version: 1, ..Presence::default() };
        self.agents[a] = Agent { servers, turn, wants, past, banned, presence, ..Agent::new(0) };
        if life > 1 {
            self.tally.count("agent_return");
        }
        let first = self.chance.below(SECOND);
        for (after, timer) in [(0, Timer::Dial), (first, Timer::Work), (WATCH_EVERY, Timer::Watch)] {
            self.timer(a, after, timer);
        }
    }

    /// The process ends at once.
    pub fn end_agent(&mut self, a: usize) {
        self.end(a);
        let agent = &mut self.agents[a];
        let (totals, acked) = (std::mem::take(&mut agent.totals), std::mem::take(&mut agent.batches.acked));
        agent.past.push(Past { totals, acked, ended: self.now });
    }

    pub fn timer(&mut self, a: usize, after: u64, timer: Timer) {
        let life = self.processes[a].life;
        self.plan(self.now + after, Event::Agent { agent: a, life, timer });
    }

    pub fn agent_timer(&mut self, a: usize, timer: Timer) {
        match timer {
            Timer::Dial => self.dial_home(a),
            Timer::Work => self.work(a),
            Timer::Pace => self.flush(a),
            Timer::Watch => self.watch(a),
            Timer::Gone => {
                if let Some(conn) = self.agents[a].conn {
                    self.close(conn, 0, pams_shared::frame::close::GOODBYE);
                }
                self.end_agent(a);
            }
        }
    }

    /// Opens some transactions and ends some.
    fn work(&mut self, a: usize) {
        if self.agents[a].leaving.is_some() {
            return;
        }
        if self.quiet {
            self.close_some(a, usize::MAX);
            return self.flush(a);
        }
        let (opens, closes) = (self.chance.below(4), self.pick(4));
        self.open_some(a, opens);
        self.close_some(a, closes);
        let after = 100 * MS + self.chance.below(700 * MS);
        self.timer(a, after, Timer::Work);
    }

    fn open_some(&mut self, a: usize, n: u64) {
        for _ in 0..n {
            let kind = self.some_kind();
            let ledger = self.agents[a].totals.entry(kind).or_default();
            if ledger.in_flight < IN_FLIGHT_MAX {
                ledger.opened += 1;
                ledger.in_flight += 1;
            }
        }
    }

    /// Ends up to so many that are in flight.
    fn close_some(&mut self, a: usize, n: usize) {
        let open: Vec<Kind> = self.agents[a]
            .totals
            .iter()
            .flat_map(|(kind, ledger)| std::iter::repeat_n(kind.clone(), ledger.in_flight as usize))
            .collect();
        for kind in open.into_iter().take(n) {
            let outcome = [Outcome::Good, Outcome::Good, Outcome::Aborted, Outcome::Failed][self.pick(4)];
            let record = self.record(a, kind, outcome);
            self.agents[a].batches.record(record);
        }
    }

    fn record(&mut self, a: usize, kind: Kind, outcome: Outcome) -> Record {
        let now = self.moment(a);
        let ledger = self.agents[a].totals.entry(kind.clone()).or_default();
        ledger.in_flight -= 1;
        let (count, reason) = match outcome {
            Outcome::Good => (&mut ledger.good, None),
            Outcome::Aborted => (&mut ledger.aborted, Some(Reason::NoAnswer)),
            Outcome::Failed => (&mut ledger.failed, Some(Reason::Refused)),
            Outcome::Unknown => (&mut ledger.unknown, Some(Reason::Stalled)),
        };
        *count += 1;
        Record {
            kind,
            target: peer(setup::agent(0)).0,
            correlator: self.chance.correlator(now),
            outcome,
            reason,
            opened_ms: now.wall_ms(),
            total_ns: (outcome == Outcome::Good).then_some(MS),
            stages: Stages::default(),
            target_status: None,
            path_rtt_ns: None,
        }
    }

    fn some_kind(&mut self) -> Kind {
        match self.chance.below(3) {
            0 => Kind::parse("app.move").expect("a kind"),
            _ => Kind::Ping,
        }
    }

    /// A burst of transactions, all at once.
    pub fn storm(&mut self, a: usize, n: u64) {
        for _ in 0..n {
            self.open_some(a, 1);
            self.close_some(a, 1);
        }
        self.flush(a);
    }

    /// It says something of itself.
    pub fn publish(&mut self, a: usize) {
        let status = Status::ALL[self.pick(4)];
        let since_ms = self.moment(a).wall_ms();
        let agent = &mut self.agents[a];
        agent.presence = Presence { status, note: None, since_ms, version: agent.presence.version + 1 };
        agent.batches.change(agent.presence.clone());
        self.flush(a);
    }

    pub fn leave(&mut self, a: usize) {
        self.agents[a].leaving.get_or_insert(self.now);
        self.agents[a].batches.hurry();
        self.flush(a);
    }

    /// Gives up a home that is silent, and ends when it is time.
    fn watch(&mut self, a: usize) {
        let now = self.now;
        let agent = &self.agents[a];
        if let Some(since) = agent.leaving
            && (agent.batches.is_settled() || since + LEAVE_PATIENCE <= now)
        {
            if let Some(conn) = agent.conn.filter(|_| agent.up.is_some()) {
                self.send_frame(conn, 0, 0, &pams_shared::frame::Frame::Goodbye);
            }
            return self.timer(a, GOODBYE_PATIENCE, Timer::Gone);
        }
        self.doubt(a);
        self.timer(a, WATCH_EVERY, Timer::Watch);
    }

    pub fn is_leaving(&self, a: usize) -> bool {
        self.agents[a].leaving.is_some()
    }
}
