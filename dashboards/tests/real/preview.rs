//! Draws `preview.svg` from what the real Prometheus answers to the overview's own queries:
//!
//! ```sh
//! cargo test -p pams-dashboards --features real --test real -- --ignored the_preview_is_drawn
//! ```
//!
//! It takes two minutes, as long as the time that it shows.

use std::{fs, path::Path};

use pams_dashboards::{
    grafana::{Mode, Panel, Target, dashboards},
    preview::{Card, Line, Rows, Span, draw},
};
use serde_json::Value;

use crate::{
    cluster::Cluster,
    prometheus::{Prometheus, Series, until},
    queries::filled_with,
};

/// What of the overview is shown.
const SHOWN: &[(&str, &[&str])] = &[
    (
        "Is the network well?",
        &[
            "Servers down",
            "Agents down",
            "Peers here",
            "Peers live",
            "Peers gone",
            "Answered in time",
            "Round trip, p95",
            "Ledger off by",
        ],
    ),
    ("Who is here?", &["Peers by liveness", "Peers by status", "Comings and goings"]),
    ("How far apart are peers?", &["Round trips", "Round trip", "Farthest pairs"]),
    ("Loss and lateness", &["Never answered, or too late", "Why pings did not end well", "How late"]),
    (
        "Where does the time go?",
        &[
            "Mean round trip by stage",
            "p95 by stage",
            "Mean by stage, whole range",
            "Slowest to answer",
            "Longest queued",
        ],
    ),
];
const NOTE: &str = "preview drawn from query results, not a Grafana screenshot";
const STORY: &str = "Eight agents on an emulated network. cai takes 60 ms to answer, del has a shaky line; at 0:40 three are \
                     killed, at 1:20 the line of ams becomes 60 ms longer.";
/// Seconds before the kill, until the detour, and until the end.
const ACTS: [u64; 3] = [40, 40, 40];
const STEP: f64 = 2.0;
const RATE: &str = "6s";

#[tokio::test]
#[ignore = "it takes two minutes and writes preview.svg"]
async fn the_preview_is_drawn() {
    let mut cluster = Cluster::start().await;
    let prometheus = Prometheus::start(&cluster.http()).await;
    // Every rate has its window from the first point on.
    passed(&prometheus, 8).await;
    let from = now(&prometheus).await;
    passed(&prometheus, 8 + ACTS[0]).await;
    cluster.kill().await;
    passed(&prometheus, 8 + ACTS[0] + ACTS[1]).await;
    cluster.detour(60.0);
    passed(&prometheus, 8 + ACTS.iter().sum::<u64>()).await;
    let span = Span { from, to: now(&prometheus).await, step: STEP };

    let dashboard = &dashboards()[0];
    let mut rows: Rows<'_> = Vec::new();
    for (headline, titles) in SHOWN {
        let mut cards = Vec::new();
        for title in *titles {
            let panel = dashboard.panels().find(|p| p.title == *title).unwrap_or_else(|| panic!("no panel {title}"));
            cards.push(answered(&prometheus, panel, span).await);
        }
        rows.push((headline, cards));
    }
    let picture = draw(dashboard.title, STORY, NOTE, &rows, span);
    assert!(picture.len() < 150_000, "{} bytes", picture.len());
    fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("preview.svg"), picture).unwrap();
}

/// Until Prometheus has scraped for so long.
async fn passed(prometheus: &Prometheus, seconds: u64) {
    let query = "time() - min_over_time(timestamp(up{job=\"pams-server\"})[10m:500ms])";
    until("time goes by", async || {
        let found = prometheus.ask(query).await;
        found.first().is_some_and(|(_, points)| points[0].1 >= seconds as f64)
    })
    .await;
}

async fn now(prometheus: &Prometheus) -> f64 {
    prometheus.ask("vector(time())").await[0].1[0].1
}

async fn answered<'a>(prometheus: &Prometheus, panel: &'a Panel, span: Span) -> Card<'a> {
    let mut series = Vec::new();
    for (i, target) in panel.targets.iter().enumerate() {
        let shown = format!("{}s", (span.to - span.from) as u64);
        let query = filled_with(&target.expr.to_string(), "", RATE, &shown);
        let found = match target.mode {
            Mode::Range | Mode::Heatmap => prometheus.ask_range(&query, span.from, span.to, span.step).await,
            Mode::Instant | Mode::Table => prometheus.ask(&query).await,
        };
        series.extend(lines(i, target, found));
    }
    Card { panel, series }
}

fn lines(query: usize, target: &Target, found: Series) -> impl Iterator<Item = Line> {
    found.into_iter().map(move |(labels, points)| {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let labels: Vec<_> = labels.as_object().unwrap().iter().map(|(k, v)| (k.clone(), text(v))).collect();
        let fill = |name: String, (k, v): &(String, String)| name.replace(&format!("{{{{{k}}}}}"), v);
        Line { name: labels.iter().fold(target.legend.to_owned(), fill), query, labels, points }
    })
}
