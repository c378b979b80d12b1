//! `pams-dashboards`: writes the dashboards, rules and alerts, so that they can be put where a Grafana and a Prometheus
//! read them.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;

/// Writes PAMS' Grafana dashboards, Prometheus configuration, recording rules, alerts and their tests.
#[derive(Parser)]
#[command(name = "pams-dashboards", version)]
struct Args {
    /// Where to: grafana/*.json and prometheus/*.yml are made there, and written anew if they are there already
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pams-dashboards: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let written = pams_dashboards::files::write(&args.out)
        .with_context(|| format!("cannot write below {}; --out names another directory", args.out.display()))?;
    let mut out = std::io::stdout().lock();
    for path in written {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
