//! The checked-in files are those that the code makes. With `UPDATE=1` they are written anew:
//!
//! ```sh
//! UPDATE=1 cargo test -p pams-dashboards --test checks
//! ```

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pams_dashboards::files::{made, write};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn what_is_checked_in_is_what_is_made() {
    if std::env::var_os("UPDATE").is_some() {
        write(&here()).unwrap();
    }
    for (path, text) in made() {
        let checked_in = fs::read_to_string(here().join(&path)).unwrap_or_default();
        assert!(
            checked_in == text,
            "{path} is not what is made: run UPDATE=1 cargo test -p pams-dashboards --test checks"
        );
    }
}

#[test]
fn no_dashboard_is_checked_in_that_is_not_made() {
    let made: BTreeSet<PathBuf> = made().into_keys().map(|path| here().join(path)).collect();
    for folder in ["grafana", "prometheus/tests"] {
        for entry in fs::read_dir(here().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.is_dir() || made.contains(&path), "{}", path.display());
        }
    }
}

#[test]
fn the_program_writes_all_and_says_what() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_pams-dashboards")).args(words).output().unwrap();
    let output = run(&["--out", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    for (path, text) in made() {
        let path = dir.path().join(path);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(told.contains(path.to_str().unwrap()), "{told}");
    }
    assert!(String::from_utf8(run(&["--help"]).stdout).unwrap().contains("--out <DIR>"));
    let file = dir.path().join("grafana/peer.json");
    let output = run(&["--out", file.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--out names another directory"));
}
