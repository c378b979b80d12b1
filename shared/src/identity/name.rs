//! Names in certificates: the trust domain, DNS names, SPIFFE ids, and the [`Subject`] that a leaf names.
//!
//! The DNS name lets plain TLS name checking prove which peer answers; the SPIFFE id says role and id in one place
//! (SPIFFE-ID, section 2). Signatures and validity are not checked here: TLS has done that before.

use std::{any::Any, fmt, str::FromStr};

use rustls::pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{BACKDATE_SECONDS, GRACE_SECONDS, LEAF_SECONDS, is_due, sha256};
use crate::{
    frame::{CERTIFICATE_BYTES_MAX, Role},
    id::ServerId,
};

/// The trust domain of who names none.
pub const DOMAIN_DEFAULT: &str = "pams.internal";
/// Longest trust domain: `<uuid>.server.<domain>` has to be a DNS name (RFC 1035, 2.3.4: 255 octets).
pub const DOMAIN_BYTES_MAX: usize = 128;

const SCHEME: &str = "spiffe://";
/// Start of the common name of a server's intermediate; its id follows.
const CA_NAME: &str = "PAMS server CA ";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    #[error(
        "trust domain {0:?} is no DNS name of lower case letters, digits and inner hyphens, with at most \
         {DOMAIN_BYTES_MAX} bytes: use one such as {DOMAIN_DEFAULT}"
    )]
    Domain(String),
    #[error("{0:?} is no SPIFFE id of PAMS: expected spiffe://<domain>/pams/agent/<id> or .../server/<id>")]
    Spiffe(String),
    #[error("not a certificate: {0}")]
    Certificate(&'static str),
    #[error("the certificate names no PAMS agent or server: {0}")]
    Subject(&'static str),
}

pub fn check_domain(domain: &str) -> Result<(), NameError> {
    let label = |l: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !l.is_empty() && l.len() <= 63 && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
    };
    let fits = !domain.is_empty() && domain.len() <= DOMAIN_BYTES_MAX;
    // A name that ends in a number is taken for an IPv4 address, and no certificate is ever valid for it.
    let named = domain.rsplit('.').next().is_some_and(|l| l.bytes().any(|b| b.is_ascii_lowercase()));
    if fits && named && domain.split('.').all(label) {
        Ok(())
    } else {
        Err(NameError::Domain(domain.chars().take(DOMAIN_BYTES_MAX).collect()))
    }
}

/// The name under which to dial this very agent or server.
pub fn dns_name(role: Role, id: Uuid, domain: &str) -> String {
    format!("{id}.{}.{domain}", role.as_str())
}

/// The name under which to dial any server of the domain.
pub fn home_name(domain: &str) -> String {
    format!("server.{domain}")
}

/// The common name of a server's intermediate, as leaves tell their issuer.
pub(super) fn ca_name(server: Uuid) -> String {
    format!("{CA_NAME}{server}")
}

/// `spiffe://<domain>/pams/<role>/<id>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId {
    pub domain: String,
    pub role: Role,
    pub id: Uuid,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/pams/{}/{}", self.domain, self.role.as_str(), self.id)
    }
}

impl FromStr for SpiffeId {
    type Err = NameError;

    /// Strict: one way to write each id, so that ids compare as text too.
    fn from_str(s: &str) -> Result<Self, NameError> {
        let bad = || NameError::Spiffe(s.chars().take(256).collect());
        let mut parts = s.strip_prefix(SCHEME).ok_or_else(bad)?.splitn(5, '/');
        let (Some(domain), Some("pams"), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        check_domain(domain)?;
        let role = [Role::Agent, Role::Server].into_iter().find(|r| r.as_str() == role).ok_or_else(bad)?;
        let uuid = Uuid::try_parse(id).map_err(|_| bad())?;
        if uuid.to_string() != id {
            return Err(bad());
        }
        Ok(Self { domain: domain.into(), role, id: uuid })
    }
}

/// Who a leaf says its holder is. Only as good as the check of the chain before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub role: Role,
    pub id: Uuid,
    pub domain: String,
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
    /// SHA-256 of the subject public key info.
    pub key_hash: [u8; 32],
    /// Whose intermediate signed the leaf. TLS has checked the name against the intermediate, and that the root signed it.
    pub issuer: Option<ServerId>,
}

