//! The world: virtual time, the one queue of events, and all that is in it. Events of one moment come in the order in which
//! they were planned, so that a seed gives one run.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BinaryHeap, HashSet},
    rc::Rc,
};

use pams_server::core::Input;
use pams_shared::{
    id::{Minter, PeerId, ServerId},
    moment::Moment,
    status::Liveness,
};

use crate::{
    agent::{Agent, Timer},
    conn::ConnId,
    faults::Fault,
    net::Net,
    packets::Packet,
    server::Server,
    setup::{self, SERVERS_MAX, Setup},
    tally::Tally,
    trace::Trace,
};

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000 * US;
pub const SECOND: u64 = 1_000 * MS;

/// Wall clock at the start.
const WALL_MS: u64 = 1_800_000_000_000;
/// More events than this are no simulation but a storm.
const EVENTS_MAX: u64 = 1_000_000;

#[derive(Debug)]
pub enum Event {
    /// A core's deadline has passed.
    Wake {
        server: usize,
        life: u64,
    },
    /// A server's loop takes one thing that happened; whoever asked waits on that stream.
    Input {
        server: usize,
        life: u64,
        input: Box<Input>,
        asker: Option<(ConnId, u64)>,
    },
    /// The loop's own beat.
    Beat {
        server: usize,
        life: u64,
    },
    /// It runs again.
    Awake {
        server: usize,
        life: u64,
    },
    Packet {
        conn: ConnId,
        to: usize,
        packet: Packet,
    },
    /// No acknowledgement came: it is sent again.
    Resend {
        conn: ConnId,
        from: usize,
        packet: Packet,
        attempt: u32,
    },
    /// What was sent on a stream has arrived, and the sender knows.
    Delivered {
        conn: ConnId,
        from: usize,
        stream: u64,
    },
    Redial {
        conn: ConnId,
        attempt: u32,
    },
    /// Whoever called waits no longer.
    Patience {
        conn: ConnId,
    },
    /// A connection's timers at one end.
    Keep {
        conn: ConnId,
        side: usize,
    },
    /// A server closes a connection when its last word had time to get there.
    Close {
        conn: ConnId,
        side: usize,
        code: u32,
    },
    Agent {
        agent: usize,
        life: u64,
        timer: Timer,
    },
    Fault(Fault),
    Start {
        node: usize,
    },
    Sweep,
    Heal,
    Quiet,
    End,
}

#[derive(Debug)]
struct Planned {
    at: u64,
    number: u64,
    event: Event,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}

/// A process on a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub up: bool,
    /// Counts the starts: an agent's epoch, a server's generation.
    pub life: u64,
    pub started: u64,
    pub ended: u64,
    /// Does nothing until then.
    pub stalled: u64,
    /// How far the wall clock is off.
    pub skew_ms: i64,
    /// When its loop has taken all that has come so far.
    pub taken: u64,
}

/// What a home told the others of a peer: (owner, peer, epoch, attach, version).
pub type Word = (ServerId, PeerId, u64, u64, u64);

