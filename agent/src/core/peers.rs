//! What comes of peers: their pings and pongs, and the connections with them, made and lost.

use std::time::Duration;

use pams_shared::{
    frame::{Ping, Pong},
    id::PeerId,
    moment::Moment,
    presence::Answering,
    record::{Outcome, Reason, Why},
    transaction::{Answer, Closed},
};

use super::{Agent, LinkId, Notice, Output, Purpose, roster::CONTACTS_MAX};

/// Clocks that differ by more are told of.
const CLOCK_OFFSET_TOLD: Duration = Duration::from_secs(60);
/// Of one clock it is not told again sooner, whatever it does.
const CLOCK_OFFSET_PAUSE: Duration = Duration::from_secs(600);

impl Agent {
    pub(super) fn ping_came(&mut self, now: Moment, from: PeerId, ping: Ping, arrived: Option<Moment>) {
        self.watcher.heard(now, from, &mut self.changes);
        match self.presentity.answer(now, from, ping, arrived) {
            Answering::Now(pong) => self.out.push_back(Output::SendPong { peer: from, pong }),
            Answering::Later => {}
            Answering::Overrun => self.notice(Notice::AnswersOverrun { peer: from }),
        }
    }

    pub(super) fn pong_came(
        &mut self,
        now: Moment,
        from: PeerId,
        pong: Pong,
        arrived: Option<Moment>,
        path_rtt_ns: Option<u64>,
    ) {
        if matches!(self.pool.context(pong.correlator), Some(Purpose::Notify)) {
            return self.notice(Notice::UnknownCorrelator { peer: from });
        }
        let answer = Answer { arrived, hold_ns: pong.hold_ns, status: Some(pong.status), path_rtt_ns };
        match self.pool.close(now, pong.correlator, from.0, answer) {
            Closed::Good(record, purpose) => {
                let opened = now.before(Duration::from_nanos(record.total_ns.unwrap_or_default()));
                self.watcher.answered(now, from, opened, (pong.status, pong.version), &mut self.changes);
                if self.watcher.buddy(from).is_some() {
                    self.last.insert(from, (*record).clone());
                }
                self.ended(now, *record, purpose);
            }
            Closed::Late { total_ns } => {
                self.watcher.late(now, from, pong.status, pong.version, &mut self.changes);
                self.notice(Notice::Late { peer: from, total_ns });
            }
            Closed::Duplicate => self.notice(Notice::Duplicate { peer: from }),
            Closed::Stranger => self.notice(Notice::UnknownCorrelator { peer: from }),
        }
    }

    pub(super) fn link_up(&mut self, now: Moment, peer: PeerId, link: LinkId, epoch: u64, clock_offset_ms: i64) {
        let held = self.roster.up(peer, link);
        if let Some(contact) = self.roster.contact_mut(peer) {
            contact.clock_offset_ms = Some(clock_offset_ms);
            if epoch > contact.epoch {
                contact.epoch = epoch;
                self.watcher.restarted(now, peer, &mut self.changes);
            }
        }
        self.tell_clock(now, peer.0, clock_offset_ms);
        self.watcher.heard(now, peer, &mut self.changes);
        self.notice(Notice::LinkUp { peer });
        // Subscriptions are renewed on each connection, in both directions.
        self.publisher.down(now, peer);
        self.subscriber.linked(peer);
        for correlator in held {
            self.out.push_back(Output::SendPing { peer, ping: Ping { correlator } });
        }
    }

    pub(super) fn link_down(&mut self, now: Moment, peer: PeerId, link: LinkId, why: Why, restarted: bool) {
        if !self.roster.down(peer, link, why.clone()) {
            return;
        }
        self.publisher.down(now, peer);
        self.subscriber.unlinked(peer);
        if restarted {
            self.watcher.hasten(peer, now);
        }
        self.notice(Notice::LinkDown { peer, why });
    }

    pub(super) fn unreachable(&mut self, now: Moment, peer: PeerId, why: Why) {
        let held = self.roster.failed(peer, why.clone());
        self.notice(Notice::DialFailed { peer, why: why.clone() });
        // Refusals are final. Otherwise whoever asks is told at once, and for polls the next dial may yet come in time.
        let (end, hold): (Vec<_>, Vec<_>) = held.into_iter().partition(|c| {
            let asked = matches!(self.pool.context(*c), Some(Purpose::Asked { .. } | Purpose::Check { .. }));
            asked || why.reason.outcome() == Outcome::Failed
        });
        self.roster.hold(peer, hold);
        let reason = if why.reason.outcome() == Outcome::Failed { why.reason } else { Reason::NotSent };
        for correlator in end {
            self.fail(now, correlator, reason);
        }
        self.roster.tidy(peer);
    }

    pub(super) fn resolved(&mut self, now: Moment, peer: PeerId, found: Result<Vec<String>, Why>) {
        if !self.roster.is_resolving(peer) {
            return; // it called us meanwhile, or the home was given up
        }
        match found {
            Ok(addresses) if addresses.is_empty() => {
                let text = "the home knows no address of this peer: has its agent ever joined?";
                self.unreachable(now, peer, Why::new(Reason::NotSent, text));
            }
            Ok(addresses) => {
                self.roster.dialling(peer);
                self.out.push_back(Output::Dial { peer, addresses });
            }
            Err(why) => {
                // Whatever the home's reason: the peer has refused nobody.
                let text = format!("the home could not be asked for its address: {}", why.text);
                self.unreachable(now, peer, Why::new(Reason::NotSent, text));
            }
        }
    }

    /// Tells of a clock that is off: once, and again when it is off by another amount, but not with each connection.
    pub(super) fn tell_clock(&mut self, now: Moment, who: uuid::Uuid, ms: i64) {
        let notable = |ms: i64| Duration::from_millis(ms.unsigned_abs()) > CLOCK_OFFSET_TOLD;
        let news = match self.clocks_told.get(&who) {
            Some((at, told)) => notable(ms.saturating_sub(*told)) && now.since(*at) >= CLOCK_OFFSET_PAUSE,
            None => self.clocks_told.len() < CONTACTS_MAX,
        };
        if notable(ms) && news {
            self.clocks_told.insert(who, (now, ms));
            self.notice(Notice::ClockOffset { who, ms });
        }
    }
}
