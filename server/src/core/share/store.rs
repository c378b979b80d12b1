//! All entries by peer. They lie in chunks and are known by a handle, so that an index costs four bytes for each, growing
//! copies nothing, and order by peer costs one map.

use std::collections::BTreeMap;

use pams_shared::{
    frame::{Packed, Shared},
    id::{PeerId, ServerId},
    moment::Moment,
    status::Liveness,
};

use super::digest;

/// Slots in one chunk.
const CHUNK: usize = 1 << 12;

/// Where an entry lies, as long as it is there.
pub(super) type Handle = u32;

/// One entry.
#[derive(Debug)]
pub(super) struct Slot {
    pub peer: PeerId,
    pub owner: ServerId,
    pub generation: u64,
    pub seq: u64,
    pub epoch: u64,
    pub attach: u64,
    /// Its place in its owner's log.
    pub stamp: u64,
    /// Its part of the digest.
    pub hash: u64,
    /// When it came.
    pub told: Moment,
    pub lot: Option<Packed>,
    /// The last round of telling anew in which it was told.
    pub round: u32,
    pub banned: bool,
    /// Told before the others: its peer may be reached.
    pub essential: bool,
}

/// What decides which of two entries of a peer is the newer: total, so that all servers decide alike. A tombstone is above
/// what was there in the same (epoch, attach), whoever buried.
pub(super) type Rank = (u64, u64, u8, ServerId, u64, u64);

impl Slot {
    pub fn new(owner: ServerId, shared: Shared, told: Moment) -> Self {
        let Shared { peer, generation, seq, epoch, attach, lot, banned } = shared;
        let essential = lot.as_ref().is_some_and(|l| matches!(l.liveness(), Liveness::Live | Liveness::Overdue));
        let mut slot = Self {
            peer,
            owner,
            generation,
            seq,
            epoch,
            attach,
            stamp: 0,
            hash: 0,
            told,
            lot,
            round: 0,
            banned,
            essential,
        };
        slot.hash = digest::hash(&slot);
        slot
    }

    pub fn rank(&self) -> Rank {
        let grave = grave(self.lot.as_ref(), self.banned);
        (self.epoch, self.attach, grave, self.owner, self.generation, self.seq)
    }

    pub fn shared(&self) -> Shared {
        let Self { peer, generation, seq, epoch, attach, banned, .. } = *self;
        Shared { peer, generation, seq, epoch, attach, lot: self.lot.clone(), banned }
    }

    fn lot_bytes(&self) -> usize {
        self.lot.as_ref().map_or(0, |lot| lot.bytes().len())
    }
}

/// The rank that the entry would have.
pub(super) fn rank(owner: ServerId, s: &Shared) -> Rank {
    (s.epoch, s.attach, grave(s.lot.as_ref(), s.banned), owner, s.generation, s.seq)
}

fn grave(lot: Option<&Packed>, banned: bool) -> u8 {
    if lot.is_some() { 0 } else { 1 + u8::from(banned) }
}

#[derive(Debug, Default)]
pub(super) struct Store {
    chunks: Vec<Vec<Option<Slot>>>,
    free: Vec<Handle>,
    by_peer: BTreeMap<PeerId, Handle>,
    lot_bytes: usize,
}

impl Store {
    pub fn len(&self) -> usize {
        self.by_peer.len()
    }

    pub fn lot_bytes(&self) -> usize {
        self.lot_bytes
    }

    pub fn find(&self, peer: PeerId) -> Option<&Slot> {
        self.by_peer.get(&peer).and_then(|handle| self.at(*handle))
    }

    pub fn find_mut(&mut self, peer: PeerId) -> Option<&mut Slot> {
        let handle = *self.by_peer.get(&peer)?;
        self.place(handle).as_mut()
    }

    pub fn at(&self, handle: Handle) -> Option<&Slot> {
        let (chunk, place) = split(handle);
        self.chunks.get(chunk)?.get(place)?.as_ref()
    }

    /// By peer, after the one given.
    pub fn after(&self, peer: Option<PeerId>) -> impl Iterator<Item = &Slot> {
        let from = peer.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.by_peer.range((from, std::ops::Bound::Unbounded)).filter_map(|(_, handle)| self.at(*handle))
    }

    /// Puts an entry in; returns where, and the one whose place it took.
    pub fn put(&mut self, slot: Slot) -> (Handle, Option<Slot>) {
        let Self { chunks, free, by_peer, .. } = self;
        let handle = *by_peer.entry(slot.peer).or_insert_with(|| room(chunks, free));
        self.lot_bytes += slot.lot_bytes();
        let old = self.place(handle).replace(slot);
        self.lot_bytes -= old.as_ref().map_or(0, Slot::lot_bytes);
        (handle, old)
    }

    pub fn remove(&mut self, peer: PeerId) -> Option<Slot> {
        let handle = self.by_peer.remove(&peer)?;
        self.free.push(handle);
        let slot = self.place(handle).take()?;
        self.lot_bytes -= slot.lot_bytes();
        Some(slot)
    }

    fn place(&mut self, handle: Handle) -> &mut Option<Slot> {
        let (chunk, place) = split(handle);
        &mut self.chunks[chunk][place]
    }
}

/// An empty place.
fn room(chunks: &mut Vec<Vec<Option<Slot>>>, free: &mut Vec<Handle>) -> Handle {
    if let Some(handle) = free.pop() {
        return handle;
    }
    if chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
        chunks.push(Vec::with_capacity(CHUNK));
    }
    let last = chunks.len() - 1;
    chunks[last].push(None);
    // Entries are bounded far below 4 billion.
    (last * CHUNK + chunks[last].len() - 1) as Handle
}

fn split(handle: Handle) -> (usize, usize) {
    (handle as usize / CHUNK, handle as usize % CHUNK)
}
