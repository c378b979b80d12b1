//! STUB
use pams_shared::{
    frame::{Deltas, Follow, Held, Packed},
    id::{PeerId, ServerId},
    moment::Moment,
};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct ShareConfig {
    pub entries_max: usize,
    pub tombstone_life: Duration,
    pub orphan_life: Duration,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowerId(pub u64);
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub owner: ServerId,
    pub generation: u64,
    pub upto: u64,
    pub entries: usize,
    pub digest: u64,
    pub heard: Moment,
    pub caught_up: bool,
}
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    pub owner: ServerId,
    pub generation: u64,
    pub seq: u64,
    pub epoch: u64,
    pub attach: u64,
    pub lot: Option<&'a Packed>,
    pub banned: bool,
    pub told: Moment,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ShareError;
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct ShareStats {
    pub applied: u64,
}
#[derive(Debug)]
pub struct Share {}
impl Share {
    pub fn new(_me: ServerId, _generation: u64, _config: ShareConfig, _now: Moment) -> Self {
        Self {}
    }
    pub fn publish(&mut self, _now: Moment, _peer: PeerId, _epoch: u64, _attach: u64, _lot: Packed) -> u64 {
        0
    }
    pub fn bury(&mut self, _now: Moment, _peer: PeerId, _epoch: u64, _attach: u64, _banned: bool) -> u64 {
        0
    }
    pub fn take(&mut self, _now: Moment, _from: ServerId, _deltas: Deltas) -> Result<Held, ShareError> {
        Err(ShareError)
    }
    pub fn changed(&mut self) -> Option<PeerId> {
        None
    }
    pub fn want(&self, owner: ServerId) -> Follow {
        Follow { owner, generation: 0, from: 0 }
    }
    pub fn origin(&self, _owner: ServerId) -> Option<Origin> {
        None
    }
    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        std::iter::empty()
    }
    pub fn follow(&mut self, _now: Moment, _id: FollowerId, _who: ServerId, _follow: Follow) -> Result<(), ShareError> {
        Ok(())
    }
    pub fn next(&mut self, _id: FollowerId) -> Option<Deltas> {
        None
    }
    pub fn ready(&mut self) -> Option<FollowerId> {
        None
    }
    pub fn held(&mut self, _id: FollowerId, _held: Held) {}
    pub fn unfollow(&mut self, _id: FollowerId) {}
    pub fn covered(&self) -> u64 {
        0
    }
    pub fn entry(&self, _peer: PeerId) -> Option<EntryRef<'_>> {
        None
    }
    pub fn after(&self, _peer: Option<PeerId>) -> impl Iterator<Item = (PeerId, EntryRef<'_>)> {
        std::iter::empty()
    }
    pub fn len(&self) -> usize {
        0
    }
    pub fn tick(&mut self, _now: Moment) {}
    pub fn deadline(&self) -> Option<Moment> {
        None
    }
    pub fn stats(&self) -> ShareStats {
        ShareStats::default()
    }
}
impl Default for ShareConfig {
    fn default() -> Self {
        Self { entries_max: 1, tombstone_life: Duration::ZERO, orphan_life: Duration::ZERO }
    }
}
