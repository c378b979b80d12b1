//! What Prometheus sees. [`CATALOGUE`] lists it; [`Metrics`] counts what happens (held handles on its own recorder) and
//! writes at each scrape what a [`View`] shows, so that the series of what is gone are gone and a ledger is of one moment.
//!
//! Nothing here decides anything, and nothing here is measured: durations come in as the core's records have them.

pub mod catalogue;
mod snapshot;

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};
use pams_shared::{
    catalogue::{counter, histogram, recorder},
    frame::FrameError,
    record::{Kind, Outcome, Reason, Record, Stage},
    socket::Traffic,
};

pub use catalogue::CATALOGUE;
use catalogue::{
    DROPPED, HOME_MOVES, LATE_SECONDS, NOTICES, PANICS, REASONS, REJECTED, SKIPPED, STAGE, SUBSCRIBERS_LOST, TOLD,
    TOTAL,
};

use crate::{
    consumer::csv::Progress,
    core::{Notice, View, choice::Because},
};

/// Labels of rejected frames beside [`FrameError::LABELS`]: well formed but out of place, a Hello that was refused, and whatever a newer part of the program calls it.
const REJECTED_ELSE: [&str; 3] = ["misplaced", "hello", OTHER];
/// Consumers of records that have a queue of their own.
const CONSUMERS: [&str; 4] = ["csv", "events", "tap", OTHER];
const OTHER: &str = "other";
/// Those of [`Reason::ALL`] that an agent can give: a crash is booked by the home.
const REASONS_HERE: [Reason; 8] = [
    Reason::NoAnswer,
    Reason::NotSent,
    Reason::Cancelled,
    Reason::Refused,
    Reason::Certificate,
    Reason::Clock,
    Reason::Shutdown,
    Reason::Stalled,
];
/// What is observed of each kind: the acknowledgement of a report has no stamps of its own.
const STAGES: [(Kind, &[Stage]); 3] =
    [(Kind::Ping, &Stage::EXCHANGE), (Kind::Notify, &Stage::EXCHANGE), (Kind::Report, &[Stage::Queued])];

/// One agent's metrics. Share it in an `Arc`; all methods take `&self` and cost well under a microsecond but for
/// [`Metrics::render`] and [`Metrics::upkeep`].
#[derive(Debug)]
pub struct Metrics {
    held: Held,
    scrape: PrometheusHandle,
    per_peer_max: AtomicUsize,
}

/// What a scrape shows beside the core's view.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// Wall clock at the start, ms since 1970.
    pub started_ms: u64,
    /// Seconds since 1970; `None`: not joined.
    pub certificate_expires: Option<u64>,
    pub traffic: Traffic,
    /// The configuration was good when it was read last.
    pub reload_successful: bool,
    /// When it was read well for the last time, ms since 1970.
    pub reload_success_ms: u64,
    /// `None`: no files are written.
    pub csv: Option<Progress>,
}

struct Held {
    notices: Counters,
    rejected: Counters,
    dropped: Counters,
    panics: Counter,
    late: Histogram,
    told_least: Histogram,
    told_most: Histogram,
    subscribers_lost: Counter,
    skipped: Counter,
    home_moves: Counters,
    kinds: Vec<KindHeld>,
}

/// The handles of one kind.
struct KindHeld {
    kind: Kind,
    total: Histogram,
    stages: Vec<(Stage, Histogram)>,
    reasons: Vec<(Reason, Counter)>,
}

