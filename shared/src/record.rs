//! A finished transaction, and the ledger that all transactions of a kind add up to.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::{id::Correlator, moment::nanos, status::Status};

/// Longest name of a kind, in bytes.
pub const KIND_BYTES_MAX: usize = 64;

/// What a transaction is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `presence.ping`: a ping and its pong.
    Ping,
    /// `presence.notify`: a change pushed to a subscriber and its acknowledgement.
    Notify,
    /// `pams.report`: a batch to the home and its acknowledgement.
    Report,
    /// Defined by an application, or by a version newer than this one.
    Other(Arc<str>),
}

impl Kind {
    /// The kinds that this version opens by itself.
    pub const BUILT_IN: [Kind; 3] = [Kind::Ping, Kind::Notify, Kind::Report];

    pub fn as_str(&self) -> &str {
        match self {
            Kind::Ping => "presence.ping",
            Kind::Notify => "presence.notify",
            Kind::Report => "pams.report",
            Kind::Other(name) => name,
        }
    }

    /// A kind by its name: 1 to [`KIND_BYTES_MAX`] of `a-z 0-9 . _ -`, else `None`.
    pub fn parse(name: &str) -> Option<Kind> {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        match name {
            "presence.ping" => Some(Kind::Ping),
            "presence.notify" => Some(Kind::Notify),
            "pams.report" => Some(Kind::Report),
            _ if name.is_empty() || name.len() > KIND_BYTES_MAX || !name.bytes().all(ok) => None,
            _ => Some(Kind::Other(name.into())),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// How a transaction ended, in ARM's four words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Answered in time.
    Good,
    /// The deadline passed, or the caller gave up.
    Aborted,
    /// The other side refused or erred.
    Failed,
    /// We lost track: crash, shutdown.
    Unknown,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [Outcome::Good, Outcome::Aborted, Outcome::Failed, Outcome::Unknown];

    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Good => "good",
            Outcome::Aborted => "aborted",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        }
    }
}

/// Why a transaction did not end well. Each reason belongs to one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Sent, and no answer by the deadline.
    NoAnswer,
    /// Never handed to the socket by the deadline: no connection came about.
    NotSent,
    /// The caller gave up.
    Cancelled,
    /// The other side turned us away, or nothing listens there.
    Refused,
    /// A certificate was not accepted, on either side.
    Certificate,
    /// A certificate was not accepted because one of the clocks is off.
    Clock,
    /// We stopped while it was in flight.
    Shutdown,
    /// The agent died while it was in flight; booked by its home.
    Crash,
    /// The agent did not run while it was in flight: its host was suspended, or the process stopped.
    Stalled,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::NoAnswer,
        Reason::NotSent,
        Reason::Cancelled,
        Reason::Refused,
        Reason::Certificate,
        Reason::Clock,
        Reason::Shutdown,
        Reason::Crash,
        Reason::Stalled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::NoAnswer => "no_answer",
            Reason::NotSent => "not_sent",
            Reason::Cancelled => "cancelled",
            Reason::Refused => "refused",
            Reason::Certificate => "certificate",
            Reason::Clock => "clock",
            Reason::Shutdown => "shutdown",
            Reason::Crash => "crash",
            Reason::Stalled => "stalled",
        }
    }

    pub const fn outcome(self) -> Outcome {
        match self {
            Reason::NoAnswer | Reason::NotSent | Reason::Cancelled => Outcome::Aborted,
            Reason::Refused | Reason::Certificate | Reason::Clock => Outcome::Failed,
            Reason::Shutdown | Reason::Crash | Reason::Stalled => Outcome::Unknown,
        }
    }
}

/// Why something could not be reached, for machines and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
pub struct Why {
    pub reason: Reason,
    /// What was wrong, and what to do.
    pub text: String,
}

impl Why {
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.text)
    }
}

/// A part of a transaction's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Opened until handed to the socket: our own queue, a handshake.
    Queued,
    /// What the other stages leave: the way there and back.
    Network,
    /// The other side's time between getting the question and writing the answer.
    RemoteHold,
    /// Out of our kernel until handled: our own slowness.
    LocalWait,
    /// The application's own work.
    Run,
    /// The application waiting for something else.
    Blocked,
}

impl Stage {
    pub const ALL: [Stage; 6] =
        [Stage::Queued, Stage::Network, Stage::RemoteHold, Stage::LocalWait, Stage::Run, Stage::Blocked];

