//! A cluster on hosts of its own: three servers, 20 ms there and back from each other, and sixty agents that ping each other all the time, while
//! a server is killed, stopped, cut off, drained or restarted, its disk is full, or packets are lost.
//!
//! Each case ends with the accounts: all agents leave in good order, and what each server that runs says of their pings must be
//! what they counted themselves. All the while nobody may be taken for gone, as no agent ever stops.

mod account;
mod cases;
mod company;
mod prometheus;
mod table;
mod views;
mod watch;

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use self::{
    account::Account,
    company::{Cluster, HOSTS},
    watch::Gone,
};
pub use self::{cases::CASES, table::table};
use crate::lab::Lab;

/// One thing that happens to a cluster.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub what: &'static str,
    /// The server whose folder is on a small file system of its own.
    small_disk: Option<&'static str>,
    run: cases::Run,
}

/// What a case showed.
#[derive(Debug)]
pub struct Finding {
    pub what: &'static str,
    pub noticed: Noticed,
    account: Account,
    gone: Gone,
}

/// The times that a case took, from what happened or from its end. Absent: there was nothing of the kind.
#[derive(Debug, Default)]
pub struct Noticed {
    /// Until all other servers saw it.
    pub detected: Option<Duration>,
    /// Until every agent had another home.
    pub homed: Option<Duration>,
    /// Until all servers saw each other again.
    pub back: Option<Duration>,
    /// Until the directories were equal again.
    pub equal: Option<Duration>,
    /// Changes of home.
    pub moves: u64,
}

impl Case {
    /// In a lab of its own. `program` is `pams-proof`; the logs are kept in `logs`, if that is given.
    async fn play(self, program: &Path, logs: Option<&Path>) -> anyhow::Result<Finding> {
        let lab = Lab::new(program, &HOSTS)?;
        let ended = self.within(&lab).await.and_then(Finding::check);
        if let Some(folder) = logs.map(|folder| folder.join(self.name)) {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            for host in HOSTS {
                std::fs::copy(lab.log_path(host), folder.join(format!("{host}.log")))?;
            }
        }
        ended.with_context(|| format!("the logs end with\n{}", lab.logs(12)))
    }

    async fn within(self, lab: &Lab) -> anyhow::Result<Finding> {
        let mut cluster = Cluster::start(lab, self.small_disk).await.context("at the start")?;
        let (_, before) = cluster.homes().await?;
        let mut noticed = (self.run)(&mut cluster).await?;
        noticed.moves = cluster.homes().await?.1 - before;
        // The last look of the watch may have been a while ago.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let gone = cluster.watch.found();
        let account = cluster.settle().await?;
        Ok(Finding { what: self.what, noticed, account, gone })
    }
}

impl Finding {
    /// What must hold in every case.
    fn check(self) -> anyhow::Result<Self> {
        let (lost, doubled, gone) = (self.account.lost(), self.account.doubled(), self.gone.len());
        let fits = lost == 0 && doubled == 0 && gone == 0;
        ensure!(fits, "{lost} records lost, {doubled} doubled, {gone} peers wrongly gone: {self:?}");
        Ok(self)
    }
}

/// Those whose names contain one of the words; all without a word.
pub fn chosen(words: &[String]) -> Vec<Case> {
    CASES.into_iter().filter(|c| words.is_empty() || words.iter().any(|w| c.name.contains(w.as_str()))).collect()
}

/// Plays them, so many at once; gives what they found, in their order, and how many failed. The hosts' logs are kept in
/// folders of `logs`, if that is given.
pub async fn play(program: &Path, cases: &[Case], at_once: usize, logs: Option<&Path>) -> (Vec<Finding>, usize) {
    let (mut playing, mut found, mut failed) = (JoinSet::new(), Vec::new(), 0);
    let mut waiting = cases.iter().copied().enumerate();
    loop {
        while playing.len() < at_once.max(1)
            && let Some((number, case)) = waiting.next()
        {
            let (program, logs) = (program.to_owned(), logs.map(Path::to_owned));
            playing.spawn_local(async move { (number, case.name, case.play(&program, logs.as_deref()).await) });
        }
        match playing.join_next().await {
            None => break,
            Some(Ok((number, _, Ok(finding)))) => found.push((number, finding)),
            Some(Ok((_, name, Err(error)))) => {
                println!("FAILED {name}: {error:#}");
                failed += 1;
            }
            Some(Err(panic)) => {
                println!("FAILED: {panic}");
                failed += 1;
            }
        }
    }
    found.sort_by_key(|(number, _)| *number);
    (found.into_iter().map(|(_, finding)| finding).collect(), failed)
}
