//! Subscriptions at a home: agents are told of each change of a peer's presence and of what is concluded of it, also while the
//! peer is out of contact, gone, or not known here yet (RFC 2779, 3.2.1 and 3.2.2). Nothing of it is kept over a restart:
//! agents subscribe anew on each connection.

use std::time::Duration;

use pams_shared::{
    frame::{News, Notify, NotifyAck, Rejected, Rejection, SubscribeAck},
    id::PeerId,
    moment::Moment,
    presence::{Ended, Expired, PublisherConfig},
    status::Liveness,
};
use serde::Serialize;

use super::{
    Notice, Output, Pams, PamsConfig, Push, SessionId,
    directory::{Row, ms},
};

/// How long an acknowledgement may take, and a subscriber be without a session, before it is told of.
const PATIENCE: Duration = Duration::from_secs(5);

/// All notifies: sent = acked + lost + those under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notifies {
    pub sent: u64,
    pub acked: u64,
    /// Under way when their subscription ended.
    pub lost: u64,
}

pub(super) fn bounds(config: &PamsConfig) -> PublisherConfig {
    PublisherConfig {
        patience: PATIENCE,
        subscribers_max: config.subscribers_per_peer,
        subscriptions_max: config.subscriptions_per_agent,
        total_max: config.subscriptions_total,
    }
}

/// What is told of a peer without an entry, for as long as it has subscribers.
#[derive(Debug)]
pub(super) struct LastWord {
    news: News,
    /// The last sign of life.
    heard: Moment,
}

fn news(peer: PeerId, row: &Row, liveness: Liveness) -> News {
    News {
        peer,
        order: row.order(),
        // What an earlier epoch said may not be so any more; the present one says it with its first report.
        presence: row.presence.clone().filter(|_| row.version.is_some()),
        liveness: Some(liveness),
        age_ms: 0,
    }
}

impl Pams {
    pub(super) fn subscribe(&mut self, now: Moment, session: SessionId, peer: PeerId) {
        let Some(subscriber) = self.speaker(now, session) else { return };
        let verdict = self.may_subscribe(subscriber, peer).and_then(|()| {
            let room = self.publisher.subscribe(now, peer, subscriber);
            room.map_err(|e| Rejected { code: Rejection::Busy, detail: e.to_string() })
        });
        if verdict.is_err() {
            self.notice(Notice::SubscriptionRefused { peer: subscriber });
        }
        let ack = SubscribeAck(verdict.map(|()| self.present(now, peer)));
        if let SubscribeAck(Ok(Some(news))) = &ack
            && self.directory.row(peer).is_none()
        {
            self.cluster.told.insert(peer, news.clone());
        }
        self.outputs.push_back(Output::Subscribed { session, ack });
    }

