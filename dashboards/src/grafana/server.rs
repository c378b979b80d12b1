//! The server: is it well, who joins and connects, what it takes in, what is odd, and what it costs.

use pams_server::{core::OTHER, metrics::catalogue as s};

use super::{
    Dashboard, Panel, Row, Say, Stack, job_and_instance, panel,
    style::{self, BLUE, GREEN, ORANGE, PURPLE, RED, YELLOW},
};
use crate::query::{RATE, UP, chosen, time};

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "pams-server",
        title: "PAMS / Server",
        description: "The PAMS servers: are they well, who joins, what do they take in, what is odd, and what do they cost?",
        variables: job_and_instance(s::BUILD.name),
        rows: vec![
            Row { title: "Is it well?", panels: well() },
            Row { title: "Joining and connecting", panels: joining() },
            Row { title: "Reports", panels: reports() },
            Row { title: "Rosters", panels: rosters() },
            Row { title: "Subscriptions", panels: subscriptions() },
            Row { title: "Probes", panels: probes() },
            Row { title: "Oddities", panels: oddities() },
            Row { title: "What it costs", panels: costs() },
        ],
    }
}

fn well() -> Vec<Panel> {
    let left =
        |certificate| chosen(&s::CERTIFICATE_EXPIRY).is("certificate", certificate).now().min(&[]).minus(&time());
    let day = 86_400.0;
    vec![
        panel("Scraped", "short", "Whether Prometheus reaches it. If not: is it running, and does its HTTP address answer from here?")
            .stat(Say::Now)
            .size(3, 4)
            .words(&[(1, "yes", GREEN), (0, "no", RED)])
            .ask("{{instance}}", &chosen(&UP).now().min(&["instance"])),
        panel("Ready", "short", "1 while its list of peers is complete. Not ready for some seconds after a start, while agents come back, and while it stops.")
            .stat(Say::Now)
            .size(3, 4)
            .words(&[(1, "ready", GREEN), (0, "not ready", ORANGE)])
            .ask("{{instance}}", &chosen(&s::READY).now().min(&["instance"])),
        panel("Configuration", "short", "Whether the file was good when it was read last. Not taken: an older one is in force, and a restart would fail; the log says what is wrong.")
            .stat(Say::Now)
            .size(3, 4)
            .words(&[(1, "in force", GREEN), (0, "not taken", RED)])
            .ask("{{instance}}", &chosen(&s::RELOADED).now().min(&["instance"])),
        panel("Configuration read", "s", "Time since it was read well, at the start or by a reload.")
            .stat(Say::Now)
            .size(3, 4)
            .ask("{{instance}}", &time().minus(&chosen(&s::RELOADED_AT).now().max(&["instance"]))),
        panel("Up for", "s", "Time since the start, of the server that started last.")
            .stat(Say::Now)
            .size(3, 4)
            .ask("up for", &time().minus(&chosen(&s::START).now().max(&[]))),
        panel("Version", "string", "Two versions at once: a rollout is under way, or was forgotten half way.")
            .stat(Say::Name)
            .size(3, 4)
            .ask("{{version}}", &chosen(&s::BUILD).now().max(&["version"])),
        panel("Own certificate left", "s", "Until the server's own certificate runs out. It is renewed 8 hours before its end.")
            .stat(Say::Now)
            .size(3, 4)
            .steps(RED, &[(4.0 * 3_600.0, GREEN)])
            .ask("leaf", &left("leaf")),
        panel("Authority left", "s", "Until the certificate that issues those of agents runs out. It is renewed in time by itself; the root, after ten years, is not.")
            .stat(Say::Now)
            .size(3, 4)
            .steps(RED, &[(14.0 * day, ORANGE), (30.0 * day, GREEN)])
            .ask("intermediate", &left("intermediate")),
    ]
}

