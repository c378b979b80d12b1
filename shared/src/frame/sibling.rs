//! What servers say to each other, and what a home tells its agents of servers (`sibling.proto`).

use std::net::SocketAddr;

use serde::Serialize;
use uuid::Uuid;

use super::{FrameError, Profile, Rejected, Role, wire};
use crate::{
    id::{Correlator, PeerId, ServerId},
    record::{Kind, Ledger, Outcome, Reason, Stages},
    status::{Liveness, Presence, Status},
};

/// Longest message of the membership protocol: with its frame it fits a datagram.
pub const SWIM_BYTES_MAX: usize = 1_100;
/// Entries in one [`Deltas`], though their bytes may fill a frame before.
pub const DELTAS_MAX: usize = 400;
/// Longest [`Lot`], in bytes: one that has everything at its bound fits.
pub const LOT_BYTES_MAX: usize = 16 * 1024;
/// Servers that an agent is told of.
pub const SERVERS_MAX: usize = 64;
pub const REGION_BYTES_MAX: usize = 64;
pub const PID_BYTES_MAX: usize = 64;
/// Findings in the answer to one probe.
pub const FINDINGS_MAX: usize = 8;
/// A probe goes from the server that was asked to the peer's home, and no further.
pub const HOPS_MAX: u32 = 1;

/// A server, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
pub struct Member {
    pub id: ServerId,
    /// Its starts so far; the larger wins over any news of a smaller.
    pub generation: u64,
    /// A label for people, not an identity.
    pub name: String,
    /// Where it listens for QUIC.
    #[cfg_attr(feature = "io", schema(value_type = Vec<String>, example = json!(["192.0.2.1:7420"])))]
    pub addresses: Vec<SocketAddr>,
    /// Where it serves HTTP; `None`: nowhere.
    #[cfg_attr(feature = "io", schema(value_type = Option<String>, example = "192.0.2.1:7480"))]
    pub http: Option<SocketAddr>,
    /// A label of a place; empty: none.
    pub region: String,
    pub software: String,
}

/// Asks for what `owner` shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    pub owner: ServerId,
    /// 0: none is held.
    pub generation: u64,
    /// All up to it are held.
    pub from: u64,
}

/// What an owner shares, or a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deltas {
    pub owner: ServerId,
    pub generation: u64,
    /// In the frame that begins a stream: what is held of the owner and not told until the bulk ends is no more.
    pub anew: bool,
    /// A part of what was there when the stream began, not of what came since. Without entries and end: the stream begins.
    pub bulk: bool,
    pub bulk_end: bool,
    pub upto: u64,
    pub entries: Vec<Shared>,
    /// XOR of the hashes of all the owner's entries that have a lot; by the owner itself, when all is told.
    pub digest: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub generation: u64,
    pub upto: u64,
}

/// One peer as its home knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub peer: PeerId,
    /// In which of its owner's generations it was written.
    pub generation: u64,
    /// Its number among the changes of (owner, generation).
    pub seq: u64,
    pub epoch: u64,
    pub attach: u64,
    /// `None`: forgotten.
    pub lot: Option<Packed>,
    /// Forgotten by an operator's will; never with a lot.
    pub banned: bool,
}

/// A [`Lot`] in its bytes, which are known to be one: kept and handed on as they came.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Reads as `lot`, if that is within bounds; without the accounts that [`wire::encode_lot`] leaves out.
    pub fn new(lot: &Lot) -> Self {
        Self(wire::encode_lot(lot).into())
    }

    /// Bytes of a stranger.
    ///
    /// # Errors
    /// As [`wire::decode_lot`].
    pub fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        wire::decode_lot(bytes)?;
        Ok(Self(bytes.into()))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What they say.
    pub fn lot(&self) -> Lot {
        // Read or written by the same code before, so that there is nothing to go wrong.
        wire::decode_lot(&self.0).unwrap_or_default()
    }

    /// As in [`Packed::lot`], for a fraction of the work.
    pub fn standing(&self) -> Standing<'_> {
        wire::lot_standing(&self.0)
    }

    /// As in [`Packed::lot`], for a fraction of the work.
    pub fn liveness(&self) -> Liveness {
        wire::lot_liveness(&self.0).unwrap_or(Lot::default().liveness)
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lot().fmt(f)
    }
}

/// Of a lot what says whom its peer can watch, and who it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub liveness: Liveness,
    pub capabilities: u64,
    pub roster_max: u32,
    profile: &'a [u8],
}

impl<'a> Standing<'a> {
    pub(super) fn new(liveness: Liveness, capabilities: u64, roster_max: u32, profile: &'a [u8]) -> Self {
        Self { liveness, capabilities, roster_max, profile }
    }

    pub fn overlays(&self) -> impl Iterator<Item = &'a str> {
        wire::profile_overlays(self.profile)
    }
}

/// What a home shares of one of its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lot {
    pub profile: Profile,
    /// `None`: it has said nothing yet.
    pub presence: Option<Presence>,
    /// `presence` was said in this epoch.
    pub said: bool,
    pub liveness: Liveness,
    /// Since when: the home's wall clock, ms since 1970. A label.
    pub since_ms: u64,
    /// Where the home sees its agent.
    pub observed: Option<SocketAddr>,
    /// The last batch of the epoch that is applied.
    pub applied: u64,
    /// Records that its backlog shed in this epoch.
    pub shed: u64,
    /// At most [`super::KINDS_MAX`], one a kind.
    pub accounts: Vec<Account>,
    /// Label of the group of near peers that it is in (RFC 7285); empty: none.
    pub pid: String,
}

impl Default for Lot {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            presence: None,
            said: false,
            liveness: Liveness::Overdue,
            since_ms: 0,
            observed: None,
            applied: 0,
            shed: 0,
            accounts: Vec::new(),
            pid: String::new(),
        }
    }
}

/// A peer's transactions of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub kind: Kind,
    /// As the epoch reported it.
    pub reported: Ledger,
    /// Over all its epochs; no fewer opened than `reported`.
    pub booked: Ledger,
    /// Booked as unknown in this epoch and not yet reported closed: at most `booked.unknown`.
    pub owed: u64,
}

/// A server that takes agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    pub member: Member,
    /// How full it is, in thousandths of what it takes.
    pub load: u32,
}

/// The home wants the agent to go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// `None`: to any other.
    pub server: Option<ServerId>,
    pub detail: String,
}

/// That home does not answer the servers any more, in this start of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeLost {
    pub server: ServerId,
    pub generation: u64,
    /// For how long it has been found so.
    pub for_ms: u64,
}

/// Asks a server how a peer is right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub peer: PeerId,
    /// Always short.
    pub correlator: Correlator,
    pub within_ms: u32,
    pub hops: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAck(pub Result<Vec<Finding>, Rejected>);

/// What one party found when it asked a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Who measured.
    pub by: Uuid,
    pub by_role: Role,
    pub outcome: Outcome,
    pub reason: Option<Reason>,
    pub total_ns: Option<u64>,
    pub stages: Stages,
    /// What the peer said in the answer.
    pub status: Option<Status>,
}

/// The home asks an agent to ping a peer once; with its own id, to answer at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Always short.
    pub correlator: Correlator,
    pub peer: PeerId,
    pub within_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub correlator: Correlator,
    pub finding: Finding,
}
