//! For tests: endpoints on loopback with throw-away certificates.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use quinn::{Connection, Endpoint};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::sync::mpsc;

use super::{client_config, endpoint, peer_transport, server_config};
use crate::{
    frame::ALPN,
    socket::{Sent, Socket},
};

pub const NAME: &str = "b.agent.example";
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A cluster's root.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate and its key.
pub struct Leaf {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Ca {
    pub fn new() -> Self {
        Self::named("root")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    pub fn leaf(&self) -> Leaf {
        self.issue(CertificateParams::new([NAME.to_owned()]).unwrap())
    }

    pub fn expired_leaf(&self) -> Leaf {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Leaf { certificate, key: key.serialize_der().into() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        Arc::new(roots)
    }

    /// Shows `leaf`; takes diallers without a certificate, and those of this cluster.
    pub fn server(&self, leaf: &Leaf, alpn: &[u8]) -> quinn::ServerConfig {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(vec![leaf.certificate.clone()], leaf.key.clone_key().into())
            .unwrap();
        tls.alpn_protocols = vec![alpn.to_vec()];
        server_config(Arc::new(tls), peer_transport()).unwrap()
    }

    /// Trusts this cluster and shows `leaf`.
    pub fn client(&self, leaf: &Leaf) -> quinn::ClientConfig {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![leaf.certificate.clone()], leaf.key.clone_key().into())
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        client_config(Arc::new(tls), peer_transport()).unwrap()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// One end: its socket, its Sent stamps, its endpoint.
pub struct Side {
    pub socket: Arc<Socket>,
    pub sent: mpsc::Receiver<Sent>,
    pub endpoint: Endpoint,
}

impl Side {
    pub fn bind(address: SocketAddr, ca: &Ca) -> Self {
        Self::with(address, Some(ca.server(&ca.leaf(), ALPN)))
    }

    pub fn with(address: SocketAddr, server: Option<quinn::ServerConfig>) -> Self {
        let (socket, sent) = Socket::bind(address, 64).unwrap();
        let endpoint = endpoint(socket.clone(), &[7; 64], server).unwrap();
        Self { socket, sent, endpoint }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.address().unwrap()
    }

    /// Connects to `to`, which accepts.
    pub async fn connect(&self, to: &Side, ca: &Ca) -> (Connection, Connection) {
        let dialled =
            async { self.endpoint.connect_with(ca.client(&ca.leaf()), to.address(), NAME).unwrap().await.unwrap() };
        let accepted = async { to.endpoint.accept().await.unwrap().await.unwrap() };
        tokio::join!(dialled, accepted)
    }
}
