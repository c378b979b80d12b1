//! This server among its siblings: who they are (`membership`), the connections with them (`links`, `calls`), what each shares
//! (`share`, followed as `follows` plans), and which batches wait until a sibling holds them (`acks`).
//!
//! Presence is available rather than consistent: a server that is cut off goes on serving its peers and says of the others
//! how old what it knows is. Each entry has one writer, the peer's home; whoever has the greater (epoch, attach) is it.

mod acks;
mod adopt;
mod agents;
pub mod book;
mod calls;
mod follows;
pub mod io;
mod links;
pub mod lost;
pub mod membership;
mod news;
mod siblings;
pub mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pams_shared::{
    frame::{Member, News, Server},
    id::{PeerId, ServerId},
    moment::Moment,
};

pub(super) use self::adopt::Foreign;
use self::{
    acks::Acks,
    calls::Calls,
    follows::Follows,
    io::{LinkId, SiblingOutput, Target},
    links::Links,
    membership::{Membership, MembershipConfig, State},
};
use super::{
    PamsConfig,
    share::{FollowerId, Share, ShareConfig},
};

/// How long a start waits for the first of the other servers.
const SETTLE: Duration = Duration::from_secs(3);

/// Who this server is, and where it begins to look for the others.
#[derive(Clone, Debug)]
pub struct Myself {
    pub member: Member,
    /// Where servers may be: `host:port`, or services.
    pub seeds: Vec<String>,
    pub seed: [u8; 32],
    /// Peers that are turned away since before our start: that they are forgotten is no news, and that they joined anew is.
    pub banned: BTreeSet<PeerId>,
}

impl Myself {
    /// A server that knows of no other.
    pub fn alone() -> Self {
        let (name, region, software) = (String::new(), String::new(), String::new());
        let id = ServerId::from_bytes([0; 16]);
        let member = Member { id, generation: 1, name, addresses: Vec::new(), http: None, region, software };
        Self { member, seeds: Vec::new(), seed: [0; 32], banned: BTreeSet::new() }
    }
}

/// All in numbers; counters but for those that say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Counts {
    /// Servers that were found down.
    pub downs: u64,
    /// Peers that were taken over from another home.
    pub taken_over: u64,
    /// Peers that another home has taken over.
    pub let_go: u64,
    /// Batches that were acknowledged because a sibling held them.
    pub acked_held: u64,
    /// Batches that were acknowledged without a sibling, for there was none.
    pub acked_alone: u64,
    /// Agents that were told that their home is lost, and asked it then.
    pub told_asks: u64,
    /// The same, whose home was another one by then.
    pub told_elsewhere: u64,
    /// Those that were to be told, and did not answer.
    pub told_unreachable: u64,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub me: Member,
    seeds: Vec<String>,
    membership: Membership,
    pub share: Share,
    links: Links,
    calls: Calls,
    follows: Follows,
    /// Siblings' streams on which they follow: whose, and whether the next frame can be written.
    followers: BTreeMap<FollowerId, Follower>,
    acks: Acks,
    /// Whose row is to be shared anew.
    pub touched: BTreeSet<PeerId>,
    /// Peers of our earlier starts, to be taken back.
    leftovers: BTreeSet<PeerId>,
    /// Reports of this turn, to be acknowledged when their entries are numbered.
    reported: Vec<(PeerId, u64)>,
    /// Servers that are not heard for so long that their peers count as gone.
    silent: BTreeSet<ServerId>,
    /// What subscribers were told last of peers that are not ours.
    pub told: BTreeMap<PeerId, News>,
    /// Whom an operator made the cluster forget, until they join anew.
    banned: BTreeSet<PeerId>,
    /// When members were told to the disk last.
    listed: Vec<Member>,
    /// Servers as agents know them, and as they should.
    known: agents::Known,
    servers_due: Vec<Server>,
    evacuation: Option<agents::Evacuation>,
    /// Servers that were found down, whose agents are being told.
    lost: lost::Lost,
    counts: Counts,
    /// Something happened that may change whom to call, or follow.
    stirred: bool,
    /// As [`Cluster::is_held`] said last.
    held: bool,
    stale_after: Duration,
    orphan_gone: Duration,
    started: Moment,
    out: Vec<SiblingOutput>,
}

#[derive(Debug)]
struct Follower {
    link: LinkId,
    who: ServerId,
    /// It follows what we own.
    ours: bool,
    idle: bool,
}

