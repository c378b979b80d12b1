//! What comes of a probe: the verdict, with what each party found, and a sentence for people.

use pams_shared::{
    frame::{Finding, Role},
    id::{Correlator, PeerId, ServerId},
    record::{Outcome, Reason, Stages},
    status::{Liveness, Status},
};
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// What is concluded of a peer that was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeVerdict {
    /// Everybody who asked it was answered.
    Reachable,
    /// Some were answered, some not: the way from those is cut.
    Partly,
    /// Nobody was answered.
    Unreachable,
    /// It left, or was forgotten: nobody was asked.
    Offline,
    /// Its home did not answer, or there is no connection with it.
    HomeUnreachable,
    /// No server knows it.
    Unknown,
}

impl ProbeVerdict {
    pub const ALL: [ProbeVerdict; 6] = [
        ProbeVerdict::Reachable,
        ProbeVerdict::Partly,
        ProbeVerdict::Unreachable,
        ProbeVerdict::Offline,
        ProbeVerdict::HomeUnreachable,
        ProbeVerdict::Unknown,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            ProbeVerdict::Reachable => "reachable",
            ProbeVerdict::Partly => "partly",
            ProbeVerdict::Unreachable => "unreachable",
            ProbeVerdict::Offline => "offline",
            ProbeVerdict::HomeUnreachable => "home_unreachable",
            ProbeVerdict::Unknown => "unknown",
        }
    }

    /// In ARM's words, for the transaction that a probe is.
    pub const fn outcome(self) -> Outcome {
        match self {
            ProbeVerdict::Reachable | ProbeVerdict::Partly => Outcome::Good,
            ProbeVerdict::Unreachable | ProbeVerdict::HomeUnreachable => Outcome::Aborted,
            ProbeVerdict::Offline | ProbeVerdict::Unknown => Outcome::Failed,
        }
    }

    /// Of what was found. Who did not run proves nothing either way.
    pub(super) fn of(findings: &[Finding]) -> Self {
        let any = |wanted: fn(Outcome) -> bool| findings.iter().any(|f| wanted(f.outcome));
        match (any(|o| o == Outcome::Good), any(|o| matches!(o, Outcome::Aborted | Outcome::Failed))) {
            (true, false) => Self::Reachable,
            (true, true) => Self::Partly,
            (false, _) => Self::Unreachable,
        }
    }
}

/// How a peer is right now.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ProbeAnswer {
    pub peer: PeerId,
    /// What people call it. Absent: it is not known, or forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub verdict: ProbeVerdict,
    /// The same as a sentence.
    pub text: String,
    /// What it says of itself: just now, if it was reached, else before. Absent: it has said nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What its home concludes. Absent: it is not known, or forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// Since when: its home's wall clock, ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_since_ms: Option<u64>,
    /// The server that is its home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<ServerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_name: Option<String>,
    /// How old the liveness, and a status that was said before, are, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Who asked it, and what came of that; whoever was asked to and did not do so is not among them.
    pub findings: Vec<Found>,
    /// Of the transaction that the probe is, as logs show it.
    #[serde(serialize_with = "shown")]
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    pub correlator: Correlator,
    pub took_ms: u64,
}

/// What one party found when it asked a peer.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Found {
    pub by: Uuid,
    /// What people call it. Absent: it is not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_name: Option<String>,
    pub by_role: Role,
    pub outcome: Outcome,
    /// Why it did not end well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// From question to answer. Absent: there was none, or it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ns: Option<u64>,
    /// Of a server's question the answerer's hold alone is measured: the rest is the network and both queues.
    pub stages_ns: Stages,
    /// What the peer said in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl Found {
    pub(super) fn new(finding: Finding, by_name: Option<String>) -> Self {
        let Finding { by, by_role, outcome, reason, total_ns, stages, status } = finding;
        Self { by, by_name, by_role, outcome, reason, total_ns, stages_ns: stages, status }
    }

    /// As it travels.
    pub fn finding(self) -> Finding {
        let Self { by, by_name: _, by_role, outcome, reason, total_ns, stages_ns: stages, status } = self;
        Finding { by, by_role, outcome, reason, total_ns, stages, status }
    }

    fn who(&self) -> String {
        match &self.by_name {
            Some(name) if !name.is_empty() => format!("{} {name}", self.by_role.as_str()),
            _ => format!("{} {}", self.by_role.as_str(), self.by),
        }
    }

    fn good(&self) -> String {
        match self.total_ns {
            Some(ns) => format!("{} ({:.1} ms)", self.who(), ns as f64 / 1e6),
            None => self.who(),
        }
    }

    fn bad(&self) -> String {
        let why = self.reason.map_or(self.outcome.as_str(), Reason::as_str);
        format!("{} ({})", self.who(), why.replace('_', " "))
    }
}

