//! What befalls: servers that crash, stop or do not run, cuts of one way or both, bad and slow paths, agents that crash, leave and
//! come back, storms, clocks that step; and what operators do. All of it planned from the seed.

use std::time::Duration;

use pams_server::core::{Input, cluster::book::Book};
use pams_shared::sim::Link;

use crate::{
    setup::{self, SERVERS_MAX, Setup, healed, peer},
    trace::name,
    world::{Event, MS, SECOND, World},
};

#[derive(Clone, Debug)]
pub enum Fault {
    AgentCrash(usize),
    Leave(usize),
    AgentReturn(usize),
    Storm(usize),
    Publish(usize),
    /// Kill -9; it is back after so long, with or without its list of servers.
    Crash {
        server: usize,
        back: u64,
        seeds: bool,
    },
    Evacuate(usize),
    Stall {
        server: usize,
        for_ns: u64,
    },
    /// Nothing gets through from these to those, or back, for so long.
    Cut {
        from: Vec<usize>,
        to: Vec<usize>,
        both: bool,
        for_ns: u64,
    },
    /// A path is bad, or slow, for a while.
    Spoil {
        path: (usize, usize),
        link: Link,
        for_ns: u64,
    },
    Mend((usize, usize)),
    WallStep {
        node: usize,
        by_ms: i64,
    },
    /// An operator makes a server forget a peer.
    Forget {
        server: usize,
        agent: usize,
        force: bool,
    },
}

impl Fault {
    /// Whose process has to run for it: what is asked of one waits.
    pub fn taker(&self) -> Option<usize> {
        match self {
            Fault::Evacuate(s) | Fault::Forget { server: s, .. } => Some(*s),
            _ => None,
        }
    }
}

impl World {
    pub fn plan_faults(&mut self) {
        let chaos = self.setup.chaos;
        for _ in 0..self.setup.faults {
            // In calm runs a server comes first, and the agents when the others have taken over.
            let at = if self.setup.calm {
                12 * SECOND + self.chance.below(chaos - 12 * SECOND)
            } else {
                3 * SECOND + self.chance.below(chaos - 3 * SECOND)
            };
            let fault = if self.setup.calm { self.agents_fault() } else { self.any_fault() };
            self.plan(at, Event::Fault(fault));
        }
        if self.setup.calm {
            let (at, fault) = (3 * SECOND + self.chance.below(3 * SECOND), self.servers_fault());
            self.plan(at, Event::Fault(fault));
        }
        for _ in 0..4 + self.chance.below(12) {
            let (at, a) = (SECOND + self.chance.below(chaos + 4 * SECOND), self.some_agent());
            let fault = if self.odds(70) { Fault::Publish(a) } else { Fault::Storm(a) };
            self.plan(at, Event::Fault(fault));
        }
    }

    fn any_fault(&mut self) -> Fault {
        match self.chance.below(10) {
            0..=2 => self.servers_fault(),
            3..=5 => self.path_fault(),
            6..=8 => self.agents_fault(),
            _ => self.operators_fault(),
        }
    }

    fn servers_fault(&mut self) -> Fault {
        let server = self.some_server();
        match self.chance.below(4) {
            0 | 1 => {
                let back = 500 * MS + self.chance.below(12 * SECOND);
                let seeds = self.setup.calm || self.odds(75);
                Fault::Crash { server, back, seeds }
            }
            2 => Fault::Evacuate(server),
            _ => Fault::Stall { server, for_ns: SECOND + self.chance.below(19 * SECOND) },
        }
    }

    fn agents_fault(&mut self) -> Fault {
        let a = self.some_agent();
        match self.chance.below(4) {
            0 | 1 => Fault::AgentCrash(a),
            2 => Fault::Leave(a),
            _ => Fault::Storm(a),
        }
    }

    fn path_fault(&mut self) -> Fault {
        let for_ns = SECOND + self.chance.below(12 * SECOND);
        match self.chance.below(3) {
            0 | 1 => {
                let all = self.places();
                let (mut from, mut to) = (Vec::new(), Vec::new());
                for node in all {
                    // Agents are cut off with one side or the other, or neither.
                    match self.chance.below(3) {
                        0 => from.push(node),
                        1 => to.push(node),
                        _ if Setup::is_server(node) => to.push(node),
                        _ => {}
                    }
                }
                Fault::Cut { from, to, both: self.odds(65), for_ns }
            }
            _ => {
                let nodes = self.places();
                let (a, b) = (self.pick(nodes.len()), self.pick(nodes.len() - 1));
                let path = (nodes[a], nodes[if b >= a { b + 1 } else { b }]);
                let ms = Duration::from_millis;
                let bad = Link { delay: ms(80), jitter: ms(80), loss: 0.5, duplicate: 0.2, reorder: 0.3 };
                let slow = Link { delay: ms(400), jitter: ms(40), loss: 0.01, duplicate: 0.0, reorder: 0.0 };
                Fault::Spoil { path, link: if self.odds(50) { bad } else { slow }, for_ns }
            }
        }
    }

