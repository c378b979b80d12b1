//! The overview: is the network well, who is here, how far apart are peers, what gets lost or comes late, and where does
//! the time go. It lives on the server's numbers, which are those of the whole; agents that are scraped add names.

use pams_agent::metrics::catalogue as a;
use pams_server::metrics::catalogue as s;
use pams_shared::record::{Kind, Outcome, Reason, Stage};

use super::{
    Column, Dashboard, Panel, Row, Say, Stack, panel, programs,
    style::{self, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW},
};
use crate::{
    prometheus::{PEER_ID, PEER_NAME},
    query::{Expr, RATE, SHOWN, Select, UP, chosen},
};

/// Rows of a table of pairs.
const PAIRS: usize = 20;
const SLOWEST: usize = 10;

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "pams-overview",
        title: "PAMS / Overview",
        description: "Is the network well, who is here, how far apart are peers, what gets lost, and where does the time go?",
        variables: programs(),
        rows: vec![
            Row { title: "Is the network well?", panels: well() },
            Row { title: "Who is here?", panels: here() },
            Row { title: "How far apart are peers?", panels: apart() },
            Row { title: "Loss and lateness", panels: loss() },
            Row { title: "Where does the time go?", panels: stages() },
        ],
    }
}

/// Of the pings of all peers.
fn pings(metric: &'static pams_shared::catalogue::Metric) -> Select {
    chosen(metric).is("kind", Kind::Ping)
}

/// Of the pings that were opened, those that ended so.
fn ended(outcome: Outcome) -> Expr {
    pings(&s::CLOSED).is("status", outcome.as_str()).rate(RATE).sum(&[])
}

fn unanswered() -> Expr {
    pings(&s::REASONS).is("reason", Reason::NoAnswer.as_str()).rate(RATE).sum(&[])
}

fn late() -> Expr {
    pings(&s::LATE).rate(RATE).sum(&[])
}

/// Sent, so that something could come back.
fn sent() -> Expr {
    ended(Outcome::Good).plus(&unanswered())
}

