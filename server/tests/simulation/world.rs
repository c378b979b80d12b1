//! The world: virtual time, what happens in it, and all that is in it.

use std::{collections::BTreeMap, rc::Rc};

use pams_agent::core::Input;
use pams_shared::{
    id::{Correlator, Minter},
    moment::Moment,
};
pub use pams_simulator::{MS, SECOND, US};
use pams_simulator::{Queue, Tally, Trace, seed_bytes};

use crate::{
    agent::Node,
    faults::Fault,
    home::Home,
    net::{ConnId, News, Packet},
    path::Net,
    setup::{HOME, Setup},
    sleep::Sleep,
    tally::tally,
    trace,
};

/// Of all that is drawn.
pub const SALT: &[u8; 32] = b"pams: whole cores, virtual time.";
/// Wall clock at the start.
const WALL_MS: u64 = 1_800_000_000_000;
/// More events than this are no simulation but a storm.
const EVENTS_MAX: u64 = 2_000_000;
/// A core whose deadline makes it wake so often in one second does nothing when it wakes.
const WAKES_MAX: u64 = 2_000;

#[derive(Debug)]
pub enum Event {
    /// A core's deadline has passed.
    Wake {
        node: usize,
        life: u64,
    },
    /// A shell's loop takes one thing that happened.
    News {
        node: usize,
        life: u64,
        news: Box<News>,
    },
    /// Out of the kernel at `arrived`.
    Packet {
        conn: ConnId,
        to: usize,
        arrived: u64,
        packet: Packet,
    },
    /// Into the kernel.
    Depart {
        conn: ConnId,
        from: usize,
        packet: Packet,
    },
    /// No acknowledgement came: the frame is sent again.
    Resend {
        conn: ConnId,
        from: usize,
        number: u64,
        bytes: Rc<[u8]>,
        attempt: u32,
    },
    Redial {
        conn: ConnId,
        attempt: u32,
    },
    /// Nothing may have come in on this end for too long.
    Idle {
        conn: ConnId,
        side: usize,
    },
    Fault(Fault),
    Start {
        node: usize,
    },
    /// A process runs again.
    Awake {
        node: usize,
        life: u64,
    },
    /// Look at everything.
    Sweep,
    /// The end of the faults, of the settling, and of all.
    Heal,
    Settled,
    End,
}

/// A process that runs on a node, or does not: what agents and the home have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub up: bool,
    /// Counts the starts: an agent's epoch, the home's generation.
    pub life: u64,
    pub started: u64,
    /// How far the wall clock is off.
    pub skew_ms: i64,
    /// Does nothing until then: a suspended host, a starved process.
    pub stalled: u64,
    /// What it has slept of that, and when its loop noticed.
    pub sleep: Sleep,
    /// The planned wake-up.
    wake: Option<u64>,
    /// When the loop has taken all that has come so far.
    taken: u64,
    wakes: (u64, u64),
}

#[derive(Debug)]
pub struct World {
    pub now: u64,
    pub chance: Minter,
    pub setup: Setup,
    pub net: Net,
    pub processes: Vec<Process>,
    /// By place; the home's is taken by nobody.
    pub agents: Vec<Node>,
    pub home: Home,
    pub trace: Trace,
    pub tally: Tally,
    /// No more faults.
    pub healed: bool,
    /// When whoever listens was told by which notify.
    pub told_at: BTreeMap<Correlator, u64>,
    queue: Queue<Event>,
    over: bool,
}

impl pams_simulator::World for World {
    const SUITE: &str = "simulation";

    fn new(seed: u64, traced: bool) -> Self {
        let seed = seed_bytes(SALT, seed);
        let mut chance = Minter::new(seed);
        let setup = Setup::new(&mut chance);
        let nodes = setup.agents + 1;
        let mut world = Self {
            now: 0,
            net: Net::new(seed, nodes, &mut chance),
            chance,
            processes: vec![Process::default(); nodes],
            agents: (0..nodes).map(|n| Node::new(n, &setup)).collect(),
            home: Home::new(),
            setup,
            trace: Trace::new(traced, trace::name),
            tally: tally(),
            healed: false,
            told_at: BTreeMap::new(),
            queue: Queue::new(EVENTS_MAX),
            over: false,
        };
        world.net.name_paths();
        world.plan(0, Event::Start { node: HOME });
        for node in 1..nodes {
            let at = world.chance.below(3 * SECOND);
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
            if let Some(node) = self.taker(&event)
                && self.processes[node].stalled > at
            {
                self.postpone(node, event);
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
    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node, life } if self.lives(node, life) => self.wake(node),
            Event::News { node, life, news } if self.lives(node, life) => self.news(node, *news),
            Event::Awake { node, life } if self.lives(node, life) => self.look(node),
            Event::Wake { .. } | Event::News { .. } | Event::Awake { .. } => {}
            Event::Packet { conn, to, arrived, packet } => self.arrive(conn, to, arrived, packet),
            Event::Depart { conn, from, packet } => self.depart(conn, from, &packet),
            Event::Resend { conn, from, number, bytes, attempt } => self.resend(conn, from, number, bytes, attempt),
            Event::Redial { conn, attempt } => self.redial(conn, attempt),
            Event::Idle { conn, side } => self.idle(conn, side),
            Event::Fault(fault) => self.befall(fault),
            Event::Start { node: HOME } => self.start_home(),
            Event::Start { node } => self.start_agent(node),
            Event::Sweep => self.sweep(),
            Event::Heal => self.heal(),
            Event::Settled => self.settled(),
            Event::End => {
                self.finish();
                self.over = true;
            }
        }
    }

