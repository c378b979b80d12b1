//! One word to an agent of another home: that this home is lost. A connection for it alone.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::{Frame, Hello, HomeLost, Role, capability, close},
    id::{Minter, PeerId},
    identity::{self, dns_name},
    quic,
    record::{Reason, Why},
};
use quinn::{Connection, Endpoint};
use tokio::time::{sleep, timeout};

use super::{super::door::Door, tell as tell_loop};
use crate::core::cluster::{io::SiblingInput, lost::Told};

/// Calls of one step of the core's are spread over about as long.
const SPREAD_MS: u64 = 100;
/// For all of it, so that agents that are gone too hold up the others no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Calls the agent and tells it, then the loop what came of it.
pub(super) async fn tell(door: &Door, endpoint: &Endpoint, peer: PeerId, addresses: &[SocketAddr], what: HomeLost) {
    let jitter = identity::seed().map_or(0, |seed| Minter::new(seed).below(SPREAD_MS));
    sleep(Duration::from_millis(jitter)).await;
    let told = match timeout(PATIENCE, said(door, endpoint, peer, addresses, what)).await {
        Ok(Ok(true)) => Told::Asks,
        Ok(Ok(false)) => Told::Elsewhere,
        Ok(Err(why)) => {
            tracing::debug!(%peer, server = %what.server, reason = why.reason.as_str(), why = why.text, "agent not told that its home is lost");
            Told::Unreachable
        }
        Err(_) => Told::Unreachable,
    };
    tell_loop(door, SiblingInput::Told { peer, told }).await;
}

async fn said(
    door: &Door,
    endpoint: &Endpoint,
    peer: PeerId,
    addresses: &[SocketAddr],
    what: HomeLost,
) -> Result<bool, Why> {
    let name = dns_name(Role::Agent, peer.0, &door.domain);
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let (socket, client) = (&door.neighbours.socket, &door.neighbours.to_agents);
    let call = |at| quic::call(endpoint, socket, client.clone(), at, &name);
    let connection = quic::race(&door.neighbours.resolver, &names, call).await?;
    let asks = conversation(door, &connection, what).await;
    connection.close(close::DONE.into(), b"");
    asks
}

async fn conversation(door: &Door, connection: &Connection, what: HomeLost) -> Result<bool, Why> {
    let odd = || Why::new(Reason::Refused, "it answered with something else");
    let hello = Hello {
        software: door.software.to_owned(),
        epoch: door.generation,
        capabilities: capability::SIBLINGS,
        wall_ms: Clock.now().wall_ms(),
        attach: 0,
        profile: None,
        member: None,
    };
    match quic::request(connection, &Frame::Hello(hello)).await.map_err(|e| e.why())? {
        Frame::HelloAck(ack) => ack.verdict.map_err(|rejected| Why::new(Reason::Refused, rejected.detail))?,
        _ => return Err(odd()),
    }
    match quic::request(connection, &Frame::HomeLost(what)).await.map_err(|e| e.why())? {
        Frame::HomeLostAck(asks) => Ok(asks),
        _ => Err(odd()),
    }
}
