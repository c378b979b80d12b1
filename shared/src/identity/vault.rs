//! What a server keeps in its data directory: `server.json`, what makes it the same after a restart; `root.pem`, the root's
//! certificate, and on the server that made the cluster its key; `ca.pem`, the certificate and key of its own intermediate.
//!
//! Until the first start is counted in `server.json`, nobody has been served: a first start that was interrupted begins again
//! with what is there. What a server had before and is missing or damaged is named, and never made anew.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{Issuer, KeyPair, PKCS_ED25519, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Address, DOMAIN_DEFAULT, IdentityError, LEAF_SECONDS, RESET_KEY_BYTES, Subject, files, is_due,
    issue::{self, CA_SECONDS},
    name, random, sha256, text, trust,
};
use crate::{
    frame::{Issued, Role},
    id::ServerId,
};

const ADVICE: &str = "restore the data directory from a backup; only if it never served, remove it and start anew";
const VERSION: u32 = 1;

/// What stays the same over restarts, but for the generation.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub(super) id: Uuid,
    pub(super) domain: String,
    pub(super) generation: u64,
    #[serde(with = "text")]
    pub(super) reset_key: [u8; RESET_KEY_BYTES],
    /// PKCS#8.
    #[serde(with = "text")]
    key: Vec<u8>,
    /// Absent: it made the cluster, or has not started yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) joined: Option<Joined>,
}

/// How a server came to be of a cluster that another one made.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Joined {
    /// Id of the token that it joined with last.
    pub(super) token: String,
    /// The addresses that the token gave.
    pub(super) seeds: Vec<Address>,
}

impl State {
    /// Ids and keys of a server that never served, with the default domain until it is known better.
    pub(super) fn new() -> Result<Self, IdentityError> {
        Ok(Self {
            version: VERSION,
            id: Uuid::new_v4(),
            domain: DOMAIN_DEFAULT.into(),
            generation: 0,
            reset_key: random()?,
            key: issue::new_key()?.serialize_der(),
            joined: None,
        })
    }

    /// Of the server in this directory; `None` if none ever started there.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, IdentityError> {
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

    pub(super) fn write(&self, dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join("server.json");
        let json = serde_json::to_vec_pretty(self).map_err(|e| files::damaged(&path, e, ADVICE))?;
        files::replace(&path, &json)
    }

    /// Whether it can still become any server: it neither served nor joined.
    pub(super) fn is_blank(&self) -> bool {
        self.generation == 0 && self.joined.is_none()
    }

    /// The key of the server's own leaf.
    pub(super) fn key(&self, dir: &Path) -> Result<KeyPair, IdentityError> {
        key_of(&dir.join("server.json"), &self.key)
    }
}

/// The root: everybody's certificate, and the key where this server can let others join.
pub(super) struct Root {
    pub(super) der: CertificateDer<'static>,
    pub(super) issuer: Option<Issuer<'static, KeyPair>>,
}

