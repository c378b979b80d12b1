//! Enrolment (`join.proto`), and the certificates that renewal shares with it. Whether DER is a certificate at all is for
//! whoever parses it; here it is only bounded.

use prost::bytes::Bytes;
use uuid::Uuid;

use super::{
    FrameError,
    field::{self, clip, id, invalid, name, text},
};
use crate::{
    frame::{CERTIFICATE_BYTES_MAX, CHAIN_MAX, DETAIL_BYTES_MAX, Issued, Join, NAME_BYTES_MAX, Refusal, Refused, Role},
    proto,
};

/// Longest id and longest secret of a token.
const TOKEN_BYTES_MAX: usize = 128;
/// Longest domain name (RFC 1035, 2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;

impl From<&Join> for proto::Join {
    fn from(j: &Join) -> Self {
        Self {
            token_id: j.token_id.clone(),
            secret: Bytes::copy_from_slice(&j.secret),
            id: Bytes::copy_from_slice(j.id.as_bytes()),
            csr: Bytes::copy_from_slice(&j.csr),
            role: proto::Role::from(j.role).into(),
            name: j.name.clone(),
            wall_ms: j.wall_ms,
        }
    }
}

/// A role that is not known here cannot be given, so it is the one number that refuses a frame.
pub(super) fn role(n: i32, field: &'static str) -> Result<Role, FrameError> {
    match proto::Role::try_from(n) {
        Ok(proto::Role::Agent) => Ok(Role::Agent),
        Ok(proto::Role::Server) => Ok(Role::Server),
        Ok(proto::Role::Unspecified) => Err(invalid(field, "missing")),
        Err(_) => Err(invalid(field, "not known here")),
    }
}

impl TryFrom<proto::Join> for Join {
    type Error = FrameError;

    fn try_from(j: proto::Join) -> Result<Self, FrameError> {
        Ok(Self {
            token_id: name(j.token_id, TOKEN_BYTES_MAX, "join.token_id")?,
            secret: bounded(&j.secret, TOKEN_BYTES_MAX, "join.secret")?,
            id: Uuid::from_bytes(id(&j.id, "join.id")?),
            csr: certificate(&j.csr, "join.csr")?,
            role: role(j.role, "join.role")?,
            name: text(j.name, NAME_BYTES_MAX, "join.name")?,
            wall_ms: j.wall_ms,
        })
    }
}

impl From<Role> for proto::Role {
    fn from(r: Role) -> Self {
        match r {
            Role::Agent => Self::Agent,
            Role::Server => Self::Server,
        }
    }
}

impl From<&Issued> for proto::Issued {
    fn from(i: &Issued) -> Self {
        Self {
            chain: i.chain.iter().map(|c| Bytes::copy_from_slice(c)).collect(),
            root: Bytes::copy_from_slice(&i.root),
            domain: i.domain.clone(),
        }
    }
}

impl TryFrom<proto::Issued> for Issued {
    type Error = FrameError;

    fn try_from(i: proto::Issued) -> Result<Self, FrameError> {
        if i.chain.is_empty() {
            return Err(invalid("issued.chain", "missing"));
        }
        Ok(Self {
            chain: i.chain.iter().map(|c| certificate(c, "issued.chain")).collect::<Result<_, _>>()?,
            root: certificate(&i.root, "issued.root")?,
            domain: name(i.domain, DOMAIN_BYTES_MAX, "issued.domain")?,
        })
    }
}

/// Refuses a chain that is too long before it is decoded.
pub(super) fn count(issued: &[u8]) -> Result<(), FrameError> {
    field::count(issued, &[(1, CHAIN_MAX, "issued.chain")])
}

/// DER of a certificate or of a request for one: 1 to [`CERTIFICATE_BYTES_MAX`] bytes.
pub(super) fn certificate(der: &[u8], field: &'static str) -> Result<Vec<u8>, FrameError> {
    bounded(der, CERTIFICATE_BYTES_MAX, field)
}

fn bounded(bytes: &[u8], max: usize, field: &'static str) -> Result<Vec<u8>, FrameError> {
    match bytes.len() {
        0 => Err(invalid(field, "missing")),
        n if n > max => Err(invalid(field, "too long")),
        _ => Ok(bytes.to_vec()),
    }
}

impl From<&Refused> for proto::Refused {
    fn from(r: &Refused) -> Self {
        Self { code: proto::Refusal::from(r.code).into(), detail: clip(&r.detail, DETAIL_BYTES_MAX) }
    }
}

impl TryFrom<proto::Refused> for Refused {
    type Error = FrameError;

    fn try_from(r: proto::Refused) -> Result<Self, FrameError> {
        Ok(Self { code: refusal(r.code)?, detail: text(r.detail, DETAIL_BYTES_MAX, "refused.detail")? })
    }
}

impl From<Refusal> for proto::Refusal {
    fn from(r: Refusal) -> Self {
        match r {
            Refusal::TokenUnknown => Self::TokenUnknown,
            Refusal::TokenSecret => Self::TokenSecret,
            Refusal::TokenUsedUp => Self::TokenUsedUp,
            Refusal::TokenExpired => Self::TokenExpired,
            Refusal::TokenRevoked => Self::TokenRevoked,
            Refusal::TokenRole => Self::TokenRole,
            Refusal::IdTaken => Self::IdTaken,
            Refusal::Csr => Self::Csr,
            Refusal::Expired => Self::Expired,
            Refusal::Busy => Self::Busy,
            Refusal::Protocol => Self::Protocol,
        }
    }
}

/// A code of a newer version becomes `Protocol`; the detail tells people why.
fn refusal(n: i32) -> Result<Refusal, FrameError> {
    Ok(match proto::Refusal::try_from(n) {
        Ok(proto::Refusal::Unspecified) => return Err(invalid("refused.code", "missing")),
        Ok(proto::Refusal::TokenUnknown) => Refusal::TokenUnknown,
        Ok(proto::Refusal::TokenSecret) => Refusal::TokenSecret,
        Ok(proto::Refusal::TokenUsedUp) => Refusal::TokenUsedUp,
        Ok(proto::Refusal::TokenExpired) => Refusal::TokenExpired,
        Ok(proto::Refusal::TokenRevoked) => Refusal::TokenRevoked,
        Ok(proto::Refusal::TokenRole) => Refusal::TokenRole,
        Ok(proto::Refusal::IdTaken) => Refusal::IdTaken,
        Ok(proto::Refusal::Csr) => Refusal::Csr,
        Ok(proto::Refusal::Expired) => Refusal::Expired,
        Ok(proto::Refusal::Busy) => Refusal::Busy,
        Ok(proto::Refusal::Protocol) | Err(_) => Refusal::Protocol,
    })
}
