//! A run in which something is going on: three servers, and agents that watch each other over an emulated network of which
//! some are far, one answers slowly, one line is so shaky that answers get lost or come late, and some live in processes
//! of their own, which are killed. All are told of each other's presence, take rosters and write CSV files. One server can be
//! lost, so that its agents move.

use std::{net::SocketAddr, path::Path, time::Duration};

use pams_agent::{config::Http as AgentHttp, shell::handle::Handle};
use pams_server::{
    config::{Config as ServerConfig, Http},
    core::probe::{Caller, WITHIN},
    shell as server,
};
use pams_shared::{
    clock::Clock,
    frame::Role,
    id::PeerId,
    identity::{Grant, Token, TokenStore, pin_of},
    sim::Link,
    status::{Liveness, Status},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    harness::{LOOPBACK, free_port},
    peer::{Peer, Process, Seat},
    prometheus::until,
};

/// Those that stay, and how far from everybody each lives: one way, in ms.
const CAST: [(&str, f64, Status); 5] = [
    ("ams", 1.0, Status::Online),
    ("ber", 4.0, Status::Busy),
    (SLOW, 12.0, Status::Online),
    (SHAKY, 30.0, Status::Away),
    ("eze", 45.0, Status::Online),
];
/// Answers after 60 ms.
pub const SLOW: &str = "cai";
const SHAKY: &str = "del";
/// They are killed. So far do they live from all others.
pub const DOOMED: [&str; 3] = ["fai", "gru", "hnd"];
pub const PEERS: usize = CAST.len() + DOOMED.len();
const FAR_MS: f64 = 10.0;
/// So that an answer over the shaky line is late now and then.
const DEADLINE: Duration = Duration::from_millis(250);
/// Each publishes something new so often.
const NEWS: Duration = Duration::from_millis(500);
/// Buddies that each takes from its home.
const ROSTER_MAX: usize = 16;

/// Servers, and where agents join: those that stay at one after the other, those that are killed at the first.
const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

pub struct Cluster {
    servers: Vec<server::Running>,
    pub agents: Vec<Peer>,
    doomed: Vec<Process>,
    /// What they publish again and again.
    _news: JoinSet<()>,
    doomed_at: Vec<SocketAddr>,
    // Outlives those that write there.
    _dir: TempDir,
}

impl Cluster {
    /// Everybody watches everybody, and is watched, and seen live by the home.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let servers = serve(dir.path()).await;
        let tokens: Vec<String> = servers.iter().map(|s| s.ready.first_token.as_ref().unwrap().to_string()).collect();

        let names = CAST.iter().map(|(name, ..)| *name).chain(DOOMED);
        let seats: Vec<Seat> = names.map(|name| seat(dir.path(), name)).collect();
        let everybody = |seat: &Seat| {
            let others: Vec<&Seat> = seats.iter().filter(|s| s.peer != seat.peer).collect();
            seat.clone().subscribes(&others)
        };
        let (stay, go) = seats.split_at(CAST.len());
        let (mut agents, mut news) = (Vec::new(), JoinSet::new());
        for ((seat, (_, _, status)), token) in stay.iter().zip(CAST).zip(tokens.iter().cycle()) {
            let agent = everybody(seat).start(Some(token)).await;
            news.spawn(tell(agent.running.handle.clone(), status));
            news.spawn(probe(servers[0].handle.clone(), agent.peer));
            agents.push(agent);
        }
        let mut doomed = Vec::new();
        for seat in go {
            doomed.push(everybody(seat).spawn(Some(&tokens[0])).await);
        }
        let doomed_at = go.iter().map(|seat| seat.at).collect();
        let cluster = Self { servers, agents, doomed, _news: news, doomed_at, _dir: dir };
        cluster.emulate();
        cluster.until_peers(Liveness::Live, PEERS).await;
        cluster
    }

    fn emulate(&self) {
        for (from, a) in self.agents.iter().zip(CAST) {
            for (to, b) in self.agents.iter().zip(CAST).filter(|(to, _)| to.peer != from.peer) {
                from.emulate(to.at, link(a, b));
            }
            // The sockets of the others are out of reach, so both ways are put on this side of theirs.
            for to in &self.doomed_at {
                let both = 2.0 * FAR_MS;
                from.emulate(*to, link((a.0, a.1 + both, a.2), (DOOMED[0], both, Status::Online)));
            }
        }
    }

    /// Where the servers that are left answer over HTTP.
    pub fn http(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|s| s.ready.http.unwrap()).collect()
    }

    /// Over all servers, each counting those that it is home to.
    async fn until_peers(&self, liveness: Liveness, count: usize) {
        until("peers at their homes", async || {
            let mut found = 0;
            for server in &self.servers {
                let summary = server.handle.look(pams_server::core::Pams::summary).await.unwrap();
                found += summary.peers.iter().find(|(l, _)| *l == liveness).map_or(0, |(_, n)| *n);
            }
            found == count as u64
        })
        .await;
    }

    /// The line of the first becomes longer, there and back by so many ms.
    pub fn detour(&self, ms: f64) {
        for (to, b) in self.agents.iter().zip(CAST).skip(1) {
            let way = link((CAST[0].0, CAST[0].1 + ms, CAST[0].2), b);
            self.agents[0].emulate(to.at, way);
            to.emulate(self.agents[0].at, way);
        }
    }

    /// The last server is no more, without a goodbye; returns once its agents have another home.
    pub async fn lose_a_server(&mut self) {
        drop(self.servers.pop());
        self.until_peers(Liveness::Live, CAST.len()).await;
    }

    /// As `kill -9`; returns once the home knows that they are gone.
    pub async fn kill(&mut self) {
        let doomed = std::mem::take(&mut self.doomed);
        let count = doomed.len();
        for process in doomed {
            process.kill().await;
        }
        self.until_peers(Liveness::Gone, count).await;
    }
}