/// An intermediate's certificate and its key.
pub(super) struct Signer {
    pub(super) der: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

pub(super) fn open_root(dir: &Path, state: &State, now: u64) -> Result<Root, IdentityError> {
    let path = dir.join("root.pem");
    match read_root(dir)? {
        Some(root) if root.issuer.is_some() || state.joined.is_some() => Ok(root),
        // A certificate alone is of a join that was not completed.
        _ if state.is_blank() => make_root(&path, now),
        Some(_) => Err(files::damaged(&path, "its key is missing", ADVICE)),
        None => Err(files::damaged(&path, "it is missing", ADVICE)),
    }
}

fn make_root(path: &Path, now: u64) -> Result<Root, IdentityError> {
    let key = issue::new_key()?;
    let cert = issue::root(&key, now)?;
    files::replace(path, (cert.pem() + &key.serialize_pem()).as_bytes())?;
    Ok(Root { der: cert.der().clone(), issuer: Some(Issuer::from_ca_cert_der(cert.der(), key)?) })
}

pub(super) fn read_root(dir: &Path) -> Result<Option<Root>, IdentityError> {
    let path = dir.join("root.pem");
    let Some(pem) = files::read(&path)? else { return Ok(None) };
    let der = certificate(&path, &pem)?;
    let issuer = match key(&path, &pem)? {
        Some(key) => Some(issuer(&path, &der, key)?),
        None => None,
    };
    Ok(Some(Root { der, issuer }))
}

/// A root that this server has no key of.
pub(super) fn write_root(dir: &Path, der: &CertificateDer<'_>) -> Result<(), IdentityError> {
    files::replace(&dir.join("root.pem"), certificate_pem(der).as_bytes())
}

/// The hash of the root's key in a server's data directory, for a command that makes a token beside the running server.
pub fn pin_of(dir: &Path) -> Result<[u8; 32], IdentityError> {
    let path = dir.join("root.pem");
    let advice = "start pams-server once with this --data-dir, or name the right one";
    let pem = files::read(&path)?.ok_or_else(|| files::damaged(&path, "there is none", advice))?;
    name::key_hash(&certificate(&path, &pem)?).map_err(|e| files::damaged(&path, e, ADVICE))
}

/// The intermediate of a server that opens its directory: made anew where the root's key is at hand and it is time, checked
/// otherwise.
pub(super) fn open_ca(dir: &Path, state: &State, root: &Root, now: u64) -> Result<Signer, IdentityError> {
    let path = dir.join("ca.pem");
    if let (true, Some(issuer)) = (state.is_blank(), &root.issuer) {
        // One that an interrupted first start left may name another id, or be the mere key of a join.
        return make_ca(dir, state.id, issuer, now);
    }
    let old = match files::read(&path)? {
        Some(pem) => Some(read_ca(&path, &pem, state.id, &root.der)?),
        None => None,
    };
    match (old, &root.issuer) {
        (Some(ca), None) => Ok(ca),
        (Some(ca), Some(_)) if !ca_is_due(&ca.der, now)? => Ok(ca),
        (_, Some(issuer)) => make_ca(dir, state.id, issuer, now),
        (None, None) => Err(files::damaged(&path, "it is missing", ADVICE)),
    }
}

fn read_ca(path: &Path, pem: &[u8], id: Uuid, root: &CertificateDer<'static>) -> Result<Signer, IdentityError> {
    let der = certificate(path, pem)?;
    let key = key(path, pem)?.ok_or_else(|| files::damaged(path, "its key is missing", ADVICE))?;
    fit_ca(root, der, key, id).map_err(|e| files::damaged(path, e, ADVICE))
}

/// An intermediate that the root's key signs for a new key of ours.
pub(super) fn make_ca(dir: &Path, id: Uuid, root: &Issuer<'_, KeyPair>, now: u64) -> Result<Signer, IdentityError> {
    let key = issue::new_key()?;
    let cert = issue::intermediate(&key, id, root, now)?;
    let ca = Signer { der: cert.der().clone(), issuer: Issuer::from_ca_cert_der(cert.der(), key)? };
    write_ca(dir, &ca)?;
    Ok(ca)
}

pub(super) fn write_ca(dir: &Path, ca: &Signer) -> Result<(), IdentityError> {
    let pem = certificate_pem(&ca.der) + &ca.issuer.key().serialize_pem();
    files::replace(&dir.join("ca.pem"), pem.as_bytes())
}

/// The key for which a server asks to be let sign leaves. Kept before anybody is asked: should the answer be lost, the same
/// is asked for again.
pub(super) fn open_ca_key(dir: &Path) -> Result<KeyPair, IdentityError> {
    let path = dir.join("ca.pem");
    if let Some(pem) = files::read(&path)? {
        return key(&path, &pem)?.ok_or_else(|| files::damaged(&path, "its key is missing", ADVICE));
    }
    let key = issue::new_key()?;
    files::replace(&path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

/// Checks that what others issued is an intermediate of this server and key, under the root; the reason if not. Tried on a leaf
/// at the end of its life, whatever the clock says now: a clock that is off does not make it another's.
fn fit_ca(
    root: &CertificateDer<'static>,
    der: CertificateDer<'static>,
    key: KeyPair,
    id: Uuid,
) -> Result<Signer, String> {
    if name::key_hash(&der).map_err(|e| e.to_string())? != sha256(&key.subject_public_key_info()) {
        return Err("its key and certificate do not belong together".into());
    }
    let end = |der: &[u8]| name::validity(der).map(|(_, not_after)| not_after).map_err(|e| e.to_string());
    let end = end(&der)?.min(end(root)?);
    let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| e.to_string())?;
    let leaf = issue::leaf(issuer.key(), (Role::Server, id), DOMAIN_DEFAULT, &issuer, end.saturating_sub(LEAF_SECONDS));
    let leaf = leaf.map_err(|e| e.to_string())?.der().clone();
    if Subject::of_leaf(&leaf).map_err(|e| e.to_string())?.issuer != Some(ServerId(id)) {
        return Err(format!("it names another server than {id}"));
    }
    trust::check_chain(root, &[leaf, der.clone()], end).map_err(|e| format!("it does not lead to the root: {e}"))?;
    Ok(Signer { der, issuer })
}

/// The intermediate that a server with the root's key issued for this server and key.
pub(super) fn issued_ca(
    root: &CertificateDer<'static>,
    issued: &Issued,
    key: &KeyPair,
    id: Uuid,
) -> Result<Signer, IdentityError> {
    let [der] = &issued.chain[..] else {
        return Err(IdentityError::Issued(format!("{} certificates in place of one", issued.chain.len())));
    };
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key.serialized_der().into(), &PKCS_ED25519)?;
    fit_ca(root, der.clone().into(), key, id).map_err(IdentityError::Issued)
}

pub(super) fn ca_is_due(der: &[u8], now: u64) -> Result<bool, IdentityError> {
    let (not_before, not_after) = name::validity(der)?;
    Ok(is_due(not_before, not_after, CA_SECONDS, now))
}

fn certificate(path: &Path, pem: &[u8]) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(pem).map_err(|e| files::damaged(path, e, ADVICE))
}

