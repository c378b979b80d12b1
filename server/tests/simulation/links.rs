//! An agent's connections with peers, as its shell keeps them: calls, Hello, and which of two connections stays. Two calls
//! that cross leave the one dialled by the smaller id; a newer epoch, and a call long after, beat that rule.

use std::collections::BTreeMap;

use pams_agent::core::{Input, LinkId};
use pams_shared::{
    frame::{Frame, Hello, HelloAck, close},
    record::{Reason, Why},
};

use crate::{
    agent::Timer,
    net::{ConnId, How, News},
    setup::{node, peer},
    trace::name,
    world::{SECOND, World},
};

/// From the first packet until Hello is answered.
pub const PATIENCE: u64 = 5 * SECOND;
/// What is under way on a connection that another one replaced may still arrive for so long.
const RETIRED_FOR: u64 = 6 * SECOND;
/// Connections that came about within so long of each other may be calls that crossed.
const CROSSING: u64 = 10 * SECOND;

#[derive(Debug, Default)]
pub struct Links {
    /// By the other node: the connection in use.
    pub live: BTreeMap<usize, Live>,
    /// Connections that became ready, in use or not.
    ids: BTreeMap<ConnId, LinkId>,
    /// Ours that are not ready yet.
    calls: BTreeMap<ConnId, usize>,
    next: LinkId,
}

#[derive(Clone, Copy, Debug)]
pub struct Live {
    pub conn: ConnId,
    since: u64,
    /// The sum of both epochs: a restart of either makes a newer connection.
    epochs: u64,
    by_smaller: bool,
}

impl Links {
    /// When the connection in use with a node became ready.
    pub fn since(&self, node: usize) -> Option<u64> {
        self.live.get(&node).map(|live| live.since)
    }
}

impl World {
    pub fn call(&mut self, me: usize, other: usize) {
        let conn = self.dial(me, other);
        self.agents[me].links.calls.insert(conn, other);
        self.tell_at(self.now + PATIENCE, me, News::Timer(Timer::CallPatience { conn }));
    }

    pub fn say_hello(&mut self, me: usize, conn: ConnId) {
        let hello = Frame::Hello(self.hello(me));
        self.send_frame(conn, 0, &hello);
    }

    pub fn hello(&self, me: usize) -> Hello {
        Hello {
            software: "sim".to_owned(),
            epoch: self.processes[me].life,
            capabilities: 0,
            wall_ms: self.moment(me).wall_ms(),
            attach: 0,
            profile: None,
            member: None,
        }
    }

    /// What came on the stream of a connection with a peer.
    pub fn peer_frame(&mut self, me: usize, conn: ConnId, side: usize, frame: Frame) {
        let other = self.other(conn, me);
        if !matches!(frame, Frame::Hello(_) | Frame::HelloAck(_) | Frame::SubscribeAck(_) | Frame::Goodbye) {
            self.agents[me].facts.heard(self.now, other);
        }
        match frame {
            Frame::Hello(hello) => {
                let now = self.moment(me);
                let ack = HelloAck {
                    software: hello.software,
                    epoch: self.processes[me].life,
                    capabilities: 0,
                    wall_ms: now.wall_ms(),
                    observed: None,
                    verdict: Ok(()),
                    terms: None,
                    member: None,
                };
                self.send_frame(conn, side, &Frame::HelloAck(ack));
                self.ready(me, conn, hello.epoch, offset(hello.wall_ms, now.wall_ms()));
            }
            Frame::HelloAck(ack) => {
                let clock_offset_ms = offset(ack.wall_ms, self.moment(me).wall_ms());
                if self.agents[me].links.calls.remove(&conn).is_some() {
                    self.ready(me, conn, ack.epoch, clock_offset_ms);
                }
            }
            Frame::Goodbye => {
                self.agents[me].facts.said_goodbye(other, self.now);
                self.agent_handle(me, Input::Goodbye { peer: peer(other) });
            }
            Frame::Subscribe(whom) => {
                let input = Input::Subscribe { from: peer(other), peer: whom, question: conn as u64 };
                self.agent_handle(me, input);
            }
            Frame::SubscribeAck(ack) => self.subscribe_answered(me, conn, ack),
            Frame::Unsubscribe(_) => self.agent_handle(me, Input::Unsubscribe { from: peer(other) }),
            Frame::Notify(notify) => self.notified(me, conn, Some(other), notify),
            Frame::NotifyAck(ack) => {
                let arrived = self.moment(me);
                self.agent_handle(me, Input::NotifyAck { from: peer(other), ack, arrived });
            }
            frame => panic!("a peer said {frame:?}"),
        }
    }

