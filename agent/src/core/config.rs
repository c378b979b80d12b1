//! What an agent is told to do: whom it watches and whose presence it wants, how often, and what it says of itself. Where it comes
//! from, files and flags, is not known here.

use std::time::Duration;

use pams_shared::{frame::Profile, id::PeerId, presence::WatcherConfig, status::Presence};

#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub watcher: WatcherConfig,
    pub buddies: Vec<BuddyConfig>,
    /// Whose presence is wanted from the start.
    pub subscribe: Vec<PeerId>,
    /// As restored from the last run.
    pub presence: Presence,
    pub profile: Profile,
    /// Transactions in flight at once.
    pub pool_max: usize,
    /// Records kept for the home while it is away.
    pub backlog_max: usize,
    /// Slows every pong down: tests and the demo play a busy peer with it.
    pub answer_after: Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            watcher: WatcherConfig::default(),
            buddies: Vec::new(),
            subscribe: Vec::new(),
            presence: Presence::default(),
            profile: Profile::default(),
            pool_max: 16_384,
            backlog_max: 10_000,
            answer_after: Duration::ZERO,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuddyConfig {
    pub peer: PeerId,
    pub name: Option<String>,
    /// `host:port`; empty: the home is asked.
    pub addresses: Vec<String>,
}
