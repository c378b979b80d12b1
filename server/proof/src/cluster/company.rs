//! Three servers and sixty agents on nine hosts: started, asked, and sent home again.
//!
//! Two hosts with ten agents each stand beside each server; everything else is [`FAR`] away. Each agent joins at the server
//! beside it, so that each failover also brings it to a server that did not let it in.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pams_agent::config::{Config, Http};
use pams_server::config::{Config as ServerConfig, Http as ServerHttp, admin_socket};
use pams_shared::{
    clock::Clock,
    control::Control,
    frame::Role,
    id::{PeerId, ServerId},
    identity::{Grant, Token, TokenStore, pin_of},
    moment::Moment,
    record::Ledger,
    sim::Link,
};
use tokio::time::sleep;

use super::{
    account::{Account, ledger},
    views::{ClusterSeen, Directory},
    watch::Watch,
};
use crate::{
    crowd::{Asked, CrowdRole, Seen, Sum},
    lab::Lab,
    pams::{AGENT_PORT, PATIENCE, Process, SERVER_PORT},
    role::ServerRole,
};

pub const SERVERS: [&str; 3] = ["s1", "s2", "s3"];
/// Beside each server stand two of them, in this order.
pub const CROWDS: [&str; 6] = ["h1", "h2", "h3", "h4", "h5", "h6"];
pub const HOSTS: [&str; 9] = ["s1", "s2", "s3", "h1", "h2", "h3", "h4", "h5", "h6"];
const CROWD: usize = 10;
pub const AGENTS: usize = CROWDS.len() * CROWD;

/// Each way between two servers, and between all that do not stand beside each other.
const FAR: Duration = Duration::from_millis(10);
/// Each way between a server and the hosts beside it.
const NEAR: Duration = Duration::from_millis(1);
/// The load: each agent pings the four that its home gives it, once a second.
const WATCHERS: usize = 4;
const INTERVAL: Duration = Duration::from_secs(1);
/// Of the servers' and agents' HTTP.
pub const SERVER_HTTP: u16 = 7480;
const AGENT_HTTP: u16 = 8000;
/// A file system that a server's folder fits into, in KiB.
const DISK_KIB: u32 = 1_024;
/// Between two looks at what is timed.
const LOOK: Duration = Duration::from_millis(20);
/// What the servers may take to agree on a last word.
const AGREEMENT: Duration = Duration::from_secs(15);

pub struct Server {
    pub host: &'static str,
    pub id: ServerId,
    pub control: Control,
    process: Process,
    /// It was started and not ended since.
    runs: bool,
}

pub struct Cluster<'a> {
    pub lab: &'a Lab,
    pub servers: Vec<Server>,
    crowds: Vec<Process>,
    pub watch: Watch,
}

impl<'a> Cluster<'a> {
    /// Starts all of it, and returns when everybody sees everybody and the load runs. The folder of `small_disk` is on a file
    /// system of its own.
    pub async fn start(lab: &'a Lab, small_disk: Option<&str>) -> anyhow::Result<Self> {
        lay(lab);
        if let Some(host) = small_disk {
            lab.small_disk(host, DISK_KIB)?;
        }
        let first = Server::start(lab, SERVERS[0], None).await?;
        let join = token(lab, SERVERS[0], Role::Server)?;
        let mut servers = vec![first];
        for host in &SERVERS[1..] {
            servers.push(Server::start(lab, host, Some(join.clone())).await?);
        }
        let mut crowds = Vec::new();
        for (host, at) in CROWDS.into_iter().zip(SERVERS.into_iter().flat_map(|s| [s, s])) {
            let role = CrowdRole { agents: agents(lab, host)?, join: Some(token(lab, at, Role::Agent)?) };
            let (process, peers) = Process::start(lab, host, "crowd", &role).await?;
            let peers: Vec<PeerId> = serde_json::from_value(peers)?;
            ensure!(peers.len() == CROWD, "{host} has {} agents", peers.len());
            crowds.push(process);
        }
        let watch = Watch::start(servers.iter().map(|s| (s.host, s.control.clone())).collect());
        let mut cluster = Self { lab, servers, crowds, watch };
        let begin = Clock.now();
        cluster.all_alive(begin, PATIENCE).await?;
        cluster.loaded(begin).await?;
        cluster.equal(begin, PATIENCE).await?;
        Ok(cluster)
    }

