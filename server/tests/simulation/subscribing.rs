//! Subscriptions between the hosts, as their shells carry them, and what must hold of them: nothing goes backwards, a gap is told
//! if, and only if, there is one, and a subscriber was told within the bounds that the publisher's record gives.

use pams_agent::core::{Input, Teller, Told};
use pams_shared::{
    frame::{Frame, Notify, SubscribeAck},
    id::PeerId,
    presence::{Ask, Path},
    record::{Reason, Record, Why},
    status::Liveness,
};

use crate::{
    agent::Timer,
    net::{ConnId, News},
    setup::{node, peer},
    trace::name,
    world::{MS, SECOND, US, World},
};

/// How long an answer to a subscription may take.
const PATIENCE: u64 = 3 * SECOND;

impl World {
    /// The connection to whoever tells.
    fn way(&self, me: usize, path: Path, whom: PeerId) -> Option<ConnId> {
        let agent = &self.agents[me];
        match path {
            Path::Home => agent.uplink.conn.filter(|_| agent.uplink.up),
            Path::Peer => node(whom).and_then(|n| agent.links.live.get(&n)).map(|live| live.conn),
        }
    }

    pub fn ask_to_subscribe(&mut self, me: usize, ask: Ask) {
        let Some(conn) = self.way(me, ask.path, ask.peer) else {
            let answer = Err(Why::new(Reason::NotSent, "no connection"));
            return self.give_at(self.now + MS, me, Input::Subscribed { ask, answer });
        };
        self.agents[me].asks.push_back((conn, ask));
        self.send_frame(conn, self.side(conn, me), &Frame::Subscribe(ask.peer));
        self.tell_at(self.now + PATIENCE, me, News::Timer(Timer::SubscribePatience { ask }));
    }

    /// The answer did not come in time, if it did not; the core knows.
    pub fn subscribe_patience(&mut self, me: usize, ask: Ask) {
        let answer = Err(Why::new(Reason::NoAnswer, "no answer in time"));
        self.agent_handle(me, Input::Subscribed { ask, answer });
    }

    /// A connection answers in the order in which it was asked.
    pub fn subscribe_answered(&mut self, me: usize, conn: ConnId, SubscribeAck(answer): SubscribeAck) {
        let asks = &mut self.agents[me].asks;
        let at = asks.iter().position(|(c, _)| *c == conn).expect("somebody asked");
        let (_, ask) = asks.remove(at).expect("there it is");
        let answer = answer.map_err(|r| panic!("{} is refused: {}", name(me), r.detail));
        self.agent_handle(me, Input::Subscribed { ask, answer });
    }

    pub fn unsubscribe(&mut self, me: usize, path: Path, whom: PeerId) {
        if let Some(conn) = self.way(me, path, whom) {
            self.send_frame(conn, self.side(conn, me), &Frame::Unsubscribe(whom));
        }
    }

    pub fn send_notify(&mut self, me: usize, whom: PeerId, notify: Notify) {
        let Some(conn) = self.way(me, Path::Peer, whom) else { return };
        let correlator = notify.correlator;
        self.tally.count("notify");
        self.send_frame(conn, self.side(conn, me), &Frame::Notify(notify));
        if let Some(correlator) = correlator {
            let at = self.moment_of(me, self.now);
            let lag = self.chance.below(200 * US);
            self.give_at(self.now + lag, me, Input::Sent { correlator, at });
        }
    }

    /// `from`: the peer at the other end; `None`: the home.
    pub fn notified(&mut self, me: usize, conn: ConnId, from: Option<usize>, notify: Notify) {
        self.agents[me].answering = Some((conn, notify.correlator));
        let arrived = self.moment(me);
        self.agent_handle(me, Input::Notify { from: from.map(peer), notify, arrived });
        self.agents[me].answering = None;
    }

    pub fn ack_notify(&mut self, me: usize, ack: pams_shared::frame::NotifyAck) {
        let (conn, correlator) = self.agents[me].answering.expect("a notify is at hand");
        if let Some(correlator) = correlator.filter(|_| ack.hold_ns.is_some()) {
            self.told_at.insert(correlator, self.now);
        }
        self.send_frame(conn, self.side(conn, me), &Frame::NotifyAck(ack));
    }

    /// What is passed on to whoever listens.
    pub fn check_told(&mut self, me: usize, told: &Told) {
        let who = node(told.peer).expect("a node");
        self.tally.count(if told.by == Teller::Home { "told_by_home" } else { "told" });
        let (Some(presence), Some(epoch)) = (&told.presence, told.epoch) else { return };
        let new = (epoch, presence.version);
        let old = self.agents[me].facts.told.insert(who, new);
        let Some(old) = old else { return assert_eq!(told.skipped, 0, "the first has no gap: {told:?}") };
        assert!(old <= new, "{} knew {old:?} of {} and is told {told:?}", name(me), name(who));
        let gap = new.1.saturating_sub(old.1 + 1);
        assert_eq!(
            told.skipped,
            if old == new { 0 } else { gap },
            "{} knew {old:?} of {}: {told:?}",
            name(me),
            name(who)
        );
        if told.skipped > 0 {
            self.tally.count("gap");
        }
    }

    /// The subscriber was told when the record says.
    pub fn check_notify(&mut self, me: usize, record: &Record) {
        let Some(bounds) = record.told() else { return };
        let told = self.told_at.get(&record.correlator).expect("somebody was told");
        let opened = self.now - record.total_ns.expect("answered");
        let after = told - opened;
        let fits = (bounds.least_ns..=bounds.most_ns).contains(&after);
        assert!(fits, "{} told {after} ns after, which is not within {bounds:?}: {record:?}", name(me));
        self.tally.count("told_within");
    }

    /// All that is wanted is known as it is, by both ways.
    pub fn settled_subscriptions(&self, me: usize) {
        let Some(core) = &self.agents[me].core else { return };
        let view = core.view(self.moment(me));
        assert_eq!(view.subscriptions.len(), self.agents[me].subscribes.len());
        for s in &view.subscriptions {
            let other = node(s.peer).expect("a node");
            let who = || format!("{} is told of {}: {s:?}", name(me), name(other));
            assert_eq!(s.by_home.state, "active", "{}", who());
            let verdict = self.verdict(other);
            // Of one that the home forgot it has said its last word, or that it knows nothing.
            let fits = match verdict {
                None => !matches!(s.liveness, Some(Liveness::Live | Liveness::Overdue)),
                Some(_) => s.liveness == verdict,
            };
            assert!(fits, "{}, to its home {verdict:?}", who());
            let Some(theirs) = self.agents[other].core.as_ref().filter(|_| self.processes[other].up) else {
                assert_ne!(s.liveness, Some(Liveness::Live), "{}", who());
                continue;
            };
            let epoch = Some(self.agents[other].facts.life);
            assert_eq!((s.epoch, s.presence.as_ref()), (epoch, Some(theirs.presence())), "{}", who());
            assert_eq!((s.by_peer.state, s.liveness), ("active", Some(Liveness::Live)), "{}", who());
            let subscribers = theirs.view(self.moment(other)).subscribers;
            let seen = subscribers.iter().find(|s| s.peer == peer(me)).unwrap_or_else(|| panic!("{}", who()));
            assert!(seen.state == "active" && !seen.under_way, "{}: {seen:?}", who());
        }
    }
}