/// RFC 7468, 3.
fn certificate_pem(der: &CertificateDer<'_>) -> String {
    const LINE: usize = 64;
    let body = STANDARD.encode(der);
    let lines = body.as_bytes().chunks(LINE).map(|line| String::from_utf8_lossy(line));
    let body: Vec<_> = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", body.join("\n"))
}

/// The key beside the certificate, if there is one.
fn key(path: &Path, pem: &[u8]) -> Result<Option<KeyPair>, IdentityError> {
    use rustls::pki_types::pem::Error;
    match PrivatePkcs8KeyDer::from_pem_slice(pem) {
        Ok(key) => key_of(path, key.secret_pkcs8_der()).map(Some),
        Err(Error::NoItemsFound) => Ok(None),
        Err(e) => Err(files::damaged(path, e, ADVICE)),
    }
}

fn key_of(path: &Path, pkcs8: &[u8]) -> Result<KeyPair, IdentityError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), &PKCS_ED25519).map_err(|e| files::damaged(path, e, ADVICE))
}

fn issuer(path: &Path, der: &CertificateDer<'static>, key: KeyPair) -> Result<Issuer<'static, KeyPair>, IdentityError> {
    let own = name::key_hash(der).map_err(|e| files::damaged(path, e, ADVICE))?;
    if own != sha256(&key.subject_public_key_info()) {
        return Err(files::damaged(path, "its key and certificate do not belong together", ADVICE));
    }
    Issuer::from_ca_cert_der(der, key).map_err(|e| files::damaged(path, e, ADVICE))
}
