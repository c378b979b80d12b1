//! `pams-proof icmp`: PAMS's network stage beside ICMP, on a link of 50 ms. `pams-proof link`: hosts to try things out on.
//! `pams-proof cluster`: what befalls three servers and sixty agents. All need root. The scenarios are `cargo test -p pams-proof --features real`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use pams_proof::{
    by_hand, cluster, crowd, lab,
    lab::Lab,
    pams::{Home, PATIENCE, Seat, until},
    role,
    stages::Beside,
};
use pams_shared::sim::Link;
use tokio::task::LocalSet;

/// PAMS on hosts of its own, in network namespaces joined by a link that delays, loses and cuts; needs root
#[derive(Parser)]
#[command(name = "pams-proof")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// PAMS's network stage beside ICMP, on a link without jitter
    Icmp {
        /// Of the link, for each direction
        #[arg(long, default_value = "25ms", value_parser = humantime::parse_duration)]
        delay: Duration,
        /// Rounds; the figure is the median of theirs
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Pings and echoes in each round
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
    /// What befalls three servers and sixty agents, as a table
    Cluster {
        /// Only the cases whose names contain one of these
        words: Vec<String>,
        /// Cases that are played at once
        #[arg(long, default_value_t = 1)]
        at_once: usize,
        /// Keep the logs of all hosts in this folder
        #[arg(long, value_name = "DIR")]
        logs: Option<PathBuf>,
    },
    /// Hosts to try things out on, until stdin is closed
    #[command(after_help = by_hand::HELP)]
    Link {
        #[arg(long, default_value_t = 2)]
        hosts: usize,
    },
    /// What runs on a host
    #[command(hide = true)]
    Role { role: Role, file: PathBuf },
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Agent,
    Crowd,
    Server,
}

fn main() -> ExitCode {
    let ended = match Args::parse().what {
        What::Role { role: Role::Agent, file } => role::agent(&file),
        What::Role { role: Role::Server, file } => role::server(&file),
        What::Role { role: Role::Crowd, file } => crowd::crowd(&file),
        What::Cluster { words, at_once, logs } => block_on(befall(&words, at_once, logs.as_deref())),
        What::Icmp { delay, rounds, count } => block_on(icmp(delay, rounds, count)),
        What::Link { hosts } => block_on(async {
            lab::check()?;
            lab::clear_away()?;
            by_hand::run(&std::env::current_exe()?, hosts).await
        }),
    };
    ended.unwrap_or_else(|error| pams_shared::program::told("pams-proof", 1, &error)).into()
}

fn block_on(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let ended = LocalSet::new().block_on(&runtime, run);
    runtime.shutdown_background(); // a look at stdin may be under way
    ended.map(|()| 0)
}

/// The bar: a median network stage within this much of ICMP's median.
const BAR_PERCENT: f64 = 0.5;
const INTERVAL: Duration = Duration::from_millis(100);

async fn icmp(delay: Duration, rounds: usize, count: usize) -> anyhow::Result<()> {
    lab::check()?;
    lab::clear_away()?;
    let lab = Lab::new(&std::env::current_exe()?, &["home", "a", "b"])?;
    let home = Home::start(&lab, "home").await?;
    let seldom = |seat: Seat| seat.pings(Duration::from_secs(3_600), Duration::from_secs(5));
    let b = seldom(Seat::new(&lab, "b")?);
    let a = seldom(Seat::new(&lab, "a")?).watches(&[&b]);
    let _beta = b.start(&lab, Some(&home.token)).await?;
    let alpha = a.start(&lab, Some(&home.token)).await?;
    until("b is live", PATIENCE, async || alpha.takes_for(b.peer, "live").await).await?;
    lab.wire.set_both(lab.port("a"), lab.port("b"), Link { delay, ..Link::default() });

    println!("round  icmp ms  network ms  difference us     %");
    let mut percents = Vec::new();
    for round in 0..=rounds {
        let both = Beside::measure(&lab, ("a", &alpha), ("b", b.peer), count, INTERVAL).await?;
        let (icmp, network, difference) = (both.echoes.median_ms(), both.network().0, both.difference_ms());
        let percent = difference / icmp * 100.0;
        if round == 0 {
            continue; // warm-up
        }
        percents.push(percent);
        println!("{round:>5}  {icmp:>7.3}  {network:>10.3}  {:>13.0}  {percent:>4.2}", difference * 1e3);
    }
    percents.sort_by(f64::total_cmp);
    let median = *percents.get(percents.len() / 2).context("one round at least")?;
    let late = lab.wire.lateness();
    println!("network stage beside ICMP: {median:+.2} % (median of {rounds} rounds; bar {BAR_PERCENT} %)");
    println!("the link, late of what was set: {:.0} us on average, in both", late.mean.as_secs_f64() * 1e6);
    Ok(())
}

async fn befall(words: &[String], at_once: usize, logs: Option<&Path>) -> anyhow::Result<()> {
    lab::check()?;
    lab::clear_away()?;
    let cases = cluster::chosen(words);
    ensure!(!cases.is_empty(), "no case has such a name; there are {}", cluster::CASES.map(|c| c.name).join(", "));
    let (found, failed) = cluster::play(&std::env::current_exe()?, &cases, at_once, logs).await;
    println!("{}", cluster::table(&found));
    ensure!(failed == 0, "{failed} of {} cases failed", cases.len());
    Ok(())
}
