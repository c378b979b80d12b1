//! What befalls: crashes, departures and returns, cuts of one way or both, storms, lost connections, stalls, a home that starts
//! again, clocks that step; and what people do: publish, ping, forget. All of it planned from the seed.

use pams_agent::core::{Command, Input};
use pams_server::core;
use pams_shared::{
    frame::close,
    sim::Link,
    status::{Liveness, Status},
};

use crate::{
    setup::{HOME, healed, nobody, peer},
    trace::name,
    world::{Event, MS, SECOND, World},
};

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Crash(usize),
    Leave(usize),
    /// It is back, if it is away.
    Return(usize),
    /// Nothing gets through from one to the other, until then.
    Cut {
        from: usize,
        to: usize,
        until: u64,
    },
    /// A path is bad for a while.
    Storm {
        from: usize,
        to: usize,
        until: u64,
    },
    Mend {
        from: usize,
        to: usize,
    },
    /// One end of a connection forgets it and tells nobody.
    Lose(usize),
    Stall {
        node: usize,
        until: u64,
    },
    /// Its host is suspended.
    Suspend {
        node: usize,
        until: u64,
    },
    /// It is configured anew.
    Reconfigure(usize),
    HomeReconfigures,
    /// Its host gets another address.
    Move(usize),
    HomeStops {
        drained: bool,
    },
    HomeReturns,
    WallStep {
        node: usize,
        by_ms: i64,
    },
    Publish(usize),
    Ping {
        from: usize,
        count: usize,
    },
    Forget(usize),
}

impl Fault {
    /// Whose process has to run for it: what is asked of one waits.
    pub fn taker(self) -> Option<usize> {
        match self {
            Fault::Leave(n) | Fault::Publish(n) | Fault::Ping { from: n, .. } => Some(n),
            Fault::Reconfigure(n) | Fault::Move(n) => Some(n),
            Fault::HomeStops { drained: true } | Fault::Forget(_) | Fault::HomeReconfigures => Some(HOME),
            _ => None,
        }
    }
}

impl World {
    pub fn plan_faults(&mut self) {
        for _ in 0..self.setup.faults {
            let at = 3 * SECOND + self.chance.below(self.setup.chaos - 3 * SECOND);
            self.plan_fault(at);
        }
        // People do things whatever befalls.
        for _ in 0..self.chance.below(20) {
            let (at, who) = (SECOND + self.chance.below(self.setup.chaos + 5 * SECOND), self.some_agent());
            // Some in quick succession, so that one is under way when the next comes.
            for n in 0..1 + self.chance.below(3) {
                self.plan(at + n * 5 * MS, Event::Fault(Fault::Publish(who)));
            }
        }
        for _ in 0..2 + self.chance.below(6) {
            let at = SECOND + self.chance.below(self.setup.chaos + 5 * SECOND);
            let who = self.some_agent();
            let fault = match self.chance.below(4) {
                0 => Fault::Publish(who),
                1 => Fault::Ping { from: who, count: 30 },
                _ => Fault::Ping { from: who, count: 1 },
            };
            self.plan(at, Event::Fault(fault));
        }
    }

    fn plan_fault(&mut self, at: u64) {
        let (who, other) = (self.some_agent(), self.some_agent());
        let quick = self.chance.below(3) == 0;
        let short = at + 20 * MS + self.chance.below(if quick { SECOND } else { 12 * SECOND });
        let long = at + SECOND + self.chance.below(self.setup.chaos);
        let fault = match self.chance.below(22) {
            0 | 1 => self.and_back(short, who, Fault::Crash(who)),
            2 => self.and_back(short, who, Fault::Leave(who)),
            3 | 4 if who != other => self.cut(at, long, who, other),
            5 | 6 => self.cut(at, long, who, HOME),
            7 => Fault::Storm { from: who, to: other, until: long },
            8 => Fault::Storm { from: who, to: HOME, until: long },
            9 => Fault::Lose(who),
            10 => {
                let back = at + 50 * MS + self.chance.below(6 * SECOND);
                self.plan(back, Event::Fault(Fault::HomeReturns));
                Fault::HomeStops { drained: self.chance.below(2) == 0 }
            }
            11 => {
                Fault::WallStep { node: self.pick(self.setup.agents + 1), by_ms: [-3_600_000, 3_600_000][self.pick(2)] }
            }
            12 => Fault::Stall { node: self.pick(self.setup.agents + 1), until: at + self.chance.below(8 * SECOND) },
            13 => {
                // An operator forgets one that is away, or tries to.
                self.plan(at + 7 * SECOND, Event::Fault(Fault::Forget(who)));
                self.cut(at, at + 9 * SECOND, who, HOME)
            }
            14 => Fault::Forget(who),
            // Long enough for others to give up their ends of the connections, some of them.
            15 => Fault::Stall { node: self.pick(self.setup.agents + 1), until: self.awake_again(at) },
            16 | 17 => Fault::Suspend { node: self.pick(self.setup.agents + 1), until: self.awake_again(at) },
            18 | 19 => Fault::Reconfigure(who),
            20 if self.chance.below(3) == 0 => Fault::HomeReconfigures,
            20 => Fault::Move(who),
            _ => Fault::Lose(other),
        };
        self.plan(at, Event::Fault(fault));
    }

