//! What happens between this server and its siblings, and what the engine asks for because of it.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{Deltas, Follow, Held, HomeLost, Member, Probe, ProbeAck},
    id::{PeerId, ServerId},
};

use super::{
    super::{probe::ProbeId, share::FollowerId},
    lost::Told,
};

/// One connection with a sibling; a number that the shell uses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One stream on which we follow what an owner shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowId(pub u64);

/// Whom to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A server that is known.
    Server(ServerId),
    /// Whoever answers at what the seed of that number stands for, and is neither we nor connected with us.
    Seed(usize),
}

/// Something happened between us and a sibling.
#[derive(Debug)]
pub enum SiblingInput {
    /// A connection stands: both have said Hello. Its server id is proven by its certificate.
    Linked { link: LinkId, member: Box<Member>, capabilities: u64, dialled: bool, same_host: bool },
    /// It is no more, and its streams with it.
    Unlinked { link: LinkId },
    /// A call has ended; with whom there is a link now, if there is.
    Called { target: Target, server: Option<ServerId> },
    /// A message of the membership protocol.
    Gossip { link: LinkId, bytes: Vec<u8> },
    /// On a stream that [`SiblingOutput::Follow`] asked for; acknowledged by [`SiblingOutput::Held`].
    Deltas { follow: FollowId, deltas: Box<Deltas> },
    /// That stream has ended.
    FollowEnded { follow: FollowId },
    /// The sibling wants to be told, on a stream that it has opened.
    Followed { link: LinkId, stream: FollowerId, follow: Follow },
    /// The last [`SiblingOutput::Deltas`] of the stream is written.
    Written { stream: FollowerId },
    /// The sibling holds what was written.
    Held { stream: FollowerId, held: Held },
    /// The stream has ended.
    Unfollowed { stream: FollowerId },
    /// The answer to [`SiblingOutput::Probe`]; `None`: there was none in time, or the connection is lost.
    Probed { probe: ProbeId, ack: Option<ProbeAck> },
    /// The end of [`SiblingOutput::Tell`].
    Told { peer: PeerId, told: Told },
    /// We leave for good: the others are to know.
    Leave,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum SiblingOutput {
    /// Call, at whichever of these addresses (`host:port`, or a service) answers, for so long; end with [`SiblingInput::Called`].
    Call { target: Target, addresses: Vec<String>, patience: Duration },
    /// Close the connection with this code. The core has no such link any more.
    Unlink { link: LinkId, code: u32 },
    /// Send as a datagram.
    Gossip { link: LinkId, bytes: Vec<u8> },
    /// Open a stream and ask.
    Follow { link: LinkId, follow: FollowId, what: Follow },
    /// End that stream.
    Unfollow { follow: FollowId },
    /// Acknowledge on that stream.
    Held { follow: FollowId, held: Held },
    /// Write on a sibling's stream; none comes before this one was [`SiblingInput::Written`].
    Deltas { stream: FollowerId, deltas: Box<Deltas> },
    /// Ask on a stream of its own; end with [`SiblingInput::Probed`], in twice `within_ms` at the latest.
    Probe { link: LinkId, probe: ProbeId, what: Probe },
    /// Call this agent, at whichever address answers, and tell it; end with [`SiblingInput::Told`].
    Tell { peer: PeerId, addresses: Vec<SocketAddr>, what: HomeLost },
    /// All servers that are known, for the disk: where to begin after the next start.
    Members(Vec<Member>),
    /// An operator made the cluster forget this peer: its certificate is not welcome any more.
    Banned { peer: PeerId },
    /// That peer has joined anew.
    Unbanned { peer: PeerId },
}
