//! What peers say to each other, and the greeting of every connection (`peer.proto`).

use prost::bytes::Bytes;
use uuid::Uuid;

use super::{
    FrameError,
    field::{self, clip, id, invalid, name, observed, text},
    sibling,
};
use crate::{
    frame::{
        ADDRESSES_MAX, APPLICATIONS_MAX, DETAIL_BYTES_MAX, Entry, Hello, HelloAck, NAME_BYTES_MAX, OVERLAY_BYTES_MAX,
        OVERLAYS_MAX, Ping, Pong, Profile, Rejected, Rejection, SOFTWARE_BYTES_MAX, Terms,
    },
    id::{Correlator, Order, PeerId},
    proto,
    status::{Liveness, NOTE_BYTES_MAX, Presence, Status},
};

impl From<&Ping> for proto::Ping {
    fn from(p: &Ping) -> Self {
        Self { correlator: Bytes::copy_from_slice(&p.correlator.trace) }
    }
}

impl TryFrom<proto::Ping> for Ping {
    type Error = FrameError;

    fn try_from(p: proto::Ping) -> Result<Self, FrameError> {
        Ok(Self { correlator: Correlator::of_uuid(id(&p.correlator, "ping.correlator")?) })
    }
}

impl From<&Pong> for proto::Pong {
    fn from(p: &Pong) -> Self {
        Self {
            correlator: Bytes::copy_from_slice(&p.correlator.trace),
            status: proto::Status::from(p.status).into(),
            hold_ns: p.hold_ns,
            version: p.version,
        }
    }
}

impl TryFrom<proto::Pong> for Pong {
    type Error = FrameError;

    fn try_from(p: proto::Pong) -> Result<Self, FrameError> {
        Ok(Self {
            correlator: Correlator::of_uuid(id(&p.correlator, "pong.correlator")?),
            status: status(p.status, "pong.status")?,
            hold_ns: p.hold_ns,
            version: p.version,
        })
    }
}

/// Refuses a profile with lists that are too long before they are decoded.
pub(super) fn count_hello(hello: &[u8]) -> Result<(), FrameError> {
    count_profile(hello, 6, "hello.profile")?;
    sibling::count_member(hello, 7, "hello.member")
}

/// As [`count_hello`].
pub(super) fn count_hello_ack(hello_ack: &[u8]) -> Result<(), FrameError> {
    sibling::count_member(hello_ack, 9, "hello_ack.member")
}

/// As [`count_hello`].
pub(super) fn count_fetch_ack(fetch_ack: &[u8]) -> Result<(), FrameError> {
    field::only(fetch_ack, 1, "fetch_ack.entry")?.map_or(Ok(()), |entry| count_profile(entry, 3, "entry.profile"))
}

pub(super) fn count_profile(message: &[u8], tag: u32, name: &'static str) -> Result<(), FrameError> {
    let bounds = [
        (2, ADDRESSES_MAX, "profile.addresses"),
        (4, OVERLAYS_MAX, "profile.overlays"),
        (5, APPLICATIONS_MAX, "profile.applications"),
    ];
    field::only(message, tag, name)?.map_or(Ok(()), |profile| field::count(profile, &bounds))
}

