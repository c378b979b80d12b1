//! Opening everything a server needs, and closing it again: the data directory, the socket, TLS, HTTP and the tasks. Many
//! servers can live in one process; what they have in common is the runtime.
//!
//! All that can be wrong at the start is found before anything is answered. Where no token was ever made, as at the first
//! start, one is made, so that there is a line to paste: good for ten agents, for a day.

use std::{
    collections::BTreeSet,
    future::{Future, pending},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::BuildError;
use pams_shared::{
    clock::Clock,
    config::Changes,
    frame::{ADDRESSES_MAX, Member, Role},
    id::{PeerId, ServerId},
    identity::{
        self, Address, Authority, Grant, GrantError, IdentityError, Token, client_tls, server_tls, system_time,
    },
    logs,
    lookup::Resolver,
    quic,
    redeem::RedeemError,
    reload::{Read, ReloadError, Reloader},
    socket::{Socket, reachable},
    supervisor::Supervisor,
};
use quinn::{Endpoint, crypto::rustls::NoInitialCipherSuite, rustls};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use super::{
    CLOSE_PATIENCE, Limits, Shell,
    agents::EVENTS_MAX,
    door::{self, Door},
    enrol::Registrar,
    handle::Handle,
    http::{self, About, ListenError, Sources},
    join::join,
    reload::Reloading,
    siblings::{
        Neighbours, Siblings,
        book::{self, Keeper},
    },
};
use crate::{
    config::{Config, Http, SOFTWARE},
    core::{Myself, Pams, PamsConfigError},
    metrics::Metrics,
};

/// What the first token is good for.
const FIRST_TOKEN_USES: u32 = 10;
const FIRST_TOKEN_SECONDS: u64 = 24 * 3_600;
/// The server times nothing by itself yet, so no stamp of a datagram is waited for.
const STAMPS_MAX: usize = 1;
/// Addresses at which other servers are looked for.
const SEEDS_MAX: usize = 256;
/// The last packets to agents, and the last answers over HTTP.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What a program that carries the server may want beside the configuration.
#[derive(Default)]
pub struct Options {
    /// The token of another server to join with, at the first start.
    pub join: Option<Token>,
    /// Called once, when everything is served.
    pub ready: Option<TellReady>,
    /// In place of [`Limits::of_peers`].
    pub limits: Option<Limits>,
    /// Reads the configuration again; without it a reload is refused.
    pub read: Option<Read<Config>>,
    /// The service manager; by default none.
    pub supervisor: Arc<Supervisor>,
    /// Changes the log with the configuration.
    pub logs: Option<logs::Switch>,
    /// Whom to ask for the records of services; by default the system's nameservers.
    pub resolver: Resolver,
    /// Watches what other servers tell.
    #[cfg(feature = "feed")]
    pub tap: Option<Box<dyn super::feed::Tap>>,
}

/// Called with where it serves.
pub type TellReady = Box<dyn FnOnce(&Ready) + Send>;

/// Where a server serves.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where this host can call it.
    pub quic: SocketAddr,
    /// `None`: off.
    pub http: Option<SocketAddr>,
    /// At the first start that came so far. Whoever sees it may join.
    pub first_token: Option<Token>,
}

/// Why a server did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Join(#[from] RedeemError),
    #[error("the first token cannot be made: {0}")]
    Token(#[from] GrantError),
    #[error(transparent)]
    Config(#[from] PamsConfigError),
    #[error("cannot listen on UDP {address}: {source}; --listen names another address")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Http(#[from] ListenError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("QUIC cannot be set up: {0}")]
    Quic(io::Error),
    #[error("cannot listen for SIGHUP: {0}")]
    Signals(io::Error),
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] BuildError),
}

/// Why a running server ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the server ended by itself; this is a bug, and the log tells more")]
    Ended,
}

