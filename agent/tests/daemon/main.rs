//! The real program, whole: two agents of one cluster on loopback, asked from the command line, ended by signals. Their home
//! cannot be reached, which must not keep them from each other.

mod harness;
mod service;

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use harness::{Cluster, client, text};
use nix::sys::signal::Signal;
use serde_json::Value;

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

    // The first one may wait for the connection beside a poll, and share its packet, which then gives no stamp.
    text(&client(folder, "alpha.sock", &["ping", &b.to_string(), "-c", "1"]));
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
