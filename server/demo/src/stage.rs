//! Sets the scene up with the real things, plays the plot, and looks at it through the doors that everybody has.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Context;
use pams_shared::{
    clock::Clock,
    id::{PeerId, ServerId},
    moment::Moment,
    record::{Ledger, Record, Stage as Part},
    status::{Liveness, Status},
};
use serde::Serialize;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    account::{Account, Cluster, compare, wrongly_gone},
    actor::Actor,
    cast::{CAST, Turn, What, link, round_trip_ms},
    servers::{ServerRow, Servers},
};

pub const LOOPBACK: &str = "127.0.0.1:0";
/// Until each has pinged each other once.
pub const MEETING_PATIENCE: Duration = Duration::from_secs(30);
pub const MEETING_LOOK: Duration = Duration::from_millis(50);
/// At the end: until all have a home again, and until the servers have told each other all.
const END_PATIENCE: Duration = Duration::from_secs(10);

pub struct Stage {
    dir: tempfile::TempDir,
    pub servers: Servers,
    pub actors: Vec<Actor>,
    pub news: VecDeque<String>,
    begin: Moment,
    crash: Option<Crash>,
    wronged: BTreeSet<PeerId>,
}

/// A server that was killed.
struct Crash {
    name: &'static str,
    id: ServerId,
    at: Moment,
    /// Its agents.
    orphans: Vec<PeerId>,
    rehomed: Option<Duration>,
}

/// What can be seen at one moment.
pub struct Scene {
    pub rows: Vec<Row>,
    pub servers: Vec<ServerRow>,
    pub account: Account,
    pub wrongly_gone: usize,
    /// Of a kill of a server; nothing before it.
    pub crash: Option<String>,
}

pub struct Row {
    pub name: &'static str,
    pub status: Option<Status>,
    /// As its home sees it.
    pub liveness: Option<Liveness>,
    /// As its five buddies see it.
    pub seen: BTreeMap<&'static str, usize>,
    pub ledger: Ledger,
    pub rtt: Option<Times>,
}

/// Of answered pings, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub p50: f64,
    pub p99: f64,
    pub parts: [Option<f64>; 4],
}

#[derive(Serialize)]
pub struct NamedLedger {
    name: &'static str,
    ledger: Ledger,
}

/// Medians over a run; `null` where nothing was measured.
#[derive(Serialize)]
pub struct Pair {
    pub from: &'static str,
    pub to: &'static str,
    /// There and back, as set.
    pub emulated_ms: f64,
    pub total_ms: Option<f64>,
    pub queued_ms: Option<f64>,
    pub network_ms: Option<f64>,
    pub remote_hold_ms: Option<f64>,
    pub local_wait_ms: Option<f64>,
}

