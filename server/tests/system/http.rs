//! A client of HTTP/1.1 for one request at a time, and what it reads.

use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, header::HOST};
use hyper_util::rt::TokioIo;
use pams_shared::{
    catalogue::{Kind, Metric},
    expo::{self, Exposition},
};
use serde_json::Value;
use tokio::net::TcpStream;

/// The status and the body; `None` if nobody answers.
pub async fn try_get(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let stream = TcpStream::connect(at).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new()).unwrap();
    let exchange = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8(body.to_vec()).unwrap()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

pub async fn get(at: SocketAddr, path: &str) -> (u16, String) {
    try_get(at, path).await.unwrap_or_else(|| panic!("{at}{path} does not answer"))
}

pub async fn json(at: SocketAddr, path: &str) -> Value {
    let (status, body) = get(at, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

pub async fn scrape(at: SocketAddr) -> Exposition {
    let (status, text) = get(at, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    expo::parse(&text).unwrap_or_else(|e| panic!("{e} in\n{text}"))
}

/// Every kind's opened equals closed plus in flight; gives how many were opened in all. `prefix` is `pams_agent` or
/// `pams_server`.
pub fn assert_conserved(scraped: &Exposition, prefix: &str) -> f64 {
    let opened: Vec<_> =
        scraped.samples.iter().filter(|s| s.name == format!("{prefix}_transactions_opened_total")).collect();
    assert!(opened.len() >= 2, "the built-in kinds are there from the start");
    for sample in &opened {
        let kind = [("kind", sample.labels["kind"].as_str())];
        let closed = scraped.sum(&format!("{prefix}_transactions_closed_total"), &kind).unwrap();
        let in_flight = scraped.value(&format!("{prefix}_transactions_in_flight"), &kind).unwrap();
        assert_eq!(sample.value, closed + in_flight, "{prefix} {kind:?}");
    }
    opened.iter().map(|s| s.value).sum()
}

/// No counter fell or vanished since an earlier scrape of the same process.
pub fn assert_grown(before: &Exposition, after: &Exposition) {
    let counts = |e: &Exposition| -> BTreeMap<(String, Vec<(String, String)>), f64> {
        let counters = e.samples.iter().filter(|s| e.families[&s.family].kind != "gauge");
        counters.map(|s| ((s.name.clone(), s.labels.clone().into_iter().collect()), s.value)).collect()
    };
    let after = counts(after);
    for (series, value) in counts(before) {
        let now = after.get(&series).unwrap_or_else(|| panic!("{series:?} vanished"));
        assert!(*now >= value, "{series:?} fell from {value} to {now}");
    }
}

/// Every family stands in the catalogue, with its kind.
pub fn assert_catalogued(scraped: &Exposition, catalogue: &[Metric]) {
    for (name, family) in &scraped.families {
        let metric = catalogue.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("{name} is in no catalogue"));
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(family.kind, kind, "{name}");
    }
}
