//! Using a join token: proves the server by the token's pin, shows the secret, brings back what the server issued. An agent
//! and a joining server do it in the same way; what they ask for, and what they make of it, is theirs.

use std::{net::SocketAddr, time::Duration};

use quinn::Endpoint;
use tokio::time::timeout;

use crate::{
    frame::{Frame, Issued, Join, Role, close},
    identity::{JOIN_NAME, Token, join_tls, system_time},
    lookup::Resolver,
    quic,
    record::{Reason, Why},
    socket::Socket,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// The server gave its reason, and what to do.
    #[error("{at} refuses to let this {role} join: {detail}", role = role.as_str())]
    Refused { at: SocketAddr, role: Role, detail: String },
    #[error("could not join: {at} answered with something else: is it a pams-server?")]
    Answer { at: SocketAddr },
    /// No connection came about, or it was lost.
    #[error("could not join: {}", .0.text)]
    Call(Why),
    #[error("could not join: {addresses} did not answer in {} s: is the UDP port open?", PATIENCE.as_secs())]
    Silent { addresses: String },
}

/// Asks one of the token's servers, through `endpoint`, under which is `socket`. `join` is made with the same token.
pub async fn redeem(
    endpoint: &Endpoint,
    socket: &Socket,
    resolver: &Resolver,
    token: &Token,
    join: Join,
) -> Result<Issued, RedeemError> {
    let role = join.role;
    match timeout(PATIENCE, ask((endpoint, socket, resolver), token, &Frame::Join(join))).await {
        Ok(Ok((_, Frame::Issued(issued)))) => Ok(issued),
        Ok(Ok((at, Frame::Refused(refused)))) => Err(RedeemError::Refused { at, role, detail: refused.detail }),
        Ok(Ok((at, _))) => Err(RedeemError::Answer { at }),
        Ok(Err(why)) => Err(RedeemError::Call(why)),
        Err(_) => Err(RedeemError::Silent { addresses: addresses(token).join(", ") }),
    }
}

/// Asks whichever of the token's servers answers first, and only that one: each answer may use the token up. The cluster has
/// then spoken; another of its servers would say the same.
async fn ask(
    (endpoint, socket, resolver): (&Endpoint, &Socket, &Resolver),
    token: &Token,
    request: &Frame,
) -> Result<(SocketAddr, Frame), Why> {
    let tls = join_tls(token.pin, system_time());
    let client = tls
        .map_err(|e| e.to_string())
        .and_then(|tls| quic::client_config(tls.into(), quic::peer_transport()).map_err(|e| e.to_string()));
    let client = client.map_err(|text| Why::new(Reason::NotSent, text))?;
    let told = |at: SocketAddr, why: Why| Why::new(why.reason, format!("{at}: {}", why.text));
    let call = |at| {
        let client = client.clone();
        async move {
            let called = quic::call(endpoint, socket, client, at, JOIN_NAME).await;
            called.map(|connection| (at, connection)).map_err(|why| told(at, why))
        }
    };
    let (at, connection) = quic::race(resolver, &addresses(token), call).await?;
    let answer = quic::request(&connection, request).await;
    connection.close(close::DONE.into(), b"");
    answer.map(|frame| (at, frame)).map_err(|error| told(at, error.why()))
}

fn addresses(token: &Token) -> Vec<String> {
    token.addresses.iter().map(ToString::to_string).collect()
}
