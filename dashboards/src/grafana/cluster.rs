//! The cluster: is it whole, how fresh is what its servers tell each other, who moves between them, what do they share, and
//! what is odd. All servers answer for all peers; each panel says whether it adds them up or sets them side by side.

use pams_agent::metrics::catalogue as a;
use pams_server::{core::view::MemberState, metrics::catalogue as s};

use super::{
    Column, Dashboard, Panel, Row, Say, Stack, panel, programs,
    style::{self, BLUE, GREEN, ORANGE, RED, YELLOW},
};
use crate::query::{Expr, RATE, Select, chosen};

/// The server that says it.
const BY: &[&str] = &["instance"];

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "pams-cluster",
        title: "PAMS / Cluster",
        description: "The servers among themselves: is the cluster whole, how fresh is what they share, who moves, and what is odd?",
        variables: programs(),
        rows: vec![
            Row { title: "Is the cluster whole?", panels: whole() },
            Row { title: "How fresh is the shared view?", panels: fresh() },
            Row { title: "Who moves?", panels: moves() },
            Row { title: "What is shared?", panels: shared() },
            Row { title: "Oddities", panels: oddities() },
        ],
    }
}

/// How many servers each one sees in that state; by itself it is none of those alive.
fn members(state: MemberState) -> Expr {
    chosen(&s::MEMBERS).is("state", state.as_str()).now()
}

fn stale() -> Expr {
    chosen(&s::ENTRIES).is("home", "stale").now()
}

fn replication(q: f64, by: &[&str]) -> Expr {
    chosen(&s::REPLICATION).bucket().rate(RATE).quantile(q, by)
}

fn staleness(q: f64) -> Expr {
    chosen(&s::STALENESS).bucket().rate(RATE).quantile(q, &[])
}

