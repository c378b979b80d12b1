//! Several servers, whole cores, in virtual time: three to five homes that share one directory over an emulated network, agents
//! that move between them, and every fault that this is made for, with checkers that look at each step and at the end.
//!
//! A run is a function of its seed: no clock, socket or task, one queue of events. The simulator plays the servers' shells
//! (`server`, `siblings`), QUIC (`conn`, `net`) and the agents (`agent`, `uplink`, `batches`), which are models as simple as a
//! home can tell: it is the homes' cores, and the wire between them, that are tried here.
//!
//! How to run it from many seeds, and one seed again with its trace, `pams_simulator::runs` says. Servers are capitals there.
//!
//! What must hold is in `check` (each step), `sweep` (any time) and `end`; `tally` counts what was tried.

mod agent;
mod batches;
mod check;
mod conn;
mod end;
mod faults;
mod ledgers;
mod net;
mod packets;
mod server;
mod setup;
mod siblings;
mod sweep;
mod tally;
mod trace;
mod uplink;
mod word;
mod world;

use pams_simulator::runs;
use world::World;

#[test]
fn many_seeds_break_no_promise() {
    runs::many::<World>();
}

#[test]
fn one_seed_gives_one_trace() {
    runs::twice::<World>(&[1, 7]);
}

#[test]
fn one_seed() {
    runs::one::<World>();
}
