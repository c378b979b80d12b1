//! Answers as people read them: tables without lines, colours only for what is concluded of a peer. Peers choose their
//! names and notes, so what a terminal would obey is taken out of them.

use std::time::Duration;

use pams_shared::{
    identity::TokenInfo,
    terminal::{self, NONE, clean, finish, list, liveness, ms, paint, pairs, plain, presence, transactions, yes},
};

use super::{
    read::{Cluster, Detail, Draining, Forgotten, Found, Page, Peer, Probed, Record, Scrape, Witness},
    token,
};

/// Records, and events, that a table shows; JSON has all that the server keeps.
const RECENT: usize = 10;
/// Clocks that differ by less are not worth a word.
const CLOCK_TOLD_MS: u64 = 1_000;

pub fn peers(page: &Page, colour: bool) -> String {
    if page.peers.is_empty() {
        return "no such peers\n".to_owned();
    }
    let header = ["Name", "Peer", "Status", "Liveness", "Heard ago", "Seen at", "Overlays", "Software"];
    let mut table = plain(&header, 4..5);
    for p in &page.peers {
        table.add_row([
            clean(&p.name),
            p.id.to_string(),
            p.presence.as_ref().map_or_else(|| NONE.to_owned(), |p| p.status.as_str().to_owned()),
            liveness(p.liveness),
            heard(p),
            p.observed.map_or_else(|| NONE.to_owned(), |observed| observed.to_string()),
            list(&p.overlays),
            clean(&p.software),
        ]);
    }
    let more = page.next.map_or_else(String::new, |next| format!("there are more: --after {next}\n"));
    paint(&(finish(&table) + &more), colour)
}

pub fn peer(detail: &Detail, colour: bool) -> String {
    let p = &detail.peer;
    let addresses: Vec<String> = p.addresses.iter().map(ToString::to_string).collect();
    let mut text = pairs(vec![
        ("Peer", p.id.to_string()),
        ("Name", clean(&p.name)),
        ("Presence", p.presence.as_ref().map_or_else(|| NONE.to_owned(), presence)),
        ("Liveness", verdict(detail)),
        ("Home", p.server.map_or_else(|| NONE.to_owned(), |server| server.to_string())),
        ("Heard", format!("{} ago", heard(p))),
        ("Session", session(detail)),
        ("Addresses", list(&addresses)),
        ("Seen at", p.observed.map_or_else(|| NONE.to_owned(), |observed| observed.to_string())),
        ("Metrics", p.metrics.as_ref().map_or_else(|| "off".to_owned(), scrape)),
        ("Overlays", list(&p.overlays)),
        ("Applications", list(&p.applications)),
        ("Software", clean(&p.software)),
        ("Epoch", p.order.epoch.to_string()),
        ("Clock", clock(detail.clock_offset_ms)),
        ("Records shed", detail.records_shed.to_string()),
    ]);
    text += "\n";
    text += &transactions(detail.ledger.iter().map(|(kind, ledger)| (kind.as_str(), *ledger)));
    if !detail.watchers.is_empty() {
        text += "\n";
        text += &watchers(&detail.watchers);
    }
    if !detail.records.is_empty() {
        text += "\n";
        text += &records(&detail.records);
    }
    text += "\n";
    text += &events(detail);
    paint(&text, colour)
}

pub fn probed(p: &Probed, colour: bool) -> String {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let concluded = p.liveness.zip(p.liveness_since_ms).map(|(l, since)| {
        let known = p.age_ms.map_or_else(String::new, |ms| format!(", known {} ago", age(ms)));
        format!("{} since {}{known}", liveness(l), time(since))
    });
    let home = p.home.map(|home| match &p.home_name {
        Some(name) => format!("{home} ({})", clean(name)),
        None => home.to_string(),
    });
    let mut text = pairs(vec![
        ("Peer", p.peer.to_string()),
        ("Name", or_none(p.name.as_deref().map(clean))),
        ("Verdict", clean(&p.verdict).replace('_', " ")),
        ("Because", clean(&p.text)),
        ("Status", or_none(p.status.map(|s| s.as_str().to_owned()))),
        ("Liveness", or_none(concluded)),
        ("Home", or_none(home)),
        ("Took", format!("{} ms", p.took_ms)),
    ]);
    if !p.findings.is_empty() {
        text += "\n";
        text += &findings(&p.findings);
    }
    paint(&text, colour)
}

fn findings(list: &[Found]) -> String {
    let header = ["Asked by", "Name", "Id", "Outcome", "Status", "Total ms", "Queued", "Network", "Hold", "Wait"];
    let mut table = plain(&header, 5..10);
    for f in list {
        let stage = |name| f.stages_ns.get(name).map_or_else(|| NONE.to_owned(), |ns| ms(*ns));
        table.add_row([
            clean(&f.by_role),
            f.by_name.as_deref().map_or_else(|| NONE.to_owned(), clean),
            clean(&f.by),
            outcome(&f.outcome, f.reason.as_deref()),
            f.status.map_or(NONE, |s| s.as_str()).to_owned(),
            f.total_ns.map_or_else(|| NONE.to_owned(), ms),
            stage("queued"),
            stage("network"),
            stage("remote_hold"),
            stage("local_wait"),
        ]);
    }
    finish(&table)
}

fn outcome(outcome: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => clean(&format!("{outcome}: {}", reason.replace('_', " "))),
        None => clean(outcome),
    }
}

