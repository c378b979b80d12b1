//! The page at `/`: which peer this agent speaks for, how its home and buddies are, and what can be asked.

use axum::{extract::State, http::HeaderMap, response::Response};
use pams_shared::{
    landing::{Landing, Number, Place},
    serve::Refusal,
};

use super::{Local, Tally};

const PLACES: [(&str, &str); 4] = [
    ("/metrics", "Pings by stage, buddies, ledgers: for Prometheus"),
    ("/healthz", "200 while the agent works"),
    ("/readyz", "200 while it has a home or a connection with a peer"),
    ("/openapi.json", "These for programs: OpenAPI 3.1"),
];

/// What is where
///
/// A page for people, with the state of home and buddies; the same as JSON for those who accept that and not HTML.
#[utoipa::path(get, path = "/", tag = "about",
    responses((status = 200, description = "The page", content(
        (String = "text/html; charset=utf-8"),
        (Landing = "application/json"),
    ))))]
pub async fn index(State(local): State<Local>, headers: HeaderMap) -> Result<Response, Refusal> {
    let view = local.view().await?;
    let home = if view.home.connected { "connected" } else { "not reached" };
    let tally = Tally::of(&view.buddies);
    let mut numbers = vec![
        Number::new("status", view.presence.status.as_str()),
        Number::new("home", home).good(view.home.connected),
        Number::new("buddies", tally.total),
    ];
    let by_liveness = [("live", tally.live), ("overdue", tally.overdue), ("gone", tally.gone), ("left", tally.left)];
    numbers.extend(by_liveness.map(|(word, n)| Number::new(word, n)));
    if tally.unknown > 0 {
        numbers.push(Number::new("not judged yet", tally.unknown));
    }
    let landing = Landing {
        program: "pams-agent",
        version: env!("CARGO_PKG_VERSION"),
        about: "Runs beside a peer-to-peer application: tells its presence, watches its buddies, times every exchange.",
        name: view.name.clone(),
        id: view.peer.to_string(),
        numbers,
        places: PLACES.map(|(path, what)| Place { path, what }).into(),
    };
    Ok(landing.answer(&headers))
}
