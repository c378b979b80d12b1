//! Times and bounds of membership.

use std::{
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

use foca::{Config, PeriodicParams};

/// Longest message: fits QUIC's smallest path MTU as a datagram, with room for a frame around it.
pub const GOSSIP_BYTES_MAX: usize = 1_100;

/// Times and bounds. All servers of one cluster should have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipConfig {
    /// Least time from one probe to the next, if the one before was answered.
    pub probe_pause: Duration,
    /// So often at most each member is probed by each other, on average.
    pub member_pause: Duration,
    /// One that probes us, and gets our answers, is not probed by us for so long after each: longer than `member_pause` by what
    /// one way may differ from the next, so that of two one asks.
    pub pinged_pause: Duration,
    /// After so long without an answer, others are asked to probe too.
    pub probe_rtt: Duration,
    /// A probe not answered by then, by whatever way, makes its target suspect. Longer than `probe_rtt`.
    pub probe_period: Duration,
    /// A suspect has so long to object before it is down.
    pub suspect_for: Duration,
    /// Down is told once it has lasted so long; up at once.
    pub settle: Duration,
    /// How many others are asked to probe, and are told of news at once.
    pub fan_out: usize,
    /// Messages that carry one piece of news, from each server.
    pub transmissions: u8,
    /// Pause between two rounds of gossip while there is news.
    pub gossip_every: Duration,
    /// Pause between two calls to those that are down, so that a healed network is noticed.
    pub announce_every: Duration,
    /// Pause between two looks at another member's list, for what gossip missed.
    pub refresh_every: Duration,
    /// A timer so late means that we did not run.
    pub slack: Duration,
    /// One that is down or has left is forgotten after so long.
    pub forget_after: Duration,
    /// Members known at most.
    pub members_max: usize,
}

impl Default for MembershipConfig {
    /// A crash is seen by all of 3 to 10 servers within 1.45 s at the median and 1.75 s at the 99th percentile, with ways of up to 60 ms
    /// and 1 % loss. Where that goes, and why foca's own defaults for a LAN (a probe a second, five seconds of suspicion and more)
    /// are not taken:
    ///
    /// - **Until somebody probes it**, 0.1 s at the median, 0.5 s at worst: each is probed by each other every `member_pause`, or after
    ///   `pinged_pause` if it was itself the one that probed; beyond three others, the number of those who probe makes up for the
    ///   rarer turns (`probe_pause`).
    /// - **Until that probe has failed**, 0.4 s: after `probe_rtt`, longer than most answers take, others are asked. That is four
    ///   ways, so 0.24 s at 60 ms each, and `probe_period` has room for it. A direct answer counts as long: servers may be 0.4 s
    ///   apart and back.
    /// - **Until it may not object any more**, 0.6 s: it hears of the suspicion within one way and is heard within another, and both
    ///   are said again every `gossip_every`: four times at least, and by all others too.
    /// - **Until it is told**, 0.3 s: a renewal after a mistake takes some four ways (`settle`).
    ///
    /// `fan_out` reaches all of nine servers in one hop; `transmissions` are three rounds of that, and more rounds the fewer they
    /// are. `announce_every` and the five ways that follow bring a healed network together in half a second.
    fn default() -> Self {
        const MS: Duration = Duration::from_millis(1);
        Self {
            probe_pause: 100 * MS,
            member_pause: 330 * MS,
            pinged_pause: 380 * MS,
            probe_rtt: 150 * MS,
            probe_period: 400 * MS,
            suspect_for: 600 * MS,
            settle: 300 * MS,
            fan_out: 8,
            transmissions: 24,
            gossip_every: 100 * MS,
            announce_every: 300 * MS,
            refresh_every: Duration::from_secs(30),
            slack: 100 * MS,
            forget_after: Duration::from_secs(24 * 3_600),
            members_max: 1_000,
        }
    }
}

impl MembershipConfig {
    /// Pause between two probes if there are so many others.
    pub(super) fn pause(&self, others: usize) -> Duration {
        let others = u32::try_from(others.max(1)).unwrap_or(u32::MAX);
        self.probe_pause.max(self.member_pause / others)
    }

    /// The same for the engine beneath. Calls to those down are ours, since it makes none when it is alone; so is gossip, since
    /// its own would wait for the next round.
    pub(super) fn engine(&self) -> Config {
        let count = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: count(self.fan_out),
            max_transmissions: NonZeroU8::new(self.transmissions).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self.suspect_for,
            remove_down_after: Some(self.forget_after),
            max_packet_size: count(GOSSIP_BYTES_MAX),
            notify_down_members: true,
            periodic_announce: Some(PeriodicParams { frequency: self.refresh_every, num_members: count(1) }),
            periodic_announce_to_down_members: None,
            periodic_gossip: None,
        }
    }
}
