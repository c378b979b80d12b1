//! The certificate authority inside `pams-server`: its own leaf, who gets one from it, and who is welcome with one.
//!
//! Each server signs leaves with an intermediate of its own. The root's key, which signs intermediates, is at the server that
//! made the cluster alone; one that joined ([`Applicant`](super::Applicant)) has the root's certificate. Nothing is revoked by
//! list: leaves are short, renewal can be refused, and each server turns away whom it has banned. What is on disk is `vault`'s,
//! and `bindings` and `tokens.json` beside it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use uuid::Uuid;

use super::{
    Address, DOMAIN_DEFAULT, GRACE_SECONDS, IdentityError, Own, RESET_KEY_BYTES, Subject, TokenStore,
    bindings::Bindings,
    check_domain, files,
    issue::{self, PublicKey},
    name,
    store::{Ask, refused},
    vault::{self, Root, Signer, State},
};
use crate::{
    frame::{Issued, Join, Refusal, Refused, Role},
    id::ServerId,
};

/// Stands where a binding names its token, if the id was bound elsewhere before and renewed here. No token has this id.
const RENEWED: &str = "renewed";

pub struct Authority {
    dir: PathBuf,
    state: State,
    key: KeyPair,
    root: Root,
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

/// What [`Authority::renew_due`] did, and what it left to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The server's leaf is a new one.
    pub renewed: bool,
    /// The intermediate is due, and this server cannot sign it: a server with the root's key has to be asked, with
    /// [`Authority::ca_request`].
    pub intermediate_due: bool,
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
    /// Opens the data directory, or makes it at the first start; takes its lock and counts the start. `domain`: `None` takes
    /// what the directory has, and the default for a new one. `now`: unix seconds, here and below.
    pub fn open<'a>(dir: &Path, domain: impl Into<Option<&'a str>>, now: u64) -> Result<Self, IdentityError> {
        let domain = domain.into();
        domain.map(check_domain).transpose()?;
        files::make_dir(dir)?;
        let lock = files::lock_dir(dir, "pams-server")?;
        let mut state = match State::read(dir)? {
            Some(state) => state,
            None => State::new()?,
        };
        let first_start = state.generation == 0;
        if state.is_blank() {
            state.domain = domain.unwrap_or(DOMAIN_DEFAULT).into();
        } else if let Some(wanted) = domain.filter(|d| *d != state.domain) {
            return Err(IdentityError::OtherDomain { dir: dir.into(), has: state.domain, wanted: wanted.into() });
        }
        let root = vault::open_root(dir, &state, now)?;
        let ca = vault::open_ca(dir, &state, &root, now)?;
        let key = state.key(dir)?;
        let leaf = sign_own(&state, &key, &ca, now)?;
        let subject = Subject::of_leaf(&leaf)?;
        let own = Own::new(vec![leaf, ca.der.clone()], key.serialized_der(), root.der.clone())?;
        // A first start may be interrupted anywhere before the start is counted, and then begins again with what is there.
        state.write(dir)?;
        let (bindings, torn) = Bindings::open(dir)?;
        let tokens = TokenStore::open(dir)?;
        state.generation = state.generation.saturating_add(1);
        state.write(dir)?;
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

    /// Where other servers listen, as the token said that this one joined with; empty for the one that made the cluster.
    pub fn seeds(&self) -> &[Address] {
        self.state.joined.as_ref().map_or(&[], |joined| &joined.seeds)
    }

    /// Whether this server can let other servers join, and renew their intermediates.
    pub fn has_root_key(&self) -> bool {
        self.root.issuer.is_some()
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

    /// Renews the server's leaf, and with the root's key its intermediate, if two thirds of their life are over. To be called
    /// every few minutes.
    pub fn renew_due(&mut self, now: u64) -> Result<Renewal, IdentityError> {
        let due = vault::ca_is_due(&self.ca.der, now)?;
        let (renewed, intermediate_due) = (self.subject.is_due(now), due && !self.has_root_key());
        if renewed {
            if let Some(root) = self.root.issuer.as_ref().filter(|_| due) {
                self.ca = vault::make_ca(&self.dir, self.state.id, root, now)?;
            }
            self.show(sign_own(&self.state, &self.key, &self.ca, now)?)?;
        }
        Ok(Renewal { renewed, intermediate_due })
    }

    /// A request for a new certificate of the intermediate, for the key that it has.
    pub fn ca_request(&self) -> Result<Vec<u8>, IdentityError> {
        issue::request(self.ca.issuer.key())
    }

    /// Takes a renewed intermediate, that a server with the root's key answered [`Authority::ca_request`] with. An error
    /// changes nothing.
    pub fn install_ca(&mut self, issued: &Issued, now: u64) -> Result<(), IdentityError> {
        if issued.root[..] != self.root.der[..] || issued.domain != self.state.domain {
            return Err(IdentityError::Issued("it is of another root or domain than this server's".into()));
        }
        let ca = vault::issued_ca(&self.root.der, issued, self.ca.issuer.key(), self.state.id)?;
        let leaf = sign_own(&self.state, &self.key, &ca, now)?;
        vault::write_ca(&self.dir, &ca)?;
        self.ca = ca;
        self.show(leaf)
    }

    /// Has others see this leaf from now on.
    fn show(&mut self, leaf: CertificateDer<'static>) -> Result<(), IdentityError> {
        self.subject = Subject::of_leaf(&leaf)?;
        self.own.renew(vec![leaf, self.ca.der.clone()]);
        Ok(())
    }

    /// A first certificate for the holder of a token: a leaf for an agent, an intermediate for a server. The token is used
    /// only if all else is right, and not once more by a repetition of the same request whose answer was lost.
    pub fn enrol(&mut self, join: &Join, now: u64) -> Result<Issued, Refused> {
        if join.role == Role::Server {
            self.root_key()?;
        }
        let ask = Ask { id: &join.token_id, secret: &join.secret, role: join.role };
        let bound = self.bindings.of(join.id).cloned();
        let by_this_token = bound.as_ref().is_some_and(|b| b.token == join.token_id);
        self.tokens.check(&ask, by_this_token, now)?;
        let role = join.role.as_str();
        if join.id.get_version_num() != 4 {
            let detail = format!("{} is no id: a UUIDv4 is needed; use a pams-{role} of this version", join.id);
            return Err(refused(Refusal::Protocol, detail));
        }
        let key = proven(&join.csr, join.role)?;
        if join.id == self.state.id || bound.as_ref().is_some_and(|b| b.key_hash != key.hash()) {
            return Err(taken(join.role, join.id));
        }
        if bound.is_none() && self.bindings.is_full() {
            return Err(full());
        }
        let issued = self.issue(join.role, &key, join.id, now)?;
        if !by_this_token {
            self.tokens.redeem(&ask, now)?;
            if let Err(e) = self.bindings.bind(join.id, key.hash(), &join.token_id, now) {
                // Both files are on the same full disk: should this fail too, a use is lost, never won.
                let refund = self.tokens.refund(&join.token_id, now).err();
                return Err(broken(&refund.unwrap_or(e)));
            }
        }
        Ok(issued)
    }

    /// A new certificate for a connected agent, or the intermediate of a connected server, the leaf that it has shown in TLS
    /// being `subject`. One that is welcome from elsewhere in the cluster is bound here as well.
    pub fn renew(&mut self, subject: &Subject, csr: &[u8], now: u64) -> Result<Issued, Refused> {
        let (role, id) = (subject.role, subject.id);
        if role == Role::Server {
            self.root_key()?;
        }
        let key = proven(csr, role)?;
        // A server asks for its intermediate's key, which it is bound to; TLS has proven its leaf's.
        if role == Role::Agent && key.hash() != subject.key_hash {
            let detail = "the request is for another key than the certificate in use: restart pams-agent";
            return Err(refused(Refusal::Csr, detail.into()));
        }
        let bound = self.bindings.of(id).map(|b| b.key_hash);
        if bound.is_some_and(|hash| hash != key.hash()) {
            return Err(taken(role, id));
        }
        if !self.is_welcome(subject) {
            let detail = format!("this server has forgotten {} {id}: {}", noun(role), again(role));
            return Err(refused(Refusal::Expired, detail));
        }
        if subject.is_beyond_grace(now) {
            let (days, noun, again) = (GRACE_SECONDS / super::DAY, noun(role), again(role));
            let detail = format!("the certificate of {noun} {id} expired over {days} days ago: {again}");
            return Err(refused(Refusal::Expired, detail));
        }
        if bound.is_none() && self.bindings.is_full() {
            return Err(full());
        }
        let issued = self.issue(role, &key, id, now)?;
        if bound.is_none() {
            self.bindings.bind(id, key.hash(), RENEWED, now).map_err(|e| broken(&e))?;
        }
        Ok(issued)
    }

    /// Whether who has shown this leaf may work here.
    ///
    /// An agent may whose id is bound here to its key; or is not bound here at all, and another server's intermediate signed
    /// its leaf: it joined there. One that our own intermediate signed was forgotten here. A server may whose own
    /// intermediate signed its leaf. Nobody may who is banned here, nor whom a banned server vouches for.
    pub fn is_welcome(&self, subject: &Subject) -> bool {
        let vouched = |issuer: ServerId| issuer != self.server_id() && !self.bindings.is_banned(issuer.0);
        match (subject.role, self.bindings.of(subject.id)) {
            _ if self.bindings.is_banned(subject.id) => false,
            (Role::Agent, Some(binding)) => binding.key_hash == subject.key_hash,
            (Role::Agent, None) => subject.issuer.is_some_and(vouched),
            (Role::Server, _) => subject.issuer.is_some_and(|issuer| issuer.0 == subject.id && vouched(issuer)),
        }
    }

    /// Ids that are turned away, in any order.
    pub fn banned(&self) -> impl Iterator<Item = Uuid> {
        self.bindings.banned()
    }

    /// Turns an id away from now on, an agent's or a server's, and frees it for another key: it was forgotten, here or
    /// elsewhere in the cluster. Joining anew with a token of this server ends it. Says whether the id was bound here.
    pub fn ban(&mut self, id: Uuid, now: u64) -> Result<bool, IdentityError> {
        self.bindings.ban(id, now)
    }

    /// Takes a ban back, as the id has joined anew elsewhere; says whether there was one.
    pub fn unban(&mut self, id: Uuid, now: u64) -> Result<bool, IdentityError> {
        self.bindings.unban(id, now)
    }

    fn issue(&self, role: Role, key: &PublicKey, id: Uuid, now: u64) -> Result<Issued, Refused> {
        let der = |cert: Result<rcgen::Certificate, IdentityError>| match cert {
            Ok(cert) => Ok(cert.der().to_vec()),
            Err(e) => Err(broken(&e)),
        };
        let chain = match role {
            Role::Agent => {
                let leaf = issue::leaf(key, (Role::Agent, id), &self.state.domain, &self.ca.issuer, now);
                vec![der(leaf)?, self.ca.der.to_vec()]
            }
            Role::Server => vec![der(issue::intermediate(key, id, self.root_key()?, now))?],
        };
        Ok(Issued { chain, root: self.root.der.to_vec(), domain: self.state.domain.clone() })
    }

    fn root_key(&self) -> Result<&Issuer<'static, KeyPair>, Refused> {
        self.root.issuer.as_ref().ok_or_else(|| {
            let detail = "only a server with the root's key can let servers join and renew their certificates, and this one \
                          has joined the cluster itself: ask the server that made the cluster, with a token of its own \
                          `pams-server token create --role server`";
            refused(Refusal::TokenRole, detail.into())
        })
    }
}

