//! Debian's `prometheus`, with the configuration and the rules of this crate but quicker.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use pams_dashboards::prometheus::{Scrape, Timing, alerting_rules, configuration, recording_rules};
use pams_shared::control::target;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    harness::{free_port, within},
    http::{get, json, try_get},
};

/// For one thing, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of rates: six scrapes.
pub const RATE: &str = "3s";
/// As in production, by the second.
pub const QUICK: Timing = Timing { rate: RATE, events: "30s", never: "60s", baseline: "3s", patience: Some("1s") };

/// Killed when dropped.
pub struct Prometheus {
    _child: Child,
    _dir: TempDir,
    at: SocketAddr,
}

/// Series of an answer: labels, and values by time.
pub type Series = Vec<(Value, Vec<(f64, f64)>)>;

/// Looks again and again until there is an answer.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, async || holds().await.then_some(())).await;
}

impl Prometheus {
    /// Asks the servers at these addresses whom to scrape.
    pub async fn start(servers: &[SocketAddr]) -> Self {
        for server in servers {
            until("discovery", async || get(*server, "/api/v1/sd/prometheus").await.0 == 200).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        let servers = servers.iter().map(ToString::to_string).collect();
        let scrape = Scrape { servers, interval: "500ms", refresh: "1s" };
        write("prometheus.yml", configuration(&scrape));
        write("rules.yml", recording_rules(QUICK));
        write("alerts.yml", alerting_rules(QUICK));
        // It takes no port 0.
        let at = free_port();
        let child = command(dir.path(), at).spawn().expect("prometheus is installed");
        until("prometheus is ready", async || try_get(at, "/-/ready").await.is_some_and(|(status, _)| status == 200))
            .await;
        Self { _child: child, _dir: dir, at }
    }

    /// Now.
    pub async fn ask(&self, query: &str) -> Series {
        series(&json(self.at, &target(&["api", "v1", "query"], &[("query", query)])).await)
    }

    /// From one unix time to another, in steps of so many seconds.
    pub async fn ask_range(&self, query: &str, from: f64, to: f64, step: f64) -> Series {
        let (from, to, step) = (from.to_string(), to.to_string(), step.to_string());
        let asked = [("query", query), ("start", &from), ("end", &to), ("step", &step)];
        series(&json(self.at, &target(&["api", "v1", "query_range"], &asked)).await)
    }

    /// Asks until something measured comes.
    pub async fn until_data(&self, what: &str, query: &str) -> Series {
        eventually(&format!("{what}: {query}"), async || {
            let found = self.ask(query).await;
            found.iter().any(|(_, points)| points.iter().any(|(_, v)| v.is_finite())).then_some(found)
        })
        .await
    }

    /// Any other page of its API.
    pub async fn page(&self, name: &str) -> Value {
        json(self.at, &target(&["api", "v1", name], &[])).await["data"].clone()
    }
}

fn command(dir: &Path, at: SocketAddr) -> Command {
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
    command.arg(format!("--web.listen-address={at}"));
    command.stdout(Stdio::null()).stderr(fs::File::create(dir.join("log")).unwrap()).kill_on_drop(true);
    command
}

fn series(answer: &Value) -> Series {
    let number = |v: &Value| v[1].as_str().unwrap().parse::<f64>().unwrap();
    let point = |v: &Value| (v[0].as_f64().unwrap(), number(v));
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let points = |r: &Value| match r["values"].as_array() {
        Some(values) => values.iter().map(point).collect(),
        None => vec![point(&r["value"])],
    };
    result.iter().map(|r| (r["metric"].clone(), points(r))).collect()
}
