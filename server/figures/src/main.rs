//! `cargo figures`: the figures in the README, measured on your machine, each beside its baseline in the same run. Absolute
//! times belong to the machine; ratios carry over. Run it while nothing else runs.
#![allow(clippy::disallowed_methods)] // It is a shell: it starts processes and reads clocks.

mod bytes;
mod cluster;
mod consumers;
mod crowd;
mod daemons;
mod hold;
mod proc;
mod rtt;
mod scrape;

use std::time::Duration;

use clap::{Parser, Subcommand};

/// Measures PAMS beside its baselines.
#[derive(Parser)]
#[command(name = "cargo figures")]
struct Args {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// Ping RTT on loopback over a bare quinn datagram echo, two processes each, in turn.
    Rtt {
        /// Rounds; each measures both, paced and back to back.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Pings of each kind in a round.
        #[arg(long, default_value_t = 500)]
        pings: usize,
    },
    /// Bytes of IP of one warm ping and pong, and of QUIC's own acknowledgement.
    Bytes,
    /// Memory and CPU of the `pams-agent` binary with so many buddies.
    Agent {
        #[arg(long, default_value_t = 10)]
        buddies: usize,
        /// How long to watch it, in seconds, after all buddies are live.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Directory of the binaries; default: beside this program's build.
        #[arg(long)]
        bin: Option<std::path::PathBuf>,
    },
    /// Memory of the `pams-server` binary per connected agent, beside bare quinn's per connection.
    Server {
        #[arg(long, default_value_t = 1_000)]
        agents: usize,
        #[arg(long)]
        bin: Option<std::path::PathBuf>,
    },
    /// What one record costs through all consumers, over the bare line.
    Consumers {
        #[arg(long, default_value_t = 7)]
        rounds: usize,
    },
    /// Growth of the `pams-agent` binary's memory at 1,000 transactions a second (almost ten for each buddy), with CSV files and home.
    Hold {
        #[arg(long, default_value_t = 102)]
        buddies: usize,
        /// How long to hold it, in seconds; the first tenth of it, at most two minutes, is to warm up.
        #[arg(long, default_value_t = 3_600)]
        seconds: u64,
        #[arg(long)]
        bin: Option<std::path::PathBuf>,
    },
    /// Time and series of a scrape of the `pams-server` binary, home to so many agents.
    Scrape {
        #[arg(long, default_value_t = 10_000)]
        agents: usize,
        #[arg(long, default_value_t = 200)]
        scrapes: usize,
        /// Seconds between two reports of an agent, which this machine's cores have to write too.
        #[arg(long, default_value_t = 5.0)]
        pace: f64,
        #[arg(long)]
        bin: Option<std::path::PathBuf>,
    },
    /// A change at one of three servers until the others have applied it, and how many a second they take; over a bare QUIC stream.
    Share {
        /// Seconds at each pace.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Changes each second, for the lag.
        #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
        rates: Vec<usize>,
        /// Changes each second in growing steps, until the others fall behind.
        #[arg(long, value_delimiter = ',', default_value = "20000,30000,40000,50000,60000,80000,100000")]
        steps: Vec<usize>,
    },
    /// A fresh server gets a directory of so many peers, and how late changes are meanwhile.
    Copy {
        #[arg(long, default_value_t = 100_000)]
        peers: usize,
    },
    /// Memory of a server for each peer whose home is another.
    Directory {
        #[arg(long, default_value_t = 1_000_000)]
        peers: usize,
        /// They take rosters, and in each of their overlays is a peer of this server too.
        #[arg(long)]
        watched: bool,
    },
    /// The home of so many agents is killed, until the last has another.
    Failover {
        #[arg(long, default_value_t = 2_000)]
        agents: usize,
    },
    /// One of three servers is cut off under 1,000 changes a second, until all are equal again after it.
    Partition {
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Bytes between two servers when nothing happens.
    Idle {
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Sizes of the binaries, in the build that this program is of and in `dist`.
    Size,
    /// The other side of a measurement; started by it.
    #[command(hide = true)]
    Role {
        #[command(subcommand)]
        role: Role,
    },
}

#[derive(Subcommand)]
enum Role {
    Echo { dir: std::path::PathBuf },
    Hold { dir: std::path::PathBuf },
    Agent { dir: std::path::PathBuf, token: String },
    Bare { dir: std::path::PathBuf },
    Node { dir: std::path::PathBuf, setting: String, token: Option<String> },
    Company { dir: std::path::PathBuf, token: String, agents: usize },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse_from(std::env::args().enumerate().filter(|(i, a)| *i == 0 || a != "--").map(|(_, a)| a));
    // As the server binary runs; all else is to be as an agent is.
    let runtime = match &args.figure {
        Figure::Role { role: Role::Node { .. } } => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        match args.figure {
            Figure::Rtt { rounds, pings } => rtt::measure(rounds, pings).await,
            Figure::Bytes => bytes::measure().await,
            Figure::Agent { buddies, seconds, bin } => {
                daemons::agent(buddies, Duration::from_secs(seconds), bin.as_deref()).await
            }
            Figure::Server { agents, bin } => daemons::server(agents, bin.as_deref()).await,
            Figure::Consumers { rounds } => consumers::measure(rounds).await,
            Figure::Hold { buddies, seconds, bin } => {
                hold::measure(buddies, Duration::from_secs(seconds), bin.as_deref()).await
            }
            Figure::Scrape { agents, scrapes, pace, bin } => {
                scrape::measure(agents, scrapes, Duration::try_from_secs_f64(pace)?, bin.as_deref()).await
            }
            Figure::Share { seconds, rates, steps } => {
                cluster::share(Duration::from_secs(seconds), &rates, &steps).await
            }
            Figure::Copy { peers } => cluster::copy(peers).await,
            Figure::Directory { peers, watched } => cluster::directory(peers, watched).await,
            Figure::Failover { agents } => cluster::failover(agents).await,
            Figure::Partition { seconds } => cluster::partition(Duration::from_secs(seconds)).await,
            Figure::Idle { seconds } => cluster::idle(Duration::from_secs(seconds)).await,
            Figure::Role { role: Role::Bare { dir } } => cluster::bare(&dir).await,
            Figure::Role { role: Role::Node { dir, setting, token } } => {
                cluster::node(&dir, serde_json::from_str(&setting)?, token.as_deref()).await
            }
            Figure::Size => daemons::size(),
            Figure::Role { role: Role::Echo { dir } } => rtt::echo(&dir).await,
            Figure::Role { role: Role::Hold { dir } } => rtt::hold(&dir).await,
            Figure::Role { role: Role::Agent { dir, token } } => rtt::agent(&dir, token).await,
            Figure::Role { role: Role::Company { dir, token, agents } } => hold::company(&dir, &token, agents).await,
        }
    })
}