fn noun(role: Role) -> &'static str {
    match role {
        Role::Agent => "peer",
        Role::Server => "server",
    }
}

fn again(role: Role) -> &'static str {
    match role {
        Role::Agent => "join again: `pams-server token create` on the server, then pams-agent --join <token>",
        Role::Server => {
            "join again: `pams-server token create --role server` on the server that made the cluster, then pams-server \
             --join <token>"
        }
    }
}

fn proven(csr: &[u8], role: Role) -> Result<PublicKey, Refused> {
    PublicKey::of_request(csr).map_err(|problem| {
        let role = role.as_str();
        let detail = format!("the certificate request cannot be used: {problem}; use a pams-{role} of this version");
        refused(Refusal::Csr, detail)
    })
}

fn taken(role: Role, id: Uuid) -> Refused {
    let detail = format!(
        "{} {id} belongs to another key. If its host lost its data, run `pams-server forget {id}` on the server and \
         join again; if its data directory was copied from another host, give this one a new --data-dir",
        noun(role)
    );
    refused(Refusal::IdTaken, detail)
}

fn full() -> Refused {
    let detail = "this server knows as many ids as it can: forget old ones with `pams-server forget <id>`";
    refused(Refusal::Busy, detail.into())
}

fn broken(e: &IdentityError) -> Refused {
    refused(Refusal::Busy, format!("the server could not issue a certificate; on its host: {e}; then try again"))
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