#[derive(Debug)]
pub struct World {
    pub now: u64,
    pub chance: Minter,
    pub setup: Setup,
    pub net: Net,
    pub processes: Vec<Process>,
    pub servers: Vec<Server>,
    /// By place; those of servers are taken by nobody.
    pub agents: Vec<Agent>,
    pub trace: Trace,
    pub tally: Tally,
    /// No more faults.
    pub healed: bool,
    /// Agents have no more work.
    pub quiet: bool,
    /// Whatever homes said of their peers.
    pub said: BTreeMap<Word, HashSet<Liveness>>,
    /// Of each peer the newest (epoch, batch) that some server had which was not its home.
    pub held: BTreeMap<PeerId, (u64, u64)>,
    /// When something last befell a server.
    pub struck: u64,
    queue: BinaryHeap<Planned>,
    planned: u64,
    over: bool,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        let seed = seed_bytes(seed);
        let mut chance = Minter::new(seed);
        let setup = Setup::new(&mut chance);
        let nodes = SERVERS_MAX + setup.agents;
        let mut world = Self {
            now: 0,
            net: Net::new(seed),
            chance,
            processes: vec![Process::default(); nodes],
            servers: (0..setup.servers).map(|_| Server::new()).collect(),
            agents: (0..nodes).map(|_| Agent::new(setup.servers)).collect(),
            setup,
            trace: Trace::new(traced),
            tally: Tally::default(),
            healed: false,
            quiet: false,
            said: BTreeMap::new(),
            held: BTreeMap::new(),
            struck: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            over: false,
        };
        world.name_paths();
        for node in world.server_places() {
            let at = world.chance.below(2 * SECOND);
            world.plan(at, Event::Start { node });
        }
        for node in world.agent_places() {
            let at = world.chance.below(4 * SECOND);
            world.prepare(node);
            world.plan(at, Event::Start { node });
        }
        world.plan_faults();
        world.plan(2 * SECOND, Event::Sweep);
        world.plan(world.setup.chaos, Event::Heal);
        world
    }

    pub fn server_places(&self) -> std::ops::Range<usize> {
        0..self.setup.servers
    }

    pub fn agent_places(&self) -> std::ops::Range<usize> {
        SERVERS_MAX..SERVERS_MAX + self.setup.agents
    }

    /// Runs to the end.
    pub fn run(&mut self) {
        while let Some(Planned { at, event, .. }) = self.queue.pop().filter(|_| !self.over) {
            self.now = at;
            self.tally.events += 1;
            assert!(self.tally.events < EVENTS_MAX, "{EVENTS_MAX} events and no end");
            if let Some(server) = self.taker(&event)
                && self.processes[server].stalled > at
            {
                self.servers[server].missed.push_back(event);
                continue;
            }
            self.happen(event);
        }
        self.tally.seconds = self.now / SECOND;
    }

    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { server, life } if self.lives(server, life) => self.wake(server),
            Event::Input { server, life, input, asker } if self.lives(server, life) => self.give(server, *input, asker),
            Event::Beat { server, life } if self.lives(server, life) => self.beat(server),
            Event::Awake { server, life } if self.lives(server, life) => self.awake(server),
            Event::Agent { agent, life, timer } if self.lives(agent, life) => self.agent_timer(agent, timer),
            Event::Wake { .. }
            | Event::Input { .. }
            | Event::Beat { .. }
            | Event::Awake { .. }
            | Event::Agent { .. } => {}
            Event::Packet { conn, to, packet } => self.arrive(conn, to, packet),
            Event::Resend { conn, from, packet, attempt } => self.resend(conn, from, packet, attempt),
            Event::Delivered { conn, from, stream } => self.delivered(conn, from, stream),
            Event::Redial { conn, attempt } => self.redial(conn, attempt),
            Event::Patience { conn } => self.call_over(conn),
            Event::Keep { conn, side } => self.keep(conn, side),
            Event::Close { conn, side, code } => self.close(conn, side, code),
            Event::Fault(fault) => self.befall(fault),
            Event::Start { node } if Setup::is_server(node) => self.start_server(node),
            Event::Start { node } => self.start_agent(node),
            Event::Sweep => self.sweep(),
            Event::Heal => self.heal(),
            Event::Quiet => self.quiet = true,
            Event::End => {
                self.finish();
                self.over = true;
            }
        }
    }

    /// Which server's process has to run for this to happen.
    fn taker(&self, event: &Event) -> Option<usize> {
        let node = match event {
            Event::Wake { server, .. } | Event::Input { server, .. } | Event::Beat { server, .. } => *server,
            Event::Packet { conn, to: side, .. }
            | Event::Resend { conn, from: side, .. }
            | Event::Delivered { conn, from: side, .. }
            | Event::Keep { conn, side }
            | Event::Close { conn, side, .. } => self.net.conns[*conn].ends[*side].node,
            Event::Redial { conn, .. } | Event::Patience { conn } => self.net.conns[*conn].ends[0].node,
            Event::Fault(fault) => return fault.taker(),
            _ => return None,
        };
        Setup::is_server(node).then_some(node)
    }

    pub fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.queue.push(Planned { at: at.max(self.now), number: self.planned, event });
    }

    pub fn lives(&self, node: usize, life: u64) -> bool {
        self.processes[node].up && self.processes[node].life == life
    }

    /// Now, by the clocks of a node: monotonic since its process began, so that no stamp is of use elsewhere.
    pub fn moment(&self, node: usize) -> Moment {
        let process = &self.processes[node];
        let wall = (WALL_MS + self.now / MS).checked_add_signed(process.skew_ms).expect("hours");
        Moment::new(self.now - process.started + ORIGIN_NS, wall)
    }

    /// When it is that moment for everybody.
    pub fn real(&self, node: usize, moment: Moment) -> u64 {
        self.processes[node].started + moment.ns().saturating_sub(ORIGIN_NS)
    }

    /// A process begins.
    pub fn begin(&mut self, node: usize) {
        let Process { life, skew_ms, .. } = self.processes[node];
        self.processes[node] = Process { up: true, life: life + 1, started: self.now, skew_ms, ..Process::default() };
    }

    /// A process ends.
    pub fn end(&mut self, node: usize) {
        (self.processes[node].up, self.processes[node].ended) = (false, self.now);
    }

    /// One of so many.
    pub fn pick(&mut self, below: usize) -> usize {
        self.chance.below(below as u64) as usize
    }

    /// `n` times in 100.
    pub fn odds(&mut self, n: u64) -> bool {
        self.chance.below(100) < n
    }

    pub fn some_server(&mut self) -> usize {
        self.pick(self.setup.servers)
    }

    pub fn some_agent(&mut self) -> usize {
        setup::agent(self.pick(self.setup.agents))
    }

    pub fn line(&mut self, who: usize, what: impl FnOnce() -> String) {
        self.trace.line(self.now, who, what);
    }
}

/// A process reads its clock for the first time a little after the clock began.
const ORIGIN_NS: u64 = 7 * US;

pub type Bytes = Rc<[u8]>;

/// Seeds that differ little give runs that differ much.
pub fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = *b"pams: servers, virtual time, 32.";
    bytes[..8].iter_mut().zip(seed.to_le_bytes()).for_each(|(b, s)| *b ^= s);
    bytes
}
