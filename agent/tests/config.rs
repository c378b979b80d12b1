//! One bad file for each mistake, with the beginning of the message that its operator reads; and how the program ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use pams_agent::config::Config;
use pams_shared::config::{exit, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// The program, without what this machine's environment says.
fn pams_agent(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pams-agent"));
    command.env_clear().env("HOME", "/nonexistent").args(arguments).output().unwrap()
}

fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn each_mistake_in_a_file_is_told_with_its_place_and_what_to_do() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
        let told = load::<Config>(Some(&path), [], Default::default()).unwrap_err().to_string();
        let expected = format!("{}:{}", path.display(), expected.trim_end_matches('\n'));
        if !told.starts_with(&expected) || told.contains('\n') {
            wrong.push(format!("\ntold:     {told}\nexpected: {expected}"));
        }
        tried += 1;
    }
    assert!(wrong.is_empty() && tried > 30, "{tried} {}", wrong.concat());
}

#[test]
fn a_bad_configuration_ends_with_64_before_anything_is_bound_or_made() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("data").display().to_string();
    let file = folder().join("interval_short.toml").display().to_string();
    for arguments in [
        &["--config", &file, "--data-dir", &dir][..],
        &["--config", &file, "check-config"],
        &["check-config", "--config", &file],
        &["--data-dir", &dir, "--http", "nowhere"],
        &["--data-dir", &dir, "--join", "nonsense"],
        &["--data-dir", &dir, "--buddy", "nobody"],
        &["--config", "/nonexistent/pams.toml"],
        &["--no-such-flag"],
        &["status", "asleep"],
    ] {
        let (code, text) = told(&pams_agent(arguments));
        assert_eq!(code, i32::from(exit::USAGE), "{arguments:?}: {text}");
        assert!(!text.is_empty());
    }
    let (_, text) = told(&pams_agent(&["--config", &file]));
    assert_eq!(text, format!("pams-agent: {file}:2:12: ping.interval: 50ms is out of bounds; give 100ms to 1h\n"));
    assert!(!Path::new(&dir).exists());
}

#[test]
fn a_variable_is_named_in_its_mistake() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pams-agent"));
    let output = command.env_clear().env("PAMS_AGENT_PING_INTERVALL", "1s").arg("check-config").output().unwrap();
    let expected = "pams-agent: environment variable PAMS_AGENT_PING_INTERVALL: sets no known key; did you mean \
                    PAMS_AGENT_PING_INTERVAL?\n";
    assert_eq!(told(&output), (i32::from(exit::USAGE), expected.to_owned()));
}

#[test]
fn what_is_printed_is_a_good_configuration() {
    let printed = pams_agent(&["--print-config", "--name", "alpha"]);
    assert!(printed.status.success());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pams-agent.toml");
    fs::write(&file, &printed.stdout).unwrap();
    let again = pams_agent(&["--print-config", "--config", &file.display().to_string()]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), String::from_utf8(printed.stdout).unwrap());
}

#[test]
fn nobody_to_ask_ends_with_69() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock").display().to_string();
    let (code, text) = told(&pams_agent(&["status", "--socket", &socket]));
    assert_eq!(code, i32::from(exit::UNAVAILABLE));
    assert_eq!(text, format!("pams-agent: no pams-agent listens on {socket}: is it running? --socket names another\n"));
}
