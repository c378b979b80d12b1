//! What an operator can set: the keys of the file, their defaults and bounds. One description serves the file, the
//! environment, `--print-config` and the messages about mistakes.
//!
//! Defaults depend on who runs the server: root gets the system's directory, anybody else their own. What is left open
//! here and found out at the start (the host's name, the address that tokens give) has an accessor that fills it in.

mod http;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use pams_shared::{
    config::{Daemon, Flaw},
    frame::{ADDRESSES_MAX, NAME_BYTES_MAX, REGION_BYTES_MAX, SOFTWARE_BYTES_MAX},
    identity::{Address, DOMAIN_DEFAULT, check_domain},
    logs::{Filter, Format},
    quic::IDLE_TIMEOUT,
};
use serde::{Deserialize, Serialize};

pub use self::http::{Http, HttpError};
use crate::core::{PamsConfig, PamsConfigError, view::PAGE_MAX};

/// What this program calls itself to others.
pub const SOFTWARE: &str = concat!("pams-server/", env!("CARGO_PKG_VERSION"));
const _: () = assert!(SOFTWARE.len() <= SOFTWARE_BYTES_MAX);

/// The admin socket's name in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
/// A socket's path has 107 bytes; ours is bound beside its place, under a name up to 12 bytes longer.
const SOCKET_BYTES_MAX: usize = 107 - 12;

const PACE_MIN: Duration = Duration::from_millis(100);
/// A connection on which nothing comes for [`IDLE_TIMEOUT`] is dead to QUIC, so that three reports have to fit into it.
const PACE_MAX: Duration = Duration::from_secs(10);
const _: () = assert!(PACE_MAX.as_nanos() * 3 <= IDLE_TIMEOUT.as_nanos());
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// 365.25 days, as "1year" is read.
const YEAR: Duration = Duration::from_secs(31_557_600);
const ROWS_MAX: usize = 10_000_000;
const KEPT_MAX: usize = 100_000_000;
const RECENT_MAX: usize = 10_000;
const EVENTS_MAX: usize = 100_000;
/// Far more than it takes to tell who is gone, and a peer in several overlays multiplies it.
const WATCHERS_MAX: usize = 64;
/// Other servers that can be named.
const SERVERS_MAX: usize = 64;
/// Each has nine series.
const KINDS_MAX: usize = 1_000;

pams_shared::config! {
    /// Configuration of pams-server, the home of agents: it gives them their certificates, knows who is here, and shows it
    /// over HTTP. What is not set here has the value shown.
    pub struct Config {
        /// What people call this server: a label, up to 128 bytes. Default: the host's name.
        name: Option<String> = None => "home".to_owned(),
        /// Where the server keeps its keys, certificates, tokens and the admin socket. Only one server can use it at a
        /// time. Back it up: agents trust these keys only.
        data_dir: PathBuf = default_data_dir(),
        /// UDP address and port for QUIC with agents; [::] is all IPv6 and IPv4 addresses, port 0 any free port.
        listen: SocketAddr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7420)),
        /// TCP address and port of /metrics, /api/v1, /healthz and /readyz, or "off". They tell who talks to whom and ask
        /// nobody who they are, so think before you let others than this host ask.
        http: Http = Http::default(),
        /// Names or addresses, host:port, at which agents reach this server: they stand in join tokens. Up to 8. A service such
        /// as "_pams._udp.example.org", whose SRV records name all servers, keeps tokens good whatever becomes of this one.
        /// Default: the address that this host has towards the outside, with the port of listen.
        advertise: Vec<Address> = Vec::new(),
        /// Where other servers of the cluster may be found, host:port, or a service such as "_pams._udp.example.org", whose SRV
        /// records name them; names are looked up at each try. Up to 64. What a join token names, and what was known last, is
        /// remembered, so that this can stay empty.
        servers: Vec<Address> = Vec::new(),
        /// Label of the place that this server stands at, up to 64 bytes.
        region: String = String::new(),
        /// Domain in the names of certificates. It is fixed when the cluster's first server starts first, and need not exist
        /// in DNS. Default: that of the cluster, "pams.internal" for a new one.
        domain: Option<String> = None => DOMAIN_DEFAULT.to_owned(),
        /// What to log: off, error, warn, info, debug or trace, also by module, as in "info,quinn=warn".
        log: Filter = Filter::default(),
        /// Form of the log on stderr: text or json.
        log_format: Format = Format::default(),
        /// When agents report, and what their silence means.
        [pace]: Pace,
        /// What this server shares with others, and how.
        [cluster]: ClusterConfig,
        /// Whom agents watch by our word.
        [roster]: RosterConfig,
        /// Who may have a peer asked how it is right now.
        [probe]: ProbeConfig,
        /// Bounds of what is kept in memory.
        [limits]: Limits,
        /// What /metrics shows.
        [metrics]: Exposure,
    }
}

