//! Agents: in the test's process, where their sockets and handles can be reached, or each in a process of its own, which
//! can be killed.

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use pams_agent::{
    config::{Buddy, Config, Http},
    core::{BuddyView, View},
    shell::{Options, Running, start},
};
use pams_shared::{
    control::{Control, target},
    expo::Exposition,
    id::PeerId,
    identity::AgentIdentity,
    record::{Kind, Ledger, Record},
    sim::Link,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::mpsc,
};

use crate::{
    harness::{LOOPBACK, Stopped, eventually, free_port},
    http::scrape,
};

/// Records that a test may make.
const RECORDS_MAX: usize = 65_536;

/// Where an agent lives: its directory, its id, its address. It can be started there again and again.
#[derive(Clone)]
pub struct Seat {
    pub peer: PeerId,
    pub at: SocketAddr,
    pub config: Config,
    pub answer_after: Duration,
}

impl Seat {
    /// In the folder `name` of `dir`; asks its buddies five times a second. To make its id here counts as its first epoch.
    pub fn new(dir: &Path, name: &str) -> Self {
        let data_dir = dir.join(name);
        let peer = AgentIdentity::open(&data_dir).unwrap().peer_id();
        let at = free_port();
        let mut config = Config {
            name: Some(name.into()),
            data_dir,
            socket: Some(dir.join(format!("{name}.sock"))),
            listen: at,
            http: Http::At(LOOPBACK),
            overlays: vec!["games/chess".into()],
            ..Config::default()
        };
        config.ping.interval = Duration::from_millis(200);
        // Tests say who watches whom; those of rosters let the home.
        config.limits.roster = 0;
        Self { peer, at, config, answer_after: Duration::ZERO }
    }

    /// A line of others' rosters.
    pub fn buddy(&self) -> Buddy {
        Buddy { id: self.peer, name: self.config.name.clone(), addresses: vec![self.at.into()], subscribe: false }
    }

    pub fn watches(mut self, others: &[&Seat]) -> Self {
        self.config.buddy.extend(others.iter().map(|s| s.buddy()));
        self
    }

    /// Watches them, and is told of them.
    pub fn subscribes(mut self, others: &[&Seat]) -> Self {
        self.config.buddy.extend(others.iter().map(|s| Buddy { subscribe: true, ..s.buddy() }));
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    pub async fn start(&self, token: Option<&str>) -> Peer {
        self.try_start(token).await.unwrap()
    }

    pub async fn try_start(&self, token: Option<&str>) -> anyhow::Result<Peer> {
        let (tap, records) = mpsc::channel(RECORDS_MAX);
        let options = Options {
            join: token.map(Into::into),
            tap: Some(tap),
            answer_after: self.answer_after,
            ..Options::default()
        };
        let running = start(self.config.clone(), options).await?;
        Ok(Peer { peer: self.peer, at: self.at, running, records: Mutex::new((records, Vec::new())) })
    }

    /// In a process of its own.
    pub async fn spawn(&self, token: Option<&str>) -> Process {
        Process::start(self, token).await
    }
}

/// An agent in this process; ends without a goodbye when dropped.
pub struct Peer {
    pub peer: PeerId,
    pub at: SocketAddr,
    pub running: Running,
    records: Mutex<(mpsc::Receiver<Record>, Vec<Record>)>,
}

impl Peer {
    pub async fn view(&self) -> View {
        self.running.handle.view().await.unwrap()
    }

    pub async fn buddy(&self, peer: PeerId) -> BuddyView {
        self.view().await.buddies.into_iter().find(|b| b.peer == peer).expect("a buddy")
    }

    /// Waits until a buddy is as wanted.
    pub async fn until(&self, what: &str, buddy: PeerId, wanted: impl Fn(&BuddyView) -> bool) -> BuddyView {
        eventually(what, async || Some(self.buddy(buddy).await).filter(&wanted)).await
    }

    pub async fn pings(&self) -> Ledger {
        let view = self.view().await;
        view.ledgers.into_iter().find(|l| l.kind == Kind::Ping).unwrap().ledger
    }

