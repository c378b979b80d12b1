//! The CSV files of an agent: they hold what its consumers were told, whatever happens to it, to their directory and to the
//! disk; and nothing of that is felt by a ping.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use pams_agent::{config::Size, consumer::csv::columns::COLUMNS};
use pams_shared::{
    record::{Kind, Outcome, Record},
    status::Liveness,
};

use crate::{
    harness::until,
    pams::Pams,
    peer::{Peer, Seat},
};

#[path = "../../../agent/src/consumer/csv/read.rs"]
mod read;

/// Bytes of a line, on average.
const LINE_BYTES: std::ops::RangeInclusive<usize> = 130..=190;

/// An agent with files and a buddy; both only ping when they are told to.
async fn pair(pams: &Pams, dir: &Path, more: impl FnOnce(&mut pams_agent::config::Csv)) -> (Peer, Peer) {
    let token = pams.open_token().await;
    let (seat, buddy) = seats(pams, dir);
    let (beta, alpha) = (buddy.start(Some(&token)).await, seat.with(|c| more(&mut c.csv)).start(Some(&token)).await);
    alpha.until("live", beta.peer, |b| b.liveness == Some(Liveness::Live)).await;
    (alpha, beta)
}

fn seats(pams: &Pams, dir: &Path) -> (Seat, Seat) {
    let rarely = |c: &mut pams_agent::config::Config| c.ping.interval = Duration::from_secs(3_600);
    let buddy = Seat::new(pams.dir.path(), "beta").with(rarely);
    let seat = Seat::new(pams.dir.path(), "alpha").watches(&[&buddy]).with(rarely);
    (seat.with(|c| c.csv.dir = Some(dir.to_owned())), buddy)
}

/// The files of a directory, in the order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

type Line = BTreeMap<String, String>;

/// The pings of a file, by column.
fn pings(bytes: &[u8]) -> Vec<Line> {
    let mut lines = read::read(bytes).unwrap_or_else(|e| panic!("{e}")).into_iter();
    let header = lines.next().expect("a header");
    assert!(header.iter().eq(COLUMNS.iter().map(|c| c.name)), "{header:?}");
    let lines = lines.map(|line| header.iter().cloned().zip(line).collect::<Line>());
    lines.filter(|line| line["kind"] == Kind::Ping.as_str()).collect()
}

fn all_pings(dir: &Path) -> Vec<Line> {
    files(dir).iter().flat_map(|file| pings(&fs::read(file).unwrap())).collect()
}

/// The record as a reader of the file would expect it, taken from its JSON form.
fn expected(record: &Record) -> Line {
    let json = serde_json::to_value(record).unwrap();
    let field = |column: &str| {
        let stage = column.strip_suffix("_ns").map(|stage| &json["stages_ns"][stage]);
        let value = stage.filter(|v| !v.is_null()).unwrap_or(&json[column]);
        if value.is_null() { String::new() } else { value.as_str().map_or_else(|| value.to_string(), str::to_owned) }
    };
    COLUMNS.iter().map(|c| (c.name.to_owned(), field(c.name))).collect()
}

