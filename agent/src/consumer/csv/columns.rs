//! The columns of the files: RFC 4180, one record a line, CRLF, the names in the first line. They are stable: a version
//! may add columns at the end, and neither moves, renames nor drops one. Names are those of the JSON forms of a record.
//!
//! An empty field was not measured, or does not apply; it is never 0. The local peer is in no line: it is in the file's
//! name. A ping's line has about 150 bytes: 32 of them are the correlator, 36 the peer's id, 26 time and kind, 10 the
//! states, 30 to 45 the times in ns, 16 commas and line end.

use std::io::Write;

use pams_shared::record::{Record, Stage};
use uuid::fmt::Hyphenated;

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// One or two sentences: what it is, its unit, when it is empty.
    pub help: &'static str,
}

const fn column(name: &'static str, help: &'static str) -> Column {
    Column { name, help }
}

/// All columns, in their order.
pub const COLUMNS: [Column; 15] = [
    column(
        "opened_ms",
        "When it was opened: wall clock, ms since 1970-01-01 UTC. A label; the durations are measured otherwise.",
    ),
    column("kind", "What the transaction was: presence.ping, pams.report, or what an application calls it."),
    column(
        "correlator",
        "Ties both ends together: the trace id in 32 hex digits, and behind a dash the span id unless it is the trace id's low half.",
    ),
    column("target", "Id of the peer or server that it was about: the receiver."),
    column(
        "target_status",
        "What the receiver said of itself in the answer: online, busy, away or offline; empty without one.",
    ),
    column(
        "status",
        "How it ended: good (answered in time), aborted (no answer by the deadline), failed (refused), unknown (lost track).",
    ),
    column("reason", "Why it did not end well, as in pams_agent_transaction_reasons_total; empty if it did."),
    column("total_ns", "Response time from opened to closed, in ns; empty where there was no answer."),
    column("queued_ns", "Of it: opened until handed to the socket, in ns."),
    column("network_ns", "Of it: the way there and back, in ns."),
    column("remote_hold_ns", "Of it: the other side's time until it wrote the answer, in ns."),
    column("local_wait_ns", "Of it: out of this host's kernel until handled, in ns."),
    column("run_ns", "Of it: the application's own work, in ns; empty for what this program opens."),
    column(
        "blocked_ns",
        "Of it: the application waiting for something else, in ns; empty for what this program opens.",
    ),
    column(
        "path_rtt_ns",
        "QUIC's own smoothed estimate of the round trip at the answer, in ns: a second witness, no part of the total.",
    ),
];

/// The stages that have a column, in the order of the columns.
const STAGES: [Stage; 6] = Stage::ALL;

/// The longest that a line can be: every number with 20 digits, the longest kind, with quotes around every text.
pub const LINE_BYTES_MAX: usize = 512;

/// For `--list-columns`: a line for each column, then what it means.
pub fn print() -> String {
    let width = COLUMNS.iter().map(|c| c.name.len()).max().unwrap_or(0);
    COLUMNS.iter().map(|Column { name, help }| format!("{name:width$}  {help}\n")).collect()
}

/// The first line of each file.
pub fn header() -> Vec<u8> {
    let names: Vec<&str> = COLUMNS.iter().map(|c| c.name).collect();
    format!("{}\r\n", names.join(",")).into_bytes()
}

/// Appends the line of a record.
pub fn line(record: &Record, out: &mut Vec<u8>) {
    number(out, Some(record.opened_ms));
    text(out, record.kind.as_str());
    hex(out, &record.correlator.trace);
    if !record.correlator.is_short() {
        out.pop();
        out.push(b'-');
        hex(out, &record.correlator.span);
    }
    let mut id = [0; Hyphenated::LENGTH];
    text(out, record.target.hyphenated().encode_lower(&mut id));
    text(out, record.target_status.map_or("", |s| s.as_str()));
    text(out, record.outcome.as_str());
    text(out, record.reason.map_or("", |r| r.as_str()));
    number(out, record.total_ns);
    for stage in STAGES {
        number(out, record.stages.get(stage));
    }
    number(out, record.path_rtt_ns);
    // The last field ends the line.
    out.pop();
    out.extend_from_slice(b"\r\n");
}

