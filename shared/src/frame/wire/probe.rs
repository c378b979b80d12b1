//! How a peer is right now: what servers ask each other, and a home its agents (`sibling.proto`).

use super::{
    FrameError,
    field::{self, clip, id, invalid, text},
    home, join,
    peer::{known_status, rejection},
    sibling::raw,
    subscribe::{self, bytes},
};
use crate::{
    frame::{Check, Checked, DETAIL_BYTES_MAX, FINDINGS_MAX, Finding, HOPS_MAX, Probe, ProbeAck, Rejected, Role},
    id::{Correlator, PeerId},
    proto,
    record::{Stage, Stages},
};

/// Refuses a list that is too long before it is decoded.
pub(super) fn count_probe_ack(ack: &[u8]) -> Result<(), FrameError> {
    field::count(ack, &[(1, FINDINGS_MAX, "probe_ack.findings")])
}

fn short(bytes: &[u8], field: &'static str) -> Result<Correlator, FrameError> {
    id(bytes, field).map(Correlator::of_uuid)
}

impl From<&Probe> for proto::Probe {
    fn from(p: &Probe) -> Self {
        Self { peer: bytes(p.peer), correlator: raw(&p.correlator.trace), within_ms: p.within_ms, hops: p.hops }
    }
}

impl TryFrom<proto::Probe> for Probe {
    type Error = FrameError;

    fn try_from(p: proto::Probe) -> Result<Self, FrameError> {
        if p.hops > HOPS_MAX {
            return Err(invalid("probe.hops", "too many"));
        }
        Ok(Self {
            peer: PeerId::from_bytes(id(&p.peer, "probe.peer")?),
            correlator: short(&p.correlator, "probe.correlator")?,
            within_ms: p.within_ms,
            hops: p.hops,
        })
    }
}

impl From<&ProbeAck> for proto::ProbeAck {
    fn from(ProbeAck(verdict): &ProbeAck) -> Self {
        match verdict {
            Ok(findings) => Self { findings: findings.iter().map(Into::into).collect(), ..Self::default() },
            Err(Rejected { code, detail }) => Self {
                findings: Vec::new(),
                rejection: proto::Rejection::from(*code).into(),
                detail: clip(detail, DETAIL_BYTES_MAX),
            },
        }
    }
}

impl TryFrom<proto::ProbeAck> for ProbeAck {
    type Error = FrameError;

    fn try_from(a: proto::ProbeAck) -> Result<Self, FrameError> {
        let detail = text(a.detail, DETAIL_BYTES_MAX, "probe_ack.detail")?;
        Ok(Self(match rejection(a.rejection) {
            Some(code) => Err(Rejected { code, detail }),
            None => Ok(a.findings.iter().map(TryInto::try_into).collect::<Result<_, _>>()?),
        }))
    }
}

impl From<&Finding> for proto::Finding {
    fn from(f: &Finding) -> Self {
        Self {
            by: raw(f.by.as_bytes()),
            by_role: proto::Role::from(f.by_role).into(),
            outcome: proto::Outcome::from(f.outcome).into(),
            reason: f.reason.map_or(proto::Reason::Unspecified, Into::into).into(),
            total_ns: f.total_ns,
            queued_ns: f.stages.get(Stage::Queued),
            network_ns: f.stages.get(Stage::Network),
            remote_hold_ns: f.stages.get(Stage::RemoteHold),
            local_wait_ns: f.stages.get(Stage::LocalWait),
            status: f.status.map_or(proto::Status::Unspecified, Into::into).into(),
        }
    }
}

impl TryFrom<&proto::Finding> for Finding {
    type Error = FrameError;

    fn try_from(f: &proto::Finding) -> Result<Self, FrameError> {
        let (outcome, reason) = home::end((f.outcome, "finding.outcome"), (f.reason, "finding.reason"))?;
        let mut stages = Stages::default();
        for (stage, ns) in [
            (Stage::Queued, f.queued_ns),
            (Stage::Network, f.network_ns),
            (Stage::RemoteHold, f.remote_hold_ns),
            (Stage::LocalWait, f.local_wait_ns),
        ] {
            if let Some(ns) = ns {
                stages.set(stage, ns);
            }
        }
        Ok(Self {
            by: uuid::Uuid::from_bytes(id(&f.by, "finding.by")?),
            by_role: by_role(f.by_role)?,
            outcome,
            reason,
            total_ns: f.total_ns,
            stages,
            status: known_status(f.status),
        })
    }
}

/// A role of a newer version becomes agent: a witness, whose word counts least.
fn by_role(n: i32) -> Result<Role, FrameError> {
    if proto::Role::try_from(n).is_err() { Ok(Role::Agent) } else { join::role(n, "finding.by_role") }
}

impl From<&Check> for proto::Check {
    fn from(c: &Check) -> Self {
        Self { correlator: raw(&c.correlator.trace), peer: bytes(c.peer), within_ms: c.within_ms }
    }
}

impl TryFrom<proto::Check> for Check {
    type Error = FrameError;

    fn try_from(c: proto::Check) -> Result<Self, FrameError> {
        Ok(Self {
            correlator: short(&c.correlator, "check.correlator")?,
            peer: subscribe::peer(&c.peer, "check.peer")?,
            within_ms: c.within_ms,
        })
    }
}

impl From<&Checked> for proto::Checked {
    fn from(c: &Checked) -> Self {
        Self { correlator: raw(&c.correlator.trace), finding: Some((&c.finding).into()) }
    }
}

impl TryFrom<proto::Checked> for Checked {
    type Error = FrameError;

    fn try_from(c: proto::Checked) -> Result<Self, FrameError> {
        let finding = c.finding.as_ref().ok_or(invalid("checked.finding", "missing"))?;
        Ok(Self { correlator: short(&c.correlator, "checked.correlator")?, finding: finding.try_into()? })
    }
}
