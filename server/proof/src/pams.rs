//! The daemons of a lab, from outside: started, signalled, and asked through their control sockets.

use std::{
    fs::File,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pams_agent::config::{Buddy, Config, Http};
use pams_server::config::{Config as ServerConfig, admin_socket};
use pams_shared::{
    control::{Control, target},
    id::PeerId,
    identity::AgentIdentity,
    record::{Kind, Ledger},
    status::Status,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{
    lab::Lab,
    role::{AgentRole, Hearing, Order, Published, ServerRole},
    stages::Exchange,
};

/// The ports of QUIC, as they are by default.
pub(crate) const AGENT_PORT: u16 = 7421;
pub(crate) const SERVER_PORT: u16 = 7420;
/// What anything may take that takes no time; longer, and it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A role in a process of its own on a host; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    out: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it; gives the line with which it says that it serves.
    pub(crate) async fn start(
        lab: &Lab,
        host: &str,
        role: &str,
        what: &impl Serialize,
    ) -> anyhow::Result<(Self, Value)> {
        let file = lab.dir.path().join(format!("{host}.json"));
        std::fs::write(&file, serde_json::to_vec(what)?)?;
        let log = File::options().append(true).create(true).open(lab.log_path(host))?;
        let mut command = lab.role(host);
        command.args(["role", role]).arg(file).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let out = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let mut process = Self { child, stdin, out };
        let ready = process.line().await.with_context(|| format!("{role} on {host}: {}", lab.logs(5)))?;
        Ok((process, ready))
    }

    async fn line(&mut self) -> anyhow::Result<Value> {
        let line = tokio::time::timeout(PATIENCE, self.out.next_line()).await.context("it said nothing in time")??;
        Ok(serde_json::from_str(&line.context("it ended")?)?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().context("it runs")?;
        Ok(kill(Pid::from_raw(pid.cast_signed()), signal)?)
    }

    /// One order, and its answer.
    pub(crate) async fn order<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> anyhow::Result<T> {
        let line = serde_json::to_string(order)? + "\n";
        self.stdin.write_all(line.as_bytes()).await?;
        Ok(serde_json::from_value(self.line().await?)?)
    }

    pub(crate) async fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.signal(signal)?;
        self.ended().await
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it did not end in time")??;
        Ok(())
    }
}

/// The server of a lab.
pub struct Home {
    process: Process,
    control: Control,
    /// Lets as many agents join as a scenario may have.
    pub token: String,
}

impl Home {
    /// Starts it on `host`; again in the same directory after [`kill`](Self::kill), then with the token of before.
    pub async fn start(lab: &Lab, host: &str) -> anyhow::Result<Self> {
        let config = ServerConfig {
            data_dir: lab.folder(host),
            listen: lab.at(host, SERVER_PORT),
            http: pams_server::config::Http::Off,
            ..ServerConfig::default()
        };
        let control = Control::new(admin_socket(&config.data_dir), "pams-server");
        let (process, ready) = Process::start(lab, host, "server", &ServerRole { config, join: None }).await?;
        let token = ready["token"].as_str().unwrap_or_default().to_owned();
        Ok(Self { process, control, token })
    }

    /// As `kill -9`.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.end(Signal::SIGKILL).await
    }

    /// All that is known of a peer; `None`: nothing.
    pub async fn peer(&self, peer: PeerId) -> Option<Value> {
        self.control.get(&target(&["api", "v1", "peers", &peer.to_string()], &[])).await.ok()
    }

    pub async fn liveness(&self, peer: PeerId) -> Option<String> {
        Some(self.peer(peer).await?["liveness"].as_str()?.to_owned())
    }

    /// The ledger of a peer's pings; empty if nothing is known of it.
    pub async fn pings_of(&self, peer: PeerId) -> Ledger {
        let detail = self.peer(peer).await.unwrap_or_default();
        serde_json::from_value(detail["ledger"][Kind::Ping.as_str()].clone()).unwrap_or_default()
    }
}

/// Where an agent lives. It can be started there again and again.
#[derive(Clone)]
pub struct Seat {
    pub peer: PeerId,
    pub host: &'static str,
    pub config: Config,
    pub answer_after: Duration,
    buddy: Buddy,
    records: PathBuf,
    told: PathBuf,
}

impl Seat {
    /// On `host`, with the defaults. To make its id here counts as its first epoch.
    pub fn new(lab: &Lab, host: &'static str) -> anyhow::Result<Self> {
        let data_dir = lab.folder(host);
        let peer = AgentIdentity::open(&data_dir)?.peer_id();
        let config = Config {
            name: Some(host.into()),
            data_dir,
            socket: Some(lab.dir.path().join(format!("{host}.sock"))),
            listen: (Ipv6Addr::UNSPECIFIED, AGENT_PORT).into(),
            http: Http::Off,
            ..Config::default()
        };
        let buddy = Buddy {
            id: peer,
            name: Some(host.into()),
            addresses: vec![lab.at(host, AGENT_PORT).into()],
            subscribe: false,
        };
        let file = |kind| lab.dir.path().join(format!("{host}.{kind}"));
        Ok(Self {
            peer,
            host,
            config,
            answer_after: Duration::ZERO,
            buddy,
            records: file("records"),
            told: file("told"),
        })
    }

    pub fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Asks each buddy so often, and waits `deadline` for an answer.
    pub fn pings(self, interval: Duration, deadline: Duration) -> Self {
        self.with(|c| (c.ping.interval, c.ping.retry, c.ping.deadline) = (interval, interval, deadline))
    }

    pub fn watches(mut self, others: &[&Seat]) -> Self {
        self.config.buddy.extend(others.iter().map(|s| s.buddy.clone()));
        self
    }

