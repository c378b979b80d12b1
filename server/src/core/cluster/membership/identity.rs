//! Who a member is, to the engine beneath: its id, and how often it has come back.

use std::sync::Arc;

use pams_shared::{
    frame::{ADDRESSES_MAX, NAME_BYTES_MAX},
    id::ServerId,
};

use super::Member;

/// Longest name of a region.
pub const REGION_BYTES_MAX: usize = 64;
/// The bump of one that has left on purpose: nothing of its generation comes after it.
pub(super) const LEFT: u32 = u32::MAX;

/// What a member says of itself, and how new that is: cards of one id are ordered by generation, then edition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// Counts the changes within a generation.
    pub edition: u32,
    pub member: Member,
}

impl Card {
    /// The member with every value cut to its bound.
    pub(super) fn new(edition: u32, mut member: Member) -> Self {
        cut(&mut member.name, NAME_BYTES_MAX);
        cut(&mut member.region, REGION_BYTES_MAX);
        member.addresses.truncate(ADDRESSES_MAX);
        Self { edition, member }
    }

    pub(super) fn order(&self) -> (u64, u32) {
        (self.member.generation, self.edition)
    }
}

/// Cuts a text to so many bytes, between two characters.
fn cut(text: &mut String, max: usize) {
    text.truncate(text.floor_char_boundary(max));
}

/// One life of a member. Equal if id, generation and bump are; the card rides along and may be missing where it does not
/// matter: in what only says who a message is from or for.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub id: ServerId,
    pub generation: u64,
    /// Counts how often it came back after others had taken it for down, and its changes of address; [`LEFT`] at the end.
    pub bump: u32,
    pub card: Option<Arc<Card>>,
}

impl Identity {
    /// The first life of a generation.
    pub(super) fn first(card: Arc<Card>) -> Self {
        Self { id: card.member.id, generation: card.member.generation, bump: 0, card: Some(card) }
    }

    /// The next life, or the last one; `None` after the last.
    pub(super) fn bumped(&self, bump: u32, card: Option<Arc<Card>>) -> Option<Self> {
        (bump > self.bump).then_some(Self { id: self.id, generation: self.generation, bump, card })
    }

    pub(super) fn order(&self) -> (u64, u32) {
        (self.generation, self.bump)
    }

    pub(super) fn left(&self) -> bool {
        self.bump == LEFT
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.order() == other.order()
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = ServerId;

    fn renew(&self) -> Option<Self> {
        let next = self.bump.checked_add(1).filter(|next| *next != LEFT)?;
        self.bumped(next, self.card.clone())
    }

    fn addr(&self) -> ServerId {
        self.id
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.order() > adversary.order()
    }
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::{super::tests::member, *};

    fn identity(generation: u64, bump: u32) -> Identity {
        Identity { id: member(1).id, generation, bump, card: None }
    }

    #[test]
    fn a_restart_beats_any_bump_and_a_bump_the_life_before() {
        assert!(identity(2, 0).win_addr_conflict(&identity(1, LEFT)));
        assert!(identity(1, 1).win_addr_conflict(&identity(1, 0)));
        assert!(!identity(1, 0).win_addr_conflict(&identity(1, 1)));
    }

    #[test]
    fn one_that_left_does_not_come_back_nor_does_a_renewal_leave() {
        assert_eq!(identity(1, 4).renew(), Some(identity(1, 5)));
        assert_eq!(identity(1, LEFT - 1).renew(), None);
        assert_eq!(identity(1, LEFT).renew(), None);
        assert!(identity(1, LEFT).bumped(LEFT, None).is_none());
    }

    #[test]
    fn a_card_is_cut_to_its_bounds_between_characters() {
        let mut long = member(1);
        long.name = "ö".repeat(100);
        long.region = "x".repeat(100);
        long.addresses = vec!["127.0.0.1:1".parse().expect("an address"); 20];
        let card = Card::new(0, long);
        assert_eq!((card.member.name.len(), card.member.region.len(), card.member.addresses.len()), (128, 64, 8));
        let mut odd = member(1);
        odd.name = format!("a{}", "ö".repeat(100));
        assert_eq!(Card::new(0, odd).member.name.len(), 127);
    }
}
