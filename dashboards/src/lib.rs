//! Dashboards of PAMS as a product: Grafana dashboards, Prometheus' configuration, recording rules and alerts with their
//! tests, all made from the catalogues of metrics of the agent and the server. What is made is checked in, so that it can
//! be used without this program; a test compares.
//!
//! It is not needed to run PAMS, and nothing here knows Grafana or Prometheus but for their formats.

pub mod files;
pub mod grafana;
pub mod preview;
pub mod prometheus;
pub mod query;
