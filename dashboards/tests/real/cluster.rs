//! A run in which something is going on: a server, and agents that watch each other over an emulated network of which
//! some are far, one answers slowly, one line is so shaky that answers get lost or come late, and some live in processes
//! of their own, which are killed. All are told of each other's presence, take rosters and write CSV files.

use std::{net::SocketAddr, time::Duration};

use pams_agent::{config::Http as AgentHttp, shell::handle::Handle};
use pams_server::{
    config::{Config as ServerConfig, Http},
    shell as server,
};
use pams_shared::{
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
const FAR_MS: f64 = 10.0;
/// So that an answer over the shaky line is late now and then.
const DEADLINE: Duration = Duration::from_millis(250);
/// Each publishes something new so often.
const NEWS: Duration = Duration::from_millis(500);
/// Buddies that each takes from its home.
const ROSTER_MAX: usize = 16;

pub struct Cluster {
    pub server: server::Running,
    pub http: SocketAddr,
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
        let mut config = ServerConfig {
            data_dir: dir.path().join("home"),
            listen: LOOPBACK,
            http: Http::At(LOOPBACK),
            name: Some("pams".into()),
            ..ServerConfig::default()
        };
        config.metrics.per_peer_max = 100;
        config.pace.grace = Some(Duration::from_secs(1));
        let server = server::start(config, server::Options::default()).await.unwrap();
        let http = server.ready.http.unwrap();
        let token = server.ready.first_token.as_ref().unwrap().to_string();

        let names = CAST.iter().map(|(name, ..)| *name).chain(DOOMED);
        let seats: Vec<Seat> = names.map(|name| seat(dir.path(), name)).collect();
        let everybody = |seat: &Seat| {
            let others: Vec<&Seat> = seats.iter().filter(|s| s.peer != seat.peer).collect();
            seat.clone().subscribes(&others)
        };
        let (stay, go) = seats.split_at(CAST.len());
        let (mut agents, mut news) = (Vec::new(), JoinSet::new());
        for (seat, (_, _, status)) in stay.iter().zip(CAST) {
            let agent = everybody(seat).start(Some(&token)).await;
            news.spawn(tell(agent.running.handle.clone(), status));
            agents.push(agent);
        }
        let mut doomed = Vec::new();
        for seat in go {
            doomed.push(everybody(seat).spawn(Some(&token)).await);
        }
        let doomed_at = go.iter().map(|seat| seat.at).collect();
        let cluster = Self { server, http, agents, doomed, _news: news, doomed_at, _dir: dir };
        cluster.emulate();
        cluster.until_peers(Liveness::Live, CAST.len() + DOOMED.len()).await;
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

    async fn until_peers(&self, liveness: Liveness, count: usize) {
        until("peers at home", async || {
            let summary = self.server.handle.look(pams_server::core::Pams::summary).await.unwrap();
            summary.peers.iter().any(|(l, n)| *l == liveness && *n == count as u64)
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

/// The ports of its HTTP are those of QUIC, so that what service discovery tells can be scraped whether it tells one or the
/// other.
fn seat(dir: &std::path::Path, name: &str) -> Seat {
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
