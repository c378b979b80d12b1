//! How both command lines show things to people: tables without lines, colours only for what is concluded of a peer. What
//! others wrote (names, notes) cannot move the cursor or paint: [`clean`] it first.

use std::{
    io::IsTerminal,
    ops::Range,
    time::{Duration, SystemTime},
};

use comfy_table::{Cell, CellAlignment, Table, presets::NOTHING};

use crate::{
    config::{Change, Changes},
    record::Ledger,
    status::{Liveness, Presence},
};

/// In place of what is not known.
pub const NONE: &str = "-";

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    Table,
    Json,
}

/// Whether what is written there may be in colour: it is a terminal, and `NO_COLOR` is not set.
pub fn colour(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
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

pub fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

pub fn list(items: &[String]) -> String {
    if items.is_empty() { NONE.to_owned() } else { clean(&items.join(", ")) }
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

/// Unix seconds as RFC 3339.
pub fn time(seconds: u64) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    at.map_or_else(|| NONE.to_owned(), |at| humantime::format_rfc3339_seconds(at).to_string())
}

/// With its note, and since when.
pub fn presence(p: &Presence) -> String {
    let note = p.note.as_deref().map_or_else(String::new, |n| format!(" ({})", clean(n)));
    let since = if p.since_ms == 0 { String::new() } else { format!(", since {}", time(p.since_ms / 1_000)) };
    format!("{}{note}{since}", p.status.as_str())
}

/// What reading the configuration again changed, a line for each key.
pub fn changes(c: &Changes) -> String {
    if c.is_empty() {
        return "the configuration is good, and as it was\n".to_owned();
    }
    let value = |v: &Option<String>| v.as_deref().map_or_else(|| "nothing".to_owned(), clean);
    let line = |c: &Change| format!("{}: {} -> {}", clean(&c.key), value(&c.from), value(&c.to));
    let now = c.changed.iter().map(|c| format!("{}\n", line(c)));
    let later = c.restart.iter().map(|c| format!("{} at the next start only: restart it\n", line(c)));
    now.chain(later).collect()
}

/// The ledgers as a table, a row for each kind.
pub fn transactions<'a>(ledgers: impl IntoIterator<Item = (&'a str, Ledger)>) -> String {
    let header = ["Transactions", "Opened", "Good", "Aborted", "Failed", "Unknown", "In flight", "Late", "Duplicate"];
    let mut table = plain(&header, 1..9);
    for (kind, ledger) in ledgers {
        let Ledger { opened, good, aborted, failed, unknown, in_flight, late, duplicate } = ledger;
        let numbers = [opened, good, aborted, failed, unknown, in_flight, late, duplicate];
        table.add_row([clean(kind)].into_iter().chain(numbers.map(|n| n.to_string())));
    }
    finish(&table)
}

/// A key and its value a line.
pub fn pairs(rows: Vec<(&str, String)>) -> String {
    let mut table = plain(&[], 0..0);
    for (key, value) in rows {
        table.add_row([key.to_owned(), value]);
    }
    finish(&table)
}

/// A table without lines; the columns in `numbers` are aligned to the right.
pub fn plain(header: &[&str], numbers: Range<usize>) -> Table {
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
pub fn finish(table: &Table) -> String {
    let mut table = table.clone();
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Characters without width that stand for colours until the text is whole, as tables count every visible character:
/// green, yellow, red, and the end of each.
const MARKS: [char; 4] = ['\u{2061}', '\u{2062}', '\u{2063}', '\u{2064}'];

/// Coloured once it is [painted](paint).
pub fn liveness(l: Liveness) -> String {
    let mark = match l {
        Liveness::Live => MARKS[0],
        Liveness::Overdue => MARKS[1],
        Liveness::Gone => MARKS[2],
        Liveness::Left => return l.as_str().to_owned(),
    };
    format!("{mark}{}{}", l.as_str(), MARKS[3])
}

/// Puts colours, or nothing, in place of the marks.
pub fn paint(text: &str, colour: bool) -> String {
    let codes = if colour { ["\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"] } else { [""; 4] };
    MARKS.iter().zip(codes).fold(text.to_owned(), |text, (mark, code)| text.replace(*mark, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_neither_moves_the_cursor_nor_paints() {
        let name = format!("a\x1b[2J\r\u{202e}b{}c{}", MARKS[0], MARKS[3]);
        let shown = paint(&clean(&name), true);
        assert_eq!(shown, "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}");
    }

    #[test]
    fn colours_take_no_room_in_a_table() {
        let mut table = plain(&["Liveness", "N"], 1..2);
        table.add_row([liveness(Liveness::Live), 7.to_string()]);
        table.add_row([liveness(Liveness::Left), 10.to_string()]);
        let text = finish(&table);
        assert_eq!(paint(&text, false), "Liveness   N\nlive       7\nleft      10\n");
        assert!(paint(&text, true).contains("\n\x1b[32mlive\x1b[0m       7\n"));
    }

    #[test]
    fn milliseconds_keep_three_digits() {
        for (ns, expected) in [
            (0, "0.000"),
            (840, "0.001"),
            (994_000, "0.994"),
            (996_000, "1.00"),
            (9_960_000, "10.0"),
            (84_000_000, "84.0"),
            (5_000_000_000, "5000.0"),
        ] {
            assert_eq!(ms(ns), expected);
        }
    }
}