pams_shared::config! {
    /// When agents report, and what their silence means. A crash is known after gone_after at the latest.
    pub struct Pace {
        /// Agents report at least this often, 100ms to 10s; an empty report keeps them alive.
        report: Duration = PamsConfig::default().pace,
        /// How much later a report may come before its peer is overdue, up to 1m.
        slack: Duration = PamsConfig::default().slack,
        /// Silence after which a peer is gone: report + slack, or longer, up to 1h.
        gone_after: Duration = PamsConfig::default().gone_after,
        /// How long peers that are gone or left stay listed, 1m to 1year.
        forget_after: Duration = PamsConfig::default().forget_after,
        /// Time after the start in which service discovery is refused and /readyz says no, as agents have yet to come
        /// back; up to 1h. Default: gone_after and 10.5s, in which each agent tries again.
        grace: Option<Duration> = None => PamsConfig::default().grace(),
    }
}

pams_shared::config! {
    /// What this server shares with others, and how.
    pub struct ClusterConfig {
        /// When a report is acknowledged, so that its agent need not keep it: held, as soon as another server holds what it
        /// said too, if there is one; or local, at once.
        ack: Ack = Ack::default(),
        /// What another server says of its peers counts as stale when it was not heard for so long, 1s to 1h.
        stale_after: Duration = PamsConfig::default().stale_after,
        /// A peer whose home is not heard for so long, and that has not come to another, is shown as gone, 5s to 1d.
        gone_after: Duration = PamsConfig::default().orphan_gone,
    }
}

pams_shared::config! {
    /// Whom agents watch by our word: the peers of their overlays, those of nested ones included, up to the limits.roster
    /// of each agent.
    pub struct RosterConfig {
        /// How many watch each peer of an overlay, 0 to 64; in a smaller overlay all watch all. 0: agents watch those of
        /// their own configuration alone.
        watchers: usize = PamsConfig::default().watchers,
        /// How long a peer that is gone is watched on, up to 1d: its buddies tell gone from cut off from this server alone.
        gone_for: Duration = PamsConfig::default().gone_watched,
    }
}

pams_shared::config! {
    /// Who may have a peer asked how it is right now. Whoever can open the admin socket may.
    pub struct ProbeConfig {
        /// Also everybody who can reach the TCP port of http, which asks nobody who they are: each address (IPv6: each /64) up to
        /// 5 times a second, all of them up to 20 times, each peer once a second.
        http: bool = PamsConfig::default().probe_http,
    }
}

pams_shared::config! {
    /// Bounds of what is kept in memory. What is shed is counted.
    pub struct Limits {
        /// Peers in all, those that are gone or left included; at most 10000000. Beyond, the longest departed makes room,
        /// and without such a one the newcomer is turned away.
        peers: usize = PamsConfig::default().peers_max,
        /// Peers that are gone or left; beyond, the longest departed is forgotten.
        departed: usize = PamsConfig::default().departed_max,
        /// Forgotten peers whose ledger stays known, so that one that comes back is not counted twice.
        forgotten: usize = PamsConfig::default().forgotten_max,
        /// Recent records kept for each peer, up to 10000, while all of them stay below records.
        records_per_peer: usize = PamsConfig::default().recent_records,
        /// Recent records kept in all, about 180 bytes each.
        records: usize = PamsConfig::default().recent_total,
        /// Events kept of who came and went, 1 to 100000.
        events: usize = PamsConfig::default().events_max,
        /// Peers of which one watcher's views are kept.
        views_per_watcher: usize = PamsConfig::default().views_per_watcher,
        /// Views of watchers kept in all.
        views: usize = PamsConfig::default().views_total,
        /// Agents that are told of one peer.
        subscribers_per_peer: usize = PamsConfig::default().subscribers_per_peer,
        /// Peers that one agent is told of.
        subscriptions_per_agent: usize = PamsConfig::default().subscriptions_per_agent,
        /// Subscriptions in all, about 250 bytes each; further ones are refused.
        subscriptions: usize = PamsConfig::default().subscriptions_total,
        /// Peers of all servers, at most 100000000; further ones of others are left out.
        entries: usize = PamsConfig::default().entries_max,
        /// Kinds of transactions with a label of their own, 3 to 1000; the others are summed under "other".
        kinds: usize = PamsConfig::default().kinds_max,
    }
}

