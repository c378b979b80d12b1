//! The servers, what is between them, and what was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{
    id::Minter,
    moment::Moment,
    sim::{Link, Network},
};

use super::{super::*, MS, member};

/// What an observer was told of a subject.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub observer: usize,
    pub subject: usize,
    pub state: State,
}

struct Node {
    engine: Membership,
    generation: u64,
    up: bool,
    /// Does not run until then; what comes waits.
    asleep: Option<(Moment, Moment)>,
    inbox: Vec<Input>,
    linked: BTreeSet<usize>,
    deadline: Option<Moment>,
}

enum Event {
    /// A connection between the two stands.
    Connected(usize, usize),
    Arrived {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
}

pub struct Net {
    pub now: Moment,
    pub told: Vec<Told>,
    pub notices: BTreeMap<&'static str, u64>,
    /// Messages and bytes by who sent them to whom.
    pub sent: BTreeMap<(usize, usize), (u64, u64)>,
    /// Chances for the tests, of the same seed.
    pub chances: Minter,
    /// Whether those that slept are told so; if not, their late timers must tell them.
    pub says_stalls: bool,
    config: MembershipConfig,
    nodes: Vec<Node>,
    wires: Network<(usize, usize)>,
    link: Link,
    queue: BTreeMap<(Moment, u64), Event>,
    queued: u64,
}

impl Net {
    /// So many servers that have found each other through the first, some seconds ago.
    pub fn new(seed: u64, count: usize, link: Link) -> Self {
        Self::with(seed, count, link, MembershipConfig::default())
    }

    pub fn with(seed: u64, count: usize, link: Link, config: MembershipConfig) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut net = Self {
            now: Moment::new(1_000_000_000, 0),
            told: Vec::new(),
            notices: BTreeMap::new(),
            sent: BTreeMap::new(),
            chances: Minter::new(bytes),
            says_stalls: true,
            config,
            nodes: Vec::new(),
            wires: Network::new(bytes),
            link,
            queue: BTreeMap::new(),
            queued: 0,
        };
        for _ in 0..count {
            net.join();
            let pause = net.chances.below(500);
            net.run_for(pause as u32 * MS);
        }
        net.run_for(Duration::from_secs(3));
        net
    }

    /// Adds a server that knows the first one.
    pub fn join(&mut self) -> usize {
        let n = self.nodes.len();
        self.nodes.push(self.node(n, member(1).generation));
        for other in 0..n {
            self.wires.set((n, other), self.link);
            self.wires.set((other, n), self.link);
        }
        if n > 0 {
            self.connect(0, n);
        }
        n
    }

    fn node(&self, n: usize, generation: u64) -> Node {
        let me = Member { generation, ..member(n as u8 + 1) };
        let mut seed = [n as u8; 32];
        seed[..8].copy_from_slice(&(self.queued + generation).to_le_bytes());
        Node {
            engine: Membership::new(me, self.config.clone(), seed, self.now),
            generation,
            up: true,
            asleep: None,
            inbox: Vec::new(),
            linked: BTreeSet::new(),
            deadline: None,
        }
    }

