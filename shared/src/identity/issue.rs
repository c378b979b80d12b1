//! Making certificates: the root, the server's intermediate, leaves; and checking what a certificate request proves.
//!
//! All keys are Ed25519. Of a request only the public key is used, and only after its signature has shown that the
//! asker holds the private one (RFC 2986, 4.2); names and dates are the authority's to write. Nothing here decides who
//! may have a certificate.

use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use ring::signature::{ED25519, UnparsedPublicKey};
use uuid::Uuid;
use x509_parser::{certification_request::X509CertificationRequest, oid_registry::OID_SIG_ED25519, prelude::FromDer};

use super::{
    BACKDATE_SECONDS, DAY, IdentityError, LEAF_SECONDS, SpiffeId, dns_name, home_name, name::ca_name, random, sha256,
};
use crate::frame::{CERTIFICATE_BYTES_MAX, Role};

/// Life of the intermediate. A leaf's grace has to end within it.
pub(super) const CA_SECONDS: u64 = 365 * DAY;
const ROOT_SECONDS: u64 = 3_652 * DAY;
/// 9999-12-31: X.509 can write no later date (RFC 5280, 4.1.2.5).
const LATEST: u64 = 253_402_214_400;

pub(super) fn new_key() -> Result<KeyPair, IdentityError> {
    Ok(KeyPair::generate_for(&PKCS_ED25519)?)
}

/// A public key that a request has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of a request that was signed with it.
    pub(super) fn of_request(der: &[u8]) -> Result<Self, &'static str> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err("it is too long");
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| "it is malformed")?;
        let spki = &request.certification_request_info.subject_pki;
        let ed25519 = spki.algorithm.algorithm == OID_SIG_ED25519
            && request.signature_algorithm.algorithm == OID_SIG_ED25519
            && rest.is_empty();
        let key: [u8; 32] = spki.subject_public_key.data.as_ref().try_into().map_err(|_| "its key is not Ed25519")?;
        if !ed25519 {
            return Err("its key is not Ed25519");
        }
        UnparsedPublicKey::new(&ED25519, key)
            .verify(request.certification_request_info.raw, &request.signature_value.data)
            .map_err(|_| "its signature does not prove the key")?;
        Ok(Self(key))
    }

    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(&self.subject_public_key_info())
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// A request that proves `key` and asks for nothing else.
pub(super) fn request(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

pub(super) fn root(key: &KeyPair, now: u64) -> Result<Certificate, IdentityError> {
    // Part of the key's hash in the name: another cluster's root is then told apart by name already.
    let hash: String = sha256(&key.subject_public_key_info())[..8].iter().map(|b| format!("{b:02x}")).collect();
    Ok(ca_params(format!("PAMS root {hash}"), 1, now, ROOT_SECONDS)?.self_signed(key)?)
}

/// For the key with which a server signs leaves.
pub(super) fn intermediate(
    key: &impl PublicKeyData,
    server: Uuid,
    root: &Issuer<'_, KeyPair>,
    now: u64,
) -> Result<Certificate, IdentityError> {
    Ok(ca_params(ca_name(server), 0, now, CA_SECONDS)?.signed_by(key, root)?)
}

/// A leaf for an agent or a server, for both ends of a connection.
pub(super) fn leaf(
    key: &impl PublicKeyData,
    (role, id): (Role, Uuid),
    domain: &str,
    ca: &Issuer<'_, KeyPair>,
    now: u64,
) -> Result<Certificate, IdentityError> {
    let mut params = params(id.to_string(), now, LEAF_SECONDS)?;
    let mut names = vec![dns_name(role, id, domain)];
    if role == Role::Server {
        names.push(home_name(domain));
    }
    for name in names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    let uri = SpiffeId { domain: domain.into(), role, id }.to_string();
    params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params.signed_by(key, ca)?)
}

