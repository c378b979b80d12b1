//! Joining the cluster of another server with a token, before there is an authority in the data directory.

use std::sync::Arc;

use pams_shared::{
    clock::Clock,
    identity::{Applicant, Token},
    lookup::Resolver,
    quic,
    redeem::redeem,
    socket::Socket,
};
use quinn::Endpoint;

use super::StartError;
use crate::config::Config;

/// Joins with the token unless it was the last to be used, so that the same command line starts the server again; then the
/// data directory is ready to be opened. Gives the endpoint if one was made on `socket`: there is room for one only, and its
/// reset key is the server's.
///
/// Another token of the same cluster joins it again, as the same server; if that fails, it goes on with what it has.
pub async fn join(
    config: &Config,
    socket: &Arc<Socket>,
    resolver: &Resolver,
    token: &Token,
) -> Result<Option<Endpoint>, StartError> {
    let Some(applicant) = Applicant::open(&config.data_dir, token)? else {
        tracing::debug!("this server has joined with this token already; it is not used again");
        return Ok(None);
    };
    let endpoint = quic::endpoint(socket.clone(), applicant.reset_key(), None).map_err(StartError::Quic)?;
    let request = applicant.join_request(token, &config.label(), Clock.now().wall_ms())?;
    match redeem(&endpoint, socket, resolver, token, request).await {
        Ok(issued) => {
            applicant.join(token, &issued, config.domain.as_deref())?;
            tracing::info!(token = token.id, domain = issued.domain, "joined the cluster");
        }
        Err(error) if applicant.has_joined() => {
            tracing::warn!(%error, "not joined again; going on with the certificates from before");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Some(endpoint))
}
