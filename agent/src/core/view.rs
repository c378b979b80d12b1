//! What the outside may see of the core: plain data for the control socket, the metrics and the terminal.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    id::{PeerId, ServerId},
    moment::Moment,
    record::{Kind, Ledger, Record, Why},
    status::{Liveness, Presence, Status},
};
use serde::Serialize;

use super::{Agent, Move, Sleep, Trying, missed_text, roster::Link};

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
    /// What people call this peer.
    pub name: String,
    /// Where it says that it can be called.
    pub addresses: Vec<SocketAddr>,
    /// The last time that it did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slept: Option<Sleep>,
    /// The last time that the host's addresses changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Move>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct LedgerView {
    pub kind: Kind,
    #[serde(flatten)]
    pub ledger: Ledger,
}

#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct HomeView {
    pub connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// How the search for one goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trying: Option<Trying>,
    /// The address the home sees this agent at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "192.0.2.7:7421")]
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

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct BuddyView {
    pub peer: PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// By whose word it is watched; by both: `config`.
    pub origin: Origin,
    /// Where it is called, as `host:port`.
    #[schema(example = json!(["beta.example.org:7421"]))]
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

/// Why a peer is a buddy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It stands in this agent's configuration.
    Config,
    /// The home gave it, as a peer of our overlays.
    Roster,
}

impl Agent {
    pub fn view(&self, now: Moment) -> View {
        View {
            peer: self.me,
            epoch: self.epoch,
            presence: self.presence().clone(),
            home: HomeView {
                connected: self.home.connected,
                server: self.home.server,
                why: self.home.why.clone(),
                trying: self.home.trying.clone(),
                observed: self.home.observed.clone(),
                clock_offset_ms: self.home.clock_offset_ms,
                attach: self.home.attach,
                backlog: self.batcher.backlog(),
                unacked: self.batcher.unacked(),
                shed: self.batcher.shed(),
            },
            buddies: self.watcher.buddies().map(|(peer, _)| self.buddy_view(now, peer)).collect(),
            ledgers: self.pool.ledgers().into_iter().map(|(kind, ledger)| LedgerView { kind, ledger }).collect(),
            links: self.roster.links(),
            name: self.profile.name.clone(),
            addresses: self.profile.addresses.clone(),
            slept: self.sleep,
            moved: self.moved,
        }
    }

    fn buddy_view(&self, now: Moment, peer: PeerId) -> BuddyView {
        let (buddy, contact) = (self.watcher.buddy(peer), self.roster.contact(peer));
        let missed_for = buddy.and_then(|b| b.missed_for);
        let why = contact.and_then(|c| c.why.clone());
        BuddyView {
            peer,
            name: contact.and_then(|c| c.name.clone()),
            origin: match contact {
                Some(contact) if contact.configured => Origin::Config,
                _ => Origin::Roster,
            },
            addresses: contact.map(|c| c.addresses.clone()).unwrap_or_default(),
            connected: contact.is_some_and(|c| matches!(c.link, Link::Up(_))),
            liveness: buddy.and_then(|b| b.liveness),
            liveness_s: buddy.map_or(0.0, |b| seconds(now.since(b.since))),
            status: buddy.and_then(|b| b.status),
            missed: buddy.map_or(0, |b| b.missed),
            hears: buddy.is_some_and(pams_shared::presence::Buddy::hears),
            is_heard: buddy.is_some_and(pams_shared::presence::Buddy::is_heard),
            heard_s: buddy.and_then(|b| b.heard_at).map(|h| seconds(now.since(h))),
            why: why.or_else(|| missed_for.map(|reason| Why::new(reason, missed_text(reason)))),
            clock_offset_ms: contact.and_then(|c| c.clock_offset_ms),
            last: self.last.get(&peer).cloned(),
        }
    }
}

fn seconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e3).round() / 1e3
}
