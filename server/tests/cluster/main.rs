//! Several servers, whole cores, in virtual time: three to five homes that share one directory over an emulated network, agents
//! that move between them, and every fault that this is made for, with checkers that look at each step and at the end.
//!
//! A run is a function of its seed: no clock, socket or task, one queue of events. The simulator plays the servers' shells
//! (`server`, `siblings`), QUIC (`conn`, `net`) and the agents (`agent`, `uplink`, `batches`), which are models as simple as a
//! home can tell: it is the homes' cores, and the wire between them, that are tried here.
//!
//! - `cargo test -p pams-server --test cluster` runs [`SEEDS`] seeds,
//! - `SIM_SEEDS=5000 cargo test ...` so many, with `SIM_FROM=200` from that one on; on as many threads as it may use cores,
//! - `SIM_SEED=17 cargo test -p pams-server --test cluster -- --exact one_seed --nocapture` one, with its trace: virtual
//!   seconds, who (servers are capitals), `<` what came in, `>` what went out, `!` what befell.
//!
//! A failure says its seed, the end of its trace, and how to see it again. What must hold is in `check` (each step), `sweep` (any
//! time) and `end`; `tally` counts what was tried.

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

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tally::Tally;
use world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 200;
/// Lines of a failed run's trace that are shown.
const TAIL: usize = 60;

fn run(seed: u64, traced: bool) -> World {
    let mut world = World::new(seed, traced);
    world.run();
    world
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{variable}={v} is no number")))
}

/// Runs a seed; a failure as text, with what led to it and how to see it again.
fn attempt(seed: u64) -> Result<Tally, String> {
    let text = |cause: Box<dyn Any + Send>| match cause.downcast::<String>() {
        Ok(text) => *text,
        Err(cause) => (*cause.downcast::<&str>().unwrap_or(Box::new("a panic without words"))).to_owned(),
    };
    match catch_unwind(|| run(seed, false).tally) {
        Ok(tally) => Ok(tally),
        Err(cause) => {
            let mut world = World::new(seed, true);
            let _ = catch_unwind(AssertUnwindSafe(|| world.run()));
            Err(format!(
                "seed {seed}: {}\n--- the last {TAIL} lines of its trace\n{}\n--- again, in full:\n\
                 SIM_SEED={seed} cargo test -p pams-server --test cluster -- --exact one_seed --nocapture",
                text(cause),
                world.trace.tail(TAIL)
            ))
        }
    }
}

#[test]
fn many_seeds_break_no_promise() {
    let (from, seeds) = (number("SIM_FROM").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, tally, failed) = (AtomicU64::new(from), Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|s| *s < from + seeds) {
                    match attempt(seed) {
                        Ok(one) => tally.lock().unwrap().add(&one),
                        Err(text) => failed.lock().unwrap().push((seed, text)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    if let Some((_, text)) = failed.first() {
        let all: Vec<&str> = failed.iter().filter_map(|(_, text)| text.lines().next()).collect();
        panic!("{} of {seeds} seeds failed:\n{}\n\n{text}", all.len(), all.join("\n"));
    }
    let tally = tally.into_inner().unwrap();
    println!("{seeds} seeds from {from}: {tally}");
    // What never happened was not tried.
    if seeds >= SEEDS {
        let idle = tally.idle();
        assert!(idle.is_empty(), "no seed of {seeds} has {idle:?}");
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [1, 7] {
        let (first, second) = (run(seed, true), run(seed, true));
        assert!(first.trace.text().lines().count() > 500, "seed {seed}: a trace of next to nothing");
        assert!(first.trace.text() == second.trace.text(), "seed {seed} gives two traces");
    }
}

/// Replays `SIM_SEED` with its trace; without it, seed 0.
#[test]
fn one_seed() {
    let mut world = World::new(number("SIM_SEED").unwrap_or(0), true);
    world.trace.echo = number("SIM_SEED").is_some();
    world.run();
    println!("{}", world.tally);
}
