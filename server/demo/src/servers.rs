//! The servers of the play: the first makes the cluster, the others join it; one dies in the middle.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context;
use pams_server::{
    config::{Config, Http},
    core::{
        What,
        view::{MemberState, PeerDetail},
    },
    shell::{Options, Running, start},
};
use pams_shared::{
    clock::Clock,
    frame::Role,
    id::{PeerId, ServerId},
    identity::{Grant, Token, TokenStore, pin_of},
    moment::Moment,
    record::{Kind, Ledger},
    sim::Link,
};
use serde::Serialize;
use tokio::time::timeout;

use crate::stage::{LOOPBACK, MEETING_LOOK, MEETING_PATIENCE};

const NAMES: [&str; 3] = ["s1", "s2", "s3"];
/// Whoever joins does so at once.
const TOKEN_SECONDS: u64 = 3_600;

pub struct Server {
    pub name: &'static str,
    id: ServerId,
    quic: SocketAddr,
    /// Lets agents join at this server.
    pub token: String,
    /// `None`: killed.
    pub running: Option<Running>,
}

pub struct Servers(pub Vec<Server>);

/// One server, as one that is alive sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ServerRow {
    pub name: &'static str,
    pub state: &'static str,
    /// Agents whose home it is, by their own word.
    pub agents: usize,
    /// Entries of the shared directory that it owns.
    pub entries: u64,
}

/// What one server says of all peers at one moment.
pub struct Told {
    pub peers: BTreeMap<PeerId, PeerDetail>,
    /// Of the whole cluster.
    pub ledger: Ledger,
    /// Whom it has told gone.
    pub gone: Vec<PeerId>,
}

impl Servers {
    /// Starts them one after the other, and waits until each sees all others.
    pub async fn set(dir: &Path) -> anyhow::Result<Self> {
        let mut servers = Self(Vec::new());
        for name in NAMES {
            let join = match servers.0.first() {
                Some(first) => Some(first.pass(&dir.join(first.name))?),
                None => None,
            };
            servers.0.push(Server::enter(dir, name, join).await.with_context(|| format!("server {name}"))?);
        }
        timeout(MEETING_PATIENCE, servers.meet()).await.context("the servers did not all meet in time")?;
        Ok(servers)
    }

    async fn meet(&self) {
        let mut looks = tokio::time::interval(MEETING_LOOK);
        for (_, running) in self.alive() {
            while !running.handle.look(|pams, now| sees_all(&pams.cluster(now).members)).await.unwrap_or(true) {
                looks.tick().await;
            }
        }
    }

    pub fn alive(&self) -> impl Iterator<Item = (&Server, &Running)> {
        self.0.iter().filter_map(|server| Some((server, server.running.as_ref()?)))
    }

    /// One of those that are alive; which one makes no difference.
    pub fn any(&self) -> Option<&Running> {
        self.alive().next().map(|(_, running)| running)
    }

    pub fn is_alive(&self, id: ServerId) -> bool {
        self.alive().any(|(server, _)| server.id == id)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|server| server.quic).collect()
    }

    /// As kill -9 would: nothing more leaves its socket, neither to these agents nor to its siblings, and nothing is closed
    /// in good order. Gives its id, or nothing if it is dead already.
    pub fn kill(&mut self, i: usize, agents: &[SocketAddr]) -> anyhow::Result<Option<ServerId>> {
        let siblings = self.addresses();
        let server = &mut self.0[i];
        let Some(running) = server.running.take() else { return Ok(None) };
        for address in siblings.iter().chain(agents).filter(|a| **a != server.quic) {
            running.socket.emulate(*address, Link::PARTITION)?;
        }
        drop(running);
        Ok(Some(server.id))
    }

    /// All of them as one that is alive sees them. `homes` are those of the agents that are here.
    pub async fn rows(&self, homes: &[ServerId]) -> Vec<ServerRow> {
        let Some(lookout) = self.any() else { return Vec::new() };
        let members = lookout.handle.look(|pams, now| pams.cluster(now).members).await.unwrap_or_default();
        let row = |server: &Server| {
            let member = members.iter().find(|m| m.member.id == server.id);
            ServerRow {
                name: server.name,
                state: match member.map(|m| m.state) {
                    Some(MemberState::Me) => MemberState::Alive.as_str(),
                    Some(state) => state.as_str(),
                    None => "unknown",
                },
                agents: homes.iter().filter(|home| **home == server.id).count(),
                entries: member.map_or(0, |m| m.entries),
            }
        };
        self.0.iter().map(row).collect()
    }

    /// What each that is alive says of these peers.
    pub async fn told(&self, peers: &[PeerId]) -> Vec<Told> {
        let mut all = Vec::new();
        for (_, running) in self.alive() {
            let peers = peers.to_vec();
            let told = running.handle.look(move |pams, now| Told {
                peers: peers.iter().filter_map(|p| Some((*p, pams.peer(now, *p)?))).collect(),
                ledger: pams.cluster_ledger(now).remove(&Kind::Ping).unwrap_or_default(),
                gone: pams.events().filter(|e| e.what == What::Gone).map(|e| e.peer).collect(),
            });
            all.extend(told.await);
        }
        all
    }

    pub async fn stop(self) {
        for running in self.0.into_iter().filter_map(|server| server.running) {
            running.stop().await;
        }
    }
}

impl Server {
    async fn enter(dir: &Path, name: &'static str, join: Option<Token>) -> anyhow::Result<Self> {
        let mut config = Config {
            data_dir: dir.join(name),
            listen: LOOPBACK.parse()?,
            http: Http::At(LOOPBACK.parse()?),
            name: Some(name.into()),
            ..Config::default()
        };
        // There are no agents of before to wait for, so that the overlay's rosters are told at once.
        config.pace.grace = Some(Duration::ZERO);
        let running = start(config, Options { join, ..Options::default() }).await?;
        let token = running.ready.first_token.as_ref().context("a new server makes a token")?.to_string();
        let id = running.handle.look(|pams, now| pams.cluster(now).me).await?;
        Ok(Self { name, id, quic: running.ready.quic, token, running: Some(running) })
    }

    /// What `pams-server token create --role server` prints.
    fn pass(&self, data_dir: &Path) -> anyhow::Result<Token> {
        let now = seconds(Clock.now());
        let expires_at = now + TOKEN_SECONDS;
        let grant = Grant { role: Role::Server, uses: Some(1), expires_at, note: "demo".into() };
        let (id, secret) = TokenStore::open(data_dir)?.create(&grant, now)?;
        Ok(Token { pin: pin_of(data_dir)?, id, secret, addresses: vec![self.quic.into()] })
    }
}

fn sees_all(members: &[pams_server::core::view::MemberView]) -> bool {
    let here = |m: &&pams_server::core::view::MemberView| matches!(m.state, MemberState::Me | MemberState::Alive);
    members.iter().filter(|m| m.connected).filter(here).count() == NAMES.len()
}

fn seconds(now: Moment) -> u64 {
    now.wall_ms() / 1_000
}