    fn push(&mut self, at: Moment, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    /// Begins a handshake of three ways.
    pub fn connect(&mut self, a: usize, b: usize) {
        self.push(self.now + 3 * self.link.delay.max(MS), Event::Connected(a, b));
    }

    pub fn set(&mut self, from: usize, to: usize, link: Link) {
        self.wires.set((from, to), link);
    }

    /// Nothing gets from one side to the other, or back.
    pub fn part(&mut self, a: &[usize], b: &[usize], link: Link) {
        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b))) {
            self.set(a, b, link);
            self.set(b, a, link);
        }
    }

    pub fn heal(&mut self, a: &[usize], b: &[usize]) {
        self.part(a, b, self.link);
    }

    pub fn crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        (node.up, node.deadline, node.asleep) = (false, None, None);
        self.nodes.iter_mut().for_each(|node| _ = node.linked.remove(&n));
    }

    /// The same server again; it knows the first other that runs.
    pub fn restart(&mut self, n: usize) {
        let generation = self.nodes[n].generation + 1;
        self.crash(n);
        self.nodes[n] = self.node(n, generation);
        let seed = (0..self.nodes.len()).find(|o| *o != n && self.nodes[*o].up);
        if let Some(other) = seed {
            self.connect(other, n);
        }
    }

    pub fn sleep(&mut self, n: usize, duration: Duration) {
        if self.nodes[n].up {
            self.nodes[n].asleep = Some((self.now, self.now + duration));
            self.nodes[n].deadline = None;
        }
    }

    /// Runs until all that happens before `end` has happened.
    pub fn run(&mut self, end: Moment) {
        loop {
            let waking = self.nodes.iter().map(|n| n.asleep.map(|(_, until)| until));
            let due = self.nodes.iter().map(|n| n.deadline);
            let due = due.chain(waking).enumerate().filter_map(|(i, at)| Some((at?, i))).min();
            let first = self.queue.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = due.map(|(at, _)| at).into_iter().chain(first).min().filter(|at| *at < end) else { break };
            self.now = self.now.max(next);
            if first == Some(next) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
            } else if let Some((_, i)) = due {
                if i < self.nodes.len() { self.input(i, Input::Tick) } else { self.wake(i - self.nodes.len()) }
            }
        }
        self.now = self.now.max(end);
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.run(self.now + duration);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Connected(a, b) if !self.nodes[a].up || !self.nodes[b].up => {}
            Event::Connected(a, b) if self.wires.link(&(a, b)).loss >= 1.0 || self.wires.link(&(b, a)).loss >= 1.0 => {}
            Event::Connected(a, b) => {
                for (a, b) in [(a, b), (b, a)] {
                    self.nodes[a].linked.insert(b);
                    let met = Member { generation: self.nodes[b].generation, ..member(b as u8 + 1) };
                    self.input(a, Input::Met(met));
                }
            }
            Event::Arrived { from, to, bytes } => {
                if self.nodes[to].up && self.nodes[to].linked.contains(&from) {
                    self.input(to, Input::Gossip { from: member(from as u8 + 1).id, bytes });
                }
            }
        }
    }

    fn wake(&mut self, n: usize) {
        let Some((since, _)) = self.nodes[n].asleep.take() else { return };
        let late = self.now.since(since);
        let inbox = std::mem::take(&mut self.nodes[n].inbox);
        if self.says_stalls {
            self.input(n, Input::Stalled { late });
        }
        inbox.into_iter().for_each(|input| self.input(n, input));
    }

    pub fn input(&mut self, n: usize, input: Input) {
        if !self.nodes[n].up {
            return;
        }
        if self.nodes[n].asleep.is_some() {
            return self.nodes[n].inbox.push(input);
        }
        let now = self.now;
        self.nodes[n].engine.handle(now, input);
        while let Some(output) = self.nodes[n].engine.poll() {
            match output {
                Output::Send { to, bytes } => self.send(n, usize::from(to.as_bytes()[0]) - 1, bytes),
                Output::Changed { member, state } => {
                    let subject = usize::from(member.id.as_bytes()[0]) - 1;
                    self.told.push(Told { observer: n, subject, state });
                    if state == State::Alive && !self.nodes[n].linked.contains(&subject) {
                        self.connect(n.min(subject), n.max(subject));
                    }
                }
                Output::Notice(notice) => *self.notices.entry(notice.label()).or_default() += notice.count(),
            }
        }
        self.nodes[n].deadline = self.nodes[n].engine.deadline();
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        assert!(bytes.len() <= GOSSIP_BYTES_MAX, "{}", bytes.len());
        if !self.nodes[from].linked.contains(&to) {
            return;
        }
        let sent = self.sent.entry((from, to)).or_default();
        *sent = (sent.0 + 1, sent.1 + bytes.len() as u64);
        for at in self.wires.fate(&(from, to), self.now).iter() {
            self.push(*at, Event::Arrived { from, to, bytes: bytes.clone() });
        }
    }

    pub fn engine(&self, n: usize) -> &Membership {
        &self.nodes[n].engine
    }

    pub fn state(&self, observer: usize, subject: usize) -> Option<State> {
        let id = member(subject as u8 + 1).id;
        self.nodes[observer].engine.members().find(|s| s.member.id == id).map(|s| s.state)
    }

    /// Who runs, but for this one.
    pub fn others(&self, n: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|o| *o != n && self.nodes[*o].up).collect()
    }

    /// Everybody who runs sees everybody else who runs alive.
    pub fn is_whole(&self) -> bool {
        let up = self.others(usize::MAX);
        let mut pairs = up.iter().flat_map(|a| up.iter().filter(move |b| *b != a).map(move |b| (*a, *b)));
        pairs.all(|(a, b)| self.state(a, b) == Some(State::Alive))
    }

    /// Runs until `holds`, looking every 5 ms, for so long at most; how long it took.
    pub fn until(&mut self, most: Duration, holds: impl Fn(&Net) -> bool) -> Option<Duration> {
        let began = self.now;
        while !holds(self) {
            if self.now.since(began) > most {
                return None;
            }
            self.run_for(5 * MS);
        }
        Some(self.now.since(began))
    }

    pub fn downs(&self) -> Vec<Told> {
        self.told.iter().filter(|t| t.state == State::Down).copied().collect()
    }
}

/// Quantiles of durations, printed.
pub struct Spread(pub Vec<Duration>);

impl Spread {
    pub fn at(&mut self, quantile: f64) -> Duration {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0[(last as f64 * quantile).ceil() as usize]
    }

    pub fn print(&mut self, what: &str) {
        let [half, most, nearly, all] = [0.5, 0.9, 0.99, 1.0].map(|q| self.at(q).as_millis());
        println!("{what}: {} runs; p50 {half} ms, p90 {most} ms, p99 {nearly} ms, max {all} ms", self.0.len());
    }
}
