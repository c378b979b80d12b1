//! Peers that stand somewhere, known by a handle: overlays and lists name each again and again, and so it costs them four
//! bytes instead of sixteen.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use pams_shared::id::PeerId;

use super::overlay::Stand;

/// Slots in one chunk, so that growing copies nothing.
const CHUNK: usize = 1 << 12;

/// Where a peer lies, as long as it stands somewhere or is to.
pub(super) type Handle = u32;

/// Where a peer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// With those that they are nested in; none if it neither watches nor is watched.
    pub overlays: Arc<BTreeSet<String>>,
    pub stand: Stand,
}

impl Place {
    /// How it stands in one overlay.
    pub fn within(&self, overlay: &str) -> Stand {
        if self.overlays.contains(overlay) { self.stand } else { Stand::default() }
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub peer: PeerId,
    /// As it is worked in.
    pub place: Place,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    chunks: Vec<Vec<Slot>>,
    free: Vec<Handle>,
    by_peer: BTreeMap<PeerId, Handle>,
    /// One for all that are new.
    nowhere: Place,
}

impl Peers {
    pub fn find(&self, peer: PeerId) -> Option<Handle> {
        self.by_peer.get(&peer).copied()
    }

    /// One that is new stands nowhere.
    pub fn find_or_add(&mut self, peer: PeerId) -> Handle {
        let vacant = match self.by_peer.entry(peer) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let slot = Slot { peer, place: self.nowhere.clone() };
        if let Some(handle) = self.free.pop() {
            vacant.insert(handle);
            *self.at_mut(handle) = slot;
            return handle;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let last = self.chunks.len() - 1;
        // Peers are bounded far below 4 billion.
        let handle = (last * CHUNK + self.chunks[last].len()) as Handle;
        vacant.insert(handle);
        self.chunks[last].push(slot);
        handle
    }

    /// Nothing names the handle any more.
    pub fn remove(&mut self, handle: Handle) {
        let peer = self.at(handle).peer;
        if self.by_peer.remove(&peer).is_some() {
            self.free.push(handle);
        }
    }

    /// Of a handle that was given and not taken back.
    pub fn at(&self, handle: Handle) -> &Slot {
        &self.chunks[handle as usize / CHUNK][handle as usize % CHUNK]
    }

    pub fn at_mut(&mut self, handle: Handle) -> &mut Slot {
        &mut self.chunks[handle as usize / CHUNK][handle as usize % CHUNK]
    }

    pub fn id(&self, handle: Handle) -> PeerId {
        self.at(handle).peer
    }

    #[cfg(test)]
    pub fn each(&self) -> impl Iterator<Item = Handle> {
        self.by_peer.values().copied()
    }
}