    /// Waits until the load is as it should be. Who watches whom goes by a hash, so that some agents watch many, and one or
    /// another watches nobody.
    async fn loaded(&mut self, begin: Moment) -> anyhow::Result<()> {
        loop {
            let seen = self.look().await?;
            let buddies: usize = seen.iter().map(|s| s.buddies).sum();
            let begun = seen.iter().all(|s| s.not_live == 0 && s.pings.good >= 2 * s.buddies as u64);
            if buddies == AGENTS * WATCHERS && begun {
                return Ok(());
            }
            ensure!(Clock.now().since(begin) < PATIENCE, "the load is {buddies} buddies in all");
            sleep(LOOK).await;
        }
    }

    pub fn server(&self, host: &str) -> &Server {
        self.servers.iter().find(|s| s.host == host).unwrap_or_else(|| panic!("there is no server {host}"))
    }

    /// Those that run, but for one.
    pub fn others(&self, host: &str) -> Vec<&Server> {
        self.servers.iter().filter(|s| s.runs && s.host != host).collect()
    }

    pub fn signal(&self, host: &str, signal: Signal) -> anyhow::Result<()> {
        self.server(host).process.signal(signal)
    }

    /// Sends the signal, and waits for the end of the server.
    pub async fn end(&mut self, host: &str, signal: Signal) -> anyhow::Result<()> {
        let server = self.server_mut(host);
        server.runs = false;
        server.process.end(signal).await
    }

    /// Waits for the end of a server that ends by itself.
    pub async fn ended(&mut self, host: &str) -> anyhow::Result<()> {
        let server = self.server_mut(host);
        server.runs = false;
        server.process.ended().await
    }

    /// In the folder of before.
    pub async fn start_again(&mut self, host: &str) -> anyhow::Result<()> {
        let lab = self.lab;
        let server = self.server_mut(host);
        *server = Server::start(lab, server.host, None).await?;
        Ok(())
    }

    fn server_mut(&mut self, host: &str) -> &mut Server {
        self.servers.iter_mut().find(|s| s.host == host).unwrap_or_else(|| panic!("there is no server {host}"))
    }

    /// Nothing gets from a host to anybody, or is heard there from anybody; or it does again.
    pub fn cut(&self, host: &str, cut: Cut) {
        for other in HOSTS.into_iter().filter(|other| *other != host) {
            let link = path(host, other);
            let (out, into) = match cut {
                Cut::None => (link, link),
                Cut::Out => (Link::PARTITION, link),
                Cut::In => (link, Link::PARTITION),
                Cut::Both => (Link::PARTITION, Link::PARTITION),
            };
            self.lab.wire.set(self.lab.port(host), self.lab.port(other), out);
            self.lab.wire.set(self.lab.port(other), self.lab.port(host), into);
        }
    }

    /// So much of everything is lost.
    pub fn lose(&self, loss: f64) {
        for (from, to) in HOSTS.into_iter().flat_map(|a| HOSTS.map(|b| (a, b))).filter(|(a, b)| a != b) {
            self.lab.wire.set(self.lab.port(from), self.lab.port(to), Link { loss, ..path(from, to) });
        }
    }

    /// How all agents stand.
    pub async fn look(&mut self) -> anyhow::Result<Vec<Seen>> {
        let mut all = Vec::with_capacity(AGENTS);
        for crowd in &mut self.crowds {
            all.extend(crowd.order::<Vec<Seen>>(&Asked::Look).await?);
        }
        Ok(all)
    }

    /// Agents at each server, and changes of home so far.
    pub async fn homes(&mut self) -> anyhow::Result<(Vec<usize>, u64)> {
        let seen = self.look().await?;
        let at = |server: &Server| seen.iter().filter(|s| s.home == Some(server.id)).count();
        Ok((self.servers.iter().map(at).collect(), seen.iter().map(|s| s.attach).sum()))
    }

