//! The real `pams-server` program, in a process of its own with its own data directory.

use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Output, Stdio},
};

use pams_shared::{
    expo::Exposition,
    id::PeerId,
    record::{Kind, Ledger},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    harness::{LOOPBACK, PATIENCE, Stopped, eventually, ledger_of},
    http::{json, scrape, try_get},
};

/// A running server; killed when dropped. Agents keep their folders in its directory.
pub struct Pams {
    pub dir: TempDir,
    child: Child,
    /// Held, so that the server can write.
    _out: Lines<BufReader<ChildStdout>>,
    more: Vec<String>,
    pub quic: SocketAddr,
    pub http: SocketAddr,
    /// The line that the first start printed.
    pub join_line: Option<String>,
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pams-server"));
    command.env_clear().kill_on_drop(true);
    command
}

impl Pams {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With further flags; `KEY=VALUE` sets an environment variable.
    pub async fn with(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let more: Vec<String> = more.iter().map(ToString::to_string).collect();
        Self::run(dir, LOOPBACK, LOOPBACK, more, true).await
    }

    /// What one that does not start tells, and its exit code.
    pub async fn fails(more: &[&str]) -> (i32, String) {
        let dir = tempfile::tempdir().unwrap();
        let mut command = command();
        command.arg("--data-dir").arg(dir.path().join("home")).args(["--http", "off", "--log", "error"]);
        let output = command.args(["--listen", &LOOPBACK.to_string()]).args(more).output().await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    async fn run(dir: TempDir, quic: SocketAddr, http: SocketAddr, more: Vec<String>, first: bool) -> Self {
        let mut command = command();
        command.arg("--data-dir").arg(dir.path().join("home")).args(["--ready-json", "--log", "warn"]);
        command.args(["--listen", &quic.to_string(), "--http", &http.to_string()]);
        for word in &more {
            match word.split_once('=').filter(|(key, _)| key.starts_with("PAMS_")) {
                Some((key, value)) => command.env(key, value),
                None => command.arg(word),
            };
        }
        let log = File::options().append(true).create(true).open(dir.path().join("home.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = out.next_line().await.unwrap().expect("the server starts");
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let join_line = if first { out.next_line().await.unwrap() } else { None };
        let at = |key: &str| ready[key].as_str().unwrap().parse().unwrap();
        Self { quic: at("quic"), http: at("http"), dir, child, _out: out, more, join_line }
    }

    /// As `kill -9`.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// The server does not run until this is dropped.
    pub fn stopped(&self) -> Stopped {
        Stopped::of(&self.child)
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap()
    }

    /// After [`kill`](Self::kill), in the same directory and at the same ports.
    pub async fn start_again(self) -> Self {
        Self::run(self.dir, self.quic, self.http, self.more, false).await
    }

    /// The token of the line that the first start printed.
    pub fn token(&self) -> &str {
        let line = self.join_line.as_deref().expect("a first start");
        line.strip_prefix("pams-agent --join '").and_then(|rest| rest.strip_suffix('\'')).unwrap()
    }

    /// A token for any number of agents, made as an operator does.
    pub async fn open_token(&self) -> String {
        let made = self.cli(&["token", "create", "--uses", "unlimited", "-o", "json"]).await;
        serde_json::from_str::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// What a command beside the server prints; it must succeed.
    pub async fn cli(&self, words: &[&str]) -> String {
        let output = self.output(words).await;
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// How a peer is right now, asked of this server.
    pub async fn probe(&self, peer: PeerId, within: &str) -> Value {
        let output = self.output(&["probe", &peer.to_string(), "--within", within, "-o", "json"]).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    /// Why a command beside the server is not done.
    pub async fn cli_fails(&self, words: &[&str]) -> String {
        let output = self.output(words).await;
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn output(&self, words: &[&str]) -> Output {
        command().args(words).arg("--data-dir").arg(self.dir.path().join("home")).output().await.unwrap()
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn scrape(&self) -> Exposition {
        scrape(self.http).await
    }

    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scrape().await.value(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    }

    /// All that is known of a peer; `None`: nothing.
    pub async fn peer(&self, peer: PeerId) -> Option<Value> {
        let (status, body) = try_get(self.http, &format!("/api/v1/peers/{peer}")).await?;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    /// Waits until a peer is as wanted.
    pub async fn until(&self, what: &str, peer: PeerId, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || self.peer(peer).await.filter(&wanted)).await
    }

    pub async fn until_liveness(&self, peer: PeerId, liveness: &str) -> Value {
        self.until(liveness, peer, |p| p["liveness"] == liveness).await
    }

    /// What a peer's pings add up to; of a kind that it has not reported yet there is no ledger.
    pub async fn pings_of(&self, peer: PeerId) -> Ledger {
        let detail = self.peer(peer).await.expect("a peer that is known");
        detail["ledger"].get(Kind::Ping.as_str()).map(ledger_of).unwrap_or_default()
    }

    /// What the pings of all peers of all servers add up to, as this one knows.
    pub async fn cluster_pings(&self) -> Ledger {
        ledger_of(&json(self.http, "/api/v1/ledger").await[Kind::Ping.as_str()])
    }

    /// The server's id.
    pub async fn id(&self) -> String {
        json(self.http, "/api/v1/server").await["id"].as_str().unwrap().to_owned()
    }

    /// All servers, as this one sees them.
    pub async fn members(&self) -> Vec<Value> {
        json(self.http, "/api/v1/cluster").await["members"].as_array().unwrap().clone()
    }

    /// The server with this id, as this one sees it.
    pub async fn member(&self, id: &str) -> Value {
        self.members().await.into_iter().find(|m| m["id"] == id).unwrap_or_default()
    }

    /// Which life of a peer is known.
    pub async fn epoch_of(&self, peer: PeerId) -> u64 {
        self.peer(peer).await.expect("a peer that is known")["order"]["epoch"].as_u64().unwrap()
    }

    /// Who came and went, as `(peer, what)`.
    pub async fn events(&self) -> Vec<(String, String)> {
        let events = json(self.http, "/api/v1/events").await;
        let word = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        events["events"].as_array().unwrap().iter().map(|e| (word(e, "peer"), word(e, "what"))).collect()
    }
}
