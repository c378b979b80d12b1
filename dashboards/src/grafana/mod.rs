//! Dashboards as Grafana reads them: what a dashboard is made of, and how it becomes JSON. Written for Grafana 10 and
//! newer; what its JSON Schemas and its dashboard-linter ask for is held by tests.

mod cluster;
mod json;
mod overview;
mod panel;
mod peer;
mod server;
pub mod style;

pub use panel::{Column, Draw, Mode, Panel, Say, Stack, Step, Target, panel};

use pams_agent::metrics::catalogue as a;
use pams_server::metrics::catalogue as s;
use serde_json::Value;

/// A dashboard. Its file is called as its uid without the prefix `pams-`.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Stable: links and alerts name it.
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// Beside the data source.
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
}

/// What can be chosen at the top.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: &'static str,
    pub label: &'static str,
    pub description: &'static str,
    /// What Prometheus is asked, in Grafana's words: `label_values(…)` or `query_result(…)`.
    pub query: String,
    /// Takes text and value out of an answer.
    pub regex: &'static str,
    /// Any number of values, all at first; else exactly one.
    pub many: bool,
}

/// Panels under a headline.
#[derive(Clone, Debug)]
pub struct Row {
    pub title: &'static str,
    pub panels: Vec<Panel>,
}

impl Dashboard {
    pub fn file(&self) -> String {
        format!("{}.json", self.uid.strip_prefix("pams-").unwrap_or(self.uid))
    }

    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    pub fn json(&self) -> Value {
        json::dashboard(self)
    }
}

/// All dashboards.
pub fn dashboards() -> Vec<Dashboard> {
    vec![overview::dashboard(), peer::dashboard(), server::dashboard(), cluster::dashboard()]
}

/// The variables that each dashboard has: which job, and which targets of it. `named` is a metric that all of them have.
fn job_and_instance(named: &str) -> Vec<Variable> {
    vec![
        Variable {
            name: "job",
            label: "Job",
            description: "Jobs of the scrape configuration.",
            query: format!("label_values({named}, job)"),
            regex: "",
            many: true,
        },
        Variable {
            name: "instance",
            label: "Instance",
            description: "Scraped addresses.",
            query: format!("label_values({}, instance)", with_job(named)),
            regex: "",
            many: true,
        },
    ]
}

/// The same over servers and agents.
fn programs() -> Vec<Variable> {
    job_and_instance(&format!("{{__name__=~\"{}|{}\"}}", s::BUILD.name, a::BUILD.name))
}

fn with_job(selector: &str) -> String {
    match selector.strip_suffix('}') {
        Some(open) => format!("{open},job=~\"$job\"}}"),
        None => format!("{selector}{{job=~\"$job\"}}"),
    }
}