    fn awake_again(&mut self, at: u64) -> u64 {
        let most = if self.chance.below(2) == 0 { 6 } else { 40 };
        (at + 1_500 * MS + self.chance.below(most * SECOND)).min(self.setup.chaos + 4 * SECOND).max(at + 1_500 * MS)
    }

    /// One that goes comes back, mostly.
    fn and_back(&mut self, at: u64, who: usize, fault: Fault) -> Fault {
        if self.chance.below(5) == 0 {
            self.agents[who].stays_away = true;
        } else {
            self.plan(at, Event::Fault(Fault::Return(who)));
        }
        fault
    }

    /// A cut of one way, or of both.
    fn cut(&mut self, at: u64, until: u64, from: usize, to: usize) -> Fault {
        let (from, to) = if self.chance.below(2) == 0 { (from, to) } else { (to, from) };
        if self.chance.below(2) == 0 {
            self.plan(at, Event::Fault(Fault::Cut { from: to, to: from, until }));
        }
        Fault::Cut { from, to, until }
    }

    fn some_agent(&mut self) -> usize {
        1 + self.pick(self.setup.agents)
    }

    pub fn befall(&mut self, fault: Fault) {
        let who = match fault {
            Fault::Cut { from: n, .. } | Fault::Storm { from: n, .. } | Fault::Mend { from: n, .. } => n,
            Fault::Crash(n) | Fault::Leave(n) | Fault::Return(n) | Fault::Lose(n) | Fault::Publish(n) => n,
            Fault::Stall { node: n, .. } | Fault::WallStep { node: n, .. } | Fault::Ping { from: n, .. } => n,
            Fault::Suspend { node: n, .. } | Fault::Reconfigure(n) | Fault::Move(n) => n,
            Fault::HomeStops { .. } | Fault::HomeReturns | Fault::Forget(_) | Fault::HomeReconfigures => HOME,
        };
        // One that waited for a stalled process, and came too late.
        let disturbs = !matches!(fault, Fault::Mend { .. } | Fault::Return(_) | Fault::HomeReturns | Fault::Forget(_));
        if self.healed && disturbs && !matches!(fault, Fault::Publish(_) | Fault::Ping { .. }) {
            return;
        }
        self.trace.line(self.now, who, || format!("! {fault:?}"));
        let up = self.processes[who].up;
        match fault {
            Fault::Crash(n) if up => self.crash(n),
            Fault::Leave(n) if up => {
                self.tally.count("leave");
                self.shut_down(n);
            }
            Fault::Crash(_) | Fault::Leave(_) => {}
            Fault::Return(n) => self.come_back(n),
            Fault::Cut { from, to, until } => {
                let other_way = self.net.link((to, from)).loss < 1.0;
                self.tally.count(if from == HOME || to == HOME { "cut_home" } else { "partition" });
                if other_way {
                    self.tally.count("one_way");
                }
                self.net.set(self.now, (from, to), Link::PARTITION);
                self.plan(until, Event::Fault(Fault::Mend { from, to }));
            }
            Fault::Storm { from, to, until } if from != to => {
                self.tally.count("storm");
                let link = self.net.base[&(from, to)];
                let storm = Link { loss: 0.3, duplicate: 0.1, reorder: 0.3, ..link };
                self.net.set(self.now, (from, to), storm);
                self.plan(until, Event::Fault(Fault::Mend { from, to }));
            }
            Fault::Storm { .. } => {}
            Fault::Mend { from, to } => self.mend(from, to),
            Fault::Lose(n) if up => self.lose_one(n),
            Fault::Lose(_) => {}
            Fault::Stall { node, until } if up => self.stop_process(node, until),
            Fault::Suspend { node, until } if up => self.suspend(node, until),
            Fault::Reconfigure(n) if up => self.reconfigure(n),
            Fault::HomeReconfigures if up => self.reconfigure_home(),
            Fault::Move(n) if up => self.move_host(n),
            Fault::Stall { .. } | Fault::Suspend { .. } | Fault::Reconfigure(_) => {}
            Fault::HomeReconfigures | Fault::Move(_) => {}
            Fault::HomeStops { drained } if up => self.home_stops(drained),
            Fault::HomeStops { .. } => {}
            Fault::HomeReturns => self.start_home(),
            Fault::WallStep { node, by_ms } => {
                self.tally.count("wall_step");
                self.processes[node].skew_ms += by_ms;
            }
            Fault::Publish(n) if up => self.publish(n),
            Fault::Ping { from, count } if up => self.people_ping(from, count),
            Fault::Publish(_) | Fault::Ping { .. } => {}
            Fault::Forget(n) => self.forget(n),
        }
    }