fn joining() -> Vec<Panel> {
    let by_result = |metric| chosen(metric).increase(RATE).sum(&["result"]);
    vec![
        panel("Sessions", "short", "Agents that are connected now. It should follow the number of peers that are live.")
            .from_zero()
            .ask("{{instance}}", &chosen(&s::SESSIONS).now().sum(&["instance"])),
        panel("Comings and goings", "short", "What became of peers in each step of time; moved are those that went to another server. Many that return at once: the server or its network was away.")
            .stacked(Stack::Bars)
            .colours(vec![("gone", RED), ("left", style::PALE), ("came", GREEN), ("returned", BLUE), ("restarted", ORANGE), ("superseded", PURPLE), ("moved", style::TEAL)])
            .ask("{{event}}", &chosen(&s::EVENTS).increase(RATE).sum(&["event"])),
        panel("Handshakes", "short", "Connections that were asked for, by result. failed and timeout: strangers, or a network that loses packets. busy: too many at once; they try again. certificate: an agent that was forgotten, or an old one.")
            .stacked(Stack::Bars)
            .colours(vec![("ok", GREEN), ("failed", RED), ("timeout", YELLOW), ("certificate", PURPLE), ("busy", ORANGE)])
            .ask("{{result}}", &by_result(&s::HANDSHAKES)),
        panel("Joins", "short", "First certificates: issued, or why not. token_unknown and token_secret: somebody guesses, or a token was copied wrongly. `pams-server token list` shows the tokens.")
            .stacked(Stack::Bars)
            .colours(vec![("issued", GREEN)])
            .ask("{{result}}", &by_result(&s::JOINS)),
        panel("Renewals", "short", "Certificates of agents that are renewed, each day once by each agent, or why not. expired and id_taken: the agent has to join again.")
            .stacked(Stack::Bars)
            .colours(vec![("issued", GREEN)])
            .ask("{{result}}", &by_result(&s::RENEWALS)),
        panel("Forgotten, watched, not shown", "short", "Peers forgotten whose ledger is still known; watchers' views of buddies that are kept; peers without series of their own because there are more than `metrics.per_peer_max`.")
            .from_zero()
            .ask("forgotten peers", &chosen(&s::FORGOTTEN).now().sum(&[]))
            .ask("views", &chosen(&s::VIEWS).now().sum(&[]))
            .ask("peers not shown", &chosen(&s::DROPPED_PEERS).now().sum(&[])),
    ]
}

fn reports() -> Vec<Panel> {
    let by_kind = |metric| chosen(metric).rate(RATE).sum(&["kind"]);
    let other = || chosen(&s::TOTAL).is("kind", OTHER).bucket().rate(RATE);
    vec![
        panel("Records", "ops", "Finished transactions that agents reported, each counted once, and those that agents dropped before they could. Shed above 0: homes were away for too long, or `limits.backlog_records` is too small.")
            .from_zero()
            .colours(vec![("taken", GREEN), ("shed", RED)])
            .ask("taken", &chosen(&s::RECORDS).rate(RATE).sum(&[]))
            .ask("shed", &chosen(&s::RECORDS_SHED).rate(RATE).sum(&[])),
        panel("Transactions by kind", "ops", "Opened by all peers, from their ledgers: exact, whatever happens to single records.")
            .stacked(Stack::Areas)
            .ask("{{kind}}", &by_kind(&s::OPENED)),
        panel("In flight", "short", "Open when their peers last reported. It stays near pings a second times the round trip; one that only grows: answers do not come.")
            .stacked(Stack::Areas)
            .ask("{{kind}}", &chosen(&s::IN_FLIGHT).now().sum(&["kind"])),
        panel("Late and duplicate", "ops", "Answers after the deadline, and answers that came twice, by kind.")
            .from_zero()
            .ask("late {{kind}}", &by_kind(&s::LATE))
            .ask("duplicate {{kind}}", &by_kind(&s::DUPLICATE)),
        panel("Not good, by reason", "ops", "Of all kinds. See the overview for pings alone.")
            .stacked(Stack::Areas)
            .ask("{{reason}}", &chosen(&s::REASONS).rate(RATE).sum(&["reason"])),
        panel("Applications' transactions, p95", "s", "Of all kinds that applications define, from their records. No line: no application has reported one.")
            .log()
            .nothing("no application reports")
            .ask("p95", &other().quantile(0.95, &[])),
    ]
}

