//! Messages: what of them is believed, and when we send some unasked.

use std::time::Duration;

use foca::{Header, Message, OwnedNotification, Timer};
use pams_shared::{id::ServerId, moment::Moment};

use super::{
    Membership, Notice, Output, Probe,
    identity::Identity,
    wire::{self, Packet, Update},
};

/// Least time between two rounds of gossip, however much is new.
const ROUND_MIN: Duration = Duration::from_millis(20);
/// Of those down, so many are called in one round.
const CALLS_MAX: usize = 16;

impl Membership {
    /// Believes a message once all of it has been read and its sender is the proven one.
    pub(super) fn gossip_came(&mut self, now: Moment, from: ServerId, bytes: &[u8]) {
        let packet = match Packet::decode(bytes) {
            Ok(packet) => packet,
            Err(error) => return self.notice(Notice::Garbled { from, error }),
        };
        let Some(life) = self.sender(now, from, &packet.header) else { return };
        // The engine would do just that first, but with a life that has no card, and pass it on so.
        let heard = Update::new(life, packet.header.src_incarnation, foca::State::Alive);
        let applied = self.engine.apply_many([heard].into_iter(), true, &mut self.wants);
        self.settle(now, applied);
        if let Message::Ack(number) = packet.header.message {
            self.ways.answered(from, number, now);
        }
        if matches!(packet.header.message, Message::Ping(_) | Message::Ack(_)) {
            self.tell_suspect(from);
        }
        self.pinged(now, from, &packet);
        let answered = self.answered(now, &packet.header);
        // What one says that is down is not believed, so no room is made for it: not even its own place.
        let is_down = |m: &Update| m.id().id == from && m.state() == foca::State::Down;
        let is_down = self.engine.iter_membership_state().any(is_down);
        let sifted = if is_down { None } else { self.sift(now, packet) };
        let handled = match sifted {
            None => self.engine.handle_data(bytes, &mut self.wants),
            Some(Ok(sifted)) => self.engine.handle_data(&sifted, &mut self.wants),
            Some(Err(error)) => return self.notice(Notice::Garbled { from, error }),
        };
        self.settle(now, handled);
        if let Some(next) = answered {
            if let Some(Probe { of, began, .. }) = self.probe.take() {
                self.turns.answered(of.id, began, &self.config);
            }
            self.timers.answered(now, next);
        }
    }

    /// Who sent a message, with its card; `None`, and a notice, if we cannot take it.
    fn sender(&mut self, now: Moment, from: ServerId, header: &Header<Identity>) -> Option<Identity> {
        let me = self.engine.identity().id;
        if header.src.id != from || from == me {
            self.notice(Notice::Forged { from, claimed: header.src.id });
            return None;
        }
        if header.dst.id != me {
            self.notice(Notice::Misdelivered { from });
            return None;
        }
        self.learn(&header.src);
        let card = self.cards.get(&from).filter(|card| card.member.generation >= header.src.generation).cloned();
        if card.is_none() {
            self.notice(Notice::Stranger { from });
        }
        let life = Identity { card: Some(card?), ..header.src.clone() };
        self.has_room_for(now, from, 0).then_some(life)
    }

    /// Keeps the cards of a message, and takes out what is not to be believed; `None` if it may be handled as it came.
    fn sift(&mut self, now: Moment, mut packet: Packet) -> Option<Result<Vec<u8>, wire::WireError>> {
        let (said, mut coming) = (packet.updates.len(), 0);
        packet.updates.retain(|update| self.is_credible(now, update, &mut coming));
        packet.updates.iter().for_each(|update| self.learn(update.id()));
        (packet.updates.len() < said).then(|| packet.encode())
    }

    /// Whether an update may be believed; `coming` counts those of the message that bring somebody new.
    fn is_credible(&mut self, now: Moment, update: &Update, coming: &mut usize) -> bool {
        let (me, of) = (self.engine.identity(), update.id());
        if of.id != me.id {
            let has_room = self.has_room_for(now, of.id, *coming);
            *coming += usize::from(has_room && !self.knows(of.id));
            return has_room;
        }
        let later = of.generation > me.generation;
        if later {
            self.notice(Notice::Impostor { generation: of.generation });
        }
        !later
    }

    /// Keeps what a member says of itself, if that is newer.
    fn learn(&mut self, life: &Identity) {
        let Some(card) = &life.card else { return };
        if self.cards.get(&life.id).is_none_or(|known| known.order() < card.order()) {
            self.cards.insert(life.id, card.clone());
        }
    }

