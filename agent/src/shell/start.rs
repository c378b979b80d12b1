//! Opens everything that an agent needs, in the order in which it can fail: files, sockets, the cluster, the listeners.

use std::{
    future::{Future, pending},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use pams_shared::{
    clock::Clock,
    config::Changes,
    control,
    id::PeerId,
    identity::{self, AgentIdentity},
    logs,
    lookup::Resolver,
    pulse::Pulse,
    quic,
    record::Record,
    reload::{Read, ReloadError, Reloader},
    serve::serve,
    socket::{Socket, reachable},
    supervisor::Supervisor,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    Place, Shell,
    credentials::Credentials,
    handle::Handle,
    interfaces::{self, Interfaces},
    join::join,
    keep::{self, Keep},
    link::{Links, Me},
    local::{BOUNDS, Local},
    reload::Reloading,
    uplink::{self, Side, Uplink},
};
use crate::{
    config::{Config, Http, SOFTWARE},
    consumer::{
        Consumers,
        csv::{Csv, Observer},
    },
    core::{Agent, choice::Servers},
    metrics::{Extras, Metrics},
};

/// Calls that wait for the loop; further ones wait in QUIC, which has a bound of its own.
const CALLS_MAX: usize = 16;
/// How long QUIC may hold the socket at the end: three times its probe timeout, on a slow path.
const FREE_PATIENCE: Duration = Duration::from_secs(3);
/// How long a name server may take to tell where a home is, so that we see which of our addresses leads there.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(3);
/// Mode of the control socket: the owner and the group may ask.
const CONTROL_MODE: u32 = 0o660;

/// Told once where the agent is to be found.
pub type TellReady = Box<dyn FnOnce(&Ready) + Send>;

/// What is not configuration.
#[derive(Default)]
pub struct Options {
    /// The token to join with, at the first start.
    pub join: Option<String>,
    /// Called once everything serves.
    pub ready: Option<TellReady>,
    /// Gets every finished transaction, for an application that carries the agent as a library. Never waited for: records
    /// that do not fit are dropped and counted.
    pub tap: Option<mpsc::Sender<Record>>,
    /// Slows every pong down, as a busy peer would; for tests and the demo.
    pub answer_after: Duration,
    /// Reads the configuration again; without it a reload is refused.
    pub read: Option<Read<Config>>,
    /// The service manager; by default none.
    pub supervisor: Arc<Supervisor>,
    /// Changes the log with the configuration.
    pub logs: Option<logs::Switch>,
    /// Tells the host's addresses; by default its interfaces are asked.
    pub interfaces: Option<Interfaces>,
    /// Whom to ask for the records of services; by default the system's nameservers.
    pub resolver: Resolver,
}

/// Where a started agent is to be found.
#[derive(Clone, Debug)]
pub struct Ready {
    pub peer: PeerId,
    pub quic: SocketAddr,
    pub http: Option<SocketAddr>,
    pub socket: PathBuf,
}

/// An agent at work. Dropping it ends it without a goodbye; its peers then find out by themselves.
pub struct Running {
    pub ready: Ready,
    pub handle: Handle,
    /// The UDP socket, for its counters and the emulated network.
    pub udp: Arc<Socket>,
    stop: watch::Sender<bool>,
    reloading: Arc<Reloading>,
    supervisor: Arc<Supervisor>,
    tasks: JoinSet<()>,
}

impl Running {
    /// Reads the configuration again, and goes on with what of it can take effect now.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        self.reloading.reload().await
    }

    /// Reports what is open, says goodbye, and ends. Then the port is free, unless somebody else holds `udp`.
    pub async fn stop(mut self) {
        self.supervisor.stopping();
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        // QUIC's own task lets go of the socket a little after the last connection, and tells nobody.
        let free = async {
            while Arc::strong_count(&self.udp) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(FREE_PATIENCE, free).await;
    }

    /// Waits until the agent ends by itself, which it does only when a part of it failed.
    async fn ended(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => anyhow::anyhow!("a part of the agent failed: {error}"),
            _ => anyhow::anyhow!("a part of the agent ended unexpectedly; the log says why"),
        }
    }
}

