//! What a peer says of itself, and what an observer concludes.

use serde::{Deserialize, Serialize};

/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 256;

/// What a presentity says of itself (RFC 2778 STATUS). All four answer pings while the agent runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Online,
    Busy,
    Away,
    Offline,
}

impl Status {
    pub const ALL: [Status; 4] = [Status::Online, Status::Busy, Status::Away, Status::Offline];

    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Online => "online",
            Status::Busy => "busy",
            Status::Away => "away",
            Status::Offline => "offline",
        }
    }
}

/// What an observer concludes of a peer from what it hears; loss never depends on a goodbye (RFC 2779, 3.2.4 and 3.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// Answered the last ping that was due.
    Live,
    /// Missed at least one.
    Overdue,
    /// Missed at least three, and nothing authenticated was heard from it meanwhile.
    Gone,
    /// Said goodbye.
    Left,
}

impl Liveness {
    pub const ALL: [Liveness; 4] = [Liveness::Live, Liveness::Overdue, Liveness::Gone, Liveness::Left];

    pub const fn as_str(self) -> &'static str {
        match self {
            Liveness::Live => "live",
            Liveness::Overdue => "overdue",
            Liveness::Gone => "gone",
            Liveness::Left => "left",
        }
    }
}

/// Presence information: a status, an optional note, since when, and a version that grows with each change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "io", derive(utoipa::ToSchema))]
pub struct Presence {
    pub status: Status,
    /// At most 256 bytes; absent: none.
    #[cfg_attr(feature = "io", schema(max_length = 256))]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    /// Wall clock of the peer, ms since 1970.
    pub since_ms: u64,
    pub version: u64,
}