    /// Tells one whom we suspect so if it speaks and has not objected. As a rule it knows by gossip; but gossip ends, and the
    /// engine does not say it again: it would be suspect, and answer, for ever. Only on probes and their answers, which keep a
    /// pace.
    fn tell_suspect(&mut self, from: ServerId) {
        let is_it = |m: &&Update| m.id().id == from && m.state() == foca::State::Suspect;
        let Some(suspect) = self.engine.iter_membership_state().find(is_it).cloned() else { return };
        let (src, dst) = (self.engine.identity().clone(), suspect.id().clone());
        // Our own incarnation is the engine's secret; an old one changes nothing.
        let header = Header { src, src_incarnation: 0, dst, message: Message::Gossip };
        match (Packet { header, updates: vec![suspect] }).encode() {
            Ok(bytes) => self.tell(Output::Send { to: from, bytes }),
            Err(error) => self.notice(Notice::Engine { error: error.to_string() }),
        }
    }

    /// If this answers the probe under way: when the next may begin. As strict as the engine: what does not count as an
    /// answer there would bring the end of the probe forward.
    fn answered(&self, now: Moment, header: &Header<Identity>) -> Option<Moment> {
        let Probe { of, number, began, .. } = self.probe.as_ref()?;
        let is_it = match &header.message {
            Message::Ack(n) => header.src == *of && n == number,
            Message::ForwardedAck { origin, probe_number } => origin == of && probe_number == number,
            _ => false,
        };
        let pause = match () {
            () if now < self.hurry => ROUND_MIN,
            // Whose turn it is not is passed over.
            () if self.is_calm(now) => self.config.probe_pause,
            () => self.config.pause(self.engine.num_members()),
        };
        (is_it && header.dst == *self.engine.identity()).then(|| *began + pause)
    }

    /// Takes over what the engine wants after a step of it.
    pub(super) fn settle(&mut self, now: Moment, result: Result<(), foca::Error>) {
        let mut passed = None;
        while let Some((to, bytes)) = self.wants.to_send() {
            let bytes: Vec<u8> = bytes.into();
            if let Some(number) = wire::probe_number(&bytes) {
                if let Some(incarnation) = self.passes(now, &to) {
                    (self.probe, passed) = (None, Some((to, incarnation, number)));
                    continue;
                }
                self.ways.probed(to.id, number, now);
                self.probed = now;
                self.probe = Some(Probe { of: to.clone(), number, began: now, bytes: bytes.clone() });
            }
            self.tell(Output::Send { to: to.id, bytes });
        }
        while let Some((after, timer)) = self.wants.to_schedule() {
            let waits_for = self.probe.as_ref().filter(|probe| probe.began == now).map(|probe| probe.of.id);
            let after = match (&timer, waits_for) {
                (Timer::ProbeRandomMember(_), Some(id)) => after.max(self.ways.patience(id, &self.config)),
                _ => after,
            };
            self.timers.push(now + after, timer);
        }
        while let Some(notification) = self.wants.to_notify() {
            if let OwnedNotification::Rejoin(life) = notification {
                self.notice(Notice::Renewed { bump: life.bump });
            }
        }
        if let Err(error) = result {
            self.notice(Notice::Engine { error: error.to_string() });
        }
        if let Some((life, incarnation, number)) = passed {
            self.pass(now, life, incarnation, number);
        }
    }

    /// A round of gossip at once if there is something new, others while there is still somebody to tell.
    pub(super) fn spread(&mut self, now: Moment, news: bool) {
        if self.engine.updates_backlog() == 0 || self.engine.num_members() == 0 {
            self.gossip = None;
            return;
        }
        let next = self.gossiped + if news { ROUND_MIN } else { self.config.gossip_every };
        let at = self.gossip.map_or(next, |at| at.min(next));
        self.gossip = Some(at);
        if at <= now {
            let told = self.engine.gossip(&mut self.wants);
            self.settle(now, told);
            self.gossiped = now;
            self.gossip = (self.engine.updates_backlog() > 0).then(|| now + self.config.gossip_every);
        }
    }

    /// Calls those that are down, while there are any: what cut us off from them may be over.
    pub(super) fn call_lost(&mut self, now: Moment, lost: bool) {
        if !lost || self.engine.identity().left() {
            self.announce = None;
            return;
        }
        let at = *self.announce.get_or_insert(now + self.config.announce_every);
        if at > now {
            return;
        }
        self.announce = Some(now + self.config.announce_every);
        let me = self.engine.identity().id;
        let is_lost = |m: &&Update| m.state() == foca::State::Down && m.id().id != me && !m.id().left();
        let lost: Vec<_> = self.engine.iter_membership_state().filter(is_lost).map(|m| m.id().clone()).collect();
        self.called = if self.called < lost.len() { self.called } else { 0 };
        let (from, count) = (self.called, lost.len().min(CALLS_MAX));
        self.called += count;
        for life in lost.iter().cycle().skip(from).take(count) {
            let called = self.engine.announce(life.clone(), &mut self.wants);
            self.settle(now, called);
        }
    }
}
