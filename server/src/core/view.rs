//! What the engine shows: plain data for HTTP, for metrics and for people. Times that measure are given as an age in ms; times
//! that end in `since_ms` or `at_ms` are labels of our wall clock, in ms since 1970.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use pams_shared::{
    frame::Profile,
    id::{Order, PeerId, ServerId},
    record::{Kind, Ledger, Record},
    status::{Liveness, Presence, Status},
};
use serde::Serialize;

pub use super::cluster::view::{ClusterSummary, ClusterView, MemberState, MemberView};
use super::{Event, Notifies, RosterSummary, Scrape, SessionId};

/// Most peers on a [`Page`].
pub const PAGE_MAX: usize = 1_000;
/// Most overlays told of at once; nested ones count by themselves.
pub const OVERLAYS_MAX: usize = 10_000;

/// Which peers to show: those for which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub liveness: Option<Liveness>,
    pub status: Option<Status>,
    /// The overlay, or one nested in it.
    pub overlay: Option<String>,
    /// Part of the name; ASCII letters in either case.
    pub name: Option<String>,
}

/// Some peers, in order of their ids.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Page {
    pub peers: Vec<PeerView>,
    /// Ask for what comes after it; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<PeerId>,
}

/// One peer.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PeerView {
    pub id: PeerId,
    #[serde(flatten)]
    pub profile: Profile,
    pub order: Order,
    /// Absent: it has not said anything yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    pub liveness: Liveness,
    /// Our wall clock, ms since 1970.
    pub liveness_since_ms: u64,
    /// How old this is, ms: since the peer's last sign of life if we are its home, else since its home was heard last.
    pub age_ms: u64,
    /// The address that its home sees its agent at. Absent: not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "192.0.2.7:7421")]
    pub observed: Option<SocketAddr>,
    /// The server that is its home.
    pub server: ServerId,
    /// Its home cannot be heard just now: what stands here is what it said last.
    pub stale: bool,
    /// Absent: its agent serves no metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Scrape>,
}

/// One peer with all that is known of it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PeerDetail {
    #[serde(flatten)]
    pub peer: PeerView,
    pub home: Verdict,
    /// What its watchers report of it.
    pub watchers: Vec<Witness>,
    /// Who is to watch it by our rosters; those whose agent takes no more among them.
    pub watched_by: Vec<PeerId>,
    /// Whom it is to watch by our rosters; if another server is its home, as far as peers of ours are in its overlays.
    pub watches: Vec<PeerId>,
    /// Its transactions by kind, over all its epochs that we know.
    #[schema(value_type = BTreeMap<String, Ledger>)]
    pub ledger: BTreeMap<Kind, Ledger>,
    /// The last batch of the present epoch that was applied.
    pub batch: u64,
    /// Records of the present epoch that its agent shed.
    pub records_shed: u64,
    /// How far its wall clock was ahead of ours at Hello, the way of the message included. Absent: another server is its home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// The newest last.
    pub records: Vec<Record>,
    /// The newest last.
    pub events: Vec<Event>,
}

/// What the home concludes of a peer, and how it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Verdict {
    pub liveness: Liveness,
    pub because: Because,
    pub since_ms: u64,
    pub age_ms: u64,
    /// Absent: its connection is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// When its last session began. Absent: another server is its home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_since_ms: Option<u64>,
}

/// How a home knows of a peer's liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Because {
    /// Something authenticated came from it in time.
    Heard,
    /// Nothing did.
    Silence,
    /// It said so.
    Goodbye,
    /// Its home, another server, says so.
    Told,
}

/// What one watcher reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Witness {
    pub watcher: PeerId,
    /// Absent: the watcher has no entry here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Absent: not judged yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// Absent: never heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Pings in a row without an answer in time.
    pub missed: u32,
    /// Something authenticated came from the peer since the last answer was due.
    pub hears: bool,
    /// The peer has shown that it gets what the watcher sends.
    pub is_heard: bool,
    /// Since it was reported; views are reported when they change.
    pub age_ms: u64,
    /// The watcher itself is not live: the view may be out of date.
    pub stale: bool,
}

