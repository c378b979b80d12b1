//! What travels: the frames of `proto/pams/v1` as types that cannot be invalid. [`wire`] turns bytes into them and back,
//! with the bounds checked before anything is decoded.

mod sibling;
pub mod wire;

use std::{net::SocketAddr, time::Duration};

pub use self::sibling::*;
use uuid::Uuid;

use crate::{
    id::{Correlator, Order, PeerId},
    record::{Kind, Ledger, Record},
    status::{Liveness, Presence, Status},
};

/// ALPN of peers and homes; the digit is the major version of the wire.
pub const ALPN: &[u8] = b"pams/1";
/// ALPN of enrolment.
pub const ALPN_JOIN: &[u8] = b"pams-join/1";

/// Longest datagram frame: fits QUIC's smallest path MTU.
pub const DATAGRAM_BYTES_MAX: usize = 1_150;
/// Longest frame on a stream.
pub const STREAM_BYTES_MAX: usize = 65_536;
pub const NAME_BYTES_MAX: usize = 128;
pub const DETAIL_BYTES_MAX: usize = 512;
pub const SOFTWARE_BYTES_MAX: usize = 64;
pub const ADDRESSES_MAX: usize = 8;
pub const OVERLAYS_MAX: usize = 16;
pub const OVERLAY_BYTES_MAX: usize = 128;
pub const APPLICATIONS_MAX: usize = 16;
pub const RECORDS_MAX: usize = 256;
/// Buddies that a home can give an agent: their ids, names and an address of each fit a frame.
pub const ROSTER_MAX: usize = 512;
/// So few that a report with all its parts at their bounds still is one frame; what is left goes with the next.
pub const CHANGES_MAX: usize = 8;
pub const VIEWS_MAX: usize = 256;
pub const KINDS_MAX: usize = 64;
pub const CHAIN_MAX: usize = 4;
pub const CERTIFICATE_BYTES_MAX: usize = 4_096;
/// Longest pause of an agent between two calls to its home. A home that starts gives its agents more than that to come back
/// before it calls them gone.
pub const HOME_RETRY_MAX: Duration = Duration::from_secs(3);

/// Application close codes of a QUIC connection.
pub mod close {
    /// The sender leaves on purpose; it has said Goodbye, or could not any more.
    pub const GOODBYE: u32 = 0;
    /// Another connection between the same two parties is kept.
    pub const SUPERSEDED: u32 = 1;
    /// Hello was rejected; the reason stood in HelloAck.
    pub const REJECTED: u32 = 2;
    /// The other side broke the protocol.
    pub const PROTOCOL: u32 = 3;
    /// No Hello in time.
    pub const SILENT: u32 = 4;
    /// No longer needed (off the roster, joined, idle).
    pub const DONE: u32 = 5;
}

/// Bits of features, exchanged in Hello, HelloAck and Profile; unknown ones are ignored.
pub mod capability {
    /// Understands Subscribe and Notify.
    pub const SUBSCRIPTIONS: u64 = 1;
    /// An agent takes Roster from its home; a home sends it.
    pub const ROSTERS: u64 = 1 << 1;
    /// An agent takes Servers and Move from its home.
    pub const SERVERS: u64 = 1 << 2;
    /// An agent answers Check.
    pub const CHECKS: u64 = 1 << 3;
    /// A server that talks to siblings.
    pub const SIBLINGS: u64 = 1 << 4;
    /// A server reads Gossip in the short form.
    pub const SHORT_GOSSIP: u64 = 1 << 5;
    /// An agent takes HomeLost from any server of its cluster.
    pub const HOME_LOST: u64 = 1 << 6;
}

#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Ping(Ping),
    Pong(Pong),
    Hello(Hello),
    HelloAck(HelloAck),
    Goodbye,
    Fetch(PeerId),
    FetchAck(Option<Box<Entry>>),
    /// To be told of each change of this peer's presence.
    Subscribe(PeerId),
    SubscribeAck(SubscribeAck),
    Unsubscribe(PeerId),
    Notify(Notify),
    NotifyAck(NotifyAck),
    Report(Report),
    ReportAck(ReportAck),
    /// PKCS#10, DER.
    Renew(Vec<u8>),
    Roster(Roster),
    /// All servers that take agents.
    Servers(Vec<Server>),
    Move(Move),
    Check(Check),
    Checked(Checked),
    /// A message of the membership protocol.
    Gossip(Vec<u8>),
    Follow(Follow),
    Deltas(Deltas),
    Held(Held),
    Probe(Probe),
    ProbeAck(ProbeAck),
    HomeLost(HomeLost),
    /// Whether the agent asks that home now.
    HomeLostAck(bool),
    Join(Join),
    Issued(Issued),
    Refused(Refused),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Always short: 16 bytes travel.
    pub correlator: Correlator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    pub correlator: Correlator,
    pub status: Status,
    /// Absent: not measured.
    pub hold_ns: Option<u64>,
    /// Version of the presence information.
    pub version: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