    fn operators_fault(&mut self) -> Fault {
        let node = if self.odds(50) { self.some_server() } else { self.some_agent() };
        match self.chance.below(3) {
            0 => Fault::WallStep { node, by_ms: self.chance.below(7_200_000).cast_signed() - 3_600_000 },
            1 => Fault::Forget { server: self.some_server(), agent: self.some_agent(), force: true },
            _ => Fault::Forget { server: self.some_server(), agent: self.some_agent(), force: false },
        }
    }

    pub fn befall(&mut self, fault: Fault) {
        self.trace.line(self.now, SERVERS_MAX - 1, || format!("! {fault:?}"));
        match fault {
            Fault::AgentCrash(a) if self.processes[a].up => {
                self.tally.count("agent_crash");
                self.end_agent(a);
                self.bring_back(a);
            }
            Fault::Leave(a) if self.processes[a].up && !self.is_leaving(a) => {
                self.tally.count("agent_leave");
                self.leave(a);
                self.bring_back(a);
            }
            Fault::AgentReturn(a) => self.start_agent(a),
            Fault::Storm(a) if self.processes[a].up && !self.is_leaving(a) => {
                self.tally.count("storm");
                let n = 50 + self.chance.below(600);
                self.storm(a, n);
            }
            Fault::Publish(a) if self.processes[a].up && !self.is_leaving(a) => {
                self.tally.count("publish");
                self.publish(a);
            }
            Fault::Crash { server, back, seeds } if self.processes[server].up => self.crash(server, back, seeds),
            Fault::Evacuate(s) if self.processes[s].up => {
                self.tally.count("evacuate");
                self.struck = self.now;
                self.give(s, Input::Evacuate, None);
            }
            Fault::Stall { server, for_ns } => {
                self.tally.count("stall");
                self.struck = self.now + for_ns;
                self.stall(server, for_ns);
            }
            Fault::Cut { from, to, both, for_ns } => self.cut(&from, &to, both, for_ns),
            Fault::Spoil { path, link, for_ns } if !self.healed => {
                self.tally.count(if link.loss > 0.1 { "bad_path" } else { "slow_path" });
                self.net.set(self.now, path, link);
                self.plan(self.now + for_ns, Event::Fault(Fault::Mend(path)));
            }
            Fault::Mend(path) if !self.healed => {
                let link = self.setup.link(&mut self.chance);
                self.net.set(self.now, path, link);
            }
            Fault::WallStep { node, by_ms } => {
                self.tally.count("wall_step");
                self.processes[node].skew_ms += by_ms;
            }
            Fault::Forget { server, agent, force } if self.processes[server].up => self.forget(server, agent, force),
            _ => {}
        }
    }

    fn bring_back(&mut self, a: usize) {
        if self.odds(75) {
            let back = 2 * SECOND + self.chance.below(6 * SECOND);
            self.plan(self.now + back, Event::Fault(Fault::AgentReturn(a)));
        }
    }

    fn crash(&mut self, server: usize, back: u64, seeds: bool) {
        self.tally.count("server_crash");
        self.struck = self.now;
        self.kill_server(server);
        if !seeds {
            self.tally.count("without_seeds");
            self.servers[server].book = Book::default();
        }
        self.plan(self.now + back, Event::Start { node: server });
    }

    fn cut(&mut self, from: &[usize], to: &[usize], both: bool, for_ns: u64) {
        if self.healed {
            return;
        }
        self.tally.count(if both { "cut" } else { "one_way" });
        let until = self.now + for_ns;
        for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))) {
            self.net.cut((a, b), until);
            if both {
                self.net.cut((b, a), until);
            }
        }
    }

    /// Whoever is forgotten does not come back.
    fn forget(&mut self, server: usize, agent: usize, force: bool) {
        let here = self.verdict(server, agent);
        let live = matches!(here, Some(pams_shared::status::Liveness::Live | pams_shared::status::Liveness::Overdue));
        if here.is_none() || self.agents[agent].banned {
            return;
        }
        self.tally.count(if force { "forced" } else { "forget" });
        if !self.is_home(server, agent) {
            self.tally.count("foreign_forget");
        }
        if force || !live {
            self.tally.count("forgot");
            self.agents[agent].banned = true;
            self.line(server, || format!("! forgets {}", name(agent)));
        }
        // By force the ban comes first.
        if force {
            self.ban(server, peer(agent));
        } else {
            self.give(server, Input::Forget { peer: peer(agent), force: false }, None);
        }
    }

    /// All is well from now on.
    pub fn heal(&mut self) {
        self.healed = true;
        self.trace.line(self.now, SERVERS_MAX - 1, || "! all is well".to_owned());
        self.net.mend(self.now);
        for path in self.paths() {
            self.net.set(self.now, path, healed());
        }
        for s in self.server_places() {
            if self.processes[s].stalled > self.now {
                let life = self.processes[s].life;
                self.processes[s].stalled = self.now;
                self.plan(self.now, Event::Awake { server: s, life });
            }
            let at = self.now + self.chance.below(2 * SECOND);
            self.plan(at, Event::Start { node: s });
        }
        for a in self.agent_places() {
            if self.odds(70) {
                let at = self.now + self.chance.below(3 * SECOND);
                self.plan(at, Event::Start { node: a });
            }
        }
        self.plan(self.now + setup::WORK, Event::Quiet);
        self.plan(self.now + setup::WORK + setup::QUIET, Event::End);
    }
}
