//! One overlay: who stands in it, and, where that matters here, who watches whom.

use super::{
    lists::Lists,
    peers::{Handle, Peers},
};

/// How a peer stands where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Stand {
    /// Others watch it.
    pub watched: bool,
    /// It can watch others.
    pub watches: bool,
    /// Its home is here.
    pub own: bool,
}

impl Stand {
    pub fn is_member(self) -> bool {
        self.watched || self.watches
    }
}

#[derive(Debug, Default)]
pub(super) struct Overlay {
    members: Vec<Handle>,
    watchers: usize,
    watched: usize,
    /// Members whose home is here.
    own: usize,
    /// `None`: none of our peers takes part, so that no pair is of interest.
    pub lists: Option<Box<Lists>>,
}

impl Overlay {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn watchers(&self) -> usize {
        self.watchers
    }

    pub fn watched(&self) -> usize {
        self.watched
    }

    pub fn is_ours(&self) -> bool {
        self.own > 0
    }

    pub fn members(&self) -> &[Handle] {
        &self.members
    }

    /// A peer stands otherwise. Of lists nothing is said: see [`Lists`].
    pub fn moved(&mut self, peer: Handle, from: Stand, to: Stand) {
        let count = |n: &mut usize, was: bool, is: bool| *n = *n + usize::from(is) - usize::from(was);
        count(&mut self.watchers, from.watches, to.watches);
        count(&mut self.watched, from.watched, to.watched);
        count(&mut self.own, from.own, to.own);
        match (from.is_member(), to.is_member()) {
            (false, true) => self.members.push(peer),
            (true, false) => {
                if let Some(at) = self.members.iter().position(|member| *member == peer) {
                    self.members.swap_remove(at);
                }
            }
            _ => {}
        }
    }

    /// Those who stand in it now are listed; who watches whom is to be worked out. How many that are.
    pub fn list(&mut self, peers: &Peers, k: usize) -> usize {
        self.lists = Some(Box::new(Lists::of(&self.members, peers, k)));
        self.members.len()
    }
}
