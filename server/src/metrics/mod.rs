//! What Prometheus sees. [`CATALOGUE`] lists it; [`Metrics`] counts what happens (held handles on its own recorder) and
//! writes at each scrape what a [`Snapshot`] shows, so that the series of what is gone are gone and a ledger is of one
//! moment.
//!
//! Nothing here decides anything, and nothing here is measured: durations come in as the peers' records have them.

pub mod catalogue;
mod snapshot;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusHandle, PrometheusRecorder};
use pams_shared::{
    catalogue::{counter, histogram, recorder},
    frame::{FrameError, Refusal},
    identity::Expiry,
    record::{Kind, Outcome, Reason, Record, Stage},
    reload::Standing,
    socket::Traffic,
};

pub use catalogue::CATALOGUE;
use catalogue::{
    EVENTS, GOSSIP, HANDSHAKES, JOINS, NOTICES, NOTIFY, PANICS, PROBE, PROBES, PROBES_REFUSED, REASONS, REJECTED,
    RENEWALS, REPLICATION, STAGE, STALENESS, TOLD, TOTAL,
};
pub use snapshot::Snapshot;

use crate::core::{
    Event, Notice, OTHER, What,
    cluster::membership,
    probe::{Caller, ProbeVerdict, Refused},
};

/// Labels of rejected frames beside [`FrameError::LABELS`]: cut off by the end of its stream, well formed but out of place,
/// not there in time, a Hello that was refused, and whatever a newer part of the program calls it.
const REJECTED_ELSE: [&str; 5] = ["truncated", "misplaced", "silent", "hello", OTHER];
/// The result of a request for a certificate that was granted.
const ISSUED: &str = "issued";

/// Why a certificate is refused, as a label.
const REFUSALS: [(Refusal, &str); 11] = [
    (Refusal::TokenUnknown, "token_unknown"),
    (Refusal::TokenSecret, "token_secret"),
    (Refusal::TokenUsedUp, "token_used_up"),
    (Refusal::TokenExpired, "token_expired"),
    (Refusal::TokenRevoked, "token_revoked"),
    (Refusal::TokenRole, "token_role"),
    (Refusal::IdTaken, "id_taken"),
    (Refusal::Csr, "csr"),
    (Refusal::Expired, "expired"),
    (Refusal::Busy, "busy"),
    (Refusal::Protocol, "protocol"),
];
/// From here on [`REFUSALS`] can also be those of a renewal, which needs no token.
const RENEWAL_REFUSALS: usize = 5;

/// How it went with a connection that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Ok,
    /// QUIC or TLS failed, whoever's fault it was.
    Failed,
    /// It took too long.
    Timeout,
    /// TLS is done, but the client showed no certificate where it needs one, or one that is not good here.
    Certificate,
    /// Turned away at once: too many were in their handshake.
    Busy,
}

impl Handshake {
    const ALL: [(Handshake, &'static str); 5] = [
        (Handshake::Ok, "ok"),
        (Handshake::Failed, "failed"),
        (Handshake::Timeout, "timeout"),
        (Handshake::Certificate, "certificate"),
        (Handshake::Busy, "busy"),
    ];
}

/// One server's metrics. Share it in an `Arc`; all methods take `&self` and cost well under a microsecond but for
/// [`Metrics::render`] and [`Metrics::upkeep`].
#[derive(Debug)]
pub struct Metrics {
    held: Held,
    scrape: PrometheusHandle,
    certificates: Mutex<Option<Expiry>>,
    per_peer_max: AtomicUsize,
    reload: Mutex<Option<(bool, u64)>>,
}

/// What a scrape shows beside the engine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras {
    /// Wall clock at the start, ms since 1970.
    pub started_ms: u64,
    pub certificates: Option<Expiry>,
    pub traffic: Traffic,
    /// Whether the configuration was good when it was read last, and when it last was, ms since 1970.
    pub reload: Option<(bool, u64)>,
}

struct Held {
    notices: Counters,
    gossip: Counters,
    events: Counters,
    joins: Counters,
    renewals: Counters,
    handshakes: Counters,
    rejected: Counters,
    panics: Counter,
    probes: Vec<(ProbeVerdict, Counters)>,
    probes_refused: Counters,
    probe: Histogram,
    notify: Histogram,
    replication: Histogram,
    staleness: Histogram,
    told_least: Histogram,
    told_most: Histogram,
    pings: KindHeld,
    notified: KindHeld,
    others: KindHeld,
}