/// The first makes the cluster, and the others join it.
async fn serve(dir: &Path) -> Vec<server::Running> {
    let mut servers: Vec<server::Running> = Vec::new();
    for name in SERVERS {
        let mut config = ServerConfig {
            data_dir: dir.join(name),
            listen: LOOPBACK,
            http: Http::At(LOOPBACK),
            name: Some(name.into()),
            ..ServerConfig::default()
        };
        config.metrics.per_peer_max = 100;
        config.pace.grace = Some(Duration::from_secs(1));
        let join = servers.first().map(|first| token_for_servers(&dir.join(SERVERS[0]), first.ready.quic));
        let options = server::Options { join, ..server::Options::default() };
        servers.push(server::start(config, options).await.unwrap());
    }
    servers
}

/// As `pams-server token create --role server` makes it beside the running server.
fn token_for_servers(data_dir: &Path, at: SocketAddr) -> Token {
    let now = Clock.now().wall_ms() / 1_000;
    let grant = Grant { role: Role::Server, uses: Some(1), expires_at: now + 600, note: String::new() };
    let (id, secret) = TokenStore::open(data_dir).unwrap().create(&grant, now).unwrap();
    Token { pin: pin_of(data_dir).unwrap(), id, secret, addresses: vec![at.into()] }
}

/// Says something new of itself again and again; the status stays.
async fn tell(handle: Handle, status: Status) {
    let mut ticks = tokio::time::interval(NEWS);
    for n in 0u64.. {
        ticks.tick().await;
        if handle.publish(status, Some(n.to_string())).await.is_err() {
            return;
        }
    }
}

/// Asks a server how the peer is, again and again.
async fn probe(server: server::handle::Handle, peer: PeerId) {
    let mut ticks = tokio::time::interval(2 * NEWS);
    loop {
        ticks.tick().await;
        if server.probe(peer, WITHIN, Caller::Operator).await.is_err() {
            return;
        }
    }
}

/// The ports of its HTTP are those of QUIC, so that what service discovery tells can be scraped whether it tells one or the
/// other.
fn seat(dir: &Path, name: &str) -> Seat {
    let at = free_port();
    let mut seat = Seat { at, ..Seat::new(dir, name) }.with(|c| {
        c.listen = at;
        c.http = AgentHttp::try_from(at.to_string()).unwrap();
        c.ping.deadline = DEADLINE;
        c.limits.roster = ROSTER_MAX;
        c.csv.dir = Some(dir.join("csv"));
    });
    if name == SLOW {
        seat.answer_after = Duration::from_millis(60);
    }
    seat
}

/// One way between two of them: delays add up.
fn link(a: (&str, f64, Status), b: (&str, f64, Status)) -> Link {
    let shaky = a.0 == SHAKY || b.0 == SHAKY;
    let delay = (a.1 + b.1 + if shaky { 30.0 } else { 0.0 }) / 2e3;
    Link {
        delay: Duration::from_secs_f64(delay),
        jitter: Duration::from_secs_f64(if shaky { 0.08 } else { delay / 20.0 }),
        loss: if shaky { 0.03 } else { 0.001 },
        ..Link::default()
    }
}
