//! The join tokens that a server has given out, in `tokens.json` of its data directory: secrets only as hashes, with
//! uses, expiry and role.
//!
//! The file has a lock of its own, held only while it is rewritten, so that `pams-server token` can work beside the
//! running server, which looks at the file again before each answer. Secrets are 128 random bits, so a plain SHA-256
//! keeps them; they are compared through HMACs under a key of this process (`ring::hmac::verify`), in constant time.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use ring::hmac;
use serde::{Deserialize, Serialize};

use super::{
    DAY, IdentityError, SECRET_BYTES, files,
    grant::{Grant, GrantError, NOTE_BYTES_MAX, TOKENS_MAX, TokenInfo, TokenState},
    random, sha256, text,
    token::is_token_id,
    vault::{self, State},
};
use crate::frame::{DETAIL_BYTES_MAX, Refusal, Refused, Role};

/// How long a token that is no longer good stays listed, so that a late comer is told why it is not.
const ENDED_SECONDS: u64 = 7 * DAY;
const VERSION: u32 = 1;
const ADVICE: &str = "restore it, or move it away and make new tokens with `pams-server token create`; agents that have joined need none";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    id: String,
    #[serde(with = "text")]
    secret_sha256: [u8; 32],
    role: Role,
    uses_left: Option<u32>,
    used: u64,
    created_at: u64,
    expires_at: u64,
    revoked_at: Option<u64>,
    used_at: Option<u64>,
    note: String,
}

impl Row {
    fn state(&self, now: u64) -> TokenState {
        match self {
            Row { revoked_at: Some(_), .. } => TokenState::Revoked,
            Row { expires_at, .. } if *expires_at <= now => TokenState::Expired,
            Row { uses_left: Some(0), .. } => TokenState::UsedUp,
            _ => TokenState::Open,
        }
    }

