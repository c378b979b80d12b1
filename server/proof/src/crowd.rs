//! A crowd: many agents in one process on one host, as applications that carry the agent as a library. Each is an agent as any
//! other, with its own socket, key and connections; only the thread is common to all. What their transactions came to is summed
//! as they end, apart from the agents' own ledgers.

use std::{path::Path, time::Duration};

use anyhow::Context;
use pams_agent::shell::{Options, Running, start};
use pams_shared::{
    id::{PeerId, ServerId},
    logs,
    program::{Shutdown, print, run},
    record::{Kind, Ledger, Record},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    runtime::Builder,
    sync::mpsc,
    task::JoinSet,
};

use crate::role::read;

/// Finished transactions that may wait to be counted; far more than a second's.
const RECORDS_MAX: usize = 65_536;
/// The agents of a crowd begin one after the other, so that they do not ping in step.
const BETWEEN: Duration = Duration::from_millis(20);

/// Agents that live together.
#[derive(Serialize, Deserialize)]
pub struct CrowdRole {
    pub agents: Vec<pams_agent::config::Config>,
    /// Lets all of them join.
    pub join: Option<String>,
}

/// What is asked of a crowd by a line on stdin; the answer is a line on stdout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Answered by a list of [`Seen`].
    Look,
    /// All leave in good order; answered by a [`Sum`] when they have, and the process ends.
    Leave,
}

/// How one agent stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub peer: PeerId,
    /// Its home, if it has one just now.
    pub home: Option<ServerId>,
    /// Changes of home in this life.
    pub attach: u64,
    pub buddies: usize,
    /// Buddies that it does not take for live.
    pub not_live: usize,
    pub pings: Ledger,
}

/// What the pings of a crowd came to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sum {
    /// One by one, as they ended.
    pub ended: Ledger,
    /// Records that agents dropped because too many waited for their home.
    pub shed: u64,
}

/// Runs the crowd that the file describes until it is to leave, or until whoever started it is gone.
pub fn crowd(file: &Path) -> anyhow::Result<u8> {
    let role: CrowdRole = read(file)?;
    let first = role.agents.first().context("a crowd has an agent at least")?;
    logs::init(&first.log, first.log_format)?;
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    run(runtime, |shutdown| serve(role, shutdown))
}

async fn serve(role: CrowdRole, mut shutdown: Shutdown) -> anyhow::Result<()> {
    let (tap, mut records) = mpsc::channel(RECORDS_MAX);
    let mut starting = JoinSet::new();
    for config in role.agents {
        let options = Options { join: role.join.clone(), tap: Some(tap.clone()), ..Options::default() };
        starting.spawn(start(config, options));
        tokio::time::sleep(BETWEEN).await;
    }
    drop(tap);
    let mut running = starting.join_all().await.into_iter().collect::<anyhow::Result<Vec<Running>>>()?;
    running.sort_by_key(|r| r.ready.peer);
    answer(&running.iter().map(|r| r.ready.peer).collect::<Vec<_>>())?;
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    let mut sum = Sum::default();
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(record) = records.recv() => sum.count(&record),
            line = asked.next_line() => match line?.map(|line| serde_json::from_str(&line)).transpose()? {
                Some(Asked::Look) => answer(&look(&running).await?)?,
                Some(Asked::Leave) => break,
                None => std::process::exit(0),
            },
        }
    }
    for agent in &running {
        sum.shed += agent.handle.view().await?.home.shed;
    }
    let mut leaving: JoinSet<()> = running.into_iter().map(Running::stop).collect();
    // The last taps close with the last agents.
    while let Some(record) = records.recv().await {
        sum.count(&record);
    }
    while leaving.join_next().await.is_some() {}
    answer(&sum)
}

async fn look(running: &[Running]) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::with_capacity(running.len());
    for agent in running {
        let view = agent.handle.view().await?;
        seen.push(Seen {
            peer: view.peer,
            home: view.home.server.filter(|_| view.home.connected),
            attach: view.home.attach,
            buddies: view.buddies.len(),
            not_live: view.buddies.iter().filter(|b| b.liveness != Some(pams_shared::status::Liveness::Live)).count(),
            pings: view.ledgers.iter().find(|l| l.kind == Kind::Ping).map(|l| l.ledger).unwrap_or_default(),
        });
    }
    Ok(seen)
}

fn answer(what: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&format!("{}\n", serde_json::to_string(what)?))?)
}

impl Sum {
    fn count(&mut self, record: &Record) {
        if record.kind == Kind::Ping {
            self.ended.opened += 1;
            self.ended.count(record.outcome);
        }
    }
}
