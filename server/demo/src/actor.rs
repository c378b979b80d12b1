//! An agent of the play, and what it says of itself.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use pams_agent::{
    config::{Config, Http},
    core::View,
    shell::{Options, Running, start},
};
use pams_shared::{
    id::{PeerId, ServerId},
    record::{Kind, Ledger, Outcome, Record},
    sim::Link,
};
use tokio::sync::mpsc;

use crate::{cast::CAST, stage::LOOPBACK};

/// Quick, so that a minute shows a lot; the default is 10 s.
const INTERVAL: Duration = Duration::from_secs(1);
/// Records kept of each pair: the last quarter of an hour.
const KEPT: usize = 1_000;
const KILLED: &str = "killed";

pub struct Actor {
    pub name: &'static str,
    pub peer: PeerId,
    pub quic: SocketAddr,
    /// `None`: not here.
    pub running: Option<Running>,
    records: mpsc::Receiver<Record>,
    /// Sum of the lives that have ended.
    past: Ledger,
    /// All pings that have ended, in all lives.
    pub closed: Ledger,
    pub last_view: Option<View>,
    pub kept: BTreeMap<PeerId, VecDeque<Record>>,
    pub gone: Option<&'static str>,
}

impl Actor {
    pub async fn enter(dir: &Path, i: usize, token: Option<&str>, listen: SocketAddr) -> anyhow::Result<Self> {
        let name = CAST[i].name;
        let (tap, records) = mpsc::channel(4_096);
        let mut config = Config {
            name: Some(name.into()),
            data_dir: dir.join(name),
            socket: Some(dir.join(format!("{name}.sock"))),
            listen,
            http: Http::At(LOOPBACK.parse()?),
            overlays: vec!["demo".into()],
            ..Config::default()
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
        let (past, closed, last_view, kept) = (Ledger::default(), Ledger::default(), None, BTreeMap::new());
        Ok(Self { name, peer, quic, running, records, past, closed, last_view, kept, gone: None })
    }

    pub async fn reenter(&mut self, dir: &Path, i: usize) -> anyhow::Result<()> {
        let new = Self::enter(dir, i, None, self.quic).await?;
        let old = std::mem::replace(self, new);
        (self.past, self.closed, self.kept) = (old.past, old.closed, old.kept);
        Ok(())
    }

    pub async fn greet(&self, i: usize) -> anyhow::Result<()> {
        if let Some(running) = &self.running {
            running.handle.publish(CAST[i].status, CAST[i].note.map(Into::into)).await?;
        }
        Ok(())
    }

    /// Takes in what has happened since the last look.
    pub async fn look(&mut self) {
        if let Some(running) = &self.running
            && let Ok(view) = running.handle.view().await
        {
            self.last_view = Some(view);
        }
        self.take_records();
    }

    pub fn take_records(&mut self) {
        while let Ok(record) = self.records.try_recv() {
            if record.kind != Kind::Ping {
                continue;
            }
            self.closed.count(record.outcome);
            if record.outcome == Outcome::Good {
                let kept = self.kept.entry(PeerId(record.target)).or_default();
                kept.push_back(record);
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        }
    }

    pub fn ledger(&self) -> Ledger {
        let mut ledger = self.past;
        if let Some(view) = &self.last_view {
            ledger.add(&ping_ledger(view));
        }
        ledger
    }

    /// Its home, by its own word; `None`: it has none just now.
    pub fn home(&self) -> Option<ServerId> {
        self.last_view.as_ref().filter(|v| v.home.connected).and_then(|v| v.home.server)
    }

    pub async fn leave(&mut self) {
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
    pub async fn kill(&mut self, others: &[SocketAddr]) -> anyhow::Result<()> {
        self.look().await;
        let Some(running) = self.running.take() else { return Ok(()) };
        for address in others {
            running.udp.emulate(*address, Link::PARTITION)?;
        }
        drop(running);
        self.take_records();
        self.gone = Some(KILLED);
        Ok(())
    }

    pub fn was_killed(&self) -> bool {
        self.gone == Some(KILLED)
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
