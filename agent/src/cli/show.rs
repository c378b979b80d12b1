//! Answers as text for people. What others wrote (names, notes) cannot move the cursor or paint: it is cleaned first.

use std::time::{Duration, SystemTime};

use comfy_table::{Cell, CellAlignment, Table, presets::NOTHING};
use pams_shared::status::{Liveness, Presence};

use super::read::{Buddy, Fetched, Home, Ledger, Record, Status, Tally, Why};

/// Clocks that differ by less are not worth a word.
const CLOCK_TOLD_MS: u64 = 1_000;
/// In place of what is not known.
const NONE: &str = "-";

pub fn status(s: &Status, colour: bool) -> String {
    let version = clean(&s.version);
    let up = span(s.uptime_s);
    let mut text = format!("{} is {}, pams-agent {version}, epoch {}, up {up}\n\n", clean(&s.name), s.peer, s.epoch);
    text += &pairs(vec![
        ("Presence", presence(&s.presence)),
        ("Home", home(&s.home)),
        ("Reports", format!("{} records wait for the home, {} were dropped", s.home.backlog, s.home.shed)),
        ("Buddies", tally(&s.buddies)),
        ("Connections", s.connections.to_string()),
    ]);
    text.push('\n');
    text += &ledgers(&s.ledgers);
    paint(&text, colour)
}

pub fn published(p: &Presence) -> String {
    format!("published: {}\n", presence(p))
}

pub fn buddies(list: &[Buddy], colour: bool) -> String {
    if list.is_empty() {
        return "no buddies; name them in the configuration or with --buddy\n".to_owned();
    }
    let header = [
        "Name", "Peer", "Status", "Liveness", "For", "RTT ms", "Queued", "Network", "Hold", "Wait", "Hears",
        "Is heard", "Why",
    ];
    let mut table = plain(&header, 5..10);
    for b in list {
        // Nobody who does not answer has a latency.
        let last = b.last.as_ref().filter(|_| b.is_heard);
        let stage = |of: fn(&Record) -> Option<u64>| last.and_then(of).map_or_else(|| NONE.to_owned(), ms);
        table.add_row([
            b.name.as_deref().map_or_else(|| NONE.to_owned(), clean),
            b.peer.to_string(),
            b.status.map_or(NONE, |s| s.as_str()).to_owned(),
            b.liveness.map_or_else(|| NONE.to_owned(), liveness),
            b.liveness.map_or_else(|| NONE.to_owned(), |_| span(b.liveness_s)),
            stage(|r| r.total_ns),
            stage(|r| r.stages_ns.queued),
            stage(|r| r.stages_ns.network),
            stage(|r| r.stages_ns.remote_hold),
            stage(|r| r.stages_ns.local_wait),
            yes(b.hears),
            yes(b.is_heard),
            b.why.as_ref().map_or_else(|| NONE.to_owned(), why),
        ]);
    }
    paint(&finish(&table), colour)
}

pub fn fetched(f: &Fetched, colour: bool) -> String {
    let source = match (&f.why, f.source.as_str()) {
        (_, "peer") => "the peer itself, just now".to_owned(),
        (Some(w), _) => format!("its home, {} old; the peer itself: {}", span(f.age_s), why(w)),
        (None, _) => format!("its home, {} old", span(f.age_s)),
    };
    let list = |items: &[String]| if items.is_empty() { NONE.to_owned() } else { clean(&items.join(", ")) };
    let text = pairs(vec![
        ("Peer", f.peer.to_string()),
        ("Name", clean(&f.name)),
        ("Told by", source),
        ("Presence", presence(&f.presence)),
        ("Liveness", liveness(f.liveness)),
        ("Addresses", list(&f.addresses)),
        ("Seen at", f.observed.as_deref().map_or_else(|| NONE.to_owned(), clean)),
        ("Overlays", list(&f.overlays)),
        ("Applications", list(&f.applications)),
        ("Software", clean(&f.software)),
    ]);
    paint(&text, colour)
}