pub struct Profile {
    /// A label for people, not an identity.
    pub name: String,
    /// Where its agent listens, as `ip:port`.
    #[cfg_attr(feature = "io", schema(value_type = Vec<String>, example = json!(["192.0.2.7:7421"])))]
    pub addresses: Vec<SocketAddr>,
    /// Software and version of its agent.
    #[cfg_attr(feature = "io", schema(example = "pams-agent/0.1.0"))]
    pub software: String,
    /// Overlays that it is in; they nest by `/`.
    #[cfg_attr(feature = "io", schema(example = json!(["games/chess"])))]
    pub overlays: Vec<String>,
    /// Ids of the applications beside the agent.
    pub applications: Vec<Uuid>,
    #[serde(skip)]
    pub capabilities: u64,
    /// Where the agent's `/metrics` listens, as it was bound: the ip may be unspecified or loopback, the port is not 0.
    /// `None`: nowhere.
    #[serde(skip)]
    pub metrics: Option<SocketAddr>,
    /// How many buddies the agent takes from its home; 0: none.
    #[serde(skip)]
    pub roster_max: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    pub software: String,
    pub epoch: u64,
    pub capabilities: u64,
    pub wall_ms: u64,
    pub attach: u64,
    /// Only to a home.
    pub profile: Option<Profile>,
    /// Only between servers.
    pub member: Option<Member>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HelloAck {
    pub software: String,
    pub epoch: u64,
    pub capabilities: u64,
    pub wall_ms: u64,
    pub observed: Option<SocketAddr>,
    pub verdict: Result<(), Rejected>,
    /// Only from a home.
    pub terms: Option<Terms>,
    /// Only between servers.
    pub member: Option<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub code: Rejection,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    Role,
    Key,
    Epoch,
    Expired,
    Busy,
    /// The other side is this very peer.
    Oneself,
    Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub pace_ms: u64,
    pub gone_after_ms: u64,
    pub applied_batch: u64,
}

/// One peer as somebody knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub peer: PeerId,
    pub order: Order,
    pub profile: Profile,
    pub presence: Presence,
    pub liveness: Liveness,
    pub age_ms: u64,
    pub observed: Option<SocketAddr>,
}

/// How a peer is, as one side tells it another that subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub peer: PeerId,
    pub order: Order,
    /// `None`: it has said nothing in this epoch yet.
    pub presence: Option<Presence>,
    /// What a home concludes; the peer itself gives none.
    pub liveness: Option<Liveness>,
    pub age_ms: u64,
}

/// The answer to a subscription: no, or what is known now; `None`: nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeAck(pub Result<Option<News>, Rejected>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Counts the changes within the subscription; not each need be told.
    pub number: u64,
    pub news: News,
    /// Of the transaction that times it, always short; `None` from a home.
    pub correlator: Option<Correlator>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifyAck {
    pub peer: PeerId,
    pub number: u64,
    /// Absent: not measured, or what came was known already.
    pub hold_ns: Option<u64>,
    pub correlator: Option<Correlator>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub batch: u64,
    pub totals: Vec<(Kind, Ledger)>,
    pub changes: Vec<Presence>,
    pub views: Vec<View>,
    pub records: Vec<Record>,
    pub shed: u64,
}

impl Report {
    /// Nothing but a sign of life.
    pub fn is_empty(&self) -> bool {
        let Self { batch: _, totals: _, changes, views, records, shed: _ } = self;
        changes.is_empty() && views.is_empty() && records.is_empty()
    }
}

/// What the reporting peer concludes of one that it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct View {
    pub peer: PeerId,
    /// `None`: not judged yet.
    pub liveness: Option<Liveness>,
    /// What it last said; `None`: never heard.
    pub status: Option<Status>,
    pub missed: u32,
    pub hears: bool,
    #[serde(rename = "is_heard")]
    pub heard: bool,
    #[serde(skip)]
    pub dropped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportAck {
    pub batch: u64,
    pub pace_ms: u64,
    /// Reports that have come on this connection so far; 0: not told.
    pub came: u64,
}

/// All whom the home wants an agent to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    pub peers: Vec<Rostered>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rostered {
    pub peer: PeerId,
    pub name: String,
    /// None, or none that answers: the home can be asked.
    pub addresses: Vec<SocketAddr>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    pub token_id: String,
    pub secret: Vec<u8>,
    pub id: Uuid,
    pub csr: Vec<u8>,
    pub role: Role,
    pub name: String,
    pub wall_ms: u64,
}

/// Without the secret.
impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("token_id", &self.token_id).field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Agent,
    Server,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Server => "server",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Leaf first, DER, without the root; for a server its intermediate alone.
    pub chain: Vec<Vec<u8>>,
    pub root: Vec<u8>,
    pub domain: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Refusal,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    TokenUnknown,
    TokenSecret,
    TokenUsedUp,
    TokenExpired,
    TokenRevoked,
    TokenRole,
    IdTaken,
    Csr,
    Expired,
    Busy,
    Protocol,
}

/// Why bytes are no frame. Always the sender's fault; nothing changed by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    #[error("frame of {bytes} bytes is over the bound of {max}")]
    Oversized { bytes: u64, max: usize },
    #[error("not a protobuf frame: {0}")]
    Malformed(String),
    /// A kind of a newer version: counted, answered or skipped, never fatal.
    #[error("frame kind {tag} is not known here")]
    UnknownKind { tag: u32 },
    #[error("field {field}: {problem}")]
    Invalid { field: &'static str, problem: &'static str },
}

impl FrameError {
    /// Label of the counter of rejected frames.
    pub const fn label(&self) -> &'static str {
        match self {
            FrameError::Oversized { .. } => "oversized",
            FrameError::Malformed(_) => "malformed",
            FrameError::UnknownKind { .. } => "unknown_kind",
            FrameError::Invalid { .. } => "invalid",
        }
    }

    pub const LABELS: [&'static str; 4] = ["oversized", "malformed", "unknown_kind", "invalid"];
}
