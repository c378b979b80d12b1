//! Alerts: few, about what somebody has to do something about, each with what to look at and what to do.
//!
//! An alert is a value and a condition, kept apart so that the value can be asked for while nothing is wrong: a test
//! does, against a real Prometheus. An alert whose value is never there would never fire either.

mod cluster;

use pams_agent::metrics::catalogue as a;
use pams_server::{core::What, metrics::catalogue as s};
use pams_shared::status::Liveness;

use super::{AGENT_JOB, SERVER_JOB, Timing, rules};
use crate::query::{Expr, UP, of, recorded, time};

/// One alerting rule.
#[derive(Clone, Debug)]
pub struct Alert {
    pub name: &'static str,
    /// What is watched; has a value at all times.
    pub value: Expr,
    /// When the value is bad, such as `> 0`.
    pub comparison: &'static str,
    pub bound: f64,
    /// What must be so as well.
    pub also: Option<Expr>,
    /// How long it has to last.
    pub patience: &'static str,
    pub severity: &'static str,
    pub summary: &'static str,
    /// May use Prometheus' templates.
    pub description: &'static str,
    pub runbook: &'static [&'static str],
    /// The uid of the dashboard to look at.
    pub dashboard: &'static str,
}

impl Alert {
    /// The whole expression.
    pub fn expr(&self) -> Expr {
        let bad = self.value.where_(self.comparison, self.bound);
        self.also.as_ref().map_or_else(|| bad.clone(), |also| bad.and(also))
    }
}

/// Pages somebody.
const CRITICAL: &str = "critical";
/// Can wait for the working day.
const WARNING: &str = "warning";

const HOUR: f64 = 3_600.0;
const OVERVIEW: &str = "pams-overview";
const CLUSTER: &str = "pams-cluster";
const PEER: &str = "pams-peer";
const SERVER: &str = "pams-server";

/// All alerts.
pub fn alerts(timing: Timing) -> Vec<Alert> {
    let mut all = presence(timing);
    all.extend(pings(timing));
    all.extend(keeping(timing));
    all.extend(cluster::alerts(timing));
    all.extend(never(timing));
    all
}