fn ca_params(name: String, path: u8, now: u64, life: u64) -> Result<CertificateParams, IdentityError> {
    let mut params = params(name, now, life)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(name: String, now: u64, life: u64) -> Result<CertificateParams, IdentityError> {
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.min(LATEST));
    let mut params = CertificateParams::default();
    params.not_before = at(now.saturating_sub(BACKDATE_SECONDS));
    params.not_after = at(now.saturating_add(life));
    // rcgen would take it from the key, so that renewals would repeat it (RFC 5280, 4.1.2.2).
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// Positive and with no leading zero.
fn serial() -> Result<[u8; 16], IdentityError> {
    let mut serial = random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{id::ServerId, identity::Subject};

    #[test]
    fn a_request_proves_its_key_and_no_other() {
        let key = new_key().unwrap();
        let der = request(&key).unwrap();
        let proven = PublicKey::of_request(&der).unwrap();
        assert_eq!(proven.der_bytes(), key.public_key_raw());
        assert_eq!(proven.hash(), sha256(&key.subject_public_key_info()));
        let other = KeyPair::generate().unwrap(); // ECDSA
        let der = CertificateParams::default().serialize_request(&other).unwrap().der().to_vec();
        assert_eq!(PublicKey::of_request(&der), Err("its key is not Ed25519"));
    }

    #[test]
    fn a_leaf_names_its_subject_for_a_day_and_a_day_back() {
        let (root_key, ca_key, key) = (new_key().unwrap(), new_key().unwrap(), new_key().unwrap());
        let now = 1_700_000_000;
        let root = Issuer::from_ca_cert_der(root(&root_key, now).unwrap().der(), root_key).unwrap();
        let server = Uuid::new_v4();
        let ca = intermediate(&ca_key, server, &root, now).unwrap();
        let ca = Issuer::from_ca_cert_der(ca.der(), ca_key).unwrap();
        let id = Uuid::new_v4();
        let cert = leaf(&key, (Role::Agent, id), "pams.internal", &ca, now).unwrap();
        let s = Subject::of_leaf(cert.der()).unwrap();
        assert_eq!((s.role, s.id, s.domain.as_str()), (Role::Agent, id, "pams.internal"));
        assert_eq!(s.issuer, Some(ServerId(server)));
        assert_eq!((s.not_before, s.not_after), (now - BACKDATE_SECONDS, now + LEAF_SECONDS));
        assert_eq!(s.issued_at(), now);
        assert!(!s.is_due(now) && !s.is_due(now + LEAF_SECONDS * 2 / 3 - 1) && s.is_due(now + LEAF_SECONDS * 2 / 3));
        assert!(cert.der().len() <= 600, "{}", cert.der().len());
        assert_ne!(cert.der(), leaf(&key, (Role::Agent, id), "pams.internal", &ca, now).unwrap().der());
        for odd in [0, u64::MAX] {
            Subject::of_leaf(leaf(&key, (Role::Agent, id), "pams.internal", &ca, odd).unwrap().der()).unwrap();
        }
    }

    /// The frame around what is signed is read leniently (tag bits, unused bits); that may pass, for the same key only.
    #[test]
    fn no_flipped_bit_proves_another_key_and_none_passes_in_what_is_signed() {
        let good = request(&new_key().unwrap()).unwrap();
        let proven = PublicKey::of_request(&good).unwrap();
        let (_, parsed) = X509CertificationRequest::from_der(&good).unwrap();
        let info = parsed.certification_request_info.raw.len();
        let signed = 2..2 + info; // after the tag and the length of the whole
        assert_eq!(good[signed.clone()], *parsed.certification_request_info.raw);
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut der = good.clone();
            der[at] ^= 1 << bit;
            match PublicKey::of_request(&der) {
                Ok(key) => assert!(key == proven && !signed.contains(&at), "bit {bit} of byte {at}"),
                Err(problem) => assert!(problem.starts_with("it"), "{problem}"),
            }
        }
        for cut in 0..good.len() {
            assert!(PublicKey::of_request(&good[..cut]).is_err(), "{cut}");
        }
        assert!(PublicKey::of_request(&[&good[..], &[0]].concat()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_no_request(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(PublicKey::of_request(&bytes).is_err());
        }
    }
}
