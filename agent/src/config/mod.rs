//! What an operator can set: the keys of the file, their defaults and bounds. One description serves the file, the
//! environment, `--print-config` and the messages about mistakes.
//!
//! Defaults depend on who runs the agent: root gets the system's directories, anybody else their own. What is left open
//! here and found out at the start (own addresses, the host's name) has an accessor that fills it in.

mod buddy;
mod check;
mod csv;
mod http;
mod place;

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use pams_shared::{
    config::{Daemon, Flaw},
    frame::{
        ADDRESSES_MAX, APPLICATIONS_MAX, NAME_BYTES_MAX, OVERLAYS_MAX, Profile, ROSTER_MAX, SOFTWARE_BYTES_MAX,
        capability,
    },
    identity::Address,
    logs::{Filter, Format},
    presence::WatcherConfig,
    status::Presence,
};
use uuid::Uuid;

pub use self::{
    buddy::Buddy,
    csv::{Csv, Size},
    http::Http,
    place::client_socket,
};
use self::{
    check::{count, label, overlay, roster, span, unique, within},
    place::{default_data_dir, default_socket},
};
use crate::core::{AgentConfig, BuddyConfig};

/// What this program calls itself to others.
pub const SOFTWARE: &str = concat!("pams-agent/", env!("CARGO_PKG_VERSION"));
const _: () = assert!(SOFTWARE.len() <= SOFTWARE_BYTES_MAX);

/// Half of the contacts that the core keeps, so that there is room for those that call.
pub const BUDDIES_MAX: usize = 4_096;
/// Servers that can be named beside those of the token.
pub const HOMES_MAX: usize = 16;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
const DEADLINE_MIN: Duration = Duration::from_millis(10);
/// Longest time that a ping may wait for its pong.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);
const TRANSACTIONS_MAX: usize = 1 << 20;
const BACKLOG_MAX: usize = 1_000_000;
const PER_PEER_MAX: usize = 10_000;
/// A socket's path has 107 bytes; ours is bound beside its place, under a name up to 12 bytes longer.
const SOCKET_BYTES_MAX: usize = 107 - 12;

pams_shared::config! {
    /// Configuration of pams-agent, which runs beside a peer-to-peer application, exchanges pings with its buddies over
    /// QUIC, times every exchange, and reports to its home, a pams-server. What is not set here has the value shown.
    pub struct Config {
        /// What people call this peer: a label, up to 128 bytes. Default: the host's name.
        name: Option<String> = None => "alpha".to_owned(),
        /// Where the agent keeps its key, certificate, peer id and counters. Only one agent can use it at a time.
        data_dir: PathBuf = default_data_dir(),
        /// UDP address and port for QUIC with peers and home; [::] is all IPv6 and IPv4 addresses, port 0 any free port.
        listen: SocketAddr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7421)),
        /// TCP address and port of /metrics, /healthz and /readyz, or "off". The metrics tell who talks to whom, so
        /// think before you let others than this host ask.
        http: Http = Http::default(),
        /// The control socket that `pams-agent status` and its like talk to (mode 0660). Default for root:
        /// /run/pams/agent.sock; for others: pams/agent.sock in $XDG_RUNTIME_DIR, else agent.sock in data_dir.
        socket: Option<PathBuf> = None => PathBuf::from("/run/pams/agent.sock"),
        /// Servers to report to, as host:port, or as a service such as "_pams._udp.example.org", whose SRV records name them,
        /// beside those that the join token named; the first that answers is home. It tells of all others, which are kept in
        /// data_dir: none of these need be there at a later start.
        homes: Vec<Address> = Vec::new(),
        /// Addresses, ip:port, at which others can reach this peer. Default: found out from the interfaces and the home.
        advertise: Vec<SocketAddr> = Vec::new(),
        /// Overlays that this peer is in, such as "games/chess"; up to 16.
        overlays: Vec<String> = Vec::new(),
        /// Ids (UUIDs) of the applications that this agent speaks for; up to 16.
        applications: Vec<Uuid> = Vec::new(),
        /// What to log: off, error, warn, info, debug or trace, also by module, as in "info,quinn=warn".
        log: Filter = Filter::default(),
        /// Form of the log on stderr: text or json.
        log_format: Format = Format::default(),
        /// How buddies are watched.
        [ping]: Ping,
        /// Bounds of what is kept in memory.
        [limits]: Limits,
        /// What /metrics shows.
        [metrics]: Exposure,
        /// Files with a line for each finished transaction (CSV, RFC 4180; --list-columns explains the columns).
        [csv]: Csv,
        /// Whom this agent watches beside those that the home gives it, up to 4096. Without
        /// addresses (host:port) the home is asked for them. With subscribe = true this agent is also told of each change
        /// of its presence at once; up to 1024 of them.
        [[buddy]]: Vec<Buddy> => vec![Buddy::example()],
    }
}

