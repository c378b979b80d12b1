//! The answers of the control socket as the tables need them. More lenient than what writes them: keys that are not known
//! here are skipped, so that this client can ask an older or newer agent.

use pams_shared::{
    id::PeerId,
    reload::Standing,
    status::{Liveness, Presence},
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Status {
    pub peer: PeerId,
    pub name: String,
    pub version: String,
    pub epoch: u64,
    pub uptime_s: f64,
    pub presence: Presence,
    pub home: Home,
    pub buddies: Tally,
    pub connections: u64,
    #[serde(default)]
    pub configuration: Option<Standing>,
    /// Absent where no files are written, and in answers of older agents.
    #[serde(default)]
    pub csv: Option<Csv>,
    #[serde(default)]
    pub slept: Option<Sleep>,
    #[serde(default)]
    pub moved: Option<Move>,
    #[serde(default)]
    pub addresses: Vec<String>,
    pub ledgers: Vec<Ledger>,
}

#[derive(Debug, Deserialize)]
pub struct Csv {
    pub written: u64,
    pub failing: bool,
}

#[derive(Debug, Deserialize)]
pub struct Sleep {
    pub from_ms: u64,
    pub for_s: f64,
    pub suspended: bool,
}

#[derive(Debug, Deserialize)]
pub struct Move {
    pub at_ms: u64,
}

#[derive(Debug, Deserialize)]
pub struct Home {
    pub connected: bool,
    pub server: Option<String>,
    pub why: Option<Why>,
    #[serde(default)]
    pub trying: Option<Trying>,
    pub observed: Option<String>,
    pub clock_offset_ms: Option<i64>,
    /// Absent in answers of agents that know one home at a time, as is the next.
    #[serde(default)]
    pub because: Option<String>,
    #[serde(default)]
    pub servers: u64,
    pub backlog: u64,
    pub shed: u64,
}

#[derive(Debug, Deserialize)]
pub struct Trying {
    pub home: String,
    pub resolved: Vec<String>,
    pub tries: u32,
    pub since_ms: u64,
    pub next_ms: u64,
    pub tcp: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Tally {
    pub total: u64,
    pub live: u64,
    pub overdue: u64,
    pub gone: u64,
    pub left: u64,
    pub unknown: u64,
}

#[derive(Debug, Deserialize)]
pub struct Ledger {
    pub kind: String,
    #[serde(flatten)]
    pub ledger: pams_shared::record::Ledger,
}

#[derive(Debug, Deserialize)]
pub struct Why {
    pub reason: String,
    pub text: String,
}

#[derive(Debug, Deserialize)]
pub struct Buddies {
    pub buddies: Vec<Buddy>,
}

#[derive(Debug, Deserialize)]
pub struct Buddy {
    pub peer: PeerId,
    pub name: Option<String>,
    /// Absent in answers of agents that know but one.
    pub origin: Option<String>,
    pub liveness: Option<Liveness>,
    pub liveness_s: f64,
    pub status: Option<pams_shared::status::Status>,
    pub hears: bool,
    pub is_heard: bool,
    pub why: Option<Why>,
    pub last: Option<Record>,
}

#[derive(Debug, Deserialize)]
pub struct Record {
    pub total_ns: Option<u64>,
    pub stages_ns: Stages,
    pub target_status: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Stages {
    pub queued: Option<u64>,
    pub network: Option<u64>,
    pub remote_hold: Option<u64>,
    pub local_wait: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct Fetched {
    pub peer: PeerId,
    pub source: String,
    pub age_s: f64,
    pub why: Option<Why>,
    pub name: String,
    pub presence: Presence,
    pub liveness: Liveness,
    pub addresses: Vec<String>,
    pub observed: Option<String>,
    pub overlays: Vec<String>,
    pub applications: Vec<String>,
    pub software: String,
}

#[derive(Debug, Deserialize)]
pub struct Subscribed {
    pub new: bool,
    pub subscription: Subscription,
}

#[derive(Debug, Deserialize)]
pub struct Subscriptions {
    pub subscriptions: Vec<Subscription>,
}

#[derive(Debug, Deserialize)]
pub struct Subscription {
    pub peer: PeerId,
    pub name: Option<String>,
    pub configured: bool,
    pub presence: Option<Presence>,
    pub told_by: Option<String>,
    pub told_s: Option<f64>,
    pub liveness: Option<Liveness>,
    pub by_peer: Leg,
    pub by_home: Leg,
}

#[derive(Debug, Deserialize)]
pub struct Leg {
    pub state: String,
    pub why: Option<Why>,
}

/// A line of the events.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    Told(Told),
    Missed(u64),
}

#[derive(Debug, Deserialize)]
pub struct Told {
    pub at_ms: u64,
    pub by: String,
    pub presence: Option<Presence>,
    pub liveness: Option<Liveness>,
    pub age_ms: Option<u64>,
    pub skipped: u64,
}

#[derive(Debug, Deserialize)]
pub struct Subscribers {
    pub subscribers: Vec<Subscriber>,
}

#[derive(Debug, Deserialize)]
pub struct Subscriber {
    pub peer: PeerId,
    pub name: Option<String>,
    pub state: String,
    pub since_s: f64,
    pub acked_s: Option<f64>,
    pub told: Option<ToldBounds>,
    pub last: Option<Record>,
}

#[derive(Debug, Deserialize)]
pub struct ToldBounds {
    pub least_ns: u64,
    pub most_ns: u64,
}
