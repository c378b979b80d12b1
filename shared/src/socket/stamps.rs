//! Which packet carried which datagram. QUIC packets are opaque to the socket, so it goes by order and length: an outgoing
//! datagram is in the first packet to its address that is long enough, an incoming one came in the first recent packet
//! of about its length that its reader can not have seen before. Where nothing fits there is no stamp: not measured, rather
//! than wrong.
//!
//! What it can not know: an acknowledgement or a stream frame of just the right length is taken for the datagram if it goes
//! out in the microseconds between [`Expected::push`] and the datagram's own packet, or comes in within [`READ_MAX`] before
//! it. The error is then that time.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use crate::{id::Correlator, moment::Moment, quic::CID_BYTES};

/// Addresses with datagrams expected to leave.
pub const EXPECTED_ADDRESSES_MAX: usize = 4_096;
/// Datagrams expected to leave to one address.
pub const EXPECTED_MAX: usize = 64;
/// A datagram that has not left by then never will: QUIC drops the oldest when its buffer is full, and says nothing.
pub const EXPECTED_FOR_MAX: Duration = Duration::from_secs(5);
/// Addresses whose arrivals are recorded.
pub const TRACKED_MAX: usize = 4_096;
/// Packets remembered for each of them.
pub const ARRIVALS_MAX: usize = 64;
/// How long a packet may be in QUIC's hands before the reader could see its datagram. The reader saw nothing at some moment:
/// packets handed over longer before that moment carried nothing for it.
pub const HANDOVER_MAX: Duration = Duration::from_millis(5);
/// How long a datagram may wait for a reader that was free. A packet handed over longer ago carried something else; better
/// not measured than wrong by seconds. (A process that stands still does so before it reads the socket, too.)
pub const READ_MAX: Duration = Duration::from_millis(100);
/// What may be in a packet beside one datagram: an acknowledgement with its ECN counts and a few gaps, three more bytes of
/// packet number. With more it probably carried something else, such as a frame of a stream.
const BESIDE_BYTES: usize = 32;

/// The least that a packet with a short header adds to its frames: flags, connection id, packet number, AEAD tag
/// (RFC 9000, 17.3.1; RFC 9001, 5.3).
const PACKET_OVERHEAD: usize = 1 + CID_BYTES + 1 + 16;

/// Type and length of a DATAGRAM frame (RFC 9221, 4).
const fn frame_bytes(payload: usize) -> usize {
    payload + if payload < 64 { 2 } else { 3 }
}

/// Room for frames behind the short header in a UDP payload; `None` if there is no packet with one. Towards the end of a
/// handshake packets with long headers stand before it.
fn room(payload: &[u8]) -> Option<usize> {
    let mut rest = payload;
    while rest.first()? & 0x80 != 0 {
        rest = behind_long_header(rest)?;
    }
    rest.len().checked_sub(PACKET_OVERHEAD)
}

/// What follows a packet with a long header, whose length stands in clear (RFC 9000, 17.2).
fn behind_long_header(packet: &[u8]) -> Option<&[u8]> {
    const INITIAL: u8 = 0;
    const RETRY: u8 = 3;
    let (kind, mut rest) = (packet[0] >> 4 & 3, packet.get(5..)?); // past the version
    if kind == RETRY {
        return None;
    }
    for _ in ["destination", "source"] {
        let (&length, behind) = rest.split_first()?;
        rest = behind.get(usize::from(length)..)?;
    }
    if kind == INITIAL {
        let (token, behind) = varint(rest)?;
        rest = behind.get(token..)?;
    }
    let (length, behind) = varint(rest)?;
    behind.get(length..)
}

/// RFC 9000, 16.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let first = *bytes.first()?;
    let (value, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value = value[1..].iter().fold(u64::from(first & 0x3f), |v, b| v << 8 | u64::from(*b));
    Some((usize::try_from(value).ok()?, rest))
}

/// One spelling for each address: IPv4 in its own form however the socket spells it, no flow label.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(v4) => SocketAddr::from((v4, v6.port())),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

/// Datagrams handed to QUIC and not seen leaving yet, by address. Addresses here are [`canonical`].
#[derive(Debug, Default)]
pub struct Expected {
    queues: BTreeMap<SocketAddr, VecDeque<Leaving>>,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    correlator: Correlator,
    bytes: usize,
    since: Moment,
}

