//! What an agent reports to its home (`home.proto`). Records name their kind by its place in a list of the batch.

use prost::bytes::Bytes;
use uuid::Uuid;

use super::{
    FrameError,
    field::{self, Arena, id, invalid},
    peer::{known_liveness, known_status},
};
use crate::{
    frame::{CHANGES_MAX, KINDS_MAX, RECORDS_MAX, Report, ReportAck, VIEWS_MAX, View},
    id::{Correlator, PeerId},
    proto,
    record::{Kind, Ledger, Outcome, Reason, Record, Stage, Stages},
};

/// More transactions than one agent closes in its life, and few enough that a million such totals still add up in 64 bits.
const TOTAL_MAX: u64 = 1 << 44;

/// Refuses lists that are too long before they are decoded.
pub(super) fn count(report: &[u8]) -> Result<(), FrameError> {
    field::count(
        report,
        &[
            (2, KINDS_MAX, "report.totals"),
            (3, CHANGES_MAX, "report.changes"),
            (4, VIEWS_MAX, "report.views"),
            (5, KINDS_MAX, "report.kinds"),
            (6, RECORDS_MAX, "report.records"),
        ],
    )
}

impl From<&Report> for proto::Report {
    fn from(r: &Report) -> Self {
        let mut ids = Arena::with_capacity(r.records.len() * (16 + 24) + r.views.len() * 16);
        let mut kinds: Vec<&Kind> = Vec::new();
        let records = r.records.iter().map(|record| {
            let kind = kinds.iter().position(|k| **k == record.kind).unwrap_or_else(|| {
                kinds.push(&record.kind);
                kinds.len() - 1
            });
            encode_record(record, kind, &mut ids)
        });
        let records = records.collect();
        Self {
            batch: r.batch,
            totals: r.totals.iter().map(|(kind, ledger)| encode_totals(kind, ledger)).collect(),
            changes: r.changes.iter().map(Into::into).collect(),
            views: r.views.iter().map(|v| encode_view(v, &mut ids)).collect(),
            kinds: kinds.into_iter().map(ToString::to_string).collect(),
            records,
            shed: r.shed,
        }
    }
}

impl TryFrom<proto::Report> for Report {
    type Error = FrameError;

    fn try_from(r: proto::Report) -> Result<Self, FrameError> {
        if r.batch == 0 {
            return Err(invalid("report.batch", "missing"));
        }
        let kinds = r.kinds.iter().map(|k| kind(k, "report.kinds")).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            batch: r.batch,
            totals: r.totals.iter().map(totals).collect::<Result<_, _>>()?,
            changes: r.changes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            views: r.views.iter().map(view).collect::<Result<_, _>>()?,
            records: r.records.iter().map(|x| record(x, &kinds)).collect::<Result<_, _>>()?,
            shed: r.shed,
        })
    }
}

impl From<&ReportAck> for proto::ReportAck {
    fn from(a: &ReportAck) -> Self {
        Self { batch: a.batch, pace_ms: a.pace_ms, came: a.came }
    }
}

impl From<proto::ReportAck> for ReportAck {
    fn from(a: proto::ReportAck) -> Self {
        Self { batch: a.batch, pace_ms: a.pace_ms, came: a.came }
    }
}

pub(super) fn kind(name: &str, field: &'static str) -> Result<Kind, FrameError> {
    Kind::parse(name).ok_or(invalid(field, "not 1 to 64 of a-z 0-9 . _ -"))
}

pub(super) fn encode_totals(kind: &Kind, l: &Ledger) -> proto::Totals {
    proto::Totals { kind: kind.to_string(), ..encode_ledger(l) }
}

/// Without its kind.
pub(super) fn encode_ledger(l: &Ledger) -> proto::Totals {
    proto::Totals {
        kind: String::new(),
        opened: l.opened,
        good: l.good,
        aborted: l.aborted,
        failed: l.failed,
        unknown: l.unknown,
        late: l.late,
        duplicate: l.duplicate,
    }
}

fn totals(t: &proto::Totals) -> Result<(Kind, Ledger), FrameError> {
    let ledger = ledger(t)?;
    Ok((kind(&t.kind, "totals.kind")?, ledger))
}

/// In flight is what the ended ones leave of the opened.
pub(super) fn ledger(t: &proto::Totals) -> Result<Ledger, FrameError> {
    let &proto::Totals { opened, good, aborted, failed, unknown, late, duplicate, .. } = t;
    if [opened, good, aborted, failed, unknown, late, duplicate].into_iter().any(|n| n > TOTAL_MAX) {
        return Err(invalid("totals", "over 2^44"));
    }
    let in_flight = opened
        .checked_sub(good + aborted + failed + unknown)
        .ok_or(invalid("totals.opened", "fewer than have ended"))?;
    Ok(Ledger { opened, good, aborted, failed, unknown, in_flight, late, duplicate })
}

fn encode_view(v: &View, ids: &mut Arena) -> proto::View {
    proto::View {
        peer: ids.put(&[v.peer.as_bytes()]),
        liveness: v.liveness.map_or(proto::Liveness::Unspecified, Into::into).into(),
        status: v.status.map_or(proto::Status::Unspecified, Into::into).into(),
        missed: v.missed,
        hears: v.hears,
        heard: v.heard,
        dropped: v.dropped,
    }
}

/// A liveness or status of a newer version counts as none.
fn view(v: &proto::View) -> Result<View, FrameError> {
    Ok(View {
        peer: PeerId::from_bytes(id(&v.peer, "view.peer")?),
        liveness: known_liveness(v.liveness),
        status: known_status(v.status),
        missed: v.missed,
        hears: v.hears,
        heard: v.heard,
        dropped: v.dropped,
    })
}

