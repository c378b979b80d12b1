//! Against the real Prometheus: its `promtool` checks what we expose, and the daemon itself finds the agents at the server,
//! scrapes all of them and answers queries. Both programs are in Debian's package `prometheus`. And against Schemathesis, of
//! PyPI, which tries what the descriptions promise. Run with `--features real`.

mod described;
#[path = "../system/harness.rs"]
#[allow(dead_code)] // Each suite uses its part.
mod harness;
#[path = "../system/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../system/pams.rs"]
#[allow(dead_code)]
mod pams;
#[path = "../system/peer.rs"]
#[allow(dead_code)]
mod peer;
mod prometheus;

use std::{net::SocketAddr, process::Stdio, time::Duration};

use pams_shared::status::Liveness;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    harness::until,
    http::get,
    pams::Pams,
    peer::{Peer, Seat},
    prometheus::Prometheus,
};

/// A server and two agents that watch each other and have something to show, at ports of their own choice.
async fn cluster(pams: &Pams) -> [Peer; 2] {
    let token = pams.open_token().await;
    let seat = |name: &str| Seat::new(pams.dir.path(), name).with(|c| c.ping.deadline = Duration::from_secs(1));
    let (a, b) = (seat("alpha"), seat("beta"));
    let agents =
        [a.clone().watches(&[&b]).start(Some(&token)).await, b.clone().watches(&[&a]).start(Some(&token)).await];
    agents[0].until("live", b.peer, |buddy| buddy.liveness == Some(Liveness::Live)).await;
    agents[1].until("live", a.peer, |buddy| buddy.liveness == Some(Liveness::Live)).await;
    for agent in &agents {
        pams.until("pings at home", agent.peer, |p| p["records"].as_array().is_some_and(|r| r.len() >= 3)).await;
    }
    agents
}

async fn promtool_likes(at: SocketAddr) {
    let (_, text) = get(at, "/metrics").await;
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().expect("promtool is installed");
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.is_empty(), "{told}\n{text}");
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_of_live_metrics() {
    let pams = Pams::with(&["PAMS_SERVER_METRICS_PER_PEER_MAX=10"]).await;
    let agents = cluster(&pams).await;
    promtool_likes(pams.http).await;
    for agent in &agents {
        promtool_likes(agent.running.ready.http.unwrap()).await;
    }
}

#[tokio::test]
async fn prometheus_finds_the_agents_at_the_server_and_scrapes_them_all() {
    let pams = Pams::with(&["PAMS_SERVER_PACE_GRACE=1s"]).await;
    let agents = cluster(&pams).await;
    until("discovery", async || get(pams.http, "/api/v1/sd/prometheus").await.0 == 200).await;
    let prometheus = Prometheus::start(&pams).await;
    let one = |value: &str| value == "1";
    prometheus.until("up{job=\"pams-server\"}", 1, one).await;
    let up = prometheus.until("up{job=\"pams-agents\"}", 2, one).await;
    for agent in &agents {
        let id = agent.peer.to_string();
        let (labels, _) = up.iter().find(|(labels, _)| labels["peer"] == id).expect("a target for each");
        assert_eq!(labels["instance"], agent.running.ready.http.unwrap().to_string(), "{labels}");
    }
    let built = prometheus.until("pams_agent_build_info", 2, one).await;
    let mut names: Vec<_> = built.iter().map(|(labels, _)| labels["peer_name"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["alpha", "beta"]);

    prometheus.until("pams_server_peers{liveness=\"live\"}", 1, |value| value == "2").await;
    prometheus.until("sum by (job) (pams_agent_buddy_up)", 1, |value| value == "2").await;
    let positive = |value: &str| value.parse::<f64>().is_ok_and(|v| v > 0.0);
    prometheus
        .until("sum by (peer_name) (rate(pams_agent_transactions_closed_total{status=\"good\"}[5s]))", 2, positive)
        .await;
    let p99 = "histogram_quantile(0.99, sum by (le) (rate(pams_agent_stage_seconds_bucket{stage=\"network\"}[5s])))";
    prometheus.until(p99, 1, positive).await;
    // The ledger, as a rule of an operator would ask it: of each scrape, and so of all; both have pings, reports and notifies.
    let lost = "sum by (peer_name, kind) (pams_agent_transactions_opened_total) \
                - sum by (peer_name, kind) (pams_agent_transactions_closed_total) \
                - sum by (peer_name, kind) (pams_agent_transactions_in_flight)";
    prometheus.until(lost, 6, |value| value == "0").await;

    let [_alpha, beta] = agents;
    let peer = beta.peer;
    drop(beta.stop().await);
    pams.until_liveness(peer, "left").await;
    prometheus.until("up{job=\"pams-agents\"}", 1, one).await;
}