    /// Waits until something holds of each agent; gives how long that took since `begin`.
    pub async fn agents_until(
        &mut self,
        what: &str,
        begin: Moment,
        patience: Duration,
        holds: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Duration> {
        loop {
            let seen = self.look().await?;
            let took = Clock.now().since(begin);
            let missing: Vec<&Seen> = seen.iter().filter(|s| !holds(s)).collect();
            if missing.is_empty() {
                return Ok(took);
            }
            ensure!(
                took <= patience,
                "not within {patience:?}: {what}: {} of them, as {:?}",
                missing.len(),
                missing[0]
            );
            sleep(LOOK).await;
        }
    }

    /// Since `begin`: until all other servers take `host` for one of `states`, and until each agent has a home, which is not
    /// `host`.
    pub async fn noticed(
        &mut self,
        host: &'static str,
        begin: Moment,
        states: &[&str],
        patience: Duration,
    ) -> anyhow::Result<(Duration, Duration)> {
        let id = self.server(host).id;
        let homes: Vec<ServerId> = self.others(host).iter().map(|s| s.id).collect();
        let who: Vec<(&str, Control)> = self.others(host).iter().map(|s| (s.host, s.control.clone())).collect();
        let detected = async {
            until(begin, patience, async || {
                for (at, control) in &who {
                    let state = ClusterSeen::ask(control).await.map(|seen| seen.state(id));
                    if !state.as_ref().is_ok_and(|state| states.contains(&state.as_str())) {
                        return Some(format!("{at} takes {host} for {state:?}"));
                    }
                }
                None
            })
            .await
        };
        let homed = self.agents_until("each agent has another home", begin, patience, |seen| {
            seen.home.is_some_and(|home| homes.contains(&home))
        });
        tokio::try_join!(detected, homed)
    }

    /// Until all that run take all others that run for alive.
    pub async fn all_alive(&self, begin: Moment, patience: Duration) -> anyhow::Result<Duration> {
        let running: Vec<&Server> = self.servers.iter().filter(|s| s.runs).collect();
        until(begin, patience, async || {
            for server in &running {
                let seen = match ClusterSeen::ask(&server.control).await {
                    Ok(seen) => seen,
                    Err(error) => return Some(format!("{}: {error:#}", server.host)),
                };
                for other in &running {
                    let state = seen.state(other.id);
                    if state != "alive" && state != "me" {
                        return Some(format!("{} takes {} for {state}", server.host, other.host));
                    }
                }
            }
            None
        })
        .await
    }

    /// Until the directories of all that run are equal, all agents are live in them and none of what they say is old.
    pub async fn equal(&self, begin: Moment, patience: Duration) -> anyhow::Result<Duration> {
        let running: Vec<&Server> = self.servers.iter().filter(|s| s.runs).collect();
        until(begin, patience, async || {
            let mut first: Option<Directory> = None;
            for server in &running {
                let directory = match Directory::ask(&server.control).await {
                    Ok(directory) => directory,
                    Err(error) => return Some(format!("{}: {error:#}", server.host)),
                };
                if let Some(flaw) = directory.flaw(AGENTS) {
                    return Some(format!("{}: {flaw}", server.host));
                }
                match &first {
                    None => first = Some(directory),
                    Some(first) => {
                        if let Some(differs) = first.differs(&directory) {
                            return Some(format!("{} and {}: {differs}", running[0].host, server.host));
                        }
                    }
                }
            }
            None
        })
        .await
    }

    /// All agents leave in good order; then every server that runs must say what they counted themselves.
    pub async fn settle(mut self) -> anyhow::Result<Account> {
        let mut own = Ledger::default();
        for crowd in &mut self.crowds {
            let sum: Sum = crowd.order(&Asked::Leave).await?;
            ensure!(sum.shed == 0, "{} records were shed by their agents", sum.shed);
            own.add(&sum.ended);
        }
        let mut account = Account { own, ..Account::default() };
        let mut agreed = 0;
        let servers: Vec<&Server> = self.servers.iter().filter(|s| s.runs).collect();
        let begin = Clock.now();
        while agreed < servers.len() && Clock.now().since(begin) < AGREEMENT {
            agreed = 0;
            for server in &servers {
                account.cluster = ledger(&server.control).await.with_context(|| server.host)?;
                if account.wrong() > 0 {
                    break;
                }
                agreed += 1;
            }
            sleep(LOOK).await;
        }
        Ok(account)
    }
}

/// Which ways a host is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    None,
    Out,
    In,
    Both,
}

