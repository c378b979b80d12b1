//! Which servers there are, and which of them are up: SWIM with suspicion, by `foca`, wrapped as an engine of ours.
//!
//! Drain rule: after each [`Membership::handle`], call [`Membership::poll`] until `None`; then wait until
//! [`Membership::deadline`] or the next input. Messages go as datagrams on connections between siblings whose certificates
//! say who they are; one for a server without a connection is dropped by the shell.
//!
//! What it adds to `foca`, and why:
//! - **Members are ids.** `foca` knows lives: (id, generation, bump). A start is a new generation; whoever was taken for down
//!   by mistake comes back under the next bump. Greater wins, so what is said of an older life changes nothing. Telling
//!   follows the id (`view`): Down once it has lasted [`MembershipConfig::settle`], Alive at once, so that the flap of a
//!   renewal is not told. The engine's list is read whole after every input: there is no second truth to be repaired.
//! - **Leaving is not failing.** The last bump of a generation means that it left; it is told as [`State::Left`].
//! - **News go at once**, to [`MembershipConfig::fan_out`] others, then every [`MembershipConfig::gossip_every`] while there
//!   are any; otherwise there are only probes. A suspect so hears of it, and objects, within a round trip.
//! - **An answered probe makes room for the next**, after a pause; one that is not answered gets its whole period. So a crash
//!   is met soon, though the period bears an indirect probe over long ways.
//!   Of two that are up one probes, and the other is content with that (`turns`).
//!   Halfway through, it is asked a second time, so that with few others one lost message makes no suspect; and from one far
//!   away that answer, too, is awaited (`ways`).
//! - **Doubt yourself first.** After a stall, all waiting for others begins anew, since what they said is still to be read:
//!   who slept accuses nobody. Late timers are taken for a stall, too, once each.
//! - **Nobody is lost.** Those down are called every [`MembershipConfig::announce_every`], also when no one else is left;
//!   who is met is called at once. One call that gets through brings both sides together.
//! - **Nothing from outside is believed unread**: a message is decoded whole, its sender is the proven one, gossip of a later
//!   start of ourselves and of members beyond the bound is taken out (`wire`).
//!
//! Trust: a sibling is believed about others, as SWIM must. A false Down is undone by the one it hits within a round trip.

mod config;
mod gossip;
mod identity;
mod notice;
mod timers;
mod turns;
mod view;
mod ways;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use foca::{AccumulatingRuntime, Foca, Incarnation, NoCustomBroadcast, Timer};
use pams_shared::{frame::Member, id::ServerId, moment::Moment};
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

pub use self::{
    config::{GOSSIP_BYTES_MAX, MembershipConfig},
    identity::REGION_BYTES_MAX,
    notice::Notice,
    wire::{WireError, lengthen, shorten},
};
use self::{
    identity::{Card, Identity, LEFT},
    timers::Timers,
    turns::Turns,
    view::View,
    ways::Ways,
    wire::Wire,
};

/// Outputs waiting for `poll`; messages and notices beyond it are shed and counted. Changes are not: of each member the newest
/// waits.
const OUTPUTS_MAX: usize = 8_192;
/// Timers that one call of `handle` serves: the next is due at once if there are more.
const TIMERS_MAX: usize = 64;

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Alive,
    /// Somebody had no answer from it. For all purposes it is up, until it is down.
    Suspect,
    /// It crashed, hangs, or is cut off.
    Down,
    /// It said that it goes.
    Left,
}

/// A member and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub member: Member,
    pub state: State,
    /// When it was first told to be so.
    pub since: Moment,
}

/// All that can happen.
#[derive(Debug)]
pub enum Input {
    /// A message from a sibling; `from` is proven by its certificate.
    Gossip { from: ServerId, bytes: Vec<u8> },
    /// A connection to a sibling stands; its Hello said who it is. Before any gossip from it.
    Met(Member),
    /// The connection to it ended: a hint, to look after all a bit sooner.
    Parted(ServerId),
    /// This process did not run for so long. Before the inputs that waited meanwhile.
    Stalled { late: Duration },
    /// We have other addresses or another name; id and generation stay as they are, whatever is said here.
    Changed(Member),
    /// We are about to stop: the others are told at once. Nothing brings us back but another start.
    Leave,
    /// The deadline has passed.
    Tick,
}

/// What the shell is to do or to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this as a datagram, [`GOSSIP_BYTES_MAX`] at most; drop it if there is no connection.
    Send {
        to: ServerId,
        bytes: Vec<u8>,
    },
    /// A member is new, is in another state, or says other things of itself.
    Changed {
        member: Member,
        state: State,
    },
    Notice(Notice),
}

/// A probe under way that is not answered yet.
#[derive(Debug)]
struct Probe {
    of: Identity,
    number: u8,
    began: Moment,
    /// The message, to be said again.
    bytes: Vec<u8>,
}

