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
/// Labels that `prometheus.yml` gives the series of an agent. Those of a server have its name.
pub const PEER_ID: &str = "peer_id";
pub const PEER_NAME: &str = "peer_name";
pub const SERVER_NAME: &str = "server_name";

/// Where things are and how often they are looked at.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The HTTP addresses of servers, one or more: each knows all of them, and all agents.
    pub servers: Vec<String>,
    pub interval: &'static str,
    /// How often the lists of servers and agents are fetched.
    pub refresh: &'static str,
}

impl Default for Scrape {
    fn default() -> Self {
        Self { servers: vec!["127.0.0.1:7480".to_owned()], interval: "15s", refresh: "30s" }
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
    let Scrape { servers, interval, refresh } = scrape;
    let discovery = |what: &str| {
        let url = |server| {
            format!("      - url: \"http://{server}/api/v1/sd/{what}\"\n        refresh_interval: {refresh}\n")
        };
        servers.iter().map(url).collect::<String>()
    };
    let (all_servers, all_agents) = (discovery("servers"), discovery("prometheus"));
    format!(
        r#"# Scrapes all PAMS servers of a cluster and all agents, as one server knows them.
{MADE}global:
  scrape_interval: {interval}
  scrape_timeout: {interval}
  evaluation_interval: {interval}

rule_files:
  - rules.yml
  - alerts.yml

# The addresses are a server's HTTP (`http` in its configuration): the metrics tell who talks to whom, so it is loopback by
# default. Any server will do. While it is away, what it told last is scraped; to hear of newcomers then too, let the urls of
# other servers stand beside its own: what several tell of is scraped once.
scrape_configs:
  # Every server that has not left and whose HTTP can be reached from the one that is asked.
  - job_name: {SERVER_JOB}
    http_sd_configs:
{all_servers}    relabel_configs:
      - source_labels: [__meta_pams_server_name]
        target_label: {SERVER_NAME}

  # Every agent of the cluster that has not left; `{PEER_ID}` and `{PEER_NAME}` say whose series they are. Agents answer on
  # loopback only unless `http` of theirs says otherwise.
  - job_name: {AGENT_JOB}
    http_sd_configs:
{all_agents}    relabel_configs:
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
