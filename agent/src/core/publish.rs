//! The publisher's side of subscriptions: who may be told of our presence, the push of each change, and its timing. Every
//! notify is a transaction of kind `presence.notify` with its subscriber: opened when the change was published, closed by the
//! acknowledgement.

use std::time::Duration;

use pams_shared::{
    frame::{News, Notify, NotifyAck, Rejected, Rejection, SubscribeAck},
    id::{Correlator, Order, PeerId},
    moment::Moment,
    presence::{Ended, Expired, PublisherConfig, Tell},
    record::{Kind, Reason},
    transaction::{Answer, Closed},
};

use super::{Agent, Notice, Output, Purpose};

/// How long an acknowledgement may take, and a subscriber be without a connection before it is lost.
pub const NOTIFY_PATIENCE: Duration = Duration::from_secs(5);
/// RFC 2779, 2.2.6, asks for hundreds of subscribers of one presentity; more are better served by the home.
const SUBSCRIBERS_MAX: usize = 1_024;

pub(super) const fn bounds() -> PublisherConfig {
    PublisherConfig {
        patience: NOTIFY_PATIENCE,
        subscribers_max: SUBSCRIBERS_MAX,
        subscriptions_max: 1,
        total_max: SUBSCRIBERS_MAX,
    }
}

impl Agent {
    /// A peer wants to be told of `peer`.
    pub(super) fn asked_to_tell(&mut self, now: Moment, from: PeerId, peer: PeerId, question: u64) {
        self.watcher.heard(now, from, &mut self.changes);
        let new = self.publisher.of(self.me).all(|(s, _)| s != from);
        let verdict = self.may_subscribe(from, peer).and_then(|()| {
            let room = self.publisher.subscribe(now, self.me, from);
            room.map_err(|e| Rejected { code: Rejection::Busy, detail: e.to_string() })
        });
        match &verdict {
            Ok(()) if new => self.notice(Notice::SubscriberCame { peer: from }),
            Ok(()) => {}
            Err(rejected) => self.notice(Notice::SubscriberRefused { peer: from, why: rejected.detail.clone() }),
        }
        let ack = SubscribeAck(verdict.map(|()| Some(self.news())));
        self.out.push_back(Output::AnswerSubscribe { question, ack });
    }

    /// Who may be told of what: every peer of the domain of us, for a connection is only made with such. The one place for
    /// access rules (RFC 2779, 5.1).
    fn may_subscribe(&self, from: PeerId, peer: PeerId) -> Result<(), Rejected> {
        let no = |code, detail: &str| Err(Rejected { code, detail: detail.to_owned() });
        match () {
            () if peer != self.me => no(Rejection::Protocol, "this agent tells of its own peer only; ask a home"),
            () if from == self.me => no(Rejection::Oneself, "a peer need not be told of itself"),
            () if self.draining => no(Rejection::Busy, "this agent is about to stop; subscribe again when it is back"),
            () => Ok(()),
        }
    }

    /// A subscriber does not want to be told any more.
    pub(super) fn asked_to_be_quiet(&mut self, now: Moment, from: PeerId) {
        self.watcher.heard(now, from, &mut self.changes);
        if let Some(ended) = self.publisher.unsubscribe(self.me, from) {
            self.forget_subscriber(now, ended, Reason::Cancelled);
        }
    }

    /// A subscriber said goodbye.
    pub(super) fn subscriber_left(&mut self, now: Moment, peer: PeerId) {
        for ended in self.publisher.leave(peer) {
            self.forget_subscriber(now, ended, Reason::Cancelled);
        }
    }

    fn forget_subscriber(&mut self, now: Moment, ended: Ended, reason: Reason) {
        self.notified.remove(&ended.subscriber);
        if let Some(correlator) = ended.correlator {
            self.fail(now, correlator, reason);
        }
    }

    /// Notices who is lost, and writes what is to be told now.
    pub(super) fn push(&mut self, now: Moment) {
        while let Some(expired) = self.publisher.expired(now) {
            match expired {
                Expired::Silent { subscriber, .. } => self.notice(Notice::SubscriberLost { peer: subscriber }),
                Expired::Lost(ended) => {
                    if !ended.silent {
                        self.notice(Notice::SubscriberLost { peer: ended.subscriber });
                    }
                    self.forget_subscriber(now, ended, Reason::NoAnswer);
                }
            }
        }
        while !self.draining
            && let Some(tell) = self.publisher.next(now)
        {
            self.tell(now, tell);
        }
    }

    fn tell(&mut self, now: Moment, tell: Tell) {
        let Tell { subscriber, number, published, .. } = tell;
        // What is written again goes on with its transaction; one whose transaction ran out gets a new one.
        let mut correlator = tell.correlator.filter(|c| self.pool.context(*c).is_some());
        if correlator.is_none() {
            let new = self.minter.correlator(now);
            match self.pool.open(now, Kind::Notify, subscriber.0, new, NOTIFY_PATIENCE, Purpose::Notify) {
                Ok(()) => {
                    self.pool.began(new, published);
                    self.publisher.timed_by(self.me, subscriber, new);
                    correlator = Some(new);
                }
                Err(_) => self.notice(Notice::PoolFull { peer: subscriber }), // it is told, and not timed
            }
        }
        let notify = Notify { number, news: self.news(), correlator };
        self.out.push_back(Output::SendNotify { peer: subscriber, notify });
    }

    /// A ping or a notify left. A notify may leave again on another connection, and what comes back be the acknowledgement of the
    /// first: to count from the later one would put the bounds of when it was told too late.
    pub(super) fn left(&mut self, correlator: Correlator, at: Moment) {
        match self.pool.context(correlator) {
            Some(Purpose::Notify) => self.pool.sent_again(correlator, at),
            _ => self.pool.sent(correlator, at),
        };
    }

    /// A subscriber has told its side, by its acknowledgement that came off the stream at `arrived`.
    pub(super) fn notify_acked(&mut self, now: Moment, from: PeerId, ack: NotifyAck, arrived: Moment) {
        self.watcher.heard(now, from, &mut self.changes);
        let acked = if ack.peer == self.me { self.publisher.acked(now, self.me, from, ack.number) } else { None };
        if acked.is_some_and(|a| a.returned) {
            self.notice(Notice::SubscriberReturned { peer: from });
        }
        let Some(correlator) = ack.correlator else { return };
        if self.pool.context(correlator).is_some_and(|p| !matches!(p, Purpose::Notify)) {
            return self.notice(Notice::UnknownCorrelator { peer: from });
        }
        let answer = Answer { arrived: Some(arrived), hold_ns: ack.hold_ns, ..Answer::default() };
        match self.pool.close(now, correlator, from.0, answer) {
            Closed::Good(record, purpose) => {
                if self.publisher.of(self.me).any(|(s, _)| s == from) {
                    self.notified.insert(from, (*record).clone());
                }
                self.ended(now, *record, purpose);
            }
            // The ledger has them.
            Closed::Late { .. } | Closed::Duplicate => {}
            Closed::Stranger => self.notice(Notice::UnknownCorrelator { peer: from }),
        }
    }

    fn news(&self) -> News {
        let presence = self.presentity.presence();
        News {
            peer: self.me,
            order: Order { epoch: self.epoch, attach: self.home.attach, version: presence.version },
            presence: Some(presence.clone()),
            liveness: None,
            age_ms: 0,
        }
    }
}
