//! Connections as QUIC behaves: calls that fail, ends that close, time out or are reset when the other side no longer knows
//! them, and several streams on each. Not modelled: bandwidth, certificates.

use std::collections::BTreeMap;

use pams_server::core::{
    cluster::io::{FollowId, LinkId, Target},
    share,
};
use pams_shared::id::ServerId;

use crate::{
    agent::Lost,
    packets::Packet,
    setup::Setup,
    world::{Bytes, Event, MS, SECOND, World},
};

pub type ConnId = usize;

/// An end on which nothing comes in for so long is closed: between servers, and with an agent.
const IDLE_SIBLING: u64 = 3 * SECOND;
const IDLE_AGENT: u64 = 10 * SECOND;
const KEEP_ALIVE: u64 = SECOND;
/// Whoever called waits so long for the other's answer to Hello.
const PATIENCE: u64 = 4 * SECOND;
/// Between tries of a call.
const REDIAL: u64 = 300 * MS;

/// Ends: the caller is 0, the other 1.
#[derive(Debug)]
pub struct Conn {
    pub ends: [End; 2],
    /// Between servers; whom the caller meant.
    pub sibling: Option<Target>,
    /// When a piece of its streams last needed to be sent again.
    pub troubled: u64,
    /// Until when a stream of it stands still: see [`crate::packets::TRIES`].
    pub stuck: u64,
}

#[derive(Debug)]
pub struct End {
    pub node: usize,
    pub life: u64,
    pub state: State,
    pub heard: u64,
    /// Both have said Hello, as far as this end knows.
    pub greeted: bool,
    /// Packets that came before.
    pub parked: Vec<Packet>,
    pub out: BTreeMap<u64, u64>,
    pub inn: BTreeMap<u64, In>,
    /// Streams that this end opened.
    pub opened: u64,
    pub roles: BTreeMap<u64, Role>,
    pub link: Option<LinkId>,
    /// Since when there is one.
    pub linked: u64,
}

#[derive(Debug, Default)]
pub struct In {
    pub next: u64,
    pub early: BTreeMap<u64, Option<Bytes>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has reached it yet.
    Fresh,
    /// It has called, and nobody has answered yet.
    Calling,
    Open,
    Closed(Option<u32>),
}

/// What a stream between servers is for, at one end.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// We follow on it.
    Follow(FollowId),
    /// The other follows; so many frames are under way, and one more waits to be taken.
    Feed { stream: share::FollowerId, owner: ServerId, since: u64, under_way: usize, waits: bool },
}

impl World {
    pub fn dial(&mut self, from: usize, to: usize, sibling: Option<Target>) -> ConnId {
        let end = |node: usize, life, state| End {
            node,
            life,
            state,
            heard: self.now,
            greeted: false,
            parked: Vec::new(),
            out: BTreeMap::new(),
            inn: BTreeMap::new(),
            opened: 0,
            roles: BTreeMap::new(),
            link: None,
            linked: 0,
        };
        let ends = [end(from, self.processes[from].life, State::Calling), end(to, 0, State::Fresh)];
        self.net.conns.push(Conn { ends, sibling, troubled: self.now, stuck: 0 });
        let conn = self.net.conns.len() - 1;
        self.plan(self.now + PATIENCE, Event::Patience { conn });
        self.redial(conn, 0);
        conn
    }

    pub fn redial(&mut self, conn: ConnId, attempt: u32) {
        let end = &self.net.conns[conn].ends[0];
        if end.state != State::Calling || !self.lives(end.node, end.life) {
            return;
        }
        self.transmit(conn, 0, &Packet::Initial);
        self.plan(self.now + (REDIAL << attempt.min(3)), Event::Redial { conn, attempt: attempt + 1 });
    }

    /// The other end has answered the call.
    pub fn answered(&mut self, conn: ConnId) {
        let end = &mut self.net.conns[conn].ends[0];
        if end.state != State::Calling {
            return;
        }
        end.state = State::Open;
        let node = end.node;
        self.plan(self.now + KEEP_ALIVE, Event::Keep { conn, side: 0 });
        if Setup::is_server(node) { self.greet(node, conn) } else { self.reached(node, conn) }
    }