/// Runs an agent until `shutdown`. On SIGHUP it reads its configuration again.
pub async fn run(config: Config, options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut running = start(config, options).await?;
    let reloading = running.reloading.clone();
    // Beside the rest: a file that can not be read just now must hold up neither the end nor the news of a failure.
    let reloads = async {
        while hangup.recv().await.is_some() {
            let _ = reloading.reload().await; // it has logged how that went
        }
        pending::<()>().await;
    };
    tokio::select! {
        () = shutdown => {}
        error = running.ended() => return Err(error),
        () = reloads => {}
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}

/// Starts an agent; gives it once everything serves.
pub async fn start(config: Config, options: Options) -> anyhow::Result<Running> {
    let dir = config.data_dir.clone();
    let identity = tokio::task::spawn_blocking(move || AgentIdentity::open(&dir)).await??;
    let csv = csv(&config, identity.peer_id()).await?;
    let (udp, sent) = Socket::bind(config.listen, config.limits.transactions)
        .with_context(|| format!("can not listen on UDP {} (--listen names another address)", config.listen))?;
    let bound = udp.address()?;
    let endpoint = quic::endpoint(udp.clone(), identity.reset_key(), None)?;

    let name = config.label();
    let identity = match &options.join {
        Some(token) => join(&endpoint, &udp, &options.resolver, identity, token, &name).await?,
        None => identity,
    };
    let (Some(own), Some(root), Some(domain)) = (identity.own(), identity.root(), identity.domain()) else {
        bail!(
            "this agent has not joined a cluster yet: start it with --join and a token; `pams-server token create` on the \
             server prints one"
        );
    };
    let server = identity::agent_server_tls(own.clone(), root, identity::system_time())?;
    endpoint.set_server_config(Some(quic::server_config(server.into(), quic::peer_transport())?));
    let client = Arc::new(identity::client_tls(own, root, identity::system_time())?);
    let to_peers = quic::client_config(client.clone(), quic::peer_transport())?;
    let to_home = quic::client_config(client, quic::home_transport())?;

    let token_homes: Vec<String> = identity.homes().iter().map(ToString::to_string).collect();
    let kept = {
        let dir = config.data_dir.clone();
        tokio::task::spawn_blocking(move || keep::servers(&dir)).await?
    };
    let homes = homes(&config, &token_homes, &kept)?;
    let ways = ways(&homes, &kept);
    let (peer, epoch) = (identity.peer_id(), identity.epoch());
    let me = Arc::new(Me {
        peer,
        epoch,
        domain: domain.into(),
        software: SOFTWARE.into(),
        capabilities: Config::capabilities(),
    });
    let seed = identity::seed()?;
    let mut tasks = JoinSet::new();

    let metrics = Arc::new(Metrics::new(config.metrics.per_peer_max));
    let (handle, requests) = Handle::new();
    let credentials = Credentials::new(identity);
    let started_ms = Clock.now().wall_ms();
    let extras = {
        let (credentials, udp, csv) = (credentials.clone(), udp.clone(), csv.as_ref().map(Csv::observer));
        move || Extras {
            started_ms,
            certificate_expires: credentials.expires(),
            traffic: udp.traffic(),
            csv: csv.as_ref().map(Observer::progress),
            ..Extras::default()
        }
    };
    let reloader = Reloader::new(config.clone(), options.read, options.supervisor.clone());
    let reloading = Arc::new(Reloading::new(reloader, handle.clone(), options.logs));
    let local = Local::new(handle.clone(), metrics.clone(), reloading.clone(), extras);
    let (stopped, stop) = watch::channel(false);
    let http = listen(&config, local, &metrics, &stop, &mut tasks).await?;

    let found = own_addresses(&options.resolver, bound, &ways).await;
    let mut presence = keep::presence(&config.data_dir);
    if presence.version == 0 {
        presence.since_ms = started_ms; // never published: online since now
    }
    let mut core_config = config.core(presence, &found);
    core_config.answer_after = options.answer_after;
    core_config.profile.metrics = http;
    let core = Agent::new(core_config, peer, epoch, seed, Clock.now());
    let (links, link_events) = Links::new(me.clone(), endpoint.clone(), to_peers, udp.clone());
    let (uplink_requests, uplink_inbox) = mpsc::channel(uplink::REQUESTS_MAX);
    let (uplink_tell, uplink_events) = mpsc::channel(uplink::EVENTS_MAX);
    let loop_gone = uplink_tell.clone();
    let resolver = options.resolver.clone();
    let side = Side { me, endpoint: endpoint.clone(), socket: udp.clone(), client: to_home, credentials, resolver };
    let seeds = [identity::seed()?, identity::seed()?];
    let uplink = Uplink::new(side, homes.clone(), kept, seeds, uplink_tell, uplink_inbox);
    tasks.spawn(async move {
        tokio::select! {
            () = uplink.run() => {}
            () = loop_gone.closed() => {} // also where it waits for a home that does not answer
        }
    });
    let (call, calls) = mpsc::channel(CALLS_MAX);
    tasks.spawn(accept(endpoint.clone(), call));
    let (move_tell, moves) = mpsc::channel(1);
    let interfaces = options.interfaces.unwrap_or_else(|| Arc::new(interfaces::addresses));
    tasks.spawn(interfaces::watch(interfaces, options.resolver, bound, ways, move_tell));
    let keep = Keep::start(&config.data_dir, &mut tasks);
    let shell = Shell {
        core,
        endpoint,
        calls,
        links,
        link_events,
        sent,
        uplink: uplink_requests,
        uplink_events,
        requests,
        metrics: metrics.clone(),
        consumers: Consumers::new(metrics, options.tap, csv),
        keep,
        supervisor: options.supervisor.clone(),
        pulse: Pulse::new(Clock.now(), Clock.suspended()),
        moves,
        place: Place { homes, token_homes, found, advertised: !config.advertise.is_empty() },
        asked: Default::default(),
        checks: Default::default(),
        asker: None,
        listeners: Default::default(),
        token: 0,
        leaving: false,
    };
    tasks.spawn(shell.run(async move { stopping(stop).await }));
    let ready = Ready { peer, quic: reachable(bound), http, socket: config.socket_path() };
    tracing::info!(%peer, epoch, quic = %ready.quic, "agent serves");
    if let Some(tell) = options.ready {
        tell(&ready);
    }
    // A home is not waited for: buddies are watched and answered without one.
    options.supervisor.ready();
    Ok(Running { ready, handle, udp, stop: stopped, reloading, supervisor: options.supervisor, tasks })
}

/// The CSV files, if there are to be any.
async fn csv(config: &Config, peer: PeerId) -> anyhow::Result<Option<Csv>> {
    let Some(dir) = config.csv.dir.clone() else { return Ok(None) };
    let (limits, shown) = (config.csv.limits(), dir.display().to_string());
    let opened = tokio::task::spawn_blocking(move || Csv::open(&dir, peer, limits)).await?;
    let csv =
        opened.with_context(|| format!("can not write CSV files in {shown} (csv.dir names another directory)"))?;
    Ok(Some(csv))
}

/// Passes calls on until the endpoint is closed or the loop is gone.
async fn accept(endpoint: quinn::Endpoint, calls: mpsc::Sender<quinn::Incoming>) {
    while let Some(incoming) = endpoint.accept().await {
        if calls.send(incoming).await.is_err() {
            return;
        }
    }
}

/// The homes to try beside the servers of the last run: those of the configuration, then those that the token named.
pub(super) fn homes(config: &Config, token_homes: &[String], kept: &Servers) -> anyhow::Result<Vec<String>> {
    let mut homes: Vec<String> = config.homes.iter().map(ToString::to_string).collect();
    for home in token_homes {
        if !homes.contains(home) {
            homes.push(home.clone());
        }
    }
    if homes.is_empty() && kept.servers.is_empty() {
        bail!(
            "no home is known: name one by `homes` in the configuration, or join again with a token that names addresses"
        );
    }
    Ok(homes)
}

/// All that leads to a server, to find out which way goes there.
fn ways(homes: &[String], kept: &Servers) -> Vec<String> {
    let known = kept.servers.iter().flat_map(|server| server.addresses.iter().map(ToString::to_string));
    homes.iter().cloned().chain(known).collect()
}

/// The control socket and, unless it is off, the listener of the metrics; its address.
async fn listen(
    config: &Config,
    local: Local,
    metrics: &Arc<Metrics>,
    stop: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Option<SocketAddr>> {
    let path = config.socket_path();
    let (unix, file) =
        control::listen(&path, CONTROL_MODE).await.context("no control socket (--socket names another place)")?;
    let (router, metrics_of, stopped) = (local.clone().control(), metrics.clone(), stop.clone());
    tasks.spawn(async move {
        serve(unix, router, BOUNDS, || metrics_of.panicked(), stopping(stopped)).await;
        drop(file); // takes the socket's file away
    });
    let Http::At(address) = config.http else { return Ok(None) };
    let tcp = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("can not listen on TCP {address} for HTTP (--http names another, or off)"))?;
    let bound = tcp.local_addr()?;
    let (metrics, stop) = (metrics.clone(), stop.clone());
    tasks.spawn(async move { serve(tcp, local.http(), BOUNDS, || metrics.panicked(), stopping(stop)).await });
    Ok(Some(bound))
}

/// Waits until all is to stop.
async fn stopping(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Where others can call us: what the socket is bound to, else the address that this host has towards its home. No packet is sent.
pub(super) async fn own_addresses(resolver: &Resolver, bound: SocketAddr, homes: &[String]) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let mut addresses = Vec::new();
    for home in homes {
        // Neither the start nor news of a lost address waits long for a name server that is silent.
        let found = tokio::time::timeout(RESOLVE_PATIENCE, resolver.resolve(home)).await.ok().and_then(Result::ok);
        for to in found.unwrap_or_default() {
            let own = towards(to).map(|ip| SocketAddr::new(ip, bound.port()));
            addresses.extend(own.filter(|own| !addresses.contains(own)));
        }
    }
    addresses
}

/// Our address on the way to another; the kernel chooses it by its routes.
fn towards(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_of_our_addresses_is_told_once() {
        let bound: SocketAddr = "0.0.0.0:7".parse().unwrap();
        let homes = ["127.0.0.1:1", "[::1]:1", "127.0.0.1:2"].map(str::to_owned);
        let own = own_addresses(&Resolver::default(), bound, &homes).await;
        assert_eq!(own.iter().filter(|a| a.to_string() == "127.0.0.1:7").count(), 1, "{own:?}");
    }
}
