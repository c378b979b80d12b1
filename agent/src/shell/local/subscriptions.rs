//! Subscriptions on the control socket: whom we subscribe to, who subscribes to us, and what is told, as it is told.
//!
//! `/v1/events` answers with lines of JSON without an end. A client that reads too slowly misses some, and the next line says
//! how many; nobody waits for it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Extension, Json,
    body::{Body, Bytes, HttpBody},
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use pams_shared::{
    id::PeerId,
    serve::{Caller, Refusal},
};
use serde::Deserialize;

use super::{
    EventLine, Local, PeerPath, SubscribedAnswer, SubscribersAnswer, SubscriptionsAnswer, UnsubscribedAnswer, peer,
};
use crate::shell::events::{Events, Heard, LISTENERS_MAX};

/// Whose presence is wanted here
///
/// With what was told last, and who tells.
#[utoipa::path(get, path = "/v1/subscriptions", tag = "subscriptions",
    responses((status = 200, description = "All subscriptions", body = SubscriptionsAnswer)))]
pub async fn list(State(local): State<Local>) -> Result<Json<SubscriptionsAnswer>, Refusal> {
    Ok(Json(SubscriptionsAnswer { subscriptions: local.view().await?.subscriptions }))
}

/// Subscribe to a peer
///
/// Until the agent ends: each change of its presence is told at `/v1/events`, by the peer itself and by the home, also while
/// the peer is out of contact. Takes no body.
#[utoipa::path(put, path = "/v1/subscriptions/{id}", tag = "subscriptions", params(PeerPath),
    responses(
        (status = 200, description = "It is subscribed to", body = SubscribedAnswer),
        (status = 400, description = "The id is none"),
        (status = 409, description = "A bound is reached, or it is the agent's own peer"),
    ))]
pub async fn begin(
    State(local): State<Local>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SubscribedAnswer>, Refusal> {
    let peer = peer(path)?;
    caller.log("a subscription");
    let refused = |why: pams_shared::record::Why| {
        Refusal::new(StatusCode::CONFLICT, why.text).hint("/v1/subscriptions lists what there is").reason("refused")
    };
    let new = local.handle.subscribe(peer).await?.map_err(refused)?;
    let subscription = local.view().await?.subscriptions.into_iter().find(|s| s.peer == peer);
    let subscription = subscription.ok_or_else(|| Refusal::unavailable("the agent is about to stop"))?;
    Ok(Json(SubscribedAnswer { new, subscription }))
}

/// End a subscription
///
/// One of the configuration is back with the next start, or when the configuration is read again.
#[utoipa::path(delete, path = "/v1/subscriptions/{id}", tag = "subscriptions", params(PeerPath),
    responses(
        (status = 200, description = "It is not subscribed to any more", body = UnsubscribedAnswer),
        (status = 400, description = "The id is none"),
    ))]
pub async fn end(
    State(local): State<Local>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<UnsubscribedAnswer>, Refusal> {
    let peer = peer(path)?;
    caller.log("the end of a subscription");
    Ok(Json(UnsubscribedAnswer { ended: local.handle.unsubscribe(peer).await? }))
}

/// Who is told of our presence
///
/// Watcher information of RFC 2778: when each subscriber acknowledged, and between which bounds after publishing it was told.
#[utoipa::path(get, path = "/v1/subscribers", tag = "subscriptions",
    responses((status = 200, description = "All subscribers", body = SubscribersAnswer)))]
pub async fn subscribers(State(local): State<Local>) -> Result<Json<SubscribersAnswer>, Refusal> {
    Ok(Json(SubscribersAnswer { subscribers: local.view().await?.subscribers }))
}

/// What `GET /v1/events` takes.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only what is told of this peer.
    peer: Option<PeerId>,
}

/// What subscriptions tell, as it is told
///
/// Lines of JSON without an end. A client that reads too slowly misses some, and the next line says how many.
#[utoipa::path(get, path = "/v1/events", tag = "subscriptions", params(Filter),
    responses(
        (status = 200, description = "One event a line", body = EventLine, content_type = "application/x-ndjson"),
        (status = 400, description = "The query cannot be used"),
    ))]
pub async fn events(
    State(local): State<Local>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Filter { peer }) = query.map_err(|e| Refusal::bad(e.body_text()))?;
    let events = local.handle.listen(peer).await?.ok_or_else(|| {
        let error = format!("{LISTENERS_MAX} clients listen already");
        Refusal::unavailable(error).hint("end one of them, or try again later")
    })?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines(events).boxed())).into_response())
}

/// A body that is written as things happen.
struct Lines(Events);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        self.0.poll_next(cx).map(|heard| Some(Ok(hyper::body::Frame::data(line(heard?)))))
    }
}

fn line(heard: Heard) -> Bytes {
    let line = match heard {
        Heard::Told(told) => EventLine::Told(told),
        Heard::Missed(missed) => EventLine::Missed(missed),
    };
    // Such a thing can always be written; an empty line would be no event.
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