pub fn members(cluster: &Cluster, colour: bool) -> String {
    let header = [
        "Name",
        "Server",
        "State",
        "Since",
        "Connected",
        "Entries",
        "Newest",
        "Heard ago",
        "Starts",
        "Addresses",
        "Region",
        "Software",
    ];
    let mut table = plain(&header, 5..8);
    for m in &cluster.members {
        let heard = m.age_ms.map_or_else(|| NONE.to_owned(), age);
        let addresses: Vec<String> = m.addresses.iter().map(ToString::to_string).collect();
        table.add_row([
            clean(&m.name),
            m.id.to_string(),
            clean(&m.state),
            time(m.since_ms),
            yes(m.connected),
            m.entries.to_string(),
            m.upto.to_string(),
            if m.stale { format!("{heard} (stale)") } else { heard },
            m.generation.to_string(),
            list(&addresses),
            clean(&m.region),
            clean(&m.software),
        ]);
    }
    paint(&finish(&table), colour)
}

pub fn draining(d: &Draining) -> String {
    format!("{} sessions are sent to other servers; the server stops when they have gone\n", d.sessions)
}

pub fn forgotten(f: &Forgotten) -> String {
    let what = match (f.entry, f.binding) {
        (true, true) => "its entry is removed, and its id is free for another key",
        (true, false) => "its entry is removed; its id was bound to no key",
        _ => "it had no entry; its id is free for another key",
    };
    format!("peer {} is forgotten: {what}\n", f.peer)
}

pub fn tokens(tokens: &[TokenInfo]) -> String {
    if tokens.is_empty() {
        return "no tokens; `pams-server token create` makes one\n".to_owned();
    }
    let mut table = plain(&["Id", "Role", "State", "Uses left", "Used", "Created", "Expires", "Note"], 3..5);
    for token in tokens {
        table.add_row(token::row(token));
    }
    finish(&table)
}

pub fn uses(uses: Option<u32>) -> String {
    match uses {
        None => "any number of uses".to_owned(),
        Some(1) => "1 use".to_owned(),
        Some(n) => format!("{n} uses"),
    }
}

fn verdict(detail: &Detail) -> String {
    let because = match detail.home.because.as_str() {
        "heard" => "it reports in time",
        "silence" => "it is silent",
        "goodbye" => "it said goodbye",
        "told" if detail.peer.stale => "its home said so, which cannot be heard now",
        "told" => "its home says so",
        other => &clean(other),
    };
    format!("{} since {}: {because}", liveness(detail.peer.liveness), time(detail.peer.liveness_since_ms))
}

fn session(detail: &Detail) -> String {
    let Some(since) = detail.home.session_since_ms.map(time) else { return "at another server".to_owned() };
    match detail.home.session {
        Some(_) => format!("open since {since}"),
        None => format!("lost; the last one began {since}"),
    }
}

fn scrape(metrics: &Scrape) -> String {
    match (metrics.target, &metrics.hint) {
        (Some(target), _) => target.to_string(),
        (None, Some(hint)) => format!("{}, not listed: {}", metrics.announced, clean(hint)),
        (None, None) => format!("{}, not listed", metrics.announced),
    }
}

fn clock(offset_ms: Option<i64>) -> String {
    let Some(offset_ms) = offset_ms else { return NONE.to_owned() };
    let off = offset_ms.unsigned_abs();
    if off < CLOCK_TOLD_MS {
        return "as ours".to_owned();
    }
    let side = if offset_ms > 0 { "ahead of" } else { "behind" };
    format!("{:.1} s {side} ours", off as f64 / 1e3)
}

fn watchers(list: &[Witness]) -> String {
    let header = ["Watched by", "Peer", "Liveness", "Status", "Missed", "Hears", "Is heard", "Told ago", "Watcher"];
    let mut table = plain(&header, 4..5);
    for w in list {
        table.add_row([
            w.name.as_deref().map_or_else(|| NONE.to_owned(), clean),
            w.watcher.to_string(),
            w.liveness.map_or_else(|| NONE.to_owned(), liveness),
            w.status.map_or(NONE, |s| s.as_str()).to_owned(),
            w.missed.to_string(),
            yes(w.hears),
            yes(w.is_heard),
            age(w.age_ms),
            if w.stale { "not live" } else { "live" }.to_owned(),
        ]);
    }
    finish(&table)
}

fn records(list: &[Record]) -> String {
    let header = ["Recent", "Opened", "Target", "Outcome", "Total ms", "Queued", "Network", "Hold", "Wait"];
    let mut table = plain(&header, 4..9);
    for r in &list[list.len().saturating_sub(RECENT)..] {
        let stage = |name| r.stages_ns.get(name).map_or_else(|| NONE.to_owned(), |ns| ms(*ns));
        table.add_row([
            clean(&r.kind),
            time(r.opened_ms),
            clean(&r.target),
            outcome(&r.status, r.reason.as_deref()),
            r.total_ns.map_or_else(|| NONE.to_owned(), ms),
            stage("queued"),
            stage("network"),
            stage("remote_hold"),
            stage("local_wait"),
        ]);
    }
    finish(&table)
}

fn events(detail: &Detail) -> String {
    let mut table = plain(&["Happened", "What", "Epoch"], 2..3);
    for e in &detail.events[detail.events.len().saturating_sub(RECENT)..] {
        table.add_row([time(e.at_ms), clean(&e.what), e.epoch.to_string()]);
    }
    finish(&table)
}

/// Since it, or its home, was heard.
fn heard(peer: &Peer) -> String {
    let age = age(peer.age_ms);
    if peer.stale { format!("{age} (stale)") } else { age }
}

fn time(ms: u64) -> String {
    terminal::time(ms / 1_000)
}

/// Seconds with one digit below a minute, else whole ones, such as "1h 2m 5s".
fn age(ms: u64) -> String {
    if ms < 60_000 {
        return format!("{}.{}s", ms / 1_000, ms % 1_000 / 100);
    }
    humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string()
}