/// A counter for each value of one label.
struct Counters(Vec<(&'static str, Counter)>);

impl Metrics {
    /// `per_peer_max` buddies get series of their own.
    pub fn new(per_peer_max: usize) -> Self {
        let recorder = recorder(CATALOGUE).expect("each histogram of the catalogue has buckets; a test says so");
        Self { held: Held::new(&recorder), scrape: recorder.handle(), per_peer_max: per_peer_max.into() }
    }

    /// From the next scrape on.
    pub fn set_per_peer_max(&self, max: usize) {
        self.per_peer_max.store(max, Relaxed);
    }

    /// A transaction ended.
    pub fn record(&self, record: &Record) {
        let Some(held) = self.held.kinds.iter().find(|k| k.kind == record.kind) else { return };
        if let Some(reason) = record.reason {
            held.reasons.iter().filter(|(r, _)| *r == reason).for_each(|(_, counter)| counter.increment(1));
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

    pub fn notice(&self, notice: &Notice) {
        self.held.notices.count(notice.label());
        match notice {
            Notice::Late { total_ns, .. } => self.held.late.record(Duration::from_nanos(*total_ns)),
            Notice::SubscriberLost { .. } => self.held.subscribers_lost.increment(1),
            Notice::NotifyGap { skipped, .. } => self.held.skipped.increment(*skipped),
            Notice::HomeMoved { because, .. } => self.held.home_moves.count(because.as_str()),
            Notice::FrameRejected { label, .. } => self.held.rejected.count(label),
            _ => {}
        }
    }

    /// `consumer` was too slow for so many records.
    pub fn dropped(&self, consumer: &str, records: u64) {
        self.held.dropped.add(consumer, records);
    }

    /// A task ended by a bug.
    pub fn panicked(&self) {
        self.held.panics.increment(1);
    }

    /// Folds observations into their buckets; to be called every few seconds, or they pile up until the next scrape.
    pub fn upkeep(&self) {
        self.scrape.run_upkeep();
    }

    /// The whole text of a scrape, in the format of [`pams_shared::expo::CONTENT_TYPE`].
    pub fn render(&self, view: &View, extras: &Extras) -> String {
        let mut text = self.scrape.render();
        text.push_str(snapshot::write(view, extras, self.per_peer_max.load(Relaxed)).text());
        text
    }
}

impl Held {
    fn new(recorder: &PrometheusRecorder) -> Self {
        let counters = |metric, values: &mut dyn Iterator<Item = &'static str>| {
            Counters(values.map(|value| (value, counter(recorder, metric, &[value]))).collect())
        };
        let kind = |(kind, stages): &(Kind, &[Stage])| {
            let name = kind.as_str();
            let stage = |s: &Stage| (*s, histogram(recorder, &STAGE, &[name, s.as_str()]));
            let reason = |r: &Reason| (*r, counter(recorder, &REASONS, &[name, r.as_str()]));
            KindHeld {
                kind: kind.clone(),
                total: histogram(recorder, &TOTAL, &[name]),
                stages: stages.iter().map(stage).collect(),
                reasons: REASONS_HERE.iter().map(reason).collect(),
            }
        };
        Self {
            notices: counters(&NOTICES, &mut Notice::LABELS.iter().copied()),
            rejected: counters(&REJECTED, &mut FrameError::LABELS.into_iter().chain(REJECTED_ELSE)),
            dropped: counters(&DROPPED, &mut CONSUMERS.into_iter()),
            panics: counter(recorder, &PANICS, &[]),
            late: histogram(recorder, &LATE_SECONDS, &[Kind::Ping.as_str()]),
            told_least: histogram(recorder, &TOLD, &["least"]),
            told_most: histogram(recorder, &TOLD, &["most"]),
            subscribers_lost: counter(recorder, &SUBSCRIBERS_LOST, &[]),
            skipped: counter(recorder, &SKIPPED, &[]),
            home_moves: counters(&HOME_MOVES, &mut Because::ALL.iter().map(|b| b.as_str())),
            kinds: STAGES.iter().map(kind).collect(),
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Counters {
    /// A value that is none of the known counts as other, where there is one.
    fn count(&self, value: &str) {
        self.add(value, 1);
    }

    fn add(&self, value: &str, n: u64) {
        let known = self.0.iter().find(|(v, _)| *v == value).or_else(|| self.0.iter().find(|(v, _)| *v == OTHER));
        if let Some((_, counter)) = known {
            counter.increment(n);
        }
    }
}

#[cfg(test)]
mod tests;
