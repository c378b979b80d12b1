//! HTTP on this host: the control socket, through which people and programs ask the agent and tell it things, and the
//! listener that Prometheus scrapes. Both are routers over [`Handle`] and what it shows; nothing is kept here.
//!
//! Every error is a [`Problem`](pams_shared::control::Problem): a problem of RFC 9457 with `hint` and `reason`, the latter from the
//! closed list of [`Reason`] where a peer could not be reached.
//!
//! A route is one annotated handler and its line in `control_routes` or `http_routes`: the annotation makes both the route
//! and its description in `/openapi.json`.

mod answers;
#[cfg(test)]
mod described;
#[cfg(test)]
pub mod front;
mod index;
mod subscriptions;

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, Request, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    middleware::{Next, from_fn, map_response},
    response::{IntoResponse, Response},
};
use pams_shared::{
    clock::Clock,
    config::Changes,
    expo,
    id::PeerId,
    landing,
    moment::Moment,
    openapi,
    record::{Reason, Record, Why},
    reload::Standing,
    routes,
    serve::{Bounds, Caller, Refusal},
    status::{NOTE_BYTES_MAX, Presence, Status},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;
use utoipa::IntoParams;

pub use answers::{
    BuddiesAnswer, EventLine, FetchedAnswer, StatusAnswer, SubscribedAnswer, SubscribersAnswer, SubscriptionsAnswer,
    Tally, UnsubscribedAnswer,
};

use super::{
    handle::{Ended, Handle},
    reload::Reloading,
};
use crate::{
    config::DEADLINE_MAX,
    core::View,
    metrics::{Extras, Metrics},
};

/// Of each listener's connections.
pub const BOUNDS: Bounds =
    Bounds { connections: 64, silent: Duration::from_secs(60), life: None, grace: Duration::from_secs(1) };
/// Longest body of a request.
pub const BODY_BYTES_MAX: usize = 16 << 10;
/// How long the loop may take to show itself; longer, and the agent is not well.
const VIEW_WITHIN: Duration = Duration::from_secs(5);
/// How long any request may take: a fetch can wait for a ping and two questions.
pub const REQUEST_WITHIN: Duration = DEADLINE_MAX.saturating_add(Duration::from_secs(30));

/// What every route may answer beside its own.
#[cfg(test)]
const COMMON: &[openapi::Common] = &[
    (408, "The request took too long, or its body did not come"),
    (503, "The agent is stopping, is stuck, or is of no use yet: `detail` says which"),
];

/// What stands at the head of the description of the routes.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "pams-agent",
        description = "What this agent knows, and what it can be told. `/v1` stands on the control socket, a unix socket that \
                       its user and group may use: `curl --unix-socket /run/pams/agent.sock http://agent/v1/status`. The rest \
                       stands on the HTTP listener (`http`), and changes nothing. Durations that end in `_s` are seconds, \
                       those in `_ns` nanoseconds; `since_ms` and `opened_ms` are wall clocks, in ms since 1970. What is not \
                       known is absent or null, never 0. Each error is a problem of RFC 9457, with a `hint` at what to do."
    ),
    tags(
        (name = "about", description = "What is where"),
        (name = "agent", description = "The agent itself"),
        (name = "presence", description = "What this peer says of itself"),
        (name = "peers", description = "Buddies, and any peer by its id"),
        (name = "subscriptions", description = "Being told of changes, and who is told of ours"),
        (name = "operation", description = "For Prometheus and supervisors"),
    )
)]
struct Description;

/// The description of both listeners; each serves its own part.
const DESCRIPTION: &str = include_str!("../../../openapi.json");

routes! {
    /// The handlers of the control socket; the annotation at the handler has its path.
    control_routes of Local, described by ControlRoutes:
    status, presence, publish, buddies, fetch, ping, subscriptions::list, subscriptions::begin, subscriptions::end,
    subscriptions::subscribers, subscriptions::events, reload, metrics,
}

routes! {
    /// And of the HTTP listener.
    http_routes of Local, described by HttpRoutes: index::index, scrape, healthz, readyz,
}

/// The peer in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the description of what `peer` reads")]
struct PeerPath {
    /// Peer id.
    id: PeerId,
}

/// Where the answers come from. Clones are cheap.
#[derive(Clone)]
pub struct Local {
    handle: Handle,
    metrics: Arc<Metrics>,
    reloading: Arc<Reloading>,
    started: Moment,
    extras: Arc<dyn Fn() -> Extras + Send + Sync>,
}

impl Local {
    /// `extras` is asked at each scrape. The uptime counts from here.
    pub fn new(
        handle: Handle,
        metrics: Arc<Metrics>,
        reloading: Arc<Reloading>,
        extras: impl Fn() -> Extras + Send + Sync + 'static,
    ) -> Self {
        Self { handle, metrics, reloading, started: Clock.now(), extras: Arc::new(extras) }
    }

