//! The real program, whole: two agents of one cluster on loopback, asked from the command line, ended by signals. Their home
//! cannot be reached, which must not keep them from each other.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pams_shared::{
    clock::Clock,
    frame::Role,
    id::PeerId,
    identity::{Address, AgentIdentity, Authority, Grant, Token},
};
use serde_json::Value;

const DAY: u64 = 86_400;

/// A cluster in a folder, whose only server runs nowhere.
struct Cluster {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&folder.path().join("server"), "test.example", now()).unwrap();
        Self { folder, authority }
    }

    /// Makes an agent's directory that has joined already.
    fn join(&mut self, name: &str) -> PeerId {
        let grant = Grant { role: Role::Agent, uses: Some(1), expires_at: now() + DAY, note: String::new() };
        let (id, secret) = self.authority.tokens().create(&grant, now()).unwrap();
        let home: Address = "127.0.0.1:1".parse().unwrap();
        let token = Token { pin: self.authority.pin().unwrap(), id, secret, addresses: vec![home] };
        let mut identity = AgentIdentity::open(&self.folder.path().join(name)).unwrap();
        let join = identity.join_request(&token, name, now() * 1_000).unwrap();
        let issued = self.authority.enrol(&join, now()).unwrap();
        identity.join(&token, &issued).unwrap();
        identity.peer_id()
    }

    fn agent(&self, name: &str, more: &[&str]) -> Agent {
        Agent::start(self.folder.path(), name, more)
    }
}

fn now() -> u64 {
    Clock.now().wall_ms() / 1_000
}

/// A running daemon; killed when dropped.
struct Agent {
    child: Child,
    ready: Value,
}

impl Agent {
    fn start(folder: &Path, name: &str, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pams-agent"))
            .env_clear()
            .current_dir(folder)
            .args(["--data-dir", name, "--name", name, "--socket", &format!("{name}.sock"), "--ready-json"])
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str(&line) else { panic!("{line:?}; {}", log(child)) };
        Self { child, ready }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// The exit code and the log, once it has ended.
    fn end(mut self) -> (Option<i32>, String) {
        let mut told = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap().code(), told)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(mut child: Child) -> String {
    let _ = child.kill();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn client(folder: &Path, socket: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pams-agent"));
    command.env_clear().current_dir(folder).args(arguments).args(["--socket", socket]).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn two_agents_see_each_other_without_a_home_and_end_in_good_order() {
    let mut cluster = Cluster::new();
    let (a, b) = (cluster.join("alpha"), cluster.join("beta"));
    let beta = cluster.agent("beta", &[]);
    assert_eq!(beta.ready["peer"], b.to_string());
    let buddy = format!("{b}@{}", beta.ready["quic"].as_str().unwrap());
    let alpha = cluster.agent("alpha", &["--buddy", &buddy]);
    let folder = cluster.folder.path();

    let told = text(&client(folder, "beta.sock", &["status", "busy", "--note", "lunch"]));
    assert!(told.starts_with("published: busy (lunch), since "), "{told}");

    let told = text(&client(folder, "alpha.sock", &["ping", &b.to_string(), "-c", "2", "-i", "0.01", "-o", "json"]));
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines[..2] {
        let record = &line["record"];
        assert_eq!((&record["status"], &record["target_status"]), (&"good".into(), &"busy".into()), "{told}");
    }
    for line in &lines[..2] {
        let stages = line["record"]["stages_ns"].as_object().unwrap();
        let sum: u64 = stages.values().map(|ns| ns.as_u64().unwrap()).sum();
        assert_eq!((stages.len(), Some(sum)), (4, line["record"]["total_ns"].as_u64()), "{told}");
    }
    assert_eq!(lines[2]["statistics"]["answered"], 2);

    let told = text(&client(folder, "alpha.sock", &["fetch", &b.to_string()]));
    assert!(told.contains("the peer itself, just now") && told.contains("busy (lunch)"), "{told}");
    let told = text(&client(folder, "alpha.sock", &["status"]));
    assert!(told.starts_with(&format!("alpha is {a}, ")), "{told}");

    beta.signal(Signal::SIGTERM);
    alpha.signal(Signal::SIGINT);
    let (code, told) = beta.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("SIGTERM"), "{told}");
    let (code, told) = alpha.end();
    assert_eq!(code, Some(0), "{told}");
    assert!(!folder.join("alpha.sock").exists() && !folder.join("beta.sock").exists());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut cluster = Cluster::new();
    cluster.join("alpha");
    let mut alpha = cluster.agent("alpha", &[]);
    let mut log = BufReader::new(alpha.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    alpha.signal(Signal::SIGTERM);
    assert!(log.any(|line| line.contains("SIGTERM: leaving")));
    alpha.signal(Signal::SIGINT);
    // It may have left in good order before the second one came.
    let code = alpha.child.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
    assert!(code == Some(0) || log.any(|line| line.contains("SIGINT again")));
}

#[test]
fn a_directory_serves_one_agent_and_needs_a_token_first() {
    let mut cluster = Cluster::new();
    cluster.join("alpha");
    let _alpha = cluster.agent("alpha", &[]);
    let start = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pams-agent"));
        command.env_clear().current_dir(cluster.folder.path()).args(["--data-dir", name, "--socket", "other.sock"]);
        let output = command.args(["--listen", "127.0.0.1:0", "--http", "off"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = start("alpha");
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("another pams-agent runs there"), "{told}");
    let (code, told) = start("new");
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("start it with --join and a token"), "{told}");
}
