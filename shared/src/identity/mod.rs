//! Who is who: tokens, the cluster's certificate authority, an agent's own identity, and the TLS configurations that
//! check them.
//!
//! An agent proves its peer id with a certificate of its cluster's root. It gets the first one for a join token and then
//! renews it with the same key; the token's hash of the root's key is what it trusts before it knows anything else. A server
//! that joins gets an intermediate certificate in the same way, and enrols agents itself from then on.
//! Everything here is synchronous and reads no clock: wall time comes in as unix seconds, and rustls asks a
//! `TimeProvider` that the caller gives. What a subject may do is decided by the shells, not here.
#![allow(clippy::disallowed_methods)] // Ids, keys and secrets are random, and made here alone.

mod applicant;
mod authority;
mod bindings;
mod explain;
pub mod files;
mod grant;
mod issue;
mod leaf;
mod name;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod trust;
mod vault;

use std::{io, path::PathBuf};

use bindings::{BAN_SECONDS, BANS_MAX};

pub use applicant::Applicant;
pub use authority::{Authority, Expiry, Renewal};
pub use explain::{explain, explain_quic};
pub use grant::{Grant, GrantError, NOTE_BYTES_MAX, TOKENS_MAX, TokenInfo, TokenState};
pub use leaf::AgentIdentity;
pub use name::{DOMAIN_BYTES_MAX, DOMAIN_DEFAULT, NameError, SpiffeId, Subject, check_domain, dns_name, home_name};
pub use store::TokenStore;
pub use tls::{JOIN_NAME, Own, agent_server_tls, client_tls, join_tls, server_tls, system_time};
pub use token::{Address, AddressError, SECRET_BYTES, TOKEN_ID_BYTES_MAX, Token, TokenError};
pub use vault::pin_of;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// Life of a leaf, in seconds from its issue; it is renewed at two thirds.
pub const LEAF_SECONDS: u64 = 24 * HOUR;
/// How long an expired leaf is still accepted by peers and homes, and renewed: a home that cannot be reached for weeks
/// must not silence the peers that it once vouched for.
pub const GRACE_SECONDS: u64 = 30 * DAY;
/// `NotBefore` lies this long before the issue: a host whose clock is up to a day behind must not refuse what was issued
/// a minute ago.
pub const BACKDATE_SECONDS: u64 = 24 * HOUR;

/// Length of the key for QUIC's stateless resets: with it persisted, a restart is noticed at once.
pub const RESET_KEY_BYTES: usize = 64;

/// Why an identity could not be opened, kept or changed. Nothing on disk changed by it unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Another daemon's directory.
    #[error("{dir} is in use: another {daemon} runs there; stop that one, or give this one a --data-dir of its own")]
    Locked { dir: PathBuf, daemon: &'static str },
    /// The host's fault: permissions, a full disk.
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// A file that this program did not write like that.
    #[error("{path} is damaged ({problem}): {advice}")]
    Damaged { path: PathBuf, problem: String, advice: &'static str },
    #[error("{0}")]
    Domain(#[from] NameError),
    #[error(
        "{dir} belongs to the trust domain {has}, not to {wanted}: start with the domain {has}, or with a new --data-dir"
    )]
    OtherDomain { dir: PathBuf, has: String, wanted: String },
    /// Joined already, under another root.
    #[error(
        "this agent has already joined another cluster than the one of this token: join with a new --data-dir, or use \
         a token of its own cluster"
    )]
    OtherCluster,
    /// A server that has a root already, its own or another than the token's.
    #[error(
        "the server of {dir} has another cluster than the one of this token, or made the cluster itself: only a new server          joins; start this one without --join, or join with a new --data-dir"
    )]
    HasCluster { dir: PathBuf },
    /// More was forgotten at once than can be kept in mind.
    #[error(
        "{BANS_MAX} ids were forgotten here within {days} days, and more cannot be kept in mind: forget this one later",
        days = BAN_SECONDS / DAY
    )]
    Bans,
    /// What the server issued does not fit; its fault.
    #[error("the server issued a certificate that cannot be used ({0}): nothing was installed; upgrade the server")]
    Issued(String),
    #[error("cannot make keys or certificates: {0}")]
    Crypto(String),
}

impl IdentityError {
    fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| IdentityError::Io { action, path, source }
    }
}

impl From<rcgen::Error> for IdentityError {
    fn from(e: rcgen::Error) -> Self {
        IdentityError::Crypto(e.to_string())
    }
}

impl From<rustls::Error> for IdentityError {
    fn from(e: rustls::Error) -> Self {
        IdentityError::Crypto(e.to_string())
    }
}

/// Whether a leaf with this validity is to be renewed: past two thirds of its life, or from a future that a corrected
/// clock has taken back.
fn is_due(not_before: u64, not_after: u64, life: u64, now: u64) -> bool {
    now < not_before || now >= not_after.saturating_sub(life / 3)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}

/// A seed for a core: the one place where a daemon takes chance from the system.
pub fn seed() -> Result<[u8; 32], IdentityError> {
    random()
}

fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| IdentityError::Crypto("the system gives no random numbers".into()))?;
    Ok(bytes)
}

/// Bytes as text in files: base64url without padding.
mod text {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub fn decode<const N: usize>(s: &str) -> Option<[u8; N]> {
        URL_SAFE_NO_PAD.decode(s).ok()?.try_into().ok()
    }

    pub fn serialize<S: Serializer>(bytes: impl AsRef<[u8]>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encode(bytes.as_ref()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(d: D) -> Result<T, D::Error> {
        let s = String::deserialize(d)?;
        let bytes = URL_SAFE_NO_PAD.decode(&s).map_err(D::Error::custom)?;
        let n = bytes.len();
        T::try_from(bytes).map_err(|_| D::Error::custom(format!("{n} bytes are the wrong length")))
    }
}
