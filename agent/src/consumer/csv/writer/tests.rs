use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::{super::read::read, *};
use crate::sample;

/// Files in memory: on a disk with so much room, which may break, and may not let a line be taken back.
#[derive(Default)]
struct Fake {
    files: BTreeMap<String, Vec<u8>>,
    moved: Vec<Vec<u8>>,
    room: usize,
    broken: bool,
    stubborn: bool,
    /// Bytes that one file takes; beyond, its medium is broken.
    longest: usize,
}

#[derive(Clone)]
struct Disk(Arc<Mutex<Fake>>);

struct InMemory(Disk, String);

impl Disk {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Fake { room: usize::MAX, longest: usize::MAX, ..Fake::default() })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Fake) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    fn writer(&self, limits: Limits) -> Writer {
        Writer::new(Box::new(self.clone()), sample::ME, limits)
    }

    fn names(&self) -> Vec<String> {
        self.with(|f| f.files.keys().cloned().collect())
    }

    /// What stands in the files, by `opened_ms`, in the order of their names.
    fn numbers(&self) -> Vec<u64> {
        self.with(|f| f.moved.iter().chain(f.files.values()).flat_map(|bytes| numbers(bytes)).collect())
    }
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    let records = read(bytes).unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(bytes)));
    assert_eq!(records[0][0], "opened_ms");
    records[1..].iter().map(|r| r[0].parse().unwrap()).collect()
}

impl Folder for Disk {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Growing>> {
        self.with(|f| match f.files.contains_key(name) {
            _ if f.broken => Err(io::Error::from(ErrorKind::ReadOnlyFilesystem)),
            true => Err(ErrorKind::AlreadyExists.into()),
            false => {
                f.files.insert(name.to_owned(), Vec::new());
                Ok(())
            }
        })?;
        Ok(Box::new(InMemory(self.clone(), name.to_owned())))
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        Ok(Disk::names(self))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.with(|f| f.files.remove(name)).map(|_| ()).ok_or(ErrorKind::NotFound.into())
    }
}

impl Write for InMemory {
    /// Takes at most 100 bytes at once, and on a full disk what there is room for.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.with(|f| {
            let n = bytes.len().min(100).min(f.room);
            match n {
                _ if f.broken || f.files[&self.1].len() + n > f.longest => return Err(io::Error::other("broken")),
                0 => return Err(ErrorKind::StorageFull.into()),
                _ => f.room -= n,
            }
            f.files.get_mut(&self.1).unwrap().extend_from_slice(&bytes[..n]);
            Ok(n)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Growing for InMemory {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.0.with(|f| {
            if f.stubborn {
                return Err(ErrorKind::PermissionDenied.into());
            }
            f.files.get_mut(&self.1).unwrap().truncate(usize::try_from(len).unwrap());
            Ok(())
        })
    }

    fn is_in_place(&self) -> bool {
        self.0.with(|f| f.files.contains_key(&self.1))
    }
}

const ROOMY: Limits = Limits { max_size: 1 << 30, max_age: Duration::from_secs(3_600), keep: 100 };

fn at(s: u64) -> Moment {
    Moment::new(s * 1_000_000_000, 1_700_000_000_000 + s * 1_000)
}

fn records(numbers: std::ops::Range<u64>) -> VecDeque<Record> {
    numbers.map(|opened_ms| Record { opened_ms, ..sample::record(sample::peer(2)) }).collect()
}

#[test]
fn a_full_disk_leaves_whole_lines_and_what_was_not_written_comes_later() {
    let (disk, mut queue) = (Disk::new(), records(0..10));
    let mut writer = disk.writer(ROOMY);
    disk.with(|f| f.room = 1_000);
    let (written, outcome) = writer.write(at(0), &mut queue);
    let told = outcome.unwrap_err().to_string();
    assert!(told.starts_with("can not write pams-a1a1a1a1-a1a1-20231114T221320.000Z.csv: "), "{told}");
    assert_eq!((written as usize, 10 - queue.len()), (disk.numbers().len(), disk.numbers().len()));
    assert!((1..9).contains(&written), "{written}");
    // The room that the half line took is free again; it is not enough.
    assert_eq!(writer.write(at(1), &mut queue).0, 0);
    disk.with(|f| f.room = usize::MAX);
    assert_eq!(writer.write(at(2), &mut queue).0, 10 - written);
    assert_eq!((disk.numbers(), disk.names().len()), ((0..10).collect(), 1));
}

#[test]
fn a_half_line_that_can_not_be_taken_back_is_the_last_of_its_file() {
    let (disk, mut queue) = (Disk::new(), records(0..10));
    let mut writer = disk.writer(ROOMY);
    disk.with(|f| (f.room, f.stubborn) = (1_000, true));
    let (written, _) = writer.write(at(0), &mut queue);
    disk.with(|f| f.room = usize::MAX);
    assert!(writer.write(at(1), &mut queue).1.is_ok());
    let files: Vec<Vec<u8>> = disk.with(|f| f.files.values().cloned().collect());
    assert_eq!(files.len(), 2);
    let whole = files[0].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    assert!(whole < files[0].len());
    assert_eq!(numbers(&files[0][..whole]), (0..written).collect::<Vec<_>>());
    assert_eq!(numbers(&files[1]), (written..10).collect::<Vec<_>>());
}

