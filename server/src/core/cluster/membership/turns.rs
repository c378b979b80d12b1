//! Whose turn it is to be probed. Of two servers it is enough that one asks, so that the other is content with being asked as
//! long as that goes on.
//!
//! A ping by itself shows that its sender runs, but not that it hears us. That it shows by the next one: had our answer not
//! reached it, it would ask the same again, or suspect us and say so. So only another ping than the last counts, if it does not
//! accuse us; and one that comes again takes back what the first was worth.

use std::collections::BTreeMap;

use foca::{Header, Incarnation, Message, State};
use pams_shared::{id::ServerId, moment::Moment};

use super::{
    Membership, Notice,
    config::MembershipConfig,
    identity::Identity,
    wire::{Packet, Update},
};

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// It need not be probed before.
    due: Moment,
    /// Number of its last ping.
    pinged: Option<u8>,
}

/// By member.
#[derive(Debug, Default)]
pub(super) struct Turns {
    of: BTreeMap<ServerId, Turn>,
}

impl Turns {
    /// It has answered a probe that began then.
    pub(super) fn answered(&mut self, id: ServerId, began: Moment, config: &MembershipConfig) {
        let turn = self.of.entry(id).or_default();
        turn.due = turn.due.max(began + config.member_pause);
    }

    /// It has probed us. `accuses`: and said that it has no answers of ours.
    pub(super) fn pinged(&mut self, now: Moment, id: ServerId, number: u8, accuses: bool, config: &MembershipConfig) {
        let turn = self.of.entry(id).or_default();
        let before = turn.pinged.replace(number);
        let hears = !accuses && before.is_some_and(|before| before != number);
        turn.due = if hears { now + config.pinged_pause } else { now };
    }

    /// When it is to be probed next.
    pub(super) fn due(&self, id: ServerId) -> Moment {
        self.of.get(&id).map_or_else(Moment::default, |turn| turn.due)
    }

    pub(super) fn retain(&mut self, is_known: impl Fn(&ServerId) -> bool) {
        self.of.retain(|id, _| is_known(id));
    }
}

impl Membership {
    /// If this is a probe of ours: what it shows of its sender.
    pub(super) fn pinged(&mut self, now: Moment, from: ServerId, packet: &Packet) {
        let me = self.engine.identity();
        if let Message::Ping(number) = packet.header.message
            && packet.header.dst == *me
        {
            let accuses = packet.updates.iter().any(|u| u.id().id == me.id && u.state() != State::Alive);
            self.turns.pinged(now, from, number, accuses, &self.config);
            if self.probe.is_none() && self.turns.due(from) <= now {
                self.timers.answered(now, self.probed + self.config.probe_pause);
            }
        }
    }

    /// When somebody is to be probed next, if nobody is now.
    pub(super) fn rest(&self, now: Moment) -> Option<Moment> {
        if self.probe.is_some() || !self.is_calm(now) {
            return None;
        }
        let first = self.others_up().map(|m| self.due(now, m)).min()?;
        (first > now).then_some(first)
    }

    /// Whether a probe that the engine is about to send can be left out, as it is not the member's turn; the incarnation that is
    /// known of it.
    pub(super) fn passes(&self, now: Moment, of: &Identity) -> Option<Incarnation> {
        let passes = |m: &&Update| m.id() == of && self.due(now, m) > now && self.is_calm(now);
        self.others_up().find(passes).map(Update::incarnation)
    }

    /// Tells the engine what the member has shown already, so that it goes on to the next.
    pub(super) fn pass(&mut self, now: Moment, life: Identity, incarnation: Incarnation, number: u8) {
        let dst = self.engine.identity().clone();
        let header = Header { src: life, src_incarnation: incarnation, dst, message: Message::Ack(number) };
        match (Packet { header, updates: Vec::new() }).encode() {
            Ok(bytes) => {
                let shown = self.engine.handle_data(&bytes, &mut self.wants);
                self.settle(now, shown);
                self.timers.answered(now, now);
            }
            Err(error) => self.notice(Notice::Engine { error: error.to_string() }),
        }
    }

    /// Probes carry no news, and no connection was lost just now: they may be left out.
    pub(super) fn is_calm(&self, now: Moment) -> bool {
        now >= self.hurry && self.engine.updates_backlog() == 0
    }

    fn others_up(&self) -> impl Iterator<Item = &Update> {
        let me = self.engine.identity().id;
        self.engine.iter_membership_state().filter(move |m| m.id().id != me && m.state() != State::Down)
    }

    fn due(&self, now: Moment, of: &Update) -> Moment {
        if of.state() == State::Alive { self.turns.due(of.id().id) } else { now }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::tests::member, *};

    #[test]
    fn who_probes_us_and_gets_our_answers_need_not_be_probed() {
        const MS: Duration = Duration::from_millis(1);
        let (config, id, t) = (MembershipConfig::default(), member(1).id, Moment::new(1_000_000_000, 0));
        let mut turns = Turns::default();
        assert!(turns.due(id) <= t);
        // The first shows nothing yet.
        turns.pinged(t, id, 255, false, &config);
        assert_eq!(turns.due(id), t);
        turns.pinged(t + MS, id, 0, false, &config);
        assert_eq!(turns.due(id), t + MS + config.pinged_pause);
        // The same again: it did not get the answer.
        turns.pinged(t + 2 * MS, id, 0, false, &config);
        assert_eq!(turns.due(id), t + 2 * MS);
        turns.pinged(t + 3 * MS, id, 1, true, &config);
        assert_eq!(turns.due(id), t + 3 * MS);
        turns.answered(id, t, &config);
        assert_eq!(turns.due(id), t + config.member_pause);
        turns.retain(|_| false);
        assert_eq!(turns.due(id), Moment::default());
    }
}
