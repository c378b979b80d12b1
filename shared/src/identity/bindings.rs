//! Which key each id belongs to, and which ids are to be turned away, in the append-only text file `bindings`, a line each:
//! `bind <id> <hash of the key> <token id> <unix s>`, `ban <id> <unix s>`, or `unban <id> <unix s>`.
//!
//! No id is both bound and banned: each line takes back what the ones before it said of its id. A line counts once it ends in
//! a newline and has been synced. A last line without one was being written when the power went, and nobody was told of it:
//! it is dropped and reported. The file is rewritten without old news when it is opened.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{GRACE_SECONDS, IdentityError, LEAF_SECONDS, files, text, token::is_token_id};

/// Most ids that one server binds: over the 100,000 agents that one server is meant to carry, at some 120 bytes each.
pub(super) const BINDINGS_MAX: usize = 200_000;
/// Most ids that are banned, at some 55 bytes each.
pub(super) const BANS_MAX: usize = 100_000;
/// What an id's certificates can be used for at most after its ban. Until then the ban has to be known.
pub(super) const BAN_SECONDS: u64 = LEAF_SECONDS + GRACE_SECONDS;
/// The file is rewritten without old news beyond this; all bindings and bans take 29 MB.
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
    known: Known,
}

/// What the file says.
#[derive(Debug, Default)]
struct Known {
    bound: HashMap<Uuid, Binding>,
    /// Since when, unix seconds.
    banned: HashMap<Uuid, u64>,
}

impl Bindings {
    /// What the file says, and whether a torn last line was dropped. Without a file, a new one is made.
    pub(super) fn open(dir: &Path) -> Result<(Self, bool), IdentityError> {
        let path = dir.join("bindings");
        let old = files::read(&path)?;
        let (known, torn) = decode(&path, old.as_deref().unwrap_or_default())?;
        let (file, bytes) = rewrite(&path, &known)?;
        Ok((Self { path, file, bytes, known }, torn))
    }

    pub(super) fn of(&self, id: Uuid) -> Option<&Binding> {
        self.known.bound.get(&id)
    }

    pub(super) fn banned(&self) -> impl Iterator<Item = Uuid> {
        self.known.banned.keys().copied()
    }

    pub(super) fn is_banned(&self, id: Uuid) -> bool {
        self.known.banned.contains_key(&id)
    }

    pub(super) fn is_full(&self) -> bool {
        self.known.bound.len() >= BINDINGS_MAX
    }

    /// Also takes back a ban.
    pub(super) fn bind(&mut self, id: Uuid, key_hash: [u8; 32], token: &str, now: u64) -> Result<(), IdentityError> {
        let binding = Binding { key_hash, token: token.into(), at: now };
        self.append(&bind_line(id, &binding))?;
        self.known.bind(id, binding);
        Ok(())
    }

    /// Turns the id away until it is bound anew, and takes back its binding; whether it was bound. Beyond the bound, a ban
    /// that has outlived all certificates of before makes room; without such a one it is an error.
    pub(super) fn ban(&mut self, id: Uuid, now: u64) -> Result<bool, IdentityError> {
        if self.is_banned(id) {
            return Ok(false);
        }
        let mut lines = ban_line(id, now);
        let outlived = self.known.outlived(now)?;
        if let Some(outlived) = outlived {
            // First: should the power go between them, there are not too many.
            lines.insert_str(0, &unban_line(outlived, now));
        }
        self.append(&lines)?;
        if let Some(outlived) = outlived {
            self.known.unban(outlived);
        }
        Ok(self.known.ban(id, now))
    }

    /// Whether the id was banned.
    pub(super) fn unban(&mut self, id: Uuid, now: u64) -> Result<bool, IdentityError> {
        if !self.is_banned(id) {
            return Ok(false);
        }
        self.append(&unban_line(id, now))?;
        Ok(self.known.unban(id))
    }