/// The handles of one kind.
struct KindHeld {
    total: Histogram,
    stages: Vec<(Stage, Histogram)>,
    reasons: Vec<(Reason, Counter)>,
}

/// A counter for each value of one label.
struct Counters(Vec<(&'static str, Counter)>);

impl Metrics {
    /// `per_peer_max` peers get series of their own.
    pub fn new(per_peer_max: usize) -> Result<Self, BuildError> {
        let recorder = recorder(CATALOGUE)?;
        Ok(Self {
            held: Held::new(&recorder),
            scrape: recorder.handle(),
            certificates: Mutex::default(),
            per_peer_max: per_peer_max.into(),
            reload: Mutex::default(),
        })
    }

    /// A peer's transaction, counted once.
    pub fn record(&self, record: &Record) {
        let held = self.held.of(&record.kind);
        if let Some(reason) = record.reason {
            held.reason(reason, 1);
        }
        if record.outcome != Outcome::Good {
            return;
        }
        if let Some(ns) = record.total_ns {
            held.total.record(Duration::from_nanos(ns));
        }
        if let Some(told) = record.told() {
            self.held.told_least.record(Duration::from_nanos(told.least_ns));
            self.held.told_most.record(Duration::from_nanos(told.most_ns));
        }
        for (stage, histogram) in &held.stages {
            if let Some(ns) = record.stages.get(*stage) {
                histogram.record(Duration::from_nanos(ns));
            }
        }
    }

    /// Transactions that the server booked as unknown.
    pub fn abandoned(&self, kind: &Kind, count: u64, reason: Reason) {
        self.held.of(kind).reason(reason, count);
    }

    pub fn notice(&self, notice: &Notice) {
        self.held.notices.count(notice.label(), notice.count());
        if let Notice::Gossip(notice) = notice {
            self.held.gossip.count(notice.label(), notice.count());
        }
    }

    pub fn event(&self, event: &Event) {
        self.held.events.count(event.what.as_str(), 1);
    }

    /// Somebody asked for a first certificate.
    pub fn joined(&self, result: Result<(), Refusal>) {
        self.held.joins.count(issued(result), 1);
    }

    /// An agent asked for a new certificate.
    pub fn renewed(&self, result: Result<(), Refusal>) {
        self.held.renewals.count(issued(result), 1);
    }

    pub fn handshake(&self, result: Handshake) {
        let label = Handshake::ALL.iter().find(|(r, _)| *r == result).map_or("", |(_, label)| label);
        self.held.handshakes.count(label, 1);
    }

    /// A frame was refused: one of [`FrameError::LABELS`], `truncated`, `misplaced`, `silent`, `hello`; anything else counts
    /// as `other`.
    pub fn frame_rejected(&self, label: &str) {
        self.held.rejected.count(label, 1);
    }

    /// An agent has told its side, so long after a change was taken or concluded.
    pub fn notify_acked(&self, took: Duration) {
        self.held.notify.record(took);
    }

    /// Another server holds what was reported here, so long after it was applied.
    pub fn replicated(&self, took: Duration) {
        self.held.replication.record(took);
    }

    /// What another server shares was so old when it was looked at.
    pub fn aged(&self, age: Duration) {
        self.held.staleness.record(age);
    }

    /// A probe was answered, for one of [`Caller::LABELS`].
    pub fn probed(&self, verdict: ProbeVerdict, by: &str, took: Duration) {
        self.held.probes.iter().filter(|(v, _)| *v == verdict).for_each(|(_, counters)| counters.count(by, 1));
        self.held.probe.record(took);
    }

    pub fn probe_refused(&self, why: Refused) {
        self.held.probes_refused.count(why.as_str(), 1);
    }

    /// A task ended by a bug.
    pub fn panicked(&self) {
        self.held.panics.increment(1);
    }

    /// The server's own certificates, at the start and after each renewal.
    pub fn certificates(&self, expiry: Expiry) {
        *self.certificates.lock().unwrap_or_else(PoisonError::into_inner) = Some(expiry);
    }

    /// Folds observations into their buckets; to be called every few seconds, or they pile up until the next scrape.
    pub fn upkeep(&self) {
        self.scrape.run_upkeep();
    }

    /// How many peers [`Snapshot::of`] is to take.
    pub fn per_peer_max(&self) -> usize {
        self.per_peer_max.load(Relaxed)
    }

    /// How it stands with the configuration.
    pub fn configuration(&self, standing: &Standing) {
        let now = Some((standing.successful, standing.success_ms));
        *self.reload.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// From the next scrape on.
    pub fn set_per_peer_max(&self, max: usize) {
        self.per_peer_max.store(max, Relaxed);
    }

    /// The whole text of a scrape, in the format of [`pams_shared::expo::CONTENT_TYPE`]. `started_ms`: wall clock at the
    /// start, ms since 1970.
    pub fn render(&self, snapshot: &Snapshot, started_ms: u64, traffic: Traffic) -> String {
        let certificates = *self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = self.scrape.render();
        let reload = *self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        let extras = Extras { started_ms, certificates, traffic, reload };
        text.push_str(snapshot::write(snapshot, &extras).text());
        text
    }
}

impl Held {
    fn new(recorder: &PrometheusRecorder) -> Self {
        let counters = |metric, values: &[&'static str]| {
            Counters(values.iter().map(|value| (*value, counter(recorder, metric, &[value]))).collect())
        };
        let kind = |name: &str, stages: &[Stage]| KindHeld {
            total: histogram(recorder, &TOTAL, &[name]),
            stages: stages.iter().map(|s| (*s, histogram(recorder, &STAGE, &[name, s.as_str()]))).collect(),
            reasons: Reason::ALL.map(|r| (r, counter(recorder, &REASONS, &[name, r.as_str()]))).into(),
        };
        let results = |refusals: &[(Refusal, &'static str)]| {
            [ISSUED].into_iter().chain(refusals.iter().map(|(_, label)| *label)).collect::<Vec<_>>()
        };
        let by_caller = |verdict: ProbeVerdict| {
            let by = |by| (by, counter(recorder, &PROBES, &[verdict.as_str(), by]));
            Counters(Caller::LABELS.map(by).into())
        };
        Self {
            notices: counters(&NOTICES, Notice::LABELS),
            gossip: counters(&GOSSIP, membership::Notice::LABELS),
            events: counters(&EVENTS, &What::ALL.map(What::as_str)),
            joins: counters(&JOINS, &results(&REFUSALS)),
            renewals: counters(&RENEWALS, &results(&REFUSALS[RENEWAL_REFUSALS..])),
            handshakes: counters(&HANDSHAKES, &Handshake::ALL.map(|(_, label)| label)),
            rejected: counters(&REJECTED, &[&FrameError::LABELS[..], &REJECTED_ELSE].concat()),
            panics: counter(recorder, &PANICS, &[]),
            probes: ProbeVerdict::ALL.map(|verdict| (verdict, by_caller(verdict))).into(),
            probes_refused: counters(&PROBES_REFUSED, &Refused::ALL.map(Refused::as_str)),
            probe: histogram(recorder, &PROBE, &[]),
            notify: histogram(recorder, &NOTIFY, &[]),
            replication: histogram(recorder, &REPLICATION, &[]),
            staleness: histogram(recorder, &STALENESS, &[]),
            told_least: histogram(recorder, &TOLD, &["least"]),
            told_most: histogram(recorder, &TOLD, &["most"]),
            pings: kind(Kind::Ping.as_str(), &Stage::EXCHANGE),
            notified: kind(Kind::Notify.as_str(), &Stage::EXCHANGE),
            others: kind(OTHER, &Stage::ALL),
        }
    }

    fn of(&self, kind: &Kind) -> &KindHeld {
        match kind {
            Kind::Ping => &self.pings,
            Kind::Notify => &self.notified,
            _ => &self.others,
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl KindHeld {
    fn reason(&self, reason: Reason, count: u64) {
        self.reasons.iter().filter(|(r, _)| *r == reason).for_each(|(_, counter)| counter.increment(count));
    }
}

impl Counters {
    /// A value that is none of the known counts as other, where there is one.
    fn count(&self, value: &str, n: u64) {
        let known = self.0.iter().find(|(v, _)| *v == value).or_else(|| self.0.iter().find(|(v, _)| *v == OTHER));
        if let Some((_, counter)) = known {
            counter.increment(n);
        }
    }
}

fn issued(result: Result<(), Refusal>) -> &'static str {
    match result {
        Ok(()) => ISSUED,
        Err(refusal) => REFUSALS.iter().find(|(r, _)| *r == refusal).map_or("", |(_, label)| label),
    }
}

#[cfg(test)]
mod tests;
