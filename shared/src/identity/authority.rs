//! The certificate authority inside `pams-server`: its data directory, its own leaf, and who gets one.
//!
//! `root.pem` and `ca.pem` hold a certificate and its key each, `server.json` what makes this server the same after a
//! restart, `bindings` and `tokens.json` stand beside them. Nothing is revoked by list: leaves are short, renewal can be
//! refused. Several servers under one root are not built yet; joining as a server is refused.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{Issuer, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    GRACE_SECONDS, IdentityError, Own, RESET_KEY_BYTES, Subject, TokenStore,
    bindings::Bindings,
    check_domain, files, is_due,
    issue::{self, CA_SECONDS, PublicKey},
    name, random,
    store::{Ask, refused},
    text,
};
use crate::{
    frame::{Issued, Join, Refusal, Refused, Role},
    id::ServerId,
};

const ADVICE: &str = "restore the data directory from a backup; only if it never served, remove it and start anew";
const VERSION: u32 = 1;

/// What stays the same over restarts, but for the generation.
#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    id: Uuid,
    domain: String,
    generation: u64,
    #[serde(with = "text")]
    reset_key: [u8; RESET_KEY_BYTES],
    /// PKCS#8.
    #[serde(with = "text")]
    key: Vec<u8>,
}

/// A certificate that signs others, and its key.
struct Signer {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Authority {
    dir: PathBuf,
    state: State,
    key: KeyPair,
    root: Signer,
    ca: Signer,
    own: Arc<Own>,
    subject: Subject,
    bindings: Bindings,
    tokens: TokenStore,
    first_start: bool,
    torn: bool,
    /// Held until the end.
    _lock: File,
}

/// When a server's certificates run out, in unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub leaf: u64,
    pub intermediate: u64,
    pub root: u64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = &self.state;
        f.debug_struct("Authority")
            .field("dir", &self.dir)
            .field("id", &s.id)
            .field("generation", &s.generation)
            .finish()
    }
}

impl Authority {
    /// Opens the data directory, or makes it at the first start; takes its lock and counts the start. `now`: unix
    /// seconds, here and below.
    pub fn open(dir: &Path, domain: &str, now: u64) -> Result<Self, IdentityError> {
        check_domain(domain)?;
        files::make_dir(dir)?;
        let lock = files::lock_dir(dir, "pams-server")?;
        let mut state = match read_state(dir)? {
            Some(state) => state,
            None => first_state(domain)?,
        };
        let first_start = state.generation == 0;
        if state.domain != domain {
            return Err(IdentityError::OtherDomain { dir: dir.into(), has: state.domain, wanted: domain.into() });
        }
        let root = open_root(dir, first_start, now)?;
        let ca = open_ca(dir, first_start, state.id, &root, now)?;
        let key = key_of(&dir.join("server.json"), &state.key)?;
        let (own, subject) = own(&state, &key, &root, &ca, now)?;
        // A first start may be interrupted anywhere before the start is counted, and then begins again with what is there.
        write_state(dir, &state)?;
        let (bindings, torn) = Bindings::open(dir)?;
        let tokens = TokenStore::open(dir)?;
        state.generation = state.generation.saturating_add(1);
        write_state(dir, &state)?;
        let dir = dir.into();
        Ok(Self { dir, state, key, root, ca, own, subject, bindings, tokens, first_start, torn, _lock: lock })
    }

    pub fn server_id(&self) -> ServerId {
        ServerId(self.state.id)
    }

    pub fn domain(&self) -> &str {
        &self.state.domain
    }

    /// The count of starts, this one included.
    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    /// Whether this directory was made just now: the moment to print a first token.
    pub fn is_first_start(&self) -> bool {
        self.first_start
    }

    /// Whether a half-written line at the end of `bindings` was dropped: an agent that was joining when the power went
    /// will try again. Worth a warning in the log.
    pub fn was_torn(&self) -> bool {
        self.torn
    }

