//! As a service: what the manager hears over its socket, SIGHUP and `reload`, and a process that was stopped for a while.

use std::{
    fs,
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Cluster, client, text};

/// Nothing that is awaited takes so long.
const LONG: Duration = Duration::from_secs(20);

/// A service manager's end of the notification socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self { socket, path }
    }

    fn env<'a>(&'a self, watchdog_us: &'a str) -> [(&'a str, &'a str); 2] {
        [("NOTIFY_SOCKET", self.path.to_str().unwrap()), ("WATCHDOG_USEC", watchdog_us)]
    }

    fn next(&self) -> std::io::Result<String> {
        let mut bytes = [0; 2_048];
        let length = self.socket.recv(&mut bytes)?;
        Ok(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    /// Waits for a message with this beginning.
    fn hears(&self, what: &str) -> String {
        loop {
            let told = self.next().unwrap_or_else(|e| panic!("no {what}: {e}"));
            if told.starts_with(what) {
                return told;
            }
        }
    }

    /// Whatever was sent before is read; then nothing comes for `span`.
    fn hears_nothing_for(&self, span: Duration) {
        self.socket.set_nonblocking(true).unwrap();
        while self.next().is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
        self.socket.set_read_timeout(Some(span)).unwrap();
        let error = self.next().expect_err("a process that is stopped says nothing");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        self.socket.set_read_timeout(Some(LONG)).unwrap();
    }
}

#[test]
fn the_service_manager_hears_of_each_turn_and_nothing_from_a_process_that_is_stopped() {
    let mut cluster = Cluster::new();
    cluster.join("alpha");
    let b = cluster.join("beta");
    let manager = Manager::new(cluster.folder.path());
    let beta = cluster.agent("beta", &[]);
    let buddy = format!("{b}@{}", beta.ready["quic"].as_str().unwrap());
    // So short that the stop outlasts the silence after which a buddy is gone, and so long that nothing else does.
    fs::write(
        cluster.folder.path().join("a.toml"),
        "[ping]\ninterval = \"100ms\"\nretry = \"100ms\"\ndeadline = \"2s\"\n",
    )
    .unwrap();
    let alpha = cluster.agent_in("alpha", &["--config", "a.toml", "--buddy", &buddy], &manager.env("800000"));
    manager.hears("READY=1");
    assert!(manager.hears("STATUS=").starts_with("STATUS=alpha; no home"));
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");

    alpha.signal(Signal::SIGHUP);
    assert!(manager.hears("RELOADING=1").contains("\nMONOTONIC_USEC="));
    manager.hears("READY=1");

    let ping = client(cluster.folder.path(), "alpha.sock", &["ping", &b.to_string(), "-c", "1"]);
    assert!(ping.status.success(), "{ping:?}");
    alpha.stop();
    manager.hears_nothing_for(Duration::from_millis(4_500));
    alpha.signal(Signal::SIGCONT);
    manager.hears("WATCHDOG=1");
    let status: Value =
        serde_json::from_str(&text(&client(cluster.folder.path(), "alpha.sock", &["status", "-o", "json"]))).unwrap();
    let slept = &status["slept"];
    assert!(slept["for_s"].as_f64().unwrap() > 2.0 && slept["suspended"] == false, "{status:#}");
    let told = text(&client(cluster.folder.path(), "alpha.sock", &["status"]));
    assert!(told.contains("Slept ") && told.contains("nothing was concluded"), "{told}");
    assert!(client(cluster.folder.path(), "alpha.sock", &["ping", &b.to_string(), "-c", "1"]).status.success());
    // What was in flight is booked, and the books balance.
    let ledger = &status["ledgers"][0];
    let count = |key: &str| ledger[key].as_u64().unwrap();
    let ends = count("good") + count("aborted") + count("failed") + count("unknown") + count("in_flight");
    assert_eq!(count("opened"), ends, "{ledger}");

    alpha.signal(Signal::SIGTERM);
    manager.hears("STOPPING=1");
    let (code, log) = alpha.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("did not run for a while") && !log.contains("liveness=\"gone\""), "{log}");
}

#[test]
fn a_reload_takes_what_is_good_and_keeps_the_old_where_it_is_not() {
    let mut cluster = Cluster::new();
    let (_, b) = (cluster.join("alpha"), cluster.join("beta"));
    let folder = cluster.folder.path();
    let write = |text: &str| fs::write(folder.join("a.toml"), text).unwrap();
    write("");
    let manager = Manager::new(folder);
    let alpha = cluster.agent_in("alpha", &["--config", "a.toml"], &manager.env("0"));
    let ask = |arguments: &[&str]| client(folder, "alpha.sock", arguments);
    let metrics = || text(&ask(&["status", "-o", "json"]));

    write(&format!(
        "http = \"off\"\nlog = \"debug\"\n[ping]\ninterval = \"3s\"\n[[buddy]]\nid = \"{b}\"\nname = \"beta\"\n"
    ));
    let told = text(&ask(&["reload"]));
    for line in ["log: \"info\" -> \"debug\"", "ping.interval: \"10s\" -> \"3s\"", "buddy: [] -> 1 entries"] {
        assert!(told.lines().any(|l| l == line), "{line}: {told}");
    }
    // The flag beats the file, so that there is nothing to restart for.
    assert!(!told.contains("http"), "{told}");
    assert!(text(&ask(&["buddies"])).contains("beta"));

    write("[ping]\nintervall = \"3s\"\n");
    let refused = ask(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_pams-agent"))
        .env_clear()
        .current_dir(folder)
        .args(["check-config", "--config", "a.toml"])
        .output()
        .unwrap();
    let (refused, check) = [refused.stderr, check.stderr].map(|e| String::from_utf8(e).unwrap()).into();
    let message = check.trim().strip_prefix("pams-agent: ").unwrap();
    assert!(message.contains("a.toml:2:1") && refused.contains(message), "{refused}\n{check}");
    let status: Value = serde_json::from_str(&metrics()).unwrap();
    assert_eq!(
        (&status["configuration"]["successful"], &status["configuration"]["error"]),
        (&false.into(), &message.into())
    );
    assert!(text(&ask(&["status"])).contains("Configuration"), "people see it too");
    assert!(text(&ask(&["buddies"])).contains("beta"), "the one in force goes on");

    write("");
    while manager.next().is_ok_and(|told| !told.starts_with("READY=1")) {}
    let _drained = manager.socket.set_nonblocking(true);
    while manager.next().is_ok() {}
    manager.socket.set_nonblocking(false).unwrap();
    alpha.signal(Signal::SIGHUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    assert!(text(&ask(&["buddies"])).starts_with("no buddies"));
    let (_, log) = {
        alpha.signal(Signal::SIGTERM);
        alpha.end()
    };
    assert!(log.contains(message) && log.contains("configuration read again"), "{log}");
}
