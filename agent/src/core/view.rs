//! What the outside may see of the core: plain data for the control socket, the metrics and the terminal.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    id::{PeerId, ServerId},
    moment::Moment,
    presence::{Leg, Path, Wanted},
    record::{self, Kind, Ledger, Record, Why},
    status::{Liveness, Presence, Status},
};
use serde::Serialize;

use super::{
    Agent, Move, Sleep, Trying,
    choice::Because,
    missed_text,
    roster::{Link, Wanter},
};

#[derive(Clone, Debug, Serialize)]
pub struct View {
    pub peer: PeerId,
    pub epoch: u64,
    pub presence: Presence,
    pub home: HomeView,
    pub buddies: Vec<BuddyView>,
    pub subscriptions: Vec<SubscriptionView>,
    pub subscribers: Vec<SubscriberView>,
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
    /// Why the last server that took this agent was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// Servers that can be home, as far as homes told of them.
    pub servers: usize,
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
    /// By whose word it is watched, the first that holds of config, roster, subscription.
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

/// A peer whose presence is wanted here.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SubscriptionView {
    pub peer: PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// By the configuration; else it was asked for at the control socket, and ends with the agent.
    pub configured: bool,
    /// The newest that was told; `null`: nothing yet.
    pub presence: Option<Presence>,
    /// The start of the peer that said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Which path told it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_by: Option<Path>,
    /// How long ago, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_s: Option<f64>,
    /// What the home concludes of the peer; `null`: it has not said.
    pub liveness: Option<Liveness>,
    /// Whether the peer itself tells us.
    pub by_peer: LegView,
    /// Whether the home does.
    pub by_home: LegView,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct LegView {
    /// waiting (for contact), asked, active, refused.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// Who is told of our presence: watcher information of RFC 2778.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SubscriberView {
    pub peer: PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// active; silent: has not acknowledged in time; away: without a connection for a moment.
    pub state: &'static str,
    /// Since when it subscribes, in seconds.
    pub since_s: f64,
    /// Since its last acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked_s: Option<f64>,
    /// A notify is not acknowledged yet.
    pub under_way: bool,
    /// When it was told of the last change that was timed, from the publishing: between these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<record::Told>,
    /// The last notify that was acknowledged in time.
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
    /// Its presence is wanted, by a subscription of the control socket.
    Subscription,
}

impl View {
    /// Whether the peer is named here: as a buddy, as one that is subscribed to, or as one that subscribes.
    pub fn knows(&self, peer: PeerId) -> bool {
        let subscribed = self.subscriptions.iter().map(|s| s.peer);
        let subscribers = self.subscribers.iter().map(|s| s.peer);
        self.buddies.iter().map(|b| b.peer).chain(subscribed).chain(subscribers).any(|known| known == peer)
    }
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
                because: self.home.taken.map(|(_, because)| because),
                servers: self.home.servers,
                backlog: self.batcher.backlog(),
                unacked: self.batcher.unacked(),
                shed: self.batcher.shed(),
            },
            buddies: self.watcher.buddies().map(|(peer, _)| self.buddy_view(now, peer)).collect(),
            subscriptions: self.subscriber.iter().map(|(peer, w)| self.subscription_view(now, peer, w)).collect(),
            subscribers: self.subscriber_views(now),
            ledgers: self.pool.ledgers().into_iter().map(|(kind, ledger)| LedgerView { kind, ledger }).collect(),
            links: self.roster.links(),
            name: self.profile.name.clone(),
            addresses: self.profile.addresses.clone(),
            slept: self.sleep,
            moved: self.moved,
        }
    }

    fn subscription_view(&self, now: Moment, peer: PeerId, wanted: &Wanted) -> SubscriptionView {
        let known = wanted.known.as_ref();
        SubscriptionView {
            peer,
            name: self.roster.contact(peer).and_then(|c| c.name()).map(str::to_owned),
            configured: self.roster.contact(peer).is_some_and(|c| c.wanted_by.contains(&Wanter::Config)),
            presence: known.map(|k| k.presence.clone()),
            epoch: known.map(|k| k.epoch),
            told_by: known.map(|k| k.path),
            told_s: known.map(|k| seconds(now.since(k.at))),
            // A home that is no longer asked concludes nothing.
            liveness: wanted.liveness.filter(|_| *wanted.leg(Path::Home) == Leg::Active),
            by_peer: LegView::of(wanted.leg(Path::Peer)),
            by_home: LegView::of(wanted.leg(Path::Home)),
        }
    }

    fn subscriber_views(&self, now: Moment) -> Vec<SubscriberView> {
        let view = |(peer, s): (PeerId, &pams_shared::presence::Subscription)| {
            let last = self.notified.get(&peer);
            SubscriberView {
                peer,
                name: self.roster.contact(peer).and_then(|c| c.name()).map(str::to_owned),
                state: s.standing().as_str(),
                since_s: seconds(now.since(s.since)),
                acked_s: s.acked_at.map(|at| seconds(now.since(at))),
                under_way: s.is_under_way(),
                told: last.and_then(Record::told),
                last: last.cloned(),
            }
        };
        self.publisher.of(self.me).map(view).collect()
    }

    fn buddy_view(&self, now: Moment, peer: PeerId) -> BuddyView {
        let (buddy, contact) = (self.watcher.buddy(peer), self.roster.contact(peer));
        let missed_for = buddy.and_then(|b| b.missed_for);
        let why = contact.and_then(|c| c.why.clone());
        BuddyView {
            peer,
            name: contact.and_then(|c| c.name()).map(str::to_owned),
            origin: match contact {
                Some(contact) if contact.configured.is_some() => Origin::Config,
                Some(contact) if contact.given.is_none() && !contact.wanted_by.is_empty() => Origin::Subscription,
                _ => Origin::Roster,
            },
            addresses: contact.map(|c| c.addresses().to_vec()).unwrap_or_default(),
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

impl LegView {
    fn of(leg: &Leg) -> Self {
        let why = if let Leg::Refused(why, _) = leg { Some(why.clone()) } else { None };
        Self { state: leg.as_str(), why }
    }
}

fn seconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e3).round() / 1e3
}