/// The server, the peers, and who scrapes them.
fn presence(timing: Timing) -> Vec<Alert> {
    let job: &[&str] = &["job"];
    let gone = of(&s::EVENTS).is("event", What::Gone.as_str()).increase(timing.events).sum(job);
    let live = format!("{}|{}", Liveness::Live.as_str(), Liveness::Overdue.as_str());
    let here = of(&s::PEERS_BY_LIVENESS).matches("liveness", live).now().sum(job);
    let up = of(&UP).is("job", SERVER_JOB);
    // A Prometheus that starts while no server is there finds none.
    let none = up.absent().whether("==", 0);
    vec![
        Alert {
            name: "PamsServerDown",
            value: up.now().or(&none),
            comparison: "==",
            bound: 0.0,
            also: None,
            patience: "1m",
            severity: CRITICAL,
            summary: "{{ with $labels.instance }}The PAMS server {{ . }} does not answer.{{ else }}No PAMS server is found.{{ end }}",
            description: "Prometheus cannot scrape it. If it is down, its agents go to the other servers. Without another they go on pinging each other and keep their records; nobody can join, and who is here is not known.",
            runbook: &[
                "Look: `systemctl status pams-server` and its log on the host; `curl http://HOST:7480/healthz`.",
                "Look: does PamsMemberDown say that the other servers miss it too? If not, only Prometheus does not reach it.",
                "Do: start it again. Agents find it by themselves and report what they kept; nothing is counted twice.",
                "If it runs and answers locally: `http` of its configuration is loopback by default, so Prometheus has to be on its host or `http` has to change.",
            ],
            dashboard: SERVER,
        },
        Alert {
            name: "PamsManyPeersGone",
            value: gone.over_positive(&here.plus(&gone)),
            comparison: ">",
            bound: 0.2,
            also: Some(gone.where_(">=", 3)),
            patience: "1m",
            severity: CRITICAL,
            summary: "Many peers went silent at once.",
            description: "{{ $value | humanizePercentage }} of the peers are gone without a goodbye within a quarter of an hour.",
            runbook: &[
                "Look: dashboard PAMS / Overview, \"Who is here\". `pams-server peers --liveness gone`: do they share a network, a host, a version?",
                "Look: do other peers still hear them (dashboard PAMS / Peer, \"As others see it\")? Then only the way to this server is cut.",
                "Do: check the network between them and the server (UDP 7420); check what was rolled out last.",
            ],
            dashboard: OVERVIEW,
        },
        Alert {
            name: "PamsAgentWithoutHome",
            value: of(&a::HOME_CONNECTED).now(),
            comparison: "==",
            bound: 0.0,
            also: None,
            patience: "10m",
            severity: WARNING,
            summary: "The agent {{ $labels.peer_name }} ({{ $labels.instance }}) has no home.",
            description: "It is scraped, so it runs, but no PAMS server takes its reports. It keeps the newest records, 10000 by default, and drops older ones.",
            runbook: &[
                "Look: `pams-agent status` on its host says why: refused, certificate, clock, no_answer or not_sent.",
                "Do, certificate: its identity was forgotten or is older than 30 days; join it again with a new token. Clock: set the clock.",
                "Do, no_answer: let UDP out to port 7420 of the server. Is the server up? Then PamsServerDown tells so too.",
            ],
            dashboard: PEER,
        },
        Alert {
            name: "PamsAgentsNotScraped",
            value: of(&UP).is("job", AGENT_JOB).now().avg(job),
            comparison: "<",
            bound: 0.5,
            also: None,
            patience: "10m",
            severity: WARNING,
            summary: "Prometheus reaches less than half of the agents.",
            description: "Only {{ $value | humanizePercentage }} of the agents that the server tells of can be scraped. The server's own numbers of the whole are not affected.",
            runbook: &[
                "Look: the page Targets of Prometheus says why for each.",
                "Do: an agent's `http` is loopback by default; set it to an address that Prometheus reaches, or scrape the server alone and take this alert out.",
                "Do: peers that are gone stay listed for a while; `pams-server forget` takes out those that will not come back.",
            ],
            dashboard: OVERVIEW,
        },
    ]
}

