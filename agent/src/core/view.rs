//! What the outside may see of the core: plain data for the control socket, the metrics and the terminal.

use std::time::Duration;

use pams_shared::{
    id::{PeerId, ServerId},
    record::{Kind, Ledger, Record, Why},
    status::{Liveness, Presence, Status},
};
use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct View {
    pub peer: PeerId,
    pub epoch: u64,
    pub presence: Presence,
    pub home: HomeView,
    pub buddies: Vec<BuddyView>,
    pub ledgers: Vec<LedgerView>,
    /// Connections to peers at present.
    pub links: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct LedgerView {
    pub kind: Kind,
    #[serde(flatten)]
    pub ledger: Ledger,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct HomeView {
    pub connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// The address the home sees this agent at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// Changes of home in this epoch.
    pub attach: u64,
    /// Records not acknowledged yet.
    pub backlog: usize,
    /// Batches not acknowledged yet.
    pub unacked: usize,
    /// Records dropped from the backlog in this epoch.
    pub shed: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct BuddyView {
    pub peer: PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub addresses: Vec<String>,
    pub connected: bool,
    /// `null`: not judged yet.
    pub liveness: Option<Liveness>,
    /// How long so, in seconds.
    pub liveness_s: f64,
    /// `null`: never heard.
    pub status: Option<Status>,
    /// Pings in a row without an answer in time.
    pub missed: u32,
    /// Something authenticated came from it since the misses began.
    pub hears: bool,
    /// It answered the last ping that was due.
    pub is_heard: bool,
    /// Seconds since something authenticated came from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_s: Option<f64>,
    /// Why it can't be reached, or why the last ping failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// The last answered ping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Record>,
}

pub(super) fn seconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e3).round() / 1e3
}