impl Expected {
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether there was room for it.
    pub fn push(&mut self, to: SocketAddr, payload: usize, correlator: Correlator, now: Moment) -> bool {
        if self.queues.len() >= EXPECTED_ADDRESSES_MAX && !self.queues.contains_key(&to) {
            self.queues.retain(|_, queue| {
                queue.retain(|l| now.since(l.since) <= EXPECTED_FOR_MAX);
                !queue.is_empty()
            });
            if self.queues.len() >= EXPECTED_ADDRESSES_MAX {
                return false;
            }
        }
        let queue = self.queues.entry(to).or_default();
        queue.retain(|l| now.since(l.since) <= EXPECTED_FOR_MAX);
        if queue.len() >= EXPECTED_MAX {
            return false;
        }
        queue.push_back(Leaving { correlator, bytes: frame_bytes(payload), since: now });
        true
    }

    pub fn withdraw(&mut self, to: SocketAddr, correlator: &Correlator) {
        if let Some(queue) = self.queues.get_mut(&to) {
            queue.retain(|l| l.correlator != *correlator);
            if queue.is_empty() {
                self.queues.remove(&to);
            }
        }
    }

    pub fn forget(&mut self, to: SocketAddr) {
        self.queues.remove(&to);
    }

    /// Packets left at `at`: tells `left` which datagrams were in them, in order.
    pub fn sent<'a>(
        &mut self,
        to: SocketAddr,
        packets: impl Iterator<Item = &'a [u8]>,
        at: Moment,
        mut left: impl FnMut(Correlator),
    ) {
        let Some(queue) = self.queues.get_mut(&to) else { return };
        queue.retain(|l| at.since(l.since) <= EXPECTED_FOR_MAX);
        for packet in packets {
            let Some(mut room) = room(packet) else { continue };
            // QUIC sends datagrams in order and never skips one, so neither do we. One expected after `at` was not there
            // yet when this packet was made.
            while let Some(next) = queue.front().filter(|l| l.bytes <= room && l.since <= at) {
                room -= next.bytes;
                left(next.correlator);
                queue.pop_front();
            }
        }
        if queue.is_empty() {
            self.queues.remove(&to);
        }
    }
}

/// The last packets from addresses of interest. Addresses here are [`canonical`].
#[derive(Debug, Default)]
pub struct Arrivals {
    rings: BTreeMap<SocketAddr, VecDeque<Packet>>,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    /// When it came out of the network, by the kernel's stamp.
    arrived: Moment,
    /// When it was handed to QUIC.
    handed: Moment,
    /// What is left of it for datagrams.
    room: usize,
}

impl Arrivals {
    pub fn is_empty(&self) -> bool {
        self.rings.is_empty()
    }

    /// Records arrivals from `from` from now on. Whether there was room for it.
    pub fn track(&mut self, from: SocketAddr) -> bool {
        if self.rings.len() >= TRACKED_MAX && !self.rings.contains_key(&from) {
            return false;
        }
        self.rings.entry(from).or_default();
        true
    }

    pub fn untrack(&mut self, from: SocketAddr) {
        self.rings.remove(&from);
    }

    pub fn received(&mut self, from: SocketAddr, packet: &[u8], arrived: Moment, handed: Moment) {
        let (Some(ring), Some(room)) = (self.rings.get_mut(&from), room(packet)) else { return };
        if ring.len() == ARRIVALS_MAX {
            ring.pop_front();
        }
        ring.push_back(Packet { arrived, handed, room });
    }