/// What becomes of pings, and where their time goes.
fn pings(timing: Timing) -> Vec<Alert> {
    let mean = recorded(rules::STAGE_MEAN);
    let before = mean.mean_in(timing.baseline, timing.baseline);
    vec![
        Alert {
            name: "PamsPingLossHigh",
            value: recorded(rules::LOST),
            comparison: ">",
            bound: 0.05,
            also: None,
            patience: "10m",
            severity: WARNING,
            summary: "Pings between peers get lost.",
            description: "{{ $value | humanizePercentage }} of the pings that were sent were never answered. Late answers are not in this number.",
            runbook: &[
                "Look: dashboard PAMS / Overview, \"Loss and lateness\": is it all agents or a few? Peers that died lose pings too, until they are gone.",
                "Look: `pams_agent_udp_receive_dropped_total`: if it grows, the host loses packets, not the network.",
                "Do: compare with the network's own monitoring between the agents that stand out.",
            ],
            dashboard: OVERVIEW,
        },
        Alert {
            name: "PamsAnswersLate",
            value: recorded(rules::LATE),
            comparison: ">",
            bound: 0.02,
            also: None,
            patience: "10m",
            severity: WARNING,
            summary: "Answers between peers come after their deadline.",
            description: "{{ $value | humanizePercentage }} of the pings were answered, but too late to count as good.",
            runbook: &[
                "Look: dashboard PAMS / Overview, \"How late\" and \"Where the time goes\": a long queue in the network, or peers that are too busy to answer?",
                "Do: as PamsStageShift says for the stage that grew. If the peers are simply far apart, raise `ping.deadline` of the agents.",
            ],
            dashboard: OVERVIEW,
        },
        Alert {
            name: "PamsStageShift",
            value: mean.over(&before),
            comparison: ">",
            bound: 3.0,
            also: Some(mean.minus(&before).where_(">", 0.01)),
            patience: "10m",
            severity: WARNING,
            summary: "Pings take much longer than an hour ago, in the stage {{ $labels.stage }}.",
            description: "The mean of the stage {{ $labels.stage }} is {{ $value | humanize }} times what it was.{{ if eq .Labels.stage \"network\" }} The network became slower, between the two sockets.{{ else if eq .Labels.stage \"remote_hold\" }} The peers that are asked take longer to answer.{{ else if eq .Labels.stage \"queued\" }} Pings wait longer in the agents that ask, before they are sent.{{ else if eq .Labels.stage \"local_wait\" }} Answers wait longer in the agents that asked, after they arrived.{{ end }}",
            runbook: &[
                "Look: dashboard PAMS / Overview, \"Where the time goes\": the stage names who is to blame.",
                "network: a longer way, a full link, a VPN or a relay on the way. Compare with QUIC's own round trip (dashboard PAMS / Peer).",
                "remote_hold: the peers that are asked are busy; look at their CPU. The panel \"Slowest to answer\" names them.",
                "queued and local_wait: the agents that ask are busy, or their hosts are; look at their CPU.",
                "It compares with an hour ago: it ends by itself when the new level lasts longer.",
            ],
            dashboard: OVERVIEW,
        },
    ]
}

/// What is kept and lost, and what runs out.
fn keeping(timing: Timing) -> Vec<Alert> {
    let expires = |certificate: Expr| certificate.minus(&time());
    let leaf = of(&s::CERTIFICATE_EXPIRY).is("certificate", "leaf").now();
    vec![
        Alert {
            name: "PamsRecordsShed",
            value: of(&s::RECORDS_SHED).increase(timing.events).sum(&["job"]),
            comparison: ">",
            bound: 0.0,
            also: None,
            patience: "0m",
            severity: WARNING,
            summary: "Agents dropped records before they could report them.",
            description: "About {{ $value | humanize }} records are missing from the server's times and reasons. Its ledger is right all the same: totals travel apart from records.",
            runbook: &[
                "Look: `pams_agent_backlog_shed_total` and `pams_agent_backlog_records` by peer_name: which agents, and are they connected now?",
                "Do: it follows a home that was away for long. If it happens with the home there, raise `limits.backlog_records`.",
            ],
            dashboard: SERVER,
        },
        Alert {
            name: "PamsRecordsDropped",
            value: of(&a::DROPPED).increase(timing.events).sum(&["job", "consumer"]),
            comparison: ">",
            bound: 0.0,
            also: None,
            patience: "0m",
            severity: WARNING,
            summary: "The consumer {{ $labels.consumer }} of agents is too slow for its records.",
            description: "About {{ $value | humanize }} records did not fit in its queue. Pings and the other consumers are not affected.",
            runbook: &[
                "Look: `pams_agent_records_dropped_total` by peer_name: which agents? A full or slow disk, an application that does not read its records?",
                "Do: make room, or let the application read faster. It recovers by itself; what was dropped is lost to this consumer only.",
            ],
            dashboard: PEER,
        },
        Alert {
            name: "PamsCertificateExpiring",
            value: expires(of(&a::CERTIFICATE_EXPIRY).now()).or(&expires(leaf)),
            comparison: "<",
            bound: 4.0 * HOUR,
            also: None,
            patience: "5m",
            severity: WARNING,
            summary: "The certificate of {{ $labels.job }} {{ $labels.peer_name }} ({{ $labels.instance }}) was not renewed.",
            description: "It runs out in {{ $value | humanizeDuration }}. It lives for a day and is renewed 8 hours before its end, so renewal has failed for 4 hours.",
            runbook: &[
                "Look: `pams-agent status` on its host and the server's `pams_server_renewals_total` by result say why.",
                "Do: set the clock if it is off; join the agent again if it was forgotten (`pams-agent --join TOKEN`).",
                "An expired certificate is accepted for 30 days more, so nothing stops at once.",
            ],
            dashboard: PEER,
        },
        Alert {
            name: "PamsConfigurationNotTaken",
            value: of(&s::RELOADED).now().or(&of(&a::RELOADED).now()),
            comparison: "==",
            bound: 0.0,
            also: None,
            patience: "5m",
            severity: WARNING,
            summary: "{{ $labels.job }} {{ $labels.peer_name }} ({{ $labels.instance }}) did not take its new configuration.",
            description: "The file was bad when it was read last, so an older one is in force. A restart would fail.",
            runbook: &[
                "Look: its log says what is wrong and where; `pams-server check-config` or `pams-agent check-config` too.",
                "Do: correct the file, and reload.",
            ],
            dashboard: SERVER,
        },
        Alert {
            name: "PamsAuthorityExpiring",
            value: expires(of(&s::CERTIFICATE_EXPIRY).is_not("certificate", "leaf").now()),
            comparison: "<",
            bound: 14.0 * 24.0 * HOUR,
            also: None,
            patience: "1h",
            severity: CRITICAL,
            summary: "The {{ $labels.certificate }} certificate of {{ $labels.instance }} runs out.",
            description: "It has {{ $value | humanizeDuration }} left. Without it no agent can join, and no certificate can be renewed.",
            runbook: &[
                "Look: the server's log: the intermediate is renewed by itself, so something kept it from that.",
                "Do, intermediate: restart the server; its data directory has to be writable. One that joined others gets it from the server that made the cluster, which alone has the root's key: is that one there, and connected with it?",
                "Do, root: it is not renewed. Set up a new data directory and let the agents join again, with time for it.",
            ],
            dashboard: SERVER,
        },
    ]
}

