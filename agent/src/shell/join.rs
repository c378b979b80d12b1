//! Joining a cluster with a token, and whether there is anything to do.

use anyhow::{Context, bail};
use pams_shared::{
    clock::Clock,
    identity::{AgentIdentity, IdentityError, Token},
    lookup::Resolver,
    redeem::redeem,
    socket::Socket,
};
use quinn::Endpoint;

/// Joins with the token unless it was the last to be used, so that the same command line starts the agent again. Another
/// token of the same cluster joins it again, as the same peer; if that fails, what it has is still good among peers, and the
/// home says what it thinks of it.
pub async fn join(
    endpoint: &Endpoint,
    socket: &Socket,
    resolver: &Resolver,
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
        bail!("{}", IdentityError::OtherCluster);
    }
    let request = identity.join_request(&token, name, Clock.now().wall_ms())?;
    let issued = match redeem(endpoint, socket, resolver, &token, request).await {
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
