//! An agent's identity: its peer id, key, certificate and home, in `identity.json` of its data directory.
//!
//! One file, replaced as a whole, so that id, key and certificate always belong together whenever the power goes. The
//! starts are counted in it before the count is used. Whom the agent trusts is decided when it joins: the root whose key
//! the token names, and no other from then on.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Address, IdentityError, Own, RESET_KEY_BYTES, Subject, Token, check_domain, files, issue, name, random, sha256,
    text, trust,
};
use crate::{
    frame::{CERTIFICATE_BYTES_MAX, CHAIN_MAX, Issued, Join, Role},
    id::PeerId,
};

const ADVICE: &str = "restore it from a backup, or move it away: the agent is then a new peer and has to join again";
const VERSION: u32 = 1;

#[derive(Clone, Serialize, Deserialize)]
struct State {
    version: u32,
    id: Uuid,
    epoch: u64,
    /// PKCS#8.
    #[serde(with = "text")]
    key: Vec<u8>,
    #[serde(with = "text")]
    reset_key: [u8; RESET_KEY_BYTES],
    joined: Option<Joined>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Joined {
    domain: String,
    root: Der,
    /// Leaf first.
    chain: Vec<Der>,
    homes: Vec<Address>,
    /// Id of the token that it joined with last; files of the first versions do not tell.
    #[serde(default)]
    token: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Der(#[serde(with = "text")] Vec<u8>);

/// What joining gave, ready for TLS.
struct Member {
    own: Arc<Own>,
    subject: Subject,
    root: CertificateDer<'static>,
}

pub struct AgentIdentity {
    path: PathBuf,
    state: State,
    key: KeyPair,
    member: Option<Member>,
    /// Held until the end.
    _lock: File,
}

impl std::fmt::Debug for AgentIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let State { id, epoch, .. } = &self.state;
        f.debug_struct("AgentIdentity").field("path", &self.path).field("id", id).field("epoch", epoch).finish()
    }
}

impl AgentIdentity {
    /// Opens the data directory, or makes it, id and key at the first start; takes its lock and counts the start.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        files::make_dir(dir)?;
        let lock = files::lock_dir(dir, "pams-agent")?;
        let path = dir.join("identity.json");
        let mut state = match files::read(&path)? {
            Some(bytes) => decode(&path, &bytes)?,
            None => first_state()?,
        };
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&state.key.as_slice().into(), &PKCS_ED25519)
            .map_err(|e| files::damaged(&path, e, ADVICE))?;
        let member = match &state.joined {
            Some(joined) => Some(member(joined, state.id, &key).map_err(|e| files::damaged(&path, e, ADVICE))?),
            None => None,
        };
        state.epoch = state.epoch.saturating_add(1);
        write(&path, &state)?;
        Ok(Self { path, state, key, member, _lock: lock })
    }

    pub fn peer_id(&self) -> PeerId {
        PeerId(self.state.id)
    }

    /// The count of starts, this one included.
    pub fn epoch(&self) -> u64 {
        self.state.epoch
    }

    pub fn reset_key(&self) -> &[u8; RESET_KEY_BYTES] {
        &self.state.reset_key
    }

    pub fn is_joined(&self) -> bool {
        self.member.is_some()
    }

    /// Where the home listens, as the last token said; empty before joining.
    pub fn homes(&self) -> &[Address] {
        self.state.joined.as_ref().map_or(&[], |j| &j.homes)
    }

    /// The trust domain, once joined.
    pub fn domain(&self) -> Option<&str> {
        self.state.joined.as_ref().map(|j| j.domain.as_str())
    }

    pub fn root(&self) -> Option<&CertificateDer<'static>> {
        self.member.as_ref().map(|m| &m.root)
    }

    /// The agent's certificate, for the TLS configurations; renewals show up in it.
    pub fn own(&self) -> Option<Arc<Own>> {
        self.member.as_ref().map(|m| m.own.clone())
    }

    /// The agent's leaf as others see it.
    pub fn subject(&self) -> Option<&Subject> {
        self.member.as_ref().map(|m| &m.subject)
    }

    /// Whether it is time to renew: two thirds of the leaf's life are over. `now`: unix seconds.
    pub fn needs_renewal(&self, now: u64) -> bool {
        self.subject().is_some_and(|s| s.is_due(now))
    }

    /// A certificate request for the agent's key, for joining and renewing alike.
    pub fn csr(&self) -> Result<Vec<u8>, IdentityError> {
        issue::request(&self.key)
    }

    /// What to send to the server that has proven to be the token's.
    pub fn join_request(&self, token: &Token, name: &str, wall_ms: u64) -> Result<Join, IdentityError> {
        Ok(Join {
            token_id: token.id.clone(),
            secret: token.secret.to_vec(),
            id: self.state.id,
            csr: self.csr()?,
            role: Role::Agent,
            name: name.into(),
            wall_ms,
        })
    }

    /// Whether this agent joined with this very token the last time, so that it need not be used again. Another token of
    /// the cluster is an operator's wish: the home has forgotten the agent, or has moved.
    pub fn has_redeemed(&self, token: &Token) -> bool {
        let last = self.state.joined.as_ref().and_then(|joined| joined.token.as_ref());
        self.is_joined_by(token) && last == Some(&token.id)
    }

    /// Whether the token is of the cluster that this agent has joined.
    pub fn is_joined_by(&self, token: &Token) -> bool {
        self.root().and_then(|root| name::key_hash(root).ok()) == Some(token.pin)
    }

    /// Takes what the token's server issued, and the token's addresses as the home. Also for joining the same cluster
    /// again; another one is refused before anything is checked.
    pub fn join(&mut self, token: &Token, issued: &Issued) -> Result<(), IdentityError> {
        if self.is_joined() && !self.is_joined_by(token) {
            return Err(IdentityError::OtherCluster);
        }
        let pin = name::key_hash(&issued.root).map_err(|e| IdentityError::Issued(format!("its root: {e}")))?;
        if pin != token.pin {
            return Err(IdentityError::Issued("its root is not the one that the token names".into()));
        }
        self.install(issued, token.addresses.clone(), Some(token.id.clone()))
    }

    /// Takes a renewed certificate; connections made from now on show it.
    pub fn renew(&mut self, issued: &Issued) -> Result<(), IdentityError> {
        let joined = self.state.joined.as_ref();
        let Some(Joined { root, domain, homes, token, .. }) = joined else {
            return Err(IdentityError::Issued("this agent has not joined yet".into()));
        };
        if root.0 != issued.root || *domain != issued.domain {
            return Err(IdentityError::Issued("it is of another root or domain than this agent's".into()));
        }
        let (homes, token) = (homes.clone(), token.clone());
        self.install(issued, homes, token)
    }

    fn install(&mut self, issued: &Issued, homes: Vec<Address>, token: Option<String>) -> Result<(), IdentityError> {
        let joined = Joined {
            domain: issued.domain.clone(),
            root: Der(issued.root.clone()),
            chain: issued.chain.iter().cloned().map(Der).collect(),
            homes,
            token,
        };
        let new = member(&joined, self.state.id, &self.key).map_err(IdentityError::Issued)?;
        let state = State { joined: Some(joined), ..self.state.clone() };
        write(&self.path, &state)?;
        self.state = state;
        match &mut self.member {
            Some(member) => {
                member.own.renew(certificates(&issued.chain));
                member.subject = new.subject;
            }
            none => *none = Some(new),
        }
        Ok(())
    }
}

