//! One peer seen from all sides: what it says itself, how it sees others, how others see it, and how its home does. When
//! these differ, the way between two of them is cut, and nobody has died.

use pams_agent::metrics::catalogue as a;
use pams_server::metrics::catalogue as s;
use pams_shared::{
    catalogue::Metric,
    record::{Kind, Stage},
};

use super::{
    Dashboard, Panel, Row, Say, Stack, Variable,
    overview::NAMED,
    panel, programs,
    style::{self, BLUE, GREEN, ORANGE, RED, YELLOW},
};
use crate::{
    prometheus::{PEER_ID, PEER_NAME},
    query::{Expr, RATE, SHOWN, Select, chosen, time},
};

const LIVE: &[(i64, &str, &str)] = &[(1, "live", GREEN), (0, "not live", RED)];

pub fn dashboard() -> Dashboard {
    let mut variables = programs();
    // Whoever is scraped, and whoever a scraped agent watches.
    let scraped = chosen(&a::BUILD).last_in(SHOWN).group(&NAMED);
    let watched = chosen(&a::BUDDY_UP).last_in(SHOWN).relabel("peer", PEER_ID).relabel("name", PEER_NAME).group(&NAMED);
    variables.push(Variable {
        name: "peer",
        label: "Peer",
        description: "The peer that is looked at. Its id is the value, so that it stays the same under another name.",
        query: format!("query_result({})", scraped.or_on(&[PEER_ID], &watched)),
        regex: "/peer_id=\"(?<value>[^\"]+)\".*peer_name=\"(?<text>[^\"]+)\"/",
        many: false,
    });
    Dashboard {
        uid: "pams-peer",
        title: "PAMS / Peer",
        description: "One peer seen from all sides: by itself, by those that watch it, and by its home.",
        variables,
        rows: vec![
            Row { title: "Is it well?", panels: itself() },
            Row { title: "As others see it", panels: seen() },
            Row { title: "As it sees others", panels: sees() },
            Row { title: "As its home sees it", panels: home() },
            Row { title: "Subscriptions and files", panels: telling() },
            Row { title: "Its agent, the program", panels: program() },
        ],
    }
}

/// What the peer's own agent tells.
fn own(metric: &'static Metric) -> Select {
    chosen(metric).is(PEER_ID, "$peer")
}

/// What agents tell of it as their buddy.
fn of_it(metric: &'static Metric) -> Select {
    chosen(metric).is("peer", "$peer")
}