pams_shared::config! {
    /// What /metrics shows.
    pub struct Exposure {
        /// Peers with series of their own, 0 to 1000, in order of their ids; how many are left out is counted in
        /// pams_server_metrics_dropped_peers. The API has all of them.
        per_peer_max: usize = 0,
    }
}

/// When a report is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// As soon as another server holds what it said, if there is one.
    #[default]
    Held,
    /// At once.
    Local,
}

impl Config {
    /// The label: as configured, else the host's name.
    pub fn label(&self) -> String {
        let label = self.name.clone().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());
        label[..label.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
    }

    /// Where the admin socket is.
    pub fn admin_socket(&self) -> PathBuf {
        admin_socket(&self.data_dir)
    }

    /// What join tokens give as this server's addresses: as configured, else found out. `quic` is where it listens; its
    /// port must not be 0.
    pub fn advertised(&self, quic: SocketAddr) -> Vec<Address> {
        if self.advertise.is_empty() { vec![reached_at(quic).into()] } else { self.advertise.clone() }
    }

    /// Where other servers call this one. A service stands for all of them.
    pub fn called_at(&self, quic: SocketAddr) -> Vec<Address> {
        let own: Vec<Address> = self.advertise.iter().filter(|address| !address.is_service()).cloned().collect();
        if own.is_empty() { vec![reached_at(quic).into()] } else { own }
    }

    /// For the core.
    pub fn core(&self) -> PamsConfig {
        let (pace, limits) = (&self.pace, &self.limits);
        PamsConfig {
            pace: pace.report,
            slack: pace.slack,
            gone_after: pace.gone_after,
            peers_max: limits.peers,
            departed_max: limits.departed,
            forget_after: pace.forget_after,
            forgotten_max: limits.forgotten,
            recent_records: limits.records_per_peer,
            recent_total: limits.records,
            events_max: limits.events,
            views_per_watcher: limits.views_per_watcher,
            views_total: limits.views,
            subscribers_per_peer: limits.subscribers_per_peer,
            subscriptions_per_agent: limits.subscriptions_per_agent,
            subscriptions_total: limits.subscriptions,
            kinds_max: limits.kinds,
            sd_grace: pace.grace,
            watchers: self.roster.watchers,
            gone_watched: self.roster.gone_for,
            ack_held: self.cluster.ack == Ack::Held,
            stale_after: self.cluster.stale_after,
            orphan_gone: self.cluster.gone_after,
            entries_max: limits.entries,
            probe_http: self.probe.http,
            ..PamsConfig::default()
        }
    }
}