impl Subject {
    pub fn of_leaf(der: &[u8]) -> Result<Self, NameError> {
        let cert = parse(der)?;
        let san = cert
            .subject_alternative_name()
            .map_err(|_| NameError::Certificate("its alternative names cannot be read"))?
            .ok_or(NameError::Subject("it has no alternative names"))?;
        let mut uris = san.value.general_names.iter().filter_map(|n| match n {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(NameError::Subject("it must have exactly one SPIFFE id"));
        };
        let SpiffeId { domain, role, id } = uri.parse()?;
        let (not_before, not_after) = period(&cert)?;
        let (key_hash, issuer) = (sha256(cert.public_key().raw), issuer(&cert));
        Ok(Self { role, id, domain, not_before, not_after, key_hash, issuer })
    }

    /// From what `quinn::Connection::peer_identity` gives.
    pub fn of_peer(identity: &dyn Any) -> Result<Self, NameError> {
        let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>();
        let leaf = chain.and_then(|c| c.first()).ok_or(NameError::Subject("none was presented"))?;
        Self::of_leaf(leaf)
    }

    /// Whether its leaf should be renewed.
    pub fn is_due(&self, now: u64) -> bool {
        is_due(self.not_before, self.not_after, LEAF_SECONDS, now)
    }

    /// Whether its leaf has expired and the grace after that as well.
    pub fn is_beyond_grace(&self, now: u64) -> bool {
        now > self.not_after.saturating_add(GRACE_SECONDS)
    }

    /// When the leaf was issued, unix seconds by the server's clock.
    pub fn issued_at(&self) -> u64 {
        self.not_before.saturating_add(BACKDATE_SECONDS)
    }
}

/// SHA-256 of a certificate's subject public key info.
pub(super) fn key_hash(der: &[u8]) -> Result<[u8; 32], NameError> {
    Ok(sha256(parse(der)?.public_key().raw))
}

/// A certificate's `NotBefore` and `NotAfter`, unix seconds.
pub(super) fn validity(der: &[u8]) -> Result<(u64, u64), NameError> {
    period(&parse(der)?)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, NameError> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(NameError::Certificate("too long"));
    }
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], cert)) => Ok(cert),
        Ok(_) => Err(NameError::Certificate("bytes follow its end")),
        Err(_) => Err(NameError::Certificate("malformed")),
    }
}

/// Strict as ids are: one way to write each.
fn issuer(cert: &X509Certificate<'_>) -> Option<ServerId> {
    let name = cert.issuer().iter_common_name().next()?.as_str().ok()?;
    let id = name.strip_prefix(CA_NAME)?;
    Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string() == id).map(ServerId)
}

fn period(cert: &X509Certificate<'_>) -> Result<(u64, u64), NameError> {
    let validity = cert.validity();
    let seconds = |t: i64| u64::try_from(t).map_err(|_| NameError::Certificate("dated before 1970"));
    Ok((seconds(validity.not_before.timestamp())?, seconds(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "5f0c1d9e-0b53-4a51-9d2c-0d6f4f3a9b10";

    #[test]
    fn a_spiffe_id_reads_back_and_has_one_spelling() {
        let text = format!("spiffe://pams.internal/pams/agent/{ID}");
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!((id.role, id.to_string()), (Role::Agent, text));
        for bad in [
            format!("spiffe://pams.internal/pams/agent/{}", ID.to_uppercase()),
            format!("spiffe://pams.internal/pams/agent/{}", ID.replace('-', "")),
            format!("spiffe://pams.internal/pams/agent/{ID}/"),
            format!("spiffe://pams.internal/pams/admin/{ID}"),
            format!("spiffe://pams.internal//agent/{ID}"),
            format!("https://pams.internal/pams/agent/{ID}"),
            format!("spiffe://PAMS.internal/pams/agent/{ID}"),
            format!("spiffe:///pams/agent/{ID}"),
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn domains_are_dns_names() {
        for good in ["pams.internal", "a", "x-1.example", &format!("{}.{}", "a".repeat(63), "b".repeat(63))] {
            assert_eq!(check_domain(good), Ok(()));
        }
        for bad in ["", ".", "a.", "A", "a_b", "-a", "a-", "a b", "10.0.0.1", &"a".repeat(64), &"a.".repeat(70)] {
            assert!(check_domain(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_and_text_give_an_error_or_a_name(bytes in prop::collection::vec(any::<u8>(), 0..300), s in ".{0,80}") {
            let _ = Subject::of_leaf(&bytes);
            if let Ok(id) = s.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), s);
            }
        }
    }
}
