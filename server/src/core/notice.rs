//! What is told of: oddities ([`Notice`]), which the shell counts and logs and tests assert, and who came and went
//! ([`Event`]), which is kept for people to look at.

use std::time::Duration;

use pams_shared::id::{Order, PeerId, ServerId};
use serde::Serialize;

use super::{
    SessionId,
    cluster::membership::{self, State},
};

/// An oddity. All are survived; each is counted by its [`Notice::label`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A batch that was applied before: acknowledged again, not applied again.
    Replayed { peer: PeerId, batch: u64 },
    /// Batches between the last applied one and this one never came; their records are not counted.
    Gap { peer: PeerId, missing: u64 },
    /// The first batch that we see of an epoch is not its first: the others were acknowledged by another home, or by us
    /// before we started again.
    Resumed { peer: PeerId, batch: u64 },
    /// A session of an older epoch or attach than is known: turned away.
    OlderOrder { peer: PeerId, known: Order },
    /// Hello without a profile, or a second Hello on a session: turned away.
    BadHello { peer: PeerId },
    /// No room for one more peer: turned away.
    PeersFull { peer: PeerId },
    /// We are about to stop: turned away.
    Draining { peer: PeerId },
    /// We have just started among others, and wait for what they know: turned away.
    Settling { peer: PeerId },
    /// A newer session of the peer took the place of one that was still open. Again and again: one identity on two hosts.
    Superseded { peer: PeerId },
    /// Something came on a session that is over or never was; ignored.
    StaleSession { session: SessionId },
    /// Presence older than what is known; ignored.
    StalePresence { peer: PeerId, count: u64 },
    /// The agent's wall clock and ours differ by over a minute; positive: the agent's is ahead.
    ClockOff { peer: PeerId, offset_ms: i64 },
    /// Totals of more kinds than a peer may have; ignored.
    KindsFull { peer: PeerId, count: u64 },
    /// Totals beyond any real count; ignored.
    Implausible { peer: PeerId, count: u64 },
    /// Views over a bound; ignored.
    ViewsFull { peer: PeerId, count: u64 },
    /// The agent's own backlog was full: records that nobody will see. The ledger has them all the same.
    RecordsShed { peer: PeerId, count: u64 },
    /// Forgotten before its time to keep a bound.
    Evicted { peer: PeerId },
    /// Its ledger is dropped for good: if this epoch comes back, it is counted a second time.
    ForgottenForGood { peer: PeerId },
    /// A subscriber did not acknowledge in time, or its session ended and it did not come back.
    SubscriberLost { peer: PeerId },
    /// A bound of subscriptions is reached, or the agent asked for itself.
    SubscriptionRefused { peer: PeerId },
    /// An answer to a check that is over, or that never was; ignored.
    LateChecked { peer: PeerId },
    /// We did not run for so long that the peers' silence says nothing: their time begins anew.
    Stalled { late: Duration },
    /// Another server is alive, suspected, down, or has left.
    Server { server: ServerId, name: String, state: State },
    /// Of the membership protocol.
    Gossip(membership::Notice),
    /// What a sibling shared cannot be: the stream is opened anew.
    BadDeltas { server: ServerId, error: String },
    /// A sibling was turned away: too many, or something that cannot be followed.
    SiblingsFull { server: ServerId },
}

