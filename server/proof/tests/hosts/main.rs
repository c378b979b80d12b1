//! PAMS on real hosts: what it says of paths, stages and outages, held against what was done to it and against ICMP. Needs
//! root, `ip` and `ping`: `cargo test -p pams-proof --features real`. It never skips: where it cannot run, it fails.
//!
//! No test harness: outages last half a minute, so all scenarios run together, each in a lab of its own, and end in tables; what
//! befalls a cluster follows, two cases at a time. Words on the command line choose the scenarios whose names contain one of them.

mod account;
mod blocked;
mod cluster;
mod crashes;
mod cuts;
mod moves;
mod paths;
mod table;
mod told;

use std::{path::Path, pin::Pin, process::ExitCode, sync::Arc};

use anyhow::Context;
use pams_proof::{
    cluster::table,
    lab::{self, Lab},
};
use tokio::{
    runtime::Builder,
    sync::Mutex,
    task::{Id, JoinSet, LocalSet},
};

use crate::table::{Row, print};

type Outcome = anyhow::Result<Vec<Row>>;
type Run = for<'a> fn(&'a Lab) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    /// It measures time: only one of these runs at a time, beside others, which mostly wait.
    exact: bool,
    hosts: &'static [&'static str],
    run: Run,
}

const SCENARIOS: [Scenario; 13] = [
    exact("paths", &["home", "a", "b"], |lab| Box::pin(paths::the_network_stage_follows_the_path(lab))),
    exact("stages", &["home", "a", "b", "c"], |lab| Box::pin(paths::what_is_slow_moves_its_stage_only(lab))),
    outage("cut", &["home", "a", "b"], |lab| Box::pin(cuts::both_ways_for_thirty_seconds(lab))),
    outage("one-way", &["home", "a", "b"], |lab| Box::pin(cuts::one_way_for_thirty_seconds(lab))),
    outage("kill", &["home", "a", "b", "c"], |lab| Box::pin(crashes::a_peer_is_killed(lab))),
    outage("kill-busy", &["home", "a", "b"], |lab| Box::pin(crashes::a_busy_peer_is_killed(lab))),
    outage("stop", &["home", "a", "b"], |lab| Box::pin(crashes::a_peer_is_stopped_for_twenty_seconds(lab))),
    outage("restart", &["home", "a", "b"], |lab| Box::pin(moves::a_peer_is_restarted(lab))),
    outage("address-of-caller", &["home", "a", "b"], |lab| Box::pin(moves::who_called_gets_another_address(lab))),
    outage("address-of-called", &["home", "a", "b"], |lab| Box::pin(moves::who_was_called_gets_another_address(lab))),
    outage("blocked", &["home", "a", "b"], |lab| Box::pin(blocked::the_agent_says_why_there_is_no_home(lab))),
    outage("told", &["home", "a", "b"], |lab| Box::pin(told::subscribers_are_told_within_the_bounds(lab))),
    outage("home", &["home", "a", "b"], |lab| Box::pin(moves::the_home_is_killed_and_started_again(lab))),
];

const fn exact(name: &'static str, hosts: &'static [&'static str], run: Run) -> Scenario {
    Scenario { name, exact: true, hosts, run }
}

const fn outage(name: &'static str, hosts: &'static [&'static str], run: Run) -> Scenario {
    Scenario { name, exact: false, hosts, run }
}

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    let chosen: Vec<Scenario> = SCENARIOS
        .into_iter()
        .filter(|s| words.is_empty() || words.iter().any(|w| s.name.contains(w.as_str())))
        .collect();
    lab::check()?;
    lab::clear_away()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let cases = cluster::cases(&words);
    let (rows, failed) = LocalSet::new().block_on(&runtime, all(&chosen));
    print(rows);
    let (found, failed_cases) = LocalSet::new().block_on(&runtime, cluster::all(&cases));
    if !cases.is_empty() {
        println!("{}\n", table(&found));
    }
    let (all, failed) = (chosen.len() + cases.len(), failed + failed_cases);
    println!("{} passed, {failed} failed", all - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs them together; gives what they found, and how many of them failed.
async fn all(scenarios: &[Scenario]) -> (Vec<Row>, usize) {
    let (turn, mut tasks) = (Arc::new(Mutex::new(())), JoinSet::new());
    let mut names: Vec<(Id, &str)> = Vec::new();
    for scenario in scenarios.iter().copied() {
        let turn = turn.clone();
        let task = tasks.spawn_local(async move {
            let _turn = if scenario.exact { Some(turn.lock().await) } else { None };
            play(scenario).await
        });
        names.push((task.id(), scenario.name));
    }
    let (mut rows, mut failed) = (Vec::new(), 0);
    while let Some(ended) = tasks.join_next_with_id().await {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(panic) => (panic.id(), Err(anyhow::anyhow!("{panic}"))),
        };
        let name = names.iter().find(|(of, _)| *of == id).map_or("?", |(_, name)| name);
        match outcome {
            Ok(found) => rows.extend(found),
            Err(error) => {
                println!("FAILED {name}: {error:#}");
                failed += 1;
            }
        }
    }
    (rows, failed)
}

async fn play(scenario: Scenario) -> Outcome {
    let lab = Lab::new(Path::new(env!("CARGO_BIN_EXE_pams-proof")), scenario.hosts)?;
    (scenario.run)(&lab).await.with_context(|| format!("the logs end with\n{}", lab.logs(12)))
}
