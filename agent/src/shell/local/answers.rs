//! The JSON of the control socket, where it is not a core's own type. Units are in the names; what is not known is absent
//! or null, never 0.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    id::{Order, PeerId},
    record::Why,
    reload::Standing,
    status::{Liveness, Presence},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    consumer::csv::Progress,
    core::{BuddyView, HomeView, LedgerView, Move, Sleep, SubscriberView, SubscriptionView, Told, View},
    shell::handle::{Fetched, Source},
};

/// The agent, at present.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct StatusAnswer {
    pub peer: PeerId,
    pub name: String,
    pub version: &'static str,
    /// Starts of this agent so far.
    pub epoch: u64,
    pub uptime_s: f64,
    pub presence: Presence,
    pub home: HomeView,
    pub buddies: Tally,
    /// Connections with peers.
    pub connections: usize,
    /// Where this peer says that it can be called.
    #[schema(value_type = Vec<String>, example = json!(["192.0.2.7:7421"]))]
    pub addresses: Vec<SocketAddr>,
    pub configuration: Standing,
    /// The CSV files; absent: none are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<Progress>,
    /// The last time that this agent did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slept: Option<Sleep>,
    /// The last time that the host's addresses changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Move>,
    pub ledgers: Vec<LedgerView>,
}

/// Buddies by liveness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Tally {
    pub total: usize,
    pub live: usize,
    pub overdue: usize,
    pub gone: usize,
    pub left: usize,
    /// Not judged yet.
    pub unknown: usize,
}

/// Everybody it watches.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct BuddiesAnswer {
    pub buddies: Vec<BuddyView>,
}

/// Whose presence is wanted here.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SubscriptionsAnswer {
    pub subscriptions: Vec<SubscriptionView>,
}

/// A subscription that begins, or goes on.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SubscribedAnswer {
    /// It was not subscribed to before.
    pub new: bool,
    pub subscription: SubscriptionView,
}

/// A subscription that ends.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
pub struct UnsubscribedAnswer {
    /// There was a subscription.
    pub ended: bool,
}

/// Who is told of our presence.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SubscribersAnswer {
    pub subscribers: Vec<SubscriberView>,
}

/// A line of the events: what was told, or how many that was for which this client was too slow.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventLine {
    Told(Told),
    Missed(u64),
}

/// A peer, as the source knows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct FetchedAnswer {
    pub peer: PeerId,
    pub source: Source,
    /// How old the information is, in seconds.
    pub age_s: f64,
    /// Why the peer itself was not the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    pub name: String,
    pub presence: Presence,
    /// As the source has it.
    pub liveness: Liveness,
    /// Where its agent listens.
    #[schema(value_type = Vec<String>, example = json!(["192.0.2.7:7421"]))]
    pub addresses: Vec<SocketAddr>,
    /// Where its home sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "192.0.2.7:7421")]
    pub observed: Option<SocketAddr>,
    pub overlays: Vec<String>,
    pub applications: Vec<Uuid>,
    pub software: String,
    pub order: Order,
}

impl StatusAnswer {
    pub fn new(view: View, configuration: Standing, uptime: Duration, csv: Option<Progress>) -> Self {
        Self {
            peer: view.peer,
            name: view.name,
            version: env!("CARGO_PKG_VERSION"),
            epoch: view.epoch,
            uptime_s: (uptime.as_secs_f64() * 1e3).round() / 1e3,
            presence: view.presence,
            home: view.home,
            buddies: Tally::of(&view.buddies),
            connections: view.links,
            addresses: view.addresses,
            configuration,
            csv,
            slept: view.slept,
            moved: view.moved,
            ledgers: view.ledgers,
        }
    }
}

impl Tally {
    pub(super) fn of(buddies: &[BuddyView]) -> Self {
        let mut tally = Self { total: buddies.len(), ..Self::default() };
        for buddy in buddies {
            *match buddy.liveness {
                Some(Liveness::Live) => &mut tally.live,
                Some(Liveness::Overdue) => &mut tally.overdue,
                Some(Liveness::Gone) => &mut tally.gone,
                Some(Liveness::Left) => &mut tally.left,
                None => &mut tally.unknown,
            } += 1;
        }
        tally
    }
}

impl From<Fetched> for FetchedAnswer {
    fn from(Fetched { entry, source, why }: Fetched) -> Self {
        Self {
            peer: entry.peer,
            source,
            age_s: Duration::from_millis(entry.age_ms).as_secs_f64(),
            why,
            name: entry.profile.name,
            presence: entry.presence,
            liveness: entry.liveness,
            addresses: entry.profile.addresses,
            observed: entry.observed,
            overlays: entry.profile.overlays,
            applications: entry.profile.applications,
            software: entry.profile.software,
            order: entry.order,
        }
    }
}