    /// The pings that have ended so far.
    pub fn records(&self) -> Vec<Record> {
        self.records_of(&Kind::Ping)
    }

    /// Those of one kind.
    pub fn records_of(&self, kind: &Kind) -> Vec<Record> {
        self.taken().1.iter().filter(|r| r.kind == *kind).cloned().collect()
    }

    fn taken(&self) -> MutexGuard<'_, (mpsc::Receiver<Record>, Vec<Record>)> {
        let mut guard = self.records.lock().unwrap();
        let (from, to) = &mut *guard;
        to.extend(std::iter::from_fn(|| from.try_recv().ok()));
        guard
    }

    /// `count` answered pings, one after the other.
    pub async fn ping(&self, peer: PeerId, count: usize) -> Vec<Record> {
        let mut records = Vec::new();
        for _ in 0..count {
            records.push(self.running.handle.ping(peer).await.unwrap().unwrap());
        }
        records
    }

    pub fn emulate(&self, to: SocketAddr, link: Link) {
        self.running.udp.emulate(to, link).unwrap();
    }

    pub async fn scrape(&self) -> Exposition {
        scrape(self.running.ready.http.unwrap()).await
    }

    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scrape().await.value(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    }

    /// Leaves in good order; gives all pings that have ended, those that the end itself closed among them.
    pub async fn stop(self) -> Vec<Record> {
        self.running.stop().await;
        let (mut from, mut to) = self.records.into_inner().unwrap();
        to.extend(std::iter::from_fn(|| from.try_recv().ok()));
        to.retain(|r| r.kind == Kind::Ping);
        to
    }
}

/// An agent in a process of its own; killed when dropped.
pub struct Process {
    child: Child,
    /// Held, so that it can write.
    _out: Lines<BufReader<ChildStdout>>,
    pub control: Control,
}

const CONFIG: &str = "PAMS_TEST_AGENT";
const TOKEN: &str = "PAMS_TEST_TOKEN";

impl Process {
    async fn start(seat: &Seat, token: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "peer::an_agent_in_a_process_of_its_own", "--ignored", "--nocapture"]);
        command.env(CONFIG, serde_json::to_string(&seat.config).unwrap()).kill_on_drop(true);
        if let Some(token) = token {
            command.env(TOKEN, token);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        eventually("the agent's process serves", async || {
            let line = out.next_line().await.unwrap().expect("it starts");
            line.ends_with("serves").then_some(())
        })
        .await;
        Self { child, _out: out, control: Control::new(seat.config.socket_path(), "pams-agent") }
    }

    /// As `kill -9`; returns once the process is no more.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// The agent does not run until this is dropped.
    pub fn stopped(&self) -> Stopped {
        Stopped::of(&self.child)
    }

    pub async fn status(&self) -> Value {
        self.control.get("/v1/status").await.unwrap()
    }

    /// The ledger of its pings.
    pub async fn pings(&self) -> Ledger {
        let status = self.status().await;
        let ledgers = status["ledgers"].as_array().unwrap();
        crate::harness::ledger_of(ledgers.iter().find(|l| l["kind"] == Kind::Ping.as_str()).unwrap())
    }

    /// One ping, waited for.
    pub async fn ping(&self, peer: PeerId) -> Result<Value, pams_shared::control::ControlError> {
        self.control.post(&target(&["v1", "ping", &peer.to_string()], &[]), &serde_json::json!({})).await
    }
}

/// No test: what [`Process`] runs.
#[tokio::test]
#[ignore = "other tests start it, as an agent in a process of its own"]
async fn an_agent_in_a_process_of_its_own() {
    let Ok(config) = std::env::var(CONFIG) else { return };
    let options = Options {
        join: std::env::var(TOKEN).ok(),
        ready: Some(Box::new(|_| println!("serves"))),
        ..Options::default()
    };
    // Until whoever started it is gone.
    let shutdown = async { drop(tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await) };
    pams_agent::shell::run(serde_json::from_str(&config).unwrap(), options, shutdown).await.unwrap();
}
