//! Bytes of a stranger, as a datagram or behind a length on a stream: a frame that we could have sent ourselves, or refused.

use pams_shared::frame::{
    ADDRESSES_MAX, APPLICATIONS_MAX, CERTIFICATE_BYTES_MAX, CHAIN_MAX, CHANGES_MAX, DATAGRAM_BYTES_MAX, DELTAS_MAX,
    Entry, FINDINGS_MAX, Frame, FrameError, KINDS_MAX, LOT_BYTES_MAX, Member, OVERLAYS_MAX, Packed, Profile,
    RECORDS_MAX, ROSTER_MAX, SERVERS_MAX, STREAM_BYTES_MAX, SWIM_BYTES_MAX, VIEWS_MAX, wire,
};

/// A field that no version knows.
const NEWER: [u8; 5] = [0xc2, 0x3e, 2, b'n', b'w'];

pub fn check(bytes: &[u8]) {
    let read = wire::decode(bytes, STREAM_BYTES_MAX);
    let as_datagram = wire::decode(bytes, DATAGRAM_BYTES_MAX);
    if bytes.len() > DATAGRAM_BYTES_MAX {
        assert!(matches!(as_datagram, Err(FrameError::Oversized { .. })), "{as_datagram:?}");
    } else {
        assert_eq!(as_datagram, read, "a bound decides about lengths, not about meanings");
    }
    match &read {
        Ok(frame) => accepted(bytes, frame),
        Err(error) => assert!(FrameError::LABELS.contains(&error.label()) && !error.to_string().is_empty()),
    }
}

fn accepted(bytes: &[u8], frame: &Frame) {
    let written = wire::encode(frame);
    assert_eq!(wire::decode(&written, usize::MAX).as_ref(), Ok(frame), "comes back as it was taken");
    if matches!(frame, Frame::Ping(_) | Frame::Pong(_) | Frame::Gossip(_)) {
        assert!(written.len() <= DATAGRAM_BYTES_MAX);
    }
    for newer in [[bytes, &NEWER].concat(), [&NEWER, bytes].concat()] {
        assert_eq!(wire::decode(&newer, usize::MAX).as_ref(), Ok(frame), "what is newer is skipped");
    }
    bounded(frame);
}

/// The lists that a frame makes room for.
fn bounded(frame: &Frame) {
    let entry = |e: &Entry| profile(&e.profile);
    match frame {
        Frame::Hello(hello) => {
            hello.profile.iter().for_each(profile);
            hello.member.iter().for_each(member);
        }
        Frame::HelloAck(ack) => ack.member.iter().for_each(member),
        Frame::FetchAck(found) => found.as_deref().into_iter().for_each(entry),
        Frame::Report(r) => {
            assert!(r.totals.len() <= KINDS_MAX && r.records.len() <= RECORDS_MAX);
            assert!(r.changes.len() <= CHANGES_MAX && r.views.len() <= VIEWS_MAX);
        }
        Frame::Roster(roster) => {
            assert!(roster.peers.len() <= ROSTER_MAX);
            assert!(roster.peers.iter().all(|peer| peer.addresses.len() <= ADDRESSES_MAX));
        }
        Frame::Servers(servers) => {
            assert!(servers.len() <= SERVERS_MAX);
            servers.iter().for_each(|server| member(&server.member));
        }
        Frame::Gossip(swim) => assert!((1..=SWIM_BYTES_MAX).contains(&swim.len())),
        Frame::Deltas(deltas) => {
            assert!(deltas.entries.len() <= DELTAS_MAX);
            deltas.entries.iter().flat_map(|entry| &entry.lot).for_each(lot);
        }
        Frame::ProbeAck(ack) => assert!(ack.0.as_ref().map_or(0, Vec::len) <= FINDINGS_MAX),
        Frame::Issued(issued) => {
            let ders = || issued.chain.iter().chain([&issued.root]);
            assert!(issued.chain.len() <= CHAIN_MAX && ders().all(|der| der.len() <= CERTIFICATE_BYTES_MAX));
        }
        _ => {}
    }
}

fn member(member: &Member) {
    assert!(member.addresses.len() <= ADDRESSES_MAX);
}

/// It was taken as bytes: that they say something, and what can be said in bytes of our own.
fn lot(packed: &Packed) {
    assert_eq!(Packed::read(packed.bytes()).as_ref(), Ok(packed));
    let lot = packed.lot();
    profile(&lot.profile);
    assert!(lot.accounts.len() <= KINDS_MAX);
    let anew = Packed::new(&lot);
    assert!(anew.bytes().len() <= LOT_BYTES_MAX);
    assert_eq!(anew.lot(), lot, "packed anew it says the same");
}

fn profile(profile: &Profile) {
    assert!(profile.addresses.len() <= ADDRESSES_MAX && profile.overlays.len() <= OVERLAYS_MAX);
    assert!(profile.applications.len() <= APPLICATIONS_MAX);
}
