//! For tests: agents of one cluster on loopback, as far as their sockets.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use pams_shared::{
    clock::Clock,
    frame::Role,
    identity::{self, AgentIdentity, Authority, Grant, Token},
    quic,
    socket::{Sent, Socket},
};
use quinn::Endpoint;
use tokio::sync::mpsc;

use super::{
    credentials::Credentials,
    link::{LinkEvent, Links, Me},
};

/// Whatever is awaited comes at once; this is less than what slow ways out take.
const SOON: Duration = Duration::from_secs(4);

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

pub struct Cluster {
    pub folder: tempfile::TempDir,
    authority: Authority,
}

/// One agent's way out.
pub struct Side {
    pub me: Arc<Me>,
    pub endpoint: Endpoint,
    pub client: quinn::ClientConfig,
    pub socket: Arc<Socket>,
    pub sent: mpsc::Receiver<Sent>,
    pub credentials: Credentials,
}

fn now() -> u64 {
    Clock.now().wall_ms() / 1_000
}

impl Cluster {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&folder.path().join("server"), "test.example", now()).unwrap();
        Self { folder, authority }
    }

    /// Another server of the same root, with an id of its own.
    pub fn server(&self, name: &str) -> Authority {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(self.folder.path().join("server/root.pem"), folder.join("root.pem")).unwrap();
        Authority::open(&folder, self.authority.domain(), now()).unwrap()
    }

    /// The identity of an agent that has joined, kept in the folder of this name.
    pub fn join(&mut self, name: &str) -> AgentIdentity {
        let grant = Grant { role: Role::Agent, uses: Some(1), expires_at: now() + 86_400, note: String::new() };
        let (id, secret) = self.authority.tokens().create(&grant, now()).unwrap();
        let token = Token { pin: self.authority.pin().unwrap(), id, secret, addresses: vec![] };
        let mut identity = AgentIdentity::open(&self.folder.path().join(name)).unwrap();
        let join = identity.join_request(&token, name, now() * 1_000).unwrap();
        identity.join(&token, &self.authority.enrol(&join, now()).unwrap()).unwrap();
        identity
    }

    /// An agent that has joined.
    pub fn side(&mut self, name: &str) -> Side {
        let identity = self.join(name);
        let (own, root) = (identity.own().unwrap(), identity.root().unwrap());
        let server = identity::agent_server_tls(own.clone(), root, identity::system_time()).unwrap();
        let server = quic::server_config(server.into(), quic::peer_transport()).unwrap();
        let client = identity::client_tls(own, root, identity::system_time()).unwrap();
        let (socket, sent) = Socket::bind("127.0.0.1:0".parse().unwrap(), 64).unwrap();
        let me = Me {
            peer: identity.peer_id(),
            epoch: identity.epoch(),
            domain: identity.domain().unwrap().into(),
            software: "test/1".into(),
            capabilities: 0,
        };
        Side {
            me: Arc::new(me),
            endpoint: quic::endpoint(socket.clone(), identity.reset_key(), Some(server)).unwrap(),
            client: quic::client_config(client.into(), quic::peer_transport()).unwrap(),
            socket,
            sent,
            credentials: Credentials::new(identity),
        }
    }
}

impl Side {
    pub fn at(&self) -> SocketAddr {
        self.socket.address().unwrap()
    }

    pub fn links(&self) -> (Links, mpsc::Receiver<LinkEvent>) {
        Links::new(self.me.clone(), self.endpoint.clone(), self.client.clone(), self.socket.clone())
    }

    /// A connection with another that is not read, and its other end.
    pub async fn connect(&self, to: &Side) -> (quinn::Connection, quinn::Connection) {
        let name = identity::dns_name(Role::Agent, to.me.peer.0, &to.me.domain);
        let accept = async { to.endpoint.accept().await.unwrap().await.unwrap() };
        let (out, back) = tokio::join!(quic::connect(&self.endpoint, self.client.clone(), to.at(), &name), accept);
        (out.unwrap(), back)
    }
}
