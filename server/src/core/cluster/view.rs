//! The cluster as people, programs and Prometheus see it.

use std::time::Duration;

use pams_shared::{frame::Member, id::ServerId, moment::Moment};
use serde::Serialize;

use super::{
    super::{
        Pams,
        directory::ms,
        share::{Origin, ShareStats},
    },
    Counts,
    membership::State,
};

/// All servers, as one of them sees it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ClusterView {
    pub me: ServerId,
    /// This server first, then the others in the order of their ids.
    pub members: Vec<MemberView>,
    /// Entries of the shared directory, those of departed peers and tombstones included.
    pub entries: u64,
    /// Batches that wait until a sibling holds them.
    pub waiting: u64,
    pub counts: Counts,
}

/// One server.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct MemberView {
    #[serde(flatten)]
    pub member: Member,
    /// What we conclude of it.
    pub state: MemberState,
    /// Since when: our wall clock, ms since 1970.
    pub since_ms: u64,
    /// There is a connection with it.
    pub connected: bool,
    /// Entries that it owns.
    pub entries: u64,
    /// The number of its newest change that we have.
    pub upto: u64,
    /// Since it was last heard what it shares, ms. Absent: never, or it is this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// What we know of its peers may be out of date.
    pub stale: bool,
}

/// What one server concludes of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// The server that answers.
    Me,
    Alive,
    /// It did not answer, and neither did others reach it.
    Suspect,
    Down,
    /// It said that it leaves.
    Left,
}

impl MemberState {
    pub const ALL: [MemberState; 5] =
        [MemberState::Me, MemberState::Alive, MemberState::Suspect, MemberState::Down, MemberState::Left];

    pub const fn as_str(self) -> &'static str {
        match self {
            MemberState::Me => "me",
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Down => "down",
            MemberState::Left => "left",
        }
    }
}

impl From<State> for MemberState {
    fn from(state: State) -> Self {
        match state {
            State::Alive => MemberState::Alive,
            State::Suspect => MemberState::Suspect,
            State::Down => MemberState::Down,
            State::Left => MemberState::Left,
        }
    }
}

/// The cluster in numbers, for metrics.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterSummary {
    pub members: Vec<(MemberState, u64)>,
    pub links: u64,
    /// Entries owned by others, by whether their home can be heard.
    pub fresh: u64,
    pub stale: u64,
    pub own: u64,
    /// The age of the oldest of what siblings that are alive say, ms.
    pub age_max_ms: u64,
    pub waiting: u64,
    pub counts: Counts,
    #[serde(skip)]
    pub share: ShareStats,
}

impl Pams {
    /// All servers, as we see it.
    pub fn cluster(&self, now: Moment) -> ClusterView {
        let cluster = &self.cluster;
        let me = MemberView {
            member: cluster.me.clone(),
            state: MemberState::Me,
            since_ms: self.started.wall_ms(),
            connected: true,
            entries: cluster.share.origin(cluster.me.id).map_or(0, |origin| origin.entries as u64),
            upto: cluster.share.origin(cluster.me.id).map_or(0, |origin| origin.upto),
            age_ms: None,
            stale: false,
        };
        let mut seen: Vec<_> = cluster.membership.members().filter(|seen| seen.member.id != cluster.me.id).collect();
        seen.sort_by_key(|seen| seen.member.id);
        let others = seen.into_iter().map(|seen| {
            let id = seen.member.id;
            let origin = cluster.share.origin(id);
            let age = origin.as_ref().map(|origin| now.since(origin.heard));
            MemberView {
                member: seen.member.clone(),
                state: seen.state.into(),
                since_ms: seen.since.wall_ms(),
                connected: cluster.links.with(id).is_some(),
                entries: origin.as_ref().map_or(0, |origin| origin.entries as u64),
                upto: origin.as_ref().map_or(0, |origin| origin.upto),
                age_ms: age.map(ms),
                stale: age.is_none_or(|age| age >= cluster.stale_after) || !cluster.follows.is_direct(id),
            }
        });
        ClusterView {
            me: cluster.me.id,
            members: std::iter::once(me).chain(others).collect(),
            entries: cluster.share.len() as u64,
            waiting: cluster.acks.len() as u64,
            counts: cluster.counts,
        }
    }

    /// How old what other servers say of their peers is, for each that says something: so old is an answer about one of them.
    /// Whoever has left has nothing more to say, and who is silent for so long that its peers are gone is judged no more.
    pub fn ages(&self, now: Moment) -> impl Iterator<Item = Duration> {
        let cluster = &self.cluster;
        let others = cluster.share.origins().filter(move |o| o.owner != cluster.me.id && o.entries > 0);
        let said = others
            .filter(move |o| cluster.state(o.owner) != Some(State::Left) && !cluster.is_silent(now, o.owner, o.heard));
        said.map(move |origin| now.since(origin.heard))
    }

    /// How it stands with what each server shares, this one included: servers that agree give the same, but for times.
    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        self.cluster.share.origins()
    }

    pub(in super::super) fn cluster_summary(&self, now: Moment) -> ClusterSummary {
        let view = self.cluster(now);
        let of = |state: MemberState| view.members.iter().filter(|m| m.state == state).count() as u64;
        let others = || view.members.iter().filter(|m| m.state != MemberState::Me);
        let entries = |stale: bool| others().filter(|m| m.stale == stale).map(|m| m.entries).sum();
        let alive = others().filter(|m| m.state == MemberState::Alive);
        ClusterSummary {
            members: MemberState::ALL.map(|state| (state, of(state))).into(),
            links: self.cluster.links.len() as u64,
            fresh: entries(false),
            stale: entries(true),
            own: view.members.first().map_or(0, |me| me.entries),
            age_max_ms: alive.filter_map(|m| m.age_ms).max().unwrap_or(0),
            waiting: view.waiting,
            counts: view.counts,
            share: self.cluster.share.stats(),
        }
    }
}
