//! What is kept over restarts beside the identity: the presence information. Written in the background, the latest only, so
//! that a slow or full disk delays nothing; a failure is told and tried again with the next change.

use std::path::{Path, PathBuf};

use pams_shared::{identity::files, status::Presence};
use tokio::{sync::watch, task::JoinSet};

const FILE: &str = "presence.json";

pub struct Keep(watch::Sender<Option<Presence>>);

impl Keep {
    /// Begins to keep what is published, in a task of `tasks`; it ends when the keeper is dropped and all is written.
    pub fn start(dir: &Path, tasks: &mut JoinSet<()>) -> Self {
        let (tx, rx) = watch::channel(None);
        tasks.spawn(write(dir.join(FILE), rx));
        Self(tx)
    }

    pub fn presence(&self, presence: Presence) {
        self.0.send_replace(Some(presence));
    }
}

/// The presence of the last run; online if there was none or its file can't be read, which is told.
pub fn restore(dir: &Path) -> Presence {
    let path = dir.join(FILE);
    let read = files::read(&path).map_err(|e| e.to_string());
    let parsed =
        read.and_then(|bytes| bytes.map(|b| serde_json::from_slice(&b).map_err(|e| e.to_string())).transpose());
    match parsed {
        Ok(presence) => presence.unwrap_or_default(),
        Err(problem) => {
            tracing::warn!(path = %path.display(), problem, "the presence of the last run is lost; this one starts online");
            Presence::default()
        }
    }
}

async fn write(path: PathBuf, mut latest: watch::Receiver<Option<Presence>>) {
    while latest.changed().await.is_ok() {
        let Some(presence) = latest.borrow_and_update().clone() else { continue };
        let path = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(&presence).map_err(|e| e.to_string())?;
            files::replace(&path, &bytes).map_err(|e| e.to_string())
        });
        if let Ok(Err(problem)) = written.await {
            tracing::error!(problem, "the presence could not be kept: it is in force, but a restart would forget it");
        }
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::status::Status;

    use super::*;

    #[tokio::test]
    async fn the_latest_presence_outlives_the_agent_and_a_damaged_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(restore(dir.path()), Presence::default());
        let mut tasks = JoinSet::new();
        let keep = Keep::start(dir.path(), &mut tasks);
        let last = Presence { status: Status::Away, note: Some("until 3".into()), since_ms: 5, version: 7 };
        keep.presence(Presence::default());
        keep.presence(last.clone());
        drop(keep);
        tasks.join_next().await;
        assert_eq!(restore(dir.path()), last);
        std::fs::write(dir.path().join(FILE), b"{").unwrap();
        assert_eq!(restore(dir.path()), Presence::default());
    }
}
