//! A server to talk to, and agents that do as they are told.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pams_server::{
    config::Config,
    core::{Pams, view::PeerDetail},
    metrics::Snapshot,
    shell::{Limits, Options, Running, StartError, start},
};
use pams_shared::{
    clock::Clock,
    expo,
    frame::{Frame, Hello, HelloAck, Issued, Join, Profile, Refused, Rejected, Report, ReportAck, Role, capability},
    id::PeerId,
    identity::{
        AgentIdentity, DOMAIN_DEFAULT, Grant, JOIN_NAME, Token, TokenStore, client_tls, home_name, join_tls, pin_of,
        system_time,
    },
    moment::Moment,
    quic,
    record::{Kind, Ledger, Why},
    socket::{Socket, Traffic},
    status::{Presence, Status},
};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, rustls};
use tempfile::TempDir;

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Whatever is awaited comes at once; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const DAY: u64 = 86_400;

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

pub struct Home {
    pub dir: TempDir,
    pub running: Running,
}

impl Home {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    pub async fn with(limits: Option<Limits>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = start(config(&dir, LOOPBACK), Options { limits, ..Options::default() }).await.unwrap();
        Self { dir, running }
    }

    /// One that joins with this token.
    pub async fn joining(token: Token) -> Result<Self, StartError> {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { join: Some(token), ..Options::default() };
        let running = soon(start(config(&dir, LOOPBACK), options)).await?;
        Ok(Self { dir, running })
    }