pams_shared::config! {
    /// How buddies are watched.
    pub struct Ping {
        /// Time between two pings of a buddy, 100ms to 1h.
        interval: Duration = Duration::from_secs(10),
        /// The same after a ping was missed, until the buddy answers or is gone; 100ms to 1h, the interval at most.
        retry: Duration = Duration::from_secs(1),
        /// How long a pong may take, 10ms to 60s; one that comes later is counted as late.
        deadline: Duration = Duration::from_secs(5),
    }
}

pams_shared::config! {
    /// Bounds of what is kept in memory.
    pub struct Limits {
        /// Transactions in flight at once, 16 to 1048576; a ping beyond that is not opened, and counted.
        transactions: usize = 16_384,
        /// Finished transactions kept while no home takes them, 256 to 1000000; then the oldest go first, and are counted.
        backlog_records: usize = 10_000,
        /// Buddies taken from the home, which gives each peer some of its overlays to watch; 0 to 512, 0 takes none. Those
        /// of this file come on top.
        roster: usize = 256,
    }
}

pams_shared::config! {
    /// What /metrics shows.
    pub struct Exposure {
        /// Buddies with series of their own, 0 to 10000; those of the others are counted in
        /// pams_agent_metrics_dropped_series.
        per_peer_max: usize = 64,
    }
}

impl Config {
    /// The label: as configured, else the host's name.
    pub fn label(&self) -> String {
        let label = self.name.clone().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());
        let end = (0..=NAME_BYTES_MAX.min(label.len())).rev().find(|&i| label.is_char_boundary(i)).unwrap_or(0);
        label[..end].to_owned()
    }

    /// What this agent says that it can. How much of it it takes is in the profile, which another configuration may change.
    pub const fn capabilities() -> u64 {
        capability::SUBSCRIPTIONS
            | capability::ROSTERS
            | capability::SERVERS
            | capability::CHECKS
            | capability::HOME_LOST
    }

    /// Where the control socket is.
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| default_socket(&self.data_dir))
    }

    /// For the core. `presence` is that of the last run; `found` are addresses of this host, used where none are
    /// configured, the first [`ADDRESSES_MAX`] of them.
    pub fn core(&self, presence: Presence, found: &[SocketAddr]) -> AgentConfig {
        let addresses = if self.advertise.is_empty() { found } else { &self.advertise };
        let buddy = |b: &Buddy| BuddyConfig {
            peer: b.id,
            name: b.name.clone(),
            addresses: b.addresses.iter().map(Address::to_string).collect(),
        };
        AgentConfig {
            watcher: WatcherConfig {
                interval: self.ping.interval,
                // To set a short interval alone is no mistake.
                retry: self.ping.retry.min(self.ping.interval),
                patience: self.ping.deadline,
            },
            buddies: self.buddy.iter().map(buddy).collect(),
            subscribe: self.buddy.iter().filter(|b| b.subscribe).map(|b| b.id).collect(),
            presence,
            profile: Profile {
                name: self.label(),
                addresses: addresses.iter().take(ADDRESSES_MAX).copied().collect(),
                software: SOFTWARE.to_owned(),
                overlays: self.overlays.clone(),
                applications: self.applications.clone(),
                metrics: None, // known once HTTP is bound
                capabilities: Self::capabilities(),
                roster_max: u32::try_from(self.limits.roster).unwrap_or(u32::MAX),
            },
            pool_max: self.limits.transactions,
            backlog_max: self.limits.backlog_records,
            answer_after: Duration::ZERO,
        }
    }
}