    /// The next write meets a full disk.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self) {
        self.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
    }

    fn append(&mut self, lines: &str) -> Result<(), IdentityError> {
        if self.bytes > COMPACT_BYTES {
            (self.file, self.bytes) = rewrite(&self.path, &self.known)?;
        }
        match self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.bytes += lines.len() as u64;
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

impl Known {
    fn bind(&mut self, id: Uuid, binding: Binding) {
        self.banned.remove(&id);
        self.bound.insert(id, binding);
    }

    fn ban(&mut self, id: Uuid, at: u64) -> bool {
        self.banned.insert(id, at);
        self.bound.remove(&id).is_some()
    }

    fn unban(&mut self, id: Uuid) -> bool {
        self.banned.remove(&id).is_some()
    }

    /// The ban that has to make room for one more, if any has to.
    fn outlived(&self, now: u64) -> Result<Option<Uuid>, IdentityError> {
        if self.banned.len() < BANS_MAX {
            return Ok(None);
        }
        let oldest = self.banned.iter().map(|(id, at)| (*at, *id)).min();
        match oldest.filter(|(at, _)| at.saturating_add(BAN_SECONDS) < now) {
            Some((_, id)) => Ok(Some(id)),
            None => Err(IdentityError::Bans),
        }
    }
}

/// Writes what holds and no more; the file is then ready to append to.
fn rewrite(path: &Path, known: &Known) -> Result<(File, u64), IdentityError> {
    let bound = known.bound.iter().map(|(id, b)| bind_line(*id, b));
    let lines: String = bound.chain(known.banned.iter().map(|(id, at)| ban_line(*id, *at))).collect();
    files::replace(path, lines.as_bytes())?;
    Ok((files::open_private(path, OpenOptions::new().append(true))?, lines.len() as u64))
}

fn bind_line(id: Uuid, b: &Binding) -> String {
    format!("bind {id} {} {} {}\n", text::encode(&b.key_hash), b.token, b.at)
}

fn ban_line(id: Uuid, at: u64) -> String {
    format!("ban {id} {at}\n")
}

fn unban_line(id: Uuid, at: u64) -> String {
    format!("unban {id} {at}\n")
}

fn decode(path: &Path, bytes: &[u8]) -> Result<(Known, bool), IdentityError> {
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let text = std::str::from_utf8(&bytes[..whole]).map_err(|e| files::damaged(path, e, ADVICE))?;
    let mut known = Known::default();
    for (i, line) in text.lines().enumerate() {
        let bad = || files::damaged(path, format!("line {} is neither a bind nor a ban", i + 1), ADVICE);
        match decode_line(line).ok_or_else(bad)? {
            Line::Bind(id, binding) => known.bind(id, binding),
            Line::Ban(id, at) => drop(known.ban(id, at)),
            Line::Unban(id) => drop(known.unban(id)),
            Line::Unbind(id) => drop(known.bound.remove(&id)),
        }
        if known.bound.len() > BINDINGS_MAX || known.banned.len() > BANS_MAX {
            let problem = format!("over {BINDINGS_MAX} ids are bound, or over {BANS_MAX} banned");
            return Err(files::damaged(path, problem, ADVICE));
        }
    }
    Ok((known, whole < bytes.len()))
}

enum Line {
    Bind(Uuid, Binding),
    Ban(Uuid, u64),
    Unban(Uuid),
    /// Of the first versions, which knew no bans.
    Unbind(Uuid),
}

fn decode_line(line: &str) -> Option<Line> {
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    match words[..] {
        ["bind", id, key_hash, token, at] if is_token_id(token) => {
            let binding = Binding { key_hash: text::decode(key_hash)?, token: token.into(), at: at.parse().ok()? };
            Some(Line::Bind(Uuid::try_parse(id).ok()?, binding))
        }
        [what, id, at] => {
            let (id, at) = (Uuid::try_parse(id).ok()?, at.parse().ok()?);
            match what {
                "ban" => Some(Line::Ban(id, at)),
                "unban" => Some(Line::Unban(id)),
                "unbind" => Some(Line::Unbind(id)),
                _ => None,
            }
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
        assert!(bindings.ban(a, 8).unwrap() && !bindings.ban(a, 8).unwrap());
        let (mut bindings, torn) = Bindings::open(dir.path()).unwrap();
        assert_eq!((bindings.of(a), bindings.of(b).unwrap().key_hash, torn), (None, [2; 32], false));
        assert!(bindings.is_banned(a) && !bindings.is_banned(b));
        assert_eq!(fs::read_to_string(dir.path().join("bindings")).unwrap().lines().count(), 2);
        assert!(bindings.unban(a, 9).unwrap() && !bindings.unban(a, 9).unwrap());
        let (bindings, _) = Bindings::open(dir.path()).unwrap();
        assert!(!bindings.is_banned(a) && bindings.of(a).is_none());
        assert_eq!(fs::read_to_string(dir.path().join("bindings")).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_ban_ends_when_the_id_is_bound_and_the_other_way_round() {
        let dir = tempfile::tempdir().unwrap();
        let a = Uuid::new_v4();
        let (mut bindings, _) = Bindings::open(dir.path()).unwrap();
        assert!(!bindings.ban(a, 5).unwrap(), "it was not bound");
        bindings.bind(a, [1; 32], "t", 6).unwrap();
        for bound in [true, false] {
            let (opened, _) = Bindings::open(dir.path()).unwrap();
            assert_eq!((opened.of(a).is_some(), opened.is_banned(a)), (bound, !bound));
            bindings = opened;
            if bound {
                assert!(bindings.ban(a, 7).unwrap());
            }
        }
        fs::write(dir.path().join("bindings"), format!("{}unbind {a} 6\n", bind_line(a, &binding(1)))).unwrap();
        let (bindings, _) = Bindings::open(dir.path()).unwrap();
        assert!(bindings.of(a).is_none() && !bindings.is_banned(a), "as the first versions wrote it");
    }

    #[test]
    fn over_the_bound_a_ban_that_nobody_needs_any_more_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bindings");
        let (oldest, newest) = (Uuid::new_v4(), Uuid::new_v4());
        let others = (1..BANS_MAX as u128).map(|n| ban_line(Uuid::from_u128(n), 101));
        fs::write(&path, others.chain([ban_line(oldest, 100)]).collect::<String>()).unwrap();
        let (mut bindings, _) = Bindings::open(dir.path()).unwrap();
        let error = bindings.ban(newest, 100 + BAN_SECONDS).unwrap_err().to_string();
        assert!(error.contains("100000 ids") && error.contains("31 days"), "{error}");
        assert!(!bindings.ban(newest, 101 + BAN_SECONDS).unwrap());
        for bindings in [bindings, Bindings::open(dir.path()).unwrap().0] {
            assert!(bindings.is_banned(newest) && !bindings.is_banned(oldest));
        }
    }

    fn binding(key: u8) -> Binding {
        Binding { key_hash: [key; 32], token: "t".into(), at: 5 }
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_the_next_one_stands_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        Bindings::open(dir.path()).unwrap().0.bind(a, [1; 32], "t", 5).unwrap();
        let path = dir.path().join("bindings");
        let line = bind_line(b, &binding(2));
        for cut in 1..line.len() {
            let whole = bind_line(a, &binding(1));
            fs::write(&path, whole + &line[..cut]).unwrap();
            let (bindings, torn) = Bindings::open(dir.path()).unwrap();
            assert!(torn && bindings.of(b).is_none() && bindings.of(a).is_some(), "{cut}");
        }
        Bindings::open(dir.path()).unwrap().0.bind(b, [2; 32], "t", 6).unwrap();
        assert_eq!(Bindings::open(dir.path()).unwrap().0.known.bound.len(), 2);
    }

    #[test]
    fn damage_in_the_middle_is_named_by_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bindings"), format!("unbind {} 5\nbind x\n", Uuid::nil())).unwrap();
        let message = Bindings::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("bindings") && message.contains("line 2"), "{message}");
    }
}
