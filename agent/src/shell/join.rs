//! Joining a cluster with a token: proves the server by the token's pin, shows the secret, takes the certificate.

use std::time::Duration;

use anyhow::{Context, bail};
use pams_shared::{
    clock::Clock,
    frame::{Frame, Issued, close},
    identity::{self, Address, AgentIdentity, Token},
    quic,
};
use quinn::Endpoint;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// Joins with the token unless it was the last to be used, so that the same command line starts the agent again. Another
/// token of the same cluster joins it again, as the same peer; if that fails, what it has is still good among peers, and the
/// home says what it thinks of it.
pub async fn join(
    endpoint: &Endpoint,
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
    let issued = match redeem(endpoint, &identity, &token, name).await {
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

async fn redeem(endpoint: &Endpoint, identity: &AgentIdentity, token: &Token, name: &str) -> anyhow::Result<Issued> {
    let request = Frame::Join(identity.join_request(token, name, Clock.now().wall_ms())?);
    let mut last = None;
    for address in &token.addresses {
        match timeout(PATIENCE, ask(endpoint, token, address, &request)).await {
            Ok(Ok(Frame::Issued(issued))) => return Ok(issued),
            // The cluster has spoken; another of its servers would say the same.
            Ok(Ok(Frame::Refused(refused))) => bail!("{address} refuses to let this agent join: {}", refused.detail),
            Ok(Ok(_)) => last = Some(format!("{address} answered with something else: is it a pams-server?")),
            Ok(Err(why)) => last = Some(format!("{address}: {why}")),
            Err(_) => {
                last = Some(format!("{address} did not answer in {} s: is the UDP port open?", PATIENCE.as_secs()));
            }
        }
    }
    bail!("could not join: {}", last.unwrap_or_else(|| "the token names no address".into()))
}

async fn ask(endpoint: &Endpoint, token: &Token, address: &Address, request: &Frame) -> Result<Frame, String> {
    let tls = identity::join_tls(token.pin, identity::system_time()).map_err(|e| e.to_string())?;
    let client = quic::client_config(tls.into(), quic::peer_transport()).map_err(|e| e.to_string())?;
    let mut last = "its name has no address".to_owned();
    for at in quic::resolve(&address.to_string()).await.map_err(|w| w.text)? {
        match quic::connect(endpoint, client.clone(), at, identity::JOIN_NAME).await {
            Ok(connection) => {
                let answer = quic::request(&connection, request).await;
                connection.close(close::DONE.into(), b"");
                return answer.map_err(|e| e.why().text);
            }
            Err(why) => last = why.text,
        }
    }
    Err(last)
}