    fn crash(&mut self, who: usize) {
        self.tally.count("crash");
        self.stop_agent(who, false);
    }

    pub fn come_back(&mut self, who: usize) {
        if self.processes[who].up && self.agents[who].leaving {
            self.agents[who].returns = true;
        } else {
            self.start_agent(who);
        }
    }

    fn mend(&mut self, from: usize, to: usize) {
        let base = self.net.base[&(from, to)];
        self.net.set(self.now, (from, to), if self.healed { healed(base) } else { base });
    }

    /// A connection of the node, whichever end of it.
    fn lose_one(&mut self, who: usize) {
        let of = |conn: &crate::net::Conn| conn.ends.iter().any(|e| e.node == who);
        let conns = self.net.conns.iter().enumerate().filter(|(_, c)| of(c)).map(|(id, _)| id);
        let open: Vec<usize> = conns.filter(|c| self.is_open(*c, 0) && self.is_open(*c, 1)).collect();
        if open.is_empty() {
            return;
        }
        let (conn, side) = (open[self.pick(open.len())], self.pick(2));
        self.tally.count("break");
        let text = self.conn_name(conn);
        self.trace.line(self.now, who, || format!("! end {side} of {text} is lost"));
        self.lose(conn, side);
    }

    fn home_stops(&mut self, drained: bool) {
        self.tally.count("home_restart");
        if drained {
            self.tally.count("home_drained");
            self.home_handle(core::Input::Drain);
            let open: Vec<usize> =
                (0..self.net.conns.len()).filter(|c| self.net.conns[*c].ends[1].node == HOME).collect();
            open.into_iter().for_each(|conn| self.close(conn, 1, close::GOODBYE));
        }
        self.stop_home();
    }

    fn publish(&mut self, who: usize) {
        self.tally.count("publish");
        let status = Status::ALL[self.pick(4)];
        let note = self.odds(50).then(|| format!("since {} s", self.now / SECOND));
        self.agent_handle(who, Input::Command(Command::Publish { status, note }));
    }

    /// Somebody pings a buddy, a stranger, or one that there is not.
    fn people_ping(&mut self, who: usize, count: usize) {
        if self.agents[who].leaving {
            return;
        }
        for _ in 0..count {
            let other = self.some_agent();
            let whom = if self.odds(10) || other == who { nobody() } else { peer(other) };
            let node = &mut self.agents[who];
            node.token += 1;
            let token = node.token;
            node.facts.asked.insert(token, self.now);
            self.tally.count("cli_ping");
            self.agent_handle(who, Input::Command(Command::Ping { peer: whom, token }));
        }
    }

    fn forget(&mut self, who: usize) {
        self.tally.count("forget");
        let verdict = self.verdict(who);
        self.home_handle(core::Input::Forget { peer: peer(who), force: false });
        let departed = matches!(verdict, Some(Liveness::Gone | Liveness::Left));
        if self.home.core.is_some() {
            let stays = verdict.is_some() && !departed;
            assert_eq!(self.verdict(who).is_some(), stays, "{} was {verdict:?} and was to be forgotten", name(who));
            if departed {
                self.tally.count("forgot");
            }
        }
    }

    /// The faults are over: the links are what they were and lose nothing, and who is to come back does.
    pub fn heal(&mut self) {
        self.healed = true;
        self.trace.line(self.now, HOME, || "! all is mended".to_owned());
        let paths: Vec<(usize, usize)> = self.net.base.keys().copied().collect();
        paths.into_iter().for_each(|(from, to)| self.mend(from, to));
        self.start_home();
        let away: Vec<usize> = (1..=self.setup.agents).filter(|n| !self.agents[*n].stays_away).collect();
        away.into_iter().for_each(|n| self.come_back(n));
        let some_left = self.agents.iter().any(|a| a.leaving || !a.facts.goodbyes.is_empty());
        let longest = self.agents.iter().map(|a| a.longest).max().unwrap_or_default();
        let settled = self.now + self.setup.settle(some_left, longest);
        self.plan(settled, Event::Settled);
        self.plan(settled + 12 * SECOND, Event::End);
    }
}
