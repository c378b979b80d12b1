//! What agents are told of servers: which there are, so that each finds another home by itself, and that they are to go when this
//! one is about to stop.

use std::{collections::VecDeque, time::Duration};

use pams_shared::{
    frame::{Move, SERVERS_MAX, Server},
    id::ServerId,
    moment::Moment,
};

use super::{
    super::{Output, Pams, Push, SessionId},
    Cluster,
    membership::State,
};

/// Agents are told of servers in steps, so many in each: 50,000 a second, so that all else gets its turn.
const TELLS_MAX: usize = 256;
const TELL_STEP: Duration = Duration::from_millis(5);
/// Loads are told in these steps, so that not each that comes and goes is news to all.
const LOAD_STEP: u64 = 100;
/// All agents are asked to go within this time, in steps.
const MOVE_WITHIN: Duration = Duration::from_secs(4);
const MOVE_STEP: Duration = Duration::from_millis(100);
/// Who has not gone by then is left behind.
const MOVE_PATIENCE: Duration = Duration::from_secs(20);

/// Servers as agents know them, and which agents don't yet.
#[derive(Debug, Default)]
pub(super) struct Known {
    servers: Vec<Server>,
    untold: VecDeque<SessionId>,
    /// When the next step is due.
    next: Moment,
}

impl Known {
    fn is_due(&self, now: Moment) -> bool {
        !self.untold.is_empty() && now >= self.next
    }
}

/// We are about to stop, and our agents are to go before.
#[derive(Debug)]
pub(super) struct Evacuation {
    since: Moment,
    next: Moment,
    each: usize,
    /// Who was not asked yet.
    rest: VecDeque<SessionId>,
    done: bool,
}

impl Pams {
    /// Tells agents of servers, and to go, as far as it is due.
    pub(in super::super) fn tell_agents(&mut self, now: Moment) {
        if self.cluster.known.servers != self.cluster.servers_due {
            self.cluster.known.servers = self.cluster.servers_due.clone();
            self.cluster.known.untold = self.sessions.keys().copied().collect();
        }
        if self.cluster.known.is_due(now) {
            self.cluster.known.next = now + TELL_STEP;
            for _ in 0..TELLS_MAX {
                let Some(session) = self.cluster.known.untold.pop_front() else { break };
                self.tell_servers(session);
            }
        }
        self.evacuate(now);
    }

    /// Tells one agent which servers there are, if it is of a version that listens.
    pub(in super::super) fn tell_servers(&mut self, session: SessionId) {
        let row = self.sessions.get(&session).and_then(|peer| self.directory.row(*peer));
        if row.is_some_and(|row| row.moves) && !self.cluster.known.servers.is_empty() {
            let push = Push::Servers(self.cluster.known.servers.clone());
            self.outputs.push_back(Output::Push { session, push });
        }
    }

    /// Begins to send all agents away. The end is [`Output::Evacuated`].
    pub(in super::super) fn begin_evacuation(&mut self, now: Moment) {
        self.draining = true;
        if self.cluster.evacuation.is_some() {
            return;
        }
        let rest: VecDeque<_> = self.sessions.keys().copied().collect();
        let steps = (MOVE_WITHIN.as_millis() / MOVE_STEP.as_millis()) as usize;
        let each = rest.len().div_ceil(steps).max(1);
        self.cluster.evacuation = Some(Evacuation { since: now, next: now, each, rest, done: false });
    }

    fn evacuate(&mut self, now: Moment) {
        let nobody = self.sessions.is_empty();
        let elsewhere = self.cluster.has_others();
        let Some(evacuation) = &mut self.cluster.evacuation else { return };
        if evacuation.done {
            return;
        }
        if nobody || !elsewhere || now.since(evacuation.since) >= MOVE_PATIENCE {
            evacuation.done = true;
            self.outputs.push_back(Output::Evacuated { left: self.sessions.len() });
            return;
        }
        if now < evacuation.next {
            return;
        }
        evacuation.next = now + MOVE_STEP;
        let asked: Vec<_> = (0..evacuation.each).map_while(|_| evacuation.rest.pop_front()).collect();
        for session in asked {
            let row = self.sessions.get(&session).and_then(|peer| self.directory.row(*peer));
            if row.is_some_and(|row| row.moves) {
                let detail = "this server is about to stop".to_owned();
                let push = Push::Move(Move { server: None, detail });
                self.outputs.push_back(Output::Push { session, push });
            }
        }
    }
}

impl Cluster {
    /// Whether there is another server that agents can go to.
    fn has_others(&self) -> bool {
        self.membership.members().any(|seen| seen.member.id != self.me.id && seen.state == State::Alive)
    }

    /// The servers that agents should know of; we first. None but us: nothing is told.
    pub(super) fn servers(&self, places: usize, full: usize) -> Vec<Server> {
        let load = |n: usize| (n as u64 * 1_000 / places.max(1) as u64).min(1_000);
        let step = |load: u64| u32::try_from(load / LOAD_STEP * LOAD_STEP).unwrap_or(1_000);
        let of = |server: ServerId| self.share.origin(server).map_or(0, |origin| origin.entries);
        let mut others: Vec<_> = self
            .membership
            .members()
            .filter(|seen| seen.member.id != self.me.id && matches!(seen.state, State::Alive | State::Suspect))
            .map(|seen| Server { member: seen.member.clone(), load: step(load(of(seen.member.id))) })
            .collect();
        if others.is_empty() {
            return others;
        }
        others.sort_by_key(|server| server.member.id);
        others.truncate(SERVERS_MAX - 1);
        let me = Server { member: self.me.clone(), load: step(load(full)) };
        std::iter::once(me).chain(others).collect()
    }

    pub(super) fn agents_due(&self) -> Option<Moment> {
        let untold = (!self.known.untold.is_empty()).then_some(self.known.next);
        let evacuation = self.evacuation.as_ref().filter(|evacuation| !evacuation.done).map(|e| e.next);
        [untold, evacuation].into_iter().flatten().min()
    }
}