    /// What the control socket serves, under `/v1`.
    pub fn control(self) -> Router {
        self.finish(control_routes())
    }

    /// What the HTTP listener serves: nothing that changes anything.
    pub fn http(self) -> Router {
        self.finish(http_routes())
    }

    fn finish(self, routes: openapi::Routes<Self>) -> Router {
        openapi::served(routes, DESCRIPTION)
            .fallback(unknown)
            .method_not_allowed_fallback(not_allowed)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(from_fn(in_time))
            .layer(map_response(landing::guard))
            .with_state(self)
    }

    async fn view(&self) -> Result<View, Refusal> {
        let late = |_| Refusal::unavailable("the agent's loop does not answer");
        Ok(timeout(VIEW_WITHIN, self.handle.view()).await.map_err(late)??)
    }
}

impl From<Ended> for Refusal {
    fn from(ended: Ended) -> Self {
        Self::unavailable(ended.to_string())
    }
}

/// 504: there was no answer; 502: there was a bad one; 503: this agent is at fault.
fn unreached(why: Why) -> Refusal {
    let status = match why.reason {
        Reason::NoAnswer | Reason::NotSent | Reason::Cancelled => StatusCode::GATEWAY_TIMEOUT,
        Reason::Refused | Reason::Certificate | Reason::Clock => StatusCode::BAD_GATEWAY,
        Reason::Shutdown | Reason::Crash | Reason::Stalled => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal::new(status, why.text).reason(why.reason.as_str())
}

/// Ends what takes too long: the body was not sent in time, or the loop hangs.
async fn in_time(request: Request, next: Next) -> Response {
    let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response();
    timeout(REQUEST_WITHIN, next.run(request)).await.unwrap_or_else(late)
}

/// The agent at a glance
///
/// Presence, home, buddies by liveness, ledgers.
#[utoipa::path(get, path = "/v1/status", tag = "agent",
    responses((status = 200, description = "The agent", body = StatusAnswer)))]
async fn status(State(local): State<Local>) -> Result<Json<StatusAnswer>, Refusal> {
    let view = local.view().await?;
    let (uptime, csv) = (Clock.now().since(local.started), (local.extras)().csv);
    Ok(Json(StatusAnswer::new(view, local.reloading.standing(), uptime, csv)))
}

/// What this peer says of itself
///
/// As it was last published.
#[utoipa::path(get, path = "/v1/presence", tag = "presence",
    responses((status = 200, description = "The presence", body = Presence)))]
async fn presence(State(local): State<Local>) -> Result<Json<Presence>, Refusal> {
    Ok(Json(local.view().await?.presence))
}

/// What to publish.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Publish {
    status: Status,
    #[serde(default)]
    /// At most 256 bytes, without control characters; empty or absent: none.
    #[schema(max_length = 256, example = "back at 2")]
    note: Option<String>,
}

/// Say something else of this peer
///
/// Published to the watchers and the home; kept over a restart. Without a note there is none any more. The body is read as
/// JSON whatever its content type says, so that `curl -d` will do.
#[utoipa::path(put, path = "/v1/presence", tag = "presence", request_body = Publish,
    responses(
        (status = 200, description = "The new presence", body = Presence),
        (status = 400, description = "The body is not what is expected, or the note is too long or not plain text"),
        (status = 413, description = "The body is longer than 16384 bytes"),
    ))]
async fn publish(
    State(local): State<Local>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Presence>, Refusal> {
    let Publish { status, note } = read(body)?;
    if note.as_ref().is_some_and(|n| n.len() > NOTE_BYTES_MAX || n.chars().any(char::is_control)) {
        let hint = format!("give up to {NOTE_BYTES_MAX} bytes without control characters");
        return Err(Refusal::bad("the note is too long, or not plain text").hint(hint));
    }
    caller.log("another presence");
    Ok(Json(local.handle.publish(status, note.filter(|n| !n.is_empty())).await?))
}

/// Whom this peer watches
///
/// What each says, what is concluded of it, and its last answered ping.
#[utoipa::path(get, path = "/v1/buddies", tag = "peers",
    responses((status = 200, description = "All buddies", body = BuddiesAnswer)))]
async fn buddies(State(local): State<Local>) -> Result<Json<BuddiesAnswer>, Refusal> {
    Ok(Json(BuddiesAnswer { buddies: local.view().await?.buddies }))
}

/// Ask a peer who it is and how it is
///
/// If it cannot be reached, its home is asked.
#[utoipa::path(get, path = "/v1/peers/{id}", tag = "peers", params(PeerPath),
    responses(
        (status = 200, description = "The peer", body = FetchedAnswer),
        (status = 400, description = "The id is none"),
        (status = 404, description = "Neither this agent nor its home knows such a peer"),
        (status = 502, description = "There was a bad answer: `reason` says which"),
        (status = 504, description = "There was no answer: `reason` says why"),
    ))]