fn expect(dir: &Path, records: &[Record]) {
    let (found, expected): (Vec<Line>, Vec<Line>) = (all_pings(dir), records.iter().map(expected).collect());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn they_hold_every_record_as_it_was_measured_in_about_150_bytes() {
    let pams = Pams::start().await;
    let dir = pams.dir.path().join("csv/of alpha");
    let (alpha, beta) = pair(&pams, &dir, |csv| csv.max_size = Size(16 << 10)).await;
    alpha.ping(beta.peer, 300).await;
    let gone = beta.peer;
    beta.stop().await;
    assert!(alpha.running.handle.ping(gone).await.unwrap().is_err());
    let records = alpha.stop().await;
    assert!(records.len() > 300 && records.iter().any(|r| r.outcome != Outcome::Good), "{}", records.len());
    expect(&dir, &records);
    let files = files(&dir);
    let sizes: Vec<usize> = files.iter().map(|file| fs::metadata(file).unwrap().len() as usize).collect();
    assert!(files.len() > 2 && sizes.iter().all(|size| *size <= 16 << 10), "{sizes:?}");
    let header = COLUMNS.iter().map(|c| c.name.len() + 1).sum::<usize>() + 1;
    let all = files.iter().map(|file| read::read(&fs::read(file).unwrap()).unwrap().len() - 1).sum::<usize>();
    let average = (sizes.iter().sum::<usize>() - header * files.len()) / all;
    assert!(LINE_BYTES.contains(&average), "{average} bytes a line");
}

#[tokio::test]
async fn a_directory_that_was_moved_away_is_made_again_and_no_record_is_lost() {
    let pams = Pams::start().await;
    let (dir, moved) = (pams.dir.path().join("csv"), pams.dir.path().join("moved"));
    let (alpha, beta) = pair(&pams, &dir, |_| {}).await;
    alpha.ping(beta.peer, 20).await;
    until("a file", async || !files(&dir).is_empty()).await;
    fs::rename(&dir, &moved).unwrap();
    alpha.ping(beta.peer, 20).await;
    let dropped = alpha.metric("pams_agent_records_dropped_total", &[("consumer", "csv")]).await;
    let records = alpha.stop().await;
    assert_eq!((all_pings(&moved).len() + all_pings(&dir).len(), dropped), (records.len(), 0.0));
    assert!(!files(&dir).is_empty());
    beta.stop().await;
}

#[tokio::test]
async fn after_kill_9_all_lines_but_the_last_are_whole_and_the_next_start_begins_a_file() {
    let pams = Pams::start().await;
    let token = pams.open_token().await;
    let dir = pams.dir.path().join("csv");
    let (seat, buddy) = seats(&pams, &dir);
    let beta = buddy.start(Some(&token)).await;
    let alpha = seat.spawn(Some(&token)).await;
    until("lines in a file", async || {
        alpha.ping(beta.peer).await.unwrap();
        files(&dir).first().is_some_and(|file| fs::metadata(file).unwrap().len() > 2_000)
    })
    .await;
    alpha.kill().await;
    let left = fs::read(&files(&dir)[0]).unwrap();
    let whole = left.iter().rposition(|b| *b == b'\n').unwrap() + 1;
    assert!(pings(&left[..whole]).len() >= 10);

    let alpha = seat.spawn(None).await;
    until("another file", async || {
        alpha.ping(beta.peer).await.unwrap();
        files(&dir).len() == 2
    })
    .await;
    assert_eq!(fs::read(&files(&dir)[0]).unwrap(), left, "what is there stays as it is");
    beta.stop().await;
}

#[tokio::test]
async fn a_directory_that_can_not_be_written_is_told_at_the_start() {
    let pams = Pams::start().await;
    let file = pams.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let seat = Seat::new(pams.dir.path(), "alpha").with(|c| c.csv.dir = Some(file.join("csv")));
    let told = format!("{:#}", seat.try_start(Some(pams.token())).await.err().expect("no agent"));
    let expected = format!("can not write CSV files in {}/csv (csv.dir names another directory): ", file.display());
    assert!(told.starts_with(&expected), "{told}");
}

/// Unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(at).status().unwrap();
        assert!(mounted.success(), "mount a tmpfs");
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
#[ignore = "mounts a small tmpfs: needs root"]
async fn a_disk_that_is_really_full_delays_no_ping_and_is_written_again_when_it_has_room() {
    let pams = Pams::start().await;
    let dir = pams.dir.path().join("csv");
    let disk = Tmpfs::mount(&dir, "size=64k");
    fs::write(dir.join("other"), [0; 16 << 10]).unwrap();
    let (alpha, beta) = pair(&pams, &dir, |_| {}).await;
    let failing = async || alpha.metric("pams_agent_csv_failing", &[]).await == 1.0;
    until("the disk is full", async || {
        alpha.ping(beta.peer, 50).await;
        failing().await
    })
    .await;
    let during = alpha.ping(beta.peer, 200).await;
    assert!(during.iter().all(|r| r.outcome == Outcome::Good) && failing().await);
    let csv = files(&dir).into_iter().find(|f| f.extension().is_some_and(|e| e == "csv")).unwrap();
    assert!(pings(&fs::read(&csv).unwrap()).len() > 100, "whole lines only");

    fs::remove_file(dir.join("other")).unwrap();
    let remount = Command::new("mount").args(["-o", "remount,size=4m"]).arg(&dir).status().unwrap();
    assert!(remount.success());
    until("it is written again", async || !failing().await).await;
    let dropped = alpha.metric("pams_agent_records_dropped_total", &[("consumer", "csv")]).await;
    let records = alpha.stop().await;
    assert_eq!(dropped, 0.0, "the queue was long enough");
    expect(&dir, &records);
    beta.stop().await;
    drop(disk);
}