impl Cluster {
    pub fn new(myself: Myself, config: &PamsConfig, now: Moment) -> Self {
        let Myself { member, seeds, seed, banned } = myself;
        let share = ShareConfig { entries_max: config.entries_max, ..ShareConfig::default() };
        Self {
            membership: Membership::new(member.clone(), MembershipConfig::default(), seed, now),
            share: Share::new(member.id, member.generation, share, now),
            links: Links::default(),
            calls: Calls::seeds(seeds.len(), now),
            follows: Follows::default(),
            followers: BTreeMap::new(),
            acks: Acks::default(),
            touched: BTreeSet::new(),
            leftovers: BTreeSet::new(),
            reported: Vec::new(),
            silent: BTreeSet::new(),
            told: BTreeMap::new(),
            banned,
            listed: Vec::new(),
            known: agents::Known::default(),
            servers_due: Vec::new(),
            evacuation: None,
            lost: lost::Lost::default(),
            counts: Counts::default(),
            stirred: true,
            held: false,
            stale_after: config.stale_after,
            orphan_gone: config.orphan_gone,
            started: now,
            out: Vec::new(),
            seeds,
            me: member,
        }
    }

    /// We did not run for so long: the silence of the others says nothing.
    pub fn stalled(&mut self, now: Moment, late: Duration) {
        self.stirred = true;
        if self.membership.members().next().is_some() {
            self.membership.handle(now, membership::Input::Stalled { late });
        }
    }

    /// The peer has come to us: its row is to be shared, and whoever had it forgotten is of the past.
    pub fn here(&mut self, peer: PeerId) {
        self.touched.insert(peer);
        self.banned.remove(&peer);
        self.lost.came();
    }

    pub fn took_over(&mut self) {
        self.counts.taken_over += 1;
    }

    /// Batches of the peer's last epoch need no acknowledgement any more: its numbers begin again.
    pub fn forget_waiting(&mut self, peer: PeerId) {
        self.acks.drop(peer);
    }

    /// We have just started among others, and are being told what we knew before: whoever came now would be counted anew.
    pub fn is_settling(&self, now: Moment) -> bool {
        match self.links.len() {
            0 => !self.seeds.is_empty() && now.since(self.started) < SETTLE,
            _ => self.share.recovering(),
        }
    }

    /// How a server stands; `None`: it is not known.
    pub fn state(&self, server: ServerId) -> Option<State> {
        self.membership.members().find(|seen| seen.member.id == server).map(|seen| seen.state)
    }

    /// Whether there are other servers, as far as we know, heard or not.
    pub fn knows_others(&self) -> bool {
        self.membership.members().any(|seen| seen.member.id != self.me.id && seen.state != State::Left)
    }

    /// The connection with a server.
    pub fn link_with(&self, server: ServerId) -> Option<LinkId> {
        self.links.with(server)
    }

    /// The server at the other end of a connection that is used.
    pub fn server_of(&self, link: LinkId) -> Option<ServerId> {
        self.links.get(link).map(|link| link.server)
    }

    /// What people call a server that is known.
    pub fn name_of(&self, server: ServerId) -> Option<String> {
        let seen = || self.membership.members().find(|seen| seen.member.id == server);
        if server == self.me.id { Some(self.me.name.clone()) } else { seen().map(|seen| seen.member.name.clone()) }
    }

    /// Something for a sibling, beside what the parts of the cluster send.
    pub fn send(&mut self, output: SiblingOutput) {
        self.out.push(output);
    }

    /// Whether there is a sibling that holds, or is about to hold, what we own.
    fn is_held(&self) -> bool {
        self.followers.values().any(|f| f.ours && !matches!(self.state(f.who), Some(State::Down | State::Left)))
    }

    /// The sibling runs on our own host.
    pub fn is_same_host(&self, server: ServerId) -> bool {
        self.links.link_with(server).is_some_and(|link| link.same_host)
    }

    /// Whether the server is to be called, now that its time has come.
    fn is_wanted(&self, target: Target) -> bool {
        match target {
            Target::Server(server) => self.links.with(server).is_none(),
            Target::Seed(_) => true,
        }
    }

    pub fn deadline(&self) -> Option<Moment> {
        let calls = self.calls.deadline(|target| self.is_wanted(target));
        let parts = [self.membership.deadline(), self.share.deadline(), calls, self.acks.deadline()];
        let leftovers = (!self.leftovers.is_empty() && !self.share.recovering()).then(Moment::default);
        let agents = [self.agents_due(), self.lost.deadline(), leftovers];
        parts.into_iter().chain(agents).chain([self.follows.deadline()]).flatten().min()
    }
}