/// A running server. Dropped, it ends at once, and its connections with it.
#[derive(Debug)]
pub struct Running {
    pub ready: Ready,
    pub handle: Handle,
    pub metrics: Arc<Metrics>,
    /// Under QUIC: its traffic, and with feature `sim` of `pams-shared` the emulated network.
    pub socket: Arc<Socket>,
    #[cfg(feature = "feed")]
    pub feed: super::feed::Feed,
    registrar: Registrar,
    reloading: Arc<Reloading>,
    supervisor: Arc<Supervisor>,
    /// It ends by itself, as it was told to.
    evacuated: Arc<AtomicBool>,
    /// Dropped to stop.
    shutdown: oneshot::Sender<()>,
    /// End by themselves when told to stop.
    tasks: JoinSet<()>,
    /// Never end by themselves.
    services: JoinSet<()>,
}

/// Runs a server until `shutdown`, then stops it in good order. On SIGHUP it reads its configuration again.
pub async fn run(config: Config, options: Options, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let mut running = start(config, options).await?;
    let reloading = running.reloading.clone();
    // Beside the rest: a file that can not be read just now must hold up neither the end nor the news of a failure.
    let reloads = async {
        while hangup.recv().await.is_some() {
            let _ = reloading.reload().await; // it has logged how that went
        }
        pending::<()>().await;
    };
    let result = tokio::select! {
        () = shutdown => Ok(()),
        ended = running.ended() => ended,
        () = reloads => Ok(()),
    };
    running.stop().await;
    result
}

/// Opens everything and starts the tasks; when this returns, the server answers. Inside a tokio runtime.
pub async fn start(config: Config, options: Options) -> Result<Running, StartError> {
    let core = config.core();
    core.check()?;
    let limits = options.limits.unwrap_or_else(|| Limits::of_peers(core.peers_max));
    let metrics = Arc::new(Metrics::new(config.metrics.per_peer_max)?);
    let (socket, _) = Socket::bind(config.listen, STAMPS_MAX).map_err(cannot_listen(config.listen))?;
    let quic = socket.address().map_err(cannot_listen(config.listen))?;
    probe(config.http).await?;
    let joining = match &options.join {
        Some(token) => join(&config, &socket, &options.resolver, token).await?,
        None => None,
    };
    let mut authority = Authority::open(&config.data_dir, config.domain.as_deref(), seconds())?;
    if authority.was_torn() {
        tracing::warn!("the last entry of the file `bindings` was cut off: who was joining then will try again");
    }
    metrics.certificates(authority.expiry()?);
    let listeners = http::bind(config.http, &config.admin_socket()).await?;
    let advertise = config.advertised(quic);
    let endpoint = endpoint(&authority, socket.clone(), joining)?;
    let identity = (authority.server_id(), authority.generation());
    let myself = myself(&config, &authority, identity, (quic, listeners.http())).await?;
    let neighbours = neighbours(&myself.member, &authority, (socket.clone(), options.resolver))?;
    // Last of what can fail: a token that is made is shown, and whatever start gets here first makes it.
    let first_token = match authority.tokens().is_new() {
        true => Some(first_token(&mut authority, advertise.clone())?),
        false => None,
    };
    let ready = Ready { quic: reachable(quic), http: listeners.http(), first_token };
    let about = about(&config, &authority, quic, ready.http, advertise);
    tracing::info!(id = %about.id, generation = about.generation, root_key = authority.has_root_key(), %quic, http = ?ready.http, "serving");

    let (handle, requests) = Handle::new();
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    #[cfg(feature = "feed")]
    let feed = super::feed::Feed::new(events.clone());
    let (shutdown, told) = oneshot::channel();
    let registrar = Registrar::new(authority);
    let reloader = Reloader::new(config.clone(), options.read, options.supervisor.clone());
    let reloading = Arc::new(Reloading::new(reloader, handle.clone(), options.logs, quic));
    let door = Arc::new(Door {
        software: SOFTWARE,
        generation: about.generation,
        domain: about.domain.clone(),
        registrar: registrar.clone(),
        metrics: metrics.clone(),
        events,
        limits,
        newcomers: Arc::default(),
        neighbours,
    });
    let supervisor = options.supervisor;
    let (mut tasks, mut services) = (JoinSet::new(), JoinSet::new());
    let siblings = Siblings::new(door.clone(), endpoint.clone());
    let book = Keeper::start(&config.data_dir, &mut tasks);
    let shell = Shell::new(
        Pams::among(myself, core, Clock.now()),
        endpoint.clone(),
        (registrar.clone(), metrics.clone()),
        (inbox, requests),
        (siblings, book),
        supervisor.clone(),
    );
    let evacuated = shell.evacuated.clone();
    #[cfg(feature = "feed")]
    let shell = Shell { tap: options.tap, ..shell };
    tasks.spawn(shell.run(async { drop(told.await) }));
    tasks.spawn(door::answer(door.clone(), endpoint));
    services.spawn(registrar.clone().keep_fresh(door.clone()));
    let sources = Sources {
        handle: handle.clone(),
        metrics: metrics.clone(),
        udp: socket.clone(),
        about,
        reloading: reloading.clone(),
    };
    listeners.serve(sources, &mut tasks);
    if let Some(tell) = options.ready {
        tell(&ready);
    }
    supervisor.ready();
    Ok(Running {
        ready,
        handle,
        metrics,
        socket,
        evacuated,
        #[cfg(feature = "feed")]
        feed,
        registrar,
        reloading,
        supervisor,
        shutdown,
        tasks,
        services,
    })
}

