//! Real agents of one cluster whose server runs nowhere, and the command line that asks them.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
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
pub struct Cluster {
    pub folder: tempfile::TempDir,
    authority: Authority,
}

impl Cluster {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(&folder.path().join("server"), "test.example", now()).unwrap();
        Self { folder, authority }
    }

    /// Makes an agent's directory that has joined already.
    pub fn join(&mut self, name: &str) -> PeerId {
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

    pub fn agent(&self, name: &str, more: &[&str]) -> Agent {
        self.agent_in(name, more, &[])
    }

    /// With variables in its environment.
    pub fn agent_in(&self, name: &str, more: &[&str], env: &[(&str, &str)]) -> Agent {
        Agent::start(self.folder.path(), name, more, env)
    }
}

fn now() -> u64 {
    Clock.now().wall_ms() / 1_000
}

/// A running daemon; killed when dropped.
pub struct Agent {
    pub child: Child,
    pub ready: Value,
}

impl Agent {
    fn start(folder: &Path, name: &str, more: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pams-agent"))
            .env_clear()
            .envs(env.iter().copied())
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

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// As SIGSTOP; returns once the process does not run any more.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        assert_eq!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap(), WaitStatus::Stopped(pid, Signal::SIGSTOP));
    }

    /// The exit code and the log, once it has ended.
    pub fn end(mut self) -> (Option<i32>, String) {
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

pub fn client(folder: &Path, socket: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pams-agent"));
    command.env_clear().current_dir(folder).args(arguments).args(["--socket", socket]).output().unwrap()
}

pub fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}
