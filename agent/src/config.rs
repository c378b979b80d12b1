//! What an operator can set: the keys of the file, their defaults and bounds. One description serves the file, the
//! environment, `--print-config` and the messages about mistakes.
//!
//! Defaults depend on who runs the agent: root gets the system's directories, anybody else their own. What is left open
//! here and found out at the start (own addresses, the host's name) has an accessor that fills it in.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use pams_shared::{
    config::{Daemon, Flaw},
    frame::{
        ADDRESSES_MAX, APPLICATIONS_MAX, NAME_BYTES_MAX, OVERLAY_BYTES_MAX, OVERLAYS_MAX, Profile, SOFTWARE_BYTES_MAX,
        wire::steers,
    },
    id::PeerId,
    identity::Address,
    logs::{Filter, Format},
    presence::WatcherConfig,
    status::Presence,
};
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

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
        /// Servers to report to, as host:port, beside those that the join token named; the first that answers is home.
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
        /// The roster: whom this agent watches, up to 4096. Without addresses (host:port) the home is asked for them.
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

/// One line of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buddy {
    #[serde(deserialize_with = "peer_id")]
    pub id: PeerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// None: the home is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
}

/// Where HTTP is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Http {
    Off,
    At(SocketAddr),
}

impl Config {
    /// The label: as configured, else the host's name.
    pub fn label(&self) -> String {
        let label = self.name.clone().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());
        let end = (0..=NAME_BYTES_MAX.min(label.len())).rev().find(|&i| label.is_char_boundary(i)).unwrap_or(0);
        label[..end].to_owned()
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
            presence,
            profile: Profile {
                name: self.label(),
                addresses: addresses.iter().take(ADDRESSES_MAX).copied().collect(),
                software: SOFTWARE.to_owned(),
                overlays: self.overlays.clone(),
                applications: self.applications.clone(),
                capabilities: 0,
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
        within("metrics.per_peer_max", self.metrics.per_peer_max, 0, PER_PEER_MAX)?;
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

impl Buddy {
    fn example() -> Self {
        Self {
            id: PeerId(Uuid::from_u128(0x1b4e28ba_2fa1_41d2_883f_0016d3cca427)),
            name: Some("beta".to_owned()),
            addresses: "beta.example.org:7421".parse().into_iter().collect(),
        }
    }
}

/// `ID` or `ID@host:port[,host:port..]`, as `--buddy` takes it.
impl FromStr for Buddy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, addresses) = text.split_once('@').map_or((text, None), |(id, rest)| (id, Some(rest)));
        let id = id.parse().map_err(|_| no_peer_id(id))?;
        let addresses = addresses.into_iter().flat_map(|list| list.split(','));
        let addresses = addresses.map(str::parse).collect::<Result<_, _>>();
        Ok(Self {
            id,
            name: None,
            addresses: addresses.map_err(|e: pams_shared::identity::AddressError| e.to_string())?,
        })
    }
}

fn peer_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(no_peer_id(&text)))
}

fn no_peer_id(text: &str) -> String {
    format!("{text:?} is no peer id; `pams-agent status` on that host shows it")
}

impl Default for Http {
    fn default() -> Self {
        Self::At(SocketAddr::from(([127, 0, 0, 1], 7481)))
    }
}

impl TryFrom<String> for Http {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            at => at
                .parse()
                .map(Self::At)
                .map_err(|_| format!("{at:?} is no address; give ip:port, as in \"127.0.0.1:7481\", or \"off\"")),
        }
    }
}

impl From<Http> for String {
    fn from(http: Http) -> Self {
        http.to_string()
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Where a client looks for the control socket: at the default, or, where there is none, at that of an agent of the
/// system's.
pub fn client_socket() -> PathBuf {
    let own = default_socket(&default_data_dir());
    let system = Path::new(SYSTEM_SOCKET);
    if !own.exists() && system.exists() { system.to_owned() } else { own }
}

const SYSTEM_SOCKET: &str = "/run/pams/agent.sock";
const SYSTEM_DATA_DIR: &str = "/var/lib/pams-agent";

fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return SYSTEM_DATA_DIR.into();
    }
    let state = directory("XDG_STATE_HOME").or_else(|| Some(std::env::home_dir()?.join(".local/state")));
    state.map_or_else(|| SYSTEM_DATA_DIR.into(), |state| state.join("pams-agent"))
}

fn default_socket(data_dir: &Path) -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return SYSTEM_SOCKET.into();
    }
    directory("XDG_RUNTIME_DIR").map_or_else(|| data_dir.join("agent.sock"), |run| run.join("pams/agent.sock"))
}

