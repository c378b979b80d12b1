mod merge;
mod rules;
mod simulation;

use pams_shared::frame::{Deltas, Lot};

use super::*;

fn peer(n: u64) -> PeerId {
    PeerId(uuid::Uuid::from_u64_pair(7, n))
}

fn server(n: u64) -> ServerId {
    ServerId(uuid::Uuid::from_u64_pair(9, n))
}

fn at(ms: u64) -> Moment {
    Moment::new(ms * 1_000_000, ms)
}

/// A lot that is told apart by its number.
fn lot(n: u64) -> Packed {
    let liveness = pams_shared::status::Liveness::ALL[(n % 4) as usize];
    Packed::new(&Lot { since_ms: n, liveness, ..Lot::default() })
}

/// All frames that the stream has now.
fn frames(share: &mut Share, id: FollowerId) -> Vec<Deltas> {
    std::iter::from_fn(|| share.next(id)).collect()
}

/// What lives, as all servers must hold it.
fn lives(share: &Share) -> Vec<(PeerId, ServerId, [u64; 4], Packed)> {
    let entries = share.after(None).filter_map(|(peer, e)| {
        let lot = e.lot?.clone();
        Some((peer, e.owner, [e.generation, e.seq, e.epoch, e.attach], lot))
    });
    entries.collect()
}

/// By owner, for those that have something alive.
fn digests(share: &Share) -> Vec<(ServerId, u64)> {
    share.origins().filter(|o| o.digest != 0).map(|o| (o.owner, o.digest)).collect()
}