fn whole() -> Vec<Panel> {
    use MemberState::{Alive, Down, Left, Me, Suspect};
    let alive = members(Alive).max(BY);
    let unlinked = alive.minus(&chosen(&s::LINKS).now().max(BY)).positive().sum(&[]);
    vec![
        panel("Servers that answer", "short", "Servers that Prometheus can scrape. Fewer than you run: see \"Servers down\" on the overview.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(RED, &[(1.0, GREEN)])
            .ask("servers", &members(Me).sum(&[])),
        panel("Views apart by", "short", "Some servers see so many more of the others alive than some do. 0: all agree. Above 0 for longer than a minute: a part of the cluster is cut off from another; see below who sees whom.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, RED)])
            .ask("apart by", &members(Alive).max(&[]).minus(&members(Alive).min(&[]))),
        panel("Down", "short", "Servers that others take for down: no answer, neither to them nor to those that they asked to try. One that says goodbye has left, and is not among them.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, RED)])
            .ask("down", &members(Down).max(&[])),
        panel("Suspected", "short", "Servers that did not answer in time and may still object. Now and then for a second: a slow host or lost packets. All the time: look at that host's CPU.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, YELLOW)])
            .ask("suspected", &members(Suspect).max(&[])),
        panel("Connections missing", "short", "Between servers that see each other alive; each pair has one, and both its ends count. Above 0: UDP gets through only by way of a third, or a call is under way.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, ORANGE)])
            .ask("missing", &unlinked),
        panel("Stale entries", "short", "Peers, departed ones among them, whose home some server cannot hear: what it says of them is old, and marked so. Those of a server that went for good stay for a day.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(1.0, ORANGE)])
            .ask("stale", &stale().max(&[])),
        panel("Oldest view", "s", "Of the servers that are alive, the one that some other heard least lately was heard so long ago. Up to a second or so is idle life; from 3 s on (`cluster.stale_after`) it is said to be stale.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(3.0, ORANGE), (10.0, RED)])
            .ask("age", &chosen(&s::ENTRY_AGE).now().max(&[])),
        panel("Until another holds it, p99", "s", "From when a report was applied at a home until another server had said that it holds it. Agents keep their records until then, so it costs them memory, not time. Above 250 ms an alert fires.")
            .stat(Say::Trend)
            .size(3, 4)
            .steps(GREEN, &[(0.25, ORANGE), (1.0, RED)])
            .nothing("no other server")
            .ask("p99", &replication(0.99, &[])),
        panel("Who sees whom", "short", "Each server's view of the others, its connections with them, and its own agents. Rows that differ: the cluster is split along them; `pams-server members` on each says by name who misses whom.")
            .table(vec![
                Column::label("instance", "server"),
                Column::value("Value #A", "alive", "short"),
                Column::value("Value #B", "suspected", "short"),
                Column::value("Value #C", "down", "short"),
                Column::value("Value #D", "left", "short"),
                Column::value("Value #E", "connections", "short"),
                Column::value("Value #F", "agents", "short"),
            ])
            .size(24, 7)
            .ask("alive", &alive)
            .ask("suspected", &members(Suspect).max(BY))
            .ask("down", &members(Down).max(BY))
            .ask("left", &members(Left).max(BY))
            .ask("connections", &chosen(&s::LINKS).now().max(BY))
            .ask("agents", &chosen(&s::SESSIONS).now().max(BY)),
        panel("Others alive, as each sees it", "short", "Lines that part: the cluster is split. One that falls to 0 while others stay: that server is cut off, and goes on for its own agents alone.")
            .from_zero()
            .size(12, 8)
            .ask("{{instance}}", &alive),
        panel("Others not alive, at worst", "short", "The most that any server sees in that state. down: a crash, or a cut network. left: stopped in good order; both are forgotten after a day.")
            .from_zero()
            .size(12, 8)
            .colours(style::members())
            .ask("{{state}}", &chosen(&s::MEMBERS).matches("state", "suspect|down|left").now().max(&["state"])),
    ]
}

fn fresh() -> Vec<Panel> {
    let acks = |by: &str| chosen(&s::ACKS).is("by", by).rate(RATE).sum(&[]);
    vec![
        panel("Replication", "s", "How many reports took how long from being applied at their home until another server held them. Bands are groups of servers that are equally far apart; one that moves up is a way that became longer, or a server that does not keep up.")
            .heatmap()
            .size(12, 8)
            .nothing("no other server")
            .ask("{{le}}", &chosen(&s::REPLICATION).bucket().increase(RATE).sum(&["le"])),
        panel("Replication lag", "s", "Half of the reports were held elsewhere within p50, 99 of 100 within p99. p50 is the way to the nearest other server and back; p99 that rises alone: pauses, loss, or one slow server.")
            .log()
            .size(12, 8)
            .colours(style::quantiles())
            .nothing("no other server")
            .ask("p50", &replication(0.5, &[]))
            .ask("p95", &replication(0.95, &[]))
            .ask("p99", &replication(0.99, &[])),
        panel("Replication lag by home, p99", "s", "By the server that shares. One line above the others: that server or its network is slow. All of them: look for a slow server that all share with.")
            .log()
            .size(12, 8)
            .nothing("no other server")
            .ask("{{instance}}", &replication(0.99, BY)),
        panel("Staleness of answers", "s", "How old an answer about a peer of another home is, at any server: looked at all the time, so that it does not matter who asks how often. Up to 1 s is idle life; p99 from 3 s on (`cluster.stale_after`): some server is not heard by some other, see below.")
            .log()
            .size(12, 8)
            .colours(style::quantiles())
            .nothing("no peers of another server")
            .ask("p50", &staleness(0.5))
            .ask("p95", &staleness(0.95))
            .ask("p99", &staleness(0.99)),
        panel("Age of what others say", "s", "By server: since it heard the one least lately heard of those that it sees alive. A line that climbs: its stream from that one stands still.")
            .from_zero()
            .size(12, 8)
            .steps(style::PLAIN, &[(10.0, RED)])
            .ask("{{instance}}", &chosen(&s::ENTRY_AGE).now().max(BY)),
        panel("Stale entries by server", "short", "Peers of which this server has only old news. At one server alone: it is cut off from their home. At all: their home is down; its agents come to the others within seconds, and what stays are departed peers.")
            .from_zero()
            .size(12, 8)
            .ask("{{instance}}", &stale().max(BY)),
        panel("Reports acknowledged", "ops", "held: another server has them too. alone: no other was there, or `cluster.ack` is local; if this server is lost just then, agents cannot tell the others again.")
            .stacked(Stack::Areas)
            .size(12, 8)
            .colours(vec![("held", GREEN), ("alone", ORANGE)])
            .ask("held", &acks("held"))
            .ask("alone", &acks("alone")),
        panel("Agents that wait", "short", "Agents whose reports were applied here and wait until another server holds them: about reports a second times the lag. One that only grows: no other server keeps up.")
            .from_zero()
            .size(12, 8)
            .ask("{{instance}}", &chosen(&s::ACKS_WAITING).now().max(BY)),
    ]
}

fn moves() -> Vec<Panel> {
    let moved = |direction: &str| chosen(&s::MOVED).is("direction", direction).increase(RATE).sum(BY);
    let busy = chosen(&s::HANDSHAKES).is("result", "busy").increase(RATE).sum(BY);
    vec![
        panel("Peers that came from another home", "short", "By the server that they came to, in each step of time. Many at once: another server went down or is emptied. Should be near 0 else.")
            .stacked(Stack::Bars)
            .ask("{{instance}}", &moved("in")),
        panel("Peers that went to another home", "short", "By the server that let them go. A server that crashed lets nobody go, so this stays below the panel beside it then.")
            .stacked(Stack::Bars)
            .ask("{{instance}}", &moved("out")),
        panel("Why agents changed their home", "short", "As agents count it that are scraped. lost and silent: servers or networks that went away. told: a server that is emptied. nearer and less_loaded: their own will, seldom. start is the first home after a start.")
            .stacked(Stack::Bars)
            .nothing("no agent is scraped")
            .ask("{{because}}", &chosen(&a::HOME_MOVES).increase(RATE).sum(&["because"])),
        panel("Agents told that their home is lost", "short", "By the other servers, when one was found down. asks: they had not noticed, and asked it then. elsewhere: they had another home already. unreachable: they are gone too, or cannot be called from there. Slow on purpose: letting agents in comes first.")
            .stacked(Stack::Bars)
            .ask("{{result}}", &chosen(&s::TOLD_LOST).increase(RATE).sum(&["result"])),
        panel("Agents by home", "short", "Sessions that are open at each server. Together they are the agents that are here; a band that vanishes goes over to the others within seconds.")
            .stacked(Stack::Areas)
            .ask("{{instance}}", &chosen(&s::SESSIONS).now().sum(BY)),
        panel("Turned away for a moment", "short", "Connections that a server did not take at once, as too many were in their handshake: a storm is let in at the pace that the server can take. They try again by themselves.")
            .stacked(Stack::Bars)
            .ask("{{instance}}", &busy),
    ]
}

fn shared() -> Vec<Panel> {
    let own = chosen(&s::ENTRIES).is("home", "own").now();
    let told = |results: &str| chosen(&s::SHARED).matches("result", results);
    vec![
        panel("Entries by home", "short", "Each server's own entries, departed peers among them. Together they are the directory.")
            .stacked(Stack::Areas)
            .ask("{{instance}}", &own.sum(BY)),
        panel("The directory, as each server has it", "short", "All entries that a server has, its own and those of others: the same everywhere but for what is under way. A line below the others: that server misses some, or its `limits.entries` is met.")
            .from_zero()
            .ask("{{instance}}", &chosen(&s::ENTRIES).now().sum(BY)),
        panel("Memory of entries", "bytes", "Bytes of all entries as they travel, kept by each server: a part of its memory, some hundred bytes for each peer.")
            .from_zero()
            .ask("{{instance}}", &chosen(&s::LOT_BYTES).now().max(BY)),
        panel("Entries told by others", "ops", "Over all servers. applied: news, taken. stale: older than what was held, as happens when a peer moves or news comes by two ways. Much stale all the time: two servers hold the same peer for theirs.")
            .stacked(Stack::Areas)
            .colours(vec![("applied", GREEN), ("stale", ORANGE)])
            .ask("{{result}}", &told("applied|stale").rate(RATE).sum(&["result"])),
        panel("Entries cleared away", "short", "Over all servers. swept: not named any more by a telling anew. buried, unburied: forgotten peers, and the end of their tombstones. orphaned: their server never came back. shed: no room; raise `limits.entries`.")
            .stacked(Stack::Bars)
            .colours(vec![("shed", RED)])
            .ask("{{result}}", &told("shed|swept|orphaned|buried|unburied").increase(RATE).sum(&["result"])),
        panel("Catch-ups", "short", "Streams begun between servers, each told of at both ends. on: from where it had stopped, as after a lost connection. anew: everything, as after a start. Many: connections between servers do not last.")
            .stacked(Stack::Bars)
            .colours(vec![("in anew", ORANGE), ("in on", GREEN), ("out anew", YELLOW), ("out on", BLUE)])
            .ask("{{direction}} {{from}}", &chosen(&s::STREAMS).increase(RATE).sum(&["direction", "from"])),
    ]
}

fn oddities() -> Vec<Panel> {
    let told = |select: Select| select.increase(RATE);
    vec![
        panel("Oddities of membership", "short", "By what they are. renewed, flapped: somebody was taken for down and was not; is its host short of CPU? stalled: this server did not run for a while. impostor: two servers with one data directory. All others: a fault, or another version.")
            .stacked(Stack::Bars)
            .size(12, 8)
            .ask("{{notice}}", &told(chosen(&s::GOSSIP)).sum(&["notice"])),
        panel("Digests that differ", "short", "What one server holds of another's entries was not what that one shares, for too long, so it was told anew. It heals by itself and must not happen: keep the logs of both and report it.")
            .from_zero()
            .size(12, 8)
            .steps(style::PLAIN, &[(1.0, RED)])
            .ask("{{instance}}", &told(chosen(&s::MISMATCHES)).sum(BY)),
    ]
}
