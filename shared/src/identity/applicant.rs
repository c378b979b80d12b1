//! The joining side of a second server: its data directory before there is an authority in it, what it asks for, and what it
//! takes.
//!
//! Id and keys are on disk before anybody is asked, so that a repetition after a lost answer is the same request and uses
//! the token once. `server.json` says last that the server has joined; whenever the power goes before, joining begins again.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

use super::{
    IdentityError, RESET_KEY_BYTES, Token, check_domain, files, issue, name,
    vault::{self, Joined, State},
};
use crate::frame::{Issued, Join, Role};

/// A server that is to join. The directory is locked as long as it lives.
pub struct Applicant {
    dir: PathBuf,
    state: State,
    /// The intermediate's.
    key: KeyPair,
    _lock: File,
}

impl std::fmt::Debug for Applicant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applicant").field("dir", &self.dir).field("id", &self.state.id).finish_non_exhaustive()
    }
}

impl Applicant {
    /// Takes the directory, or makes it. `None`: the server has joined with this very token before, so that the same command
    /// line starts it again. Another token of its cluster is an operator's wish: it was forgotten, or was away for too long.
    pub fn open(dir: &Path, token: &Token) -> Result<Option<Self>, IdentityError> {
        files::make_dir(dir)?;
        let lock = files::lock_dir(dir, "pams-server")?;
        let state = match State::read(dir)? {
            Some(state) => state,
            None => State::new()?,
        };
        if !state.is_blank() {
            let same = vault::pin_of(dir)? == token.pin;
            match &state.joined {
                Some(joined) if same && joined.token == token.id => return Ok(None),
                Some(_) if same => {}
                _ => return Err(IdentityError::HasCluster { dir: dir.into() }),
            }
        }
        let key = vault::open_ca_key(dir)?;
        state.write(dir)?;
        Ok(Some(Self { dir: dir.into(), state, key, _lock: lock }))
    }

    /// Whether it has joined before, and can go on with what it has.
    pub fn has_joined(&self) -> bool {
        self.state.joined.is_some()
    }

    /// That of the server to be.
    pub fn reset_key(&self) -> &[u8; RESET_KEY_BYTES] {
        &self.state.reset_key
    }

    /// What to send to the server that has proven to be the token's.
    pub fn join_request(&self, token: &Token, name: &str, wall_ms: u64) -> Result<Join, IdentityError> {
        Ok(Join {
            token_id: token.id.clone(),
            secret: token.secret.to_vec(),
            id: self.state.id,
            csr: issue::request(&self.key)?,
            role: Role::Server,
            name: name.into(),
            wall_ms,
        })
    }

    /// Takes what the token's server issued, and the token's addresses as the first servers that are known. `domain`: the
    /// one that the operator wants, if any. The directory is then ready for [`Authority::open`](super::Authority::open).
    pub fn join(mut self, token: &Token, issued: &Issued, domain: Option<&str>) -> Result<(), IdentityError> {
        let pin = name::key_hash(&issued.root).map_err(|e| IdentityError::Issued(format!("its root: {e}")))?;
        if pin != token.pin {
            return Err(IdentityError::Issued("its root is not the one that the token names".into()));
        }
        check_domain(&issued.domain).map_err(|e| IdentityError::Issued(e.to_string()))?;
        let kept = self.has_joined().then_some(self.state.domain.as_str());
        if kept.is_some_and(|kept| kept != issued.domain) {
            return Err(IdentityError::Issued("it is of another domain than this server's".into()));
        }
        if let Some(wanted) = domain.filter(|d| *d != issued.domain) {
            let (dir, has) = (self.dir, issued.domain.clone());
            return Err(IdentityError::OtherDomain { dir, has, wanted: wanted.into() });
        }
        let root = CertificateDer::from(issued.root.clone());
        let ca = vault::issued_ca(&root, issued, &self.key, self.state.id)?;
        vault::write_ca(&self.dir, &ca)?;
        if !self.has_joined() {
            vault::write_root(&self.dir, &root)?;
        }
        self.state.domain.clone_from(&issued.domain);
        self.state.joined = Some(Joined { token: token.id.clone(), seeds: token.addresses.clone() });
        self.state.write(&self.dir)
    }
}
