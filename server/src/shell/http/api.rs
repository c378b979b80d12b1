//! The routes. Each asks the engine with a closure that copies plain data; JSON is written here, off the loop.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use pams_shared::{
    config::Changes,
    expo,
    id::PeerId,
    serve::Refusal,
    status::{Liveness, Status},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{About, Sources, pages};
use crate::{
    core::{
        Event, Forgot,
        view::{Filter, Overlays, PAGE_MAX, Page, PeerDetail},
    },
    metrics::Snapshot,
    shell::handle::Forgotten,
};

/// Peers on a page, and events, unless `limit` says otherwise.
const LIMIT: usize = 100;

const INDEX: &str = "\
pams-server: who is here, and how they are doing

/metrics                    for Prometheus
/healthz                    200 while the server works
/readyz                     200 once the list of peers is complete
/api/v1/server              this server
/api/v1/peers               peers by page: ?limit= &after= &liveness= &status= &overlay= &name=
/api/v1/peers/{id}          one peer with its watchers' views, ledger, recent records, events
/api/v1/overlays            overlays, and how many peers are in which state
/api/v1/events              who came and went, the newest last: ?limit=
/api/v1/sd/prometheus       every peer that has not left, for http_sd_configs
";

type Answer<T> = Result<Json<T>, Refusal>;

pub async fn index() -> &'static str {
    INDEX
}

pub async fn metrics(State(sources): State<Arc<Sources>>) -> Result<Response, Refusal> {
    let max = sources.metrics.per_peer_max();
    let snapshot = sources.handle.look(move |pams, now| Snapshot::of(pams, now, max)).await?;
    sources.metrics.configuration(&sources.reloading.standing());
    let text = sources.metrics.render(&snapshot, sources.about.started_ms, sources.udp.traffic());
    Ok(([(CONTENT_TYPE, expo::CONTENT_TYPE)], text).into_response())
}

/// Whether the loop turns.
pub async fn healthz(State(sources): State<Arc<Sources>>) -> Result<&'static str, Refusal> {
    Ok(sources.handle.look(|_, _| "ok\n").await?)
}

pub async fn readyz(State(sources): State<Arc<Sources>>) -> Result<&'static str, Refusal> {
    sources.handle.look(|pams, now| pages::readiness(pams, pams.ready_in(now))).await??;
    Ok("ready\n")
}

pub async fn server(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Json<About> {
    Json(sources.reloading.amended(&sources.about))
}

/// `?limit=&after=&liveness=&status=&overlay=&name=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeersQuery {
    limit: Option<usize>,
    after: Option<PeerId>,
    liveness: Option<Liveness>,
    status: Option<Status>,
    overlay: Option<String>,
    name: Option<String>,
}

pub async fn peers(State(sources): State<Arc<Sources>>, Asked(query): Asked<PeersQuery>) -> Answer<Page> {
    let PeersQuery { limit, after, liveness, status, overlay, name } = query;
    let limit = within(limit)?;
    let filter = Filter { liveness, status, overlay, name };
    Ok(Json(sources.handle.look(move |pams, now| pams.peers(now, &filter, after, limit)).await?))
}

pub async fn peer(
    State(sources): State<Arc<Sources>>,
    Path(id): Path<String>,
    _: Asked<Nothing>,
) -> Answer<PeerDetail> {
    let peer = peer_id(&id)?;
    let found = sources.handle.look(move |pams, now| pams.peer(now, peer)).await?;
    found.map(Json).ok_or_else(|| unknown(peer))
}

pub async fn overlays(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Answer<Overlays> {
    Ok(Json(sources.handle.look(|pams, _| pams.overlays()).await?))
}

/// `?limit=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    limit: Option<usize>,
}

/// The newest last.
#[derive(Debug, Serialize)]
pub struct Events {
    events: Vec<Event>,
}

pub async fn events(State(sources): State<Arc<Sources>>, Asked(query): Asked<EventsQuery>) -> Answer<Events> {
    let limit = within(query.limit)?;
    let newest = move |pams: &crate::core::Pams, _| {
        let skipped = pams.events().count().saturating_sub(limit);
        pams.events().skip(skipped).cloned().collect()
    };
    Ok(Json(Events { events: sources.handle.look(newest).await? }))
}

/// What `DELETE /admin/v1/peers/{id}` did.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetAnswer {
    pub peer: PeerId,
    /// Its entry was removed.
    pub entry: bool,
    /// Its id was bound to a key, and is free now.
    pub binding: bool,
}

/// `?force=true`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetQuery {
    /// Also if it is here.
    #[serde(default)]
    force: bool,
}

pub async fn forget(
    State(sources): State<Arc<Sources>>,
    Path(id): Path<String>,
    Asked(ForgetQuery { force }): Asked<ForgetQuery>,
) -> Answer<ForgetAnswer> {
    let peer = peer_id(&id)?;
    let forgotten = sources.handle.forget(peer, force).await?.map_err(|e| {
        let hint = "its key is still known, and it can come back: mend that, then forget it again";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).hint(hint)
    })?;
    match forgotten {
        Forgotten { entry: Forgot::StillHere, .. } => {
            let hint = "stop its agent and wait until it is gone, or use --force (?force=true): it is then turned away until it joins again";
            Err(Refusal::new(StatusCode::CONFLICT, format!("peer {peer} is here")).hint(hint))
        }
        Forgotten { entry: Forgot::Unknown, unbound: false } => Err(unknown(peer)),
        Forgotten { entry, unbound } => Ok(Json(ForgetAnswer { peer, entry: entry == Forgot::Done, binding: unbound })),
    }
}

/// Reads the configuration again; on the admin socket only.
pub async fn reload(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Answer<Changes> {
    Ok(Json(sources.reloading.reload().await?))
}

/// No query at all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The query of a request; keys that are not known are refused, as a filter that is misspelt must not show all.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(Refusal::bad(format!("the query cannot be used: {text}")).hint("GET / lists what can be asked"))
            }
        }
    }
}

fn within(limit: Option<usize>) -> Result<usize, Refusal> {
    match limit.unwrap_or(LIMIT) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        limit => Err(Refusal::bad(format!("limit {limit} is out of bounds")).hint(format!("give 1 to {PAGE_MAX}"))),
    }
}

fn peer_id(text: &str) -> Result<PeerId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::bad(format!("{text:?} is no peer id")).hint("give a UUID, as /api/v1/peers lists them"))
}

fn unknown(peer: PeerId) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("peer {peer} is not known here"))
        .hint("/api/v1/peers lists those that are")
}