impl From<&Hello> for proto::Hello {
    fn from(h: &Hello) -> Self {
        Self {
            software: h.software.clone(),
            epoch: h.epoch,
            capabilities: h.capabilities,
            wall_ms: h.wall_ms,
            attach: h.attach,
            profile: h.profile.as_ref().map(Into::into),
            member: h.member.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Hello> for Hello {
    type Error = FrameError;

    fn try_from(h: proto::Hello) -> Result<Self, FrameError> {
        Ok(Self {
            software: text(h.software, SOFTWARE_BYTES_MAX, "hello.software")?,
            epoch: h.epoch,
            capabilities: h.capabilities,
            wall_ms: h.wall_ms,
            attach: h.attach,
            profile: h.profile.map(TryInto::try_into).transpose()?,
            member: h.member.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&HelloAck> for proto::HelloAck {
    fn from(h: &HelloAck) -> Self {
        let (rejection, detail) = match &h.verdict {
            Ok(()) => (proto::Rejection::Unspecified, String::new()),
            Err(r) => (r.code.into(), clip(&r.detail, DETAIL_BYTES_MAX)),
        };
        Self {
            software: h.software.clone(),
            epoch: h.epoch,
            capabilities: h.capabilities,
            wall_ms: h.wall_ms,
            observed: h.observed.map_or_else(String::new, |a| a.to_string()),
            rejection: rejection.into(),
            detail,
            terms: h.terms.as_ref().map(Into::into),
            member: h.member.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::HelloAck> for HelloAck {
    type Error = FrameError;

    fn try_from(h: proto::HelloAck) -> Result<Self, FrameError> {
        let detail = text(h.detail, DETAIL_BYTES_MAX, "hello_ack.detail")?;
        Ok(Self {
            software: text(h.software, SOFTWARE_BYTES_MAX, "hello_ack.software")?,
            epoch: h.epoch,
            capabilities: h.capabilities,
            wall_ms: h.wall_ms,
            observed: observed(&h.observed, "hello_ack.observed")?,
            verdict: rejection(h.rejection).map_or(Ok(()), |code| Err(Rejected { code, detail })),
            terms: h.terms.map(Into::into),
            member: h.member.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&Terms> for proto::Terms {
    fn from(t: &Terms) -> Self {
        Self { pace_ms: t.pace_ms, gone_after_ms: t.gone_after_ms, applied_batch: t.applied_batch }
    }
}

impl From<proto::Terms> for Terms {
    fn from(t: proto::Terms) -> Self {
        Self { pace_ms: t.pace_ms, gone_after_ms: t.gone_after_ms, applied_batch: t.applied_batch }
    }
}

impl From<&Profile> for proto::Profile {
    fn from(p: &Profile) -> Self {
        Self {
            name: p.name.clone(),
            addresses: p.addresses.iter().map(ToString::to_string).collect(),
            software: p.software.clone(),
            overlays: p.overlays.clone(),
            applications: p.applications.iter().map(ToString::to_string).collect(),
            capabilities: p.capabilities,
            metrics: p.metrics.map(|a| a.to_string()).unwrap_or_default(),
            roster_max: p.roster_max,
        }
    }
}

impl TryFrom<proto::Profile> for Profile {
    type Error = FrameError;

    fn try_from(p: proto::Profile) -> Result<Self, FrameError> {
        let application = |s: &String| Uuid::parse_str(s).map_err(|_| invalid("profile.applications", "not a uuid"));
        Ok(Self {
            name: text(p.name, NAME_BYTES_MAX, "profile.name")?,
            addresses: p.addresses.iter().map(|a| field::address(a, "profile.addresses")).collect::<Result<_, _>>()?,
            software: text(p.software, SOFTWARE_BYTES_MAX, "profile.software")?,
            overlays: p
                .overlays
                .into_iter()
                .map(|o| name(o, OVERLAY_BYTES_MAX, "profile.overlays"))
                .collect::<Result<_, _>>()?,
            applications: p.applications.iter().map(application).collect::<Result<_, _>>()?,
            capabilities: p.capabilities,
            metrics: match field::observed(&p.metrics, "profile.metrics")? {
                Some(address) if address.port() == 0 => return Err(invalid("profile.metrics", "port 0")),
                metrics => metrics,
            },
            roster_max: p.roster_max,
        })
    }
}

impl From<&Presence> for proto::Presence {
    fn from(p: &Presence) -> Self {
        Self {
            status: proto::Status::from(p.status).into(),
            note: p.note.clone().unwrap_or_default(),
            since_ms: p.since_ms,
            version: p.version,
        }
    }
}

impl TryFrom<proto::Presence> for Presence {
    type Error = FrameError;

    fn try_from(p: proto::Presence) -> Result<Self, FrameError> {
        Ok(Self {
            status: status(p.status, "presence.status")?,
            note: Some(text(p.note, NOTE_BYTES_MAX, "presence.note")?).filter(|n| !n.is_empty()),
            since_ms: p.since_ms,
            version: p.version,
        })
    }
}

pub(super) fn fetch(f: &proto::Fetch) -> Result<PeerId, FrameError> {
    id(&f.peer, "fetch.peer").map(PeerId::from_bytes)
}

pub(super) fn fetch_ack(f: proto::FetchAck) -> Result<Option<Box<Entry>>, FrameError> {
    f.entry.map(|e| Entry::try_from(e).map(Box::new)).transpose()
}

impl From<&Entry> for proto::Entry {
    fn from(e: &Entry) -> Self {
        let Order { epoch, attach, version } = e.order;
        Self {
            peer: Bytes::copy_from_slice(e.peer.as_bytes()),
            order: Some(proto::Order { epoch, attach, version }),
            profile: Some((&e.profile).into()),
            presence: Some((&e.presence).into()),
            liveness: proto::Liveness::from(e.liveness).into(),
            age_ms: e.age_ms,
            observed: e.observed.map_or_else(String::new, |a| a.to_string()),
        }
    }
}

/// A liveness of a newer version becomes overdue: neither that it lives is claimed nor that it is gone.
impl TryFrom<proto::Entry> for Entry {
    type Error = FrameError;

    fn try_from(e: proto::Entry) -> Result<Self, FrameError> {
        let proto::Order { epoch, attach, version } = e.order.ok_or(invalid("entry.order", "missing"))?;
        if e.liveness == 0 {
            return Err(invalid("entry.liveness", "missing"));
        }
        Ok(Self {
            peer: PeerId::from_bytes(id(&e.peer, "entry.peer")?),
            order: Order { epoch, attach, version },
            profile: e.profile.ok_or(invalid("entry.profile", "missing"))?.try_into()?,
            presence: e.presence.ok_or(invalid("entry.presence", "missing"))?.try_into()?,
            liveness: known_liveness(e.liveness).unwrap_or(Liveness::Overdue),
            age_ms: e.age_ms,
            observed: observed(&e.observed, "entry.observed")?,
        })
    }
}

impl From<Status> for proto::Status {
    fn from(s: Status) -> Self {
        match s {
            Status::Online => Self::Online,
            Status::Busy => Self::Busy,
            Status::Away => Self::Away,
            Status::Offline => Self::Offline,
        }
    }
}

/// `None`: not given, or of a newer version.
pub(super) fn known_status(n: i32) -> Option<Status> {
    match proto::Status::try_from(n).ok()? {
        proto::Status::Unspecified => None,
        proto::Status::Online => Some(Status::Online),
        proto::Status::Busy => Some(Status::Busy),
        proto::Status::Away => Some(Status::Away),
        proto::Status::Offline => Some(Status::Offline),
    }
}

/// A status that has to be there. One of a newer version becomes online: that a peer is there is all that each of them
/// says, and an answer with one is an answer.
fn status(n: i32, field: &'static str) -> Result<Status, FrameError> {
    if n == 0 { Err(invalid(field, "missing")) } else { Ok(known_status(n).unwrap_or(Status::Online)) }
}

impl From<Liveness> for proto::Liveness {
    fn from(l: Liveness) -> Self {
        match l {
            Liveness::Live => Self::Live,
            Liveness::Overdue => Self::Overdue,
            Liveness::Gone => Self::Gone,
            Liveness::Left => Self::Left,
        }
    }
}

/// `None`: not given, or of a newer version.
pub(super) fn known_liveness(n: i32) -> Option<Liveness> {
    match proto::Liveness::try_from(n).ok()? {
        proto::Liveness::Unspecified => None,
        proto::Liveness::Live => Some(Liveness::Live),
        proto::Liveness::Overdue => Some(Liveness::Overdue),
        proto::Liveness::Gone => Some(Liveness::Gone),
        proto::Liveness::Left => Some(Liveness::Left),
    }
}

impl From<Rejection> for proto::Rejection {
    fn from(r: Rejection) -> Self {
        match r {
            Rejection::Role => Self::Role,
            Rejection::Key => Self::Key,
            Rejection::Epoch => Self::Epoch,
            Rejection::Expired => Self::Expired,
            Rejection::Busy => Self::Busy,
            Rejection::Oneself => Self::Self_,
            Rejection::Protocol => Self::Protocol,
        }
    }
}

/// `None`: accepted. A code of a newer version becomes `Protocol`, for rejected it is; the detail tells people why.
pub(super) fn rejection(n: i32) -> Option<Rejection> {
    match proto::Rejection::try_from(n) {
        Ok(proto::Rejection::Unspecified) => None,
        Ok(proto::Rejection::Role) => Some(Rejection::Role),
        Ok(proto::Rejection::Key) => Some(Rejection::Key),
        Ok(proto::Rejection::Epoch) => Some(Rejection::Epoch),
        Ok(proto::Rejection::Expired) => Some(Rejection::Expired),
        Ok(proto::Rejection::Busy) => Some(Rejection::Busy),
        Ok(proto::Rejection::Self_) => Some(Rejection::Oneself),
        Ok(proto::Rejection::Protocol) | Err(_) => Some(Rejection::Protocol),
    }
}