/// Bugs: what this project promises can never be.
fn never(timing: Timing) -> Vec<Alert> {
    let by: &[&str] = &["job", "instance", "kind"];
    let ledger = |opened, closed, in_flight| {
        let sum = |metric| of(metric).now().sum(by);
        sum(opened).minus(&sum(closed)).minus(&sum(in_flight)).abs()
    };
    let panics = |metric| of(metric).increase(timing.never).sum(&["job", "instance"]);
    vec![
        Alert {
            name: "PamsLedgerNotConserved",
            value: ledger(&s::OPENED, &s::CLOSED, &s::IN_FLIGHT).or(&ledger(&a::OPENED, &a::CLOSED, &a::IN_FLIGHT)),
            comparison: ">",
            bound: 0.0,
            also: None,
            patience: "2m",
            severity: CRITICAL,
            summary: "{{ $labels.job }} {{ $labels.instance }} lost count of {{ $labels.kind }}.",
            description: "Opened is not closed plus in flight: {{ $value }} transactions are missing or counted twice. The numbers of this instance cannot be trusted.",
            runbook: &[
                "This is a bug of PAMS. Keep the output of `curl http://INSTANCE/metrics` and the log of the last hour, and report it.",
                "Do: restart the instance; its ledger starts anew.",
            ],
            dashboard: SERVER,
        },
        Alert {
            name: "PamsTaskPanicked",
            value: panics(&s::PANICS).or(&panics(&a::PANICS)),
            comparison: ">",
            bound: 0.0,
            also: None,
            patience: "0m",
            severity: WARNING,
            summary: "A task of {{ $labels.job }} {{ $labels.instance }} ended by a bug.",
            description: "It cost one connection or request; the rest goes on.",
            runbook: &["This is a bug of PAMS. Keep the log: it has the place where it happened. Report it."],
            dashboard: SERVER,
        },
    ]
}
