use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::atomic::AtomicBool,
};

use super::{
    folder::{Folder, Growing},
    read::read,
    *,
};
use crate::sample;

const LIMITS: Limits = Limits { max_size: 1 << 30, max_age: Duration::from_secs(3_600), keep: 9 };
const QUICK: Pace = Pace { queue_max: 4, linger: Duration::ZERO, retry: Duration::from_millis(1) };

/// A file of the system that is no file: a full device, a pipe that nobody reads.
struct Special(File);

impl Write for Special {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Growing for Special {
    fn cut(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_in_place(&self) -> bool {
        true
    }
}

/// In which every file is the one at that path, until it is mended; then they are made in a directory.
struct Broken {
    path: PathBuf,
    mended: Arc<AtomicBool>,
    directory: Directory,
}

impl Folder for Broken {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Growing>> {
        if self.mended.load(Relaxed) {
            return self.directory.create(name);
        }
        Ok(Box::new(Special(OpenOptions::new().write(true).open(&self.path)?)))
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        self.directory.names()
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A consumer with room for four records, whose every file is the one at `path` until it is mended.
pub(crate) fn broken(dir: &Path, path: &Path) -> (Csv, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let directory = Directory::open(dir).unwrap();
    let folder = Broken { path: path.to_owned(), mended: mended.clone(), directory };
    (Csv::start(Writer::new(Box::new(folder), sample::ME, LIMITS), dir, QUICK).unwrap(), mended)
}

fn record(opened_ms: u64) -> Record {
    Record { opened_ms, ..sample::record(sample::peer(2)) }
}

async fn until(holds: impl Fn() -> bool) {
    let holds = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), holds).await.expect("in time");
}

#[tokio::test]
async fn what_a_full_disk_did_not_take_is_kept_up_to_a_bound_and_written_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, mended) = broken(dir.path(), Path::new("/dev/full"));
    let observer = csv.observer();
    assert_eq!(observer.progress(), Progress::default());
    csv.offer(&record(0)).unwrap();
    until(|| observer.progress().failing).await;
    let taken: Vec<u64> = (1..20).filter(|n| csv.offer(&record(*n)).is_ok()).collect();
    assert_eq!(taken, [1, 2, 3, 4]);
    assert!(observer.progress().failing && observer.progress().written == 0);
    mended.store(true, Relaxed);
    until(|| observer.progress() == Progress { written: 5, failing: false }).await;
    assert_eq!(csv.offer(&record(20)), Ok(()));
    assert_eq!(csv.end().await, 0);
    let files: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let lines = read(&std::fs::read(&files[0]).unwrap()).unwrap();
    let opened: Vec<&str> = lines[1..].iter().map(|line| line[0].as_str()).collect();
    assert_eq!(opened, ["0", "1", "2", "3", "4", "20"]);
}

#[tokio::test]
async fn what_could_not_be_written_by_the_end_is_said_to_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, _) = broken(dir.path(), Path::new("/dev/full"));
    let observer = csv.observer();
    csv.offer(&record(0)).unwrap();
    until(|| observer.progress().failing).await;
    csv.offer(&record(1)).unwrap();
    assert_eq!((csv.end().await, observer.progress().written), (2, 0));
}