impl Running {
    /// Returns when some part of the server has ended, which none does unless it is told to or panics. No error: it was drained.
    async fn ended(&mut self) -> Result<(), RunError> {
        let ended = tokio::select! {
            Some(ended) = self.tasks.join_next() => ended,
            Some(ended) = self.services.join_next() => ended,
        };
        if ended.is_ok() && self.evacuated.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.report(ended);
        Err(RunError::Ended)
    }

    /// Reads the configuration again, and goes on with what of it can take effect now.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        self.reloading.reload().await
    }

    /// Closes all connections and ends. Then the data directory is free, and so is the port unless `socket` was cloned.
    pub async fn stop(mut self) {
        self.supervisor.stopping();
        drop(self.shutdown);
        let by_itself = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_PATIENCE, by_itself).await.is_err() {
            tracing::warn!("the server did not stop in time; what is left of it is cut off");
        }
        self.tasks.shutdown().await;
        self.services.shutdown().await;
        self.registrar.settle().await;
        // QUIC's own task lets go of the socket a little after the last connection, and tells nobody.
        let free = async {
            while Arc::strong_count(&self.socket) > 1 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(CLOSE_PATIENCE, free).await;
    }

    fn report(&self, ended: Result<(), JoinError>) {
        match ended {
            Err(error) if error.is_panic() => {
                self.metrics.panicked();
                tracing::error!("a main part of the server panicked");
            }
            _ => tracing::error!("a main part of the server has ended"),
        }
    }
}

/// Whether the port for HTTP is free. It is bound for good only when the data directory is ours; but to find it taken then
/// would have cost the first start, and with it the first token.
async fn probe(http: Http) -> Result<(), ListenError> {
    match http {
        Http::Off => Ok(()),
        Http::At(address) => {
            TcpListener::bind(address).await.map(drop).map_err(|source| ListenError::Tcp { address, source })
        }
    }
}

fn cannot_listen(address: SocketAddr) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Listen { address, source }
}

/// Both protocols on one endpoint, the one that was used to join if there is. Its reset key is kept, so that agents notice a
/// restart at their next packet.
fn endpoint(authority: &Authority, socket: Arc<Socket>, joined: Option<Endpoint>) -> Result<Endpoint, StartError> {
    let tls = server_tls(authority.own(), authority.root(), system_time())?;
    let server = quic::server_config(Arc::new(tls), quic::home_transport())
        .map_err(|error| StartError::Tls(rustls::Error::General(error.to_string())))?;
    let endpoint = match joined {
        Some(endpoint) => endpoint,
        None => quic::endpoint(socket, authority.reset_key(), None).map_err(StartError::Quic)?,
    };
    endpoint.set_server_config(Some(server));
    Ok(endpoint)
}

