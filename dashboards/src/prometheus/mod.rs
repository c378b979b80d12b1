//! What Prometheus needs: the scrape configuration, recording rules, alerts, and the tests of the alerts for
//! `promtool test rules`. The texts are YAML as a person would write it, with a comment where one helps.

mod alerts;
mod cases;
mod rules;

use std::fmt::Write;

pub use alerts::{Alert, alerts};
pub use cases::{Case, cases};
pub use rules::{Rule, rules};

/// The jobs of `prometheus.yml`. Alerts name them; dashboards take them from a variable.
pub const SERVER_JOB: &str = "pams-server";
pub const AGENT_JOB: &str = "pams-agents";
/// Labels that `prometheus.yml` gives the series of an agent.
pub const PEER_ID: &str = "peer_id";
pub const PEER_NAME: &str = "peer_name";

/// Where things are and how often they are looked at.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The HTTP address of the server.
    pub server: String,
    pub interval: &'static str,
    /// How often the list of agents is fetched.
    pub refresh: &'static str,
}

impl Default for Scrape {
    fn default() -> Self {
        Self { server: "127.0.0.1:7480".to_owned(), interval: "15s", refresh: "30s" }
    }
}

/// Windows of rules and alerts; tests take shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Of rates: at least four scrapes.
    pub rate: &'static str,
    /// Of things that happen now and then.
    pub events: &'static str,
    /// Of what should never happen.
    pub never: &'static str,
    /// How long the mean is that the present is compared with, and how long ago it ended.
    pub baseline: &'static str,
    /// In place of each alert's own patience.
    pub patience: Option<&'static str>,
}

impl Default for Timing {
    fn default() -> Self {
        Self { rate: "5m", events: "15m", never: "1h", baseline: "1h", patience: None }
    }
}

const MADE: &str = "# Made by `cargo run -p pams-dashboards -- --out DIR`; a change here is lost.\n";

/// `prometheus.yml`.
pub fn configuration(scrape: &Scrape) -> String {
    let Scrape { server, interval, refresh } = scrape;
    format!(
        r#"# Scrapes a PAMS server and all agents that it knows of.
{MADE}global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
  evaluation_interval: {interval}

rule_files:
  - rules.yml
  - alerts.yml

scrape_configs:
  # The server's HTTP address (`http` in its configuration). The metrics tell who talks to whom: it is loopback by default.
  - job_name: {SERVER_JOB}
    static_configs:
      - targets: ["{server}"]

  # Every agent that the server knows of and that has not left; `{PEER_ID}` and `{PEER_NAME}` say whose series they are.
  # Agents answer on loopback only unless `http` of theirs says otherwise.
  - job_name: {AGENT_JOB}
    http_sd_configs:
      - url: "http://{server}/api/v1/sd/prometheus"
        refresh_interval: {refresh}
    relabel_configs:
      - source_labels: [__meta_pams_peer_id]
        target_label: {PEER_ID}
      - source_labels: [__meta_pams_name]
        target_label: {PEER_NAME}
"#
    )
}

/// `rules.yml`.
pub fn recording_rules(timing: Timing) -> String {
    let mut text = format!(
        "# What alerts ask for, and what is asked for often, computed once.\n{MADE}groups:\n  - name: pams\n    rules:\n"
    );
    for Rule { name, about, expr } in rules(timing) {
        let _ = write!(text, "      # {about}\n      - record: {name}\n        expr: {expr}\n");
    }
    text
}

/// `alerts.yml`.
pub fn alerting_rules(timing: Timing) -> String {
    let mut text = format!(
        "# Few alerts, each about something that somebody has to do. `runbook`: what to look at, and what to do.\n{MADE}\
         groups:\n  - name: pams-alerts\n    rules:\n"
    );
    for alert in alerts(timing) {
        let patience = timing.patience.unwrap_or(alert.patience);
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {patience}\n        labels:\n          severity: {}\n        \
             annotations:\n",
            alert.name,
            alert.expr(),
            alert.severity,
        );
        let _ = writeln!(text, "          summary: {}", quoted(alert.summary));
        let _ = writeln!(text, "          description: {}", quoted(alert.description));
        let _ = writeln!(text, "          runbook: |");
        for line in alert.runbook {
            let _ = writeln!(text, "            {line}");
        }
        let _ = writeln!(text, "          dashboard: {}", alert.dashboard);
    }
    text
}

/// `tests/alerts.yml`, for `promtool test rules`.
pub fn alert_tests() -> String {
    let mut text = format!(
        "# promtool test rules alerts.yml\n{MADE}rule_files:\n  - ../rules.yml\n  - ../alerts.yml\nevaluation_interval: 1m\ntests:\n"
    );
    for Case { alert, about, series, at, fires } in cases() {
        let _ =
            write!(text, "  - name: {}\n    interval: 1m\n    input_series:\n", quoted(&format!("{alert}: {about}")));
        for (series, values) in series {
            let _ = write!(text, "      - series: {}\n        values: {}\n", single_quoted(&series), quoted(&values));
        }
        let asked = format!("count by (alertname) (ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})");
        let _ =
            write!(text, "    promql_expr_test:\n      - expr: {}\n        eval_time: {at}\n", single_quoted(&asked));
        if fires {
            let labels = single_quoted(&format!("{{alertname=\"{alert}\"}}"));
            let _ = write!(text, "        exp_samples:\n          - labels: {labels}\n            value: 1\n");
        } else {
            text.push_str("        exp_samples: []\n");
        }
    }
    text
}

/// A scalar in double quotes: JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A scalar in single quotes, readable where there are double quotes in it.
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