    /// Whoever called and has not got an answer to Hello by now gives up.
    pub fn call_over(&mut self, conn: ConnId) {
        let end = &self.net.conns[conn].ends[0];
        if !end.greeted && self.lives(end.node, end.life) {
            self.close(conn, 0, pams_shared::frame::close::DONE);
        }
    }

    /// The end is open and its process runs.
    pub fn is_open(&self, conn: ConnId, side: usize) -> bool {
        let end = &self.net.conns[conn].ends[side];
        matches!(end.state, State::Open) && self.lives(end.node, end.life)
    }

    /// Which end of a connection is this node's.
    pub fn side(&self, conn: ConnId, node: usize) -> usize {
        usize::from(self.net.conns[conn].ends[0].node != node)
    }

    /// Who is at the other end.
    pub fn other(&self, conn: ConnId, node: usize) -> usize {
        self.net.conns[conn].ends[1 - self.side(conn, node)].node
    }

    /// A new stream of this end.
    pub fn open_stream(&mut self, conn: ConnId, side: usize) -> u64 {
        let end = &mut self.net.conns[conn].ends[side];
        end.opened += 1;
        2 * end.opened + side as u64
    }

    /// Closes an end; the other is told once, and again whenever it sends something.
    pub fn close(&mut self, conn: ConnId, side: usize, code: u32) {
        let end = &self.net.conns[conn].ends[side];
        if matches!(end.state, State::Open | State::Calling) && self.lives(end.node, end.life) {
            self.transmit(conn, side, &Packet::Close(code));
            self.net.conns[conn].ends[side].state = State::Closed(Some(code));
            self.is_over(conn, side, Lost::Ours);
        }
    }

    /// The other end, or silence, has ended it.
    pub fn closed(&mut self, conn: ConnId, side: usize, code: Option<u32>) {
        self.net.conns[conn].ends[side].state = State::Closed(code);
        self.is_over(conn, side, code.map_or(Lost::Silence, Lost::Theirs));
    }

    fn is_over(&mut self, conn: ConnId, side: usize, how: Lost) {
        let end = &mut self.net.conns[conn].ends[side];
        end.parked.clear();
        let node = end.node;
        match (Setup::is_server(node), self.net.conns[conn].sibling) {
            (true, Some(_)) => self.link_over(node, conn, side),
            (true, None) => self.session_over(node, conn),
            (false, _) => self.home_lost(node, conn, how),
        }
    }

    /// A packet arrives at a host.
    pub fn arrive(&mut self, conn: ConnId, to: usize, packet: Packet) {
        let end = &mut self.net.conns[conn].ends[to];
        let process = self.processes[end.node];
        if !process.up {
            return;
        }
        if end.state == State::Fresh && matches!(packet, Packet::Initial) {
            (end.state, end.life, end.heard) = (State::Open, process.life, self.now);
            self.plan(self.now + KEEP_ALIVE, Event::Keep { conn, side: to });
        }
        let end = &self.net.conns[conn].ends[to];
        let ending = matches!(packet, Packet::Close(_) | Packet::Reset);
        match end.state {
            State::Open | State::Calling if end.life == process.life => self.take_packet(conn, to, packet),
            _ if ending => {}
            State::Closed(Some(code)) if end.life == process.life => {
                self.transmit(conn, to, &Packet::Close(code));
            }
            State::Fresh => {}
            _ => {
                self.transmit(conn, to, &Packet::Reset);
            }
        }
    }

    /// A connection's timers: it shows that it lives, and ends when the other end does not.
    pub fn keep(&mut self, conn: ConnId, side: usize) {
        if !self.is_open(conn, side) {
            return;
        }
        let sibling = self.net.conns[conn].sibling.is_some();
        let idle = if sibling { IDLE_SIBLING } else { IDLE_AGENT };
        if self.net.conns[conn].ends[side].heard + idle <= self.now {
            self.tally.count("idle");
            return self.closed(conn, side, None);
        }
        if sibling {
            self.transmit(conn, side, &Packet::Keep);
        }
        let due = self.net.conns[conn].ends[side].heard + idle;
        self.plan((self.now + KEEP_ALIVE).min(due), Event::Keep { conn, side });
    }
}
