//! What befalls an agent as a whole: another configuration, a time in which it did not run, other addresses of its host.
//!
//! After a stall it doubts itself first: what was in flight ends as unknown, nobody is judged by the silence, and
//! connections that the other sides may have given up are made anew at once, rather than when QUIC finds out.

use std::{collections::BTreeSet, time::Duration};

use pams_shared::{
    frame::Profile,
    id::PeerId,
    moment::Moment,
    record::{Reason, Record, Why},
};
use serde::Serialize;

use super::{Agent, AgentConfig, BuddyConfig, Notice, Output, Purpose, roster::Word};

/// After so long a silence of ours others may have given up their ends of the connections: half of QUIC's idle timeout, as
/// theirs began with the last packet before.
const RECONNECT_AFTER: Duration = Duration::from_secs(15);
/// A stall of so long makes the times of what was in flight worthless: kernel stamps older than this are not believed
/// (`clock::STAMP_AGE_MAX`), so our own sleep would pass for the network's.
const TIMES_LOST_AFTER: Duration = Duration::from_secs(10);

/// A time in which the agent did not run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Sleep {
    /// When it began, ms since 1970.
    pub from_ms: u64,
    /// How long it took, in seconds.
    pub for_s: f64,
    /// The host was suspended; else the process was stopped, or starved.
    pub suspended: bool,
}

/// A change of the host's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Move {
    /// When it was noticed, ms since 1970.
    pub at_ms: u64,
}

impl Agent {
    /// Takes another configuration; the presence and what only tests set stay.
    pub(super) fn reconfigure(&mut self, now: Moment, config: AgentConfig) {
        self.watcher.reconfigure(now, config.watcher, &mut self.minter);
        self.patience = config.watcher.patience;
        self.pool.resize(config.pool_max);
        let shed = self.batcher.resize(config.backlog_max);
        if shed > 0 {
            self.notice(Notice::Shed { records: shed });
        }
        self.enlist(now, config.buddies);
        self.want_these(now, config.subscribe.into_iter().collect());
        // Where the metrics are is known since HTTP was bound.
        let profile = Profile { metrics: self.profile.metrics, ..config.profile };
        if profile != self.profile {
            self.profile = profile;
            self.release_given(now);
            self.rejoin("the home is told what this peer says of itself now");
        }
    }

    /// Whoever takes nobody from its home is told no roster any more that would take back whom it named.
    fn release_given(&mut self, now: Moment) {
        if self.profile.roster_max > 0 {
            return;
        }
        for peer in self.roster.given() {
            self.roster.take(peer);
            self.dismiss(now, peer);
        }
    }

    /// Watches these, and whom the home names.
    fn enlist(&mut self, now: Moment, buddies: Vec<BuddyConfig>) {
        let named: BTreeSet<PeerId> = buddies.iter().map(|b| b.peer).collect();
        for peer in self.roster.configured().into_iter().filter(|peer| !named.contains(peer)) {
            let elsewhere = self.roster.unconfigure(peer);
            self.dismiss(now, peer);
            self.hurry(now, peer, elsewhere);
        }
        for BuddyConfig { peer, name, addresses } in buddies {
            if peer == self.me {
                self.notice(Notice::RosterNamesSelf);
                continue;
            }
            let new = self.watcher.watch(now, peer, &mut self.minter);
            let elsewhere = self.roster.configure(peer, Word { name, addresses });
            self.hurry(now, peer, elsewhere && !new);
        }
    }

    /// A peer that is called elsewhere from now on is called at once.
    fn hurry(&mut self, now: Moment, peer: PeerId, elsewhere: bool) {
        if elsewhere && !self.roster.is_connected(peer) {
            self.watcher.hasten(peer, now);
        }
    }

    /// Watches a peer no longer, unless somebody names it yet. What was sent to it ends by itself; polls that still wait for
    /// a connection are given up.
    pub(super) fn dismiss(&mut self, now: Moment, peer: PeerId) {
        if self.roster.is_buddy(peer) || !self.watcher.unwatch(peer) {
            return;
        }
        self.last.remove(&peer);
        let held = self.roster.unhold(peer);
        let (polls, asked): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|c| matches!(self.pool.context(*c), Some(Purpose::Poll { .. })));
        self.roster.hold(peer, asked);
        for correlator in polls {
            self.fail(now, correlator, Reason::Cancelled);
        }
        self.roster.tidy(peer);
        self.batcher.view(peer); // the home drops it
    }

    /// We did not run for `stopped`, and our host for `suspended`, which the monotonic clock leaves out.
    pub(super) fn slept(&mut self, now: Moment, stopped: Duration, suspended: Duration) {
        let gap = stopped + suspended;
        let in_suspend = suspended > Duration::ZERO;
        let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        self.sleep = Some(Sleep {
            from_ms: now.wall_ms().saturating_sub(gap_ms),
            for_s: gap_ms as f64 / 1e3,
            suspended: in_suspend,
        });
        self.notice(Notice::Slept { gap, suspended: in_suspend });
        let lost = in_suspend || stopped >= TIMES_LOST_AFTER;
        while let Some((record, purpose)) = if lost { self.pool.abandon(Reason::Stalled) } else { self.pool.stall(now) }
        {
            self.release(&record);
            self.ended(now, record, purpose);
        }
        if in_suspend {
            self.presentity.suspended();
        }
        self.watcher.doubt(now, &mut self.minter);
        self.publisher.doubt(now);
        if gap >= RECONNECT_AFTER {
            for (peer, link) in self.roster.connected() {
                let text = "this agent did not run for a while; it connects anew";
                self.roster.down(peer, link, Why::new(Reason::Stalled, text));
                // One that is no buddy of ours calls us again with its next poll.
                self.publisher.down_for(now, peer, self.watcher.silence());
                self.subscriber.unlinked(peer);
                self.out.push_back(Output::HangUp { peer });
            }
            self.rejoin("this agent did not run for a while; it connects anew");
        }
    }

    /// The host has other addresses; `addresses` is where this peer can be called now.
    pub(super) fn moved(&mut self, now: Moment, addresses: Vec<std::net::SocketAddr>) {
        self.moved = Some(Move { at_ms: now.wall_ms() });
        self.notice(Notice::Moved { addresses: addresses.clone() });
        // Those who are not heard now may be cut off by this, and reached again.
        self.watcher.doubt(now, &mut self.minter);
        if self.profile.addresses != addresses {
            self.profile.addresses = addresses;
            self.rejoin("the home is told this peer's new addresses");
        }
    }

    fn rejoin(&mut self, text: &str) {
        self.out.push_back(Output::Rejoin { why: Why::new(Reason::Cancelled, text) });
    }

    pub(super) fn release(&mut self, record: &Record) {
        self.roster.release(PeerId(record.target), record.correlator);
    }
}