    pub fn reset_key(&self) -> &[u8; RESET_KEY_BYTES] {
        &self.state.reset_key
    }

    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root.der
    }

    /// SHA-256 of the root's key, as it stands in tokens.
    pub fn pin(&self) -> Result<[u8; 32], IdentityError> {
        Ok(name::key_hash(&self.root.der)?)
    }

    /// The server's certificate, for the TLS configurations; renewals show up in it.
    pub fn own(&self) -> Arc<Own> {
        self.own.clone()
    }

    /// The server's leaf as others see it.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// When the certificates run out; those that [`Authority::renew_due`] renews, and the root, which it does not.
    pub fn expiry(&self) -> Result<Expiry, IdentityError> {
        let until = |der: &[u8]| name::validity(der).map(|(_, not_after)| not_after);
        Ok(Expiry { leaf: self.subject.not_after, intermediate: until(&self.ca.der)?, root: until(&self.root.der)? })
    }

    pub fn tokens(&mut self) -> &mut TokenStore {
        &mut self.tokens
    }

    /// Renews the server's leaf, and its intermediate, if two thirds of their life are over; says whether. To be called
    /// every few minutes.
    pub fn renew_due(&mut self, now: u64) -> Result<bool, IdentityError> {
        if !self.subject.is_due(now) {
            return Ok(false);
        }
        if ca_is_due(&self.ca.der, now)? {
            self.ca = make_ca(&self.dir, self.state.id, &self.root, now)?;
        }
        let leaf = sign_own(&self.state, &self.key, &self.ca, now)?;
        self.subject = Subject::of_leaf(&leaf)?;
        self.own.renew(vec![leaf, self.ca.der.clone()]);
        Ok(true)
    }

    /// A first certificate for the holder of a token. The token is used only if all else is right, and not once more by
    /// a repetition of the same request whose answer was lost.
    pub fn enrol(&mut self, join: &Join, now: u64) -> Result<Issued, Refused> {
        if join.role == Role::Server {
            let detail = "this version has one server: only agents can join it; start pams-agent with the token";
            return Err(refused(Refusal::TokenRole, detail.into()));
        }
        let ask = Ask { id: &join.token_id, secret: &join.secret, role: join.role };
        let bound = self.bindings.of(join.id).cloned();
        let by_this_token = bound.as_ref().is_some_and(|b| b.token == join.token_id);
        self.tokens.check(&ask, by_this_token, now)?;
        if join.id.get_version_num() != 4 {
            let detail = format!("{} is no peer id: a UUIDv4 is needed; use a pams-agent of this version", join.id);
            return Err(refused(Refusal::Protocol, detail));
        }
        let key = proven(&join.csr)?;
        if bound.as_ref().is_some_and(|b| b.key_hash != key.hash()) {
            return Err(taken(join.id));
        }
        if bound.is_none() && self.bindings.is_full() {
            let detail = "this server knows as many agents as it can: forget old ones with `pams-server forget <id>`";
            return Err(refused(Refusal::Busy, detail.into()));
        }
        let issued = self.issue(&key, join.id, now)?;
        if !(by_this_token && bound.is_some_and(|b| b.key_hash == key.hash())) {
            self.tokens.redeem(&ask, now)?;
            if let Err(e) = self.bindings.bind(join.id, key.hash(), &join.token_id, now) {
                // Both files are on the same full disk: should this fail too, a use is lost, never won.
                let refund = self.tokens.refund(&join.token_id, now).err();
                return Err(broken(&refund.unwrap_or(e)));
            }
        }
        Ok(issued)
    }

    /// A new leaf for a connected agent, for the key that it has proven in TLS, its leaf being `subject`.
    pub fn renew(&mut self, subject: &Subject, csr: &[u8], now: u64) -> Result<Issued, Refused> {
        if subject.role != Role::Agent {
            return Err(refused(Refusal::TokenRole, "only agents renew here: this version has one server".into()));
        }
        let key = proven(csr)?;
        if key.hash() != subject.key_hash {
            let detail = "the request is for another key than the certificate in use: restart pams-agent";
            return Err(refused(Refusal::Csr, detail.into()));
        }
        match self.bindings.of(subject.id) {
            None => {
                let detail = format!("this server has forgotten peer {}: {AGAIN}", subject.id);
                return Err(refused(Refusal::Expired, detail));
            }
            Some(b) if b.key_hash != subject.key_hash => return Err(taken(subject.id)),
            Some(_) => {}
        }
        if subject.is_beyond_grace(now) {
            let days = GRACE_SECONDS / super::DAY;
            let detail = format!("the certificate of peer {} expired over {days} days ago: {AGAIN}", subject.id);
            return Err(refused(Refusal::Expired, detail));
        }
        self.issue(&key, subject.id, now)
    }

    /// Whether the id is bound to this very key: no longer once it was forgotten, though its leaf still lives.
    pub fn is_bound(&self, subject: &Subject) -> bool {
        self.bindings.of(subject.id).is_some_and(|b| b.key_hash == subject.key_hash)
    }

    /// Forgets whose the id is, so that another key may have it; says whether it was bound.
    pub fn unbind(&mut self, id: Uuid, now: u64) -> Result<bool, IdentityError> {
        self.bindings.unbind(id, now)
    }

    fn issue(&self, key: &PublicKey, id: Uuid, now: u64) -> Result<Issued, Refused> {
        let leaf = issue::leaf(key, (Role::Agent, id), &self.state.domain, &self.ca.issuer, now);
        let leaf = leaf.map_err(|e| broken(&e))?;
        Ok(Issued {
            chain: vec![leaf.der().to_vec(), self.ca.der.to_vec()],
            root: self.root.der.to_vec(),
            domain: self.state.domain.clone(),
        })
    }
}