    /// The stages that an exchange over the network has.
    pub const EXCHANGE: [Stage; 4] = [Stage::Queued, Stage::Network, Stage::RemoteHold, Stage::LocalWait];

    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Queued => "queued",
            Stage::Network => "network",
            Stage::RemoteHold => "remote_hold",
            Stage::LocalWait => "local_wait",
            Stage::Run => "run",
            Stage::Blocked => "blocked",
        }
    }
}

/// A transaction's time by stage, in nanoseconds. A stage that was not measured is absent, never 0.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    measured: u8,
    ns: [u64; 6],
}

impl Stages {
    pub fn get(&self, stage: Stage) -> Option<u64> {
        (self.measured & (1 << stage as u8) != 0).then(|| self.ns[stage as usize])
    }

    pub fn set(&mut self, stage: Stage, ns: u64) {
        self.measured |= 1 << stage as u8;
        self.ns[stage as usize] = ns;
    }

    pub fn with(mut self, stage: Stage, d: Duration) -> Self {
        self.set(stage, nanos(d));
        self
    }

    /// What was measured, in the order of [`Stage::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Stage, u64)> + '_ {
        Stage::ALL.into_iter().filter_map(|s| Some((s, self.get(s)?)))
    }
}

impl fmt::Debug for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(s, ns)| (s.as_str(), ns))).finish()
    }
}

impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter().map(|(stage, ns)| (stage.as_str(), ns)))
    }
}

/// A finished transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
pub struct Record {
    pub kind: Kind,
    /// The peer or server that it was about.
    pub target: Uuid,
    /// Trace id, and span id where that is not its low half: 32 or 32-16 hex digits.
    #[serde(serialize_with = "display")]
    #[cfg_attr(feature = "io", schema(value_type = String, pattern = "^[0-9a-f]{32}(-[0-9a-f]{16})?$"))]
    pub correlator: Correlator,
    #[serde(rename = "status")]
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Wall clock when it was opened, ms since 1970: a label.
    pub opened_ms: u64,
    /// Opened until closed, in nanoseconds; absent where it was not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    #[serde(rename = "stages_ns")]
    pub stages: Stages,
    /// What the target said of itself in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_status: Option<Status>,
    /// QUIC's smoothed path estimate when the answer came: another witness of the network, no part of the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_rtt_ns: Option<u64>,
}

impl Record {
    /// Of a good [`Kind::Notify`]: when after its opening the subscriber was told, between least and most in ns. It got the
    /// notify after it left and acknowledged `remote_hold` later, having told, and that came back `local_wait` before the end.
    /// When in between is not known without one clock for both; half of it would be a guess. `None` where the hold was not
    /// measured, or the subscriber knew it already.
    pub fn told(&self) -> Option<Told> {
        let (total, hold) = (self.total_ns?, self.stages.get(Stage::RemoteHold)?);
        let queued = self.stages.get(Stage::Queued)?;
        if self.kind != Kind::Notify || self.outcome != Outcome::Good {
            return None;
        }
        let most_ns = total.saturating_sub(self.stages.get(Stage::LocalWait).unwrap_or(0));
        let least_ns = queued.saturating_add(hold).min(most_ns);
        Some(Told { least_ns, most_ns })
    }
}

/// The bounds of when a subscriber was told, from the opening of its notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema), schema(as = ToldBounds))]
pub struct Told {
    pub least_ns: u64,
    pub most_ns: u64,
}

fn display<S: Serializer>(c: &Correlator, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(c)
}

/// All transactions of one kind, conserved: `opened = good + aborted + failed + unknown + in_flight` at every look.
/// Answers that came late or twice change no outcome; they stand apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
pub struct Ledger {
    pub opened: u64,
    pub good: u64,
    pub aborted: u64,
    pub failed: u64,
    pub unknown: u64,
    pub in_flight: u64,
    pub late: u64,
    pub duplicate: u64,
}

