//! `cargo demo`: three servers and six agents in one process, real QUIC and real certificates on loopback, with an emulated
//! network in each socket. One peer answers slowly, one goes away and comes back, one is killed; and so is one of the servers,
//! whose agents move to the others by themselves. A live table shows who is here, how far apart they are and where the time
//! goes, and that nothing was lost; `--json` prints it as one object at the end.
#![allow(clippy::disallowed_methods)] // It is a shell: it starts tasks and reads clocks.

mod account;
mod actor;
mod cast;
mod servers;
mod stage;
mod table;

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use pams_shared::clock::Clock;

use stage::Stage;

/// Three servers and six agents on an emulated network, until Ctrl-C.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Args {
    /// End by itself after so many seconds (5 to 86400).
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: Option<u64>,
    /// Print one JSON object on stdout at the end, and nothing else there.
    #[arg(long)]
    json: bool,
    /// What to log on stderr: off, error, warn, info or debug.
    #[arg(long, default_value = "off")]
    log: pams_shared::logs::Filter,
}

/// How often the table is drawn: on a terminal, and where lines are only appended.
const DRAW: Duration = Duration::from_secs(1);
const DRAW_PLAIN: Duration = Duration::from_secs(5);
/// The plot of a run without an end.
const PLOT: Duration = Duration::from_secs(25);
/// Between two looks for the homes of those whose server was killed.
const REHOMING: Duration = Duration::from_millis(20);

fn main() -> anyhow::Result<()> {
    // `cargo demo -- --seconds 5` works as well: the alias ends in `--` already.
    let args = Args::parse_from(std::env::args().enumerate().filter(|(i, a)| *i == 0 || a != "--").map(|(_, a)| a));
    pams_shared::logs::init(&args.log, pams_shared::logs::Format::default())?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let length = args.seconds.map(Duration::from_secs);
    let mut stage = Stage::set().await.context("the demo could not be set up")?;
    if !args.json {
        print!("{}", table::welcome(&stage));
    }
    let begin = Clock.now();
    let mut plot = cast::plot(length.unwrap_or(PLOT)).into_iter().peekable();
    let terminal = std::io::stdout().is_terminal();
    let mut draw = tokio::time::interval(if terminal { DRAW } else { DRAW_PLAIN });
    draw.tick().await;
    loop {
        let at = |after: Duration| tokio::time::sleep_until(Clock.instant(begin + after));
        let turn = plot.peek().map_or(Duration::from_secs(u64::from(u32::MAX)), |t| t.at);
        tokio::select! {
            signal = tokio::signal::ctrl_c() => { signal?; break }
            () = at(length.unwrap_or(Duration::from_secs(u64::from(u32::MAX)))) => break,
            () = at(turn) => if let Some(turn) = plot.next() { stage.play(turn).await?; },
            () = tokio::time::sleep(REHOMING), if stage.is_rehoming() => stage.look_for_homes().await,
            _ = draw.tick() => {
                // Also where nothing is drawn: who is told gone must not be missed.
                let scene = stage.scene().await;
                if args.json { continue }
                let since = Clock.now().since(begin);
                let mut out = std::io::stdout().lock();
                // Home and clear to the end: without flicker, and nothing of the last drawing stays.
                if terminal { out.write_all(b"\x1b[H\x1b[J")?; }
                out.write_all(table::live(&stage, &scene, since).as_bytes())?;
                out.flush()?;
            },
        }
    }
    let scene = stage.scene().await;
    let pairs = stage.pairs();
    let cluster = stage.strike(scene.servers.clone()).await;
    if args.json {
        let (agents, pairs, cluster) = (&scene.ledgers(), &pairs, &cluster);
        println!("{}", serde_json::to_string(&table::Summary { agents, pairs, cluster })?);
    } else {
        print!("{}", table::summary(&scene, &pairs, &cluster));
    }
    Ok(())
}