impl Notice {
    /// Label of the counter of notices.
    pub const fn label(&self) -> &'static str {
        match self {
            Notice::Replayed { .. } => "replayed",
            Notice::Gap { .. } => "gap",
            Notice::Resumed { .. } => "resumed",
            Notice::OlderOrder { .. } => "older_order",
            Notice::BadHello { .. } => "bad_hello",
            Notice::PeersFull { .. } => "peers_full",
            Notice::Draining { .. } => "draining",
            Notice::Settling { .. } => "settling",
            Notice::Superseded { .. } => "superseded",
            Notice::StaleSession { .. } => "stale_session",
            Notice::StalePresence { .. } => "stale_presence",
            Notice::ClockOff { .. } => "clock_off",
            Notice::KindsFull { .. } => "kinds_full",
            Notice::Implausible { .. } => "implausible",
            Notice::ViewsFull { .. } => "views_full",
            Notice::RecordsShed { .. } => "records_shed",
            Notice::Evicted { .. } => "evicted",
            Notice::ForgottenForGood { .. } => "forgotten_for_good",
            Notice::SubscriberLost { .. } => "subscriber_lost",
            Notice::SubscriptionRefused { .. } => "subscription_refused",
            Notice::LateChecked { .. } => "late_checked",
            Notice::Stalled { .. } => "stalled",
            Notice::Server { state: State::Alive, .. } => "server_alive",
            Notice::Server { state: State::Suspect, .. } => "server_suspect",
            Notice::Server { state: State::Down, .. } => "server_down",
            Notice::Server { state: State::Left, .. } => "server_left",
            Notice::Gossip(_) => "membership",
            Notice::BadDeltas { .. } => "bad_deltas",
            Notice::SiblingsFull { .. } => "siblings_full",
        }
    }

    /// How many the counter of its label grows by.
    pub const fn count(&self) -> u64 {
        match self {
            Notice::Gap { missing: n, .. }
            | Notice::StalePresence { count: n, .. }
            | Notice::KindsFull { count: n, .. }
            | Notice::Implausible { count: n, .. }
            | Notice::ViewsFull { count: n, .. }
            | Notice::RecordsShed { count: n, .. } => *n,
            _ => 1,
        }
    }

    /// Every label, so that each counter starts at 0.
    pub const LABELS: &'static [&'static str] = &[
        "replayed",
        "gap",
        "resumed",
        "older_order",
        "bad_hello",
        "peers_full",
        "draining",
        "settling",
        "superseded",
        "stale_session",
        "stale_presence",
        "clock_off",
        "kinds_full",
        "implausible",
        "views_full",
        "records_shed",
        "evicted",
        "forgotten_for_good",
        "subscriber_lost",
        "subscription_refused",
        "late_checked",
        "stalled",
        "server_alive",
        "server_suspect",
        "server_down",
        "server_left",
        "membership",
        "bad_deltas",
        "siblings_full",
    ];
}

/// What happened to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Seen for the first time, or again after it had left or was forgotten.
    Came,
    /// Heard again after it was gone, in the same epoch: it had only been cut off.
    Returned,
    /// Attached with a newer epoch without a goodbye of the older: it had crashed.
    Restarted,
    /// Opened a newer session while the older was open.
    Superseded,
    /// Said goodbye.
    Left,
    /// Nothing heard from it for too long.
    Gone,
    /// Its entry was removed.
    Forgotten,
    /// Another server is its home now.
    Moved,
}

impl What {
    pub const ALL: [What; 8] = [
        What::Came,
        What::Returned,
        What::Restarted,
        What::Superseded,
        What::Left,
        What::Gone,
        What::Forgotten,
        What::Moved,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            What::Came => "came",
            What::Returned => "returned",
            What::Restarted => "restarted",
            What::Superseded => "superseded",
            What::Left => "left",
            What::Gone => "gone",
            What::Forgotten => "forgotten",
            What::Moved => "moved",
        }
    }
}

/// Somebody came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// Our wall clock, ms since 1970: a label.
    pub at_ms: u64,
    pub peer: PeerId,
    pub name: String,
    pub epoch: u64,
    pub what: What,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_words_and_stand_once() {
        let mut labels = Notice::LABELS.to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Notice::LABELS.len());
        assert!(labels.iter().all(|l| l.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        let peer = PeerId::from_bytes([1; 16]);
        for notice in [Notice::Gap { peer, missing: 3 }, Notice::Evicted { peer }] {
            assert!(Notice::LABELS.contains(&notice.label()));
        }
        assert_eq!(Notice::Gap { peer, missing: 3 }.count(), 3);
    }
}