impl Server {
    async fn start(lab: &Lab, host: &'static str, join: Option<String>) -> anyhow::Result<Self> {
        let mut config = ServerConfig {
            name: Some(host.into()),
            data_dir: lab.folder(host),
            listen: lab.at(host, SERVER_PORT),
            http: ServerHttp::At(lab.at(host, SERVER_HTTP)),
            ..ServerConfig::default()
        };
        config.roster.watchers = WATCHERS;
        config.pace.grace = Some(Duration::from_secs(3));
        let control = Control::new(admin_socket(&config.data_dir), "pams-server").within(Duration::from_secs(1));
        let (process, _) = Process::start(lab, host, "server", &ServerRole { config, join }).await?;
        let id = ClusterSeen::ask(&control).await?.me;
        Ok(Self { host, id, control, process, runs: true })
    }
}

/// How far two hosts are from each other.
fn path(one: &str, other: &str) -> Link {
    let place = |host: &str| match CROWDS.iter().position(|h| *h == host) {
        Some(crowd) => (crowd / 2, false),
        None => (SERVERS.iter().position(|s| *s == host).unwrap_or_default(), true),
    };
    let ((one, serves), (other, also)) = (place(one), place(other));
    let delay = if one == other && serves != also { NEAR } else { FAR };
    Link { delay, ..Link::default() }
}

fn lay(lab: &Lab) {
    for (one, other) in HOSTS.into_iter().flat_map(|a| HOSTS.map(|b| (a, b))).filter(|(a, b)| a != b) {
        lab.wire.set(lab.port(one), lab.port(other), path(one, other));
    }
}

/// A token without a limit, made beside the running server as `pams-server token create` does.
fn token(lab: &Lab, host: &str, role: Role) -> anyhow::Result<String> {
    let (data, now): (_, u64) = (lab.folder(host), Clock.now().wall_ms() / 1_000);
    let grant = Grant { role, uses: None, expires_at: now + 3_600, note: "proof".into() };
    let (id, secret) = TokenStore::open(&data)?.create(&grant, now)?;
    Ok(Token { pin: pin_of(&data)?, id, secret, addresses: vec![lab.at(host, SERVER_PORT).into()] }.to_string())
}

fn agents(lab: &Lab, host: &str) -> anyhow::Result<Vec<Config>> {
    let agent = |i: u16| {
        let name = format!("{host}-{i}");
        let mut config = Config {
            data_dir: lab.folder(host).join(&name),
            socket: Some(lab.dir.path().join(format!("{name}.sock"))),
            listen: lab.at(host, AGENT_PORT + i),
            http: Http::At(lab.at(host, AGENT_HTTP + i)),
            overlays: vec!["crowd".into()],
            name: Some(name),
            log: "warn".parse()?,
            ..Config::default()
        };
        (config.ping.interval, config.ping.retry) = (INTERVAL, INTERVAL);
        Ok(config)
    };
    (0..CROWD as u16).map(agent).collect()
}

/// Looks until nothing is missing; gives how long that took since `begin`.
pub async fn until(
    begin: Moment,
    patience: Duration,
    mut missing: impl AsyncFnMut() -> Option<String>,
) -> anyhow::Result<Duration> {
    loop {
        let missing = missing().await;
        let took = Clock.now().since(begin);
        let Some(missing) = missing else { return Ok(took) };
        ensure!(took <= patience, "not within {patience:?}: {missing}");
        sleep(LOOK).await;
    }
}

/// Writes into a folder until nothing more fits.
pub fn fill(folder: &Path) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    let mut file = std::fs::File::create(folder.join("fill"))?;
    for size in [4_096, 512, 1] {
        loop {
            match file.write_all(&vec![0; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