    /// One that does not wait for agents of before.
    pub async fn without_grace() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir, LOOPBACK);
        config.pace.grace = Some(Duration::ZERO);
        let running = start(config, Options::default()).await.unwrap();
        Self { dir, running }
    }

    /// Stops and starts again on the same port, with `between` in the meantime.
    pub async fn restart(self, between: impl FnOnce(&TempDir)) -> Self {
        let Self { dir, running } = self;
        let at = running.ready.quic;
        soon(running.stop()).await;
        between(&dir);
        let running = start(config(&dir, at), Options::default()).await.unwrap();
        Self { dir, running }
    }

    pub fn at(&self) -> SocketAddr {
        self.running.ready.quic
    }

    /// A new token for an agent, made beside the running server as the CLI does, `ago` seconds ago.
    pub fn token(&self, uses: Option<u32>, ago: u64) -> Token {
        self.token_of(Role::Agent, uses, ago)
    }

    pub fn token_of(&self, role: Role, uses: Option<u32>, ago: u64) -> Token {
        let now = Clock.now().wall_ms() / 1_000 - ago;
        let grant = Grant { role, uses, expires_at: now + DAY, note: String::new() };
        let (id, secret) = self.tokens().create(&grant, now).unwrap();
        let pin = pin_of(&self.dir.path().join("home")).unwrap();
        Token { pin, id, secret, addresses: vec![self.at().into()] }
    }

    pub fn tokens(&self) -> TokenStore {
        TokenStore::open(&self.dir.path().join("home")).unwrap()
    }

    pub async fn look<T: Send + 'static>(&self, look: impl FnOnce(&Pams, Moment) -> T + Send + 'static) -> T {
        self.running.handle.look(look).await.unwrap()
    }

    pub async fn peer(&self, peer: PeerId) -> Option<PeerDetail> {
        self.look(move |pams, now| pams.peer(now, peer)).await
    }

    /// Waits until the engine is as wanted.
    pub async fn until(&self, wanted: impl Fn(&Pams, Moment) -> bool + Send + Clone + 'static) {
        soon(async {
            while !self.look(wanted.clone()).await {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// What a scrape shows.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let snapshot = self.look(|pams, now| Snapshot::of(pams, now, 0)).await;
        let text = self.running.metrics.render(&snapshot, 0, Traffic::default());
        let value = expo::parse(&text).unwrap().value(name, labels);
        value.unwrap_or_else(|| panic!("{name} {labels:?} is not in\n{text}"))
    }

    pub async fn notices(&self, notice: &str) -> f64 {
        self.metric("pams_server_notices_total", &[("notice", notice)]).await
    }

    pub async fn rejected_frames(&self, reason: &str) -> f64 {
        self.metric("pams_server_frames_rejected_total", &[("reason", reason)]).await
    }

    /// Waits until some Hello was answered with no.
    pub async fn rejected_hello(&self) {
        soon(async {
            while self.rejected_frames("hello").await < 1.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until so many connections ended in this way.
    pub async fn handshakes(&self, result: &str, wanted: f64) {
        soon(async {
            while self.metric("pams_server_handshakes_total", &[("result", result)]).await < wanted {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub fn config(dir: &TempDir, listen: SocketAddr) -> Config {
    let http = LOOPBACK.to_string().try_into().unwrap();
    Config { data_dir: dir.path().join("home"), listen, http, ..Config::default() }
}

pub struct Agent {
    _dir: TempDir,
    pub identity: AgentIdentity,
    pub endpoint: Endpoint,
    pub socket: Arc<Socket>,
}

impl Agent {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = AgentIdentity::open(dir.path()).unwrap();
        let (socket, _) = Socket::bind(LOOPBACK, 1).unwrap();
        let endpoint = quic::endpoint(socket.clone(), identity.reset_key(), None).unwrap();
        Self { _dir: dir, identity, endpoint, socket }
    }

    /// One that has joined with the first token.
    pub async fn of(home: &Home) -> Self {
        let mut agent = Self::new();
        let token = home.running.ready.first_token.clone().unwrap();
        let issued = agent.enrol(home, &token).await.unwrap();
        agent.identity.join(&token, &issued).unwrap();
        agent
    }

    pub fn peer(&self) -> PeerId {
        self.identity.peer_id()
    }

    pub async fn enrol(&self, home: &Home, token: &Token) -> Result<Issued, Refused> {
        let join = self.identity.join_request(token, "edge-7", Clock.now().wall_ms()).unwrap();
        self.ask_to_join(home, token, join).await
    }

    pub async fn ask_to_join(&self, home: &Home, token: &Token, join: Join) -> Result<Issued, Refused> {
        let connection = self.call_to_join(home, token).await;
        let answer = soon(quic::request(&connection, &Frame::Join(join))).await.unwrap();
        connection.close(0u8.into(), b"");
        match answer {
            Frame::Issued(issued) => Ok(issued),
            Frame::Refused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    }

    pub async fn call_to_join(&self, home: &Home, token: &Token) -> Connection {
        self.call_as(home, quic_client(join_tls(token.pin, system_time()).unwrap()), JOIN_NAME).await.unwrap()
    }

    pub async fn call(&self, home: &Home) -> Connection {
        self.try_call(home).await.unwrap()
    }

    pub async fn try_call(&self, home: &Home) -> Result<Connection, Why> {
        self.call_as(home, quic_client(self.tls()), &home_name(DOMAIN_DEFAULT)).await
    }

    pub async fn call_as(&self, home: &Home, client: quinn::ClientConfig, name: &str) -> Result<Connection, Why> {
        soon(quic::connect(&self.endpoint, client, home.at(), name)).await
    }

    pub fn tls(&self) -> rustls::ClientConfig {
        client_tls(self.identity.own().unwrap(), self.identity.root().unwrap(), system_time()).unwrap()
    }

    pub fn hello(&self, epoch: u64, attach: u64) -> Hello {
        let profile = Profile {
            name: "edge-7".into(),
            software: "script/1".into(),
            overlays: vec!["cdn/eu".into()],
            ..Profile::default()
        };
        let wall_ms = Clock.now().wall_ms();
        Hello {
            software: "script/1".into(),
            epoch,
            capabilities: 0,
            wall_ms,
            attach,
            profile: Some(profile),
            member: None,
        }
    }

    /// The same of one that takes so many buddies.
    pub fn hello_takes(&self, epoch: u64, roster_max: u32) -> Hello {
        let mut hello = Hello { capabilities: capability::ROSTERS, ..self.hello(epoch, 0) };
        hello.profile.as_mut().unwrap().roster_max = roster_max;
        hello
    }

    /// A session in this epoch.
    pub async fn attach(&self, home: &Home, epoch: u64) -> Session {
        let session = Session::open(self.call(home).await, self.hello(epoch, 0)).await;
        assert_eq!(session.ack.verdict, Ok(()));
        session
    }

    /// The same at a server that asks the others what it knew before it lets anybody in.
    pub async fn attach_when_settled(&self, home: &Home, epoch: u64) -> Session {
        home.until(|pams, now| !pams.is_settling(now)).await;
        self.attach(home, epoch).await
    }

    /// Says Hello and is turned away.
    pub async fn turned_away(&self, home: &Home, epoch: u64) -> Rejected {
        Session::open(self.call(home).await, self.hello(epoch, 0)).await.turned_away().await
    }
}

pub fn quic_client(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    quic::client_config(Arc::new(tls), quic::home_transport()).unwrap()
}

/// A connection that said Hello.
pub struct Session {
    pub connection: Connection,
    pub send: SendStream,
    pub receive: RecvStream,
    pub ack: HelloAck,
}

impl Session {
    pub async fn open(connection: Connection, hello: Hello) -> Self {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        quic::write_frame(&mut send, &Frame::Hello(hello)).await.unwrap();
        let Some(Frame::HelloAck(ack)) = soon(quic::read_frame(&mut receive)).await.unwrap() else {
            panic!("no HelloAck")
        };
        Self { connection, send, receive, ack }
    }

    pub async fn tell(&mut self, frame: &Frame) {
        quic::write_frame(&mut self.send, frame).await.unwrap();
    }

    pub async fn report(&mut self, report: Report) -> ReportAck {
        self.tell(&Frame::Report(report)).await;
        let Some(Frame::ReportAck(ack)) = soon(quic::read_frame(&mut self.receive)).await.unwrap() else {
            panic!("no acknowledgement")
        };
        ack
    }

    /// Why the answer was no; the connection is then closed for it.
    pub async fn turned_away(self) -> Rejected {
        let rejected = self.ack.verdict.unwrap_err();
        assert_eq!(closed(&self.connection).await, Some(pams_shared::frame::close::REJECTED));
        assert_eq!(self.ack.terms, None);
        rejected
    }

    pub async fn ask(&self, question: Frame) -> Frame {
        soon(quic::request(&self.connection, &question)).await.unwrap()
    }
}

/// The code with which the server closes the connection; `None`: it ended otherwise.
pub async fn closed(connection: &Connection) -> Option<u32> {
    match soon(connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => u64::from(close.error_code).try_into().ok(),
        _ => None,
    }
}

/// A batch that tells a status and the ledger of pings so far.
pub fn batch(number: u64, good: u64) -> Report {
    let ledger = Ledger { opened: good, good, ..Ledger::default() };
    let presence = Presence { status: Status::Busy, note: None, since_ms: 1, version: number };
    Report { batch: number, totals: vec![(Kind::Ping, ledger)], changes: vec![presence], ..Report::default() }
}
