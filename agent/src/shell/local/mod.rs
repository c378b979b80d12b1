//! HTTP on this host: the control socket, through which people and programs ask the agent and tell it things, and the
//! listener that Prometheus scrapes. Both are routers over [`Handle`] and what it shows; nothing is kept here.
//!
//! Every error is a [`Problem`](pams_shared::control::Problem): `{"error", "hint", "reason"}`, the reason from the closed list of
//! [`Reason`] where a peer could not be reached.

mod answers;
#[cfg(test)]
pub mod front;

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, Request, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use pams_shared::{
    clock::Clock,
    config::Changes,
    expo,
    id::PeerId,
    moment::Moment,
    record::{Reason, Record, Why},
    reload::Standing,
    serve::{Bounds, Caller, Refusal},
    status::{NOTE_BYTES_MAX, Presence, Status},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;

pub use answers::{BuddiesAnswer, FetchedAnswer, StatusAnswer, Tally};

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
        Router::new()
            .route("/v1/status", get(status))
            .route("/v1/presence", get(presence).put(publish))
            .route("/v1/buddies", get(buddies))
            .route("/v1/peers/{id}", get(fetch))
            .route("/v1/ping/{id}", post(ping))
            .route("/v1/reload", post(reload))
            .route("/v1/metrics", get(metrics))
            .fallback(unknown)
            .method_not_allowed_fallback(not_allowed)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(from_fn(in_time))
            .with_state(self)
    }

    /// What the HTTP listener serves: nothing that changes anything.
    pub fn http(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .fallback(unknown)
            .method_not_allowed_fallback(not_allowed)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(from_fn(in_time))
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

async fn status(State(local): State<Local>) -> Result<Json<StatusAnswer>, Refusal> {
    let view = local.view().await?;
    Ok(Json(StatusAnswer::new(view, local.reloading.standing(), Clock.now().since(local.started))))
}

async fn presence(State(local): State<Local>) -> Result<Json<Presence>, Refusal> {
    Ok(Json(local.view().await?.presence))
}

/// What `PUT /v1/presence` takes; without a note, or with an empty one, there is none any more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    status: Status,
    #[serde(default)]
    note: Option<String>,
}

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

async fn buddies(State(local): State<Local>) -> Result<Json<BuddiesAnswer>, Refusal> {
    Ok(Json(BuddiesAnswer { buddies: local.view().await?.buddies }))
}

async fn fetch(
    State(local): State<Local>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<FetchedAnswer>, Refusal> {
    let fetched = local.handle.fetch(peer(path)?).await?.map_err(unreached)?;
    Ok(Json(fetched.into()))
}

/// `POST /v1/ping/{id}` has no options yet.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PingOptions {}

async fn ping(
    State(local): State<Local>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Record>, Refusal> {
    let peer = peer(path)?;
    if !matches!(&body, Ok(bytes) if bytes.is_empty()) {
        let PingOptions {} = read(body)?;
    }
    caller.log("a ping");
    Ok(Json(local.handle.ping(peer).await?.map_err(unreached)?))
}

/// Reads the configuration again; takes no body.
async fn reload(State(local): State<Local>, Extension(caller): Extension<Caller>) -> Result<Json<Changes>, Refusal> {
    caller.log("the configuration to be read again");
    Ok(Json(local.reloading.reload().await?))
}

async fn metrics(State(local): State<Local>) -> Result<Response, Refusal> {
    let view = local.view().await?;
    let Standing { successful, success_ms, .. } = local.reloading.standing();
    let extras = Extras { reload_successful: successful, reload_success_ms: success_ms, ..(local.extras)() };
    let text = local.metrics.render(&view, &extras);
    Ok(([(CONTENT_TYPE, expo::CONTENT_TYPE)], text).into_response())
}

/// The loop turns.
async fn healthz(State(local): State<Local>) -> Result<&'static str, Refusal> {
    local.view().await?;
    Ok("ok\n")
}

/// The agent is of use: it has a home, or a connection with a peer, which go on without one.
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