/// The engine.
pub struct Membership {
    config: MembershipConfig,
    engine: Foca<Identity, Wire, ChaCha12Rng, NoCustomBroadcast>,
    /// What the engine wants, until it is taken over at the end of each step.
    wants: AccumulatingRuntime<Identity>,
    timers: Timers,
    /// The newest card of each member: no more than the engine's members.
    cards: BTreeMap<ServerId, Arc<Card>>,
    view: View,
    probe: Option<Probe>,
    /// When the last one was sent.
    probed: Moment,
    turns: Turns,
    ways: Ways,
    /// Until then, probes follow each other without pause.
    hurry: Moment,
    gossiped: Moment,
    gossip: Option<Moment>,
    announce: Option<Moment>,
    /// Where among those down the next round of calls begins.
    called: usize,
    outputs: VecDeque<Output>,
    changed: BTreeSet<ServerId>,
    shed: u64,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Membership");
        fields.field("me", self.engine.identity()).field("view", &self.view).field("timers", &self.timers);
        fields.finish_non_exhaustive()
    }
}

impl Membership {
    /// Alone at first. `me` is cut to its bounds; `seed` decides who is probed when.
    pub fn new(me: Member, config: MembershipConfig, seed: [u8; 32], now: Moment) -> Self {
        let identity = Identity::first(Arc::new(Card::new(0, me)));
        Self {
            engine: Foca::new(identity, config.engine(), ChaCha12Rng::from_seed(seed), Wire),
            config,
            wants: AccumulatingRuntime::new(),
            timers: Timers::default(),
            cards: BTreeMap::new(),
            view: View::default(),
            probe: None,
            probed: now,
            turns: Turns::default(),
            ways: Ways::default(),
            hurry: now,
            gossiped: now,
            gossip: None,
            announce: None,
            called: 0,
            outputs: VecDeque::new(),
            changed: BTreeSet::new(),
            shed: 0,
        }
    }

    /// Takes an input that happened at `now`, then whatever is due by then: what was heard counts before silence does.
    pub fn handle(&mut self, now: Moment, input: Input) {
        if let Some(late) = self.timers.late(now).filter(|late| *late > self.config.slack) {
            self.stalled(now, late, false);
        }
        match input {
            Input::Gossip { from, bytes } => self.gossip_came(now, from, &bytes),
            Input::Met(member) => self.met(now, member),
            Input::Parted(_) => self.hurry = now + self.config.suspect_for,
            Input::Stalled { late } => self.stalled(now, late, true),
            Input::Changed(member) => self.change(now, member),
            Input::Leave => self.leave(now),
            Input::Tick => {}
        }
        self.serve_timers(now);
        self.look(now);
    }

