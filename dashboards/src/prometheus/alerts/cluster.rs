//! The servers among themselves.

use pams_server::{core::view::MemberState, metrics::catalogue as s};

use super::{Alert, CLUSTER, CRITICAL, WARNING, rules};
use crate::{
    prometheus::Timing,
    query::{Expr, Select, of, recorded},
};

const JOB: &[&str] = &["job"];
const SERVER: &[&str] = &["job", "instance"];

/// How many others each server sees in that state.
fn members(state: MemberState) -> Expr {
    of(&s::MEMBERS).is("state", state.as_str()).now().sum(SERVER)
}

/// Those that ought to be there and do not answer.
fn silent() -> Expr {
    let states = [MemberState::Suspect, MemberState::Down].map(MemberState::as_str);
    of(&s::MEMBERS).matches("state", rules::any_of(states)).now().sum(SERVER).where_(">", 0)
}

/// From when on what a server says of another's peers is far too old, in seconds.
const OLD: u32 = 10;

pub(super) fn alerts(timing: Timing) -> Vec<Alert> {
    let mut all = membership();
    all.extend(sharing(timing));
    all.push(storm(timing));
    all
}

fn membership() -> Vec<Alert> {
    let alive = members(MemberState::Alive);
    // It knows of others, or there are that know of others.
    let not_alone = silent().or(&alive.and_on(JOB, &alive.max(JOB).where_(">", 0)));
    vec![
        Alert {
            name: "PamsClusterSplitView",
            value: alive.max(JOB).minus(&alive.min(JOB)),
            comparison: ">",
            bound: 0.0,
            also: None,
            patience: "1m",
            severity: CRITICAL,
            summary: "PAMS servers do not agree on who of them is alive.",
            description: "Some see {{ $value }} more of the others than some do. Each part goes on serving its own agents, and says of the peers of the others what it heard last; they become one again by themselves.",
            runbook: &[
                "Look: dashboard PAMS / Cluster, \"Who sees whom\"; `pams-server members` on a server of each part says who misses whom, and since when.",
                "Do: let UDP through between the servers, both ways, at the port of `listen` (7420); compare with what changed last in the network.",
                "Two clusters that Prometheus scrapes as one job look the same: give each a job of its own.",
            ],
            dashboard: CLUSTER,
        },
        Alert {
            name: "PamsServerLonely",
            value: alive,
            comparison: "==",
            bound: 0.0,
            also: Some(not_alone),
            patience: "1m",
            severity: CRITICAL,
            summary: "The PAMS server {{ $labels.instance }} sees no other server.",
            description: "There are others, or were until a while ago. It serves its own agents and acknowledges their reports alone: if it is lost now, what it took since is known to nobody else.",
            runbook: &[
                "Look: `pams-server members` on its host; does PamsMemberDown or PamsServerDown say that the others are down? Then start them.",
                "Do, if they run: let UDP through between this server and the others, both ways, at the port of `listen` (7420).",
                "It finds them by itself as soon as it can. Until then its agents may also go to the others.",
            ],
            dashboard: CLUSTER,
        },
        Alert {
            name: "PamsMemberDown",
            value: members(MemberState::Down).max(JOB),
            comparison: ">",
            bound: 0.0,
            also: None,
            patience: "1m",
            severity: WARNING,
            summary: "A PAMS server is down, the other servers say.",
            description: "Servers that answer neither some other server nor those that it asked to try: {{ $value }}. Their agents go to the servers that are left, with all that was acknowledged.",
            runbook: &[
                "Look: `pams-server members` names it and says since when; its log, and `systemctl status pams-server` on its host.",
                "Do: start it again. It asks the others for what it missed, and takes new agents at once.",
                "If it will not come back, nothing is to be done: it is forgotten a day after it went down. `pams-server drain` empties a server before it is stopped; then it has left and is not down.",
            ],
            dashboard: CLUSTER,
        },
    ]
}

