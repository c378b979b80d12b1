//! Bytes to frames and back. The one place that knows `proto/`: whatever [`decode`] returns is within the bounds of
//! [`super`], and whatever [`encode`] is given within them can be read back.
//!
//! So that a version and its neighbours understand each other, a reader
//! - skips fields that it does not know, and answers a frame kind that it does not know with its tag;
//! - takes an enum's number that it does not know for the one of its own that claims least: the functions in `peer`,
//!   `home` and `join` say which. It never refuses a frame for it: a pong with a status of tomorrow is still an answer;
//! - refuses what no version sends: ids of another length, a required field left out, sums that cannot be.
//!
//! Text comes from strangers and ends in terminals, logs and label values: it is bounded in bytes, and stripped of
//! characters that steer instead of show. The length that a frame has before it on a stream is read by whoever reads the stream.

mod field;
mod home;
mod join;
mod peer;
mod probe;
mod roster;
mod sibling;
mod subscribe;

use prost::{
    Message,
    bytes::{BufMut, Bytes},
};

use super::{Frame, FrameError};
use crate::proto::{self, frame::Body};
pub use field::steers;
use field::{fields, invalid};
pub use sibling::{decode_lot, encode_lot};
pub(super) use sibling::{lot_liveness, lot_standing, profile_overlays};

/// Tags of the kinds that this version knows, as in `frame.proto`.
mod tag {
    pub(super) const PING: u32 = 1;
    pub(super) const PONG: u32 = 2;
    pub(super) const HELLO: u32 = 3;
    pub(super) const HELLO_ACK: u32 = 4;
    pub(super) const GOODBYE: u32 = 5;
    pub(super) const FETCH: u32 = 6;
    pub(super) const FETCH_ACK: u32 = 7;
    pub(super) const SUBSCRIBE: u32 = 8;
    pub(super) const SUBSCRIBE_ACK: u32 = 9;
    pub(super) const UNSUBSCRIBE: u32 = 10;
    pub(super) const NOTIFY: u32 = 11;
    pub(super) const NOTIFY_ACK: u32 = 12;
    pub(super) const REPORT: u32 = 16;
    pub(super) const REPORT_ACK: u32 = 17;
    pub(super) const RENEW: u32 = 18;
    pub(super) const ROSTER: u32 = 19;
    pub(super) const SERVERS: u32 = 20;
    pub(super) const MOVE: u32 = 21;
    pub(super) const CHECK: u32 = 22;
    pub(super) const CHECKED: u32 = 23;
    pub(super) const JOIN: u32 = 24;
    pub(super) const ISSUED: u32 = 25;
    pub(super) const REFUSED: u32 = 26;
    pub(super) const GOSSIP: u32 = 40;
    pub(super) const FOLLOW: u32 = 41;
    pub(super) const DELTAS: u32 = 42;
    pub(super) const HELD: u32 = 43;
    pub(super) const PROBE: u32 = 44;
    pub(super) const PROBE_ACK: u32 = 45;
    pub(super) const HOME_LOST: u32 = 46;
    pub(super) const HOME_LOST_ACK: u32 = 47;

    pub(super) const fn is_known(tag: u32) -> bool {
        matches!(tag, PING..=NOTIFY_ACK | REPORT..=REFUSED | GOSSIP..=HOME_LOST_ACK)
    }
}

/// The bytes of a frame: a datagram as it is, or what stands behind its length on a stream.
pub fn encode(frame: &Frame) -> Vec<u8> {
    message(frame).encode_to_vec()
}

/// The bytes of a frame behind their length, a varint: as on a stream.
pub fn encode_delimited(frame: &Frame) -> Vec<u8> {
    message(frame).encode_length_delimited_to_vec()
}

/// Appends the bytes of a frame to `out`, a buffer that grows.
///
/// # Panics
/// If `out` is of a fixed size and too small.
pub fn encode_into(frame: &Frame, out: &mut impl BufMut) {
    message(frame).encode(out).expect("a buffer that grows");
}

