//! What `promtool` says of the checked-in files.

use std::{path::Path, process::Command};

fn promtool(words: &[&str]) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus");
    let output = Command::new("promtool").args(words).current_dir(here).output().expect("promtool is installed");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.contains("SUCCESS"), "{words:?}: {told}");
}

#[test]
fn the_configuration_is_good() {
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn rules_and_alerts_are_good() {
    promtool(&["check", "rules", "--lint-fatal", "rules.yml", "alerts.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    promtool(&["test", "rules", "tests/alerts.yml"]);
}