    /// Since when it is no longer good.
    fn ended_at(&self, now: u64) -> Option<u64> {
        match self.state(now) {
            TokenState::Open => None,
            TokenState::Revoked => self.revoked_at,
            TokenState::Expired => Some(self.expires_at),
            TokenState::UsedUp => self.used_at,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Tokens {
    version: u32,
    tokens: Vec<Row>,
}

/// Tells one state of the file from another.
type Stamp = (u64, i64, i64, u64);

pub struct TokenStore {
    path: PathBuf,
    lock: PathBuf,
    compare: hmac::Key,
    read: Option<(Stamp, Vec<Row>)>,
}

impl std::fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TokenStore {
    /// In a server's data directory, whether that server runs or not.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        let compare = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?);
        let mut store = Self { path: dir.join("tokens.json"), lock: dir.join("tokens.lock"), compare, read: None };
        store.load()?;
        Ok(store)
    }

    /// Whether no token was ever made here.
    pub fn is_new(&self) -> bool {
        !self.path.exists()
    }

    /// A new token's id and secret; the secret is shown this once.
    pub fn create(&mut self, grant: &Grant, now: u64) -> Result<(String, [u8; SECRET_BYTES]), GrantError> {
        if grant.role == Role::Server {
            self.may_let_servers_join()?;
        }
        if grant.uses == Some(0) || grant.expires_at <= now {
            return Err(GrantError::Useless);
        }
        if grant.note.len() > NOTE_BYTES_MAX {
            return Err(GrantError::Note);
        }
        let secret = random::<SECRET_BYTES>()?;
        let id = self.change(now, |rows| {
            if rows.len() >= TOKENS_MAX {
                let oldest = |(i, r): (usize, &Row)| Some((r.ended_at(now)?, i));
                let (_, i) = rows.iter().enumerate().filter_map(oldest).min().ok_or(GrantError::Full)?;
                rows.remove(i);
            }
            let id = loop {
                let id: String = random::<5>()?.iter().map(|b| format!("{b:02x}")).collect();
                if rows.iter().all(|r| r.id != id) {
                    break id;
                }
            };
            rows.push(Row {
                id: id.clone(),
                secret_sha256: sha256(&secret),
                role: grant.role,
                uses_left: grant.uses,
                used: 0,
                created_at: now,
                expires_at: grant.expires_at,
                revoked_at: None,
                used_at: None,
                note: grant.note.clone(),
            });
            Ok::<_, GrantError>(id)
        })?;
        Ok((id, secret))
    }

    fn may_let_servers_join(&self) -> Result<(), GrantError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if vault::read_root(dir)?.is_some_and(|root| root.issuer.is_some()) {
            return Ok(());
        }
        let joined = State::read(dir)?.and_then(|state| state.joined);
        let seeds: Vec<String> = joined.into_iter().flat_map(|j| j.seeds).map(|a| a.to_string()).collect();
        Err(GrantError::NoRootKey(seeds.join(", ")))
    }

    /// All tokens, oldest first.
    pub fn list(&mut self, now: u64) -> Result<Vec<TokenInfo>, IdentityError> {
        Ok(self.load()?.iter().map(|r| info(r, now)).collect())
    }

    /// Whether there is such a token; one that is revoked already stays so.
    pub fn revoke(&mut self, id: &str, now: u64) -> Result<bool, IdentityError> {
        self.change(now, |rows| {
            let row = rows.iter_mut().find(|r| r.id == id);
            Ok(row.map(|r| r.revoked_at.get_or_insert(now)).is_some())
        })
    }

    /// Whether the token would let somebody join. `again`: its last use was by this very one, whose answer was lost,
    /// so that it may be used up.
    pub(super) fn check(&mut self, ask: &Ask, again: bool, now: u64) -> Result<(), Refused> {
        let compare = self.compare.clone();
        let rows = self.load().map_err(|e| unreadable(&e))?;
        let row = rows.iter().find(|r| r.id == ask.id);
        judge(&compare, row, ask, again, now).map(drop)
    }

    /// Uses the token once, if it is still good.
    pub(super) fn redeem(&mut self, ask: &Ask, now: u64) -> Result<(), Refused> {
        let compare = self.compare.clone();
        let outcome: Result<(), Failure> = self.change(now, |rows| {
            let at = rows.iter().position(|r| r.id == ask.id);
            judge(&compare, at.map(|i| &rows[i]), ask, false, now)?;
            if let Some(row) = at.and_then(|i| rows.get_mut(i)) {
                row.uses_left = row.uses_left.map(|n| n.saturating_sub(1));
                row.used = row.used.saturating_add(1);
                row.used_at = Some(now);
            }
            Ok(())
        });
        outcome.map_err(Failure::refused)
    }

    /// Gives back a use that came to nothing.
    pub(super) fn refund(&mut self, id: &str, now: u64) -> Result<(), IdentityError> {
        self.change(now, |rows| {
            if let Some(row) = rows.iter_mut().find(|r| r.id == id) {
                row.uses_left = row.uses_left.map(|n| n.saturating_add(1));
                row.used = row.used.saturating_sub(1);
            }
            Ok(())
        })
    }

    /// Rewrites the file if `f` succeeds, with nobody else writing meanwhile.
    fn change<R, E: From<IdentityError>>(
        &mut self,
        now: u64,
        f: impl FnOnce(&mut Vec<Row>) -> Result<R, E>,
    ) -> Result<R, E> {
        let _lock = files::lock_briefly(&self.lock)?;
        let mut rows = self.load()?.to_vec();
        rows.retain(|r| r.ended_at(now).is_none_or(|at| now < at.saturating_add(ENDED_SECONDS)));
        let result = f(&mut rows)?;
        let tokens = Tokens { version: VERSION, tokens: rows };
        let json = serde_json::to_vec_pretty(&tokens).map_err(|e| files::damaged(&self.path, e, ADVICE))?;
        files::replace(&self.path, &json)?;
        self.read = stamp(&self.path)?.map(|s| (s, tokens.tokens));
        Ok(result)
    }

    /// What the file says; read again only if it is another than before.
    fn load(&mut self) -> Result<&[Row], IdentityError> {
        let now = stamp(&self.path)?;
        if self.read.as_ref().map(|(s, _)| *s) != now {
            // The stamp is the older of the two: at worst the file is read once more than needed.
            self.read = match (now, files::read(&self.path)?) {
                (Some(stamp), Some(bytes)) => Some((stamp, decode(&self.path, &bytes)?)),
                _ => None,
            };
        }
        Ok(self.read.as_ref().map_or(&[], |(_, rows)| rows))
    }
}

/// Who asks to use a token.
pub(super) struct Ask<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a [u8],
    pub(super) role: Role,
}

/// A change that was refused, or could not be written.
enum Failure {
    Refused(Refused),
    Store(IdentityError),
}

impl From<Refused> for Failure {
    fn from(r: Refused) -> Self {
        Failure::Refused(r)
    }
}

impl From<IdentityError> for Failure {
    fn from(e: IdentityError) -> Self {
        Failure::Store(e)
    }
}