fn rosters() -> Vec<Panel> {
    let cut = |reason| chosen(&s::ROSTER_CUT).is("reason", reason).now();
    vec![
        panel("Who watches whom", "short", "Pairs of a peer and one that is to watch it, and peers with fewer watchers than `roster.watchers`; each is counted by one server, a pair by that of the watcher. Short for long: too few of an overlay take a roster.")
            .from_zero()
            .colours(vec![("pairs", GREEN), ("short of watchers", RED)])
            .ask("pairs", &chosen(&s::ROSTER_EDGES).now().sum(&[]))
            .ask("short of watchers", &chosen(&s::ROSTER_SHORT).now().sum(&[])),
        panel("Changes of rosters", "short", "Pairs made and unmade, and rosters told to agents, in each step of time. A few for each peer that comes or goes; many all the time: peers flap.")
            .from_zero()
            .ask("pairs changed", &chosen(&s::ROSTER_EDGES_CHANGED).increase(RATE).sum(&[]))
            .ask("rosters told", &chosen(&s::ROSTERS_PUSHED).increase(RATE).sum(&[])),
        panel("Left out of rosters", "short", "By reason. roster_max: pairs whose watcher takes no more; raise `limits.roster` of the agents. memberships: overlays of a peer beyond 32.")
            .from_zero()
            .ask("roster_max", &cut("roster_max").sum(&[]))
            .ask("memberships", &cut("memberships").sum(&[])),
    ]
}

fn subscriptions() -> Vec<Panel> {
    let told = |metric| chosen(metric).bucket().rate(RATE);
    vec![
        panel("Who is told of whom", "short", "Pairs of a peer and an agent that this server tells of it.")
            .from_zero()
            .size(12, 8)
            .ask("{{instance}}", &chosen(&s::SUBSCRIPTIONS).now().sum(&["instance"])),
        panel("Changes told", "ops", "Sent, acknowledged, and lost because the subscription ended before. sent far above acked: subscribers do not keep up.")
            .from_zero()
            .size(12, 8)
            .colours(vec![("acked", GREEN), ("sent", BLUE), ("lost", RED)])
            .ask("{{result}}", &chosen(&s::NOTIFIES).rate(RATE).sum(&["result"])),
        panel("Until an agent was told", "s", "From when this server knew of a change until the agent had told its side. p95: 19 of 20 took no longer. What came before, from publishing to the report, is not in it.")
            .log()
            .size(12, 8)
            .colours(style::quantiles())
            .ask("p50", &told(&s::NOTIFY).quantile(0.5, &[]))
            .ask("p95", &told(&s::NOTIFY).quantile(0.95, &[])),
        panel("Told by the peer itself, p95", "s", "From publishing, by the agents' records: after least and before most. What is between cannot be known, as the way back is in most alone.")
            .log()
            .size(12, 8)
            .colours(style::bounds())
            .ask("{{bound}}", &told(&s::TOLD).quantile(0.95, &["bound"])),
    ]
}

