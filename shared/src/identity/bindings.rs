//! Which key each agent id belongs to, in the append-only text file `bindings`: `bind <id> <hash of the key> <token id>
//! <unix s>` or `unbind <id> <unix s>`, a line each.
//!
//! A line counts once it ends in a newline and has been synced. A last line without one was being written when the power
//! went, and nobody was told of it: it is dropped and reported. The file is rewritten without old news when it is opened.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{IdentityError, files, text, token::is_token_id};

/// Most ids that one server binds: over the 100,000 agents that one server is meant to carry, at some 150 bytes each.
pub(super) const BINDINGS_MAX: usize = 200_000;
/// The file is rewritten without old news beyond this; all bindings take 23 MB.
const COMPACT_BYTES: u64 = files::FILE_BYTES_MAX / 2;
const ADVICE: &str = "restore it from a backup; without it, ids are no longer bound to their keys";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) key_hash: [u8; 32],
    /// The token by which it joined last.
    pub(super) token: String,
    at: u64,
}

#[derive(Debug)]
pub(super) struct Bindings {
    path: PathBuf,
    file: File,
    bytes: u64,
    by_id: HashMap<Uuid, Binding>,
}

impl Bindings {
    /// What the file binds, and whether a torn last line was dropped. Without a file, a new one is made.
    pub(super) fn open(dir: &Path) -> Result<(Self, bool), IdentityError> {
        let path = dir.join("bindings");
        let old = files::read(&path)?;
        let (by_id, torn) = decode(&path, old.as_deref().unwrap_or_default())?;
        let (file, bytes) = rewrite(&path, &by_id)?;
        Ok((Self { path, file, bytes, by_id }, torn))
    }

    pub(super) fn of(&self, id: Uuid) -> Option<&Binding> {
        self.by_id.get(&id)
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_id.len() >= BINDINGS_MAX
    }

    pub(super) fn bind(&mut self, id: Uuid, key_hash: [u8; 32], token: &str, now: u64) -> Result<(), IdentityError> {
        let binding = Binding { key_hash, token: token.into(), at: now };
        self.append(&bind_line(id, &binding))?;
        self.by_id.insert(id, binding);
        Ok(())
    }

    /// Whether the id was bound.
    pub(super) fn unbind(&mut self, id: Uuid, now: u64) -> Result<bool, IdentityError> {
        if !self.by_id.contains_key(&id) {
            return Ok(false);
        }
        self.append(&format!("unbind {id} {now}\n"))?;
        Ok(self.by_id.remove(&id).is_some())
    }

    /// The next write meets a full disk.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self) {
        self.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
    }

    fn append(&mut self, line: &str) -> Result<(), IdentityError> {
        if self.bytes > COMPACT_BYTES {
            (self.file, self.bytes) = rewrite(&self.path, &self.by_id)?;
        }
        match self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.bytes += line.len() as u64;
                Ok(())
            }
            Err(e) => {
                // A part of the line may stand there, and the next one must not be glued to it: cut it off, or else
                // write the whole file anew next time.
                if self.file.set_len(self.bytes).is_err() {
                    self.bytes = u64::MAX;
                }
                Err(IdentityError::io("write", &self.path)(e))
            }
        }
    }
}

/// Writes what is bound and no more; the file is then ready to append to.
fn rewrite(path: &Path, by_id: &HashMap<Uuid, Binding>) -> Result<(File, u64), IdentityError> {
    let lines: String = by_id.iter().map(|(id, b)| bind_line(*id, b)).collect();
    files::replace(path, lines.as_bytes())?;
    Ok((files::open_private(path, OpenOptions::new().append(true))?, lines.len() as u64))
}

fn bind_line(id: Uuid, b: &Binding) -> String {
    format!("bind {id} {} {} {}\n", text::encode(&b.key_hash), b.token, b.at)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<(HashMap<Uuid, Binding>, bool), IdentityError> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let text = std::str::from_utf8(&bytes[..whole]).map_err(|e| files::damaged(path, e, ADVICE))?;
    let mut by_id = HashMap::new();
    for (i, line) in text.lines().enumerate() {
        let bad = || files::damaged(path, format!("line {} is neither a bind nor an unbind", i + 1), ADVICE);
        match decode_line(line).ok_or_else(bad)? {
            (id, Some(binding)) => by_id.insert(id, binding),
            (id, None) => by_id.remove(&id),
        };
        if by_id.len() > BINDINGS_MAX {
            return Err(files::damaged(path, format!("over {BINDINGS_MAX} ids"), ADVICE));
        }
    }
    Ok((by_id, whole < bytes.len()))
}

fn decode_line(line: &str) -> Option<(Uuid, Option<Binding>)> {
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    match words[..] {
        ["bind", id, key_hash, token, at] if is_token_id(token) => {
            let binding = Binding { key_hash: text::decode(key_hash)?, token: token.into(), at: at.parse().ok()? };
            Some((Uuid::try_parse(id).ok()?, Some(binding)))
        }
        ["unbind", id, at] => {
            at.parse::<u64>().ok()?;
            Some((Uuid::try_parse(id).ok()?, None))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bindings_survive_and_old_news_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        let (mut bindings, torn) = Bindings::open(dir.path()).unwrap();
        assert!(!torn);
        bindings.bind(a, [1; 32], "t1", 5).unwrap();
        bindings.bind(b, [2; 32], "t1", 6).unwrap();
        bindings.bind(b, [2; 32], "t2", 7).unwrap();
        assert!(bindings.unbind(a, 8).unwrap() && !bindings.unbind(a, 8).unwrap());
        let (bindings, torn) = Bindings::open(dir.path()).unwrap();
        assert_eq!((bindings.of(a), bindings.of(b).unwrap().key_hash, torn), (None, [2; 32], false));
        assert_eq!(fs::read_to_string(dir.path().join("bindings")).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_the_next_one_stands_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        Bindings::open(dir.path()).unwrap().0.bind(a, [1; 32], "t", 5).unwrap();
        let path = dir.path().join("bindings");
        let line = bind_line(b, &Binding { key_hash: [2; 32], token: "t".into(), at: 6 });
        for cut in 1..line.len() {
            let whole = bind_line(a, &Binding { key_hash: [1; 32], token: "t".into(), at: 5 });
            fs::write(&path, whole + &line[..cut]).unwrap();
            let (bindings, torn) = Bindings::open(dir.path()).unwrap();
            assert!(torn && bindings.of(b).is_none() && bindings.of(a).is_some(), "{cut}");
        }
        Bindings::open(dir.path()).unwrap().0.bind(b, [2; 32], "t", 6).unwrap();
        assert_eq!(Bindings::open(dir.path()).unwrap().0.by_id.len(), 2);
    }

    #[test]
    fn damage_in_the_middle_is_named_by_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bindings"), format!("unbind {} 5\nbind x\n", Uuid::nil())).unwrap();
        let message = Bindings::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("bindings") && message.contains("line 2"), "{message}");
    }
}