fn well() -> Vec<Panel> {
    let peers = |liveness: &str| chosen(&s::PEERS_BY_LIVENESS).is("liveness", liveness).now().sum(&[]);
    let here = peers("live").plus(&peers("overdue"));
    // Of those that were there: a target that is no server, or is not scraped at all, says nothing of servers.
    let down = |build| {
        let there = chosen(build).last_in(SHOWN);
        chosen(&UP).now().whether("==", 0).and_on(&["job", "instance"], &there).sum(&[])
    };
    let ledger = |metric| chosen(metric).now().sum(&["instance", "kind"]);
    let off = ledger(&s::OPENED).minus(&ledger(&s::CLOSED)).minus(&ledger(&s::IN_FLIGHT)).abs().sum(&[]);
    vec![
        panel("Servers down", "short", "Servers that Prometheus scraped in the time that is shown and cannot now. Its agents go to the other servers; without another nobody can join, and most of this dashboard stands still.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, RED)])
            .ask("down", &down(&s::BUILD)),
        panel("Agents down", "short", "Agents that Prometheus scraped in the time that is shown and cannot now: those of peers that are gone, and those that it does not reach any more. Agents that it never reached are not among them.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, YELLOW), (10.0, RED)])
            .nothing("none scraped")
            .ask("down", &down(&a::BUILD)),
        panel("Peers here", "percentunit", "Of the peers that have not said goodbye, those that are here: live or overdue. The rest fell silent, and counts until it is forgotten. Below 80 %: a part of the network is away.")
            .stat(Say::Trend)
            .size(3, 4)
            .share()
            .steps(RED, &[(0.5, ORANGE), (0.8, GREEN)])
            .ask("here", &here.over_positive(&here.plus(&peers("gone")))),
        panel("Peers live", "short", "Peers that their home hears as often as it should. Below: who is here.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(RED, &[(1.0, GREEN)])
            .ask("live", &peers("live")),
        panel("Peers gone", "short", "Peers that fell silent without a goodbye. A few are daily life of a P2P network; many at once are an incident.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, YELLOW), (10.0, RED)])
            .ask("gone", &peers("gone")),
        panel("Answered in time", "percentunit", "Of the pings that were sent lately, those answered by their deadline. The rest is lost or late; see below which. Peers that are gone pull it down until nobody pings them any more.")
            .stat(Say::Trend)
            .size(3, 4)
            .share()
            .steps(RED, &[(0.95, ORANGE), (0.99, GREEN)])
            .decimals(2)
            .ask("in time", &ended(Outcome::Good).over(&sent())),
        panel("Round trip, p95", "s", "19 of 20 answered pings took no longer, over all pairs of peers. It says how far apart peers are, so compare it with itself.")
            .stat(Say::Trend)
            .size(3, 4)
            .ask("p95", &pings(&s::TOTAL).bucket().rate(RATE).quantile(0.95, &[])),
        panel("Ledger off by", "short", "Opened less closed less in flight, over all kinds. 0: every transaction is accounted for. Anything else is a bug of PAMS; see the alert PamsLedgerNotConserved.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, RED)])
            .ask("off by", &off),
    ]
}

fn here() -> Vec<Panel> {
    let believed_gone = chosen(&a::BUDDY_UP).now().where_("==", 0).counted(&["name", "peer"]);
    let watched = chosen(&a::BUDDY_UP).now().counted(&["name", "peer"]);
    vec![
        panel("Peers by liveness", "short", "What homes conclude of the peers: live, overdue (one report late), gone (silent), left (said goodbye). Gone that grows while live falls: look at who they are with `pams-server peers --liveness gone`.")
            .stacked(Stack::Areas)
            .colours(style::liveness())
            .ask("{{liveness}}", &chosen(&s::PEERS_BY_LIVENESS).now().sum(&["liveness"])),
        panel("Peers by status", "short", "What the peers that are here say of themselves; unknown have not said anything yet.")
            .stacked(Stack::Areas)
            .colours(style::status())
            .ask("{{status}}", &chosen(&s::PEERS_BY_STATUS).now().sum(&["status"])),
        panel("Comings and goings", "short", "Peers that came, returned, restarted, left or are gone, in each step of time; moved are those that went to another home, not away. Many that restart: is a version crashing?")
            .stacked(Stack::Bars)
            .colours(vec![("gone", RED), ("left", style::PALE), ("came", GREEN), ("returned", BLUE), ("restarted", ORANGE), ("superseded", PURPLE), ("forgotten", GREY), ("moved", style::TEAL)])
            .ask("{{event}}", &chosen(&s::EVENTS).increase(RATE).sum(&["event"])),
        panel("Not live to their buddies", "short", "Peers that at least one watcher does not see live, and how many watch them at all. One watcher of many: the way between the two is cut. All of them: the peer is gone. Click a peer to see it from all sides.")
            .table(vec![
                Column::label("name", "peer"),
                Column::peer("peer", "id"),
                Column::value("Value #A", "watchers that miss it", "short"),
                Column::value("Value #B", "watchers", "short"),
            ])
            .size(24, 7)
            .nothing("everybody is live")
            .ask("miss it", &believed_gone)
            .ask("watchers", &watched.and_on(&["name", "peer"], &believed_gone)),
    ]
}

fn apart() -> Vec<Panel> {
    let total = || pings(&s::TOTAL).bucket();
    let by: &[&str] = &[PEER_NAME, "name", "peer"];
    let rtt = chosen(&a::BUDDY_RTT).now().max(by).top(PAIRS);
    let stage = |stage: Stage| chosen(&a::BUDDY_STAGE).is("stage", stage.as_str()).now().max(by).and_on(by, &rtt);
    vec![
        panel("Round trips", "s", "How many answered pings took how long, over all pairs. Each band is a group of pairs that are equally far apart; one that moves up is a way that became longer.")
            .heatmap()
            .size(12, 8)
            .ask("{{le}}", &total().increase(RATE).sum(&["le"])),
        panel("Round trip", "s", "Half of the pings took no longer than p50, 99 of 100 no longer than p99. p99 that rises alone: a few pairs or moments; p50 too: everybody.")
            .log()
            .size(12, 8)
            .colours(style::quantiles())
            .ask("p50", &total().rate(RATE).quantile(0.5, &[]))
            .ask("p95", &total().rate(RATE).quantile(0.95, &[]))
            .ask("p99", &total().rate(RATE).quantile(0.99, &[])),
        panel("Farthest pairs", "s", "The pairs whose last ping took longest, and which part of it was the network, the other side or a queue. Only of agents that are scraped, up to metrics.per_peer_max buddies of each.")
            .table(vec![
                Column::label(PEER_NAME, "watcher"),
                Column::label("name", "buddy"),
                Column::peer("peer", "buddy's id"),
                Column::value("Value #A", "round trip", "s"),
                Column::value("Value #B", "network", "s"),
                Column::value("Value #C", "remote hold", "s"),
                Column::value("Value #D", "queued", "s"),
                Column::value("Value #E", "local wait", "s"),
            ])
            .size(24, 9)
            .ask("round trip", &rtt)
            .ask("network", &stage(Stage::Network))
            .ask("remote hold", &stage(Stage::RemoteHold))
            .ask("queued", &stage(Stage::Queued))
            .ask("local wait", &stage(Stage::LocalWait)),
    ]
}

fn loss() -> Vec<Panel> {
    let share = |part: Expr| part.over(&sent());
    let late_seconds = || chosen(&a::LATE_SECONDS).bucket();
    let of_agent = |select: Select| select.is("kind", Kind::Ping).rate(RATE).sum(&[PEER_NAME]);
    let not_good = of_agent(chosen(&a::CLOSED).is_not("status", Outcome::Good.as_str()));
    vec![
        panel("Never answered, or too late", "percentunit", "Of the pings that were sent. Lost: no answer ever came. Late: it came after the deadline, so the other side lives, but is slow or far. Above 5 % lost or 2 % late an alert fires.")
            .from_zero()
            .colours(vec![("lost", RED), ("late", ORANGE)])
            .steps(style::PLAIN, &[(0.05, RED)])
            .ask("lost", &share(unanswered().minus(&late()).positive()))
            .ask("late", &share(late())),
        panel("Why pings did not end well", "ops", "By reason. no_answer: sent, nothing came back in time. not_sent: no connection came about, as the peer is away or its port is closed. certificate and clock: look at the agents' `status`. crash: its agent died with it in flight.")
            .stacked(Stack::Areas)
            .colours(vec![("no_answer", RED), ("not_sent", ORANGE), ("refused", YELLOW), ("certificate", PURPLE), ("clock", BLUE), ("cancelled", style::PALE), ("shutdown", GREY), ("crash", "#8F3BB8")])
            .ask("{{reason}}", &pings(&s::REASONS).rate(RATE).sum(&["reason"])),
        panel("How late", "s", "Time from sending to the answers that came after their deadline. Just above the deadline: raise `ping.deadline`; far above: look for a long queue. Only of agents that are scraped; no line: nothing came late.")
            .from_zero()
            .colours(style::quantiles())
            .ask("p50", &late_seconds().rate(RATE).quantile(0.5, &[]))
            .ask("p95", &late_seconds().rate(RATE).quantile(0.95, &[])),
        panel("Pings by how they ended", "ops", "All pings of all peers. good + aborted + failed + unknown is all that were closed; what is in flight is no loss.")
            .stacked(Stack::Areas)
            .colours(style::outcomes())
            .size(12, 8)
            .ask("{{status}}", &pings(&s::CLOSED).rate(RATE).sum(&["status"])),
        panel("Agents whose pings end badly", "percentunit", "Of the pings that an agent closed, those not answered in time, for the ten worst. All alike: somebody they all watch is away. One stands out: look at its network.")
            .share()
            .size(12, 8)
            .ask("{{peer_name}}", &not_good.over_positive(&of_agent(chosen(&a::CLOSED))).top(SLOWEST)),
    ]
}

fn stages() -> Vec<Panel> {
    let stage = || pings(&s::STAGE);
    let mean = |window| {
        let by: &[&str] = &["stage"];
        stage().total().rate(window).sum(by).over_positive(&stage().count().rate(window).sum(by))
    };
    let held = chosen(&a::BUDDY_STAGE).is("stage", Stage::RemoteHold.as_str()).now().max(&["name"]);
    let queued = |of: fn(Select) -> Select| {
        of(chosen(&a::STAGE).is("kind", Kind::Ping).is("stage", Stage::Queued.as_str())).rate(RATE).sum(&[PEER_NAME])
    };
    vec![
        panel("Mean round trip by stage", "s", "Where an answered ping spent its time; the stages add up to the round trip. network: between the two sockets. remote_hold: the peer that was asked. queued and local_wait: the agent that asked. Whoever grows is to blame.")
            .stacked(Stack::Areas)
            .colours(style::stages())
            .size(12, 8)
            .ask("{{stage}}", &mean(RATE)),
        panel("p95 by stage", "s", "19 of 20 pings spent no longer in each stage. On an axis of powers of ten, as a queue of 0.1 ms stands beside a network of 100 ms.")
            .log()
            .colours(style::stages())
            .size(12, 8)
            .ask("{{stage}}", &stage().bucket().rate(RATE).quantile(0.95, &["stage"])),
        panel("Mean by stage, whole range", "s", "The same means over the whole time that is shown.")
            .bars()
            .steps(BLUE, &[])
            .ask("{{stage}}", &mean(SHOWN)),
        panel("Slowest to answer", "s", "remote_hold of the last ping: the peers that take longest to answer, as whoever watches them measures it. Their own CPU or host is busy; the network is not in this number.")
            .log()
            .ask("{{name}}", &held.top(SLOWEST)),
        panel("Longest queued", "s", "Mean time that an agent's own pings waited before they were sent, for the ten worst. Above some ms its host is busy, or it was still connecting.")
            .log()
            .ask("{{peer_name}}", &queued(Select::total).over_positive(&queued(Select::count)).top(SLOWEST)),
        panel("Network, all pairs", "s", "The network's part alone, as a heatmap: what is left of the round trip when both sides' own time is taken off.")
            .heatmap()
            .size(24, 8)
            .ask("{{le}}", &stage().is("stage", Stage::Network.as_str()).bucket().increase(RATE).sum(&["le"])),
    ]
}

/// What names a peer, for the queries of a variable.
pub const NAMED: [&str; 2] = [PEER_ID, PEER_NAME];
