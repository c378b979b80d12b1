//! Sets the scene up with the real things, plays the plot, and looks at it through the doors that everybody has.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use pams_agent::{
    config::{Config as AgentConfig, Http},
    core::View,
    shell::{Options, Running, start},
};
use pams_server::{config::Config as ServerConfig, shell as server};
use pams_shared::{
    clock::Clock,
    id::PeerId,
    moment::Moment,
    record::{Kind, Ledger, Outcome, Record, Stage as Part},
    sim::Link,
    status::{Liveness, Status},
};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::cast::{CAST, Turn, What, link, round_trip_ms};

const LOOPBACK: &str = "127.0.0.1:0";
/// Quick, so that a minute shows a lot; the default is 10 s.
const INTERVAL: Duration = Duration::from_secs(1);
/// Until each has pinged each other once.
const MEETING_PATIENCE: Duration = Duration::from_secs(30);
const MEETING_LOOK: Duration = Duration::from_millis(50);
/// Records kept of each pair: the last quarter of an hour.
const KEPT: usize = 1_000;

pub struct Stage {
    dir: tempfile::TempDir,
    pub server: server::Running,
    pub actors: Vec<Actor>,
    pub news: VecDeque<String>,
    begin: Moment,
}

pub struct Actor {
    pub name: &'static str,
    pub peer: PeerId,
    pub quic: SocketAddr,
    /// `None`: not here.
    running: Option<Running>,
    records: mpsc::Receiver<Record>,
    /// Sum of the lives that have ended.
    past: Ledger,
    last_view: Option<View>,
    kept: BTreeMap<PeerId, VecDeque<Record>>,
    pub gone: Option<&'static str>,
}

/// What can be seen at one moment.
pub struct Scene {
    pub rows: Vec<Row>,
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
    /// Starts the server, lets everybody join, and emulates the network between them.
    pub async fn set() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut server_config = ServerConfig {
            data_dir: dir.path().join("pams"),
            listen: LOOPBACK.parse()?,
            http: pams_server::config::Http::At(LOOPBACK.parse()?),
            name: Some("pams".into()),
            ..ServerConfig::default()
        };
        // There are no agents of before to wait for, so that the overlay's rosters are told at once.
        server_config.pace.grace = Some(Duration::ZERO);
        let server = server::start(server_config, server::Options::default()).await?;
        let token = server.ready.first_token.as_ref().context("a new server makes a token")?.to_string();
        let mut actors = Vec::new();
        for i in 0..CAST.len() {
            // All are in one overlay: whom to watch, the home says.
            actors.push(Actor::enter(dir.path(), i, Some(&token), LOOPBACK.parse()?).await?);
        }
        let mut stage = Self { dir, server, actors, news: VecDeque::new(), begin: Clock.now() };
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
                let others = self.others(i);
                self.actors[i].kill(&self.server.ready.quic, &others).await?;
                self.tell(i, "is killed: nothing more leaves its socket");
            }
        }
        Ok(())
    }

    fn others(&self, i: usize) -> Vec<SocketAddr> {
        self.actors.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, a)| a.quic).collect()
    }

    fn tell(&mut self, i: usize, what: &str) {
        let at = Clock.now().since(self.begin).as_secs_f64();
        self.news.push_back(format!("{at:6.1} s  {} {what}", self.actors[i].name));
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
        let home = self.server.handle.look(move |pams, now| {
            peers
                .iter()
                .map(|p| pams.peer(now, *p).map(|d| (d.peer.presence.map(|p| p.status), d.home.liveness)))
                .collect::<Vec<_>>()
        });
        let home = home.await.unwrap_or_default();
        let rows = self.actors.iter().enumerate().map(|(i, actor)| {
            let at_home = home.get(i).copied().flatten();
            Row {
                name: actor.name,
                status: at_home.and_then(|(status, _)| status),
                liveness: at_home.map(|(_, liveness)| liveness),
                seen: seen.get(&actor.peer).cloned().unwrap_or_default(),
                ledger: actor.ledger(),
                rtt: times(actor.kept.values().flatten()),
            }
        });
        Scene { rows: rows.collect() }
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

    /// Everybody leaves in good order, all at once: each waits a while for the one that was killed.
    pub async fn strike(self) {
        let mut leaving = JoinSet::new();
        for mut actor in self.actors {
            leaving.spawn(async move { actor.leave().await });
        }
        while leaving.join_next().await.is_some() {}
        self.server.stop().await;
    }
}