/// Who we are among the servers, and where we begin to look for them: what is configured, what the token named, and the
/// servers that were known last.
async fn myself(
    config: &Config,
    authority: &Authority,
    (id, generation): (ServerId, u64),
    (quic, http): (SocketAddr, Option<SocketAddr>),
) -> Result<Myself, StartError> {
    let (mut addresses, own) = (Vec::new(), config.called_at(quic));
    for address in &own {
        match Resolver::default().resolve(&address.to_string()).await {
            Ok(found) => addresses.extend(found),
            Err(why) => tracing::warn!(%address, why = why.text, "other servers are not told of this address"),
        }
    }
    addresses.truncate(ADDRESSES_MAX);
    let reached = addresses.first().map(SocketAddr::ip);
    let http = http.map(|http| match reached {
        Some(ip) if http.ip().is_unspecified() => SocketAddr::new(ip, http.port()),
        _ => http,
    });
    let (name, region, software) = (config.label(), config.region.clone(), SOFTWARE.to_owned());
    let member = Member { id, generation, name, addresses, http, region, software };
    let mut all: Vec<String> = config.servers.iter().chain(authority.seeds()).map(ToString::to_string).collect();
    all.extend(book::restore(&config.data_dir).seeds());
    let own = own.iter().map(ToString::to_string);
    let own: BTreeSet<String> = own.chain(member.addresses.iter().map(ToString::to_string)).collect();
    let mut seeds = Vec::new();
    for seed in all {
        if seeds.len() < SEEDS_MAX && !seeds.contains(&seed) && !own.contains(&seed) {
            seeds.push(seed);
        }
    }
    let banned = authority.banned().map(PeerId).collect();
    Ok(Myself { member, seeds, seed: identity::seed()?, banned })
}

/// How the connections with other servers are made: with windows for much data.
fn neighbours(
    member: &Member,
    authority: &Authority,
    (socket, resolver): (Arc<Socket>, Resolver),
) -> Result<Neighbours, StartError> {
    let no_tls = |error: NoInitialCipherSuite| StartError::Tls(rustls::Error::General(error.to_string()));
    let client = client_tls(authority.own(), authority.root(), system_time())?;
    let client = Arc::new(client);
    let to_agents = quic::client_config(client.clone(), quic::peer_transport()).map_err(no_tls)?;
    let client = quic::client_config(client, quic::sibling_transport()).map_err(no_tls)?;
    let server = server_tls(authority.own(), authority.root(), system_time())?;
    let server = quic::server_config(Arc::new(server), quic::sibling_transport()).map_err(no_tls)?;
    Ok(Neighbours::new(member.clone(), [client, to_agents], Arc::new(server), (socket, resolver)))
}

fn about(
    config: &Config,
    authority: &Authority,
    quic: SocketAddr,
    http: Option<SocketAddr>,
    advertise: Vec<Address>,
) -> About {
    About {
        id: authority.server_id(),
        name: config.label(),
        domain: authority.domain().to_owned(),
        software: SOFTWARE.to_owned(),
        generation: authority.generation(),
        started_ms: Clock.now().wall_ms(),
        quic,
        http,
        advertise,
        configuration: None,
    }
}

fn first_token(authority: &mut Authority, addresses: Vec<Address>) -> Result<Token, StartError> {
    let now = seconds();
    let grant = Grant {
        role: Role::Agent,
        uses: Some(FIRST_TOKEN_USES),
        expires_at: now.saturating_add(FIRST_TOKEN_SECONDS),
        note: "made at the first start".to_owned(),
    };
    let (id, secret) = authority.tokens().create(&grant, now)?;
    Ok(Token { pin: authority.pin()?, id, secret, addresses })
}

/// Wall clock, unix seconds.
fn seconds() -> u64 {
    Clock.now().wall_ms() / 1_000
}
