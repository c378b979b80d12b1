//! The page at `/`: what this server is, how many peers are here, and what can be asked.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap, response::Response};
use pams_shared::{
    landing::{Landing, Number, Place},
    serve::Refusal,
};

use super::Sources;

const PLACES: [(&str, &str); 14] = [
    ("/api/v1/peers", "Peers by page: ?limit= &after= &liveness= &status= &overlay= &name="),
    ("/api/v1/peers/{id}", "One peer: its watchers' views, ledger, recent records, events"),
    ("/api/v1/peers/{id}/probe", "POST: how is it right now? ?within=; here only with probe.http = true"),
    ("/api/v1/overlays", "Overlays, and how many peers are in which state"),
    ("/api/v1/events", "Who came and went, the newest last: ?limit="),
    ("/api/v1/server", "This server"),
    ("/api/v1/cluster", "All servers: how this one sees each, and how old what each shares is"),
    ("/api/v1/ledger", "All transactions of all peers of all servers, by kind"),
    ("/api/v1/sd/prometheus", "Where Prometheus finds the agents, for http_sd_configs"),
    ("/api/v1/sd/servers", "Where Prometheus finds the servers"),
    ("/metrics", "This server's metrics, for Prometheus"),
    ("/healthz", "200 while the server works"),
    ("/readyz", "200 once the list of peers is complete"),
    ("/openapi.json", "All of this for programs: OpenAPI 3.1"),
];

/// What is where
///
/// A page for people, with the number of peers by liveness; the same as JSON for those who accept that and not HTML.
#[utoipa::path(get, path = "/", tag = "about",
    responses((status = 200, description = "The page", content(
        (String = "text/html; charset=utf-8"),
        (Landing = "application/json"),
    ))))]
pub async fn index(State(sources): State<Arc<Sources>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let (summary, ready) = sources.handle.look(|pams, now| (pams.summary(now), pams.ready(now))).await?;
    let mut numbers: Vec<_> = summary.peers.iter().map(|(liveness, n)| Number::new(liveness.as_str(), n)).collect();
    numbers.push(Number::new("sessions", summary.sessions));
    numbers.push(match (ready, summary.draining) {
        (true, _) => Number::new("list of peers", "complete").good(true),
        (false, true) => Number::new("server", "stopping").good(false),
        (false, false) => Number::new("list of peers", "filling"),
    });
    let landing = Landing {
        program: "pams-server",
        version: env!("CARGO_PKG_VERSION"),
        about: "Knows which peers of a peer-to-peer network are here and how they are doing.",
        name: sources.about.name.clone(),
        id: sources.about.id.to_string(),
        numbers,
        places: PLACES.map(|(path, what)| Place { path, what }).into(),
    };
    Ok(landing.answer(&headers))
}
