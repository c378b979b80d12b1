//! What is made is what is checked in, is what Grafana and Prometheus take, and asks only for what is there. Needs no other
//! program; `tests/real` asks the real Prometheus.

mod alerts;
mod lint;
mod made;
mod promql;
mod schema;
mod yaml;
