//! The one place for QUIC's configuration: endpoints, transports, calls ([`calls`]), frames on streams ([`frames`]), and why a connection did
//! not come about or ended ([`why()`]).
//!
//! Connections are small here: a server keeps one for each agent, an agent one for each buddy, and all of them carry little.
//! Certificates and names are `identity`'s; what is said on a connection is the shells' business.
#![allow(clippy::disallowed_methods)] // Connection ids are random; its tests have threads of their own.

pub mod calls;
pub mod frames;
pub mod why;

use std::{io, sync::Arc, time::Duration};

use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, NoneTokenLog,
    ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use uuid::Uuid;

pub use self::{
    calls::{call, connect, race, request, tell},
    frames::{StreamError, read_frame, write_frame},
    why::{why, why_not_dialled},
};
use crate::{frame::STREAM_BYTES_MAX, socket::Socket};

/// Length of our connection ids. Four bytes tell 2^32 connections apart and save four in each packet against quinn's eight;
/// a packet of a ping is 70 bytes.
pub const CID_BYTES: usize = 4;

/// A connection on which nothing comes in for so long is dead to QUIC. Presence knows earlier, by its own pings.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Least time between two stateless resets. quinn's 20 ms would let a restarted home wake only 50 agents a second. Resets are
/// smaller than the packets they answer, so they amplify nothing.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Assumed until measured: lost first packets are sent again after about three times this, in place of the second of
/// RFC 9002, 6.2.2. On a longer path that costs a packet sent twice.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Streams that one server may have open with another.
pub const SIBLING_STREAMS: usize = 64;
/// A connection between servers on which nothing comes in for so long is dead.
const SIBLING_IDLE: Duration = Duration::from_secs(3);
/// How long a lone packet between servers waits for its acknowledgement; two are acknowledged at once. Probes come and go
/// several times a second, so that most ride with one and a third of the packets between idle servers need not be. Who loses the
/// last packet for a while finds it out so much later.
const SIBLING_ACK_DELAY: Duration = Duration::from_millis(200);
const SIBLING_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Datagrams not read yet; each counts with 32 bytes of bookkeeping.
const DATAGRAMS_IN_BYTES: usize = 16 * 1024;
/// Datagrams not sent yet; beyond, the oldest are dropped.
pub const DATAGRAMS_OUT_BYTES: usize = 8 * 1024;

/// Handshakes waiting to be accepted, and what of theirs is kept meanwhile.
const INCOMING_MAX: usize = 1_024;
const INCOMING_BYTES: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// An endpoint that dials, and accepts too if `server` is given. Inside a tokio runtime.
///
/// `reset_key` must outlive the process: after a restart on the same port it answers packets of connections that it no
/// longer knows with a stateless reset which the other side believes (RFC 9000, 10.3), so the restart is noticed at the
/// next packet instead of after [`IDLE_TIMEOUT`].
pub fn endpoint(socket: Arc<Socket>, reset_key: &[u8; 64], server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset_key);
    let mut config = EndpointConfig::new(Arc::new(key));
    // Not quinn's default generator: it signs its ids with a key made at each start and drops all others without a reset.
    config.cid_generator(|| Box::new(RandomCid));
    config.min_reset_interval(RESET_INTERVAL);
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(quinn::TokioRuntime))
}

/// Between peers: datagrams, and now and then a short frame on a stream.
pub fn peer_transport() -> Arc<TransportConfig> {
    Arc::new(transport(Limits { streams: 4, stream_window: 16 * 1024, window: 64 * 1024 }))
}

/// Between an agent and its home: reports, each at most one frame.
pub fn home_transport() -> Arc<TransportConfig> {
    const FRAME: u32 = STREAM_BYTES_MAX as u32;
    Arc::new(transport(Limits { streams: 8, stream_window: FRAME, window: 2 * FRAME }))
}

/// Between servers: much data at times, and a dead one is to be noticed soon.
pub fn sibling_transport() -> Arc<TransportConfig> {
    // What is new waits behind what is on its way already: a window of 512 KiB is 2,000 entries, some 10 ms
    // of work, and 10 MB/s over 50 ms.
    let mut config =
        transport(Limits { streams: SIBLING_STREAMS as u32, stream_window: 512 * 1024, window: 16 * 1024 * 1024 });
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(SIBLING_ACK_DELAY));
    config
        .ack_frequency_config(Some(acks))
        .max_idle_timeout(Some(VarInt::from_u32(SIBLING_IDLE.as_millis() as u32).into()))
        .keep_alive_interval(Some(SIBLING_KEEP_ALIVE))
        // Whole directories are copied, so that finding out what the path takes pays.
        .mtu_discovery_config(Some(quinn::MtuDiscoveryConfig::default()));
    Arc::new(config)
}

/// What a daemon offers to those who dial it. For an endpoint that both peers and agents dial, take the home's transport.
///
/// Errors if the TLS configuration lacks TLS 1.3 with AES-128-GCM, which QUIC's first packets need (RFC 9001, 5).
pub fn server_config(
    tls: Arc<rustls::ServerConfig>,
    transport: Arc<TransportConfig>,
) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport);
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(INCOMING_BYTES);
    config.incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    // No tokens for a later connection: they only spare a Retry, which is asked for under load alone.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    config.validation_token_config(tokens);
    Ok(config)
}

/// How to dial. Errors as [`server_config`] does.
pub fn client_config(
    tls: Arc<rustls::ClientConfig>,
    transport: Arc<TransportConfig>,
) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport);
    Ok(config)
}

struct Limits {
    /// At once, of each kind, opened by the other side.
    streams: u32,
    stream_window: u32,
    window: u32,
}

/// What is not set here is quinn's: congestion control (CUBIC), loss detection, acknowledgement after 25 ms at most.
///
/// The lone acknowledgement of a pong can not be spared: quinn asks the other side for no more than the greater of 25 ms
/// and the RTT, whatever the acknowledgement frequency extension is set to, and the next ping is seconds away.
fn transport(limits: Limits) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(limits.streams.into())
        .max_concurrent_uni_streams(limits.streams.into())
        .stream_receive_window(limits.stream_window.into())
        .receive_window(limits.window.into())
        .send_window(limits.window.into())
        .datagram_receive_buffer_size(Some(DATAGRAMS_IN_BYTES))
        .datagram_send_buffer_size(DATAGRAMS_OUT_BYTES)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into()))
        // Pings and reports keep a connection alive; one without either may die.
        .keep_alive_interval(None)
        .initial_rtt(INITIAL_RTT)
        // Finding out what the path takes costs 12 KB for each connection, and nothing here needs more than 1,200 bytes.
        .mtu_discovery_config(None);
    config
}

/// Random connection ids of [`CID_BYTES`].
struct RandomCid;

impl ConnectionIdGenerator for RandomCid {
    fn generate_cid(&mut self) -> ConnectionId {
        // The first bytes of a version 4 UUID are random ones of the operating system.
        ConnectionId::new(&Uuid::new_v4().as_bytes()[..CID_BYTES])
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
pub(crate) mod loopback;
#[cfg(test)]
mod tests;
