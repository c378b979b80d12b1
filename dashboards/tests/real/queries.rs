//! Every query of every panel, variable, rule and alert finds data in a real run, asked of the real Prometheus.

use std::collections::BTreeSet;

use pams_agent::metrics::catalogue as a;
use pams_dashboards::{
    grafana::{Variable, dashboards},
    prometheus::{Rule, alerts, rules},
    query::of,
};
use pams_server::metrics::catalogue as s;
use pams_shared::catalogue::Metric;
use serde_json::Value;

use crate::{
    cluster::{Cluster, DOOMED, PEERS, SLOW},
    prometheus::{Prometheus, QUICK, RATE, Series, eventually, until},
};

/// Panels without data in this run, and why.
const EMPTY: &[(&str, &str)] =
    &[("Applications' transactions, p95", "no application that defines transactions of its own is in this run")];

/// What has to go on in this run, so that panels do not show nothing but zeros.
const GOES_ON: &[&Metric] = &[
    &a::CSV_WRITTEN,
    &a::HOME_MOVES,
    &a::SUBSCRIBERS,
    &s::ACKS,
    &s::LINKS,
    &s::LOT_BYTES,
    &s::MOVED,
    &s::NOTIFIES,
    &s::ROSTERS_PUSHED,
    &s::ROSTER_EDGES,
    &s::SHARED,
    &s::STREAMS,
    &s::SUBSCRIPTIONS,
];

/// With the variables of a dashboard filled in.
fn filled(query: &str, peer: &str) -> String {
    filled_with(query, peer, RATE, "60s")
}

/// The same with another window of rates, and another time that is shown.
pub fn filled_with(query: &str, peer: &str, rate: &str, shown: &str) -> String {
    let query = query.replace("$__rate_interval", rate).replace("$__range", shown).replace("$peer", peer);
    query.replace("$job", ".+").replace("$instance", ".+")
}

