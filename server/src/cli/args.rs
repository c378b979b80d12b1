//! Flags and subcommands, with the help texts that are the manual.

use std::time::Duration;

use clap::{
    Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use pams_shared::{
    config::CommonArgs,
    frame::Role,
    id::PeerId,
    identity::Address,
    status::{Liveness, Status},
    terminal::Form,
};

use crate::core::probe::{WITHIN_MAX, WITHIN_MIN};

const AFTER: &str = "\
Examples:
  pams-server                        first start: makes its keys, prints how agents join, runs
  pams-server token create --uses 5  print how five more agents join
  pams-server --join TOKEN           first start of a second server: joins the cluster of the first, and runs
  pams-server peers --liveness gone  who is gone?
  pams-server peer alpha             all that is known of a peer
  pams-server token create --role server  print how another server joins
  pams-server members                which servers are there?
  pams-server probe alpha            how is it right now? asked of the peer itself

Values come from flags, over the environment (PAMS_SERVER_PACE_REPORT=1s), over the file (--config, or PAMS_SERVER_CONFIG), \
over defaults; --print-config shows the outcome with an explanation of each key.

Exit codes: 0 done; 1 the server said no; 64 bad usage or configuration; 69 the server does not run or does not answer, \
or cannot start; 74 a file or socket failed; 77 not allowed.";

/// Knows which peers are here, how they are doing and what their transactions add up to
///
/// pams-server is the home of pams-agents. It gives them their certificates, takes their reports, and shows the whole to
/// Prometheus at /metrics and to everybody else under /api/v1. Without a subcommand it is that daemon, in the foreground;
/// the subcommands work beside a running one, through its data directory and the admin socket in it.
#[derive(Debug, Parser)]
#[command(name = "pams-server", version, after_help = AFTER)]
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

    /// Name or address at which agents reach this server, or the service that names all (_pams._udp.example.org); it stands in
    /// join tokens. Can be given many times
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub advertise: Vec<String>,

    /// Join the cluster of another server with this token, as printed by `pams-server token create --role server` there; once
    /// is enough. It is a secret that others on this host can see in the list of processes: the variable hides it better
    #[arg(long, value_name = "TOKEN", env = "PAMS_SERVER_JOIN", hide_env_values = true)]
    pub join: Option<String>,

    /// Domain in the names of certificates; fixed at the first start of the cluster's first server
    #[arg(long)]
    pub domain: Option<String>,

    /// What people call this server [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration without starting anything: 0 if it is good, else 64 and what to mend
    CheckConfig(DaemonArgs),
    #[command(flatten)]
    Ask(Ask),
}

/// What works beside a running server.
#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Make, list and revoke the tokens that agents and servers join with
    #[command(subcommand)]
    Token(TokenAsk),
    /// List peers: what they say, what is concluded of them
    ///
    /// Liveness: live reports in time; overdue missed a report; gone is silent for longer; left said goodbye.
    Peers {
        /// Only those that are
        #[arg(long, value_parser = PossibleValuesParser::new(Liveness::ALL.map(Liveness::as_str)).map(liveness))]
        liveness: Option<Liveness>,
        /// Only those that say they are
        #[arg(long, value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)).map(status))]
        status: Option<Status>,
        /// Only those in this overlay or one nested in it
        #[arg(long, value_name = "NAME")]
        overlay: Option<String>,
        /// Only those whose name has this part
        #[arg(long, value_name = "PART")]
        name: Option<String>,
        /// At most so many, in order of their ids
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Only those after this one
        #[arg(long, value_name = "ID")]
        after: Option<PeerId>,
        #[command(flatten)]
        client: Client,
    },
    /// Show all that is known of a peer: what its watchers see, its transactions, what happened
    Peer {
        /// A peer id, or a name that only one peer has
        peer: String,
        #[command(flatten)]
        client: Client,
    },
    /// Ask a peer how it is right now: its home asks it, and has another agent ping it
    ///
    /// Verdict: reachable; partly, from some and not from others; unreachable; offline, it left or was forgotten;
    /// home_unreachable, where agents of this server are asked instead; unknown. The exit code is 0 if anybody reached it, else 1.
    Probe {
        /// A peer id, or a name that only one peer has
        peer: String,
        /// How long the answer may take, 100ms to 10s
        #[arg(long, value_name = "TIME", default_value = "2s", value_parser = within)]
        within: Duration,
        #[command(flatten)]
        client: Client,
    },
    /// List the servers of the cluster: how this one sees each, and how old what each shares is
    ///
    /// State: me; alive; suspect did not answer; down is dead, or cut off from all that this server hears; left said so.
    Members {
        #[command(flatten)]
        client: Client,
    },
    /// Send all agents to other servers, a few at a time, then stop: nothing is lost, and no peer is seen as gone
    ///
    /// It answers when it has begun. Agents that have not gone within 20 s are left behind; without another server there is
    /// nobody to send them to, and the server just stops.
    Drain {
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
    /// Forget a peer that is gone or left, and free its id for another key
    ///
    /// Its agent cannot report, and cannot renew its certificate, until it joins again. What it did stays in the totals.
    Forget {
        /// A peer id
        peer: PeerId,
        /// Also if it is here, to take its right to be: other peers accept its certificate until that runs out
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        client: Client,
    },
}

