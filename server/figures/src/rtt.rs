//! Ping RTT beside a bare quinn datagram echo: the same TLS, the same runtime, two processes each, in turn in each round.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use pams_agent::config::Buddy;
use pams_shared::{clock::Clock, id::PeerId, quic, record::Stage};
use quinn::{
    Endpoint, TransportConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::{
    crowd::{self, LOOPBACK},
    proc::{median, myself, quantile, spawn, usage},
};

/// Payload of the bare echo: about what a ping and a pong carry.
const PAYLOAD: usize = 24;
/// Between two paced pings: long enough for both cores to go idle, as they do at one ping each 10 s.
const GAP: Duration = Duration::from_millis(5);
const WARM_UP: usize = 50;

pub async fn measure(rounds: usize, pings: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    certificates(dir.path())?;
    let (_echo, address) = spawn(&myself()?, &["role", "echo", &dir.path().display().to_string()]).await?;
    let bare = bare(dir.path(), address.trim().parse()?, None).await?;

    let (server, token) = crowd::server(dir.path()).await?;
    let other = dir.path().join("other").display().to_string();
    let (_agent, line) = spawn(&myself()?, &["role", "agent", &other, &token]).await?;
    let (peer, at) = line.trim().split_once(' ').context("the other agent says its id and address")?;
    let peer: PeerId = peer.parse()?;
    let buddy = Buddy { id: peer, name: None, addresses: vec![at.parse()?], subscribe: false };
    let agent = crowd::agent(dir.path(), "self", &token, vec![buddy]).await?;

    println!("us, p50 of {pings} pings; back to back, and {} ms apart", GAP.as_millis());
    println!("{:>5}  {:>9} {:>9} {:>6}   {:>9} {:>9} {:>6}", "round", "bare", "pams", "ratio", "bare", "pams", "ratio");
    let (mut hot, mut paced, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    let mut stages = Stage::EXCHANGE.map(|stage| (stage, Vec::new()));
    for round in 0..=rounds {
        let mut line = format!("{round:>5}");
        for (gap, ratios) in [(Duration::ZERO, &mut hot), (GAP, &mut paced)] {
            let n = if round == 0 { WARM_UP } else { pings };
            let (mut of_bare, mut of_pams) = (Vec::new(), Vec::new());
            for _ in 0..n {
                of_bare.push(echo_once(&bare).await?);
                pause(gap).await;
            }
            for _ in 0..n {
                match agent.handle.ping(peer).await? {
                    Ok(record) => {
                        of_pams.push(record.total_ns.context("answered")? as f64 / 1e3);
                        for (stage, us) in stages.iter_mut().filter(|_| gap.is_zero()) {
                            us.extend(record.stages.get(*stage).map(|ns| ns as f64 / 1e3));
                        }
                    }
                    Err(why) => bail!("no pong: {why}"),
                }
                pause(gap).await;
            }
            let (b, p) = (quantile(&of_bare, 0.5), quantile(&of_pams, 0.5));
            line += &format!("  {b:>9.1} {p:>9.1} {:>6.2} ", p / b);
            if round > 0 {
                ratios.push(p / b);
                p99.push(quantile(&of_pams, 0.99));
            }
        }
        if round > 0 {
            println!("{line}");
        }
    }
    println!(
        "ratio, median: {:.2} back to back, {:.2} paced; p99 of pams {:.0} us",
        median(hot),
        median(paced),
        median(p99)
    );
    let stages = stages.map(|(stage, us)| format!("{} {:.1}", stage.as_str(), quantile(&us, 0.5)));
    println!("stages of pams back to back, p50: {}", stages.join(", "));
    agent.stop().await;
    server.stop().await;
    Ok(())
}

async fn pause(gap: Duration) {
    if !gap.is_zero() {
        tokio::time::sleep(gap).await;
    }
}

async fn echo_once(connection: &quinn::Connection) -> anyhow::Result<f64> {
    let begin = Clock.now();
    connection.send_datagram(vec![7; PAYLOAD].into())?;
    connection.read_datagram().await?;
    Ok(Clock.now().since(begin).as_nanos() as f64 / 1e3)
}

/// The other side of the bare echo.
pub async fn echo(dir: &Path) -> anyhow::Result<()> {
    let endpoint = Endpoint::server(server_config(dir, None)?, LOOPBACK.parse()?)?;
    println!("{}", endpoint.local_addr()?);
    let connection = endpoint.accept().await.context("one dials")?.await?;
    while let Ok(datagram) = connection.read_datagram().await {
        connection.send_datagram(datagram)?;
    }
    Ok(())
}

/// With quinn's own transport settings, or with ours.
pub fn server_config(dir: &Path, transport: Option<Arc<TransportConfig>>) -> anyhow::Result<quinn::ServerConfig> {
    let (chain, key, roots) = identity(dir, "server")?;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    if let Some(transport) = transport {
        config.transport_config(transport);
    }
    Ok(config)
}

/// Holds connections, for their memory.
pub async fn hold(dir: &Path) -> anyhow::Result<()> {
    let endpoint = Endpoint::server(server_config(dir, Some(quic::home_transport()))?, LOOPBACK.parse()?)?;
    println!("{}", endpoint.local_addr()?);
    let mut held = Vec::new();
    while let Some(incoming) = endpoint.accept().await {
        held.push(incoming.await?);
    }
    Ok(())
}

/// KiB that a connection costs a process that only holds it.
pub async fn hold_many(dir: &Path, connections: usize) -> anyhow::Result<f64> {
    certificates(dir)?;
    let (child, address) = spawn(&myself()?, &["role", "hold", &dir.display().to_string()]).await?;
    let pid = child.id().context("it runs")?;
    let (address, before) = (address.trim().parse()?, usage(pid)?);
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(bare(dir, address, None).await?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok((usage(pid)?.rss_kib - before.rss_kib) as f64 / connections as f64)
}

pub async fn bare(
    dir: &Path,
    address: SocketAddr,
    transport: Option<Arc<TransportConfig>>,
) -> anyhow::Result<quinn::Connection> {
    let (chain, key, roots) = identity(dir, "client")?;
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    let endpoint = Endpoint::client(LOOPBACK.parse()?)?;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    if let Some(transport) = transport {
        config.transport_config(transport);
    }
    Ok(endpoint.connect_with(config, address, "localhost")?.await?)
}

/// The other agent.
pub async fn agent(dir: &Path, token: String) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let running = crowd::agent(dir, "other", &token, Vec::new()).await?;
    println!("{} {}", running.ready.peer, running.ready.quic);
    std::future::pending().await
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|s| s.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// A CA and a leaf for each side, as files.
pub fn certificates(dir: &Path) -> anyhow::Result<()> {
    let ca_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.der"), ca.self_signed(&ca_key)?.der())?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    for side in ["server", "client"] {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
        std::fs::write(dir.join(format!("{side}.der")), leaf.der())?;
        std::fs::write(dir.join(format!("{side}.key")), key.serialize_der())?;
    }
    Ok(())
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, RootCertStore);

fn identity(dir: &Path, side: &str) -> anyhow::Result<Identity> {
    let mut roots = RootCertStore::empty();
    roots.add(std::fs::read(dir.join("ca.der"))?.into())?;
    let chain = vec![std::fs::read(dir.join(format!("{side}.der")))?.into()];
    let key = PrivatePkcs8KeyDer::from(std::fs::read(dir.join(format!("{side}.key")))?);
    Ok((chain, key.into(), roots))
}
