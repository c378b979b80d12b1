//! Whole cores in virtual time: one home and some agents over an emulated network, with every fault that the product is made
//! for, and checkers that look at each step and at the end.
//!
//! A run is a function of its seed: no clock, socket or task, one queue of events. The simulator plays the shells (`agent`,
//! `home`) and QUIC (`net`), so what is tried here are the cores, the pool, the presence and the wire between them; the real
//! shells have tests of their own.
//!
//! How to run it from many seeds, and one seed again with its trace, `pams_simulator::runs` says.
//!
//! What must hold is in `check` (each step), `home` (each step), `sweep` (any time) and `end`; `tally` counts what was tried.

mod agent;
mod change;
mod check;
mod end;
mod facts;
mod faults;
mod home;
mod links;
mod memory;
mod net;
mod path;
mod rosters;
mod setup;
mod sleep;
mod subscribing;
mod sweep;
mod tally;
mod trace;
mod uplink;
mod world;

use pams_simulator::runs;
use world::World;

#[test]
fn many_seeds_break_no_promise() {
    runs::many::<World>();
}

#[test]
fn one_seed_gives_one_trace() {
    runs::twice::<World>(&[1, 2, 7, 42]);
}

#[test]
fn one_seed() {
    runs::one::<World>();
}