    /// What is to be done next: messages and notices in order, then who changed, each once and as it is by now.
    pub fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        if self.shed > 0 {
            return Some(Output::Notice(Notice::Shed { count: std::mem::take(&mut self.shed) }));
        }
        while let Some(id) = self.changed.pop_first() {
            if let Some(Seen { member, state, .. }) = self.view.get(id) {
                return Some(Output::Changed { member: member.clone(), state: *state });
            }
        }
        None
    }

    /// When to call `handle` with [`Input::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Option<Moment> {
        [self.timers.next(), self.view.next(), self.gossip, self.announce].into_iter().flatten().min()
    }

    /// Every member known but ourselves, by id, for as long as it is remembered.
    pub fn members(&self) -> impl Iterator<Item = &Seen> {
        self.view.members()
    }

    /// We did not run: what the others said meanwhile is still to be read. `all`, or only what was not put off before.
    fn stalled(&mut self, now: Moment, late: Duration, all: bool) {
        self.timers.excuse(now, &self.config, all);
        self.view.put_off(now + self.config.settle);
        self.notice(Notice::Stalled { late });
    }

    /// A connection stands, so it is up; and it may know nothing of us, or take us for down.
    fn met(&mut self, now: Moment, member: Member) {
        let me = self.engine.identity();
        if member.id == me.id || me.left() {
            return;
        }
        let card = Card::new(0, member);
        let (id, said) = (card.member.id, card.member.generation);
        let (known, edition) = self.cards.get(&id).map_or((0, 0), |known| known.order());
        if said < known {
            return self.notice(Notice::OldGeneration { id, said, known });
        }
        if !self.has_room_for(now, id, 0) {
            return;
        }
        // What it says itself is the newest, but for the number of that edition.
        let edition = if said == known { edition } else { 0 };
        let card = Arc::new(Card { edition, ..card });
        self.cards.insert(id, card.clone());
        let life = Identity::first(card);
        let up = wire::Update::alive(life.clone());
        let applied = self.engine.apply_many([up].into_iter(), true, &mut self.wants);
        self.settle(now, applied);
        let announced = self.engine.announce(life, &mut self.wants);
        self.settle(now, announced);
    }

    /// Another name or other addresses: another life, so that everybody takes note.
    fn change(&mut self, now: Moment, member: Member) {
        let me = self.engine.identity();
        let Some(old) = me.card.clone() else { return };
        let member = Member { id: me.id, generation: me.generation, ..member };
        let card = Card::new(old.edition.saturating_add(1), member);
        if card.member == old.member {
            return;
        }
        let bump = me.bump.saturating_add(1);
        if let Some(next) = me.bumped(bump, Some(Arc::new(card))).filter(|next| !next.left()) {
            let changed = self.engine.change_identity(next, &mut self.wants);
            self.settle(now, changed);
        }
    }

    /// Takes on the last bump, then says that this life is over. Both are told at once: one may be lost.
    fn leave(&mut self, now: Moment) {
        let me = self.engine.identity();
        let Some(last) = me.bumped(LEFT, me.card.clone()) else { return };
        let changed = self.engine.change_identity(last, &mut self.wants);
        self.settle(now, changed);
        let left = self.engine.leave_cluster(&mut self.wants);
        self.settle(now, left);
        self.timers.clear();
    }

    fn knows(&self, id: ServerId) -> bool {
        self.engine.iter_membership_state().any(|m| m.id().id == id)
    }

    /// Whether this member is known, or there is room for it beside so many others to come. If there is none, the longest known
    /// that is down or left makes it.
    fn has_room_for(&mut self, now: Moment, id: ServerId, coming: usize) -> bool {
        let me = self.engine.identity().id;
        let others = self.engine.iter_membership_state().filter(|m| m.id().id != me);
        if self.knows(id) || others.count() + coming < self.config.members_max {
            return true;
        }
        let departed = |m: &&wire::Update| m.state() == foca::State::Down && m.id().id != me;
        let since = |id| self.view.get(id).map_or(now, |seen| seen.since);
        let oldest = self.engine.iter_membership_state().filter(departed).min_by_key(|m| since(m.id().id));
        let Some(oldest) = oldest.map(|m| m.id().clone()) else {
            self.notice(Notice::MembersFull { id });
            return false;
        };
        self.notice(Notice::Evicted { id: oldest.id });
        let removed = self.engine.handle_timer(Timer::RemoveDown(oldest), &mut self.wants);
        self.settle(now, removed);
        true
    }

    fn serve_timers(&mut self, now: Moment) {
        for _ in 0..TIMERS_MAX {
            let Some(timer) = self.timers.due(now) else { return };
            match &timer {
                Timer::ChangeSuspectToDown { member_id, incarnation, .. }
                    if !self.suspects(member_id, *incarnation) =>
                {
                    continue;
                }
                Timer::ProbeRandomMember(_) => {
                    if let Some(at) = self.rest(now) {
                        self.timers.push(at, timer);
                        continue;
                    }
                }
                Timer::SendIndirectProbe { .. } => self.probe_again(),
                _ => {}
            }
            let suspect = match &timer {
                Timer::ChangeSuspectToDown { member_id, incarnation, .. } => Some((member_id.clone(), *incarnation)),
                _ => None,
            };
            let served = self.engine.handle_timer(timer, &mut self.wants);
            self.settle(now, served);
            // A suspicion older than our own present life the engine forgets, and its target would stay a suspect for ever.
            if let Some((life, incarnation)) = suspect.filter(|(life, incarnation)| self.suspects(life, *incarnation)) {
                let down = wire::Update::new(life, incarnation, foca::State::Down);
                let applied = self.engine.apply_many([down].into_iter(), true, &mut self.wants);
                self.settle(now, applied);
            }
        }
    }

    /// Whether it has not objected. The engine (foca 2.0.0) does look before it takes a suspect for down, but not before it
    /// tells it so: it would start another life for nothing.
    fn suspects(&self, life: &Identity, incarnation: Incarnation) -> bool {
        let is_it = |m: &wire::Update| m.id() == life && m.incarnation() == incarnation;
        self.engine.iter_membership_state().any(|m| is_it(m) && m.state() == foca::State::Suspect)
    }

    /// Asks the silent one a second time while others are asked: they may be few, or none, and one message lost.
    fn probe_again(&mut self) {
        if let Some(Probe { of, bytes, .. }) = &self.probe {
            let (to, bytes) = (of.id, bytes.clone());
            self.tell(Output::Send { to, bytes });
        }
    }

    /// Reads the engine's list, and spreads what is new.
    fn look(&mut self, now: Moment) {
        let me = self.engine.identity().id;
        let others = self.engine.iter_membership_state().filter(|m| m.id().id != me);
        let mut notices = Vec::new();
        let look = self.view.look((now, self.config.settle), others, &self.cards, &mut self.changed, &mut notices);
        notices.into_iter().for_each(|n| self.notice(n));
        if self.cards.len() > self.view.len() {
            self.cards.retain(|id, _| self.view.get(*id).is_some());
            self.turns.retain(|id| self.view.get(*id).is_some());
            self.ways.retain(|id| self.view.get(*id).is_some());
        }
        self.spread(now, look.news);
        self.call_lost(now, look.lost);
    }

    fn notice(&mut self, notice: Notice) {
        self.tell(Output::Notice(notice));
    }

    fn tell(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS_MAX {
            self.outputs.push_back(output);
        } else {
            self.shed += 1;
        }
    }
}