impl Daemon for Config {
    const ENV_PREFIX: &'static str = "PAMS_SERVER";
    const OTHER_VARIABLES: &'static [&'static str] = &["JOIN"];
    /// The bounds at the door follow from the number of peers.
    const FIXED: &'static [&'static str] = &[
        "data_dir",
        "listen",
        "http",
        "domain",
        "servers",
        "region",
        "cluster.stale_after",
        "cluster.gone_after",
        "limits.peers",
        "limits.entries",
        "limits.kinds",
    ];

    fn check(&self) -> Result<(), Flaw> {
        if let Some(name) = &self.name
            && (name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control))
        {
            let advice = format!("give 1 to {NAME_BYTES_MAX} bytes without control characters");
            return Err(Flaw::new("name", format!("{name:?} is no name"), advice));
        }
        data_dir(&self.data_dir)?;
        listed("advertise", &self.advertise, ADDRESSES_MAX)?;
        listed("servers", &self.servers, SERVERS_MAX)?;
        if self.region.len() > REGION_BYTES_MAX || self.region.chars().any(char::is_control) {
            let advice = format!("give up to {REGION_BYTES_MAX} bytes without control characters");
            return Err(Flaw::new("region", format!("{:?} is no label", self.region), advice));
        }
        let domain = self.domain.as_deref().map_or(Ok(()), check_domain);
        domain.map_err(|e| Flaw::new("domain", e.to_string(), "or leave the default"))?;
        self.pace.check()?;
        span("cluster.stale_after", self.cluster.stale_after, Duration::from_secs(1), HOUR)?;
        span("cluster.gone_after", self.cluster.gone_after, Duration::from_secs(5), 24 * HOUR)?;
        within("roster.watchers", self.roster.watchers, 0, WATCHERS_MAX)?;
        span("roster.gone_for", self.roster.gone_for, Duration::ZERO, 24 * HOUR)?;
        self.limits.check()?;
        within("metrics.per_peer_max", self.metrics.per_peer_max, 0, PAGE_MAX)?;
        self.core().check().map_err(flaw)
    }
}

impl Pace {
    fn check(&self) -> Result<(), Flaw> {
        span("pace.report", self.report, PACE_MIN, PACE_MAX)?;
        span("pace.slack", self.slack, Duration::ZERO, MINUTE)?;
        span("pace.gone_after", self.gone_after, PACE_MIN, HOUR)?;
        let overdue_after = self.report + self.slack;
        if self.gone_after < overdue_after {
            let problem =
                format!("{} is shorter than report and slack, {}", shown(self.gone_after), shown(overdue_after));
            return Err(Flaw::new(
                "pace.gone_after",
                problem,
                "a report that is not late yet must not make a peer gone",
            ));
        }
        span("pace.forget_after", self.forget_after, MINUTE, YEAR)?;
        span("pace.grace", self.grace.unwrap_or_default(), Duration::ZERO, HOUR)
    }
}

impl Limits {
    fn check(&self) -> Result<(), Flaw> {
        within("limits.peers", self.peers, 1, ROWS_MAX)?;
        within("limits.departed", self.departed, 0, ROWS_MAX)?;
        within("limits.forgotten", self.forgotten, 0, ROWS_MAX)?;
        within("limits.records_per_peer", self.records_per_peer, 0, RECENT_MAX)?;
        within("limits.records", self.records, 0, KEPT_MAX)?;
        within("limits.events", self.events, 1, EVENTS_MAX)?;
        within("limits.views_per_watcher", self.views_per_watcher, 0, ROWS_MAX)?;
        within("limits.views", self.views, 0, KEPT_MAX)?;
        within("limits.subscribers_per_peer", self.subscribers_per_peer, 0, ROWS_MAX)?;
        within("limits.subscriptions_per_agent", self.subscriptions_per_agent, 0, ROWS_MAX)?;
        within("limits.subscriptions", self.subscriptions, 0, KEPT_MAX)?;
        within("limits.entries", self.entries, 1, KEPT_MAX)?;
        within("limits.kinds", self.kinds, 3, KINDS_MAX)
    }
}

/// Where the admin socket of the server with this data directory is.
pub fn admin_socket(data_dir: &Path) -> PathBuf {
    data_dir.join(ADMIN_SOCKET)
}

/// Where others may reach a socket that listens at `quic`: the address that the host takes towards the outside, if it
/// listens on all; this host only, if it has no way there.
fn reached_at(quic: SocketAddr) -> SocketAddr {
    if !quic.ip().is_unspecified() {
        return quic;
    }
    // Of documentation (RFC 5737, RFC 3849). To connect a UDP socket chooses a route and sends nothing.
    let outside: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let own = |(from, to): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    // `[::]` listens on IPv4 as well; `0.0.0.0` on nothing else.
    let found = outside.into_iter().filter(|(from, _)| quic.is_ipv6() || from.is_ipv4()).find_map(own);
    SocketAddr::new(found.unwrap_or(Ipv4Addr::LOCALHOST.into()), quic.port())
}