/// The pin of the server whose data directory this is, for a command that makes a token beside the running server.
pub fn pin_of(dir: &Path) -> Result<[u8; 32], IdentityError> {
    let path = dir.join("root.pem");
    let pem = files::read(&path)?.ok_or_else(|| {
        files::damaged(&path, "there is none", "start pams-server once with this --data-dir, or name the right one")
    })?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|e| files::damaged(&path, e, ADVICE))?;
    name::key_hash(&der).map_err(|e| files::damaged(&path, e, ADVICE))
}

const AGAIN: &str = "join again: `pams-server token create` on the server, then pams-agent --join <token>";

fn proven(csr: &[u8]) -> Result<PublicKey, Refused> {
    PublicKey::of_request(csr).map_err(|problem| {
        let detail = format!("the certificate request cannot be used: {problem}; use a pams-agent of this version");
        refused(Refusal::Csr, detail)
    })
}

fn taken(id: Uuid) -> Refused {
    let detail = format!(
        "peer {id} belongs to another key. If its host lost its data, run `pams-server forget {id}` on the server and \
         join again; if its data directory was copied from another host, give this one a new --data-dir"
    );
    refused(Refusal::IdTaken, detail)
}

fn broken(e: &IdentityError) -> Refused {
    refused(Refusal::Busy, format!("the server could not issue a certificate; on its host: {e}; then try again"))
}

fn read_state(dir: &Path) -> Result<Option<State>, IdentityError> {
    let path = dir.join("server.json");
    let bindings = dir.join("bindings");
    let served = bindings.exists();
    let Some(bytes) = files::read(&path)? else {
        // A server without its id would make a new one, and its agents would be lost to it.
        return if served { Err(files::damaged(&path, "it is missing", ADVICE)) } else { Ok(None) };
    };
    let state: State = serde_json::from_slice(&bytes).map_err(|e| files::damaged(&path, e, ADVICE))?;
    if state.version != VERSION {
        let advice = "use a pams-server of the version that wrote it";
        return Err(files::damaged(&path, format!("version {}", state.version), advice));
    }
    if state.generation > 0 && !served {
        return Err(files::damaged(&bindings, "it is missing", ADVICE));
    }
    Ok(Some(state))
}

fn first_state(domain: &str) -> Result<State, IdentityError> {
    let key = issue::new_key()?.serialize_der();
    let (id, domain, reset_key) = (Uuid::new_v4(), domain.to_owned(), random()?);
    Ok(State { version: VERSION, id, domain, generation: 0, reset_key, key })
}

fn write_state(dir: &Path, state: &State) -> Result<(), IdentityError> {
    let path = dir.join("server.json");
    let json = serde_json::to_vec_pretty(state).map_err(|e| files::damaged(&path, e, ADVICE))?;
    files::replace(&path, &json)
}

fn open_root(dir: &Path, first_start: bool, now: u64) -> Result<Signer, IdentityError> {
    let path = dir.join("root.pem");
    match read_signer(&path)? {
        Some(signer) => Ok(signer),
        None if first_start => {
            let key = issue::new_key()?;
            let cert = issue::root(&key, now)?;
            write_signer(&path, &cert, key)
        }
        None => Err(files::damaged(&path, "it is missing", ADVICE)),
    }
}

