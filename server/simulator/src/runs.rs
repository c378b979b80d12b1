//! Runs from seeds: many at once, or one again with its trace.
//!
//! - `cargo test -p pams-server --test SUITE` runs [`SEEDS`] seeds,
//! - `SIM_SEEDS=5000 cargo test ...` so many, with `SIM_FROM=200` from that one on; on as many threads as it may use cores
//!   (`taskset -c 0` for one),
//! - `SIM_SEED=17 cargo test -p pams-server --test SUITE -- --exact one_seed --nocapture` one, with its trace: virtual
//!   seconds, who, `<` what came in, `>` what went out, `!` what befell.
//!
//! A failure says its seed, the end of its trace, and how to see it again. With `--nocapture` a failed seed is told when it fails,
//! and each `TOLD_EACH` seeds how far it is: what is stopped has told what it found, and where.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Tally, Trace};

/// Seeds of an ordinary run.
pub const SEEDS: u64 = 200;
/// Lines of a failed run's trace that are shown.
const TAIL: usize = 60;
/// Lines that the trace of any run has.
const LINES_MIN: usize = 500;
/// Seeds between two words of how far it is.
const TOLD_EACH: u64 = 1_000;

/// A suite's world.
pub trait World: Sized {
    /// The suite's name, as cargo knows it.
    const SUITE: &str;

    fn new(seed: u64, traced: bool) -> Self;

    /// Runs to the end.
    ///
    /// # Panics
    /// Something that must hold does not.
    fn run(&mut self);

    fn tally(&self) -> &Tally;

    fn trace(&mut self) -> &mut Trace;
}

/// Runs the seeds that the environment asks for.
///
/// # Panics
/// A seed failed, or what is to be tried never happened in [`SEEDS`] of them.
pub fn many<W: World>() {
    let (from, seeds) = (number("SIM_FROM").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, tally, failed) = (AtomicU64::new(from), Mutex::new(None::<Tally>), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|s| *s < from + seeds) {
                    if seed > from && (seed - from).is_multiple_of(TOLD_EACH) {
                        eprintln!("{} of {seeds} seeds from {from}", seed - from);
                    }
                    match attempt::<W>(seed) {
                        Ok(one) => match &mut *tally.lock().unwrap_or_else(PoisonError::into_inner) {
                            Some(all) => all.add(&one),
                            none => *none = Some(one),
                        },
                        Err(text) => failed.lock().unwrap_or_else(PoisonError::into_inner).push((seed, text)),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    if let Some((_, text)) = failed.first() {
        let all: Vec<&str> = failed.iter().filter_map(|(_, text)| text.lines().next()).collect();
        panic!("{} of {seeds} seeds failed:\n{}\n\n{text}", all.len(), all.join("\n"));
    }
    let Some(tally) = tally.into_inner().unwrap_or_else(PoisonError::into_inner) else { return };
    println!("{seeds} seeds from {from}: {tally}");
    // What never happened was not tried.
    if seeds >= SEEDS {
        let idle = tally.idle();
        assert!(idle.is_empty(), "no seed of {seeds} has {idle:?}");
    }
}

/// Each of these seeds gives one run, and another than the others give.
///
/// # Panics
/// It does not.
pub fn twice<W: World>(seeds: &[u64]) {
    let text = |seed: u64| {
        let mut world = W::new(seed, true);
        world.run();
        world.trace().text().to_owned()
    };
    let mut texts = Vec::new();
    for seed in seeds {
        let first = text(*seed);
        assert!(first.lines().count() > LINES_MIN, "seed {seed}: a trace of next to nothing");
        assert!(first == text(*seed), "seed {seed} gives two traces");
        assert!(!texts.contains(&first), "seed {seed} gives the run of another");
        texts.push(first);
    }
}

/// Replays `SIM_SEED` with its trace; without it, seed 0.
///
/// # Panics
/// As [`World::run`].
pub fn one<W: World>() {
    let mut world = W::new(number("SIM_SEED").unwrap_or(0), true);
    if number("SIM_SEED").is_some() {
        world.trace().echo();
    }
    world.run();
    println!("{}", world.tally());
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{variable}={v} is no number")))
}

/// Runs a seed; a failure as text, with what led to it and how to see it again.
fn attempt<W: World>(seed: u64) -> Result<Tally, String> {
    let run = || {
        let mut world = W::new(seed, false);
        world.run();
        world.tally().clone()
    };
    catch_unwind(run).map_err(|cause| {
        let what = format!("seed {seed}: {}", text_of(cause));
        eprintln!("{what}");
        let mut world = W::new(seed, true);
        let _ = catch_unwind(AssertUnwindSafe(|| world.run()));
        format!(
            "{what}\n--- the last {TAIL} lines of its trace\n{}\n--- again, in full:\n\
             SIM_SEED={seed} cargo test -p pams-server --test {} -- --exact one_seed --nocapture",
            world.trace().tail(TAIL),
            W::SUITE
        )
    })
}

fn text_of(cause: Box<dyn Any + Send>) -> String {
    match cause.downcast::<String>() {
        Ok(text) => *text,
        Err(cause) => (*cause.downcast::<&str>().unwrap_or(Box::new("a panic without words"))).to_owned(),
    }
}