    /// When the packet arrived that carried the datagram read at `now`. The first packet handed over after `idle_since`, when
    /// the reader saw nothing, is the best guess, and the better if little else was in it; failing that, QUIC was working
    /// on one at that moment.
    pub fn take(&mut self, from: SocketAddr, payload: usize, idle_since: Moment, now: Moment) -> Option<Moment> {
        let ring = self.rings.get_mut(&from)?;
        let bytes = frame_bytes(payload);
        ring.retain(|p| p.handed + HANDOVER_MAX >= idle_since && p.handed + READ_MAX >= now);
        // Of equally good ones the first: datagrams are read in the order of their packets.
        let badness =
            |p: &Packet| (p.handed < idle_since, !p.room.is_multiple_of(bytes), p.room > bytes + BESIDE_BYTES);
        let packet = ring.iter_mut().filter(|p| p.room >= bytes).min_by_key(|p| badness(p))?;
        // It may carry another one.
        packet.room -= bytes;
        Some(packet.arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7);

    fn at(us: u64) -> Moment {
        Moment::new(us * 1_000, 0)
    }

    fn correlator(n: u8) -> Correlator {
        Correlator::of_uuid([n; 16])
    }

    /// A packet with a short header and this many bytes of frames.
    fn packet(frames: usize) -> Vec<u8> {
        vec![0x40; PACKET_OVERHEAD + frames]
    }

    fn sent(e: &mut Expected, packets: &[Vec<u8>], now: Moment) -> Vec<Correlator> {
        let mut out = Vec::new();
        e.sent(TO, packets.iter().map(Vec::as_slice), now, |c| out.push(c));
        out
    }

    #[test]
    fn a_datagram_left_in_the_first_packet_long_enough() {
        let mut e = Expected::default();
        assert!(e.push(TO, 20, correlator(1), at(0)));
        assert_eq!(sent(&mut e, &[packet(9)], at(1)), [], "an acknowledgement");
        let handshake = [&[0xe0, 0, 0, 0, 1, 0, 0, 0x43, 0xe8][..], &[0; 1_000]].concat();
        assert_eq!(sent(&mut e, &[handshake, vec![]], at(2)), []);
        assert_eq!(sent(&mut e, &[packet(22)], at(3)), [correlator(1)]);
        assert!(e.is_empty());
    }

    #[test]
    fn a_datagram_may_stand_behind_the_last_packets_of_a_handshake() {
        // Initial with a token of 2 and 5 bytes behind its length; Handshake with 70, a varint of two bytes.
        let initial = [&[0xc0, 0, 0, 0, 1, 1, 9, 2, 8, 8, 2, 7, 7, 5][..], &[0; 5]].concat();
        let handshake = [&[0xe0, 0, 0, 0, 1, 0, 0, 0x40, 70][..], &[0; 70]].concat();
        let whole = [initial.clone(), handshake.clone(), packet(22)].concat();
        let mut e = Expected::default();
        e.push(TO, 20, correlator(1), at(0));
        assert_eq!(sent(&mut e, &[[initial, handshake].concat()], at(1)), []);
        for cut in 0..whole.len() {
            assert_eq!(sent(&mut e, &[whole[..cut].to_vec()], at(1)), [], "cut at {cut}");
        }
        assert_eq!(sent(&mut e, &[whole], at(1)), [correlator(1)]);
    }

    #[test]
    fn coalesced_datagrams_leave_together_and_in_order() {
        let mut e = Expected::default();
        (1..=4).for_each(|n| assert!(e.push(TO, 20, correlator(n), at(0))));
        assert_eq!(sent(&mut e, &[packet(8 + 2 * 22)], at(1)), [correlator(1), correlator(2)]);
        assert_eq!(
            sent(&mut e, &[packet(22), packet(22)], at(2)),
            [correlator(3), correlator(4)],
            "segments of one batch"
        );
    }

    #[test]
    fn a_datagram_not_yet_expected_was_not_in_the_packet() {
        let mut e = Expected::default();
        e.push(TO, 20, correlator(1), at(10));
        assert_eq!(sent(&mut e, &[packet(100)], at(9)), []);
        assert_eq!(sent(&mut e, &[packet(100)], at(10)), [correlator(1)]);
    }

    #[test]
    fn one_that_quic_dropped_does_not_shift_the_stamps_of_later_ones() {
        let mut e = Expected::default();
        e.push(TO, 20, correlator(1), at(0));
        let later = at(0) + EXPECTED_FOR_MAX + Duration::from_millis(1);
        e.push(TO, 20, correlator(2), later);
        assert_eq!(sent(&mut e, &[packet(30)], later), [correlator(2)]);
        e.push(TO, 20, correlator(3), later);
        e.push(TO, 20, correlator(4), later);
        e.withdraw(TO, &correlator(3));
        assert_eq!(sent(&mut e, &[packet(30)], later), [correlator(4)]);
    }

    #[test]
    fn what_is_expected_has_a_bound_each_way() {
        let mut e = Expected::default();
        (0..EXPECTED_MAX).for_each(|_| assert!(e.push(TO, 20, correlator(1), at(0))));
        assert!(!e.push(TO, 20, correlator(1), at(0)));
        let address = |n: usize| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 9));
        (1..EXPECTED_ADDRESSES_MAX).for_each(|n| assert!(e.push(address(n), 20, correlator(1), at(0))));
        assert!(!e.push(address(EXPECTED_ADDRESSES_MAX), 20, correlator(1), at(0)));
        let later = at(0) + EXPECTED_FOR_MAX * 2;
        assert!(e.push(address(EXPECTED_ADDRESSES_MAX), 20, correlator(1), later), "the stale ones make room");
        e.forget(address(EXPECTED_ADDRESSES_MAX));
        assert!(e.is_empty());
    }

    #[test]
    fn an_arrival_is_the_first_packet_that_fits() {
        let mut a = Arrivals::default();
        assert!(a.track(TO));
        a.received(TO, &packet(9), at(100), at(110)); // an acknowledgement
        a.received(TO, &packet(31), at(200), at(210));
        a.received(TO, &packet(31 + BESIDE_BYTES), at(300), at(310));
        assert_eq!(a.take(TO, 29, at(50), at(400)), Some(at(200)));
        assert_eq!(a.take(TO, 29, at(50), at(400)), Some(at(300)));
        assert_eq!(a.take(TO, 40, at(50), at(400)), None, "not measured");
    }

    #[test]
    fn a_packet_may_carry_two() {
        let mut a = Arrivals::default();
        a.track(TO);
        a.received(TO, &packet(62), at(100), at(110));
        a.received(TO, &packet(31), at(200), at(210));
        for expected in [100, 100, 200] {
            assert_eq!(a.take(TO, 29, at(0), at(300)), Some(at(expected)));
        }
    }

    #[test]
    fn packets_from_before_the_readers_last_look_carried_nothing_for_it() {
        let mut a = Arrivals::default();
        a.track(TO);
        a.received(TO, &packet(40), at(0), at(10));
        a.received(TO, &packet(31), at(2_000), at(2_010));
        assert_eq!(
            a.take(TO, 29, at(20), at(2_100)),
            Some(at(2_000)),
            "the first is so recent that it could be, but is not"
        );
        a.received(TO, &packet(31), at(9_000), at(9_010));
        assert_eq!(a.take(TO, 29, at(9_011), at(9_020)), Some(at(9_000)), "QUIC was working on it at that moment");
        a.received(TO, &packet(31), at(10_000), at(10_010));
        assert_eq!(a.take(TO, 29, at(15_011), at(15_020)), None);
    }

    #[test]
    fn frames_of_streams_are_not_taken_for_a_datagram() {
        let mut a = Arrivals::default();
        a.track(TO);
        // The reader has looked once, at 0, and not been woken since.
        a.received(TO, &packet(180), at(100), at(110));
        a.received(TO, &packet(35), at(300), at(310));
        assert_eq!(a.take(TO, 29, at(0), at(400)), Some(at(300)));
        a.received(TO, &packet(35), at(1_000_000), at(1_000_010)); // alike, but a second ago
        assert_eq!(a.take(TO, 29, at(0), at(2_000_000)), None);
    }

    #[test]
    fn the_last_frames_of_a_handshake_are_not_taken_for_the_first_ping() {
        let mut a = Arrivals::default();
        a.track(TO);
        a.received(TO, &packet(32), at(100), at(300)); // an acknowledgement and a new connection id
        a.received(TO, &packet(31), at(350), at(370));
        assert_eq!(a.take(TO, 29, at(290), at(380)), Some(at(350)));
    }

    #[test]
    fn only_tracked_addresses_are_remembered_and_only_so_much() {
        let mut a = Arrivals::default();
        a.received(TO, &packet(31), at(0), at(0));
        assert!(a.is_empty());
        a.track(TO);
        (0..1_000).for_each(|n| a.received(TO, &packet(31), at(n), at(n)));
        assert_eq!(a.rings[&TO].len(), ARRIVALS_MAX);
        a.untrack(TO);
        assert_eq!(a.take(TO, 29, at(0), at(1_000)), None);
    }

    #[test]
    fn an_address_has_one_spelling() {
        let spelt = |s: &str| canonical(s.parse().unwrap()).to_string();
        assert_eq!(spelt("[::ffff:10.1.2.3]:5"), "10.1.2.3:5");
        assert_eq!(spelt("10.1.2.3:5"), "10.1.2.3:5");
        assert_eq!(spelt("[fe80::1%3]:5"), "[fe80::1%3]:5");
        let flow = SocketAddr::V6(SocketAddrV6::new("2001:db8::1".parse().unwrap(), 5, 77, 0));
        assert_eq!(canonical(flow), "[2001:db8::1]:5".parse().unwrap());
    }
}
