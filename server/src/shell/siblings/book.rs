//! Keeps the address book ([`Book`]) in `servers.json` of the data directory. Written in the background, the latest only; a
//! failure is told and tried again with the next change.

use std::path::{Path, PathBuf};

use pams_shared::{frame::Member, identity::files};
use tokio::{sync::watch, task::JoinSet};

use crate::core::cluster::book::Book;

const FILE: &str = "servers.json";

#[derive(Debug)]
pub struct Keeper(watch::Sender<Vec<Member>>);

impl Keeper {
    /// Begins to keep what is written, in a task of `tasks`; it ends when the keeper is dropped and all is written.
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

/// The book as it was kept last; empty if there is no file, or it can't be read, which is told.
pub fn restore(dir: &Path) -> Book {
    let path = dir.join(FILE);
    read(&path).unwrap_or_else(|problem| {
        tracing::warn!(path = %path.display(), problem, "the servers of the last run are not known any more");
        Book::default()
    })
}

fn read(path: &Path) -> Result<Book, String> {
    match files::read(path).map_err(|e| e.to_string())? {
        None => Ok(Book::default()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
    }
}

async fn keep(path: PathBuf, mut latest: watch::Receiver<Vec<Member>>) {
    while latest.changed().await.is_ok() {
        let members = latest.borrow_and_update().clone();
        let path = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            // What cannot be read is written anew.
            let mut book = read(&path).unwrap_or_default();
            book.note(members);
            let bytes = serde_json::to_vec_pretty(&book).map_err(|e| e.to_string())?;
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
    use std::net::SocketAddr;

    use pams_shared::id::ServerId;

    use super::*;

    fn member(n: u8) -> Member {
        let addresses = vec![SocketAddr::from(([192, 0, 2, n], 7420))];
        let (id, name) = (ServerId::from_bytes([n; 16]), format!("s{n}"));
        Member { id, generation: 1, name, addresses, http: None, region: String::new(), software: String::new() }
    }

    #[tokio::test]
    async fn the_latest_is_kept_and_a_damaged_file_is_no_outage() {
        let dir = tempfile::tempdir().unwrap();
        let restored = || restore(dir.path()).seeds().collect::<Vec<_>>();
        assert_eq!(restored(), Vec::<String>::new());
        let mut tasks = JoinSet::new();
        let keeper = Keeper::start(dir.path(), &mut tasks);
        keeper.write(vec![member(1)]);
        keeper.write(vec![member(1), member(2)]);
        keeper.write(Vec::new());
        drop(keeper);
        tasks.join_next().await;
        assert_eq!(restored(), ["192.0.2.1:7420", "192.0.2.2:7420"]);
        // The next start meets one of them and a new one.
        let keeper = Keeper::start(dir.path(), &mut tasks);
        keeper.write(vec![member(2), member(3)]);
        drop(keeper);
        tasks.join_next().await;
        assert_eq!(restored(), ["192.0.2.2:7420", "192.0.2.3:7420", "192.0.2.1:7420"]);
        std::fs::write(dir.path().join(FILE), "[{").unwrap();
        assert_eq!(restored(), Vec::<String>::new());
    }
}
