//! What `cargo demo` says must be true: no transaction is lost, also not by the death of a server, and what was measured is the
//! network that was emulated. The demo is run here; with `DEMO_JSON=FILE` what it printed is read from there.

use std::{path::Path, process::Command};

use serde_json::Value;

const SECONDS: &str = "12";
/// Answered after 60 ms.
const SLOW: &str = "cai";

fn printed() -> String {
    if let Some(file) = std::env::var_os("DEMO_JSON") {
        return std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", Path::new(&file).display()));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).args(["--seconds", SECONDS, "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_demo_shows_what_it_emulates_and_loses_nothing() {
    let text = printed();
    assert_eq!(text.lines().count(), 1, "one object and nothing else: {text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    ledgers(&told["agents"]);
    pairs(&told["pairs"]);
    cluster(&told["cluster"]);
}

fn cluster(cluster: &Value) {
    let servers = cluster["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 3, "{cluster}");
    let killed = cluster["killed"].as_str().expect("one was killed");
    assert_eq!(servers.iter().filter(|s| s["name"] == killed && s["agents"] == 0).count(), 1, "{cluster}");
    let homes: u64 = servers.iter().map(|s| s["agents"].as_u64().unwrap()).sum();
    assert!(homes <= 5, "the sixth agent was killed: {cluster}");
    assert!(cluster["rehomed_ms"].as_u64().is_some_and(|ms| ms < 10_000), "{cluster}");
    for nothing in ["records_lost", "records_doubled", "wrongly_gone"] {
        assert_eq!(cluster[nothing], 0, "{cluster}");
    }
}

fn ledgers(agents: &Value) {
    let agents = agents.as_array().unwrap();
    assert_eq!(agents.len(), 6);
    for agent in agents {
        let of = |key: &str| agent["ledger"][key].as_u64().unwrap_or_else(|| panic!("no {key} in {agent}"));
        let ended: u64 = ["good", "aborted", "failed", "unknown"].map(of).iter().sum();
        assert_eq!(of("opened"), ended + of("in_flight"), "{agent}");
        assert!(of("good") > 0, "{agent}");
        assert_eq!(of("duplicate"), 0, "{agent}");
    }
}

fn pairs(pairs: &Value) {
    let pairs = pairs.as_array().unwrap();
    assert_eq!(pairs.len(), 30, "each of six with the five others");
    let mut measured = 0;
    for pair in pairs {
        let of = |key: &str| pair[key].as_f64();
        let (Some(total), Some(network), Some(hold)) = (of("total_ms"), of("network_ms"), of("remote_hold_ms")) else {
            continue;
        };
        let emulated = of("emulated_ms").unwrap();
        assert!((network - emulated).abs() <= emulated * 0.1 + 2.0, "{pair}");
        assert!(total >= network.max(hold) * 0.9, "{pair}");
        let is_slow = pair["to"] == SLOW;
        assert!(if is_slow { (60.0..90.0).contains(&hold) } else { hold < 30.0 }, "{pair}");
        measured += 1;
    }
    assert_eq!(measured, 30, "each pair met before anybody went away: {pairs:?}");
}
