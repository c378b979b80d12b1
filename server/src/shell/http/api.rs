//! The routes. Each asks the engine with a closure that copies plain data; JSON is written here, off the loop.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::PathRejection},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use pams_shared::{
    config::Changes,
    expo,
    id::PeerId,
    record::{Kind, Ledger},
    serve::Refusal,
    status::{Liveness, Status},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::IntoParams;

use super::{About, Sources, pages};
use crate::{
    core::{
        Event, Forgot, Pams,
        view::{ClusterView, Filter, Overlays, PAGE_MAX, Page, PeerDetail},
    },
    metrics::Snapshot,
    shell::handle::Forgotten,
};

/// Peers on a page, and events, unless `limit` says otherwise.
const LIMIT: usize = 100;

/// What stands in a path in place of `{id}`.
pub type PathId = Result<Path<String>, PathRejection>;
type Answer<T> = Result<Json<T>, Refusal>;

/// Metrics for Prometheus
///
/// Text format 0.0.4; `pams-server --list-metrics` says what each means.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "All series", body = String, content_type = "text/plain; version=0.0.4")))]
pub async fn metrics(State(sources): State<Arc<Sources>>) -> Result<Response, Refusal> {
    let max = sources.metrics.per_peer_max();
    let snapshot = sources.handle.look(move |pams, now| Snapshot::of(pams, now, max)).await?;
    sources.metrics.configuration(&sources.reloading.standing());
    let text = sources.metrics.render(&snapshot, sources.about.started_ms, sources.udp.traffic());
    Ok(([(CONTENT_TYPE, expo::CONTENT_TYPE)], text).into_response())
}

/// Whether the server works
///
/// For supervisors: its loop takes a turn to answer.
#[utoipa::path(get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub async fn healthz(State(sources): State<Arc<Sources>>) -> Result<&'static str, Refusal> {
    Ok(sources.handle.look(|_, _| "ok\n").await?)
}

/// Whether the list of peers is complete
///
/// 503 with `Retry-After` while agents may still be coming back after a start, and when the server is stopping.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, description = "It is", body = String, content_type = "text/plain")))]
pub async fn readyz(State(sources): State<Arc<Sources>>) -> Result<&'static str, Refusal> {
    sources.handle.look(|pams, now| pages::readiness(pams, pams.ready_in(now))).await??;
    Ok("ready\n")
}

/// This server
///
/// Its id and where it can be reached.
#[utoipa::path(get, path = "/api/v1/server", tag = "api",
    responses((status = 200, description = "Who this is", body = About), (status = 400, description = "The query cannot be used")))]
pub async fn server(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Json<About> {
    Json(sources.reloading.amended(&sources.about))
}

/// `?limit=&after=&liveness=&status=&overlay=&name=`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PeersQuery {
    /// Most peers on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// Go on after this peer: `next` of the page before.
    after: Option<PeerId>,
    /// What the server concludes.
    liveness: Option<Liveness>,
    /// What the peer says.
    status: Option<Status>,
    /// The overlay, or one that is nested in it.
    #[param(example = "games")]
    overlay: Option<String>,
    /// Part of the name; ASCII letters in either case.
    #[param(example = "alpha")]
    name: Option<String>,
}

/// The peer in a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the description of what `peer_id` reads")]
pub struct PeerPath {
    /// Peer id.
    id: PeerId,
}

/// Peers by page
///
/// Those for which all that is asked for holds, in order of their ids.
#[utoipa::path(get, path = "/api/v1/peers", tag = "api", params(PeersQuery),
    responses((status = 200, description = "A page", body = Page), (status = 400, description = "The query cannot be used")))]
pub async fn peers(State(sources): State<Arc<Sources>>, Asked(query): Asked<PeersQuery>) -> Answer<Page> {
    let PeersQuery { limit, after, liveness, status, overlay, name } = query;
    let limit = within(limit)?;
    let filter = Filter { liveness, status, overlay, name };
    Ok(Json(sources.handle.look(move |pams, now| pams.peers(now, &filter, after, limit)).await?))
}

/// One peer with all that is known of it
///
/// Its watchers' views, ledger, recent records and events.
#[utoipa::path(get, path = "/api/v1/peers/{id}", tag = "api", params(PeerPath),
    responses(
        (status = 200, description = "The peer", body = PeerDetail),
        (status = 400, description = "The id is none, or the query cannot be used"),
        (status = 404, description = "The peer is not known here"),
    ))]
pub async fn peer(State(sources): State<Arc<Sources>>, id: PathId, _: Asked<Nothing>) -> Answer<PeerDetail> {
    let peer = peer_id(id)?;
    let found = sources.handle.look(move |pams, now| pams.peer(now, peer)).await?;
    found.map(Json).ok_or_else(|| unknown(peer))
}