impl Failure {
    fn refused(self) -> Refused {
        match self {
            Failure::Refused(r) => r,
            Failure::Store(e) => unreadable(&e),
        }
    }
}

fn unreadable(e: &IdentityError) -> Refused {
    refused(Refusal::Busy, format!("the server cannot use its data directory: on its host, {e}"))
}

/// A refusal with a text that fits its frame.
pub(super) fn refused(code: Refusal, mut detail: String) -> Refused {
    while detail.len() > DETAIL_BYTES_MAX {
        detail.pop();
    }
    Refused { code, detail }
}

/// The secret comes before everything else: only its holder learns what became of the token.
fn judge<'a>(compare: &hmac::Key, row: Option<&'a Row>, ask: &Ask, again: bool, now: u64) -> Result<&'a Row, Refused> {
    let new = match ask.role {
        Role::Agent => "make a new one with `pams-server token create` on the server",
        Role::Server => "make a new one with `pams-server token create --role server` on the server",
    };
    let id = if is_token_id(ask.id) { ask.id } else { "(malformed)" };
    let no = |code, what: String| Err(refused(code, format!("{what}: {new}")));
    let Some(row) = row else {
        return no(Refusal::TokenUnknown, format!("this server knows no token {id}, or no longer"));
    };
    let expected = hmac::sign(compare, &row.secret_sha256);
    if hmac::verify(compare, &sha256(ask.secret), expected.as_ref()).is_err() {
        let what = "is wrong: copy the whole token again, or";
        return Err(refused(Refusal::TokenSecret, format!("the secret of token {id} {what} {new}")));
    }
    let since = |at: u64| humantime::format_duration(Duration::from_secs(now.saturating_sub(at))).to_string();
    match row.state(now) {
        TokenState::Revoked => no(Refusal::TokenRevoked, format!("token {id} was revoked")),
        TokenState::Expired => {
            no(Refusal::TokenExpired, format!("token {id} expired {} ago by the server's clock", since(row.expires_at)))
        }
        TokenState::UsedUp if !again => {
            no(Refusal::TokenUsedUp, format!("token {id} is used up, after {} uses", row.used))
        }
        _ if row.role != ask.role => {
            let (may, program) = match row.role {
                Role::Agent => ("agents join, not servers", "pams-agent"),
                Role::Server => ("servers join, not agents", "pams-server"),
            };
            let detail = format!("token {id} lets {may}: start {program} with it, or {new}");
            Err(refused(Refusal::TokenRole, detail))
        }
        _ => Ok(row),
    }
}

