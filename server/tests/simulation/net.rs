//! The transport, as QUIC behaves: handshakes, datagrams that may be lost, doubled or overtaken, one ordered stream each way
//! that resends, ends that close, time out or are reset when the other side no longer knows them. Packets go through the
//! paths of `pams_shared::sim`. Not modelled: bandwidth, certificates, several streams.

use std::{collections::BTreeMap, rc::Rc};

use pams_agent::core::Input;
use pams_shared::frame::{DATAGRAM_BYTES_MAX, Frame, STREAM_BYTES_MAX, wire};

use crate::{
    agent::Timer,
    path::Way,
    setup,
    trace::name,
    world::{Event, MS, SECOND, World},
};

pub type ConnId = usize;

/// An end on which nothing comes in for so long is closed.
const IDLE: u64 = 30 * SECOND;
/// First pause before something is sent again; it doubles up to the last.
const RESEND_FIRST: u64 = 300 * MS;
const RESEND_LAST: u64 = 3 * SECOND;
/// As how late an attempt one counts whose acknowledgement was lost.
const UNACKNOWLEDGED: u32 = 2;
/// Dialling gives up after this; whoever dialled has given up before.
const DIAL_TRIES: u32 = 8;

/// Ends: the dialler is 0, the other 1.
#[derive(Debug)]
pub struct Conn {
    pub ends: [End; 2],
    /// When a frame of its streams last needed to be sent again.
    pub troubled: u64,
    answered: bool,
}

#[derive(Debug)]
pub struct End {
    pub node: usize,
    pub life: u64,
    pub state: State,
    idle_from: u64,
    /// Something was sent since something came in.
    asks: bool,
    next_out: u64,
    next_in: u64,
    early: BTreeMap<u64, Rc<[u8]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has reached it yet.
    Fresh,
    Open,
    Closed(How),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By us, with this code.
    Ours(u32),
    Theirs(u32),
    Reset,
    Idle,
}

#[derive(Clone, Debug)]
pub enum Packet {
    Initial,
    Accepted,
    Datagram(Rc<[u8]>, Way),
    Stream(u64, Rc<[u8]>),
    Close(u32),
    Reset,
}

/// What happens to a shell.
#[derive(Debug)]
pub enum News {
    /// A call was answered.
    Connected {
        conn: ConnId,
    },
    Frame {
        conn: ConnId,
        side: usize,
        frame: Frame,
    },
    Datagram {
        conn: ConnId,
        frame: Frame,
        arrived: u64,
        way: Way,
    },
    Ended {
        conn: ConnId,
        how: How,
    },
    Timer(Timer),
    Input(Box<Input>),
}

impl World {
    pub fn dial(&mut self, from: usize, to: usize) -> ConnId {
        let end = |node, life, state| End {
            node,
            life,
            state,
            idle_from: self.now,
            asks: false,
            next_out: 0,
            next_in: 0,
            early: BTreeMap::new(),
        };
        let ends = [end(from, self.processes[from].life, State::Open), end(to, 0, State::Fresh)];
        self.net.conns.push(Conn { ends, troubled: self.now, answered: false });
        let conn = self.net.conns.len() - 1;
        self.plan(self.now + IDLE, Event::Idle { conn, side: 0 });
        self.redial(conn, 0);
        conn
    }

    pub fn redial(&mut self, conn: ConnId, attempt: u32) {
        let open = self.is_open(conn, 0);
        if !open || self.net.conns[conn].answered || attempt > DIAL_TRIES {
            return;
        }
        self.transmit(conn, 0, &Packet::Initial);
        self.plan(self.now + pause(attempt), Event::Redial { conn, attempt: attempt + 1 });
    }

    /// The end is open and its process runs.
    pub fn is_open(&self, conn: ConnId, side: usize) -> bool {
        let end = &self.net.conns[conn].ends[side];
        end.state == State::Open && self.lives(end.node, end.life)
    }

    /// Which end of a connection is this node's.
    pub fn side(&self, conn: ConnId, node: usize) -> usize {
        usize::from(self.net.conns[conn].ends[0].node != node)
    }