fn itself() -> Vec<Panel> {
    vec![
        panel("Seen live by", "percentunit", "Of those that watch it, those that see it live. None: it is gone. Some: it lives, and the way between it and the others is cut; see who below. The panels beside it are its own word.")
            .stat(Say::Now)
            .size(3, 4)
            .share()
            .steps(RED, &[(0.01, ORANGE), (1.0, GREEN)])
            .nothing("nobody watches it")
            .ask("watchers", &of_it(&a::BUDDY_UP).now().avg(&[])),
        panel("Home", "short", "Whether a home takes its reports. Without one it keeps its newest records and goes on pinging; `pams-agent status` says why there is none.")
            .stat(Say::Now)
            .size(3, 4)
            .words(&[(1, "connected", GREEN), (0, "none", RED)])
            .ask("home", &own(&a::HOME_CONNECTED).now().max(&[])),
        panel("Backlog", "short", "Records that its home has not acknowledged yet. It grows while the home is away, and falls to near 0 when it is back.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1_000.0, ORANGE)])
            .ask("records", &own(&a::BACKLOG).now().max(&[])),
        panel("Certificate left", "s", "Until its certificate runs out. It lives for a day and is renewed 8 hours before its end, so below 8 hours renewal fails.")
            .stat(Say::Now)
            .size(3, 4)
            .steps(RED, &[(4.0 * 3_600.0, ORANGE), (7.0 * 3_600.0, GREEN)])
            .ask("left", &own(&a::CERTIFICATE_EXPIRY).now().max(&[]).minus(&time())),
        panel("Clock", "s", "How far the home's clock is ahead of its own. It does not change what is measured; beyond some seconds certificates fail.")
            .stat(Say::Now)
            .size(3, 4)
            .ask("ahead", &own(&a::HOME_CLOCK_OFFSET).now().max(&[])),
        panel("Configuration", "short", "Whether its file was good when it was read last. Not taken: an older one is in force, and a restart would fail; its log says what is wrong.")
            .stat(Say::Now)
            .size(3, 4)
            .words(&[(1, "in force", GREEN), (0, "not taken", RED)])
            .ask("configuration", &own(&a::RELOADED).now().min(&[])),
        panel("Up for", "s", "Time since its agent started.").stat(Say::Now)
            .size(3, 4).ask("up for", &time().minus(&own(&a::START).now().max(&[]))),
        panel("Version", "string", "The version of its agent. Nothing here: its agent is not scraped, so only what others say of it is known.")
            .stat(Say::Name)
            .size(3, 4)
            .nothing("not scraped")
            .ask("{{version}}", &own(&a::BUILD).now().max(&["version"])),
        panel("Status it publishes", "short", "What it tells those that watch it.")
            .timeline()
            .size(24, 5)
            .words(&[(1, "is", BLUE), (0, "is not", "transparent")])
            .ask("{{status}}", &own(&a::STATUS).now().max(&["status"])),
    ]
}

fn seen() -> Vec<Panel> {
    let by: &[&str] = &[PEER_NAME];
    let stage = |stage: Stage| of_it(&a::BUDDY_STAGE).is("stage", stage.as_str()).now().max(by);
    vec![
        panel("Who sees it live", "short", "Each watcher's own conclusion. All red: it is gone. Some red: it lives, and the way between it and them is cut. A gap: the watcher itself was not there.")
            .timeline()
            .size(24, 7)
            .words(LIVE)
            .nothing("nobody watches it")
            .ask("{{peer_name}}", &of_it(&a::BUDDY_UP).now().max(by)),
        panel("Round trip from its watchers", "s", "The last ping of each watcher, while it is answered. A line that ends: no answer.")
            .log()
            .ask("{{peer_name}}", &of_it(&a::BUDDY_RTT).now().max(by)),
        panel("Network from its watchers", "s", "The network's part of it: how far it is from whom.")
            .log()
            .ask("{{peer_name}}", &stage(Stage::Network)),
        panel("How long it takes to answer", "s", "Its own part, remote_hold: from the ping's arrival in its kernel to its pong. The same from all watchers: it is busy; look at its CPU below.")
            .log()
            .ask("{{peer_name}}", &stage(Stage::RemoteHold)),
        panel("A second witness", "s", "What QUIC itself takes for the round trip, smoothed. Near the network's part: both are right. Far above it: acknowledgements are held back, or a queue stands still.")
            .log()
            .size(12, 8)
            .ask("{{peer_name}}", &of_it(&a::BUDDY_PATH_RTT).now().max(by)),
        panel("Its clock, as its watchers see it", "s", "How far its wall clock was ahead when each watcher connected. All alike: its clock is off; one: that watcher's is.")
            .size(12, 8)
            .ask("{{peer_name}}", &of_it(&a::BUDDY_CLOCK_OFFSET).now().max(by)),
    ]
}

fn sees() -> Vec<Panel> {
    let stage = |of: fn(Select) -> Select| of(own(&a::STAGE).is("kind", Kind::Ping)).rate(RATE).sum(&["stage"]);
    let mean: Expr = stage(Select::total).over_positive(&stage(Select::count));
    vec![
        panel("Its buddies by liveness", "short", "What it concludes of those it watches. All gone at once: it is cut off itself.")
            .stacked(Stack::Areas)
            .colours(style::liveness())
            .ask("{{liveness}}", &own(&a::BUDDIES).now().sum(&["liveness"])),
        panel("Round trip to its buddies", "s", "The last ping to each buddy, while it is answered. All lines up at once: its own line or host; one line: that buddy.")
            .log()
            .ask("{{name}}", &own(&a::BUDDY_RTT).now().max(&["name"])),
        panel("Its mean ping by stage", "s", "Where its pings spend their time. queued and local_wait are its own, network is between, remote_hold is its buddies'.")
            .stacked(Stack::Areas)
            .colours(style::stages())
            .ask("{{stage}}", &mean),
        panel("Its pings by how they ended", "ops", "good: answered in time. aborted: not. failed: turned away. unknown: lost track, by a crash or a stop.")
            .stacked(Stack::Areas)
            .colours(style::outcomes())
            .ask("{{status}}", &own(&a::CLOSED).is("kind", Kind::Ping).rate(RATE).sum(&["status"])),
        panel("Why, where not good", "ops", "no_answer: sent and nothing came. not_sent: no connection. refused: nothing listens there. certificate and clock: `pams-agent status` says more.")
            .stacked(Stack::Areas)
            .ask("{{reason}}", &own(&a::REASONS).is("kind", Kind::Ping).rate(RATE).sum(&["reason"])),
        panel("Late and duplicate answers", "ops", "Answers after the deadline, and answers that came twice. Late ones: the way is longer than the deadline allows. Duplicates: a network that repeats packets.")
            .from_zero()
            .colours(vec![("late", ORANGE), ("duplicate", BLUE)])
            .ask("late", &own(&a::LATE).is("kind", Kind::Ping).rate(RATE).sum(&[]))
            .ask("duplicate", &own(&a::DUPLICATE).is("kind", Kind::Ping).rate(RATE).sum(&[])),
        panel("Its round trips", "s", "How many of its answered pings took how long. Bands are groups of buddies that are equally far; all bands that move up at once are its own line.")
            .heatmap()
            .size(24, 8)
            .ask("{{le}}", &own(&a::TOTAL).is("kind", Kind::Ping).bucket().increase(RATE).sum(&["le"])),
    ]
}

fn home() -> Vec<Panel> {
    vec![
        panel("Live to its home", "short", "What its home concludes of it. Needs `metrics.per_peer_max` of the server, which is 0 by default.")
            .timeline()
            .words(LIVE)
            .nothing("not shown: metrics.per_peer_max of the server")
            .ask("{{instance}}", &of_it(&s::PEER_UP).now().max(&["instance"])),
        panel("Silent to its home", "s", "Time since its home heard anything of it. It reports every 1.5 s by default, and is gone after 4.5 s. Needs `metrics.per_peer_max` of the server.")
            .from_zero()
            .steps(style::PLAIN, &[(4.5, RED)])
            .nothing("not shown: metrics.per_peer_max of the server")
            .ask("{{instance}}", &of_it(&s::PEER_SILENCE).now().max(&["instance"])),
        panel("Its pings, as its home counts them", "ops", "The same counts as its own agent's, by way of its reports. When they stop growing here and not there, reports do not get through. Needs `metrics.per_peer_max` of the server.")
            .stacked(Stack::Areas)
            .colours(style::outcomes())
            .nothing("not shown: metrics.per_peer_max of the server")
            .ask("{{status}}", &of_it(&s::PEER_CLOSED).is("kind", Kind::Ping).rate(RATE).sum(&["status"])),
    ]
}

fn telling() -> Vec<Panel> {
    vec![
        panel("Its subscriptions", "short", "Whom it is told of, by way and state. waiting: no contact yet. refused: the other's limits are full, or it knows no subscriptions; its log says which.")
            .from_zero()
            .ask("{{path}} {{state}}", &own(&a::SUBSCRIPTIONS).now().sum(&["path", "state"])),
        panel("Its subscribers", "short", "Who is told of it. active; silent: not acknowledging in time; away: without a connection for a moment.")
            .stacked(Stack::Areas)
            .colours(vec![("active", GREEN), ("silent", RED), ("away", YELLOW)])
            .ask("{{state}}", &own(&a::SUBSCRIBERS).now().sum(&["state"])),
        panel("When they were told, p95", "s", "From publishing until its subscribers had told their side: after least and before most. What is between cannot be known from here.")
            .log()
            .colours(style::bounds())
            .ask("{{bound}}", &own(&a::TOLD).bucket().rate(RATE).quantile(0.95, &["bound"])),
        panel("Subscribers lost, changes skipped", "short", "Subscribers that fell silent and did not come back; changes of others that it did not tell here because a newer one was there.")
            .from_zero()
            .ask("subscribers lost", &own(&a::SUBSCRIBERS_LOST).increase(RATE).sum(&[]))
            .ask("changes skipped", &own(&a::SKIPPED).increase(RATE).sum(&[])),
        panel("Records handed on", "ops", "Written to CSV files, and those that a consumer was too slow for. Dropped above 0: a slow disk, or an application that does not read.")
            .from_zero()
            .colours(vec![("to CSV", GREEN), ("dropped", RED)])
            .ask("to CSV", &own(&a::CSV_WRITTEN).rate(RATE).sum(&[]))
            .ask("dropped", &own(&a::DROPPED).rate(RATE).sum(&[])),
        panel("CSV files", "short", "Whether the disk takes its records. Failing: is it full, or may the agent not write there? Its log says so.")
            .stat(Say::Now)
            .size(4, 8)
            .words(&[(0, "written", GREEN), (1, "failing", RED)])
            .nothing("none asked for")
            .ask("csv", &own(&a::CSV_FAILING).now().max(&[])),
        panel("Configuration read", "s", "Time since its configuration was read well, at the start or by a reload.")
            .stat(Say::Now)
            .size(4, 8)
            .ask("read", &time().minus(&own(&a::RELOADED_AT).now().max(&[]))),
    ]
}

fn program() -> Vec<Panel> {
    vec![
        panel("CPU", "percentunit", "Of one core. 10 buddies take well under 1 %; an agent that needs much more has many buddies or many callers.")
            .from_zero()
            .ask("cpu", &own(&a::CPU).rate(RATE).sum(&[])),
        panel("Memory", "bytes", "Memory of the process that is in RAM.").from_zero().ask("resident", &own(&a::RSS).now().max(&[])),
        panel("Connections", "short", "Connections with peers: those it watches, and those that watch it.")
            .from_zero()
            .ask("connections", &own(&a::CONNECTIONS).now().max(&[])),
        panel("UDP", "Bps", "Payload sent and received. Presence is small: some hundred bytes a second for each buddy at 1 ping a second.")
            .from_zero()
            .colours(vec![("sent", BLUE), ("received", GREEN)])
            .ask("{{direction}}", &own(&a::UDP_BYTES).rate(RATE).sum(&["direction"])),
        panel("Lost in its own host", "ops", "Packets that its kernel refused to send or dropped as the socket's buffer was full, stamps and records that were shed. All 0 on a healthy host; else the host is too busy, and its loss is not the network's.")
            .from_zero()
            .colours(vec![("not sent", RED), ("receive buffer", ORANGE), ("stamps", YELLOW), ("records", style::PURPLE)])
            .ask("not sent", &own(&a::UDP_ERRORS).rate(RATE).sum(&[]))
            .ask("receive buffer", &own(&a::UDP_DROPPED).rate(RATE).sum(&[]))
            .ask("stamps", &own(&a::STAMPS_SHED).rate(RATE).sum(&[]))
            .ask("records", &own(&a::SHED).rate(RATE).sum(&[])),
        panel("Notices", "ops", "What its agent noticed, by what it is: connections that came and went, calls that failed, frames refused. Its log has each with its reason.")
            .stacked(Stack::Areas)
            .ask("{{notice}}", &own(&a::NOTICES).rate(RATE).sum(&["notice"])),
        panel("Frames refused", "ops", "By reason. unknown_kind: peers of a newer version. All others: a bug, or somebody who tries.")
            .stacked(Stack::Areas)
            .ask("{{reason}}", &own(&a::REJECTED).rate(RATE).sum(&["reason"])),
        panel("UDP packets", "pps", "Sent and received. Received far above sent: many call it, or somebody who should not.")
            .from_zero()
            .colours(vec![("sent", BLUE), ("received", GREEN)])
            .ask("{{direction}}", &own(&a::UDP_PACKETS).rate(RATE).sum(&["direction"])),
        panel("Homes, and what is not shown", "short", "Changes of home by why: lost and silent are servers or networks that went away, told is a server that is emptied, nearer and less_loaded are its own will. Series of buddies that are left out because there are more than `metrics.per_peer_max`.")
            .from_zero()
            .ask("another home: {{because}}", &own(&a::HOME_MOVES).increase(RATE).sum(&["because"]))
            .ask("series not shown", &own(&a::DROPPED_SERIES).now().max(&[])),
    ]
}