impl Scene {
    pub fn ledgers(&self) -> Vec<NamedLedger> {
        self.rows.iter().map(|r| NamedLedger { name: r.name, ledger: r.ledger }).collect()
    }
}

impl Actor {
    async fn enter(dir: &Path, i: usize, token: Option<&str>, listen: SocketAddr) -> anyhow::Result<Self> {
        let name = CAST[i].name;
        let (tap, records) = mpsc::channel(4_096);
        let mut config = AgentConfig {
            name: Some(name.into()),
            data_dir: dir.join(name),
            socket: Some(dir.join(format!("{name}.sock"))),
            listen,
            http: Http::At(LOOPBACK.parse()?),
            overlays: vec!["demo".into()],
            ..AgentConfig::default()
        };
        config.ping.interval = INTERVAL;
        let options = Options {
            join: token.map(Into::into),
            tap: Some(tap),
            answer_after: CAST[i].answer_after,
            ..Options::default()
        };
        let running = start(config, options).await.with_context(|| format!("agent {name}"))?;
        let (peer, quic) = (running.ready.peer, running.ready.quic);
        let running = Some(running);
        let (past, last_view, kept) = (Ledger::default(), None, BTreeMap::new());
        Ok(Self { name, peer, quic, running, records, past, last_view, kept, gone: None })
    }

    async fn reenter(&mut self, dir: &Path, i: usize) -> anyhow::Result<()> {
        let new = Self::enter(dir, i, None, self.quic).await?;
        let old = std::mem::replace(self, new);
        (self.past, self.kept) = (old.past, old.kept);
        Ok(())
    }

    async fn greet(&self, i: usize) -> anyhow::Result<()> {
        if let Some(running) = &self.running {
            running.handle.publish(CAST[i].status, CAST[i].note.map(Into::into)).await?;
        }
        Ok(())
    }

    /// Takes in what has happened since the last look.
    async fn look(&mut self) {
        if let Some(running) = &self.running
            && let Ok(view) = running.handle.view().await
        {
            self.last_view = Some(view);
        }
        self.take_records();
    }

    fn take_records(&mut self) {
        while let Ok(record) = self.records.try_recv() {
            if record.kind == Kind::Ping && record.outcome == Outcome::Good {
                let kept = self.kept.entry(PeerId(record.target)).or_default();
                kept.push_back(record);
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        }
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = self.past;
        if let Some(view) = &self.last_view {
            ledger.add(&ping_ledger(view));
        }
        ledger
    }

    async fn leave(&mut self) {
        self.look().await;
        let Some(running) = self.running.take() else { return };
        running.stop().await;
        self.take_records();
        // What was in flight at the goodbye is booked as unknown, as the agent itself does it.
        let mut last = self.last_view.take().map(|v| ping_ledger(&v)).unwrap_or_default();
        last.abandon();
        self.past.add(&last);
    }

    /// As kill -9 would: nothing more leaves its socket, and nothing is closed in good order.
    async fn kill(&mut self, home: &SocketAddr, others: &[SocketAddr]) -> anyhow::Result<()> {
        self.look().await;
        let Some(running) = self.running.take() else { return Ok(()) };
        for address in others.iter().chain([home]) {
            running.udp.emulate(*address, Link::PARTITION)?;
        }
        drop(running);
        self.gone = Some("killed");
        Ok(())
    }

    pub fn http(&self) -> Option<SocketAddr> {
        self.running.as_ref().and_then(|r| r.ready.http)
    }

    pub fn socket(&self) -> Option<&Path> {
        self.running.as_ref().map(|r| r.ready.socket.as_path())
    }
}

fn ping_ledger(view: &View) -> Ledger {
    view.ledgers.iter().find(|l| l.kind == Kind::Ping).map(|l| l.ledger).unwrap_or_default()
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