    /// Whose process has to run for this to happen.
    fn taker(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Wake { node, .. } | Event::News { node, .. } => Some(*node),
            Event::Packet { conn, to, .. } => Some(self.net.conns[*conn].ends[*to].node),
            Event::Fault(fault) => fault.taker(),
            _ => None,
        }
    }

    pub fn plan(&mut self, at: u64, event: Event) {
        self.queue.plan(at.max(self.now), event);
    }

    pub fn lives(&self, node: usize, life: u64) -> bool {
        self.processes[node].up && self.processes[node].life == life
    }

    /// Something happened to a node's process; its loop takes it a moment later, one thing after the other.
    pub fn tell(&mut self, node: usize, news: News) {
        let lag = match self.chance.below(40) {
            0 => self.chance.below(5 * MS),
            _ => 5 * US + self.chance.below(100 * US),
        };
        let process = &mut self.processes[node];
        process.taken = process.taken.max(self.now + lag);
        let (at, life) = (process.taken, process.life);
        self.plan(at, Event::News { node, life, news: Box::new(news) });
    }

    /// A timer of a node's shell, or a stamp, which no queue delays.
    pub fn tell_at(&mut self, at: u64, node: usize, news: News) {
        let life = self.processes[node].life;
        self.plan(at, Event::News { node, life, news: Box::new(news) });
    }

    pub fn give_at(&mut self, at: u64, node: usize, input: Input) {
        self.tell_at(at, node, News::Input(Box::new(input)));
    }

    fn news(&mut self, node: usize, news: News) {
        match node {
            HOME => self.home_news(news),
            agent => self.agent_news(agent, news),
        }
    }

    fn wake(&mut self, node: usize) {
        let process = &mut self.processes[node];
        if process.wake.is_none_or(|at| at > self.now) {
            return; // planned anew meanwhile
        }
        process.wake = None;
        let second = self.now / SECOND;
        process.wakes = if process.wakes.0 == second { (second, process.wakes.1 + 1) } else { (second, 1) };
        assert!(process.wakes.1 < WAKES_MAX, "{} wakes for nothing", crate::trace::name(node));
        match node {
            HOME => self.home_handle(pams_server::core::Input::Tick),
            // It only waits for its last acknowledgements.
            agent if self.agents[agent].leaving => {}
            agent => self.agent_handle(agent, Input::Tick),
        }
    }

    /// A core says when it wants to be woken; a loop is a little late.
    pub fn wake_at(&mut self, node: usize, deadline: Option<Moment>) {
        let Some(deadline) = deadline else { return };
        let Process { started, sleep, .. } = self.processes[node];
        let at = sleep.real(started, deadline.ns().saturating_sub(ORIGIN_NS)).max(self.now);
        let process = &mut self.processes[node];
        if process.wake.is_some_and(|planned| planned <= at + MS) {
            return;
        }
        let at = at + 50 * US + self.chance.below(900 * US);
        self.processes[node].wake = Some(at);
        let life = self.processes[node].life;
        self.plan(at, Event::Wake { node, life });
    }

    /// Now, by the clocks of a node: monotonic since its process began, so that no stamp is of use elsewhere.
    pub fn moment(&self, node: usize) -> Moment {
        self.moment_of(node, self.now)
    }

    pub fn moment_of(&self, node: usize, at: u64) -> Moment {
        let process = &self.processes[node];
        let wall = (WALL_MS + at / MS).checked_add_signed(process.skew_ms).expect("hours");
        Moment::new(process.sleep.awake(process.started, at) + ORIGIN_NS, wall)
    }

    /// A process begins.
    pub fn begin(&mut self, node: usize) {
        let Process { life, skew_ms, .. } = self.processes[node];
        self.processes[node] = Process { up: true, life: life + 1, started: self.now, skew_ms, ..Process::default() };
    }

    /// One of so many.
    pub fn pick(&mut self, below: usize) -> usize {
        self.chance.below(below as u64) as usize
    }

    /// `n` times in 100.
    pub fn odds(&mut self, n: u64) -> bool {
        self.chance.below(100) < n
    }
}

/// A process reads its clock for the first time a little after the clock began.
const ORIGIN_NS: u64 = 7 * US;
