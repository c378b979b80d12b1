//! Consumers: who takes finished transactions. Each has a bounded queue of its own, so that none can delay another or the
//! loop, which only ever offers: what does not fit is dropped and counted under the consumer's name.
//!
//! The metrics count in place and need no queue. The home's is the core's batcher, as reports are numbered and replayed.
//! Here are the rest: the tap of an application that carries the agent as a library, and [`csv`] files.

pub mod csv;
mod queue;

use std::sync::Arc;

use pams_shared::record::Record;
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use csv::Csv;

/// A consumer with a queue of its own.
pub trait Consumer {
    /// Its label in the metrics.
    const NAME: &'static str;

    /// Takes a record at once, or not at all; called by the agent's loop.
    fn offer(&self, record: &Record) -> Result<(), Full>;
}

/// The consumer's queue is full, or the consumer has ended: the record is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the consumer's queue is full")]
pub struct Full;

/// All consumers of one agent.
#[derive(Debug)]
pub struct Consumers {
    metrics: Arc<Metrics>,
    tap: Option<mpsc::Sender<Record>>,
    csv: Option<Csv>,
}

impl Consumers {
    /// The metrics, and those that are there of the others.
    pub fn new(metrics: Arc<Metrics>, tap: Option<mpsc::Sender<Record>>, csv: Option<Csv>) -> Self {
        Self { metrics, tap, csv }
    }

    /// Gives a record to all of them; never waits.
    pub fn take(&self, record: &Record) {
        self.metrics.record(record);
        tracing::debug!(kind = %record.kind, target_id = %record.target, status = record.outcome.as_str(), correlator = %record.correlator, "transaction");
        self.offer(self.csv.as_ref(), record);
        self.offer(self.tap.as_ref(), record);
    }

    fn offer<C: Consumer>(&self, consumer: Option<&C>, record: &Record) {
        if consumer.is_some_and(|c| c.offer(record).is_err()) {
            self.metrics.dropped(C::NAME, 1);
        }
    }

    /// Lets the files be finished, as far as that takes no longer than [`csv::END_PATIENCE`].
    pub async fn end(self) {
        if let Some(csv) = self.csv {
            self.metrics.dropped(Csv::NAME, csv.end().await);
        }
    }
}

impl Consumer for mpsc::Sender<Record> {
    const NAME: &'static str = "tap";

    fn offer(&self, record: &Record) -> Result<(), Full> {
        self.try_send(record.clone()).map_err(|_| Full)
    }
}