/// How many peers of an overlay, nested ones included, are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OverlayView {
    pub name: String,
    pub live: u64,
    pub overdue: u64,
    pub gone: u64,
    pub left: u64,
    /// Members that others watch by our rosters: those that are here, and for a while those that are gone.
    pub watched: u64,
    /// Members that can be given a roster: those that are here and whose agent takes one.
    pub watching: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Overlays {
    /// How many members watch each of an overlay by our rosters, where there are more.
    pub watchers: u64,
    /// In order of their names.
    pub overlays: Vec<OverlayView>,
    /// Names beyond the first 10,000 were left out.
    pub truncated: bool,
}

/// One target of Prometheus' HTTP service discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SdTarget {
    /// Where its `/metrics` is.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 1, example = json!(["192.0.2.7:7481"]))]
    pub targets: [String; 1],
    /// Who and how the agent says it is. Its own word: a rule that makes a target of `__meta_pams_addresses` lets each
    /// agent choose what is scraped.
    #[schema(value_type = BTreeMap<String, String>, example = json!({"__meta_pams_name": "alpha"}))]
    pub labels: BTreeMap<&'static str, String>,
}

/// The whole in numbers, for metrics. Everything comes from one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub peers: Vec<(Liveness, u64)>,
    /// Peers that are live or overdue, by what they say; `None`: nothing yet.
    pub status: Vec<(Option<Status>, u64)>,
    pub sessions: u64,
    /// All transactions that were reported since the start, by label of kind; conserved, and no total ever falls.
    pub ledger: Vec<(String, Ledger)>,
    /// Records counted.
    pub records: u64,
    /// Records that agents shed before they reached us.
    pub records_shed: u64,
    /// Views of watchers that are kept.
    pub views: u64,
    /// Pairs of a peer and an agent that is told of it.
    pub subscriptions: u64,
    pub notifies: Notifies,
    /// Forgotten peers whose ledger is still known.
    pub forgotten: u64,
    /// Records, events and notices that the shell did not fetch in time.
    pub outputs_shed: u64,
    pub rosters: RosterSummary,
    pub cluster: ClusterSummary,
    pub ready: bool,
    pub draining: bool,
}

/// The overlay and all that it is nested in: `a/b/c`, `a/b`, `a`.
pub(super) fn nesting(overlay: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(overlay), |name| name.rsplit_once('/').map(|(parent, _)| parent))
        .filter(|name| !name.is_empty())
}

/// The overlays of a profile with all that they are nested in, each once.
pub(super) fn memberships(profile: &Profile) -> BTreeSet<&str> {
    profile.overlays.iter().flat_map(|overlay| nesting(overlay)).collect()
}

impl Filter {
    pub(super) fn admits(&self, profile: &Profile, liveness: Liveness, presence: Option<&Presence>) -> bool {
        self.liveness.is_none_or(|l| l == liveness)
            && self.status.is_none_or(|s| presence.is_some_and(|p| p.status == s))
            && self.name.as_ref().is_none_or(|part| contains(&profile.name, part))
            && self.overlay.as_ref().is_none_or(|o| profile.overlays.iter().any(|name| nesting(name).any(|n| n == o)))
    }
}

/// Without regard to the case of ASCII letters, and without a copy.
fn contains(name: &str, part: &str) -> bool {
    let (name, part) = (name.as_bytes(), part.as_bytes());
    part.is_empty() || name.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_counts_for_all_that_it_is_nested_in() {
        assert_eq!(nesting("eu/de/bonn").collect::<Vec<_>>(), ["eu/de/bonn", "eu/de", "eu"]);
        assert_eq!(nesting("/x").collect::<Vec<_>>(), ["/x"]);
        let profile = Profile { overlays: vec!["eu/de".into(), "eu/fr".into()], ..Profile::default() };
        assert_eq!(memberships(&profile).into_iter().collect::<Vec<_>>(), ["eu", "eu/de", "eu/fr"]);
    }

    #[test]
    fn filters_combine() {
        let profile = Profile { name: "Edge-7".into(), overlays: vec!["cdn/eu".into()], ..Profile::default() };
        let admits = |filter: Filter| filter.admits(&profile, Liveness::Live, None);
        assert!(admits(Filter::default()));
        assert!(admits(Filter { name: Some("eDGE".into()), overlay: Some("cdn".into()), ..Filter::default() }));
        assert!(!admits(Filter { overlay: Some("cd".into()), ..Filter::default() }), "a prefix is no parent");
        assert!(!admits(Filter { status: Some(Status::Online), ..Filter::default() }), "it has said nothing");
        assert!(!admits(Filter { name: Some("edge".into()), liveness: Some(Liveness::Gone), ..Filter::default() }));
    }
}