/// Reads one frame from bytes of a stranger, at most `max` of them: [`super::DATAGRAM_BYTES_MAX`] or
/// [`super::STREAM_BYTES_MAX`].
///
/// # Errors
/// All of [`FrameError`]; the length is looked at first, and a frame's lists are counted before room is made for them.
pub fn decode(bytes: &[u8], max: usize) -> Result<Frame, FrameError> {
    if bytes.len() > max {
        return Err(FrameError::Oversized { bytes: bytes.len() as u64, max });
    }
    let (tag, body) = body(bytes)?;
    Ok(match tag {
        tag::PING => Frame::Ping(proto::Ping::decode(body)?.try_into()?),
        tag::PONG => Frame::Pong(proto::Pong::decode(body)?.try_into()?),
        tag::HELLO => {
            peer::count_hello(body)?;
            Frame::Hello(proto::Hello::decode(body)?.try_into()?)
        }
        tag::HELLO_ACK => {
            peer::count_hello_ack(body)?;
            Frame::HelloAck(proto::HelloAck::decode(body)?.try_into()?)
        }
        tag::GOODBYE => proto::Goodbye::decode(body).map(|_| Frame::Goodbye)?,
        tag::FETCH => Frame::Fetch(peer::fetch(&proto::Fetch::decode(body)?)?),
        tag::FETCH_ACK => {
            peer::count_fetch_ack(body)?;
            Frame::FetchAck(peer::fetch_ack(proto::FetchAck::decode(body)?)?)
        }
        tag::SUBSCRIBE => Frame::Subscribe(subscribe::peer(&proto::Subscribe::decode(body)?.peer, "subscribe.peer")?),
        tag::SUBSCRIBE_ACK => Frame::SubscribeAck(proto::SubscribeAck::decode(body)?.try_into()?),
        tag::UNSUBSCRIBE => {
            Frame::Unsubscribe(subscribe::peer(&proto::Unsubscribe::decode(body)?.peer, "unsubscribe.peer")?)
        }
        tag::NOTIFY => Frame::Notify(proto::Notify::decode(body)?.try_into()?),
        tag::NOTIFY_ACK => Frame::NotifyAck(proto::NotifyAck::decode(body)?.try_into()?),
        tag::REPORT => {
            home::count(body)?;
            // Its many ids point into one copy.
            Frame::Report(proto::Report::decode(Bytes::copy_from_slice(body))?.try_into()?)
        }
        tag::REPORT_ACK => Frame::ReportAck(proto::ReportAck::decode(body)?.into()),
        tag::RENEW => Frame::Renew(join::certificate(&proto::Renew::decode(body)?.csr, "renew.csr")?),
        tag::ROSTER => {
            roster::count(body)?;
            Frame::Roster(proto::Roster::decode(body)?.try_into()?)
        }
        tag::SERVERS => {
            sibling::count_servers(body)?;
            Frame::Servers(sibling::servers(proto::Servers::decode(body)?)?)
        }
        tag::MOVE => Frame::Move(proto::Move::decode(body)?.try_into()?),
        tag::CHECK => Frame::Check(proto::Check::decode(body)?.try_into()?),
        tag::CHECKED => Frame::Checked(proto::Checked::decode(body)?.try_into()?),
        tag::GOSSIP => Frame::Gossip(sibling::gossip(&proto::Gossip::decode(body)?)?),
        tag::FOLLOW => {
            sibling::count_follow(body)?;
            Frame::Follow(proto::Follow::decode(body)?.try_into()?)
        }
        tag::DELTAS => {
            sibling::count_deltas(body)?;
            // Its many lots point into one copy.
            Frame::Deltas(proto::Deltas::decode(Bytes::copy_from_slice(body))?.try_into()?)
        }
        tag::HELD => Frame::Held(proto::Held::decode(body)?.into()),
        tag::PROBE => Frame::Probe(proto::Probe::decode(body)?.try_into()?),
        tag::PROBE_ACK => {
            probe::count_probe_ack(body)?;
            Frame::ProbeAck(proto::ProbeAck::decode(body)?.try_into()?)
        }
        tag::HOME_LOST => Frame::HomeLost(proto::HomeLost::decode(body)?.try_into()?),
        tag::HOME_LOST_ACK => Frame::HomeLostAck(proto::HomeLostAck::decode(body)?.asks),
        tag::JOIN => Frame::Join(proto::Join::decode(body)?.try_into()?),
        tag::ISSUED => {
            join::count(body)?;
            Frame::Issued(proto::Issued::decode(body)?.try_into()?)
        }
        tag::REFUSED => Frame::Refused(proto::Refused::decode(body)?.try_into()?),
        tag => return Err(FrameError::UnknownKind { tag }),
    })
}

