//! The subscriber's side: the peers whose presence is wanted here, asked of themselves and of the home, and what comes of it
//! for whoever listens. A wanted peer is watched too: its pings make and keep the connection, and find out when it is gone.

use std::collections::BTreeSet;

use pams_shared::{
    frame::{News, Notify, NotifyAck},
    id::PeerId,
    moment::{Moment, nanos},
    presence::{Ask, Heard, Path},
    record::{Reason, Why},
    status::{Liveness, Presence},
};
use serde::Serialize;

use super::{
    Agent, Notice, Output,
    roster::{Link, Wanter},
};

/// Peers whose presence can be wanted at once.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;

/// Something new of a peer whose presence is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Told {
    pub peer: PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Wall clock here, ms since 1970: a label.
    pub at_ms: u64,
    pub by: Teller,
    /// What the peer says of itself, as far as it is known here; `null`: nothing yet.
    pub presence: Option<Presence>,
    /// The start of the peer that said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What `by` concludes; the peer itself gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// How old that was when it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Changes of presence between the last one told here and this one, which nobody told here.
    pub skipped: u64,
}

/// Who told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Teller {
    /// The peer itself.
    Peer,
    Home,
    /// This agent, by its own pings.
    Agent,
}

impl From<Path> for Teller {
    fn from(path: Path) -> Self {
        match path {
            Path::Peer => Teller::Peer,
            Path::Home => Teller::Home,
        }
    }
}

impl Agent {
    /// Whether [`Command::Subscribe`](super::Command::Subscribe) would be of use; it changes nothing.
    pub fn can_subscribe(&self, peer: PeerId) -> Result<(), Why> {
        let no = |text: String| Err(Why::new(Reason::Refused, text));
        if peer == self.me {
            return no("this is the agent's own peer; `pams-agent status` shows it".to_owned());
        }
        let known = self.subscriber.get(peer).is_some();
        if !known && self.subscriber.iter().count() >= SUBSCRIPTIONS_MAX {
            return no(pams_shared::presence::Full(SUBSCRIPTIONS_MAX).to_string());
        }
        Ok(())
    }

    pub fn is_subscribed(&self, peer: PeerId) -> bool {
        self.subscriber.get(peer).is_some()
    }

    pub(super) fn want(&mut self, now: Moment, peer: PeerId, by: Wanter) {
        if self.can_subscribe(peer).is_err() || self.draining {
            return;
        }
        self.roster.want(peer, by);
        if self.watcher.watch(now, peer, &mut self.minter) {
            self.batcher.view(peer);
        }
        let linked = self.roster.contact(peer).is_some_and(|c| matches!(c.link, Link::Up(_)));
        let _ = self.subscriber.want(peer, linked); // its bound was asked above
    }

    /// Ends a subscription, whoever wanted it. One of the configuration is back when that is read again.
    pub(super) fn unsubscribe(&mut self, now: Moment, peer: PeerId) {
        for by in [Wanter::Config, Wanter::Command] {
            self.unwant(now, peer, by);
        }
    }

    fn unwant(&mut self, now: Moment, peer: PeerId, by: Wanter) {
        if !self.roster.unwant(peer, by) {
            return;
        }
        for path in self.subscriber.unwant(peer).unwrap_or_default() {
            self.out.push_back(Output::Unsubscribe { path, peer });
        }
        self.dismiss(now, peer);
    }

    /// The configuration wants these; what the control socket asked for stays.
    pub(super) fn want_these(&mut self, now: Moment, named: BTreeSet<PeerId>) {
        for peer in self.roster.wanted(Wanter::Config).into_iter().filter(|peer| !named.contains(peer)) {
            self.unwant(now, peer, Wanter::Config);
        }
        named.into_iter().for_each(|peer| self.want(now, peer, Wanter::Config));
    }

    /// Asks whoever there is contact with.
    pub(super) fn ask(&mut self, now: Moment) {
        while !self.draining
            && let Some(ask) = self.subscriber.next(now)
        {
            self.out.push_back(Output::AskToSubscribe(ask));
        }
    }

    /// A question was answered: no, or yes and what is known.
    pub(super) fn subscribed(&mut self, now: Moment, ask: Ask, answer: Result<Option<News>, Why>) {
        let verdict = answer.as_ref().map(|_| ()).map_err(Why::clone);
        if !self.subscriber.answered(now, ask, verdict) {
            return;
        }
        match answer {
            Ok(Some(news)) if news.peer == ask.peer => {
                self.hear(now, ask.path, &news);
            }
            Ok(Some(_)) => self.notice(Notice::FrameRejected { from: Some(ask.peer), label: "misplaced" }),
            Ok(None) => self.subscriber.unknown(ask.peer),
            Err(why) => self.notice(Notice::SubscriptionRefused { peer: ask.peer, path: ask.path, why }),
        }
    }

    /// A change was pushed; `from` is the peer at the other end, `None` the home. It is acknowledged, wanted or not.
    pub(super) fn notified(&mut self, now: Moment, from: Option<PeerId>, notify: Notify, arrived: Moment) {
        let Notify { number, news, correlator } = notify;
        let path = if from.is_some() { Path::Peer } else { Path::Home };
        if from.is_some_and(|from| from != news.peer) {
            return self.notice(Notice::FrameRejected { from, label: "misplaced" }); // it speaks for another
        }
        let heard = self.hear(now, path, &news);
        if heard == Heard::Stranger {
            self.out.push_back(Output::Unsubscribe { path, peer: news.peer });
        }
        // Told before, this was not the one that told it, so that its hold would date nothing.
        let hold_ns = matches!(heard, Heard::News { .. }).then(|| nanos(now.since(arrived)));
        let ack = NotifyAck { peer: news.peer, number, hold_ns, correlator };
        self.out.push_back(Output::AckNotify(ack));
    }

    fn hear(&mut self, now: Moment, path: Path, news: &News) -> Heard {
        if path == Path::Peer {
            if let Some(presence) = &news.presence {
                self.watcher.late(now, news.peer, presence.status, presence.version, &mut self.changes);
            }
            self.watcher.heard(now, news.peer, &mut self.changes);
        }
        let heard = self.subscriber.heard(now, path, news);
        if let Heard::News { skipped, .. } = heard {
            if skipped > 0 {
                self.notice(Notice::NotifyGap { peer: news.peer, skipped });
            }
            let age = (path == Path::Home).then_some(news.age_ms);
            self.pass_on(now, news.peer, path.into(), news.liveness, age, skipped);
        }
        heard
    }

    /// Tells of a conclusion of our own, if somebody wants to know of the peer.
    pub(super) fn concluded(&mut self, now: Moment, peer: PeerId, liveness: Liveness) {
        if self.subscriber.get(peer).is_some() {
            self.pass_on(now, peer, Teller::Agent, Some(liveness), None, 0);
        }
    }

    fn pass_on(
        &mut self,
        now: Moment,
        peer: PeerId,
        by: Teller,
        liveness: Option<Liveness>,
        age_ms: Option<u64>,
        skipped: u64,
    ) {
        let known = self.subscriber.get(peer).and_then(|w| w.known.as_ref());
        let told = Told {
            peer,
            name: self.roster.contact(peer).and_then(|c| c.name()).map(str::to_owned),
            at_ms: now.wall_ms(),
            by,
            presence: known.map(|k| k.presence.clone()),
            epoch: known.map(|k| k.epoch),
            liveness,
            age_ms,
            skipped,
        };
        self.out.push_back(Output::Told(told));
    }
}
