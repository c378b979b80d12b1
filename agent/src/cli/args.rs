//! Flags and subcommands, with the help texts that are the manual.

use std::{path::PathBuf, time::Duration};

use clap::{
    Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use pams_shared::{config::CommonArgs, status::Status, terminal::Form};

use crate::config::Buddy;

const AFTER: &str = "\
Examples:
  pams-agent --join TOKEN              first start: join the cluster that made the token, then run
  pams-agent --overlay games/chess     every other start
  pams-agent status busy --note lunch  tell the others
  pams-agent ping beta -c 3            time three pings to a buddy, split by stage
  pams-agent subscribe beta            be told of its presence at each change

Values come from flags, over the environment (PAMS_AGENT_PING_INTERVAL=5s), over the file (--config, or PAMS_AGENT_CONFIG), \
over defaults; --print-config shows the outcome with an explanation of each key.

Exit codes: 0 done; 1 the agent said no, or nobody answered; 64 bad usage or configuration; 69 the agent does not run or \
does not answer, or what it needs does not; 70 a bug; 74 a file or socket failed; 77 not allowed.";

/// Sees which peers are here, how far apart they are and where the time goes
///
/// pams-agent runs beside a peer-to-peer application. It exchanges pings with its buddies over QUIC, times each of them by
/// stage, shows the outcome to Prometheus at /metrics, and reports to its home, a pams-server. Without a subcommand it is
/// that daemon, in the foreground; the subcommands talk to a running one through its control socket.
#[derive(Debug, Parser)]
#[command(name = "pams-agent", version, after_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    pub daemon: DaemonArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct DaemonArgs {
    #[command(flatten)]
    pub common: CommonArgs,

    /// Print the columns of the CSV files, and end
    #[arg(long)]
    pub list_columns: bool,

    /// Control socket: where the daemon listens, and clients ask
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,

    /// Join with this token, as printed by `pams-server token create`; once is enough. It is a secret that others on this
    /// host can see in the list of processes: the variable hides it better
    #[arg(long, value_name = "TOKEN", env = "PAMS_AGENT_JOIN", hide_env_values = true)]
    pub join: Option<String>,

    /// One more buddy to watch; without an address the home is asked. Can be given many times
    #[arg(long, value_name = "ID[@HOST:PORT]")]
    pub buddy: Vec<Buddy>,

    /// What people call this peer [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,

    /// One more overlay that this peer is in, such as games/chess. Can be given many times
    #[arg(long, value_name = "NAME")]
    pub overlay: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration without starting anything: 0 if it is good, else 64 and what to mend
    CheckConfig(DaemonArgs),
    #[command(flatten)]
    Ask(Ask),
}