fn probes() -> Vec<Panel> {
    let took = || chosen(&s::PROBE).bucket().rate(RATE);
    vec![
        panel("Probes", "short", "Peers that were asked how they are (`pams-server probe`), by verdict. partly: some were answered and some not, so that a way is cut; the answer says which. home_unreachable: look at the servers first.")
            .stacked(Stack::Bars)
            .size(12, 8)
            .nothing("nobody asked")
            .colours(vec![("reachable", GREEN), ("partly", YELLOW), ("unreachable", RED), ("offline", style::PALE), ("home_unreachable", ORANGE), ("unknown", style::GREY)])
            .ask("{{verdict}}", &chosen(&s::PROBES).is_not("by", "server").increase(RATE).sum(&["verdict"])),
        panel("Asked for by", "short", "Who asked: operator on the admin socket, http on the TCP port (`probe.http`), server: other servers, of peers whose home this is.")
            .stacked(Stack::Bars)
            .size(12, 8)
            .nothing("nobody asked")
            .ask("{{by}}", &chosen(&s::PROBES).increase(RATE).sum(&["by"])),
        panel("Until a probe was answered", "s", "p95: 19 of 20 took no longer. One that nobody answers takes all the time that it was given, 2 s unless that is said.")
            .log()
            .size(12, 8)
            .nothing("nobody asked")
            .colours(style::quantiles())
            .ask("p50", &took().quantile(0.5, &[]))
            .ask("p95", &took().quantile(0.95, &[])),
        panel("Probes refused", "short", "By reason. caller and target: asked too often. forbidden: on the TCP port of a server that does not allow it. not_home: servers that do not yet agree on who is whose home.")
            .stacked(Stack::Bars)
            .size(12, 8)
            .nothing("none refused")
            .ask("{{reason}}", &chosen(&s::PROBES_REFUSED).increase(RATE).sum(&["reason"])),
    ]
}

fn oddities() -> Vec<Panel> {
    vec![
        panel("Notices", "ops", "What an operator may want to know of, by what it is: replays and gaps of reports, clocks that are off, limits that were met. The log has each with its peer.")
            .stacked(Stack::Areas)
            .ask("{{notice}}", &chosen(&s::NOTICES).rate(RATE).sum(&["notice"])),
        panel("Frames refused", "ops", "By reason. unknown_kind: agents of a newer version. All others: a bug, or somebody who tries.")
            .stacked(Stack::Areas)
            .ask("{{reason}}", &chosen(&s::REJECTED).rate(RATE).sum(&["reason"])),
        panel("What must stay 0", "short", "Tasks that ended by a bug, records and events that were counted nowhere because too many came at once. Above 0: keep the log and report it.")
            .from_zero()
            .colours(vec![("panics", RED), ("outputs shed", ORANGE)])
            .ask("panics", &chosen(&s::PANICS).increase(RATE).sum(&[]))
            .ask("outputs shed", &chosen(&s::OUTPUTS_SHED).increase(RATE).sum(&[])),
    ]
}

fn costs() -> Vec<Panel> {
    vec![
        panel("CPU", "percentunit", "Of one core; the server uses all there are.")
            .from_zero()
            .ask("{{instance}}", &chosen(&s::CPU).rate(RATE).sum(&["instance"])),
        panel("Memory", "bytes", "Memory of the process that is in RAM: about 43 KiB for each connected agent, ledger and records included.")
            .from_zero()
            .ask("{{instance}}", &chosen(&s::RSS).now().sum(&["instance"])),
        panel("UDP", "Bps", "Payload of UDP packets, sent and received.")
            .from_zero()
            .colours(vec![("sent", BLUE), ("received", GREEN)])
            .ask("{{direction}}", &chosen(&s::UDP_BYTES).rate(RATE).sum(&["direction"])),
        panel("Packets", "pps", "UDP packets, sent and received. Received far above sent: strangers knock.")
            .from_zero()
            .size(12, 8)
            .colours(vec![("sent", BLUE), ("received", GREEN)])
            .ask("{{direction}}", &chosen(&s::UDP_PACKETS).rate(RATE).sum(&["direction"])),
        panel("Packets lost in the host", "pps", "Refused by the kernel, or dropped as the socket's buffer was full: the host is too busy, or `net.core.rmem_max` too small.")
            .from_zero()
            .size(12, 8)
            .colours(vec![("not sent", RED), ("receive buffer", ORANGE)])
            .ask("not sent", &chosen(&s::UDP_ERRORS).rate(RATE).sum(&[]))
            .ask("receive buffer", &chosen(&s::UDP_DROPPED).rate(RATE).sum(&[])),
    ]
}
