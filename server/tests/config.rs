//! One bad file for each mistake, with the beginning of the message that its operator reads; and how the program ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use pams_server::config::Config;
use pams_shared::config::{exit, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// The program, without what this machine's environment says.
fn pams_server(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pams-server"));
    command.env_clear().env("HOME", "/nonexistent").args(arguments).output().unwrap()
}

fn told(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn each_mistake_in_a_file_is_told_with_its_place_and_what_to_do() {
    let mut tried = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let told = load::<Config>(Some(&path), [], Default::default()).unwrap_err().to_string();
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
        let expected = format!("{}:{}", path.display(), expected.trim_end_matches('\n'));
        assert!(told.starts_with(&expected), "\ntold:     {told}\nexpected: {expected}");
        assert!(!told.contains('\n'), "{told}");
        tried += 1;
    }
    assert!(tried > 30, "{tried}");
}

#[test]
fn a_bad_configuration_ends_with_64_before_anything_is_bound_or_made() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("data").display().to_string();
    let file = folder().join("pace_zero.toml").display().to_string();
    for arguments in [
        &["--config", &file, "--data-dir", &dir][..],
        &["--config", &file, "check-config"],
        &["check-config", "--config", &file],
        &["peers", "--config", &file],
        &["--data-dir", &dir, "--http", "nowhere"],
        &["--data-dir", &dir, "--advertise", "nowhere"],
        &["--data-dir", &dir, "--domain", "a_b"],
        &["--data-dir", &dir, "--join", "pams-join-1.cut"],
        &["check-config", "--join", "pams-join-1.cut"],
        &["--config", "/nonexistent/pams.toml"],
        &["--no-such-flag"],
        &["token"],
    ] {
        let (code, text) = told(&pams_server(arguments));
        assert_eq!(code, i32::from(exit::USAGE), "{arguments:?}: {text}");
        assert!(!text.is_empty());
    }
    let (_, text) = told(&pams_server(&["--join", "pams-agent --join x"]));
    assert!(text.starts_with("pams-server: --join: not a join token: it must begin with"), "{text}");
    let (_, text) = told(&pams_server(&["--config", &file]));
    assert_eq!(text, format!("pams-server: {file}:2:10: pace.report: 0s is out of bounds; give 100ms to 10s\n"));
    assert!(!Path::new(&dir).exists());
}

#[test]
fn a_variable_is_named_in_its_mistake() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pams-server"));
    let output = command.env_clear().env("PAMS_SERVER_PACE_REPROT", "1s").arg("check-config").output().unwrap();
    let expected = "pams-server: environment variable PAMS_SERVER_PACE_REPROT: sets no known key; did you mean \
                    PAMS_SERVER_PACE_REPORT?\n";
    assert_eq!(told(&output), (i32::from(exit::USAGE), expected.to_owned()));
}

#[test]
fn what_is_printed_is_a_good_configuration() {
    let printed = pams_server(&["--print-config", "--name", "home", "--advertise", "home:1"]);
    assert!(printed.status.success());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pams-server.toml");
    fs::write(&file, &printed.stdout).unwrap();
    let again = pams_server(&["--print-config", "--config", &file.display().to_string()]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), String::from_utf8(printed.stdout).unwrap());
    let good = pams_server(&["check-config", "--config", &file.display().to_string()]);
    assert!(good.status.success() && good.stdout.starts_with(b"the configuration is good; "));
}

#[test]
fn metrics_are_listed_without_starting_anything() {
    let listed = pams_server(&["--list-metrics"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.contains("\npams_server_peers  "), "{text}");
}

#[test]
fn nobody_to_ask_ends_with_69() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let (code, text) = told(&pams_server(&["peers", "--data-dir", &dir]));
    assert_eq!(code, i32::from(exit::UNAVAILABLE));
    assert!(text.starts_with(&format!("pams-server: no pams-server listens on {dir}/admin.sock: ")), "{text}");
}
