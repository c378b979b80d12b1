//! Schemathesis asks every route of a live server and of a live agent what its description allows, and what it does not;
//! and compares what comes with what is described. Its seed is fixed, so that a run can be repeated. `SCHEMATHESIS` names the
//! program; else it is looked for in the path.

use std::{env, fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
    process::Command,
    task::JoinSet,
    time::timeout,
};

use crate::{cluster, harness::LOOPBACK, pams::Pams};

/// For one listener; a run takes some seconds.
const PATIENCE: Duration = Duration::from_secs(80);

/// What is no deviation: an agent that asks somebody else says with 502 and 504 that the answer was bad, or that there was
/// none; an agent that a program carries, as here, reads no configuration again, which is 501. JSON Schema counts characters and the wire bytes, so a note can be too long though it looks short enough.
const CONTROL: &str = r#"
[[operations]]
include-path-regex = "^/v1/(ping|peers)/"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 502, 504]

[[operations]]
include-path = "/v1/reload"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 501]

[[operations]]
include-path = "/v1/presence"
checks.positive_data_acceptance.enabled = false

# An answer without an end, which no test case waits for; the agent's own tests read it.
[[operations]]
include-path = "/v1/events"
enabled = false
"#;

/// What ends the server is not asked; the tests of the system drain one.
const ADMIN: &str = r#"
[[operations]]
include-path = "/admin/v1/drain"
enabled = false
"#;

/// Asks all that the listener at `at` describes.
async fn conforms(what: &str, folder: &Path, at: SocketAddr, config: &str) {
    fs::write(folder.join("schemathesis.toml"), config).unwrap();
    let program = env::var_os("SCHEMATHESIS").unwrap_or_else(|| "schemathesis".into());
    let mut command = Command::new(program);
    command.args(["run", &format!("http://{at}/openapi.json"), "--url", &format!("http://{at}"), "--no-color"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "7", "--no-shrink"]);
    command.args(["--generation-database", "none", "--request-timeout", "10", "--continue-on-failure"]);
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        timeout(PATIENCE, command.output()).await.expect("it ends in time").expect("schemathesis is installed");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{what}:\n{told}\n{}", String::from_utf8_lossy(&output.stderr));
    // That nothing failed says nothing if nothing was asked.
    let number = |before: &str, after: &str| {
        let (_, rest) = told.split_once(before).unwrap_or_else(|| panic!("no {before:?} in\n{told}"));
        rest.split(after).next().and_then(|n| n.trim().parse::<usize>().ok()).expect("a number")
    };
    let (tested, cases) = (number("Tested: ", "\n"), number("Test cases:\n", " generated"));
    assert!(tested >= 4 && cases >= 5 * tested, "{what}:\n{told}");
}

/// A TCP port in front of a unix socket, as Schemathesis speaks TCP only; until the tasks are dropped.
async fn in_front_of(socket: &Path) -> (SocketAddr, JoinSet<()>) {
    let (listener, socket) = (TcpListener::bind(LOOPBACK).await.unwrap(), socket.to_owned());
    let (at, mut tasks) = (listener.local_addr().unwrap(), JoinSet::new());
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut outer, _)) = listener.accept().await {
            let socket = socket.clone();
            connections.spawn(async move {
                let mut inner = UnixStream::connect(socket).await.unwrap();
                let _ = copy_bidirectional(&mut outer, &mut inner).await; // ends when either side does
            });
            while connections.try_join_next().is_some() {}
        }
    });
    (at, tasks)
}

#[tokio::test]
async fn the_server_answers_as_it_is_described() {
    let pams = Pams::with(&["PAMS_SERVER_PACE_GRACE=1ms"]).await;
    let _agents = cluster(&pams).await;
    conforms("TCP", pams.dir.path(), pams.http, "").await;
    let (admin, _tasks) = in_front_of(&pams.dir.path().join("home/admin.sock")).await;
    conforms("admin socket", pams.dir.path(), admin, ADMIN).await;
}

#[tokio::test]
async fn the_agent_answers_as_it_is_described() {
    let pams = Pams::start().await;
    let [alpha, _beta] = cluster(&pams).await;
    conforms("HTTP", pams.dir.path(), alpha.running.ready.http.unwrap(), "").await;
    let (control, _tasks) = in_front_of(&alpha.running.ready.socket).await;
    conforms("control socket", pams.dir.path(), control, CONTROL).await;
}
