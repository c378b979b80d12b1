//! What is told of members: the engine's knowledge, without its flaps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pams_shared::{id::ServerId, moment::Moment};

use super::{
    Notice, Seen, State,
    identity::{Card, Identity},
    wire::Update,
};

/// What the engine knew at the last look: life, incarnation, state.
type Raw = ((u64, u32), u16, foca::State);

#[derive(Debug)]
struct Row {
    seen: Seen,
    /// Order of the card from which `seen.member` is.
    card: (u64, u32),
    raw: Raw,
    /// Down since a moment ago: told at this one, if it lasts.
    settles: Option<Moment>,
    /// Number of the last look that found it.
    look: u64,
}

/// What a look brought to light.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The engine learned something that others may not know.
    pub news: bool,
    /// Somebody is down who has not left.
    pub lost: bool,
}

/// Every member but ourselves, by its id: lives and incarnations come and go, the member stays. Bounded as the engine's list.
#[derive(Debug, Default)]
pub(super) struct View {
    rows: BTreeMap<ServerId, Row>,
    looks: u64,
}

impl View {
    pub(super) fn members(&self) -> impl Iterator<Item = &Seen> {
        self.rows.values().map(|row| &row.seen)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: ServerId) -> Option<&Seen> {
        self.rows.get(&id).map(|row| &row.seen)
    }

    /// When something is told if nothing happens until then.
    pub(super) fn next(&self) -> Option<Moment> {
        self.rows.values().filter_map(|row| row.settles).min()
    }

    /// Nothing was to be heard for a while: what is not told yet gets its time anew.
    pub(super) fn put_off(&mut self, settles: Moment) {
        self.rows.values_mut().filter_map(|row| row.settles.as_mut()).for_each(|at| *at = settles);
    }

    /// Reads the engine's whole list. Whom to tell of goes to `changed`, oddities to `notices`.
    pub(super) fn look<'a>(
        &mut self,
        (now, settle): (Moment, Duration),
        members: impl Iterator<Item = &'a Update>,
        cards: &BTreeMap<ServerId, Arc<Card>>,
        changed: &mut BTreeSet<ServerId>,
        notices: &mut Vec<Notice>,
    ) -> Look {
        let mut look = Look::default();
        self.looks += 1;
        for update in members {
            let id = update.id().id;
            let Some(card) = cards.get(&id).or(update.id().card.as_ref()) else { continue };
            let raw = (update.id().order(), update.incarnation(), update.state());
            look.lost |= raw.2 == foca::State::Down && !update.id().left();
            let row = self.rows.entry(id).or_insert_with(|| {
                changed.insert(id);
                Row::new(now, update.id(), card, raw)
            });
            look.news |= row.look == 0 || row.raw != raw;
            (row.raw, row.look) = (raw, self.looks);
            if card.order() != row.card {
                (row.seen.member, row.card) = (card.member.clone(), card.order());
                changed.insert(id);
            }
            if row.turn((now, settle), update.id(), notices) {
                changed.insert(id);
            }
        }
        let looks = self.looks;
        self.rows.retain(|_, row| row.look == looks);
        look
    }
}

impl Row {
    fn new(now: Moment, of: &Identity, card: &Card, raw: Raw) -> Self {
        let state = match raw.2 {
            _ if of.left() => State::Left,
            foca::State::Alive => State::Alive,
            foca::State::Suspect => State::Suspect,
            // Nobody was told that it is up.
            foca::State::Down => State::Down,
        };
        let seen = Seen { member: card.member.clone(), state, since: now };
        Self { seen, card: card.order(), raw, settles: None, look: 0 }
    }

    /// Follows the engine; true if that changes what is told.
    fn turn(&mut self, (now, settle): (Moment, Duration), of: &Identity, notices: &mut Vec<Notice>) -> bool {
        let was = (self.seen.state, self.settles);
        let state = match self.raw.2 {
            _ if of.left() => State::Left,
            foca::State::Alive => State::Alive,
            foca::State::Suspect => State::Suspect,
            foca::State::Down if was.0 == State::Down => State::Down,
            foca::State::Down if was.1.is_some_and(|at| at <= now) => State::Down,
            foca::State::Down => {
                self.settles.get_or_insert(now + settle);
                State::Suspect
            }
        };
        if self.raw.2 != foca::State::Down || matches!(state, State::Down | State::Left) {
            self.settles = None;
        }
        if was.1.is_some() && matches!(state, State::Alive | State::Suspect) && self.settles.is_none() {
            notices.push(Notice::Flapped { id: of.id });
        }
        if state != was.0 {
            (self.seen.state, self.seen.since) = (state, now);
        }
        state != was.0
    }
}