impl Daemon for Config {
    const ENV_PREFIX: &'static str = "PAMS_AGENT";
    /// The token is a secret and used once, so it is no key of a file.
    const OTHER_VARIABLES: &'static [&'static str] = &["JOIN"];
    const FIXED: &'static [&'static str] =
        &["data_dir", "listen", "http", "socket", "csv.dir", "csv.max_size", "csv.max_age", "csv.keep"];

    fn check(&self) -> Result<(), Flaw> {
        if let Some(name) = &self.name {
            label("name", name)?;
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(Flaw::new("data_dir", "is empty", "give a directory"));
        }
        let socket = self.socket_path();
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_BYTES_MAX || socket.file_name().is_none() {
            let problem = format!("{socket:?} has {bytes} bytes, or names no file");
            return Err(Flaw::new("socket", problem, format!("give a path of up to {SOCKET_BYTES_MAX} bytes")));
        }
        count("homes", self.homes.len(), HOMES_MAX)?;
        unique("homes", &self.homes)?;
        count("advertise", self.advertise.len(), ADDRESSES_MAX)?;
        if let Some(a) = self.advertise.iter().find(|a| a.port() == 0 || a.ip().is_unspecified()) {
            let problem = format!("nobody can call {a}");
            return Err(Flaw::new("advertise", problem, "give an address and a port that others can reach"));
        }
        count("overlays", self.overlays.len(), OVERLAYS_MAX)?;
        unique("overlays", &self.overlays)?;
        self.overlays.iter().try_for_each(|o| overlay(o))?;
        count("applications", self.applications.len(), APPLICATIONS_MAX)?;
        unique("applications", &self.applications)?;
        self.ping.check()?;
        within("limits.transactions", self.limits.transactions, 16, TRANSACTIONS_MAX)?;
        within("limits.backlog_records", self.limits.backlog_records, 256, BACKLOG_MAX)?;
        within("limits.roster", self.limits.roster, 0, ROSTER_MAX)?;
        within("metrics.per_peer_max", self.metrics.per_peer_max, 0, PER_PEER_MAX)?;
        self.csv.check()?;
        roster(&self.buddy)
    }
}

impl Ping {
    fn check(&self) -> Result<(), Flaw> {
        span("ping.interval", self.interval, INTERVAL_MIN, INTERVAL_MAX)?;
        span("ping.retry", self.retry, INTERVAL_MIN, INTERVAL_MAX)?;
        span("ping.deadline", self.deadline, DEADLINE_MIN, DEADLINE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_file_reads_as_the_default() {
        let text = pams_shared::config::round_trip::<Config>().unwrap();
        for part in ["\nlisten = \"[::]:7421\"\n", "\nhttp = \"127.0.0.1:7481\"\n", "\n[ping]\n", "\n#[[buddy]]\n"] {
            assert!(text.contains(part), "{part}\nis missing in\n{text}");
        }
        Config::default().check().unwrap();
    }

    #[test]
    fn what_is_configured_reaches_the_core() {
        let mut config = Config { name: Some("alpha".into()), buddy: vec![Buddy::example()], ..Config::default() };
        config.ping.deadline = Duration::from_secs(2);
        config.limits.backlog_records = 300;
        let found: Vec<SocketAddr> = (1..=20).map(|n| SocketAddr::from(([10, 0, 0, n], 7421))).collect();
        let core = config.core(Presence::default(), &found);
        assert_eq!((core.watcher.patience, core.backlog_max), (Duration::from_secs(2), 300));
        assert_eq!((core.profile.name.as_str(), core.profile.addresses.as_slice()), ("alpha", &found[..ADDRESSES_MAX]));
        assert_eq!(core.buddies[0].addresses, ["beta.example.org:7421"]);
        let all = Config::capabilities();
        assert_eq!((core.profile.capabilities, core.profile.roster_max), (all, 256));
        config.limits.roster = 0;
        let core = config.core(Presence::default(), &found);
        assert_eq!((core.profile.capabilities, core.profile.roster_max), (all, 0), "it could take one by a reload");
        assert_eq!(core.subscribe, [core.buddies[0].peer]);

        config.advertise = vec!["192.0.2.1:99".parse().unwrap()];
        assert_eq!(config.core(Presence::default(), &found).profile.addresses, config.advertise);
    }

    #[test]
    fn what_only_the_start_reads_is_kept_and_told_by_a_reload() {
        let mut wanted = Config::default();
        (wanted.csv.dir, wanted.csv.keep, wanted.limits.roster) = (Some("/tmp/x".into()), 3, 7);
        let (config, changes) = pams_shared::config::reconcile(&Config::default(), &wanted).unwrap();
        assert_eq!(changes.keys(), ("limits.roster".to_owned(), "csv.dir, csv.keep".to_owned()));
        assert_eq!((config.csv, config.limits.roster), (Config::default().csv, 7));
        let mut known = Vec::new();
        pams_shared::config::round_trip::<Config>().unwrap().lines().for_each(|line| known.push(line.to_owned()));
        for key in Config::FIXED {
            let name = key.rsplit('.').next().unwrap_or(key);
            assert!(
                known.iter().any(|l| l.trim_start_matches('#').starts_with(&format!("{name} = "))),
                "{key} is no key"
            );
        }
    }

    #[test]
    fn a_label_is_cut_at_a_character() {
        let config = Config { name: Some("ä".repeat(100)), ..Config::default() };
        assert_eq!(config.label(), "ä".repeat(64));
        assert!(!Config::default().label().is_empty());
    }
}
