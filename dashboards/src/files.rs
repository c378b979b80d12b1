//! All files that are made, as texts by path. `compose.yml` and what it needs beside them are written by hand.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    grafana,
    prometheus::{self, Scrape, Timing},
};

/// By path, with `/`, from the directory that they are written to.
pub fn made() -> BTreeMap<String, String> {
    let timing = Timing::default();
    let mut files = BTreeMap::from([
        ("prometheus/prometheus.yml".to_owned(), prometheus::configuration(&Scrape::default())),
        ("prometheus/rules.yml".to_owned(), prometheus::recording_rules(timing)),
        ("prometheus/alerts.yml".to_owned(), prometheus::alerting_rules(timing)),
        ("prometheus/tests/alerts.yml".to_owned(), prometheus::alert_tests()),
    ]);
    for dashboard in grafana::dashboards() {
        // Pretty JSON of a value with string keys: this cannot fail.
        let text = serde_json::to_string_pretty(&dashboard.json()).unwrap_or_default();
        files.insert(format!("grafana/{}", dashboard.file()), text + "\n");
    }
    files
}

/// Writes all of them below `to`, which is made if it is not there; gives their paths.
pub fn write(to: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (path, text) in made() {
        let path = to.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text)?;
        written.push(path);
    }
    Ok(written)
}