#[derive(Debug, Subcommand)]
pub enum TokenAsk {
    /// Make a token and print the command that joins with it
    Create {
        /// How many may join with it: a number, or unlimited
        #[arg(long, value_name = "N", default_value = "1", value_parser = uses)]
        uses: Uses,
        /// How long it is good, such as 24h [default: 24h; for servers 1h]
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        ttl: Option<Duration>,
        /// What it is for; for people
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        note: String,
        /// What may join with it. Servers join where the cluster was made; who joins as a server can let in agents
        #[arg(long, default_value = "agent", value_parser = PossibleValuesParser::new([Role::Agent, Role::Server].map(Role::as_str)).map(role))]
        role: Role,
        /// Name or address at which agents reach the server, or a service such as _pams._udp.example.org [default: what the
        /// server says]. Can be given many times
        #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
        advertise: Vec<Address>,
        #[command(flatten)]
        client: Client,
    },
    /// List the tokens, without their secrets; those that ended are listed for 7 days more
    List {
        #[command(flatten)]
        client: Client,
    },
    /// Let nobody join with this token any more; who has joined stays
    Revoke {
        /// The token's id, as listed; it also stands in the token, between its first two dots after pams-join-1
        id: String,
        #[command(flatten)]
        client: Client,
    },
}

/// Whom to ask, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Client {
    /// The server's configuration file, if it has one; it says where the data directory is
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,

    /// The server's data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,

    /// Form of the answer; json has everything, and stays as it is from version to version
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub output: Form,
}

/// How often a token can be used; `None`: any number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uses(pub Option<u32>);

impl Ask {
    pub fn client(&self) -> &Client {
        match self {
            Self::Token(
                TokenAsk::Create { client, .. } | TokenAsk::List { client } | TokenAsk::Revoke { client, .. },
            )
            | Self::Reload { client }
            | Self::Members { client }
            | Self::Drain { client }
            | Self::Peers { client, .. }
            | Self::Peer { client, .. }
            | Self::Probe { client, .. }
            | Self::Forget { client, .. } => client,
        }
    }
}

impl DaemonArgs {
    /// These flags, and those of `top` that are not among them.
    pub(super) fn over(self, top: Self) -> Self {
        Self {
            common: self.common.over(top.common),
            advertise: if self.advertise.is_empty() { top.advertise } else { self.advertise },
            join: self.join.or(top.join),
            domain: self.domain.or(top.domain),
            name: self.name.or(top.name),
        }
    }

    /// Nothing that only a daemon can use. A token may be in the environment for it.
    pub(super) fn is_only_place(&self) -> bool {
        let CommonArgs { print_config, list_metrics, ready_json, listen, http, log, log_format, .. } = &self.common;
        let asked = *print_config || *list_metrics || *ready_json;
        let keys = [listen, http, log, log_format, &self.domain, &self.name];
        !asked && self.advertise.is_empty() && keys.iter().all(|key| key.is_none())
    }
}

fn status(word: String) -> Status {
    Status::ALL.into_iter().find(|s| s.as_str() == word).unwrap_or_default()
}

fn role(word: String) -> Role {
    if word == Role::Server.as_str() { Role::Server } else { Role::Agent }
}

fn liveness(word: String) -> Liveness {
    Liveness::ALL.into_iter().find(|l| l.as_str() == word).unwrap_or(Liveness::Live)
}

fn uses(text: &str) -> Result<Uses, String> {
    match text {
        "unlimited" => Ok(Uses(None)),
        number => match number.parse() {
            Ok(n) if n > 0 => Ok(Uses(Some(n))),
            _ => Err(format!("give 1 to {}, or unlimited", u32::MAX)),
        },
    }
}

fn within(text: &str) -> Result<Duration, String> {
    let within = humantime::parse_duration(text).ok().filter(|d| (WITHIN_MIN..=WITHIN_MAX).contains(d));
    within.ok_or_else(|| "give a time with its unit, 100ms to 10s, such as 2s".to_owned())
}

fn ttl(text: &str) -> Result<Duration, String> {
    /// Ten years.
    const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
    let ttl = humantime::parse_duration(text).ok().filter(|d| (Duration::from_secs(1)..=MAX).contains(d));
    ttl.ok_or_else(|| "give a time with its unit, 1s to 3650days, such as 24h".to_owned())
}