fn encode_record(r: &Record, kind: usize, ids: &mut Arena) -> proto::Record {
    proto::Record {
        kind: u32::try_from(kind).unwrap_or(u32::MAX),
        target: ids.put(&[r.target.as_bytes()]),
        correlator: encode_correlator(&r.correlator, ids),
        outcome: proto::Outcome::from(r.outcome).into(),
        reason: r.reason.map_or(proto::Reason::Unspecified, Into::into).into(),
        opened_ms: r.opened_ms,
        queued_ns: r.stages.get(Stage::Queued),
        network_ns: r.stages.get(Stage::Network),
        remote_hold_ns: r.stages.get(Stage::RemoteHold),
        local_wait_ns: r.stages.get(Stage::LocalWait),
        run_ns: r.stages.get(Stage::Run),
        blocked_ns: r.stages.get(Stage::Blocked),
        target_status: r.target_status.map_or(proto::Status::Unspecified, Into::into).into(),
        path_rtt_ns: r.path_rtt_ns,
        total_ns: r.total_ns,
    }
}

fn encode_correlator(c: &Correlator, ids: &mut Arena) -> Bytes {
    if c.is_short() { ids.put(&[&c.trace]) } else { ids.put(&[&c.trace, &c.span]) }
}

fn record(r: &proto::Record, kinds: &[Kind]) -> Result<Record, FrameError> {
    let kind =
        usize::try_from(r.kind).ok().and_then(|k| kinds.get(k)).ok_or(invalid("record.kind", "not in report.kinds"))?;
    let (outcome, reason) = end((r.outcome, "record.outcome"), (r.reason, "record.reason"))?;
    Ok(Record {
        kind: kind.clone(),
        target: Uuid::from_bytes(id(&r.target, "record.target")?),
        correlator: correlator(&r.correlator)?,
        outcome,
        reason,
        opened_ms: r.opened_ms,
        total_ns: r.total_ns,
        stages: stages(r),
        target_status: known_status(r.target_status),
        path_rtt_ns: r.path_rtt_ns,
    })
}

fn stages(r: &proto::Record) -> Stages {
    let mut stages = Stages::default();
    for (stage, ns) in [
        (Stage::Queued, r.queued_ns),
        (Stage::Network, r.network_ns),
        (Stage::RemoteHold, r.remote_hold_ns),
        (Stage::LocalWait, r.local_wait_ns),
        (Stage::Run, r.run_ns),
        (Stage::Blocked, r.blocked_ns),
    ] {
        if let Some(ns) = ns {
            stages.set(stage, ns);
        }
    }
    stages
}

fn correlator(bytes: &[u8]) -> Result<Correlator, FrameError> {
    let (trace, span) = bytes.split_at_checked(16).ok_or(invalid("record.correlator", "not 16 or 24 bytes"))?;
    let mut correlator = Correlator::of_uuid(id(trace, "record.correlator")?);
    if !span.is_empty() {
        correlator.span = span.try_into().map_err(|_| invalid("record.correlator", "not 16 or 24 bytes"))?;
    }
    Ok(correlator)
}

/// How a transaction ended, and why, each with the name of its field. An outcome of a newer version becomes unknown, without
/// a reason: what it means to us; a reason of a newer version counts as none.
pub(super) fn end(
    (outcome, of_outcome): (i32, &'static str),
    (reason, of_reason): (i32, &'static str),
) -> Result<(Outcome, Option<Reason>), FrameError> {
    let outcome = match proto::Outcome::try_from(outcome) {
        Ok(proto::Outcome::Unspecified) => return Err(invalid(of_outcome, "missing")),
        Ok(proto::Outcome::Good) => Outcome::Good,
        Ok(proto::Outcome::Aborted) => Outcome::Aborted,
        Ok(proto::Outcome::Failed) => Outcome::Failed,
        Ok(proto::Outcome::Unknown) => Outcome::Unknown,
        Err(_) => return Ok((Outcome::Unknown, None)),
    };
    match known_reason(reason) {
        Some(reason) if reason.outcome() != outcome => Err(invalid(of_reason, "belongs to another outcome")),
        reason => Ok((outcome, reason)),
    }
}

impl From<Outcome> for proto::Outcome {
    fn from(o: Outcome) -> Self {
        match o {
            Outcome::Good => Self::Good,
            Outcome::Aborted => Self::Aborted,
            Outcome::Failed => Self::Failed,
            Outcome::Unknown => Self::Unknown,
        }
    }
}

impl From<Reason> for proto::Reason {
    fn from(r: Reason) -> Self {
        match r {
            Reason::NoAnswer => Self::NoAnswer,
            Reason::NotSent => Self::NotSent,
            Reason::Cancelled => Self::Cancelled,
            Reason::Refused => Self::Refused,
            Reason::Certificate => Self::Certificate,
            Reason::Clock => Self::Clock,
            Reason::Shutdown => Self::Shutdown,
            Reason::Crash => Self::Crash,
            Reason::Stalled => Self::Stalled,
        }
    }
}

/// `None`: not given, or of a newer version.
fn known_reason(n: i32) -> Option<Reason> {
    match proto::Reason::try_from(n).ok()? {
        proto::Reason::Unspecified => None,
        proto::Reason::NoAnswer => Some(Reason::NoAnswer),
        proto::Reason::NotSent => Some(Reason::NotSent),
        proto::Reason::Cancelled => Some(Reason::Cancelled),
        proto::Reason::Refused => Some(Reason::Refused),
        proto::Reason::Certificate => Some(Reason::Certificate),
        proto::Reason::Clock => Some(Reason::Clock),
        proto::Reason::Shutdown => Some(Reason::Shutdown),
        proto::Reason::Crash => Some(Reason::Crash),
        proto::Reason::Stalled => Some(Reason::Stalled),
    }
}