fn sharing(timing: Timing) -> Vec<Alert> {
    let stale = of(&s::ENTRIES).is("home", "stale").now().sum(SERVER);
    let age = of(&s::ENTRY_AGE).now().sum(SERVER);
    // What stays of a server that left in good order is its departed peers.
    let none_left = members(MemberState::Left).where_("==", 0);
    let acks = |acks: Select| acks.rate(timing.rate).sum(SERVER);
    let alone = acks(of(&s::ACKS).is("by", "alone")).over_positive(&acks(of(&s::ACKS)));
    vec![
        Alert {
            name: "PamsReplicationLag",
            value: recorded(rules::REPLICATION_P99),
            comparison: ">",
            bound: 0.25,
            also: None,
            patience: "5m",
            severity: WARNING,
            summary: "What agents tell {{ $labels.instance }} reaches the other servers late.",
            description: "One report in a hundred takes {{ $value | humanizeDuration }} or longer until another server holds it. Agents keep more records meanwhile, and the others are so far behind in what they say of its peers.",
            runbook: &[
                "Look: dashboard PAMS / Cluster, \"Replication lag\": p50 too, or p99 alone? One home, or all? \"Replication\" shows whether a way became longer.",
                "Do, all of it slow: the way between the servers; compare with the network's own monitoring. Servers more than 200 ms apart: the bound of this alert is too low for you.",
                "Do, p99 alone: CPU of that server and of those that hold for it (dashboard PAMS / Server), packets lost (`pams_server_udp_receive_dropped_total`).",
            ],
            dashboard: CLUSTER,
        },
        Alert {
            name: "PamsDirectoryStale",
            value: stale.plus(&age.whether(">", OLD)),
            comparison: ">",
            bound: 0.0,
            also: Some(silent().or(&age.where_(">", OLD)).or(&none_left)),
            patience: "2m",
            severity: WARNING,
            summary: "{{ $labels.instance }} has only old news of some peers.",
            description: "It cannot hear their home, or has not for 10 s although that one is alive. It answers with what it heard last, marked as stale.",
            runbook: &[
                "Look: `pams-server members` there: which servers are stale, and are they down? Then PamsMemberDown says what to do; agents that lived go to other homes within seconds, so what stays are peers that had departed before.",
                "Look, if all are alive: dashboard PAMS / Cluster, \"Age of what others say\" and \"Connections missing\". Is the way between the two cut, and only others reach both?",
                "Do: let UDP through between the servers, both ways. If it is, restart the server that says so, keep the logs of both, and report it.",
            ],
            dashboard: CLUSTER,
        },
        Alert {
            name: "PamsDigestMismatch",
            value: of(&s::MISMATCHES).increase(timing.never).sum(SERVER),
            comparison: ">",
            bound: 0.0,
            also: None,
            patience: "0m",
            severity: WARNING,
            summary: "{{ $labels.instance }} had another directory than the server that shares it.",
            description: "For too long the digests of what one server shares and of what this one holds of it differed. It asked to be told everything anew, so it is right again.",
            runbook: &[
                "This is a bug of PAMS. Keep the logs of all servers of the last hour, and report it.",
                "If it comes again and again, the directories do not meet: compare `/api/v1/cluster` of the servers, and restart the one that says so.",
            ],
            dashboard: CLUSTER,
        },
        Alert {
            name: "PamsAcksAlone",
            value: alone,
            comparison: ">",
            bound: 0.1,
            also: Some(members(MemberState::Alive).where_(">", 0)),
            patience: "5m",
            severity: WARNING,
            summary: "{{ $labels.instance }} acknowledges reports that no other server holds.",
            description: "{{ $value | humanizePercentage }} of the reports were acknowledged alone although another server is alive. If this server is lost now, they are not known to the others.",
            runbook: &[
                "Look: is `cluster.ack` of this server \"local\"? Then this is as asked for: take the alert out.",
                "Look: `pams_server_cluster_links` and \"Connections missing\" on the dashboard PAMS / Cluster: nobody follows this server. Can the others open connections to it?",
                "Do: let UDP through between the servers, both ways, at the port of `listen` (7420).",
            ],
            dashboard: CLUSTER,
        },
    ]
}

fn storm(timing: Timing) -> Alert {
    let moved = of(&s::MOVED).is("direction", "in").increase(timing.rate).sum(JOB);
    let busy = of(&s::HANDSHAKES).is("result", "busy").increase(timing.rate).sum(JOB);
    let came = moved.plus(&busy);
    Alert {
        name: "PamsReconnectStorm",
        value: came.over_positive(&of(&s::SESSIONS).now().sum(JOB).plus(&came)),
        comparison: ">",
        bound: 0.3,
        also: Some(came.where_(">=", 20)),
        patience: "1m",
        severity: WARNING,
        summary: "Many agents look for another home at once.",
        description: "Of all that are connected or came lately, {{ $value | humanizePercentage }} changed their home or were turned away for a moment within five minutes. Servers let them in at the pace that they can take.",
        runbook: &[
            "Look: dashboard PAMS / Cluster, \"Who moves?\": which server lost them (PamsMemberDown), and why do the agents say that they went?",
            "Look: do servers go down one after the other, or is one emptied by `pams-server drain`? Then wait: it ends by itself.",
            "Do, if it goes on: a home that is reached only now and then; look for lost packets at it (dashboard PAMS / Server, \"Packets lost in the host\") and on the way. Are those that are left large enough for all (`limits.peers`)?",
        ],
        dashboard: CLUSTER,
    }
}
