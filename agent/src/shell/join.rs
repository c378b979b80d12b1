//! Joining a cluster with a token: proves the server by the token's pin, shows the secret, takes the certificate.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use pams_shared::{
    clock::Clock,
    frame::{Frame, Issued, close},
    identity::{self, AgentIdentity, Token},
    quic,
    record::{Reason, Why},
    socket::Socket,
};
use quinn::Endpoint;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// Joins with the token unless it was the last to be used, so that the same command line starts the agent again. Another
/// token of the same cluster joins it again, as the same peer; if that fails, what it has is still good among peers, and the
/// home says what it thinks of it.
pub async fn join(
    endpoint: &Endpoint,
    socket: &Socket,
    mut identity: AgentIdentity,
    token: &str,
    name: &str,
) -> anyhow::Result<AgentIdentity> {
    let token: Token = token.trim().parse().context("the token after --join can not be used")?;
    if identity.has_redeemed(&token) {
        tracing::debug!("this agent has joined with this token already; it is not used again");
        return Ok(identity);
    }
    if identity.is_joined() && !identity.is_joined_by(&token) {
        bail!("{}", identity::IdentityError::OtherCluster);
    }
    let issued = match redeem(endpoint, socket, &identity, &token, name).await {
        Err(error) if identity.is_joined() => {
            tracing::warn!(%error, "not joined again; going on with the certificate from before");
            return Ok(identity);
        }
        issued => issued?,
    };
    // Files are written and synced: not on the thread that serves.
    tokio::task::spawn_blocking(move || identity.join(&token, &issued).map(|()| identity))
        .await?
        .context("the certificate that the server issued can not be used")
}

async fn redeem(
    endpoint: &Endpoint,
    socket: &Socket,
    identity: &AgentIdentity,
    token: &Token,
    name: &str,
) -> anyhow::Result<Issued> {
    let request = Frame::Join(identity.join_request(token, name, Clock.now().wall_ms())?);
    match timeout(PATIENCE, ask(endpoint, socket, token, &request)).await {
        Ok(Ok((_, Frame::Issued(issued)))) => Ok(issued),
        Ok(Ok((address, Frame::Refused(refused)))) => {
            bail!("{address} refuses to let this agent join: {}", refused.detail)
        }
        Ok(Ok((address, _))) => bail!("could not join: {address} answered with something else: is it a pams-server?"),
        Ok(Err(why)) => bail!("could not join: {}", why.text),
        Err(_) => {
            let addresses: Vec<String> = token.addresses.iter().map(ToString::to_string).collect();
            let (addresses, s) = (addresses.join(", "), PATIENCE.as_secs());
            bail!("could not join: {addresses} did not answer in {s} s: is the UDP port open?")
        }
    }
}

/// Asks whichever of the token's servers answers first, and only that one: each answer may use the token up. The cluster has
/// then spoken; another of its servers would say the same.
async fn ask(endpoint: &Endpoint, socket: &Socket, token: &Token, request: &Frame) -> Result<(SocketAddr, Frame), Why> {
    let tls = identity::join_tls(token.pin, identity::system_time());
    let client = tls
        .map_err(|e| e.to_string())
        .and_then(|tls| quic::client_config(tls.into(), quic::peer_transport()).map_err(|e| e.to_string()));
    let client = client.map_err(|text| Why::new(Reason::NotSent, text))?;
    let addresses: Vec<String> = token.addresses.iter().map(ToString::to_string).collect();
    let told = |at: SocketAddr, why: Why| Why::new(why.reason, format!("{at}: {}", why.text));
    let call = |at| {
        let client = client.clone();
        async move {
            let called = quic::call(endpoint, socket, client, at, identity::JOIN_NAME).await;
            called.map(|connection| (at, connection)).map_err(|why| told(at, why))
        }
    };
    let (at, connection) = quic::race(&addresses, call).await?;
    let answer = quic::request(&connection, request).await;
    connection.close(close::DONE.into(), b"");
    answer.map(|frame| (at, frame)).map_err(|error| told(at, error.why()))
}