fn info(row: &Row, now: u64) -> TokenInfo {
    TokenInfo {
        id: row.id.clone(),
        role: row.role,
        state: row.state(now),
        uses_left: row.uses_left,
        used: row.used,
        created_at: row.created_at,
        expires_at: row.expires_at,
        note: row.note.clone(),
    }
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<Row>, IdentityError> {
    let Tokens { version, tokens } = serde_json::from_slice(bytes).map_err(|e| files::damaged(path, e, ADVICE))?;
    if version != VERSION {
        return Err(files::damaged(
            path,
            format!("version {version}"),
            "use a pams-server of the version that wrote it",
        ));
    }
    if tokens.len() > TOKENS_MAX {
        return Err(files::damaged(path, format!("over {TOKENS_MAX} tokens"), ADVICE));
    }
    Ok(tokens)
}

fn stamp(path: &Path) -> Result<Option<Stamp>, IdentityError> {
    match fs::metadata(path) {
        Ok(m) => Ok(Some((m.ino(), m.mtime(), m.mtime_nsec(), m.len()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(IdentityError::io("look at", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: u64 = 1_700_000_000;

    fn grant(uses: Option<u32>) -> Grant {
        Grant { role: Role::Agent, uses, expires_at: T0 + DAY, note: "lab".into() }
    }

    fn code(r: Result<(), Refused>) -> Result<(), Refusal> {
        r.map_err(|r| {
            assert!(r.detail.contains("pams-server token create"), "{}", r.detail);
            r.code
        })
    }

    #[test]
    fn a_token_is_used_as_often_as_it_allows_and_each_mistake_has_its_code() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = TokenStore::open(dir.path()).unwrap();
        let (id, secret) = store.create(&grant(Some(2)), T0).unwrap();
        let ask = Ask { id: &id, secret: &secret, role: Role::Agent };
        assert_eq!(code(store.redeem(&Ask { id: "0000", ..ask }, T0)), Err(Refusal::TokenUnknown));
        assert_eq!(code(store.redeem(&Ask { secret: &[0; 16], ..ask }, T0)), Err(Refusal::TokenSecret));
        assert_eq!(code(store.redeem(&Ask { secret: &[], ..ask }, T0)), Err(Refusal::TokenSecret));
        assert_eq!(code(store.redeem(&Ask { role: Role::Server, ..ask }, T0)), Err(Refusal::TokenRole));
        assert_eq!(code(store.redeem(&ask, T0 + DAY)), Err(Refusal::TokenExpired));
        assert_eq!(code(store.redeem(&ask, T0)), Ok(()));
        store.refund(&id, T0).unwrap();
        for _ in 0..2 {
            assert_eq!(code(store.redeem(&ask, T0)), Ok(()));
        }
        assert_eq!(code(store.redeem(&ask, T0)), Err(Refusal::TokenUsedUp));
        assert_eq!(code(store.check(&ask, true, T0)), Ok(()));
        assert!(store.revoke(&id, T0).unwrap() && !store.revoke("0000", T0).unwrap());
        assert_eq!(code(store.redeem(&ask, T0)), Err(Refusal::TokenRevoked));
        let all = store.list(T0).unwrap();
        assert_eq!((all.len(), all[0].state, all[0].used, all[0].uses_left), (1, TokenState::Revoked, 2, Some(0)));
    }

    #[test]
    fn another_process_makes_and_revokes_tokens_while_the_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (mut server, mut cli) = (TokenStore::open(dir.path()).unwrap(), TokenStore::open(dir.path()).unwrap());
        let (id, secret) = cli.create(&grant(None), T0).unwrap();
        let ask = Ask { id: &id, secret: &secret, role: Role::Agent };
        assert_eq!(code(server.redeem(&ask, T0)), Ok(()));
        assert!(cli.revoke(&id, T0).unwrap());
        assert_eq!(code(server.redeem(&ask, T0)), Err(Refusal::TokenRevoked));
        assert_eq!(cli.list(T0).unwrap()[0].used, 1);
    }

    #[test]
    fn secrets_are_not_in_the_file_and_ended_tokens_leave_it_after_a_week() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = TokenStore::open(dir.path()).unwrap();
        let (old, secret) = store.create(&grant(None), T0).unwrap();
        let file = fs::read_to_string(dir.path().join("tokens.json")).unwrap();
        assert!(!file.contains(&text::encode(&secret)) && file.contains(&text::encode(&sha256(&secret))));
        let later = T0 + DAY + ENDED_SECONDS;
        let late = Grant { expires_at: later + 1, ..grant(None) };
        store.create(&late, later - 1).unwrap();
        assert_eq!(store.list(later - 1).unwrap()[0].id, old);
        store.create(&late, later).unwrap();
        assert!(store.list(later).unwrap().iter().all(|t| t.id != old));
    }

    #[test]
    fn over_the_bound_the_longest_ended_token_makes_room_and_open_ones_never() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = TokenStore::open(dir.path()).unwrap();
        let (id, _) = store.create(&grant(None), T0).unwrap();
        let row = store.load().unwrap()[0].clone();
        let fill = (1..TOKENS_MAX).map(|i| Row { id: format!("{i}"), ..row.clone() });
        let filled: Result<(), IdentityError> = store.change(T0, |rows| {
            rows.extend(fill);
            Ok(())
        });
        filled.unwrap();
        assert!(matches!(store.create(&grant(None), T0), Err(GrantError::Full)));
        store.revoke(&id, T0).unwrap();
        store.create(&grant(None), T0).unwrap();
        let all = store.list(T0).unwrap();
        assert!(all.len() == TOKENS_MAX && all.iter().all(|t| t.id != id));
    }

    #[test]
    fn what_lets_nobody_join_is_not_made_and_a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = TokenStore::open(dir.path()).unwrap();
        assert!(matches!(store.create(&grant(Some(0)), T0), Err(GrantError::Useless)));
        assert!(matches!(store.create(&grant(None), T0 + DAY), Err(GrantError::Useless)));
        let for_servers = Grant { role: Role::Server, ..grant(None) };
        assert!(matches!(store.create(&for_servers, T0), Err(GrantError::NoRootKey(_))));
        fs::write(dir.path().join("tokens.json"), "{").unwrap();
        let message = TokenStore::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("tokens.json") && message.contains("move it away"), "{message}");
        let ask = Ask { id: "a", secret: &[], role: Role::Agent };
        assert_eq!(store.redeem(&ask, T0).unwrap_err().code, Refusal::Busy);
    }
}