const SYSTEM_DATA_DIR: &str = "/var/lib/pams-server";

fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return SYSTEM_DATA_DIR.into();
    }
    // The XDG base directory specification says that a relative one is to be ignored.
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")));
    state.map_or_else(|| SYSTEM_DATA_DIR.into(), |state| state.join("pams-server"))
}

fn data_dir(dir: &Path) -> Result<(), Flaw> {
    if dir.as_os_str().is_empty() {
        return Err(Flaw::new("data_dir", "is empty", "give a directory"));
    }
    let bytes = admin_socket(dir).as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        let problem = format!("the path of the admin socket in it would have {bytes} bytes");
        let advice = format!("give a directory whose path has at most {}", SOCKET_BYTES_MAX - ADMIN_SOCKET.len() - 1);
        return Err(Flaw::new("data_dir", problem, advice));
    }
    Ok(())
}

fn listed(key: &'static str, addresses: &[Address], max: usize) -> Result<(), Flaw> {
    if addresses.len() > max {
        let problem = format!("has {} entries", addresses.len());
        return Err(Flaw::new(key, problem, format!("give {max} at most")));
    }
    if let Some((_, twice)) = addresses.iter().enumerate().find(|(i, a)| addresses[..*i].contains(a)) {
        return Err(Flaw::new(key, format!("{twice} is there twice"), "give each once"));
    }
    match addresses.iter().find(|a| a.host().parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())) {
        Some(nowhere) => {
            let advice = "give a name or an address that others can reach";
            Err(Flaw::new(key, format!("nobody can call {nowhere}"), advice))
        }
        None => Ok(()),
    }
}

/// What the core finds, should it ask for more than stands here.
fn flaw(error: PamsConfigError) -> Flaw {
    let key = match error {
        PamsConfigError::Pace => "pace.report",
        PamsConfigError::GoneAfter { .. } => "pace.gone_after",
        PamsConfigError::Zero { .. } => "limits",
    };
    Flaw::new(key, error.to_string(), "see --print-config for what goes")
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

fn shown(d: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_file_reads_as_the_default() {
        let text = pams_shared::config::round_trip::<Config>().unwrap();
        for part in ["\nlisten = \"[::]:7420\"\n", "\nhttp = \"127.0.0.1:7480\"\n", "\nreport = \"1s 500ms\"\n"] {
            assert!(text.contains(part), "{part}\nis missing in\n{text}");
        }
        Config::default().check().unwrap();
        assert_eq!(Config::default().core(), PamsConfig::default());
    }

    #[test]
    fn what_is_configured_reaches_the_core() {
        let mut config = Config::default();
        config.pace.report = Duration::from_secs(1);
        config.pace.grace = Some(Duration::ZERO);
        config.limits.peers = 7;
        let core = config.core();
        assert_eq!((core.pace, core.grace(), core.peers_max), (Duration::from_secs(1), Duration::ZERO, 7));
    }

    #[test]
    fn a_label_is_cut_at_a_character() {
        let config = Config { name: Some("ä".repeat(100)), ..Config::default() };
        assert_eq!(config.label(), "ä".repeat(64));
        assert!(!Config::default().label().is_empty());
    }

    #[test]
    fn tokens_give_what_is_configured_or_an_address_that_can_be_called() {
        let quic = "[::]:7420".parse().unwrap();
        let mut config = Config::default();
        let found = config.advertised(quic);
        let at: SocketAddr = found[0].to_string().parse().unwrap();
        assert!(found.len() == 1 && at.port() == 7420 && !at.ip().is_unspecified(), "{found:?}");
        assert_eq!(config.advertised("192.0.2.7:99".parse().unwrap())[0].to_string(), "192.0.2.7:99");
        config.advertise = vec!["home.example.org:7420".parse().unwrap()];
        assert_eq!(
            (config.advertised(quic), config.called_at(quic)),
            (config.advertise.clone(), config.advertise.clone())
        );
        config.advertise = vec!["_pams._udp.example.org".parse().unwrap()];
        assert_eq!((config.advertised(quic), config.called_at(quic)), (config.advertise.clone(), found));
    }
}
