//! The answers of the API as the tables need them. More lenient than what writes them: keys that are not known here are
//! skipped, so that this client can ask an older or newer server.

use std::{collections::BTreeMap, net::SocketAddr};

use pams_shared::{
    id::{Order, PeerId, ServerId},
    record::Ledger,
    status::{Liveness, Presence, Status},
};
use serde::Deserialize;

pub use crate::shell::http::{Draining, ForgetAnswer as Forgotten};

#[derive(Debug, Deserialize)]
pub struct Page {
    pub peers: Vec<Peer>,
    #[serde(default)]
    pub next: Option<PeerId>,
}

#[derive(Debug, Deserialize)]
pub struct Peer {
    pub id: PeerId,
    pub name: String,
    pub software: String,
    pub addresses: Vec<SocketAddr>,
    pub overlays: Vec<String>,
    pub applications: Vec<String>,
    pub order: Order,
    pub presence: Option<Presence>,
    pub liveness: Liveness,
    pub liveness_since_ms: u64,
    pub age_ms: u64,
    pub observed: Option<SocketAddr>,
    /// Servers of the first versions do not tell.
    pub server: Option<ServerId>,
    #[serde(default)]
    pub stale: bool,
    pub metrics: Option<Scrape>,
}

#[derive(Debug, Deserialize)]
pub struct Scrape {
    pub announced: SocketAddr,
    pub target: Option<SocketAddr>,
    pub hint: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Detail {
    #[serde(flatten)]
    pub peer: Peer,
    pub home: Verdict,
    pub watchers: Vec<Witness>,
    pub ledger: BTreeMap<String, Ledger>,
    pub records_shed: u64,
    pub clock_offset_ms: Option<i64>,
    pub records: Vec<Record>,
    pub events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
pub struct Verdict {
    pub because: String,
    pub session: Option<u64>,
    pub session_since_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct Cluster {
    pub members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
pub struct Member {
    pub id: ServerId,
    pub name: String,
    pub state: String,
    pub since_ms: u64,
    pub connected: bool,
    pub entries: u64,
    pub upto: u64,
    pub age_ms: Option<u64>,
    pub stale: bool,
    pub generation: u64,
    pub addresses: Vec<SocketAddr>,
    pub region: String,
    pub software: String,
}

/// How a peer is right now.
#[derive(Debug, Deserialize)]
pub struct Probed {
    pub peer: PeerId,
    pub name: Option<String>,
    pub verdict: String,
    pub text: String,
    pub status: Option<Status>,
    pub liveness: Option<Liveness>,
    pub liveness_since_ms: Option<u64>,
    pub home: Option<ServerId>,
    pub home_name: Option<String>,
    pub age_ms: Option<u64>,
    pub findings: Vec<Found>,
    pub took_ms: u64,
}

#[derive(Debug, Deserialize)]
pub struct Found {
    pub by: String,
    pub by_name: Option<String>,
    pub by_role: String,
    pub outcome: String,
    pub reason: Option<String>,
    pub total_ns: Option<u64>,
    #[serde(default)]
    pub stages_ns: BTreeMap<String, u64>,
    pub status: Option<Status>,
}

#[derive(Debug, Deserialize)]
pub struct Witness {
    pub watcher: PeerId,
    pub name: Option<String>,
    pub liveness: Option<Liveness>,
    pub status: Option<Status>,
    pub missed: u32,
    pub hears: bool,
    pub is_heard: bool,
    pub age_ms: u64,
    pub stale: bool,
}

#[derive(Debug, Deserialize)]
pub struct Record {
    pub kind: String,
    pub target: String,
    pub status: String,
    pub reason: Option<String>,
    pub opened_ms: u64,
    pub total_ns: Option<u64>,
    #[serde(default)]
    pub stages_ns: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
pub struct Event {
    pub at_ms: u64,
    pub epoch: u64,
    pub what: String,
}
