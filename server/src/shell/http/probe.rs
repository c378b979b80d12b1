//! How is this peer right now?

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State, http::StatusCode};
use pams_shared::serve::{self, Refusal};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Entrance, Sources,
    api::{Asked, PathId, PeerPath, peer_id},
};
use crate::core::probe::{Caller, ProbeAnswer, ProbeRefused, Refused, WITHIN, WITHIN_MAX, WITHIN_MIN};

/// `?within=`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ProbeQuery {
    /// How long the answer may take: 100ms to 10s.
    #[param(example = "2s", default = "2s", pattern = "^([1-9]s|10s|[1-9][0-9]{2,3}ms)$")]
    within: Option<String>,
}

/// Ask a peer how it is right now
///
/// Its home asks it, and has another agent ping it; any server can be asked. The verdict tells apart: `reachable`; `partly`, from
/// some and not from others; `unreachable`; `offline`, it left or was forgotten; `home_unreachable`, where agents here are asked
/// instead; `unknown`, no server knows it. On the TCP port only with `probe.http = true`: it asks nobody who they are.
#[utoipa::path(post, path = "/api/v1/peers/{id}/probe", tag = "api", params(PeerPath, ProbeQuery),
    responses(
        (status = 200, description = "How it is", body = ProbeAnswer),
        (status = 400, description = "The id is none, or the query cannot be used"),
        (status = 403, description = "Probes are not for everybody who can reach this port"),
        (status = 429, description = "Too much was asked by this caller, or of this peer; `Retry-After` says when to ask again"),
    ))]
pub async fn probe(
    State(sources): State<Arc<Sources>>,
    Extension(entrance): Extension<Entrance>,
    Extension(caller): Extension<serve::Caller>,
    id: PathId,
    Asked(ProbeQuery { within }): Asked<ProbeQuery>,
) -> Result<Json<ProbeAnswer>, Refusal> {
    let (peer, within) = (peer_id(id)?, within.map_or(Ok(WITHIN), read)?);
    let caller = match entrance {
        Entrance::Admin => Caller::Operator,
        // One that is gone already is like all others that are.
        Entrance::Tcp => Caller::Http { from: caller.address().unwrap_or(Ipv4Addr::UNSPECIFIED.into()) },
    };
    let answer = sources.handle.probe(peer, within, caller).await?;
    answer.map(|answer| Json(*answer)).map_err(refusal)
}

fn read(text: String) -> Result<Duration, Refusal> {
    let within =
        humantime::parse_duration(text.trim()).ok().filter(|within| (WITHIN_MIN..=WITHIN_MAX).contains(within));
    within.ok_or_else(|| {
        Refusal::bad(format!("within {text:?} cannot be used"))
            .hint("give a time with its unit, 100ms to 10s, such as 2s")
    })
}

fn refusal(ProbeRefused { why, after }: ProbeRefused) -> Refusal {
    let refusal = |status| Refusal::new(status, why.text()).reason(why.as_str());
    let later = refusal(StatusCode::TOO_MANY_REQUESTS).after(after);
    match why {
        Refused::Forbidden => refusal(StatusCode::FORBIDDEN).hint(
            "ask on the server's host: `pams-server probe`, or the admin socket; or set `probe.http = true`, which lets everybody who \
             can reach this port have peers probed",
        ),
        Refused::Caller => later.hint(
            "up to 20 in a row, then 5 a second; on the TCP port by each address (IPv6: by each /64), and by all of them up to 40, then 20",
        ),
        Refused::Target => later.hint("up to 5 in a row, then one a second, by all callers together"),
        Refused::Full | Refused::NotHome => later.hint("try again later"),
    }
}