impl Ledger {
    pub fn closed(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Good => self.good,
            Outcome::Aborted => self.aborted,
            Outcome::Failed => self.failed,
            Outcome::Unknown => self.unknown,
        }
    }

    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Good => &mut self.good,
            Outcome::Aborted => &mut self.aborted,
            Outcome::Failed => &mut self.failed,
            Outcome::Unknown => &mut self.unknown,
        } += 1;
    }

    fn finished(&self) -> u64 {
        self.good.saturating_add(self.aborted).saturating_add(self.failed).saturating_add(self.unknown)
    }

    /// Whether the sum is right.
    pub fn is_conserved(&self) -> bool {
        self.opened == self.finished().saturating_add(self.in_flight)
    }

    /// Takes over what a newer look at the same ledger knows. Every total only grows, so the maximum of each is the
    /// newest, in whatever order looks arrive; what is in flight follows.
    pub fn merge(&mut self, other: &Ledger) {
        self.good = self.good.max(other.good);
        self.aborted = self.aborted.max(other.aborted);
        self.failed = self.failed.max(other.failed);
        self.unknown = self.unknown.max(other.unknown);
        self.late = self.late.max(other.late);
        self.duplicate = self.duplicate.max(other.duplicate);
        self.opened = self.opened.max(other.opened).max(self.finished());
        self.in_flight = self.opened - self.finished();
    }

    /// Books what is in flight as unknown: nobody is left to close it.
    pub fn abandon(&mut self) -> u64 {
        let lost = std::mem::take(&mut self.in_flight);
        self.unknown += lost;
        lost
    }

    /// Adds another ledger, as for a total over peers.
    pub fn add(&mut self, other: &Ledger) {
        self.opened += other.opened;
        self.good += other.good;
        self.aborted += other.aborted;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.in_flight += other.in_flight;
        self.late += other.late;
        self.duplicate += other.duplicate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_a_ledger_merge_in_any_order() {
        let looks = [
            Ledger { opened: 1, in_flight: 1, ..Ledger::default() },
            Ledger { opened: 3, good: 1, in_flight: 2, ..Ledger::default() },
            Ledger { opened: 3, good: 2, aborted: 1, late: 1, ..Ledger::default() },
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut l = Ledger::default();
            for i in order {
                l.merge(&looks[i]);
                assert!(l.is_conserved(), "{l:?}");
            }
            assert_eq!(l, looks[2]);
        }
    }

    #[test]
    fn what_was_in_flight_at_a_crash_is_unknown() {
        let mut l = Ledger { opened: 5, good: 3, in_flight: 2, ..Ledger::default() };
        assert_eq!(l.abandon(), 2);
        assert_eq!((l.unknown, l.in_flight, l.is_conserved()), (2, 0, true));
    }

    #[test]
    fn each_reason_has_its_outcome_and_names_are_words_of_a_label() {
        for r in Reason::ALL {
            assert_ne!(r.outcome(), Outcome::Good);
            assert!(r.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
        assert_eq!(Kind::parse("presence.ping"), Some(Kind::Ping));
        assert_eq!(Kind::parse("Bad Name"), None);
        assert_eq!(Kind::parse(&"x".repeat(65)), None);
    }

    #[test]
    fn when_a_subscriber_was_told_is_a_bound_from_what_was_measured() {
        let ms = |n: u64| Duration::from_millis(n);
        let stages = Stages::default().with(Stage::Queued, ms(1)).with(Stage::RemoteHold, ms(4));
        let notify = Record {
            kind: Kind::Notify,
            target: Uuid::nil(),
            correlator: Correlator::of_uuid([1; 16]),
            outcome: Outcome::Good,
            reason: None,
            opened_ms: 0,
            total_ns: Some(50_000_000),
            stages: stages.with(Stage::LocalWait, ms(2)),
            target_status: None,
            path_rtt_ns: None,
        };
        assert_eq!(notify.told(), Some(Told { least_ns: 5_000_000, most_ns: 48_000_000 }));
        let no_wait = Record { stages, ..notify.clone() };
        assert_eq!(no_wait.told().unwrap().most_ns, 50_000_000);
        let no_hold = Record { stages: Stages::default().with(Stage::Queued, ms(1)), ..notify.clone() };
        let unanswered = Record { outcome: Outcome::Aborted, total_ns: None, ..notify.clone() };
        for other in [no_hold, unanswered, Record { kind: Kind::Ping, ..notify }] {
            assert_eq!(other.told(), None, "{other:?}");
        }
    }

    #[test]
    fn a_stage_that_was_not_measured_is_absent() {
        let mut s = Stages::default();
        assert_eq!(s.get(Stage::Network), None);
        s.set(Stage::Network, 0);
        assert_eq!(s.get(Stage::Network), Some(0));
        assert_eq!(s.iter().count(), 1);
    }
}