/// Which kind a frame is, and that kind's bytes. Fields beside the body are of newer versions, and skipped.
fn body(frame: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    let (mut known, mut unknown) = (None, None);
    for field in fields(frame) {
        let field = field?;
        if !tag::is_known(field.tag) {
            unknown.get_or_insert(field.tag);
        } else if known.replace((field.tag, field.message()?)).is_some() {
            return Err(invalid("frame.body", "given twice"));
        }
    }
    match (known, unknown) {
        (Some(body), _) => Ok(body),
        (None, Some(tag)) => Err(FrameError::UnknownKind { tag }),
        (None, None) => Err(invalid("frame.body", "missing")),
    }
}

fn message(frame: &Frame) -> proto::Frame {
    let body = match frame {
        Frame::Ping(ping) => Body::Ping(ping.into()),
        Frame::Pong(pong) => Body::Pong(pong.into()),
        Frame::Hello(hello) => Body::Hello(hello.into()),
        Frame::HelloAck(ack) => Body::HelloAck(ack.into()),
        Frame::Goodbye => Body::Goodbye(proto::Goodbye {}),
        Frame::Fetch(peer) => Body::Fetch(proto::Fetch { peer: Bytes::copy_from_slice(peer.as_bytes()) }),
        Frame::FetchAck(entry) => Body::FetchAck(proto::FetchAck { entry: entry.as_deref().map(Into::into) }),
        Frame::Subscribe(peer) => Body::Subscribe(proto::Subscribe { peer: subscribe::bytes(*peer) }),
        Frame::SubscribeAck(ack) => Body::SubscribeAck(ack.into()),
        Frame::Unsubscribe(peer) => Body::Unsubscribe(proto::Unsubscribe { peer: subscribe::bytes(*peer) }),
        Frame::Notify(notify) => Body::Notify(notify.into()),
        Frame::NotifyAck(ack) => Body::NotifyAck(ack.into()),
        Frame::Report(report) => Body::Report(report.into()),
        Frame::ReportAck(ack) => Body::ReportAck(ack.into()),
        Frame::Renew(csr) => Body::Renew(proto::Renew { csr: Bytes::copy_from_slice(csr) }),
        Frame::Roster(roster) => Body::Roster(roster.into()),
        Frame::Servers(servers) => Body::Servers(proto::Servers { servers: servers.iter().map(Into::into).collect() }),
        Frame::Move(to) => Body::Move(to.into()),
        Frame::Check(check) => Body::Check(check.into()),
        Frame::Checked(checked) => Body::Checked(checked.into()),
        Frame::Gossip(swim) => Body::Gossip(proto::Gossip { swim: Bytes::copy_from_slice(swim) }),
        Frame::Follow(follow) => Body::Follow(follow.into()),
        Frame::Deltas(deltas) => Body::Deltas(deltas.into()),
        Frame::Held(held) => Body::Held(held.into()),
        Frame::Probe(probe) => Body::Probe(probe.into()),
        Frame::ProbeAck(ack) => Body::ProbeAck(ack.into()),
        Frame::HomeLost(lost) => Body::HomeLost(lost.into()),
        Frame::HomeLostAck(asks) => Body::HomeLostAck(proto::HomeLostAck { asks: *asks }),
        Frame::Join(join) => Body::Join(join.into()),
        Frame::Issued(issued) => Body::Issued(issued.into()),
        Frame::Refused(refused) => Body::Refused(refused.into()),
    };
    proto::Frame { body: Some(body) }
}

impl From<prost::DecodeError> for FrameError {
    fn from(e: prost::DecodeError) -> Self {
        FrameError::Malformed(e.to_string())
    }
}