    /// Hello is answered: keeps the connection, or the one there is.
    fn ready(&mut self, me: usize, conn: ConnId, epoch: u64, clock_offset_ms: i64) {
        let other = self.other(conn, me);
        let side = self.side(conn, me);
        if !self.is_open(conn, side) {
            return; // it ended while its Hello waited for the loop; its end follows
        }
        let links = &mut self.agents[me].links;
        links.next += 1;
        let link = links.next;
        links.ids.insert(conn, link);
        let dialled = side == 0;
        let epochs = self.processes[me].life + epoch;
        let new = Live { conn, since: self.now, epochs, by_smaller: dialled == (peer(me) < peer(other)) };
        let old = links.live.get(&other).copied();
        if old.is_some_and(|old| self.keeps(me, old, new)) {
            self.tally.count("crossed");
            return self.retire(me, conn);
        }
        self.agents[me].links.live.insert(other, new);
        match old {
            Some(old) if old.epochs == new.epochs => self.retire(me, old.conn),
            Some(old) => self.close(old.conn, self.side(old.conn, me), close::SUPERSEDED),
            None => {}
        }
        self.agents[me].facts.heard(self.now, other);
        self.agents[me].facts.linked.insert(other, self.now);
        self.agent_handle(me, Input::LinkUp { peer: peer(other), link, epoch, clock_offset_ms });
    }

    fn keeps(&self, me: usize, old: Live, new: Live) -> bool {
        let alive = self.is_open(old.conn, self.side(old.conn, me)) && self.now - old.since < CROSSING;
        let better = new.epochs > old.epochs || new.epochs == old.epochs && (new.by_smaller || !old.by_smaller);
        alive && !better
    }

    fn retire(&mut self, me: usize, conn: ConnId) {
        let timer = Timer::Close { conn, code: close::SUPERSEDED };
        self.tell_at(self.now + RETIRED_FOR, me, News::Timer(timer));
    }

    /// A call waits no longer.
    pub fn give_up(&mut self, me: usize, conn: ConnId) {
        if let Some(other) = self.agents[me].links.calls.remove(&conn) {
            self.close(conn, 0, close::DONE);
            let why = Why::new(Reason::NoAnswer, "it did not answer");
            self.agent_handle(me, Input::DialFailed { peer: peer(other), why });
        }
    }

    pub fn link_ended(&mut self, me: usize, conn: ConnId, how: How) {
        let (why, restarted) = ended(how);
        let links = &mut self.agents[me].links;
        if let Some(other) = links.calls.remove(&conn) {
            return self.agent_handle(me, Input::DialFailed { peer: peer(other), why });
        }
        let Some(link) = links.ids.remove(&conn) else { return };
        let other = self.other(conn, me);
        let links = &mut self.agents[me].links;
        let used = links.live.get(&other).is_some_and(|live| live.conn == conn);
        if used {
            links.live.remove(&other);
        }
        self.agent_handle(me, Input::LinkDown { peer: peer(other), link, why, restarted });
        let agent = &self.agents[me];
        if used && restarted && !self.stalled_lately(me) && agent.buddies.iter().any(|(b, _)| *b == other) {
            let called = agent.facts.reached.get(&other) == Some(&self.now) || agent.facts.starved == self.now;
            assert!(called, "{} is back and is not called at once", name(other));
        }
    }

    /// Dials where a peer is said to be.
    pub fn dial_peer(&mut self, me: usize, whom: pams_shared::id::PeerId, addresses: &[String]) {
        let (at, place) = addresses.iter().find_map(|a| crate::setup::at_address(a)).expect("an address of a node");
        assert_eq!(Some(at), node(whom), "another one's address");
        if place == 1 || place == self.agents[at].place {
            return self.call(me, at);
        }
        // Nobody is there any more.
        let why = Why::new(Reason::NoAnswer, "it did not answer");
        self.give_at(self.now + PATIENCE, me, Input::DialFailed { peer: whom, why });
    }
}

pub fn ended(how: How) -> (Why, bool) {
    let restarted = matches!(how, How::Reset | How::Theirs(close::SUPERSEDED));
    let why = match how {
        How::Ours(_) => Why::new(Reason::Cancelled, "we closed the connection"),
        How::Theirs(code) => Why::new(Reason::Refused, format!("it closed the connection with code {code}")),
        How::Reset => Why::new(Reason::NoAnswer, "it was restarted"),
        How::Idle => Why::new(Reason::NoAnswer, "timed out"),
    };
    (why, restarted)
}

/// How far the other clock is ahead.
pub fn offset(theirs_ms: u64, ours_ms: u64) -> i64 {
    theirs_ms.cast_signed() - ours_ms.cast_signed()
}
