//! The figures of several servers: three real processes on this machine, each this program carrying the server, moved by
//! lines of JSON on their standard input and answering on their output.

mod bare;
mod copy;
mod failover;
mod idle;
mod load;
mod node;
mod partition;
mod share;
mod tap;

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use pams_shared::{frame::Role, id::ServerId};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep},
};

use self::node::{Ask, Origin, Ready, Setting};
pub use self::{
    bare::receive as bare,
    copy::{copy, directory},
    failover::measure as failover,
    idle::measure as idle,
    node::node,
    partition::measure as partition,
    share::measure as share,
};
use crate::{
    daemons::token_for,
    proc::{myself, quantile},
};

/// How long servers may take to know and follow each other.
const MEET: Duration = Duration::from_secs(20);

/// A server in a process of its own; killed when dropped.
struct Node {
    ready: Ready,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// A new server; `token`: of the cluster that it joins.
    async fn start(dir: &Path, setting: Setting, token: Option<&str>) -> anyhow::Result<Self> {
        let setting = serde_json::to_string(&setting)?;
        let dir = dir.display().to_string();
        let mut args = vec!["role", "node", &dir, &setting];
        args.extend(token);
        let mut child = Command::new(myself()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take().context("piped")?, child.stdout.take().context("piped")?);
        let mut lines = BufReader::new(stdout).lines();
        let Some(line) = lines.next_line().await? else { bail!("a server of the cluster did not start") };
        let ready = serde_json::from_str(&line).with_context(|| format!("not what a node says first: {line}"))?;
        Ok(Self { ready, child, stdin, lines })
    }

    /// Has it do something, and waits for its answer.
    async fn ask<T: DeserializeOwned>(&mut self, ask: Ask) -> anyhow::Result<T> {
        self.stdin.write_all(format!("{}\n", serde_json::to_string(&ask)?).as_bytes()).await?;
        let line = self.lines.next_line().await?.with_context(|| format!("a server ended when asked to {ask:?}"))?;
        serde_json::from_str(&line).with_context(|| format!("not the answer to {ask:?}: {line}"))
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("it runs")
    }

    async fn origins(&mut self) -> anyhow::Result<Vec<Origin>> {
        self.ask(Ask::Origins).await
    }

    /// How it stands with what that server shares.
    async fn origin(&mut self, of: ServerId) -> anyhow::Result<Option<Origin>> {
        Ok(self.origins().await?.into_iter().find(|origin| origin.owner == of))
    }
}

/// So many servers that know each other, the first with the root's key.
async fn cluster(dir: &Path, setting: Setting, servers: usize) -> anyhow::Result<Vec<Node>> {
    let mut nodes = vec![Node::start(&dir.join("s1"), setting, None).await?];
    for n in 2..=servers {
        let token = token(dir, nodes[0].ready.quic)?;
        nodes.push(Node::start(&dir.join(format!("s{n}")), setting, Some(&token)).await?);
    }
    meet(&mut nodes).await?;
    Ok(nodes)
}

/// A token of the first server, for another.
fn token(dir: &Path, first: SocketAddr) -> anyhow::Result<String> {
    token_for(&dir.join("s1"), &first.to_string(), Role::Server)
}

/// Waits until each has caught up with each other.
async fn meet(nodes: &mut [Node]) -> anyhow::Result<()> {
    let (deadline, all) = (Instant::now() + MEET, nodes.len());
    loop {
        let mut met = 0;
        for node in nodes.iter_mut() {
            met += node.origins().await?.iter().filter(|origin| origin.caught_up).count();
        }
        if met == all * all {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the servers did not find each other within {} s", MEET.as_secs());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lags in us as a line shows them.
#[derive(Clone, Copy, Debug, Default, Serialize, serde::Deserialize)]
struct Lags {
    count: usize,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

impl Lags {
    fn of(us: &[f64]) -> Self {
        let of = |q| if us.is_empty() { 0.0 } else { quantile(us, q) };
        Self { count: us.len(), p50_us: of(0.5), p99_us: of(0.99), max_us: of(1.0) }
    }
}

impl std::fmt::Display for Lags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2} ms, p99 {:.2} ms", self.p50_us / 1e3, self.p99_us / 1e3)
    }
}

/// What else this machine is busy with: absolute times hold only on a quiet one.
fn busy() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    let pressure = read("/proc/pressure/cpu");
    let some = pressure.split_whitespace().find_map(|word| word.strip_prefix("avg10=")).unwrap_or("?");
    format!("load {}, waiting for a core in {some} % of 10 s", load.split_whitespace().next().unwrap_or("?"))
}

fn bar(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