impl Stage {
    /// Starts the servers, lets everybody join at one of them, and emulates the network between the agents.
    pub async fn set() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let servers = Servers::set(dir.path()).await?;
        let mut actors = Vec::new();
        for i in 0..CAST.len() {
            // All are in one overlay: whom to watch, their homes say.
            let token = &servers.0[i % servers.0.len()].token;
            actors.push(Actor::enter(dir.path(), i, Some(token), LOOPBACK.parse()?).await?);
        }
        let (news, begin) = (VecDeque::new(), Clock.now());
        let mut stage = Self { dir, servers, actors, news, begin, crash: None, wronged: BTreeSet::new() };
        for i in 0..CAST.len() {
            stage.wire(i)?;
            stage.actors[i].greet(i).await?;
        }
        // What was measured before the network was emulated is not part of the play.
        for actor in &mut stage.actors {
            actor.take_records();
            actor.kept.clear();
        }
        timeout(MEETING_PATIENCE, stage.meet()).await.context("the actors did not all meet in time")?;
        stage.begin = Clock.now();
        Ok(stage)
    }

    /// Waits until each has an answer of all others.
    async fn meet(&mut self) {
        let mut looks = tokio::time::interval(MEETING_LOOK);
        let others = self.actors.len() - 1;
        while self.actors.iter().any(|a| a.kept.len() < others) {
            looks.tick().await;
            for actor in &mut self.actors {
                actor.look().await;
            }
        }
    }

    /// Sets the emulated network between one and all others.
    fn wire(&self, i: usize) -> anyhow::Result<()> {
        for (j, other) in self.actors.iter().enumerate().filter(|(j, _)| *j != i) {
            if let Some(running) = &self.actors[i].running {
                running.udp.emulate(other.quic, link(&CAST[i], &CAST[j]))?;
            }
            if let Some(running) = &other.running {
                running.udp.emulate(self.actors[i].quic, link(&CAST[j], &CAST[i]))?;
            }
        }
        Ok(())
    }

    pub async fn play(&mut self, turn: Turn) -> anyhow::Result<()> {
        match turn.what {
            What::Leave(i) => {
                self.actors[i].leave().await;
                self.actors[i].gone = Some("left");
                self.tell(i, "says goodbye and leaves");
            }
            What::Return(i) => {
                self.actors[i].reenter(self.dir.path(), i).await?;
                self.wire(i)?;
                self.actors[i].greet(i).await?;
                self.tell(i, "is back, in its next epoch");
            }
            What::Kill(i) => {
                let mut others = self.others(i);
                others.extend(self.servers.addresses());
                self.actors[i].kill(&others).await?;
                self.tell(i, "is killed: nothing more leaves its socket");
            }
            What::Crash(i) => self.crash(i).await?,
        }
        Ok(())
    }

    fn others(&self, i: usize) -> Vec<SocketAddr> {
        self.actors.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, a)| a.quic).collect()
    }

    fn tell(&mut self, i: usize, what: &str) {
        self.say(&format!("{} {what}", self.actors[i].name));
    }

    fn say(&mut self, what: &str) {
        let at = Clock.now().since(self.begin).as_secs_f64();
        self.news.push_back(format!("{at:6.1} s  {what}"));
    }

    /// A server is killed.
    async fn crash(&mut self, i: usize) -> anyhow::Result<()> {
        let at_home: Vec<_> = self.homes().await.into_iter().filter_map(|(peer, home)| Some((peer, home?))).collect();
        let agents: Vec<SocketAddr> = self.actors.iter().map(|a| a.quic).collect();
        let Some(id) = self.servers.kill(i, &agents)? else { return Ok(()) };
        let orphans: Vec<_> = at_home.into_iter().filter(|(_, home)| *home == id).map(|(peer, _)| peer).collect();
        let name = self.servers.0[i].name;
        self.say(&format!("server {name} is killed, the home of {}", self.names(&orphans)));
        self.crash = Some(Crash { name, id, at: Clock.now(), orphans, rehomed: None });
        Ok(())
    }

    fn names(&self, peers: &[PeerId]) -> String {
        let names: Vec<&str> = self.actors.iter().filter(|a| peers.contains(&a.peer)).map(|a| a.name).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
    }

    /// The homes of those that are here; `None`: it has none just now.
    async fn homes(&mut self) -> Vec<(PeerId, Option<ServerId>)> {
        let mut homes = Vec::new();
        for actor in self.actors.iter_mut().filter(|a| a.running.is_some()) {
            actor.look().await;
            homes.push((actor.peer, actor.home()));
        }
        homes
    }

    /// Some agents of a server that was killed have no home yet.
    pub fn is_rehoming(&self) -> bool {
        self.crash.as_ref().is_some_and(|crash| crash.rehomed.is_none())
    }

    /// Looks whether all of them have one; by their own word. Meanwhile nobody must be shown as gone.
    pub async fn look_for_homes(&mut self) {
        self.account().await;
        let homes = self.homes().await;
        let Some(crash) = self.crash.as_mut().filter(|crash| crash.rehomed.is_none()) else { return };
        let homeless = homes.iter().filter(|(peer, _)| crash.orphans.contains(peer));
        if homeless.map(|(_, home)| home).any(|home| home.is_none_or(|home| home == crash.id)) {
            return;
        }
        let after = Clock.now().since(crash.at);
        crash.rehomed = Some(after);
        let orphans = crash.orphans.clone();
        let who = self.names(&orphans);
        self.say(&format!("{who} moved by themselves: all have a home again after {:.2} s", after.as_secs_f64()));
    }

    /// What the servers say of everybody, against what everybody says.
    async fn account(&mut self) -> Account {
        let peers: Vec<PeerId> = self.actors.iter().map(|a| a.peer).collect();
        let told = self.servers.told(&peers).await;
        // After the servers: what has ended meanwhile is on its way.
        self.actors.iter_mut().for_each(Actor::take_records);
        self.wronged.extend(wrongly_gone(&self.actors, &told));
        compare(&self.actors, &told)
    }

    pub async fn scene(&mut self) -> Scene {
        let mut seen: BTreeMap<PeerId, BTreeMap<&'static str, usize>> = BTreeMap::new();
        for actor in &mut self.actors {
            actor.look().await;
            for buddy in actor.running.iter().flat_map(|_| actor.last_view.iter().flat_map(|v| &v.buddies)) {
                let word = buddy.liveness.map_or("?", Liveness::as_str);
                *seen.entry(buddy.peer).or_default().entry(word).or_default() += 1;
            }
        }
        let peers: Vec<PeerId> = self.actors.iter().map(|a| a.peer).collect();
        let account = self.account().await;
        let homes: Vec<ServerId> = self.homes().await.into_iter().filter_map(|(_, home)| home).collect();
        let homes: Vec<_> = homes.into_iter().filter(|home| self.servers.is_alive(*home)).collect();
        let told = self.servers.told(&peers).await.into_iter().next().map(|told| told.peers).unwrap_or_default();
        let rows = self.actors.iter().map(|actor| {
            let at_home = told.get(&actor.peer);
            Row {
                name: actor.name,
                status: at_home.and_then(|p| p.peer.presence.as_ref()).map(|presence| presence.status),
                liveness: at_home.map(|p| p.home.liveness),
                seen: seen.get(&actor.peer).cloned().unwrap_or_default(),
                ledger: actor.ledger(),
                rtt: times(actor.kept.values().flatten()),
            }
        });
        let rows = rows.collect();
        let (servers, wrongly_gone) = (self.servers.rows(&homes).await, self.wronged.len());
        Scene { rows, servers, account, wrongly_gone, crash: self.crash.as_ref().map(Crash::told) }
    }

    pub fn pairs(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (i, from) in self.actors.iter().enumerate() {
            for (j, to) in self.actors.iter().enumerate().filter(|(j, _)| *j != i) {
                let times = from.kept.get(&to.peer).and_then(|records| times(records.iter()));
                let [queued_ms, network_ms, remote_hold_ms, local_wait_ms] = times.map_or([None; 4], |t| t.parts);
                pairs.push(Pair {
                    from: from.name,
                    to: to.name,
                    emulated_ms: round_trip_ms(i, j),
                    total_ms: times.map(|t| t.p50),
                    queued_ms,
                    network_ms,
                    remote_hold_ms,
                    local_wait_ms,
                });
            }
        }
        pairs
    }

    /// Everybody leaves in good order, all at once: each waits a while for the one that was killed. Then the servers are asked
    /// what they have counted. `servers` is what was seen of them before.
    pub async fn strike(mut self, servers: Vec<ServerRow>) -> Cluster {
        let looks = || tokio::time::interval(MEETING_LOOK);
        let rehomed = async {
            let mut looks = looks();
            while self.is_rehoming() {
                looks.tick().await;
                self.look_for_homes().await;
            }
        };
        let _ = timeout(END_PATIENCE, rehomed).await;
        let mut leaving = JoinSet::new();
        for mut actor in std::mem::take(&mut self.actors) {
            leaving.spawn(async move {
                actor.leave().await;
                actor
            });
        }
        while let Some(actor) = leaving.join_next().await {
            self.actors.extend(actor);
        }
        let settled = async {
            let mut looks = looks();
            while self.account().await.missing > 0 {
                looks.tick().await;
            }
        };
        let _ = timeout(END_PATIENCE, settled).await;
        let Account { missing, doubled, .. } = self.account().await;
        let cluster = Cluster {
            servers,
            killed: self.crash.as_ref().map(|crash| crash.name),
            rehomed_ms: self.crash.as_ref().and_then(|crash| crash.rehomed).map(|after| after.as_millis() as u64),
            records_lost: missing,
            records_doubled: doubled,
            wrongly_gone: self.wronged.len(),
        };
        self.servers.stop().await;
        cluster
    }
}