    /// Who is at the other end.
    pub fn other(&self, conn: ConnId, node: usize) -> usize {
        self.net.conns[conn].ends[1 - self.side(conn, node)].node
    }

    /// A frame on the stream: it arrives, in order, as long as both ends last.
    pub fn send_frame(&mut self, conn: ConnId, side: usize, frame: &Frame) {
        if !self.is_open(conn, side) {
            return;
        }
        let bytes = encoded(frame, STREAM_BYTES_MAX);
        let end = &mut self.net.conns[conn].ends[side];
        let number = end.next_out;
        end.next_out += 1;
        self.resend(conn, side, number, bytes, 0);
    }

    pub fn resend(&mut self, conn: ConnId, from: usize, number: u64, bytes: Rc<[u8]>, attempt: u32) {
        if !self.is_open(conn, from) {
            return;
        }
        let arrives = self.transmit(conn, from, &Packet::Stream(number, bytes.clone()));
        if attempt > 0 || !arrives {
            self.net.conns[conn].troubled = self.now + setup::WAY_MAX;
        }
        if !arrives {
            let again = self.now + pause(attempt);
            self.plan(again, Event::Resend { conn, from, number, bytes, attempt: attempt + 1 });
        }
    }

    /// A datagram, to be handed to the socket at `at`.
    pub fn send_datagram(&mut self, conn: ConnId, side: usize, at: u64, frame: &Frame, way: Way) {
        let packet = Packet::Datagram(encoded(frame, DATAGRAM_BYTES_MAX), way);
        self.plan(at, Event::Depart { conn, from: side, packet });
    }

    /// A packet is handed to the socket.
    pub fn depart(&mut self, conn: ConnId, from: usize, packet: &Packet) {
        if self.is_open(conn, from) {
            self.transmit(conn, from, packet);
        }
    }

    /// Closes an end; the other is told once, and again whenever it sends something.
    pub fn close(&mut self, conn: ConnId, side: usize, code: u32) {
        if self.is_open(conn, side) {
            self.end(conn, side, How::Ours(code));
            self.transmit(conn, side, &Packet::Close(code));
        }
    }

    /// This end loses the connection and does not say so.
    pub fn lose(&mut self, conn: ConnId, side: usize) {
        if self.is_open(conn, side) {
            self.end(conn, side, How::Idle);
        }
    }

    fn end(&mut self, conn: ConnId, side: usize, how: How) {
        let end = &mut self.net.conns[conn].ends[side];
        end.state = State::Closed(how);
        end.early.clear();
        let node = end.node;
        match how {
            How::Reset => self.tally.count("reset"),
            How::Idle => self.tally.count("idle"),
            How::Ours(_) | How::Theirs(_) => {}
        }
        self.tell(node, News::Ended { conn, how });
    }

    /// Sends a packet on its way; whether a copy of it will arrive.
    fn transmit(&mut self, conn: ConnId, from: usize, packet: &Packet) -> bool {
        let at = self.now;
        let [path_from, path_to] = [from, 1 - from].map(|side| self.net.conns[conn].ends[side].node);
        let path = (path_from, path_to);
        let end = &mut self.net.conns[conn].ends[from];
        if !std::mem::replace(&mut end.asks, true) {
            end.idle_from = end.idle_from.max(at);
        }
        let fates = self.net.fates(path, at);
        for arrived in &fates {
            let mut packet = packet.clone();
            if let Packet::Datagram(_, way) = &mut packet {
                *way = self.net.leg(*way, path, at, *arrived);
            }
            self.plan(*arrived, Event::Packet { conn, to: 1 - from, arrived: *arrived, packet });
        }
        !fates.is_empty()
    }

    pub fn arrive(&mut self, conn: ConnId, to: usize, arrived: u64, packet: Packet) {
        let end = &mut self.net.conns[conn].ends[to];
        let process = self.processes[end.node];
        if !process.up {
            return;
        }
        if end.state == State::Fresh && matches!(packet, Packet::Initial) {
            (end.state, end.life, end.idle_from) = (State::Open, process.life, self.now);
            self.plan(self.now + IDLE, Event::Idle { conn, side: to });
        }
        let end = &self.net.conns[conn].ends[to];
        let ending = matches!(packet, Packet::Close(_) | Packet::Reset);
        match end.state {
            State::Open if end.life == process.life => self.take(conn, to, arrived, packet),
            _ if ending => {}
            State::Closed(How::Ours(code)) if end.life == process.life => {
                self.transmit(conn, to, &Packet::Close(code));
            }
            _ => {
                self.transmit(conn, to, &Packet::Reset);
            }
        }
    }

