//! What simulations of whole cores have in common. A run is a function of its seed: no clock, socket or task, one queue of events
//! ([`Queue`]). What happened is a [`Trace`], what was tried a [`Tally`]; [`runs`] plays many seeds, or one again.
//!
//! What there is in a world, what befalls it and what must hold is each suite's own (`tests/simulation` and `tests/cluster` of
//! `pams-server`).

mod queue;
pub mod runs;
mod tally;
mod trace;

pub use queue::Queue;
pub use runs::World;
pub use tally::Tally;
pub use trace::Trace;

/// Virtual time is in ns.
pub const US: u64 = 1_000;
pub const MS: u64 = 1_000 * US;
pub const SECOND: u64 = 1_000 * MS;

/// The seed of a suite's generator, whose word is `salt`: seeds that differ little give runs that differ much.
pub fn seed_bytes(salt: &[u8; 32], seed: u64) -> [u8; 32] {
    let mut bytes = *salt;
    bytes[..8].iter_mut().zip(seed.to_le_bytes()).for_each(|(b, s)| *b ^= s);
    bytes
}