/// Checks that the chain is of this id and key and leads to the root; the reason if not. Asked at the end of the leaf's
/// life, whatever the clock says now: a clock that is off does not make it another's.
fn member(joined: &Joined, id: Uuid, key: &KeyPair) -> Result<Member, String> {
    let fits = |der: &Der| der.0.len() <= CERTIFICATE_BYTES_MAX;
    if joined.chain.len() > CHAIN_MAX || !joined.chain.iter().all(fits) || !fits(&joined.root) {
        return Err("its chain is too long".into());
    }
    check_domain(&joined.domain).map_err(|e| e.to_string())?;
    let leaf = joined.chain.first().ok_or("its chain is empty")?;
    let subject = Subject::of_leaf(&leaf.0).map_err(|e| e.to_string())?;
    if (subject.role, subject.id, subject.domain.as_str()) != (Role::Agent, id, joined.domain.as_str()) {
        return Err(format!("it names another than agent {id} of {}", joined.domain));
    }
    if subject.key_hash != sha256(&key.subject_public_key_info()) {
        return Err("it is for another key".into());
    }
    let root = CertificateDer::from(joined.root.0.clone());
    let chain: Vec<_> = joined.chain.iter().map(|d| CertificateDer::from(d.0.clone())).collect();
    trust::check_chain(&root, &chain, subject.not_after).map_err(|e| format!("its chain does not hold: {e}"))?;
    let own = Own::new(chain, key.serialized_der(), root.clone()).map_err(|e| e.to_string())?;
    Ok(Member { own, subject, root })
}

fn certificates(chain: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|der| CertificateDer::from(der.clone())).collect()
}

fn first_state() -> Result<State, IdentityError> {
    let key = issue::new_key()?.serialize_der();
    Ok(State { version: VERSION, id: Uuid::new_v4(), epoch: 0, key, reset_key: random()?, joined: None })
}

fn decode(path: &Path, bytes: &[u8]) -> Result<State, IdentityError> {
    let state: State = serde_json::from_slice(bytes).map_err(|e| files::damaged(path, e, ADVICE))?;
    if state.version != VERSION {
        let advice = "use a pams-agent of the version that wrote it";
        return Err(files::damaged(path, format!("version {}", state.version), advice));
    }
    Ok(state)
}

fn write(path: &Path, state: &State) -> Result<(), IdentityError> {
    let json = serde_json::to_vec_pretty(state).map_err(|e| files::damaged(path, e, ADVICE))?;
    files::replace(path, &json)
}
