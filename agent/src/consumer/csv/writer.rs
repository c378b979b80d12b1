//! Writes records into files: whole lines only, a new file when the present one is full or old, the oldest files away. It
//! owns no thread and no clock; what it can not write it leaves to its caller, who tries again.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    time::{Duration, UNIX_EPOCH},
};

use pams_shared::{id::PeerId, moment::Moment, record::Record};

use super::{
    columns::{self, LINE_BYTES_MAX},
    folder::{Folder, Growing, passes},
};

/// About how much is written at once.
const CHUNK: usize = 64 << 10;
/// How many names are tried where files of one millisecond are there already.
const NAMES_MAX: u64 = 1_000;

/// When a file is full, when it is old, and how many old ones stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// No file is longer, in bytes; room for the header and a line at least.
    pub max_size: u64,
    pub max_age: Duration,
    /// Beside the present file.
    pub keep: usize,
}

/// What could not be done, and with which file.
#[derive(Debug, thiserror::Error)]
#[error("can not {what}{name}: {source}")]
pub struct Fault {
    what: &'static str,
    name: String,
    source: io::Error,
}

pub struct Writer {
    folder: Box<dyn Folder>,
    prefix: String,
    limits: Limits,
    open: Option<Open>,
    /// Wall clock of the newest name, in ms: names of one run rise even if the clock does not.
    stamp: u64,
    lines: Vec<u8>,
    /// Where each of the lines ends.
    ends: Vec<usize>,
}

struct Open {
    file: Box<dyn Growing>,
    name: String,
    /// Bytes in whole lines.
    len: u64,
    since: Moment,
}

impl Writer {
    pub fn new(folder: Box<dyn Folder>, peer: PeerId, limits: Limits) -> Self {
        let prefix = prefix(peer);
        Self { folder, prefix, limits, open: None, stamp: 0, lines: Vec::new(), ends: Vec::new() }
    }

    /// Writes the records, taking each away that stands whole in a file; says how many. After a failure the rest is still
    /// in `records`, and no file that will be written on ends in half a line.
    pub fn write(&mut self, now: Moment, records: &mut VecDeque<Record>) -> (u64, Result<(), Fault>) {
        if self.open.as_ref().is_some_and(|o| now.since(o.since) >= self.limits.max_age || !o.file.is_in_place()) {
            self.open = None;
        }
        let mut written = 0;
        while !records.is_empty() {
            match self.write_some(now, records) {
                Ok(n) => written += n,
                Err((n, fault)) => return (written + n, Err(fault)),
            }
        }
        (written, Ok(()))
    }

    /// Writes as many as fit into the file and into a chunk.
    fn write_some(&mut self, now: Moment, records: &mut VecDeque<Record>) -> Result<u64, (u64, Fault)> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(now).map_err(|fault| (0, fault))?,
        };
        let room = self.limits.max_size.saturating_sub(open.len);
        self.format(records, usize::try_from(room).unwrap_or(usize::MAX));
        if self.ends.is_empty() {
            return Ok(0); // full: the next one is begun
        }
        let (bytes, outcome) = put(&mut *open.file, &self.lines);
        let whole = self.ends.partition_point(|&end| end <= bytes);
        let whole_bytes = whole.checked_sub(1).map_or(0, |last| self.ends[last]);
        records.drain(..whole);
        open.len += whole_bytes as u64;
        let Err(source) = outcome else {
            self.open = Some(open);
            return Ok(whole as u64);
        };
        let mended = bytes == whole_bytes || open.file.cut(open.len).is_ok();
        let fault = Fault { what: "write ", name: open.name.clone(), source };
        // Of a full disk this file is as good as another; after anything else a new one is tried.
        if mended && passes(&fault.source) {
            self.open = Some(open);
        } else if open.len == columns::header().len() as u64 {
            // Nothing stands in it. Kept, it would cost an old file its place, and each try another one.
            let _ = self.folder.remove(&open.name);
        }
        Err((whole as u64, fault))
    }

    /// Lines of the first records: a chunk, and no more than there is room for.
    fn format(&mut self, records: &VecDeque<Record>, room: usize) {
        self.lines.clear();
        self.ends.clear();
        for record in records {
            let before = self.lines.len();
            if before >= CHUNK {
                return;
            }
            columns::line(record, &mut self.lines);
            if self.lines.len() > room {
                return self.lines.truncate(before);
            }
            self.ends.push(self.lines.len());
        }
    }

    /// A new file with its header; the oldest are taken away.
    fn begin(&mut self, now: Moment) -> Result<Open, Fault> {
        self.stamp = now.wall_ms().max(self.stamp + 1);
        let (mut file, name) = self.create()?;
        // Before the header: on a full disk that may make the room for it.
        self.prune(&name);
        let header = columns::header();
        if let (_, Err(source)) = put(&mut *file, &header) {
            // An empty or half file is nobody's; where it stays, it is one of the oldest some day.
            let _ = self.folder.remove(&name);
            return Err(Fault { what: "write ", name, source });
        }
        Ok(Open { file, name, len: header.len() as u64, since: now })
    }

    fn create(&mut self) -> Result<(Box<dyn Growing>, String), Fault> {
        let last = self.stamp + NAMES_MAX;
        loop {
            let name = name(&self.prefix, self.stamp);
            match self.folder.create(&name) {
                Ok(file) => return Ok((file, name)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && self.stamp < last => self.stamp += 1,
                Err(source) => return Err(Fault { what: "make ", name, source }),
            }
        }
    }

    /// Removes this peer's oldest files beyond those to keep. One that can't be removed stays, for the next time.
    fn prune(&mut self, present: &str) {
        let Ok(mut names) = self.folder.names() else { return };
        names.retain(|name| name != present && is_name(&self.prefix, name));
        names.sort();
        let over = names.len().saturating_sub(self.limits.keep);
        for name in &names[..over] {
            if let Err(error) = self.folder.remove(name) {
                tracing::debug!(name, %error, "an old file stays");
            }
        }
    }
}

/// Writes all; on failure says how much was.
fn put(file: &mut dyn Growing, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while done < bytes.len() {
        match file.write(&bytes[done..]) {
            Ok(0) => return (done, Err(ErrorKind::WriteZero.into())),
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return (done, Err(e)),
        }
    }
    (done, Ok(()))
}

/// `pams-1b4e28ba-2fa1-`: half of the peer's id, as its host may carry others.
fn prefix(peer: PeerId) -> String {
    let id = peer.to_string();
    format!("pams-{}-", &id[..13])
}

/// `pams-1b4e28ba-2fa1-20261122T024447.123Z.csv`; sorts by time.
fn name(prefix: &str, wall_ms: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(wall_ms)).unwrap_or(UNIX_EPOCH);
    let stamp = humantime::format_rfc3339_millis(at).to_string().replace(['-', ':'], "");
    format!("{prefix}{stamp}.csv")
}

fn is_name(prefix: &str, name: &str) -> bool {
    let stamp = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("Z.csv"));
    let like = |(i, b): (usize, u8)| match i {
        8 => b == b'T',
        15 => b == b'.',
        _ => b.is_ascii_digit(),
    };
    stamp.is_some_and(|s| s.len() == 19 && s.bytes().enumerate().all(like))
}

/// The least that [`Limits::max_size`] can be: room for the header and for a line.
pub const MAX_SIZE_MIN: u64 = 16 << 10;
const _: () = assert!(MAX_SIZE_MIN as usize > 4 * LINE_BYTES_MAX);

#[cfg(test)]
mod tests;