impl Crash {
    fn told(&self) -> String {
        let n = self.orphans.len();
        let rehomed = match self.rehomed {
            Some(after) => format!("all have a home again after {:.2} s", after.as_secs_f64()),
            None => format!("{:.1} s ago, not all have a home yet", Clock.now().since(self.at).as_secs_f64()),
        };
        format!("{} was killed, the home of {n}: {rehomed}", self.name)
    }
}

impl Scene {
    pub fn ledgers(&self) -> Vec<NamedLedger> {
        self.rows.iter().map(|r| NamedLedger { name: r.name, ledger: r.ledger }).collect()
    }
}

/// Quantiles of what was measured; `None` if nothing was.
fn times<'a>(records: impl Iterator<Item = &'a Record>) -> Option<Times> {
    let records: Vec<&Record> = records.collect();
    let of = |ns: &dyn Fn(&Record) -> Option<u64>| {
        let mut sorted: Vec<u64> = records.iter().filter_map(|r| ns(r)).collect();
        sorted.sort_unstable();
        sorted
    };
    let total = of(&|r| r.total_ns);
    let parts = Part::EXCHANGE.map(|part| quantile(&of(&|r| r.stages.get(part)), 0.5));
    Some(Times { p50: quantile(&total, 0.5)?, p99: quantile(&total, 0.99)?, parts })
}

/// In ms, from sorted ns.
fn quantile(sorted: &[u64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[((last as f64) * q).round() as usize] as f64 / 1e6)
}