fn label(labels: &Value, name: &str) -> String {
    labels[name].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_query_returns_data() {
    let mut cluster = Cluster::start().await;
    let prometheus = Prometheus::start(&cluster.http()).await;
    // All are scraped while they live, so that what is known of the dead was measured; each once, although three tell of it.
    until("all targets are up", async || value(&prometheus, "sum(up)").await == Some(11.0)).await;
    servers_are_not_counted_twice(&prometheus).await;
    cluster.kill().await;
    the_killed_are_told_of(&prometheus).await;
    cluster.lose_a_server().await;
    let slow = cluster.agents.iter().find(|a| a.running.ready.peer == peer_of(&cluster, SLOW)).unwrap();
    let peer = slow.peer.to_string();

    let mut asked = 0;
    for dashboard in dashboards() {
        for variable in &dashboard.variables {
            variable_finds_values(&prometheus, variable).await;
        }
        for panel in dashboard.panels().filter(|p| EMPTY.iter().all(|(title, _)| *title != p.title)) {
            for target in &panel.targets {
                let what = format!("{}: {}: {}", dashboard.uid, panel.title, target.legend);
                prometheus.until_data(&what, &filled(&target.expr.to_string(), &peer)).await;
                asked += 1;
            }
        }
    }
    for Rule { name, .. } in rules(QUICK) {
        prometheus.until_data("recorded", name).await;
        asked += 1;
    }
    for alert in alerts(QUICK) {
        // What is watched is there while nothing is wrong; that the alert fires then is for promtool.
        prometheus.until_data(alert.name, &alert.value.to_string()).await;
        asked += 1;
    }
    for metric in GOES_ON {
        prometheus.until_data("something goes on", &of(metric).now().sum(&[]).where_(">", 0).to_string()).await;
    }
    nothing_is_lost_by_a_move(&prometheus).await;
    println!("{asked} queries returned data; {} panel(s) without: {EMPTY:?}", EMPTY.len());
    the_lost_server_is_told_of(&prometheus).await;
    all_rules_are_well(&prometheus).await;
}

/// Agents have gone from one home to another: each server's ledger is conserved all the same.
async fn nothing_is_lost_by_a_move(prometheus: &Prometheus) {
    panels_show(
        prometheus,
        &[("pams-overview", "Ledger off by", "off by", 0.0), ("pams-overview", "Peers live", "live", 5.0)],
    )
    .await;
}

async fn value(prometheus: &Prometheus, query: &str) -> Option<f64> {
    prometheus.ask(query).await.first().map(|(_, points)| points[0].1)
}

/// Where each server tells a part, panels add up; where each tells of the whole, they do not.
async fn servers_are_not_counted_twice(prometheus: &Prometheus) {
    let pairs = ((PEERS - 1) * PEERS) as f64;
    let each = of(&s::PEER_UP).now().counted(&[]).to_string();
    until("each peer is shown by its home alone", async || value(prometheus, &each).await == Some(PEERS as f64)).await;
    let expected = [
        ("pams-overview", "Peers live", "live", PEERS as f64),
        ("pams-server", "Who watches whom", "pairs", pairs),
        ("pams-cluster", "Servers that answer", "servers", 3.0),
        ("pams-cluster", "Connections missing", "missing", 0.0),
        ("pams-cluster", "Views apart by", "apart by", 0.0),
    ];
    panels_show(prometheus, &expected).await;
}

/// Each a dashboard, a panel, the legend of a query, and its value.
async fn panels_show(prometheus: &Prometheus, expected: &[(&str, &str, &str, f64)]) {
    for (uid, title, legend, expected) in expected {
        let all = dashboards();
        let dashboard = all.iter().find(|d| d.uid == *uid).unwrap();
        let panel = dashboard.panels().find(|p| p.title == *title).unwrap();
        let target = panel.targets.iter().find(|t| t.legend == *legend).unwrap();
        let query = filled(&target.expr.to_string(), "");
        until(&format!("{title}: {expected}"), async || value(prometheus, &query).await == Some(*expected)).await;
    }
}

fn peer_of(cluster: &Cluster, name: &str) -> pams_shared::id::PeerId {
    let index = ["ams", "ber", SLOW].iter().position(|n| *n == name).unwrap();
    cluster.agents[index].peer
}

/// What Grafana would offer; the dead are still offered by their name.
async fn variable_finds_values(prometheus: &Prometheus, variable: &Variable) {
    let (function, inner) = variable.query.strip_suffix(')').unwrap().split_once('(').unwrap();
    let (query, wanted) = match function {
        "label_values" => inner.rsplit_once(", ").unwrap(),
        _ => (inner, "peer_id"),
    };
    let found: Series = prometheus.until_data(variable.name, &filled(query, "")).await;
    assert!(found.iter().all(|(labels, _)| !label(labels, wanted).is_empty()), "{found:?}");
    if variable.name == "peer" {
        let names: BTreeSet<_> = found.iter().map(|(labels, _)| label(labels, "peer_name")).collect();
        assert!(DOOMED.iter().all(|name| names.contains(*name)) && names.len() == PEERS, "{names:?}");
    }
}

/// What an alert says that fires.
async fn alarm(prometheus: &Prometheus, name: &str) -> (String, String) {
    let alert = eventually(&format!("{name} fires"), async || {
        let page = prometheus.page("alerts").await;
        assert!(!page.to_string().contains("error expanding"), "{page}");
        let all = page["alerts"].as_array().unwrap();
        all.iter().find(|a| a["labels"]["alertname"] == name && a["state"] == "firing").cloned()
    })
    .await;
    (label(&alert["annotations"], "summary"), label(&alert["annotations"], "description"))
}

/// Of three servers one is lost: what the others say, and what Prometheus sees itself.
async fn the_lost_server_is_told_of(prometheus: &Prometheus) {
    let (_, description) = alarm(prometheus, "PamsMemberDown").await;
    assert!(description.contains("asked to try: 1. Their agents"), "{description}");
    let (summary, _) = alarm(prometheus, "PamsServerDown").await;
    assert!(summary.starts_with("The PAMS server 127.0.0.1:"), "{summary}");
}

/// Three of eight are gone: an alert of the real Prometheus says so, in words.
async fn the_killed_are_told_of(prometheus: &Prometheus) {
    let (_, description) = alarm(prometheus, "PamsManyPeersGone").await;
    assert!(description.contains("% of the peers are gone"), "{description}");
}

async fn all_rules_are_well(prometheus: &Prometheus) {
    let page = prometheus.page("rules").await;
    let groups = page["groups"].as_array().unwrap();
    let all: Vec<&Value> = groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
    assert_eq!(all.len(), rules(QUICK).len() + alerts(QUICK).len());
    for rule in all {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}