/// What a running agent can be asked.
#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Show the agent: presence, home, buddies, transactions; or publish another status
    ///
    /// All transactions of a kind are opened = good + aborted + failed + unknown + in flight, at every look. Late and
    /// duplicate answers change no outcome and stand apart.
    Status {
        /// Publish this status, and drop any note but the one given
        #[arg(value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)).map(status))]
        status: Option<Status>,
        /// What to say with it, such as "back at 2"
        #[arg(long, requires = "status", value_name = "TEXT")]
        note: Option<String>,
        #[command(flatten)]
        client: Client,
    },
    /// Show the buddies: what they say, what is concluded of them, and the last ping of each by stage
    ///
    /// Liveness: live answered the last ping; overdue missed one; gone missed three, and nothing was heard from it
    /// meanwhile; left said goodbye. "Hears": something came from it; "is heard": it answered us. Times are those of the
    /// last answered ping, and absent for a buddy that does not answer.
    Buddies {
        #[command(flatten)]
        client: Client,
    },
    /// Read the configuration again: tells what changed and what needs a restart, or what is wrong with it
    ///
    /// File, environment and flags are those of the start; SIGHUP does the same. A configuration that is not good changes
    /// nothing: the exit code is 1 then.
    Reload {
        #[command(flatten)]
        client: Client,
    },
    /// Ask a peer who it is and how it is; if it cannot be reached, its home
    Fetch {
        /// A peer id, or the name of a buddy
        peer: String,
        #[command(flatten)]
        client: Client,
    },
    /// Be told of each change of a peer's presence as it comes, a line each, until Ctrl-C
    ///
    /// The peer itself tells, and so does the home, which also knows those that are out of contact; who told stands in each
    /// line. A peer that is not there yet is told of when it comes. What is told once is not told again, and changes that a
    /// newer one overtook are counted. A subscription that is not in the configuration (subscribe = true) ends with this.
    Subscribe {
        /// A peer id, or the name of a buddy
        peer: String,
        #[command(flatten)]
        client: Client,
    },
    /// Show whose presence this agent is told of, and by whom
    ///
    /// From: the configuration (subscribe = true), or asked for since the start. Told by: who told the present status first, and
    /// how long ago. By peer, by home: whether it tells us; waiting has no contact yet, asked has no answer yet, refused is
    /// asked again, and says why.
    Subscriptions {
        #[command(flatten)]
        client: Client,
    },
    /// Show who is told of this peer's presence, and how soon they were
    ///
    /// Told: when, after the last change was published, the subscriber was told. It is a bound and no point: the subscriber has
    /// another clock, so that only "not before" and "not after" can be measured from here. State: active acknowledges; silent
    /// did not in time; away has lost its connection a moment ago.
    Subscribers {
        #[command(flatten)]
        client: Client,
    },
    /// Ping a peer through the agent, showing where the time goes
    ///
    /// A line for each pong, with its total time and the stages that add up to it: queued here (also for the handshake, if
    /// there was no connection), network there and back, hold by the other side, wait here until handled. An answer that
    /// does not come says why: refused, certificate, clock, not sent, no answer. Ctrl-C ends it with statistics; exit code
    /// 0 if there was any answer, 1 if not.
    Ping {
        /// A peer id, or the name of a buddy
        peer: String,
        /// End after so many pings
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Seconds from one ping to the next, 0.01 to 3600; none waits for the answer to the one before
        #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
        interval: Duration,
        #[command(flatten)]
        client: Client,
    },
}

/// How to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct Client {
    /// Control socket of the agent [env: PAMS_AGENT_SOCKET] [default: that of your own agent, else of the system's]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Form of the answer; json has everything, and stays as it is from version to version
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

impl Ask {
    pub fn client(&self) -> &Client {
        match self {
            Self::Status { client, .. }
            | Self::Buddies { client }
            | Self::Reload { client }
            | Self::Fetch { client, .. }
            | Self::Subscribe { client, .. }
            | Self::Subscriptions { client }
            | Self::Subscribers { client }
            | Self::Ping { client, .. } => client,
        }
    }
}

impl DaemonArgs {
    /// These flags, and those of `top` that are not among them.
    pub(super) fn over(self, top: Self) -> Self {
        Self {
            common: self.common.over(top.common),
            list_columns: self.list_columns || top.list_columns,
            socket: self.socket.or(top.socket),
            join: self.join.or(top.join),
            buddy: [top.buddy, self.buddy].concat(),
            name: self.name.or(top.name),
            overlay: [top.overlay, self.overlay].concat(),
        }
    }

    /// Nothing that only a daemon can use. A token may be in the environment for it.
    pub(super) fn is_only_socket(&self) -> bool {
        let CommonArgs { config, print_config, list_metrics, ready_json, .. } = &self.common;
        let asks = *print_config || *list_metrics || *ready_json || self.list_columns;
        let others = config.is_some() || asks || self.name.is_some();
        !others && self.common.overrides().is_empty() && self.buddy.is_empty() && self.overlay.is_empty()
    }
}

fn status(word: String) -> Status {
    Status::ALL.into_iter().find(|s| s.as_str() == word).unwrap_or_default()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|s| (0.01..=3_600.0).contains(s));
    number.map(Duration::from_secs_f64).ok_or_else(|| "give 0.01 to 3600 seconds".to_owned())
}
