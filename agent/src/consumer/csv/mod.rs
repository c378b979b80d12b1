//! The CSV consumer: every finished transaction as a line of a file, for spreadsheets, scripts and archives. What the files
//! hold stands in [`columns`]; when a new one is begun, in [`Limits`].
//!
//! The loop only puts a record into a bounded queue. A thread of its own formats and writes, about once a second; a disk
//! that is slow, full, gone or stuck keeps it waiting and nobody else. It holds on to what it could not write and tries
//! again each second; meanwhile the queue fills, then records are dropped and counted. Nothing is synced to the disk: a
//! loss of power takes what the kernel had not written, the end of the process at most what is about a second old.

pub mod columns;
mod folder;
#[cfg(test)]
mod read;
mod writer;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use pams_shared::{clock::Clock, id::PeerId, record::Record};
use tokio::{sync::oneshot, time::timeout};

use self::{folder::Directory, writer::Writer};
use super::{Consumer, Full, queue::Queue};

pub use writer::{Fault, Limits, MAX_SIZE_MIN};

/// Records that may wait for the disk: eight seconds of it at 1,000 a second, 2 MiB.
pub const QUEUE_MAX: usize = 8_192;
/// How much may wait, and how long the thread does.
#[derive(Clone, Copy, Debug)]
struct Pace {
    queue_max: usize,
    /// How long the first of a batch waits for more.
    linger: Duration,
    /// Between two tries of what could not be written.
    retry: Duration,
}

const PACE: Pace = Pace { queue_max: QUEUE_MAX, linger: Duration::from_secs(1), retry: Duration::from_secs(1) };
/// How long a stuck disk may hold up the end of the agent.
pub const END_PATIENCE: Duration = Duration::from_secs(2);

/// The files of one agent. Dropped without [`end`](Self::end) it writes what it has and ends by itself.
#[derive(Debug)]
pub struct Csv {
    shared: Arc<Shared>,
    /// How many records were given up.
    ended: oneshot::Receiver<u64>,
}

/// What the files' thread has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Progress {
    /// Records that stand in a file.
    pub written: u64,
    /// The last try to write failed, or the disk takes records slower than they come.
    pub failing: bool,
}

/// Sees the progress, from wherever metrics are shown.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// For messages.
    dir: PathBuf,
    pace: Pace,
    queue: Queue<Record>,
    /// Records that the queue took.
    taken: AtomicU64,
    written: AtomicU64,
    failing: AtomicBool,
    /// The queue was full since it was last less than half full.
    overrun: AtomicBool,
}

impl Csv {
    /// Makes the directory unless it is there, tries it, and starts the thread. Fails where files can not be made in the
    /// directory for a reason that does not pass.
    pub fn open(dir: &Path, peer: PeerId, limits: Limits) -> io::Result<Self> {
        Self::start(Writer::new(Box::new(Directory::open(dir)?), peer, limits), dir, PACE)
    }

    fn start(writer: Writer, dir: &Path, pace: Pace) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            pace,
            queue: Queue::new(pace.queue_max),
            taken: AtomicU64::new(0),
            written: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            overrun: AtomicBool::new(false),
        });
        let (tell, ended) = oneshot::channel();
        let works = shared.clone();
        // No task of the runtime: one that is stuck would hold up the runtime's end. It ends with its queue; whether it
        // did, its `tell` says.
        thread::Builder::new().name("csv".to_owned()).spawn(move || {
            let _ = tell.send(works.work(writer));
        })?;
        Ok(Self { shared, ended })
    }

    pub fn observer(&self) -> Observer {
        Observer(self.shared.clone())
    }

    /// Writes what there is, and ends; says how many records were given up. Takes [`END_PATIENCE`] at most.
    pub async fn end(mut self) -> u64 {
        self.shared.queue.close();
        match timeout(END_PATIENCE, &mut self.ended).await {
            Ok(Ok(lost)) => lost,
            _ => {
                let lost = self.shared.taken.load(Relaxed).saturating_sub(self.shared.written.load(Relaxed));
                tracing::error!(lost, "csv: the last records are lost: the disk did not take them in time");
                lost
            }
        }
    }
}

impl Drop for Csv {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Consumer for Csv {
    const NAME: &'static str = "csv";

    fn offer(&self, record: &Record) -> Result<(), Full> {
        let offered = self.shared.queue.push(record.clone());
        match offered {
            Ok(()) => drop(self.shared.taken.fetch_add(1, Relaxed)),
            Err(Full) if self.shared.overrun.swap(true, Relaxed) => {}
            Err(Full) => {
                let dir = self.shared.dir.display();
                tracing::error!(%dir, "csv: the disk is too slow or stuck: records are dropped; all else goes on");
            }
        }
        offered
    }
}

impl Observer {
    pub fn progress(&self) -> Progress {
        let shared = &self.0;
        let failing = shared.failing.load(Relaxed) || shared.overrun.load(Relaxed);
        Progress { written: shared.written.load(Relaxed), failing }
    }
}

impl Shared {
    /// The thread: until the queue is closed and empty, or the end can not be written. Says how many were given up.
    fn work(&self, mut writer: Writer) -> u64 {
        let mut batch = VecDeque::new();
        while self.queue.take(self.pace.linger, &mut batch) {
            while !self.write(&mut writer, &mut batch) {
                if self.queue.pause(self.pace.retry) && !self.write(&mut writer, &mut batch) {
                    return (batch.len() + self.queue.len()) as u64;
                }
            }
            if self.queue.len() < self.pace.queue_max.div_ceil(2) {
                self.overrun.store(false, Relaxed);
            }
        }
        0
    }

    /// Whether all was written. An episode of failures is told once, and its end.
    fn write(&self, writer: &mut Writer, batch: &mut VecDeque<Record>) -> bool {
        let (written, outcome) = writer.write(Clock.now(), batch);
        self.written.fetch_add(written, Relaxed);
        let good = outcome.is_ok();
        let failed = self.failing.swap(!good, Relaxed);
        match outcome {
            Ok(()) if failed => tracing::info!(dir = %self.dir.display(), "csv: records are written again"),
            Err(problem) if !failed => {
                let (dir, max) = (self.dir.display(), self.pace.queue_max);
                tracing::error!(%dir, %problem, "csv: records wait, up to {max}, then they are dropped; all else goes on");
            }
            _ => {}
        }
        good
    }
}

#[cfg(test)]
pub(crate) mod tests;
