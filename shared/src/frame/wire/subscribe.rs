//! Subscriptions and what is told on them (`subscribe.proto`).

use prost::bytes::Bytes;

use super::{
    FrameError,
    field::{clip, id, invalid, text},
    peer::{known_liveness, rejection},
};
use crate::{
    frame::{DETAIL_BYTES_MAX, News, Notify, NotifyAck, Rejected, SubscribeAck},
    id::{Correlator, Order, PeerId},
    proto,
    status::Liveness,
};

pub(super) fn peer(bytes: &[u8], field: &'static str) -> Result<PeerId, FrameError> {
    id(bytes, field).map(PeerId::from_bytes)
}

pub(super) fn bytes(peer: PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

/// A correlator that may be left out.
fn correlator(bytes: &[u8], field: &'static str) -> Result<Option<Correlator>, FrameError> {
    if bytes.is_empty() { Ok(None) } else { id(bytes, field).map(|trace| Some(Correlator::of_uuid(trace))) }
}

fn trace(correlator: Option<&Correlator>) -> Bytes {
    correlator.map_or_else(Bytes::new, |c| Bytes::copy_from_slice(&c.trace))
}

impl From<&SubscribeAck> for proto::SubscribeAck {
    fn from(SubscribeAck(verdict): &SubscribeAck) -> Self {
        match verdict {
            Ok(news) => Self { news: news.as_ref().map(Into::into), ..Self::default() },
            Err(Rejected { code, detail }) => Self {
                rejection: proto::Rejection::from(*code).into(),
                detail: clip(detail, DETAIL_BYTES_MAX),
                news: None,
            },
        }
    }
}

impl TryFrom<proto::SubscribeAck> for SubscribeAck {
    type Error = FrameError;

    fn try_from(a: proto::SubscribeAck) -> Result<Self, FrameError> {
        let detail = text(a.detail, DETAIL_BYTES_MAX, "subscribe_ack.detail")?;
        Ok(Self(match rejection(a.rejection) {
            Some(code) => Err(Rejected { code, detail }),
            None => Ok(a.news.map(TryInto::try_into).transpose()?),
        }))
    }
}

impl From<&News> for proto::News {
    fn from(n: &News) -> Self {
        let Order { epoch, attach, version } = n.order;
        Self {
            peer: bytes(n.peer),
            order: Some(proto::Order { epoch, attach, version }),
            presence: n.presence.as_ref().map(Into::into),
            liveness: n.liveness.map_or(proto::Liveness::Unspecified, Into::into).into(),
            age_ms: n.age_ms,
        }
    }
}

/// A liveness of a newer version becomes overdue, as in an entry.
impl TryFrom<proto::News> for News {
    type Error = FrameError;

    fn try_from(n: proto::News) -> Result<Self, FrameError> {
        let proto::Order { epoch, attach, version } = n.order.ok_or(invalid("news.order", "missing"))?;
        Ok(Self {
            peer: peer(&n.peer, "news.peer")?,
            order: Order { epoch, attach, version },
            presence: n.presence.map(TryInto::try_into).transpose()?,
            liveness: (n.liveness != 0).then(|| known_liveness(n.liveness).unwrap_or(Liveness::Overdue)),
            age_ms: n.age_ms,
        })
    }
}

impl From<&Notify> for proto::Notify {
    fn from(n: &Notify) -> Self {
        Self { number: n.number, news: Some((&n.news).into()), correlator: trace(n.correlator.as_ref()) }
    }
}

impl TryFrom<proto::Notify> for Notify {
    type Error = FrameError;

    fn try_from(n: proto::Notify) -> Result<Self, FrameError> {
        Ok(Self {
            number: n.number,
            news: n.news.ok_or(invalid("notify.news", "missing"))?.try_into()?,
            correlator: correlator(&n.correlator, "notify.correlator")?,
        })
    }
}

impl From<&NotifyAck> for proto::NotifyAck {
    fn from(a: &NotifyAck) -> Self {
        Self { peer: bytes(a.peer), number: a.number, hold_ns: a.hold_ns, correlator: trace(a.correlator.as_ref()) }
    }
}

impl TryFrom<proto::NotifyAck> for NotifyAck {
    type Error = FrameError;

    fn try_from(a: proto::NotifyAck) -> Result<Self, FrameError> {
        Ok(Self {
            peer: peer(&a.peer, "notify_ack.peer")?,
            number: a.number,
            hold_ns: a.hold_ns,
            correlator: correlator(&a.correlator, "notify_ack.correlator")?,
        })
    }
}
