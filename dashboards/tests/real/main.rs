//! Against the real Prometheus: `promtool` checks and tests what is checked in, and the daemon itself scrapes a server and
//! its agents and answers the query of every panel, rule and alert. Run with `--features real`; both programs are in
//! Debian's package `prometheus`.

#[path = "../../../server/tests/system/harness.rs"]
#[allow(dead_code)] // Each suite uses its part.
mod harness;
#[path = "../../../server/tests/system/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../../../server/tests/system/peer.rs"]
#[allow(dead_code)]
mod peer;

mod cluster;
mod preview;
mod prometheus;
mod promtool;
mod queries;
