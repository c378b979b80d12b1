//! What the engine can be told, with the reasons for the defaults. Plain data: files, flags and environment are the
//! shell's matter.

use std::time::Duration;

use pams_shared::frame::HOME_RETRY_MAX;

/// How long an agent may wait between two attempts to reach us, jitter included.
const RETRY: Duration = HOME_RETRY_MAX.saturating_mul(3).checked_div(2).unwrap();
/// How long one attempt may take that is lost, as the one that was under way when we started.
const ATTEMPT: Duration = Duration::from_secs(5);
/// For handshakes when everybody comes at once.
const MARGIN: Duration = Duration::from_secs(1);

/// Bounds and times of the engine. Every bound sheds the oldest or turns away the newest, and is counted when it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PamsConfig {
    /// An agent reports at least this often; an empty report keeps it alive.
    pub pace: Duration,
    /// How much later than `pace` a report may come before its peer is overdue: scheduling, one lost packet.
    pub slack: Duration,
    /// Silence after which a peer is gone: three paces, so that one lost report never decides, and below 5 s, so that a
    /// crash is known within 5 s.
    pub gone_after: Duration,
    /// Entries in the directory, those of departed peers included.
    pub peers_max: usize,
    /// Entries of peers that are gone or left; beyond it the longest departed is forgotten. As many as `peers_max`, because a
    /// cut of our own network makes everybody gone at once, and they will be back.
    pub departed_max: usize,
    /// How long the entry of a peer that is gone or left is kept.
    pub forget_after: Duration,
    /// Of so many forgotten peers the epoch, the last batch and the ledger stay known, so that one that does come back
    /// is not counted twice.
    pub forgotten_max: usize,
    /// Recent records kept for each peer, while all of them stay below `recent_total`.
    pub recent_records: usize,
    /// Recent records kept in all (about 180 bytes each): with more peers, each keeps fewer.
    pub recent_total: usize,
    /// Events kept of who came and went.
    pub events_max: usize,
    /// Peers of which one watcher's views are kept.
    pub views_per_watcher: usize,
    /// Views kept in all.
    pub views_total: usize,
    /// Subscribers of one peer.
    pub subscribers_per_peer: usize,
    /// Peers that one agent subscribes to.
    pub subscriptions_per_agent: usize,
    /// Subscriptions in all (about 250 bytes each).
    pub subscriptions_total: usize,
    /// Kinds of transactions that have a label of their own in the totals; the others are summed under `other`.
    pub kinds_max: usize,
    /// Time after the start in which a list of all peers is not given out, because the directory is in memory and the
    /// agents need time to attach again. `None`: `gone_after`, and what an agent may need for its next attempt.
    pub sd_grace: Option<Duration>,
    /// Watchers that rosters give each peer of an overlay; 0: rosters are empty.
    pub watchers: usize,
    /// How long a peer that is gone stays on rosters: its buddies may still hear it.
    pub gone_watched: Duration,
    /// How long after a change a roster is told, so that many changes are one.
    pub roster_settle: Duration,
    /// A batch is acknowledged when a sibling holds it too, if there is one.
    pub ack_held: bool,
    /// What a server says of its peers counts as stale when it was not heard for so long.
    pub stale_after: Duration,
    /// A peer whose home cannot be heard for so long, and that has not come to another, counts as gone here.
    pub orphan_gone: Duration,
    /// Peers of all servers; further ones of others are left out, and counted.
    pub entries_max: usize,
    /// Probes may be asked for where nobody is asked who they are.
    pub probe_http: bool,
}

impl Default for PamsConfig {
    fn default() -> Self {
        Self {
            pace: Duration::from_millis(1_500),
            slack: Duration::from_millis(500),
            gone_after: Duration::from_millis(4_500),
            peers_max: 100_000,
            departed_max: 100_000,
            forget_after: Duration::from_secs(7 * 24 * 3600),
            forgotten_max: 100_000,
            recent_records: 64,
            recent_total: 1_000_000,
            events_max: 1_024,
            views_per_watcher: 1_024,
            views_total: 1_000_000,
            subscribers_per_peer: 1_024,
            subscriptions_per_agent: 1_024,
            subscriptions_total: 1_000_000,
            kinds_max: 32,
            sd_grace: None,
            watchers: 10,
            gone_watched: Duration::from_secs(600),
            roster_settle: Duration::from_secs(1),
            ack_held: true,
            stale_after: Duration::from_secs(3),
            orphan_gone: Duration::from_secs(60),
            entries_max: 2_000_000,
            probe_http: false,
        }
    }
}

/// A configuration that cannot work. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PamsConfigError {
    #[error("pace must be longer than 0")]
    Pace,
    #[error("gone_after ({gone_after:?}) must not be shorter than pace + slack ({overdue_after:?})")]
    GoneAfter { gone_after: Duration, overdue_after: Duration },
    #[error("{bound} must be at least 1")]
    Zero { bound: &'static str },
}

impl PamsConfig {
    /// Whether the values can work together.
    pub fn check(&self) -> Result<(), PamsConfigError> {
        if self.pace.is_zero() {
            return Err(PamsConfigError::Pace);
        }
        let overdue_after = self.overdue_after();
        if self.gone_after < overdue_after {
            return Err(PamsConfigError::GoneAfter { gone_after: self.gone_after, overdue_after });
        }
        match self.peers_max {
            0 => Err(PamsConfigError::Zero { bound: "peers_max" }),
            _ => Ok(()),
        }
    }

    /// Silence after which a peer is overdue.
    pub fn overdue_after(&self) -> Duration {
        self.pace + self.slack
    }

    /// How long after the start the directory is taken to be full again.
    pub fn grace(&self) -> Duration {
        self.sd_grace.unwrap_or(RETRY + ATTEMPT + self.gone_after + MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_and_tell_a_crash_within_five_seconds() {
        let config = PamsConfig::default();
        assert_eq!(config.check(), Ok(()));
        assert!(config.gone_after <= Duration::from_secs(5));
    }

    #[test]
    fn the_list_is_not_given_out_before_each_agent_has_tried_again() {
        let config = PamsConfig::default();
        let (jittered, attempt) = (HOME_RETRY_MAX.mul_f64(1.5), Duration::from_secs(5));
        assert!(config.grace() >= jittered + attempt + config.gone_after);
        assert_eq!(config.grace(), Duration::from_secs(15));
        let slow = PamsConfig { gone_after: Duration::from_secs(60), ..config };
        assert!(slow.grace() > Duration::from_secs(60));
        assert_eq!(PamsConfig { sd_grace: Some(Duration::ZERO), ..slow }.grace(), Duration::ZERO);
    }

    #[test]
    fn what_cannot_work_is_said() {
        let with = |f: fn(&mut PamsConfig)| {
            let mut config = PamsConfig::default();
            f(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(with(|c| c.pace = Duration::ZERO), "pace must be longer than 0");
        assert_eq!(
            with(|c| c.gone_after = Duration::from_secs(1)),
            "gone_after (1s) must not be shorter than pace + slack (2s)"
        );
        assert_eq!(with(|c| c.peers_max = 0), "peers_max must be at least 1");
    }
}
