//! Debian's `prometheus`, with a configuration as an operator would write it but quicker, in a folder of its own.

use std::{fs, net::SocketAddr, process::Stdio};

use pams_shared::control::target;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    harness::{eventually, free_port, until},
    http::{json, try_get},
    pams::Pams,
};

/// Killed when dropped.
pub struct Prometheus {
    _child: Child,
    _dir: TempDir,
    at: SocketAddr,
}

impl Prometheus {
    /// Scrapes the server, and the agents that the server tells of.
    pub async fn start(pams: &Pams) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("prometheus.yml");
        let server = pams.http;
        let text = format!(
            r#"
global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}
scrape_configs:
  - job_name: pams-server
    static_configs: [{{ targets: ["{server}"] }}]
  - job_name: pams-agents
    http_sd_configs: [{{ url: "http://{server}/api/v1/sd/prometheus", refresh_interval: 1s }}]
    relabel_configs:
      - {{ source_labels: [__meta_pams_peer_id], target_label: peer }}
      - {{ source_labels: [__meta_pams_name], target_label: peer_name }}
"#
        );
        fs::write(&config, text).unwrap();
        // It takes no port 0.
        let at = free_port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={at}"));
        command.stdout(Stdio::null()).stderr(fs::File::create(dir.path().join("log")).unwrap()).kill_on_drop(true);
        let child = command.spawn().expect("prometheus is installed");
        until("prometheus is ready", async || try_get(at, "/-/ready").await.is_some_and(|(status, _)| status == 200))
            .await;
        Self { _child: child, _dir: dir, at }
    }

    /// Asks until there are so many series and all have such values; gives them, as labels and value.
    pub async fn until(&self, query: &str, series: usize, wanted: impl Fn(&str) -> bool) -> Vec<(Value, String)> {
        let path = target(&["api", "v1", "query"], &[("query", query)]);
        eventually(query, async || {
            let found = series_of(&json(self.at, &path).await);
            (found.len() == series && found.iter().all(|(_, value)| wanted(value))).then_some(found)
        })
        .await
    }
}

fn series_of(answer: &Value) -> Vec<(Value, String)> {
    let result = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    result.iter().map(|r| (r["metric"].clone(), r["value"][1].as_str().unwrap().to_owned())).collect()
}
