//! What is kept over restarts beside the identity: the presence information, and the servers that can be home. Written in the
//! background, the latest only, so that a slow or full disk delays nothing; a failure is told and tried again with the next
//! change.

use std::path::{Path, PathBuf};

use pams_shared::{identity::files, status::Presence};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, task::JoinSet};

use crate::core::choice::Servers;

const PRESENCE: &str = "presence.json";
const SERVERS: &str = "servers.json";

pub struct Keep {
    presence: watch::Sender<Option<Presence>>,
    servers: watch::Sender<Option<Servers>>,
}

impl Keep {
    /// Begins to keep what is told, in tasks of `tasks`; they end when the keeper is dropped and all is written.
    pub fn start(dir: &Path, tasks: &mut JoinSet<()>) -> Self {
        let (presence, published) = watch::channel(None);
        let (servers, known) = watch::channel(None);
        let (lost_presence, lost_servers) = (
            "the presence could not be kept: it is in force, but a restart would forget it",
            "the servers could not be kept: after a restart only those of the configuration would be known",
        );
        tasks.spawn(write(dir.join(PRESENCE), published, lost_presence));
        tasks.spawn(write(dir.join(SERVERS), known, lost_servers));
        Self { presence, servers }
    }

    pub fn presence(&self, presence: Presence) {
        self.presence.send_replace(Some(presence));
    }

    pub fn servers(&self, servers: Servers) {
        self.servers.send_replace(Some(servers));
    }
}

/// The presence of the last run; online if there was none or its file can't be read, which is told.
pub fn presence(dir: &Path) -> Presence {
    restore(&dir.join(PRESENCE), "the presence of the last run is lost; this one starts online")
}

/// The servers that the last run knew; none if its file can't be read, which is told.
pub fn servers(dir: &Path) -> Servers {
    restore(&dir.join(SERVERS), "the servers of the last run are lost; those of the configuration will tell of all")
}

fn restore<T: DeserializeOwned + Default>(path: &Path, lost: &str) -> T {
    let read = files::read(path).map_err(|e| e.to_string());
    let parsed =
        read.and_then(|bytes| bytes.map(|b| serde_json::from_slice(&b).map_err(|e| e.to_string())).transpose());
    match parsed {
        Ok(kept) => kept.unwrap_or_default(),
        Err(problem) => {
            tracing::warn!(path = %path.display(), problem, "{lost}");
            T::default()
        }
    }
}

async fn write<T: Serialize + Clone + Send + Sync + 'static>(
    path: PathBuf,
    mut latest: watch::Receiver<Option<T>>,
    lost: &'static str,
) {
    while latest.changed().await.is_ok() {
        let Some(kept) = latest.borrow_and_update().clone() else { continue };
        let path = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(&kept).map_err(|e| e.to_string())?;
            files::replace(&path, &bytes).map_err(|e| e.to_string())
        });
        if let Ok(Err(problem)) = written.await {
            tracing::error!(problem, "{lost}");
        }
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::{id::ServerId, status::Status};

    use super::*;
    use crate::core::choice::Known;

    #[tokio::test]
    async fn the_latest_outlives_the_agent_and_a_damaged_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!((presence(dir.path()), servers(dir.path())), (Presence::default(), Servers::default()));
        let mut tasks = JoinSet::new();
        let keep = Keep::start(dir.path(), &mut tasks);
        let last = Presence { status: Status::Away, note: Some("until 3".into()), since_ms: 5, version: 7 };
        keep.presence(Presence::default());
        keep.presence(last.clone());
        let known = Known {
            id: ServerId::from_bytes([1; 16]),
            name: "one".into(),
            addresses: vec!["192.0.2.1:7420".parse().unwrap()],
            rtt_us: Some(12_000),
        };
        let all = Servers { names: [("home.example:7420".to_owned(), known.id)].into(), servers: vec![known] };
        keep.servers(all.clone());
        drop(keep);
        while tasks.join_next().await.is_some() {}
        assert_eq!((presence(dir.path()), servers(dir.path())), (last, all));
        for file in [PRESENCE, SERVERS] {
            std::fs::write(dir.path().join(file), b"{").unwrap();
        }
        assert_eq!((presence(dir.path()), servers(dir.path())), (Presence::default(), Servers::default()));
    }
}