/// "it is reachable from server s1 (1.2 ms) and agent b (0.9 ms)", or the like.
pub(super) fn sentence(findings: &[Found]) -> String {
    let list = |wanted: fn(Outcome) -> bool, shown: fn(&Found) -> String| {
        findings.iter().filter(|f| wanted(f.outcome)).map(shown).collect::<Vec<_>>().join(" and ")
    };
    let good = list(|o| o == Outcome::Good, Found::good);
    let bad = list(|o| matches!(o, Outcome::Aborted | Outcome::Failed), Found::bad);
    let mut text = match (bad.is_empty(), good.is_empty()) {
        (true, true) => "nobody could ask it".to_owned(),
        (true, false) => format!("it is reachable from {good}"),
        (false, true) => format!("it is unreachable from {bad}"),
        (false, false) => format!("it is unreachable from {bad}, but reachable from {good}"),
    };
    let lost = list(|o| o == Outcome::Unknown, Found::bad);
    if !lost.is_empty() {
        text += &format!("; not known from {lost}");
    }
    text
}

/// Of agents that were asked to ping it and are silent themselves.
pub(super) fn silent(text: &mut String, names: &[String]) {
    if !names.is_empty() {
        *text += &format!("; agent {} was asked to ping it, and did not answer itself", names.join(", "));
    }
}

fn shown<S: Serializer>(correlator: &Correlator, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(correlator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, by_role: Role, reason: Option<Reason>) -> Found {
        let outcome = reason.map_or(Outcome::Good, Reason::outcome);
        let total_ns = reason.is_none().then_some(1_234_567);
        let by_name = Some(name.to_owned()).filter(|name| !name.is_empty());
        Found {
            by: Uuid::nil(),
            by_name,
            by_role,
            outcome,
            reason,
            total_ns,
            stages_ns: Stages::default(),
            status: None,
        }
    }

    fn judged(findings: &[Found]) -> (&'static str, String) {
        let plain: Vec<_> = findings.iter().cloned().map(Found::finding).collect();
        (ProbeVerdict::of(&plain).as_str(), sentence(findings))
    }

    #[test]
    fn verdict_and_sentence_follow_from_what_was_found() {
        let (s1, b) = (|reason| found("s1", Role::Server, reason), |reason| found("b", Role::Agent, reason));
        let (gone, asleep) = (Some(Reason::NoAnswer), Some(Reason::Stalled));
        for (findings, verdict, text) in [
            (vec![s1(None), b(None)], "reachable", "it is reachable from server s1 (1.2 ms) and agent b (1.2 ms)"),
            (
                vec![s1(gone), b(None)],
                "partly",
                "it is unreachable from server s1 (no answer), but reachable from agent b (1.2 ms)",
            ),
            (
                vec![s1(gone), b(gone)],
                "unreachable",
                "it is unreachable from server s1 (no answer) and agent b (no answer)",
            ),
            (
                vec![s1(None), b(asleep)],
                "reachable",
                "it is reachable from server s1 (1.2 ms); not known from agent b (stalled)",
            ),
            (vec![b(None)], "reachable", "it is reachable from agent b (1.2 ms)"),
            (
                vec![found("", Role::Agent, gone)],
                "unreachable",
                "it is unreachable from agent 00000000-0000-0000-0000-000000000000 (no answer)",
            ),
            (vec![], "unreachable", "nobody could ask it"),
        ] {
            assert_eq!(judged(&findings), (verdict, text.to_owned()));
        }
    }

    #[test]
    fn verdicts_are_called_what_programs_read() {
        for verdict in ProbeVerdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.as_str());
        }
    }
}