async fn fetch(
    State(local): State<Local>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<FetchedAnswer>, Refusal> {
    match local.handle.fetch(peer(path)?).await? {
        Ok(fetched) => Ok(Json(fetched.into())),
        Err(missed) if missed.known => Err(unreached(missed.why)),
        Err(missed) => {
            let refusal = Refusal::new(StatusCode::NOT_FOUND, missed.why.text).reason(missed.why.reason.as_str());
            Err(refusal.hint("check the id; a peer is known once its agent has joined and reported to a home"))
        }
    }
}

/// There are none yet.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct PingOptions {}

/// Ping a peer now
///
/// Waits for the pong, for `ping.deadline` at most. There are no options: the body is empty, an empty object or null.
#[utoipa::path(post, path = "/v1/ping/{id}", tag = "peers", params(PeerPath),
    request_body(content = Option<PingOptions>, description = "No options"),
    responses(
        (status = 200, description = "The answered ping, by stage", body = Record),
        (status = 400, description = "The id is none, or the body is not empty"),
        (status = 413, description = "The body is longer than 16384 bytes"),
        (status = 502, description = "There was a bad answer: `reason` says which"),
        (status = 504, description = "There was no answer: `reason` says why"),
    ))]
async fn ping(
    State(local): State<Local>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Record>, Refusal> {
    let peer = peer(path)?;
    if !matches!(&body, Ok(bytes) if bytes.is_empty()) {
        let _: Option<PingOptions> = read(body)?;
    }
    caller.log("a ping");
    Ok(Json(local.handle.ping(peer).await?.map_err(unreached)?))
}

/// Read the configuration again
///
/// As SIGHUP does: file, environment and flags. Says what changed and what waits for a restart; what is wrong with it leaves
/// the old one in force. Takes no body.
#[utoipa::path(post, path = "/v1/reload", tag = "operation",
    responses(
        (status = 200, description = "What changed", body = Changes),
        (status = 422, description = "The configuration can not be used; the old one stays in force"),
        (status = 501, description = "This one was given its configuration by a program that carries it"),
    ))]
async fn reload(State(local): State<Local>, Extension(caller): Extension<Caller>) -> Result<Json<Changes>, Refusal> {
    caller.log("the configuration to be read again");
    Ok(Json(local.reloading.reload().await?))
}

/// Metrics for Prometheus
///
/// As `/metrics` of the HTTP listener.
#[utoipa::path(get, path = "/v1/metrics", tag = "operation",
    responses((status = 200, description = "All series", body = String, content_type = "text/plain; version=0.0.4")))]
async fn metrics(State(local): State<Local>) -> Result<Response, Refusal> {
    let view = local.view().await?;
    let Standing { successful, success_ms, .. } = local.reloading.standing();
    let extras = Extras { reload_successful: successful, reload_success_ms: success_ms, ..(local.extras)() };
    let text = local.metrics.render(&view, &extras);
    Ok(([(CONTENT_TYPE, expo::CONTENT_TYPE)], text).into_response())
}

/// Metrics for Prometheus
///
/// Text format 0.0.4; `pams-agent --list-metrics` says what each means.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "All series", body = String, content_type = "text/plain; version=0.0.4")))]
async fn scrape(local: State<Local>) -> Result<Response, Refusal> {
    metrics(local).await
}

/// Whether the agent works
///
/// For supervisors: its loop takes a turn to answer.
#[utoipa::path(get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
async fn healthz(State(local): State<Local>) -> Result<&'static str, Refusal> {
    local.view().await?;
    Ok("ok\n")
}

/// Whether the agent is of use
///
/// It has a home, or a connection with a peer, which go on without one; else 503.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, description = "It is", body = String, content_type = "text/plain")))]
async fn readyz(State(local): State<Local>) -> Result<&'static str, Refusal> {
    let view = local.view().await?;
    if view.home.connected || view.links > 0 {
        return Ok("ready\n");
    }
    let why =
        view.home.why.map_or_else(|| "no home was reached yet".to_owned(), |why| format!("no home: {}", why.text));
    Err(Refusal::unavailable(format!("neither home nor peer is connected; {why}")))
}

async fn unknown(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no {}", uri.path()))
        .hint("see `pams-agent --help`, or the README for the paths")
}

async fn not_allowed(method: axum::http::Method, uri: Uri) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

fn peer(path: Result<Path<String>, PathRejection>) -> Result<PeerId, Refusal> {
    let Path(text) = path.map_err(|e| Refusal::bad(e.body_text()))?;
    PeerId::from_str(&text).map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        Refusal::bad(format!("{shown:?} is no peer id")).hint("give a UUID; the buddies' stand in /v1/buddies")
    })
}

/// JSON whatever the content type says, so that `curl -d` will do.
fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|e| Refusal::new(e.status(), e.body_text()))?;
    serde_json::from_slice(&body).map_err(|e| Refusal::bad(format!("the body is not what is expected: {e}")))
}

#[cfg(test)]
mod tests;
