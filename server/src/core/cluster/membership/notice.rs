//! Oddities of membership: all are survived, each is counted by its label.

use std::time::Duration;

use pams_shared::id::ServerId;

use super::wire::WireError;

/// An oddity. Only authenticated servers can cause those of messages: a fault or another version, not a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A message that makes no sense; dropped whole.
    Garbled { from: ServerId, error: WireError },
    /// A message that names another server as its sender; dropped.
    Forged { from: ServerId, claimed: ServerId },
    /// A message for another server; dropped.
    Misdelivered { from: ServerId },
    /// A message of a server, or of a start of it, of which no Hello told us; dropped.
    Stranger { from: ServerId },
    /// Others tell of a later start with our id: two processes share one data directory, or this start's generation is
    /// behind the last one's. Not believed, not passed on.
    Impostor { generation: u64 },
    /// A server met has an older generation than is known of it: the others ignore it until it starts with a newer one.
    OldGeneration { id: ServerId, said: u64, known: u64 },
    /// No room for one more member; what was said of it is dropped.
    MembersFull { id: ServerId },
    /// The longest known of those down or left, forgotten before its time to keep the bound.
    Evicted { id: ServerId },
    /// Others took us for down; we came back at once, under this bump.
    Renewed { bump: u32 },
    /// A member was down, and up again before that was told.
    Flapped { id: ServerId },
    /// We did not run for so long that the others' silence says nothing: their time begins anew.
    Stalled { late: Duration },
    /// The engine beneath found fault with us or a message.
    Engine { error: String },
    /// Messages and notices for which there was no room, since nobody polled.
    Shed { count: u64 },
}

impl Notice {
    /// Label of the counter of notices.
    pub const fn label(&self) -> &'static str {
        match self {
            Notice::Garbled { .. } => "garbled",
            Notice::Forged { .. } => "forged",
            Notice::Misdelivered { .. } => "misdelivered",
            Notice::Stranger { .. } => "stranger",
            Notice::Impostor { .. } => "impostor",
            Notice::OldGeneration { .. } => "old_generation",
            Notice::MembersFull { .. } => "members_full",
            Notice::Evicted { .. } => "evicted",
            Notice::Renewed { .. } => "renewed",
            Notice::Flapped { .. } => "flapped",
            Notice::Stalled { .. } => "stalled",
            Notice::Engine { .. } => "engine",
            Notice::Shed { .. } => "shed",
        }
    }

    /// How many the counter of its label grows by.
    pub const fn count(&self) -> u64 {
        match self {
            Notice::Shed { count } => *count,
            _ => 1,
        }
    }

    /// Every label, so that each counter starts at 0.
    pub const LABELS: &'static [&'static str] = &[
        "garbled",
        "forged",
        "misdelivered",
        "stranger",
        "impostor",
        "old_generation",
        "members_full",
        "evicted",
        "renewed",
        "flapped",
        "stalled",
        "engine",
        "shed",
    ];
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
        assert!(Notice::LABELS.contains(&Notice::Shed { count: 2 }.label()));
        assert_eq!(Notice::Shed { count: 2 }.count(), 2);
    }
}