#[test]
fn a_header_that_has_no_room_leaves_no_file() {
    let (disk, mut queue) = (Disk::new(), records(0..1));
    let mut writer = disk.writer(ROOMY);
    disk.with(|f| f.room = 50);
    assert!(writer.write(at(0), &mut queue).1.is_err());
    assert_eq!(disk.names(), Vec::<String>::new());
    disk.with(|f| f.broken = true);
    let told = writer.write(at(1), &mut queue).1.unwrap_err().to_string();
    assert!(told.starts_with("can not make pams-"), "{told}");
    disk.with(|f| (f.room, f.broken) = (usize::MAX, false));
    assert!(writer.write(at(2), &mut queue).1.is_ok());
    assert_eq!(disk.numbers(), [0]);
}

#[test]
fn a_medium_that_takes_no_line_costs_no_old_file_but_one() {
    let disk = Disk::new();
    let limits = Limits { max_age: Duration::from_secs(10), keep: 2, ..ROOMY };
    let mut writer = disk.writer(limits);
    for s in 0..3 {
        assert!(writer.write(at(s * 10), &mut records(s..s + 1)).1.is_ok());
    }
    disk.with(|f| f.longest = columns::header().len());
    let mut queue = records(3..4);
    for s in 30..40 {
        assert!(writer.write(at(s), &mut queue).1.is_err());
        assert_eq!(disk.numbers(), [1, 2], "tries: {}", s - 29);
    }
    disk.with(|f| f.longest = usize::MAX);
    assert!(writer.write(at(40), &mut queue).1.is_ok());
    assert_eq!(disk.numbers(), [1, 2, 3]);
}

#[test]
fn no_file_is_longer_than_its_bound_and_only_so_many_are_kept() {
    let disk = Disk::new();
    let others = ["pams-b2b2b2b2-b2b2-20200101T000000.000Z.csv", "pams-a1a1a1a1-a1a1-notes.csv", "x"];
    disk.with(|f| others.iter().for_each(|name| drop(f.files.insert((*name).to_owned(), Vec::new()))));
    let mut writer = disk.writer(Limits { max_size: 2_000, keep: 2, ..ROOMY });
    assert!(writer.write(at(0), &mut records(0..100)).1.is_ok());
    let mine: Vec<Vec<u8>> = disk.with(|f| f.files.values().filter(|bytes| !bytes.is_empty()).cloned().collect());
    assert_eq!((mine.len(), disk.names().len()), (3, 6), "{:?}", disk.names());
    assert!(mine.iter().all(|bytes| bytes.len() <= 2_000));
    let kept: Vec<u64> = mine.iter().flat_map(|bytes| numbers(bytes)).collect();
    assert_eq!(kept, (100 - kept.len() as u64..100).collect::<Vec<_>>(), "the newest, in the order of the names");
}

#[test]
fn a_new_file_is_begun_when_the_present_one_is_old_or_was_moved_away() {
    let disk = Disk::new();
    let mut writer = disk.writer(ROOMY);
    for (s, n) in [(0, 0), (3_599, 1), (3_600, 2), (3_601, 3)] {
        assert!(writer.write(at(s), &mut records(n..n + 1)).1.is_ok());
    }
    assert_eq!(
        disk.names(),
        ["pams-a1a1a1a1-a1a1-20231114T221320.000Z.csv", "pams-a1a1a1a1-a1a1-20231114T231320.000Z.csv"]
    );
    disk.with(|f| f.moved = std::mem::take(&mut f.files).into_values().collect());
    // The wall clock was set back by a day; names rise all the same.
    let back = Moment::new(at(3_602).ns(), at(3_602).wall_ms() - 86_400_000);
    assert!(writer.write(back, &mut records(4..5)).1.is_ok());
    assert_eq!(disk.names(), ["pams-a1a1a1a1-a1a1-20231114T231320.001Z.csv"]);
    assert_eq!(disk.numbers(), (0..5).collect::<Vec<_>>());
}

proptest! {
    /// Whatever the room is from try to try, each record that was said to be written stands once, in order, in strict files.
    #[test]
    fn nothing_is_lost_doubled_or_torn(rooms in prop::collection::vec(0..1_500_usize, 1..20), max_size in 1_000..4_000_u64) {
        let (disk, mut queue) = (Disk::new(), records(0..60));
        let mut writer = disk.writer(Limits { max_size, ..ROOMY });
        let mut said = 0;
        for (s, room) in rooms.into_iter().enumerate() {
            disk.with(|f| f.room = room);
            said += writer.write(at(s as u64), &mut queue).0;
            prop_assert_eq!(disk.numbers(), (0..said).collect::<Vec<_>>());
            prop_assert_eq!(queue.len() as u64, 60 - said);
        }
    }
}