    /// Who may be told of what: every agent of the domain of everybody. The one place for access rules (RFC 2779, 5.1).
    fn may_subscribe(&self, subscriber: PeerId, peer: PeerId) -> Result<(), Rejected> {
        if subscriber == peer {
            let detail = "a peer need not be told of itself".to_owned();
            return Err(Rejected { code: Rejection::Oneself, detail });
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, now: Moment, session: SessionId, peer: PeerId) {
        if let Some(subscriber) = self.speaker(now, session)
            && let Some(ended) = self.publisher.unsubscribe(peer, subscriber)
        {
            self.subscription_ended(ended);
        }
    }

    pub(super) fn notify_acked(&mut self, now: Moment, session: SessionId, ack: NotifyAck) {
        if let Some(subscriber) = self.speaker(now, session)
            && let Some(acked) = self.publisher.acked(now, ack.peer, subscriber, ack.number)
        {
            self.notifies.acked += 1;
            self.tell(Output::NotifyAcked { took: acked.took });
        }
    }

    /// A peer's session is over, or another has taken its place; it subscribes anew.
    pub(super) fn subscriber_down(&mut self, now: Moment, peer: PeerId) {
        self.publisher.down(now, peer);
    }

    /// The peer leaves, or is forgotten: it is no longer told of anything.
    pub(super) fn subscriber_left(&mut self, peer: PeerId) {
        for ended in self.publisher.leave(peer) {
            self.subscription_ended(ended);
        }
    }

    fn subscription_ended(&mut self, ended: Ended) {
        self.notifies.lost += u64::from(ended.under_way);
        if self.publisher.of(ended.presentity).next().is_none() {
            self.last_words.remove(&ended.presentity);
        }
    }

    /// The peer's entry is removed, which says as much as that it is gone: a subscriber that was not told so yet, as it has not
    /// acknowledged what was told before, would take it for live for ever.
    pub(super) fn last_word(&mut self, peer: PeerId, row: &Row) {
        if self.publisher.of(peer).next().is_none() {
            return;
        }
        if !row.departed() {
            self.directory.note(peer);
        }
        let liveness = if row.departed() { row.liveness } else { Liveness::Gone };
        self.last_words.insert(peer, LastWord { news: news(peer, row, liveness), heard: row.heard });
    }

    /// The same of a peer that another server was home to.
    pub(super) fn last_word_of(&mut self, now: Moment, news: News) {
        let news = News { liveness: Some(Liveness::Gone), ..news };
        self.last_words.insert(news.peer, LastWord { news, heard: now });
    }

    /// The peer has an entry again.
    pub(super) fn speaks_again(&mut self, peer: PeerId) {
        self.last_words.remove(&peer);
    }

    /// Tells whoever subscribed what changed by the input at hand. These outputs are not shed: whoever is told is told nothing
    /// more until it acknowledges, so there is one for each subscription at most.
    pub(super) fn push(&mut self, now: Moment) {
        for peer in self.directory.changed() {
            self.publisher.changed(now, peer);
            self.cluster.touched.insert(peer);
        }
        while let Some(expired) = self.publisher.expired(now) {
            match expired {
                Expired::Silent { subscriber, .. } => self.notice(Notice::SubscriberLost { peer: subscriber }),
                Expired::Lost(ended) => {
                    if !ended.silent {
                        self.notice(Notice::SubscriberLost { peer: ended.subscriber });
                    }
                    self.subscription_ended(ended);
                }
            }
        }
        while let Some(tell) = self.publisher.next(now) {
            let session = self.directory.row(tell.subscriber).and_then(|row| row.session);
            let (Some(session), Some(news)) = (session, self.news(now, tell.presentity)) else {
                // Its subscriber is forgotten, and subscribes anew.
                self.publisher.withdraw(tell.presentity, tell.subscriber);
                self.notifies.lost += u64::from(tell.again);
                continue;
            };
            self.notifies.sent += u64::from(!tell.again);
            let notify = Notify { number: tell.number, news, correlator: None };
            self.outputs.push_back(Output::Push { session, push: Push::Notify(notify) });
        }
    }

    /// What is to be told of a peer, or was to be when its entry was removed. `None`: nothing was ever known of it here.
    pub(super) fn news(&self, now: Moment, peer: PeerId) -> Option<News> {
        let last_word = || {
            let LastWord { news, heard } = self.last_words.get(&peer)?;
            Some(News { age_ms: ms(now.since(*heard)), ..news.clone() })
        };
        self.present(now, peer).or_else(last_word)
    }

    /// `None`: nothing is known of it here, yet or any more.
    pub(super) fn present(&self, now: Moment, peer: PeerId) -> Option<News> {
        let Some(row) = self.directory.row(peer) else {
            return self.cluster.foreign(now, peer).map(|foreign| foreign.news(peer));
        };
        Some(News { age_ms: ms(now.since(row.heard)), ..news(peer, row, row.liveness) })
    }

    /// Subscriptions at present.
    pub fn subscriptions(&self) -> usize {
        self.publisher.len()
    }

    pub fn notifies(&self) -> Notifies {
        self.notifies
    }
}