    /// A packet for an open end.
    fn take(&mut self, conn: ConnId, to: usize, arrived: u64, packet: Packet) {
        let end = &mut self.net.conns[conn].ends[to];
        let node = end.node;
        (end.idle_from, end.asks) = (end.idle_from.max(self.now), false);
        match packet {
            Packet::Initial => {
                self.transmit(conn, to, &Packet::Accepted);
            }
            Packet::Accepted => {
                if !std::mem::replace(&mut self.net.conns[conn].answered, true) {
                    self.tell(node, News::Connected { conn });
                }
            }
            Packet::Datagram(bytes, way) => {
                self.acknowledge(conn, to);
                let frame = decoded(&bytes, DATAGRAM_BYTES_MAX);
                self.tell(node, News::Datagram { conn, frame, arrived, way });
            }
            Packet::Stream(number, bytes) => {
                if number >= end.next_in {
                    end.early.insert(number, bytes.clone());
                }
                self.in_order(conn, to);
                if !self.acknowledge(conn, to) {
                    self.unacknowledged(conn, to, number, bytes);
                }
            }
            Packet::Close(code) => self.end(conn, to, How::Theirs(code)),
            Packet::Reset => self.end(conn, to, How::Reset),
        }
    }

    /// The other end does not know that it came, if it did, and sends it again.
    pub fn unacknowledged(&mut self, conn: ConnId, to: usize, number: u64, bytes: Rc<[u8]>) {
        let event = Event::Resend { conn, from: 1 - to, number, bytes, attempt: UNACKNOWLEDGED };
        self.plan(self.now + pause(UNACKNOWLEDGED), event);
    }

    /// Takes from the stream what is next.
    fn in_order(&mut self, conn: ConnId, to: usize) {
        loop {
            let end = &mut self.net.conns[conn].ends[to];
            let Some(bytes) = end.early.remove(&end.next_in) else { return };
            end.next_in += 1;
            let node = end.node;
            self.tell(node, News::Frame { conn, side: to, frame: decoded(&bytes, STREAM_BYTES_MAX) });
        }
    }

    /// QUIC acknowledges what came in; if that arrives, the other end knows that we live. Whether it does.
    fn acknowledge(&mut self, conn: ConnId, side: usize) -> bool {
        let path = (self.net.conns[conn].ends[side].node, self.net.conns[conn].ends[1 - side].node);
        let Some(at) = self.net.fates(path, self.now).first().copied() else { return false };
        let end = &mut self.net.conns[conn].ends[1 - side];
        (end.idle_from, end.asks) = (end.idle_from.max(at), false);
        true
    }

    pub fn idle(&mut self, conn: ConnId, side: usize) {
        if !self.is_open(conn, side) {
            return;
        }
        let due = self.net.conns[conn].ends[side].idle_from + IDLE;
        if due <= self.now { self.end(conn, side, How::Idle) } else { self.plan(due, Event::Idle { conn, side }) }
    }

    /// For the trace.
    pub fn conn_name(&self, conn: ConnId) -> String {
        let [a, b] = &self.net.conns[conn].ends;
        format!("{}-{}.{conn}", name(a.node), name(b.node))
    }
}

fn pause(attempt: u32) -> u64 {
    (RESEND_FIRST << attempt.min(8)).min(RESEND_LAST)
}

/// Every frame goes through the wire, and comes back as it was.
fn encoded(frame: &Frame, max: usize) -> Rc<[u8]> {
    let bytes = wire::encode(frame);
    assert!(bytes.len() <= max, "{} bytes are too long: {frame:?}", bytes.len());
    assert_eq!(wire::decode(&bytes, max).as_ref(), Ok(frame));
    bytes.into()
}

fn decoded(bytes: &[u8], max: usize) -> Frame {
    wire::decode(bytes, max).expect("it was encoded here")
}
