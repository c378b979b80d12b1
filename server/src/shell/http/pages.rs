//! Lists that may be long: written piece by piece, each piece asked of the loop when the client has taken the one before,
//! so that neither the loop nor the memory sees the whole.
//!
//! Prometheus' HTTP service discovery is such a list: every peer that has not left. The address of a target is that of
//! the agent's QUIC socket, as agents do not tell the port of their metrics; agents that all use one port are relabelled:
//!
//! ```yaml
//! scrape_configs:
//!   - job_name: pams-agents
//!     http_sd_configs: [{ url: "http://127.0.0.1:7480/api/v1/sd/prometheus" }]
//!     relabel_configs:
//!       - { source_labels: [__address__], regex: "(.+):\\d+", replacement: "$1:7481", target_label: __address__ }
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
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use pams_shared::{id::PeerId, serve::Refusal};

use super::{
    Sources,
    api::{Asked, Nothing},
};
use crate::{core::Pams, shell::handle::Ended, shell::handle::Handle};

/// Targets that one look at the engine copies: well under a millisecond.
const PIECE: usize = 250;

/// Targets for Prometheus. Prometheus keeps the list that it has when it gets an error, which is better than a part of
/// the list: hence 503 while agents may still be coming back after our start, and a broken answer if we stop meanwhile.
pub async fn sd(State(sources): State<Arc<Sources>>, _: Asked<Nothing>) -> Result<Response, Refusal> {
    let handle = sources.handle.clone();
    handle.look(|pams, now| readiness(pams, pams.ready_in(now))).await??;
    let body = Pages { page: Some(Box::pin(page(handle.clone(), None))), handle };
    Ok(([(CONTENT_TYPE, "application/json")], Body::new(body)).into_response())
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

type Page = Pin<Box<dyn Future<Output = Result<(Bytes, Option<PeerId>), Ended>> + Send>>;

/// A body whose pieces are asked for one after the other.
struct Pages {
    handle: Handle,
    /// `None`: all are sent.
    page: Option<Page>,
}

/// The piece after an id, and after which id to go on.
async fn page(handle: Handle, after: Option<PeerId>) -> Result<(Bytes, Option<PeerId>), Ended> {
    let (targets, next) = handle.look(move |pams, _| pams.sd_page(after, PIECE)).await?;
    let mut text = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        text.push(if i == 0 && after.is_none() { b'[' } else { b',' });
        // Strings and maps of strings, into memory: this cannot fail.
        let _ = serde_json::to_writer(&mut text, target);
    }
    if targets.is_empty() && after.is_none() {
        text.push(b'[');
    }
    if next.is_none() {
        text.push(b']');
    }
    Ok((text.into(), next))
}

impl hyper::body::Body for Pages {
    type Data = Bytes;
    type Error = Ended;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Ended>>> {
        let Some(current) = &mut self.page else { return Poll::Ready(None) };
        let result = ready!(current.as_mut().poll(context));
        let next = result.as_ref().ok().and_then(|(_, next)| *next);
        self.page = next.map(|after| Box::pin(page(self.handle.clone(), Some(after))) as Page);
        Poll::Ready(Some(result.map(|(text, _)| Frame::data(text))))
    }
}
