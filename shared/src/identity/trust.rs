//! Which certificates are accepted: rustls's own verifiers with the cluster's root, and two additions.
//!
//! Grace: a leaf that expired at most 30 days ago is checked as of its last valid second, with everything else as strict
//! as ever, so that an unreachable home or a wrong clock does not silence peers. Joining: before anything is known, a
//! server is trusted if its chain leads to the root whose key the token names, and if it is a server. Not yet valid stays
//! an error. What a peer may do is not judged here.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{GRACE_SECONDS, Subject, name, tls};
use crate::frame::{CHAIN_MAX, Role};

/// Why a server is not the one to join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JoinError {
    #[error(
        "the server at this address is not the one that the token was made by: check the address in the token, or make \
         a new token on the server that you mean"
    )]
    WrongRoot,
    #[error("what answers at this address is not a server but an agent: check the address in the token")]
    NotServer,
}

impl From<JoinError> for Error {
    fn from(e: JoinError) -> Self {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(e))))
    }
}

/// Of a server, or a peer that was dialled.
#[derive(Debug)]
pub(super) struct OfServer(Arc<WebPkiServerVerifier>);

impl OfServer {
    pub(super) fn new(root: &CertificateDer<'static>) -> Result<Arc<Self>, Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(root)?, tls::provider()).build();
        Ok(Arc::new(Self(verifier.map_err(|e| Error::General(e.to_string()))?)))
    }
}

impl ServerCertVerifier for OfServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        with_grace(leaf, now, |at| self.0.verify_server_cert(leaf, chain, name, ocsp, at))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Of who dials.
#[derive(Debug)]
pub(super) struct OfClient(Arc<dyn ClientCertVerifier>);

impl OfClient {
    /// `required`: whether who has none is turned away in the handshake already.
    pub(super) fn new(root: &CertificateDer<'static>, required: bool) -> Result<Arc<Self>, Error> {
        // Without hints: an agent has one certificate, and the root's name need not travel.
        let builder =
            WebPkiClientVerifier::builder_with_provider(roots(root)?, tls::provider()).clear_root_hint_subjects();
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        Ok(Arc::new(Self(builder.build().map_err(|e| Error::General(e.to_string()))?)))
    }
}

impl ClientCertVerifier for OfClient {
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        with_grace(leaf, now, |at| self.0.verify_client_cert(leaf, chain, at))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Of the server to join, known by the hash of its root's key alone. The name that was dialled says nothing yet.
#[derive(Debug)]
pub(super) struct OfPinned {
    pub(super) pin: [u8; 32],
}

impl ServerCertVerifier for OfPinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = |c: &&CertificateDer<'_>| name::key_hash(c).is_ok_and(|hash| hash == self.pin);
        let root = chain.iter().take(CHAIN_MAX).find(pinned).ok_or(JoinError::WrongRoot)?;
        let roots = roots(root)?;
        with_grace(leaf, now, |at| check(&roots, leaf, chain, at)).map_err(|e| match e {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                JoinError::WrongRoot.into()
            }
            e => e,
        })?;
        match Subject::of_leaf(leaf) {
            Ok(Subject { role: Role::Server, .. }) => Ok(ServerCertVerified::assertion()),
            _ => Err(JoinError::NotServer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Whether a chain, leaf first, leads to the root, as of `at` (unix seconds).
pub(super) fn check_chain(
    root: &CertificateDer<'static>,
    chain: &[CertificateDer<'static>],
    at: u64,
) -> Result<(), Error> {
    let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    check(&*roots(root)?, leaf, rest, unix(at))
}

fn check(
    roots: &RootCertStore,
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    at: UnixTime,
) -> Result<(), Error> {
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, rest, at, algorithms().all)
}

/// Verifies as of now, and, should the leaf have expired within the grace, as of its last second.
fn with_grace<T>(
    leaf: &CertificateDer<'_>,
    now: UnixTime,
    verify: impl Fn(UnixTime) -> Result<T, Error>,
) -> Result<T, Error> {
    let error = match verify(now) {
        Err(e @ Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => e,
        other => return other,
    };
    match name::validity(leaf) {
        Ok((_, end)) if (1..=GRACE_SECONDS).contains(&now.as_secs().saturating_sub(end)) => verify(unix(end)),
        _ => Err(error),
    }
}

fn roots(root: &CertificateDer<'_>) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    store.add(root.clone().into_owned())?;
    Ok(Arc::new(store))
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    ring::default_provider().signature_verification_algorithms
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