fn open_ca(dir: &Path, first_start: bool, id: Uuid, root: &Signer, now: u64) -> Result<Signer, IdentityError> {
    // One that an interrupted first start left may name another id.
    match read_signer(&dir.join("ca.pem"))? {
        Some(signer) if !first_start && !ca_is_due(&signer.der, now)? => Ok(signer),
        _ => make_ca(dir, id, root, now),
    }
}

fn make_ca(dir: &Path, id: Uuid, root: &Signer, now: u64) -> Result<Signer, IdentityError> {
    let key = issue::new_key()?;
    let cert = issue::intermediate(&key, id, &root.issuer, now)?;
    write_signer(&dir.join("ca.pem"), &cert, key)
}

fn ca_is_due(der: &[u8], now: u64) -> Result<bool, IdentityError> {
    let (not_before, not_after) = name::validity(der)?;
    Ok(is_due(not_before, not_after, CA_SECONDS, now))
}

fn read_signer(path: &Path) -> Result<Option<Signer>, IdentityError> {
    let Some(pem) = files::read(path)? else { return Ok(None) };
    let der = CertificateDer::from_pem_slice(&pem).map_err(|e| files::damaged(path, e, ADVICE))?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|e| files::damaged(path, e, ADVICE))?;
    let key = key_of(path, key.secret_pkcs8_der())?;
    let own = name::key_hash(&der).map_err(|e| files::damaged(path, e, ADVICE))?;
    if own != super::sha256(&rcgen::PublicKeyData::subject_public_key_info(&key)) {
        return Err(files::damaged(path, "its key and certificate do not belong together", ADVICE));
    }
    let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| files::damaged(path, e, ADVICE))?;
    Ok(Some(Signer { der, issuer }))
}

fn write_signer(path: &Path, cert: &rcgen::Certificate, key: KeyPair) -> Result<Signer, IdentityError> {
    files::replace(path, (cert.pem() + &key.serialize_pem()).as_bytes())?;
    Ok(Signer { der: cert.der().clone(), issuer: Issuer::from_ca_cert_der(cert.der(), key)? })
}

fn key_of(path: &Path, pkcs8: &[u8]) -> Result<KeyPair, IdentityError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), &PKCS_ED25519).map_err(|e| files::damaged(path, e, ADVICE))
}

fn own(
    state: &State,
    key: &KeyPair,
    root: &Signer,
    ca: &Signer,
    now: u64,
) -> Result<(Arc<Own>, Subject), IdentityError> {
    let leaf = sign_own(state, key, ca, now)?;
    let subject = Subject::of_leaf(&leaf)?;
    let own = Own::new(vec![leaf, ca.der.clone()], key.serialized_der(), root.der.clone())?;
    Ok((own, subject))
}

fn sign_own(state: &State, key: &KeyPair, ca: &Signer, now: u64) -> Result<CertificateDer<'static>, IdentityError> {
    let leaf = issue::leaf(key, (Role::Server, state.id), &state.domain, &ca.issuer, now)?;
    Ok(leaf.der().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AgentIdentity, Grant, Token};

    #[test]
    fn a_full_disk_binds_nobody_and_burns_no_use() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut authority = Authority::open(dirs[0].path(), "pams.internal", 0).unwrap();
        let grant = Grant { role: Role::Agent, uses: Some(1), expires_at: 10, note: String::new() };
        let (id, secret) = authority.tokens().create(&grant, 0).unwrap();
        let token = Token { pin: authority.pin().unwrap(), id, secret, addresses: Vec::new() };
        let agent = AgentIdentity::open(dirs[1].path()).unwrap();
        let join = agent.join_request(&token, "a", 0).unwrap();
        authority.bindings.fill_disk();
        let refused = authority.enrol(&join, 0).unwrap_err();
        assert_eq!(refused.code, Refusal::Busy);
        assert!(refused.detail.contains("bindings") && refused.detail.contains("try again"), "{}", refused.detail);
        assert_eq!(authority.bindings.of(join.id), None);
        assert_eq!(authority.tokens().list(0).unwrap()[0].uses_left, Some(1));
        authority.enrol(&join, 0).unwrap();
        drop(authority);
        let authority = Authority::open(dirs[0].path(), "pams.internal", 0).unwrap();
        assert!(authority.bindings.of(join.id).is_some() && !authority.was_torn());
    }
}
