//! What travels between two ends of a connection, and how it gets there: datagrams that may be lost, doubled or overtaken,
//! streams that resend.

use pams_shared::frame::{DATAGRAM_BYTES_MAX, Frame, STREAM_BYTES_MAX, wire};

use crate::{
    conn::ConnId,
    setup::{self, Setup},
    world::{Bytes, Event, MS, World},
};

/// First pause before something is sent again; it doubles up to the last.
const RESEND_FIRST: u64 = 150 * MS;
const RESEND_LAST: u64 = 1_200 * MS;

/// A piece of which so many copies are lost in a row comes 2.25 s late at least, and what is sent after it waits for it. With the
/// second between two words of a stream that is more than the 3 s after which what a follower has is stale, and rightly called so.
pub const TRIES: u32 = 4;
/// And so long a loop may take until it has read what came.
const TAKEN: u64 = 100 * MS;

#[derive(Clone, Debug)]
pub enum Packet {
    Initial,
    Accepted,
    Datagram(Bytes),
    /// The next piece of a stream; without bytes, its end.
    Stream {
        stream: u64,
        number: u64,
        bytes: Option<Bytes>,
    },
    Keep,
    Close(u32),
    Reset,
}

impl World {
    /// A frame on a stream: it arrives, in order, as long as both ends last.
    pub fn send_frame(&mut self, conn: ConnId, side: usize, stream: u64, frame: &Frame) {
        let bytes = encoded(frame, STREAM_BYTES_MAX);
        self.send_piece(conn, side, stream, Some(bytes));
    }

    /// The stream ends.
    pub fn end_stream(&mut self, conn: ConnId, side: usize, stream: u64) {
        self.send_piece(conn, side, stream, None);
    }

    fn send_piece(&mut self, conn: ConnId, side: usize, stream: u64, bytes: Option<Bytes>) {
        if !self.is_open(conn, side) {
            return;
        }
        let next = self.net.conns[conn].ends[side].out.entry(stream).or_default();
        let number = *next;
        *next += 1;
        self.resend(conn, side, Packet::Stream { stream, number, bytes }, 0);
    }

    pub fn resend(&mut self, conn: ConnId, from: usize, packet: Packet, attempt: u32) {
        if !self.is_open(conn, from) {
            return;
        }
        let arrives = self.transmit(conn, from, &packet);
        if attempt > 0 || arrives.is_none() {
            self.net.conns[conn].troubled = self.now + setup::WAY_MAX;
        }
        if attempt + u32::from(arrives.is_none()) >= TRIES {
            self.net.conns[conn].stuck = arrives.unwrap_or(self.now + pause(attempt)) + TAKEN;
        }
        match (arrives, &packet) {
            (None, _) => {
                self.plan(self.now + pause(attempt), Event::Resend { conn, from, packet, attempt: attempt + 1 });
            }
            (Some(at), Packet::Stream { stream, .. }) => {
                let stream = *stream;
                self.plan(2 * at - self.now, Event::Delivered { conn, from, stream });
            }
            _ => {}
        }
    }

    pub fn send_datagram(&mut self, conn: ConnId, side: usize, frame: &Frame) {
        if self.is_open(conn, side) {
            self.transmit(conn, side, &Packet::Datagram(encoded(frame, DATAGRAM_BYTES_MAX)));
        }
    }

    /// Sends a packet on its way; when the first copy arrives, if one does.
    pub fn transmit(&mut self, conn: ConnId, from: usize, packet: &Packet) -> Option<u64> {
        let [a, b] = [from, 1 - from].map(|side| self.net.conns[conn].ends[side].node);
        let fates = self.net.fates((a, b), self.now);
        for at in &fates {
            self.plan(*at, Event::Packet { conn, to: 1 - from, packet: packet.clone() });
        }
        fates.iter().min().copied()
    }

    /// A packet for an open end.
    pub fn take_packet(&mut self, conn: ConnId, to: usize, packet: Packet) {
        let now = self.now;
        let end = &mut self.net.conns[conn].ends[to];
        end.heard = now;
        match packet {
            Packet::Initial => {
                self.transmit(conn, to, &Packet::Accepted);
            }
            Packet::Accepted => self.answered(conn),
            Packet::Keep => {}
            Packet::Datagram(_) if !end.greeted => end.parked.push(packet),
            Packet::Datagram(bytes) => self.datagram(conn, to, decoded(&bytes, DATAGRAM_BYTES_MAX)),
            Packet::Stream { stream, .. } if stream != 0 && !end.greeted => end.parked.push(packet),
            Packet::Stream { stream, number, bytes } => {
                let inn = end.inn.entry(stream).or_default();
                if number >= inn.next {
                    inn.early.insert(number, bytes);
                }
                self.in_order(conn, to, stream);
            }
            Packet::Close(code) => self.closed(conn, to, Some(code)),
            Packet::Reset => {
                self.tally.count("reset");
                self.closed(conn, to, None);
            }
        }
    }

    /// The conversation has begun: what came before is read now.
    pub fn unpark(&mut self, conn: ConnId, side: usize) {
        self.net.conns[conn].ends[side].greeted = true;
        for packet in std::mem::take(&mut self.net.conns[conn].ends[side].parked) {
            if self.is_open(conn, side) {
                self.take_packet(conn, side, packet);
            }
        }
    }

    /// Takes from the stream what is next.
    fn in_order(&mut self, conn: ConnId, to: usize, stream: u64) {
        while self.is_open(conn, to) {
            let inn = self.net.conns[conn].ends[to].inn.entry(stream).or_default();
            let Some(bytes) = inn.early.remove(&inn.next) else { return };
            inn.next += 1;
            match bytes {
                Some(bytes) => self.frame(conn, to, stream, decoded(&bytes, STREAM_BYTES_MAX)),
                None => self.stream_ended(conn, to, stream),
            }
        }
    }

    fn frame(&mut self, conn: ConnId, to: usize, stream: u64, frame: Frame) {
        let node = self.net.conns[conn].ends[to].node;
        match (Setup::is_server(node), self.net.conns[conn].sibling) {
            (true, Some(_)) => self.sibling_frame(node, conn, to, stream, frame),
            (true, None) => self.agents_frame(node, conn, stream, frame),
            (false, _) => self.homes_frame(node, conn, stream, frame),
        }
    }

    fn datagram(&mut self, conn: ConnId, to: usize, frame: Frame) {
        let node = self.net.conns[conn].ends[to].node;
        self.gossip_came(node, conn, to, frame);
    }
}

fn pause(attempt: u32) -> u64 {
    (RESEND_FIRST << attempt.min(8)).min(RESEND_LAST)
}

/// Every frame goes through the wire, and comes back as it was.
fn encoded(frame: &Frame, max: usize) -> Bytes {
    let bytes = wire::encode(frame);
    assert!(bytes.len() <= max, "{} bytes are too long: {frame:?}", bytes.len());
    bytes.into()
}

fn decoded(bytes: &[u8], max: usize) -> Frame {
    wire::decode(bytes, max).expect("it was encoded here")
}