/// A directory of the XDG base directory specification, which says that a relative one is to be ignored.
fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn label(key: &'static str, text: &str) -> Result<(), Flaw> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        let problem = format!("{text:?} is no name");
        return Err(Flaw::new(key, problem, format!("give 1 to {NAME_BYTES_MAX} bytes without control characters")));
    }
    Ok(())
}

fn overlay(name: &str) -> Result<(), Flaw> {
    let problem = if name.is_empty() || name.len() > OVERLAY_BYTES_MAX {
        format!("{name:?} has {} bytes", name.len())
    } else if name.contains(steers) {
        format!("{name:?} has a control character or a mark for the direction of writing")
    } else if name.split('/').any(str::is_empty) {
        format!("{name:?} has an empty part")
    } else {
        return Ok(());
    };
    let advice = format!("give 1 to {OVERLAY_BYTES_MAX} bytes, parts joined by single slashes, as in \"games/chess\"");
    Err(Flaw::new("overlays", problem, advice))
}

fn roster(buddies: &[Buddy]) -> Result<(), Flaw> {
    count("buddy", buddies.len(), BUDDIES_MAX)?;
    let mut seen = BTreeSet::new();
    for buddy in buddies {
        if !seen.insert(buddy.id) {
            return Err(Flaw::new("buddy", format!("{} is there twice", buddy.id), "name each buddy once"));
        }
        if let Some(name) = &buddy.name {
            label("buddy", name)?;
        }
        if buddy.addresses.len() > ADDRESSES_MAX {
            let problem = format!("{} has {} addresses", buddy.id, buddy.addresses.len());
            return Err(Flaw::new("buddy", problem, format!("give {ADDRESSES_MAX} at most")));
        }
    }
    Ok(())
}

fn count(key: &'static str, n: usize, max: usize) -> Result<(), Flaw> {
    if n > max {
        return Err(Flaw::new(key, format!("has {n} entries"), format!("give {max} at most")));
    }
    Ok(())
}

fn unique<T: PartialEq + fmt::Display>(key: &'static str, list: &[T]) -> Result<(), Flaw> {
    match list.iter().enumerate().find(|(i, item)| list[..*i].contains(item)) {
        Some((_, twice)) => Err(Flaw::new(key, format!("{twice} is there twice"), "give each once")),
        None => Ok(()),
    }
}

fn within(key: &'static str, n: usize, min: usize, max: usize) -> Result<(), Flaw> {
    if !(min..=max).contains(&n) {
        return Err(Flaw::new(key, format!("{n} is out of bounds"), format!("give {min} to {max}")));
    }
    Ok(())
}

fn span(key: &'static str, d: Duration, min: Duration, max: Duration) -> Result<(), Flaw> {
    if !(min..=max).contains(&d) {
        let problem = format!("{} is out of bounds", shown(d));
        return Err(Flaw::new(key, problem, format!("give {} to {}", shown(min), shown(max))));
    }
    Ok(())
}

fn shown(d: Duration) -> String {
    humantime::format_duration(d).to_string()
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

        config.advertise = vec!["192.0.2.1:99".parse().unwrap()];
        assert_eq!(config.core(Presence::default(), &found).profile.addresses, config.advertise);
    }

    #[test]
    fn a_label_is_cut_at_a_character() {
        let config = Config { name: Some("ä".repeat(100)), ..Config::default() };
        assert_eq!(config.label(), "ä".repeat(64));
        assert!(!Config::default().label().is_empty());
    }

    #[test]
    fn a_buddy_of_the_command_line_has_an_id_and_perhaps_addresses() {
        let id = Buddy::example().id;
        let buddy: Buddy = format!("{id}@beta:1,[::1]:2").parse().unwrap();
        assert_eq!(buddy.addresses.iter().map(Address::to_string).collect::<Vec<_>>(), ["beta:1", "[::1]:2"]);
        assert_eq!(id.to_string().parse::<Buddy>().unwrap(), Buddy { id, name: None, addresses: vec![] });
        for (text, expected) in [
            ("beta", "\"beta\" is no peer id"),
            ("", "\"\" is no peer id"),
            (&format!("{id}@beta"), "\"beta\" is no address: expected host:port"),
            (&format!("{id}@"), "\"\" is no address"),
        ] {
            assert!(text.parse::<Buddy>().unwrap_err().starts_with(expected), "{text}");
        }
    }
}
