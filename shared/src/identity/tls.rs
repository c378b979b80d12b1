//! The four TLS configurations of PAMS: TLS 1.3 only, ring, no resumption.
//!
//! Without resumption each handshake checks the certificate anew, so that who was forgotten stays out; connections are
//! long, so it saves nothing. The provider is passed explicitly and never installed for the process. Time comes through
//! a `TimeProvider`, so that tests set the clock. The QUIC side of the endpoints is made elsewhere.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    ClientConfig, Error, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    time_provider::{DefaultTimeProvider, TimeProvider},
    version::TLS13,
};

use super::trust::{OfClient, OfPinned, OfServer};
use crate::frame::{ALPN, ALPN_JOIN};

/// The server name to dial for joining: the domain is not known yet, and the pin is what counts.
pub const JOIN_NAME: &str = "join.pams.internal";

/// This host's clock, for the configurations below.
pub fn system_time() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}

/// This side's certificate, shared by its TLS configurations: a renewal is seen by the next handshake, and connections
/// that stand are left alone.
#[derive(Debug)]
pub struct Own {
    current: RwLock<Arc<CertifiedKey>>,
    root: CertificateDer<'static>,
}

impl Own {
    /// `chain`: leaf first, without the root; `key`: PKCS#8.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &[u8],
        root: CertificateDer<'static>,
    ) -> Result<Arc<Self>, Error> {
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let current = CertifiedKey::from_der(chain, key.into(), &ring::default_provider())?;
        Ok(Arc::new(Self { current: RwLock::new(Arc::new(current)), root }))
    }

    /// Puts a chain for the same key in place.
    pub(super) fn renew(&self, chain: Vec<CertificateDer<'static>>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(CertifiedKey::new(chain, current.key.clone()));
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Own {
    /// Who joins needs the root as well, to compare its key with the token's pin.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = self.current();
        if !hello.alpn().is_some_and(|mut offered| offered.any(|p| p == ALPN_JOIN)) {
            return Some(own);
        }
        let mut chain = own.cert.clone();
        chain.push(self.root.clone());
        Some(Arc::new(CertifiedKey::new(chain, own.key.clone())))
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        schemes.contains(&SignatureScheme::ED25519).then(|| self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// For `pams-server`: working and joining on one endpoint, so a client's certificate is optional here; whoever works
/// without one is to be turned away by the shell.
pub fn server_tls(
    own: Arc<Own>,
    root: &CertificateDer<'static>,
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Error> {
    server(own, OfClient::new(root, false)?, time, &[ALPN, ALPN_JOIN])
}

/// For `pams-agent` where peers dial it: no certificate, no connection.
pub fn agent_server_tls(
    own: Arc<Own>,
    root: &CertificateDer<'static>,
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Error> {
    server(own, OfClient::new(root, true)?, time, &[ALPN])
}

/// For dialling a peer or a home by its DNS name.
pub fn client_tls(
    own: Arc<Own>,
    root: &CertificateDer<'static>,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_details(provider(), time).with_protocol_versions(&[&TLS13])?;
    let config =
        config.dangerous().with_custom_certificate_verifier(OfServer::new(root)?).with_client_cert_resolver(own);
    Ok(client(config, ALPN))
}

/// For dialling the server of a token, under [`JOIN_NAME`]. It has proven to be that server when the handshake is over.
pub fn join_tls(pin: [u8; 32], time: Arc<dyn TimeProvider>) -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_details(provider(), time).with_protocol_versions(&[&TLS13])?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(OfPinned { pin })).with_no_client_auth();
    Ok(client(config, ALPN_JOIN))
}

/// ring with AES-128-GCM first: QUIC needs it for its first packets anyway.
pub(super) fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_256_GCM_SHA384];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

fn server(
    own: Arc<Own>,
    verifier: Arc<OfClient>,
    time: Arc<dyn TimeProvider>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let config = ServerConfig::builder_with_details(provider(), time).with_protocol_versions(&[&TLS13])?;
    let mut config = config.with_client_cert_verifier(verifier).with_cert_resolver(own);
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config
}