/// A field, in quotes if it needs them (RFC 4180, 2.5 to 2.7).
fn text(out: &mut Vec<u8>, field: &str) {
    if field.bytes().any(|b| matches!(b, b',' | b'"' | b'\r' | b'\n')) {
        out.push(b'"');
        out.extend_from_slice(field.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(field.as_bytes());
    }
    out.push(b',');
}

fn number(out: &mut Vec<u8>, n: Option<u64>) {
    if let Some(n) = n {
        // A Vec takes all that is written to it.
        let _ = write!(out, "{n}");
    }
    out.push(b',');
}

fn hex<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]));
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pams_shared::{
        id::Correlator,
        record::{Kind, Reason},
    };

    use super::{
        super::read::{self, read},
        *,
    };
    use crate::sample;

    fn written(record: &Record) -> Vec<String> {
        let mut bytes = header();
        line(record, &mut bytes);
        read(&bytes).unwrap().remove(1)
    }

    #[test]
    fn a_line_has_what_the_record_has_and_nothing_for_what_was_not_measured() {
        let mut bytes = Vec::new();
        line(&sample::record(sample::peer(2)), &mut bytes);
        let expected = "1700000000000,presence.ping,07070707070707070707070707070707,02020202-0202-0202-0202-020202020202,\
                        busy,good,,85100000,200000,84000000,800000,100000,,,84500000\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        let missed = written(&sample::missed(sample::peer(2), Reason::NoAnswer));
        assert_eq!(missed[4..], ["", "aborted", "no_answer", "", "", "", "", "", "", "", ""]);
    }

    #[test]
    fn each_stage_has_its_column_and_the_header_is_stable() {
        let header = String::from_utf8(header()).unwrap();
        assert_eq!(
            header,
            "opened_ms,kind,correlator,target,target_status,status,reason,total_ns,queued_ns,network_ns,remote_hold_ns,\
             local_wait_ns,run_ns,blocked_ns,path_rtt_ns\r\n"
        );
        for (stage, column) in STAGES.iter().zip(&COLUMNS[8..]) {
            assert_eq!(column.name, format!("{}_ns", stage.as_str()));
        }
        assert!(print().lines().all(|line| line.len() > 40) && print().lines().count() == COLUMNS.len());
    }

    #[test]
    fn fields_are_quoted_when_they_must_be() {
        for name in ["plain", "a,b", "say \"so\"", "\"", "two\r\nlines", ""] {
            let record = Record { kind: Kind::Other(Arc::from(name)), ..sample::record(sample::peer(2)) };
            assert_eq!(written(&record)[1], name);
        }
        for bad in ["a,b\n", "a\"b\r\n", "\"a\r\n", "a,b\r\nc\r\n", "a", "\"a\"b\r\n"] {
            assert!(read::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_line_is_within_its_bound() {
        let mut record = sample::missed(sample::peer(2), Reason::Certificate);
        record.kind = Kind::Other("x".repeat(pams_shared::record::KIND_BYTES_MAX).into());
        record.correlator = Correlator { trace: [255; 16], span: [1; 8] };
        Stage::ALL.iter().for_each(|s| record.stages.set(*s, u64::MAX));
        (record.opened_ms, record.total_ns, record.path_rtt_ns) = (u64::MAX, Some(u64::MAX), Some(u64::MAX));
        record.target_status = Some(pams_shared::status::Status::Offline);
        let mut bytes = Vec::new();
        line(&record, &mut bytes);
        assert!(bytes.len() > 300 && bytes.len() <= LINE_BYTES_MAX, "{}", bytes.len());
        assert_eq!(written(&record)[2], format!("{}-{}", "ff".repeat(16), "01".repeat(8)));
    }
}
