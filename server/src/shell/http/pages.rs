//! Lists that may be long: written piece by piece, each piece asked of the loop when the client has taken the one before,
//! so that neither the loop nor the memory sees the whole.
//!
//! Prometheus' HTTP service discovery is such a list: every peer that has not left and whose metrics can be scraped. The
//! targets are the addresses of their `/metrics`, so nothing but the names is to be relabelled:
//!
//! ```yaml
//! scrape_configs:
//!   - job_name: pams-agents
//!     http_sd_configs: [{ url: "http://127.0.0.1:7480/api/v1/sd/prometheus" }]
//!     relabel_configs:
//!       - { source_labels: [__meta_pams_peer_id], target_label: peer }
//!       - { source_labels: [__meta_pams_name], target_label: peer_name }
//! ```

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use pams_shared::{id::PeerId, serve::Refusal};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Sources,
    api::{Asked, Nothing},
};
use crate::{
    core::{Pams, view::SdTarget},
    shell::handle::Ended,
    shell::handle::Handle,
};

/// Targets that one look at the engine copies: well under a millisecond.
const PIECE: usize = 250;

/// Targets for Prometheus
///
/// For `http_sd_configs`: where the agents of all peers that have not left can be scraped, in order of the peers' ids; never
/// a part of the list. Without further ado copy `__meta_pams_peer_id` and `__meta_pams_name` to labels of the series.
//
// Prometheus keeps the list that it has when it gets an error, which is better than a part of
// the list: hence 503 while agents may still be coming back after our start, and a broken answer if we stop meanwhile.
#[utoipa::path(get, path = "/api/v1/sd/prometheus", tag = "operation", params(SdQuery),
    responses((status = 200, description = "The targets", body = Vec<SdTarget>), (status = 400, description = "The query cannot be used")))]
pub async fn sd(State(sources): State<Arc<Sources>>, Asked(query): Asked<SdQuery>) -> Result<Response, Refusal> {
    let handle = sources.handle.clone();
    handle.look(|pams, now| readiness(pams, pams.ready_in(now))).await??;
    let start = Place { after: None, any: false, elsewhere: query.elsewhere };
    let body = Pages { page: Some(Box::pin(page(handle.clone(), start))), handle };
    Ok(([(CONTENT_TYPE, "application/json")], Body::new(body)).into_response())
}

/// Servers for Prometheus
///
/// As HTTP service discovery asks: every server of the cluster whose HTTP can be reached from this host.
#[utoipa::path(get, path = "/api/v1/sd/servers", tag = "operation",
    responses((status = 200, description = "Targets", body = Vec<SdTarget>), (status = 400, description = "The query cannot be used")))]
pub async fn sd_servers(
    State(sources): State<Arc<Sources>>,
    _: Asked<Nothing>,
) -> Result<Json<Vec<SdTarget>>, Refusal> {
    Ok(Json(sources.handle.look(Pams::sd_servers).await?))
}

/// Why a list of all peers cannot be given out yet or any more.
pub fn readiness(pams: &Pams, ready_in: Duration) -> Result<(), Refusal> {
    if pams.is_draining() {
        return Err(Ended.into());
    }
    if !ready_in.is_zero() {
        let error =
            format!("just started: agents have {} more to come back", humantime::format_duration(shown(ready_in)));
        return Err(Refusal::unavailable(error).hint("try again then; pace.grace sets this time").after(ready_in));
    }
    Ok(())
}

/// By the tenth of a second.
fn shown(d: Duration) -> Duration {
    Duration::from_millis(d.as_millis().div_ceil(100) as u64 * 100)
}

/// `?elsewhere=true`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SdQuery {
    /// Also agents that announced another address than the one they are seen at: each of them then chooses which host is
    /// scraped.
    #[serde(default)]
    #[param(required = false)]
    elsewhere: bool,
}

/// Where to go on with the list.
#[derive(Clone, Copy)]
struct Place {
    after: Option<PeerId>,
    /// Something was listed.
    any: bool,
    elsewhere: bool,
}

type Page = Pin<Box<dyn Future<Output = Result<(Bytes, Option<Place>), Ended>> + Send>>;

/// A body whose pieces are asked for one after the other.
struct Pages {
    handle: Handle,
    /// `None`: all are sent.
    page: Option<Page>,
}

/// The piece from a place on, and where to go on.
async fn page(handle: Handle, place: Place) -> Result<(Bytes, Option<Place>), Ended> {
    let Place { after, mut any, elsewhere } = place;
    let (targets, next) = handle.look(move |pams, now| pams.sd_page(now, after, PIECE, elsewhere)).await?;
    let mut text = Vec::new();
    if after.is_none() {
        text.push(b'[');
    }
    for target in &targets {
        if std::mem::replace(&mut any, true) {
            text.push(b',');
        }
        // Strings and maps of strings, into memory: this cannot fail.
        let _ = serde_json::to_writer(&mut text, target);
    }
    if next.is_none() {
        text.push(b']');
    }
    Ok((text.into(), next.map(|after| Place { after: Some(after), any, elsewhere })))
}

impl hyper::body::Body for Pages {
    type Data = Bytes;
    type Error = Ended;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let Some(current) = &mut self.page else { return Poll::Ready(None) };
        let result = ready!(current.as_mut().poll(context));
        let next = result.as_ref().ok().and_then(|(_, next)| *next);
        self.page = next.map(|place| Box::pin(page(self.handle.clone(), place)) as Page);
        Poll::Ready(Some(result.map(|(text, _)| Frame::data(text))))
    }
}
