//! What one record costs from the core to all consumers, in CPU time of this process: the disk's own waiting is nobody's.
//! Beside it what it costs to format the same line with `writeln!`, and nothing else.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use pams_agent::{
    consumer::{
        Consumer, Consumers,
        csv::{Csv, Limits, Observer, QUEUE_MAX, columns},
    },
    metrics::Metrics,
};
use pams_shared::{
    frame::{Frame, RECORDS_MAX, Report, wire},
    id::{Correlator, PeerId},
    process,
    record::{Kind, Outcome, Record, Stage, Stages},
    status::Status,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::proc::median;

/// Records between two upkeeps of the metrics: those of 4 s at 1,000 a second, and half a queue, so that the files' thread
/// writes at once.
const BURST: usize = QUEUE_MAX / 2;
const BURSTS: usize = 50;
const LIMITS: Limits = Limits { max_size: 16 << 20, max_age: Duration::from_secs(3_600), keep: 1 };

pub async fn measure(rounds: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let records: Vec<Record> = (0..BURST as u64).map(record).collect();
    for record in &records {
        let mut bare = Vec::new();
        written_with_writeln(record, &mut bare)?;
        anyhow::ensure!(bare == line_of(record), "the baseline writes another line");
    }
    let bytes = records.iter().map(|r| line_of(r).len()).sum::<usize>() as f64 / records.len() as f64;
    println!("CPU time in ns a record, {} records a round, {bytes:.0} bytes a line", BURSTS * records.len());
    println!(
        "{:>5}  {:>8} {:>8} {:>8} {:>8}  {:>8}  {:>9} {:>6}",
        "round", "metrics", "csv", "report", "tap", "all", "writeln!", "ratio"
    );
    let mut kept: Vec<[f64; 3]> = Vec::new();
    for round in 0..=rounds {
        let of =
            [metrics(&records).await?, csv(dir.path(), &records).await?, report(&records).await?, tap(&records).await?];
        let (all, bare) = (all(dir.path(), &records).await?, bare(&records).await?);
        if round > 0 {
            let [metrics, csv, report, tap] = of;
            println!(
                "{round:>5}  {metrics:>8.0} {csv:>8.0} {report:>8.0} {tap:>8.0}  {all:>8.0}  {bare:>9.0} {:>6.2}",
                all / bare
            );
            kept.push([all, all / bare, of.iter().sum()]);
        }
    }
    let of = |i: usize| median(kept.iter().map(|k| k[i]).collect());
    println!(
        "one record through all consumers, median: {:.2} us; {:.2} times the bare line (one by one they add up to {:.2} us)",
        of(0) / 1e3,
        of(1),
        of(2) / 1e3
    );
    Ok(())
}

/// A ping as it comes out of the core, each with other times, one in fifty unanswered.
fn record(n: u64) -> Record {
    let spread = |at_least: u64, step: u64| at_least + n.wrapping_mul(2_654_435_761) % step;
    let times = [spread(4_000, 60_000), spread(20_000_000, 9_000_000), spread(30_000, 400_000), spread(20_000, 90_000)];
    let good = n % 50 != 7;
    let mut stages = Stages::default();
    Stage::EXCHANGE.iter().zip(times).filter(|_| good).for_each(|(stage, ns)| stages.set(*stage, ns));
    let mut trace = [0x7f; 16];
    trace[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Record {
        kind: Kind::Ping,
        target: Uuid::from_u128(0x1b4e_28ba_2fa1_41d2_883f_0016_d3cc_a427 ^ u128::from(n % 100)),
        correlator: Correlator::of_uuid(trace),
        outcome: if good { Outcome::Good } else { Outcome::Aborted },
        reason: (!good).then_some(pams_shared::record::Reason::NoAnswer),
        opened_ms: 1_795_316_408_506 + n,
        total_ns: good.then(|| times.iter().sum()),
        stages,
        target_status: good.then_some(Status::Online),
        path_rtt_ns: good.then_some(25_000_000 + n % 1_000),
    }
}

/// CPU time of this process for the work, in ns a record.
async fn cost(records: &[Record], work: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let cpu = || process::cpu().context("this system does not tell CPU time");
    let before = cpu()?;
    work().await?;
    Ok((cpu()? - before).as_nanos() as f64 / (BURSTS * records.len()) as f64)
}

async fn metrics(records: &[Record]) -> anyhow::Result<f64> {
    let metrics = Metrics::new(64);
    let work = async || {
        for _ in 0..BURSTS {
            records.iter().for_each(|record| metrics.record(record));
            metrics.upkeep();
        }
        Ok(())
    };
    cost(records, work).await
}

/// Into the queue, and by the thread from there into a file.
async fn csv(dir: &Path, records: &[Record]) -> anyhow::Result<f64> {
    let csv = Csv::open(dir, PeerId::from_bytes([7; 16]), LIMITS)?;
    let observer = csv.observer();
    let work = async || {
        for burst in 1..=BURSTS {
            for record in records {
                csv.offer(record)?;
            }
            written(&observer, burst * records.len()).await;
        }
        Ok(())
    };
    cost(records, work).await
}

/// Copied for the home, and encoded as the reports that carry it.
async fn report(records: &[Record]) -> anyhow::Result<f64> {
    let work = async || {
        for _ in 0..BURSTS {
            records.chunks(RECORDS_MAX).for_each(|batch| drop(encoded(batch)));
        }
        Ok(())
    };
    cost(records, work).await
}

fn encoded(batch: &[Record]) -> Vec<u8> {
    wire::encode(&Frame::Report(Report { batch: 1, records: batch.to_vec(), ..Report::default() }))
}

async fn tap(records: &[Record]) -> anyhow::Result<f64> {
    let (tap, mut tapped) = mpsc::channel(records.len());
    let work = async || {
        for _ in 0..BURSTS {
            for record in records {
                tap.offer(record)?;
            }
            while tapped.try_recv().is_ok() {}
        }
        Ok(())
    };
    cost(records, work).await
}

/// All of them, as the agent has them.
async fn all(dir: &Path, records: &[Record]) -> anyhow::Result<f64> {
    let csv = Csv::open(dir, PeerId::from_bytes([7; 16]), LIMITS)?;
    let (observer, metrics) = (csv.observer(), Arc::new(Metrics::new(64)));
    let (tap, mut tapped) = mpsc::channel(records.len());
    let consumers = Consumers::new(metrics.clone(), Some(tap), Some(csv));
    let work = async || {
        for burst in 1..=BURSTS {
            for batch in records.chunks(RECORDS_MAX) {
                batch.iter().for_each(|record| consumers.take(record));
                drop(encoded(batch));
            }
            metrics.upkeep();
            let mut got = 0;
            while tapped.try_recv().is_ok() {
                got += 1;
            }
            anyhow::ensure!(got == records.len(), "the tap got {got} of {} records", records.len());
            written(&observer, burst * records.len()).await;
        }
        Ok(())
    };
    cost(records, work).await
}

/// Waits until so many records stand in files.
async fn written(observer: &Observer, records: usize) {
    while observer.progress().written < records as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The baseline: a line, and no consumer.
async fn bare(records: &[Record]) -> anyhow::Result<f64> {
    let mut out = Vec::new();
    let work = async || {
        for _ in 0..BURSTS {
            out.clear();
            for record in records {
                written_with_writeln(record, &mut out)?;
            }
            std::hint::black_box(&out);
        }
        Ok(())
    };
    cost(records, work).await
}

fn written_with_writeln(r: &Record, out: &mut Vec<u8>) -> std::io::Result<()> {
    let shown = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
    let [a, b, c, d] = Stage::EXCHANGE.map(|stage| shown(r.stages.get(stage)));
    let (status, reason) = (r.target_status.map_or("", Status::as_str), r.reason.map_or("", |reason| reason.as_str()));
    let (total, path) = (shown(r.total_ns), shown(r.path_rtt_ns));
    writeln!(
        out,
        "{},{},{},{},{status},{},{reason},{total},{a},{b},{c},{d},,,{path}\r",
        r.opened_ms,
        r.kind,
        r.correlator,
        r.target,
        r.outcome.as_str()
    )
}

fn line_of(record: &Record) -> Vec<u8> {
    let mut line = Vec::new();
    columns::line(record, &mut line);
    line
}