/// Overlays, and how many peers are in which state
///
/// A peer counts for each overlay that it is in, and for all that this one is nested in.
#[utoipa::path(get, path = "/api/v1/overlays", tag = "api",
    responses((status = 200, description = "All overlays", body = Overlays), (status = 400, description = "The query cannot be used")))]
pub async fn overlays(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Answer<Overlays> {
    Ok(Json(sources.handle.look(Pams::overlays).await?))
}

/// `?limit=`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Most events.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// The newest last.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Events {
    events: Vec<Event>,
}

/// Who came and went
///
/// The newest last.
#[utoipa::path(get, path = "/api/v1/events", tag = "api", params(EventsQuery),
    responses((status = 200, description = "The newest", body = Events), (status = 400, description = "The query cannot be used")))]
pub async fn events(State(sources): State<Arc<Sources>>, Asked(query): Asked<EventsQuery>) -> Answer<Events> {
    let limit = within(query.limit)?;
    let newest = move |pams: &crate::core::Pams, _| {
        let skipped = pams.events().count().saturating_sub(limit);
        pams.events().skip(skipped).cloned().collect()
    };
    Ok(Json(Events { events: sources.handle.look(newest).await? }))
}

/// What was forgotten.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForgetAnswer {
    pub peer: PeerId,
    /// Its entry was removed.
    pub entry: bool,
    /// Its id was bound to a key, and is free now.
    pub binding: bool,
}

/// `?force=true`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ForgetQuery {
    /// Also if it is here.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Forget a peer
///
/// Removes its entry, and the binding of its id to its key. Only on the admin socket.
#[utoipa::path(delete, path = "/admin/v1/peers/{id}", tag = "admin", params(PeerPath, ForgetQuery),
    responses(
        (status = 200, description = "It is forgotten", body = ForgetAnswer),
        (status = 400, description = "The id is none, or the query cannot be used"),
        (status = 404, description = "The peer is not known here"),
        (status = 409, description = "The peer is here, and force was not given"),
        (status = 500, description = "The file with its key cannot be changed"),
    ))]
pub async fn forget(
    State(sources): State<Arc<Sources>>,
    id: PathId,
    Asked(ForgetQuery { force }): Asked<ForgetQuery>,
) -> Answer<ForgetAnswer> {
    let peer = peer_id(id)?;
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

/// Read the configuration again
///
/// As SIGHUP does: file, environment and flags. Says what changed and what waits for a restart; what is wrong with it leaves
/// the old one in force. Only on the admin socket.
#[utoipa::path(post, path = "/admin/v1/reload", tag = "admin",
    responses(
        (status = 200, description = "What changed", body = Changes),
        (status = 422, description = "The configuration can not be used; the old one stays in force"),
        (status = 501, description = "This one was given its configuration by a program that carries it"),
    ))]
pub async fn reload(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Answer<Changes> {
    Ok(Json(sources.reloading.reload().await?))
}

/// All servers
///
/// As this one sees them: who they are, what is concluded of each, and how old what each shares is.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "api",
    responses((status = 200, description = "The cluster", body = ClusterView), (status = 400, description = "The query cannot be used")))]
pub async fn cluster(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Answer<ClusterView> {
    Ok(Json(sources.handle.look(Pams::cluster).await?))
}

/// The ledger of the whole cluster
///
/// All transactions of all peers that are known, by kind: of each peer what its newest home says. It walks the directory: for
/// people and audits, not for every scrape.
#[utoipa::path(get, path = "/api/v1/ledger", tag = "api",
    responses((status = 200, description = "By kind", body = BTreeMap<String, Ledger>), (status = 400, description = "The query cannot be used")))]
pub async fn ledger(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Answer<BTreeMap<Kind, Ledger>> {
    Ok(Json(sources.handle.look(Pams::cluster_ledger).await?))
}

/// Send all agents to other servers, then stop
///
/// Answers when it has begun. Only on the admin socket.
#[utoipa::path(post, path = "/admin/v1/drain", tag = "admin",
    responses((status = 202, description = "It has begun", body = Draining), (status = 400, description = "The query cannot be used")))]
pub async fn drain(
    State(sources): State<Arc<Sources>>,
    _: Asked<Nothing>,
) -> Result<(StatusCode, Json<Draining>), Refusal> {
    let sessions = sources.handle.look(|pams, now| pams.summary(now).sessions).await?;
    sources.handle.drain().await?;
    Ok((StatusCode::ACCEPTED, Json(Draining { sessions })))
}

/// A server that sends its agents away.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Draining {
    /// Sessions that were open when it began.
    pub sessions: u64,
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

pub fn peer_id(path: PathId) -> Result<PeerId, Refusal> {
    let Path(text) = path.map_err(|e| Refusal::bad(e.body_text()))?;
    text.parse()
        .map_err(|_| Refusal::bad(format!("{text:?} is no peer id")).hint("give a UUID, as /api/v1/peers lists them"))
}

fn unknown(peer: PeerId) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("peer {peer} is not known here"))
        .hint("/api/v1/peers lists those that are")
}