    /// Watches peers, and is told of each change of their presence.
    pub fn subscribes(mut self, others: &[&Seat]) -> Self {
        self.config.buddy.extend(others.iter().map(|s| Buddy { subscribe: true, ..s.buddy.clone() }));
        self
    }

    /// Watches peers whose addresses only their home knows.
    pub fn asks_home_for(mut self, others: &[&Seat]) -> Self {
        self.config.buddy.extend(others.iter().map(|s| Buddy { addresses: Vec::new(), ..s.buddy.clone() }));
        self
    }

    /// The latest that this agent says of a buddy that it is gone, once it has fallen silent: a ping that is just answered,
    /// the next at its latest, and the third miss (`shared/src/presence/watcher`).
    pub fn gone_within(&self) -> Duration {
        let ping = &self.config.ping;
        ping.interval.mul_f64(1.1) + ping.deadline * 2 + ping.retry.mul_f64(2.1)
    }

    /// The earliest: it must have been silent for so long.
    pub fn silence(&self) -> Duration {
        self.config.ping.interval.mul_f64(1.1) + self.config.ping.deadline
    }

    /// Starts it; at the first start with a token.
    pub async fn start(&self, lab: &Lab, token: Option<&str>) -> anyhow::Result<Agent> {
        let role = AgentRole {
            config: self.config.clone(),
            join: token.map(Into::into),
            answer_after: self.answer_after,
            records: self.records.clone(),
            told: self.told.clone(),
        };
        let (process, _) = Process::start(lab, self.host, "agent", &role).await?;
        let control = Control::new(self.config.socket_path(), "pams-agent").within(PATIENCE);
        Ok(Agent { peer: self.peer, process, control })
    }

    /// All pings that have ended so far, of all its lives, as its own file has them.
    pub fn records(&self) -> anyhow::Result<Vec<Exchange>> {
        self.records_of(&Kind::Ping)
    }

    /// The same of another kind.
    pub fn records_of(&self, kind: &Kind) -> anyhow::Result<Vec<Exchange>> {
        let all: Vec<Exchange> = lines_of(&self.records)?;
        Ok(all.into_iter().filter(|e| e.kind == kind.as_str()).collect())
    }

    /// All that its subscriptions told so far.
    pub fn told(&self) -> anyhow::Result<Vec<Hearing>> {
        lines_of(&self.told)
    }
}

/// What was written whole; a process that was killed may leave half a line.
fn lines_of<T: DeserializeOwned>(file: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let all = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(serde_json::from_str);
    Ok(all.collect::<Result<_, _>>()?)
}

/// A running agent; killed when dropped.
pub struct Agent {
    pub peer: PeerId,
    process: Process,
    pub control: Control,
}

impl Agent {
    pub async fn status(&self) -> anyhow::Result<Value> {
        Ok(self.control.get("/v1/status").await?)
    }

    /// The ledger of its pings.
    pub async fn pings(&self) -> anyhow::Result<Ledger> {
        let status = self.status().await?;
        let of_pings = |l: &&Value| l["kind"] == Kind::Ping.as_str();
        let ledger = status["ledgers"].as_array().and_then(|all| all.iter().find(of_pings));
        Ok(serde_json::from_value(ledger.context("an agent has a ledger of pings")?.clone())?)
    }

    /// What it says of a buddy.
    pub async fn buddy(&self, peer: PeerId) -> anyhow::Result<Value> {
        let answer: Value = self.control.get("/v1/buddies").await?;
        let is_it = |b: &&Value| b["peer"] == peer.to_string();
        Ok(answer["buddies"].as_array().and_then(|all| all.iter().find(is_it)).context("no such buddy")?.clone())
    }

    /// What it says of one who is told of its presence.
    pub async fn subscriber(&self, peer: PeerId) -> anyhow::Result<Value> {
        let answer: Value = self.control.get("/v1/subscribers").await?;
        let is_it = |s: &&Value| s["peer"] == peer.to_string();
        let all = answer["subscribers"].as_array();
        Ok(all.and_then(|all| all.iter().find(is_it)).context("no such subscriber")?.clone())
    }

    /// Whether it takes a buddy for `liveness`.
    pub async fn takes_for(&self, peer: PeerId, liveness: &str) -> bool {
        self.buddy(peer).await.is_ok_and(|b| b["liveness"] == liveness)
    }

    /// One ping, waited for; `None`: it was not answered.
    pub async fn ping(&self, peer: PeerId) -> Option<Exchange> {
        ask(self.control.clone(), peer).await
    }

    /// One ping that waits for the agent's thread before it leaves.
    pub async fn stalled_ping(&mut self, peer: PeerId, stall: Duration) -> anyhow::Result<Option<Exchange>> {
        self.process.order(&Order::Stall { peer, stall }).await
    }

    /// Publishes a status, and says when.
    pub async fn publish(&mut self, status: Status) -> anyhow::Result<Published> {
        self.process.order(&Order::Publish { status }).await
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// As `kill -9`.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.process.end(Signal::SIGKILL).await
    }

    /// Leaves in good order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.end(Signal::SIGTERM).await
    }
}

/// One ping, asked for through a control socket.
pub async fn ask(control: Control, peer: PeerId) -> Option<Exchange> {
    control.post(&target(&["v1", "ping", &peer.to_string()], &[]), &serde_json::json!({})).await.ok()
}

/// Waits until something holds; gives how long that took.
pub async fn until(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) -> anyhow::Result<Duration> {
    let clock = pams_shared::clock::Clock;
    let begin = clock.now();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if holds().await {
            return Ok(clock.now().since(begin));
        }
        if clock.now().since(begin) > patience {
            bail!("not within {} s: {what}", patience.as_secs_f64());
        }
    }
}