/// A line of `ping`.
pub fn pong(name: &str, seq: u64, record: &Record) -> String {
    let known = |stage: Option<u64>| stage.map_or_else(|| NONE.to_owned(), ms);
    let s = &record.stages_ns;
    let split = format!(
        "queued {}, network {}, hold {}, wait {}",
        known(s.queued),
        known(s.network),
        known(s.remote_hold),
        known(s.local_wait)
    );
    let status = record.target_status.as_deref().map_or_else(|| NONE.to_owned(), clean);
    format!("pong from {}: seq={seq} total={} ms ({split}) status={status}\n", clean(name), known(record.total_ns))
}

pub fn no_pong(name: &str, seq: u64, reason: &str, text: &str) -> String {
    format!("no pong from {}: seq={seq} {}: {}\n", clean(name), words(reason), clean(text))
}

/// Nanoseconds as milliseconds, with two digits at least.
pub fn ms(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    match ms {
        ms if ms < 0.995 => format!("{ms:.3}"),
        ms if ms < 9.95 => format!("{ms:.2}"),
        ms => format!("{ms:.1}"),
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

/// A reason of the closed list as people say it.
pub fn words(reason: &str) -> String {
    clean(reason).replace('_', " ")
}

fn presence(p: &Presence) -> String {
    let note = p.note.as_deref().map_or_else(String::new, |n| format!(" ({})", clean(n)));
    let since = match p.since_ms {
        0 => String::new(),
        ms => SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(ms))
            .map_or_else(String::new, |at| format!(", since {}", humantime::format_rfc3339_seconds(at))),
    };
    format!("{}{note}{since}", p.status.as_str())
}

fn home(h: &Home) -> String {
    if !h.connected {
        let why = h.why.as_ref().map_or_else(|| "none was reached yet".to_owned(), why);
        return format!("not connected; {why}");
    }
    let mut text = format!("connected with {}", h.server.as_deref().map_or_else(|| NONE.to_owned(), clean));
    if let Some(observed) = &h.observed {
        text += &format!(", which sees this agent at {}", clean(observed));
    }
    if let Some(ms) = h.clock_offset_ms.filter(|ms| ms.unsigned_abs() >= CLOCK_TOLD_MS) {
        let side = if ms > 0 { "ahead of" } else { "behind" };
        text += &format!("; its clock is {:.1} s {side} ours", ms.unsigned_abs() as f64 / 1e3);
    }
    text
}

fn tally(t: &Tally) -> String {
    let parts = [
        (t.live, liveness(Liveness::Live)),
        (t.overdue, liveness(Liveness::Overdue)),
        (t.gone, liveness(Liveness::Gone)),
        (t.left, liveness(Liveness::Left)),
        (t.unknown, "not judged yet".to_owned()),
    ];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if parts.is_empty() { "none".to_owned() } else { format!("{}: {}", t.total, parts.join(", ")) }
}

fn ledgers(list: &[Ledger]) -> String {
    let header = ["Transactions", "Opened", "Good", "Aborted", "Failed", "Unknown", "In flight", "Late", "Duplicate"];
    let mut table = plain(&header, 1..9);
    for l in list {
        let numbers = [l.opened, l.good, l.aborted, l.failed, l.unknown, l.in_flight, l.late, l.duplicate];
        table.add_row([clean(&l.kind)].into_iter().chain(numbers.map(|n| n.to_string())));
    }
    finish(&table)
}

fn why(w: &Why) -> String {
    format!("{}: {}", words(&w.reason), clean(&w.text))
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// Whole seconds, such as "1h 2m 5s".
fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default().as_secs();
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

fn pairs(rows: Vec<(&str, String)>) -> String {
    let mut table = plain(&[], 0..0);
    for (key, value) in rows {
        table.add_row([key.to_owned(), value]);
    }
    finish(&table)
}

/// A table without lines; the columns in `numbers` are aligned to the right.
fn plain(header: &[&str], numbers: std::ops::Range<usize>) -> Table {
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
