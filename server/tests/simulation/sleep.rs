//! Processes that do not run for a while. One that is stopped finds what came meanwhile in its sockets; the host of one that is
//! suspended hears nothing, and its monotonic clock stands still. Either is noticed as the real loops notice it, by
//! `pams_shared::pulse`, before anything else is looked at.

use std::time::Duration;

use pams_agent::core::Input;
use pams_server::core;
use pams_shared::{moment::Moment, pulse::Pulse};

use crate::{
    net::Packet,
    setup::HOME,
    world::{Event, SECOND, World},
};

/// Kernel stamps older than this are not believed (`pams_shared::clock`).
const STAMP_AGE_MAX: u64 = 10 * SECOND;

/// More than befall in one run.
const FAULTS_MAX: usize = 18;

#[derive(Clone, Copy, Debug, Default)]
pub struct Sleep {
    /// When the present or last stall began.
    from: u64,
    /// Suspensions of the host, in order.
    naps: [(u64, u64); FAULTS_MAX],
    /// A stall that the loop has not looked at yet.
    unseen: bool,
    /// When the loop last noticed one, or another address of its host; silence before it proves nothing.
    pub woke: u64,
}

impl Sleep {
    /// How much of the monotonic clock has passed since the start.
    pub fn awake(&self, started: u64, at: u64) -> u64 {
        at.saturating_sub(started + self.suspended(at))
    }

    /// When so much of it will have passed.
    pub fn real(&self, started: u64, awake: u64) -> u64 {
        self.naps.iter().fold(started + awake, |at, (from, until)| if at > *from { at + (until - from) } else { at })
    }

    fn suspended(&self, at: u64) -> u64 {
        self.naps.iter().map(|(from, until)| at.clamp(*from, *until) - from).sum()
    }

    fn hears_nothing(&self, at: u64) -> bool {
        self.naps.iter().any(|(from, until)| (*from..*until).contains(&at))
    }
}

impl World {
    /// A process is stopped, as by SIGSTOP.
    pub fn stop_process(&mut self, node: usize, until: u64) {
        self.tally.count("stall");
        let now = self.now;
        let process = &mut self.processes[node];
        if process.stalled <= now && !process.sleep.unseen {
            process.sleep.from = now;
        }
        process.stalled = process.stalled.max(until);
        process.sleep.unseen = true;
        self.plan(self.processes[node].stalled, Event::Awake { node, life: self.processes[node].life });
    }

    /// A host is suspended. One that stalls already is left alone.
    pub fn suspend(&mut self, node: usize, until: u64) {
        let now = self.now;
        if self.processes[node].stalled > now || self.processes[node].sleep.unseen {
            return;
        }
        self.tally.count("suspend");
        let sleep = &mut self.processes[node].sleep;
        let free = sleep.naps.iter_mut().find(|nap| **nap == (0, 0)).expect("no more naps than faults");
        *free = (now, until.max(now));
        self.stop_process(node, until);
    }

    /// What is for a process that does not run waits for it, but for what no host is there to take.
    pub fn postpone(&mut self, node: usize, event: Event) {
        match event {
            Event::Packet { conn, to, packet, .. } if self.processes[node].sleep.hears_nothing(self.now) => {
                if let Packet::Stream(number, bytes) = packet {
                    self.unacknowledged(conn, to, number, bytes);
                }
            }
            event => self.plan(self.processes[node].stalled, event),
        }
    }

    /// A loop looks whether it has run since it last did.
    pub fn look(&mut self, node: usize) {
        let (now, process) = (self.now, self.processes[node]);
        if !process.sleep.unseen || process.stalled > now {
            return;
        }
        self.processes[node].sleep.unseen = false;
        if self.agents[node].leaving {
            return; // its loop is over
        }
        let from = process.sleep.from;
        let mut pulse =
            Pulse::new(self.moment_of(node, from), Some(Duration::from_nanos(process.sleep.suspended(from))));
        let Some(gap) = pulse.look(self.moment(node), || Some(Duration::from_nanos(process.sleep.suspended(now))))
        else {
            return;
        };
        self.processes[node].sleep.woke = now;
        self.tally.count("slept");
        self.tally.count_n("slept_suspended", u64::from(gap.suspended > Duration::ZERO));
        match node {
            HOME => self.home_handle(core::Input::Stalled { late: gap.stopped + gap.suspended }),
            agent => self.agent_handle(agent, Input::Slept { stopped: gap.stopped, suspended: gap.suspended }),
        }
    }

    /// When a packet came, by the clocks of whoever reads its stamp now.
    pub fn stamp(&self, node: usize, arrived: u64) -> Option<Moment> {
        let (now, age) = (self.moment(node), self.now - arrived);
        (age < STAMP_AGE_MAX).then(|| now.before(Duration::from_nanos(age)))
    }
}
