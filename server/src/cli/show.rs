//! Answers as people read them: tables without lines, colours only for what is concluded of a peer. Peers choose their
//! names and notes, so what a terminal would obey is taken out of them.

use std::{ops::Range, time::Duration};

use comfy_table::{Cell, CellAlignment, Table, presets::NOTHING};
use pams_shared::{
    identity::TokenInfo,
    status::{Liveness, Presence},
};

use super::{
    read::{Detail, Forgotten, Ledger, Page, Record, Witness},
    token,
};

/// In place of what is not known.
const NONE: &str = "-";
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
            age(p.age_ms),
            p.observed.to_string(),
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
        ("Heard", format!("{} ago", age(p.age_ms))),
        ("Session", session(detail)),
        ("Addresses", list(&addresses)),
        ("Seen at", p.observed.to_string()),
        ("Overlays", list(&p.overlays)),
        ("Applications", list(&p.applications)),
        ("Software", clean(&p.software)),
        ("Epoch", p.order.epoch.to_string()),
        ("Clock", clock(detail.clock_offset_ms)),
        ("Records shed", detail.records_shed.to_string()),
    ]);
    text += "\n";
    text += &ledgers(detail);
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
    let mut table = plain(&["Id", "State", "Uses left", "Used", "Created", "Expires", "Note"], 2..4);
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

/// Without what a terminal would obey, and without our own marks.
pub fn clean(text: &str) -> String {
    let bad = |c: char| {
        c.is_control()
            || MARKS.contains(&c)
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}

fn presence(p: &Presence) -> String {
    let note = p.note.as_deref().map_or_else(String::new, |n| format!(" ({})", clean(n)));
    let since = if p.since_ms == 0 { String::new() } else { format!(", since {}", time(p.since_ms)) };
    format!("{}{note}{since}", p.status.as_str())
}

fn verdict(detail: &Detail) -> String {
    let because = match detail.home.because.as_str() {
        "heard" => "it reports in time",
        "silence" => "it is silent",
        "goodbye" => "it said goodbye",
        other => &clean(other),
    };
    format!("{} since {}: {because}", liveness(detail.peer.liveness), time(detail.peer.liveness_since_ms))
}

fn session(detail: &Detail) -> String {
    let since = time(detail.home.session_since_ms);
    match detail.home.session {
        Some(_) => format!("open since {since}"),
        None => format!("lost; the last one began {since}"),
    }
}

fn clock(offset_ms: i64) -> String {
    let off = offset_ms.unsigned_abs();
    if off < CLOCK_TOLD_MS {
        return "as ours".to_owned();
    }
    let side = if offset_ms > 0 { "ahead of" } else { "behind" };
    format!("{:.1} s {side} ours", off as f64 / 1e3)
}

fn ledgers(detail: &Detail) -> String {
    let header = ["Transactions", "Opened", "Good", "Aborted", "Failed", "Unknown", "In flight", "Late", "Duplicate"];
    let mut table = plain(&header, 1..9);
    for (kind, l) in &detail.ledger {
        let Ledger { opened, good, aborted, failed, unknown, in_flight, late, duplicate } = l;
        let numbers = [opened, good, aborted, failed, unknown, in_flight, late, duplicate];
        table.add_row([clean(kind)].into_iter().chain(numbers.map(u64::to_string)));
    }
    finish(&table)
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
        let outcome = match &r.reason {
            Some(reason) => format!("{}: {}", r.status, reason.replace('_', " ")),
            None => r.status.clone(),
        };
        let stage = |name| r.stages_ns.get(name).map_or_else(|| NONE.to_owned(), |ns| ms(*ns));
        table.add_row([
            clean(&r.kind),
            time(r.opened_ms),
            clean(&r.target),
            clean(&outcome),
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

fn list(items: &[String]) -> String {
    if items.is_empty() { NONE.to_owned() } else { clean(&items.join(", ")) }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn time(ms: u64) -> String {
    token::time(ms / 1_000)
}

/// Seconds with one digit below a minute, else whole ones, such as "1h 2m 5s".
fn age(ms: u64) -> String {
    if ms < 60_000 {
        return format!("{}.{}s", ms / 1_000, ms % 1_000 / 100);
    }
    humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string()
}

/// Nanoseconds as milliseconds, with two digits at least.
fn ms(ns: u64) -> String {
    match ns as f64 / 1e6 {
        ms if ms < 0.995 => format!("{ms:.3}"),
        ms if ms < 9.95 => format!("{ms:.2}"),
        ms => format!("{ms:.1}"),
    }
}

fn pairs(rows: Vec<(&str, String)>) -> String {
    let mut table = plain(&[], 0..0);
    for (key, value) in rows {
        table.add_row([key.to_owned(), value]);
    }
    finish(&table)
}

/// A table without lines; the columns in `numbers` are aligned to the right.
fn plain(header: &[&str], numbers: Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if !header.is_empty() {
        let align = |i| if numbers.contains(&i) { CellAlignment::Right } else { CellAlignment::Left };
        table.set_header(header.iter().enumerate().map(|(i, h)| Cell::new(h).set_alignment(align(i))));
    }
    for i in numbers {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table's columns two spaces apart, beginning at the left edge.
fn finish(table: &Table) -> String {
    let mut table = table.clone();
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Characters without width that stand for colours until the text is whole, as tables count every visible character:
/// green, yellow, red, and the end of each.
const MARKS: [char; 4] = ['\u{2061}', '\u{2062}', '\u{2063}', '\u{2064}'];

fn liveness(l: Liveness) -> String {
    let mark = match l {
        Liveness::Live => MARKS[0],
        Liveness::Overdue => MARKS[1],
        Liveness::Gone => MARKS[2],
        Liveness::Left => return l.as_str().to_owned(),
    };
    format!("{mark}{}{}", l.as_str(), MARKS[3])
}

fn paint(text: &str, colour: bool) -> String {
    let codes = if colour { ["\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"] } else { [""; 4] };
    MARKS.iter().zip(codes).fold(text.to_owned(), |text, (mark, code)| text.replace(*mark, code))
}
