//! The world: virtual time, what happens in it, and all that is in it.

use std::{
    collections::{BTreeMap, HashSet},
    rc::Rc,
};

use pams_server::core::Input;
use pams_shared::{
    id::{Minter, PeerId, ServerId},
    moment::Moment,
    status::Liveness,
};
pub use pams_simulator::{MS, SECOND, US};
use pams_simulator::{Queue, Tally, Trace, seed_bytes};

use crate::{
    agent::{Agent, Timer},
    conn::ConnId,
    faults::Fault,
    net::Net,
    packets::Packet,
    server::Server,
    setup::{self, SERVERS_MAX, Setup},
    tally::tally,
    trace,
};

/// Of all that is drawn.
pub const SALT: &[u8; 32] = b"pams: servers, virtual time, 32.";
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
    queue: Queue<Event>,
    over: bool,
}

impl pams_simulator::World for World {
    const SUITE: &str = "cluster";

    fn new(seed: u64, traced: bool) -> Self {
        let seed = seed_bytes(SALT, seed);
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
            trace: Trace::new(traced, trace::name),
            tally: tally(),
            healed: false,
            quiet: false,
            said: BTreeMap::new(),
            held: BTreeMap::new(),
            struck: 0,
            queue: Queue::new(EVENTS_MAX),
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

    fn run(&mut self) {
        while let Some((at, event)) = self.queue.pop().filter(|_| !self.over) {
            self.now = at;
            self.tally.events += 1;
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

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn trace(&mut self) -> &mut Trace {
        &mut self.trace
    }
}

impl World {
    pub fn server_places(&self) -> std::ops::Range<usize> {
        0..self.setup.servers
    }

    pub fn agent_places(&self) -> std::ops::Range<usize> {
        SERVERS_MAX..SERVERS_MAX + self.setup.agents
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
        self.queue.plan(at.max(self.now), event);
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
