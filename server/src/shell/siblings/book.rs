//! The address book: which servers were known last, in `servers.json` of the data directory, so that the next start finds one
//! even if all that were configured are gone. Written in the background, the latest only; a failure is told and tried again
//! with the next change.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use pams_shared::{frame::Member, id::ServerId, identity::files};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinSet};

const FILE: &str = "servers.json";
/// Servers that are kept.
const SERVERS_MAX: usize = 64;

/// One server of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    id: ServerId,
    name: String,
    addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
pub struct Book(watch::Sender<Vec<Member>>);

impl Book {
    /// Begins to keep what is written, in a task of `tasks`; it ends when the book is dropped and all is written.
    pub fn start(dir: &Path, tasks: &mut JoinSet<()>) -> Self {
        let (latest, rx) = watch::channel(Vec::new());
        tasks.spawn(keep(dir.join(FILE), rx));
        Self(latest)
    }

    /// These servers are known now. With none, the last that were known stay.
    pub fn write(&self, members: Vec<Member>) {
        if !members.is_empty() {
            self.0.send_replace(members);
        }
    }
}

/// Where servers were known last, each as `ip:port`; none if there is no file, or it can't be read, which is told.
pub fn restore(dir: &Path) -> Vec<String> {
    let path = dir.join(FILE);
    match read(&path) {
        Ok(lines) => lines.into_iter().take(SERVERS_MAX).flat_map(|l| l.addresses).map(|a| a.to_string()).collect(),
        Err(problem) => {
            tracing::warn!(path = %path.display(), problem, "the servers of the last run are not known any more");
            Vec::new()
        }
    }
}

fn read(path: &Path) -> Result<Vec<Line>, String> {
    match files::read(path).map_err(|e| e.to_string())? {
        None => Ok(Vec::new()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
    }
}

/// Those that are known now, then those of before: a start that has not met them yet must not be what forgets them.
fn joined(members: Vec<Member>, before: &[Line]) -> Vec<Line> {
    let mut lines: Vec<_> =
        members.into_iter().map(|m| Line { id: m.id, name: m.name, addresses: m.addresses }).collect();
    let known = lines.len();
    lines.extend(
        before.iter().filter(|line| lines[..known].iter().all(|l| l.id != line.id)).cloned().collect::<Vec<_>>(),
    );
    lines.truncate(SERVERS_MAX);
    lines
}

async fn keep(path: PathBuf, mut latest: watch::Receiver<Vec<Member>>) {
    while latest.changed().await.is_ok() {
        let members = latest.borrow_and_update().clone();
        let path = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            // What cannot be read is written anew.
            let lines = joined(members, &read(&path).unwrap_or_default());
            let bytes = serde_json::to_vec_pretty(&lines).map_err(|e| e.to_string())?;
            files::replace(&path, &bytes).map_err(|e| e.to_string())
        });
        if let Ok(Err(problem)) = written.await {
            tracing::error!(
                problem,
                "the list of servers could not be kept: the next start begins with the one before"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: u8) -> Member {
        let addresses = vec![SocketAddr::from(([192, 0, 2, n], 7420))];
        let (id, name) = (ServerId::from_bytes([n; 16]), format!("s{n}"));
        Member { id, generation: 1, name, addresses, http: None, region: String::new(), software: String::new() }
    }

    #[tokio::test]
    async fn the_latest_is_kept_and_a_damaged_file_is_no_outage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(restore(dir.path()), Vec::<String>::new());
        let mut tasks = JoinSet::new();
        let book = Book::start(dir.path(), &mut tasks);
        book.write(vec![member(1)]);
        book.write(vec![member(1), member(2)]);
        book.write(Vec::new());
        drop(book);
        tasks.join_next().await;
        assert_eq!(restore(dir.path()), ["192.0.2.1:7420", "192.0.2.2:7420"]);
        // The next start meets one of them and a new one.
        let book = Book::start(dir.path(), &mut tasks);
        book.write(vec![member(2), member(3)]);
        drop(book);
        tasks.join_next().await;
        assert_eq!(restore(dir.path()), ["192.0.2.2:7420", "192.0.2.3:7420", "192.0.2.1:7420"]);
        std::fs::write(dir.path().join(FILE), "[{").unwrap();
        assert_eq!(restore(dir.path()), Vec::<String>::new());
    }
}
