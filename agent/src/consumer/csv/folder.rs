//! The disk, as the writer sees it: a directory of files that grow at their end. A trait, so that tests can fill it up, cut
//! a line in two or let it hang.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Modes of what is made here, less what the umask takes: the owner writes, the group may read.
const DIR_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Where the files are.
pub trait Folder: Send {
    /// Makes a file of this name; fails if there is one.
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Growing>>;
    /// Names of all files.
    fn names(&mut self) -> io::Result<Vec<String>>;
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A file that is written at its end only.
pub trait Growing: Write + Send {
    /// Takes away what lies beyond `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
    /// Whether its name still leads to it: not if it, or its directory, was moved, removed or mounted over.
    fn is_in_place(&self) -> bool;
}

/// A directory on disk.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes the directory unless it is there, and tries whether a file can be made in it. That the disk is full is no error
    /// here: it is one of those that pass.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)?;
        let directory = Self(path.to_owned());
        let probe = path.join(format!(".pams-probe-{}", std::process::id()));
        match OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&probe) {
            Ok(_) => fs::remove_file(&probe)?,
            Err(e) if passes(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(directory)
    }
}

/// The disk is full: a matter of time.
pub fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl Folder for Directory {
    /// The directory is made again if it vanished, its parents are not: a disk that is not mounted must not be written beside.
    fn create(&mut self, name: &str) -> io::Result<Box<dyn Growing>> {
        match DirBuilder::new().mode(DIR_MODE).create(&self.0) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists && !self.0.is_dir() => return Err(e),
            _ => {}
        }
        let path = self.0.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(&path)?;
        Ok(Box::new(OnDisk { file, path }))
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours.
        fs::read_dir(&self.0)?.filter_map(|e| e.map(|e| e.file_name().into_string().ok()).transpose()).collect()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

#[derive(Debug)]
struct OnDisk {
    file: File,
    path: PathBuf,
}

impl Write for OnDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Growing for OnDisk {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        // Never make it longer: somebody else may have cut it shorter.
        if self.file.metadata()?.len() > len { self.file.set_len(len) } else { Ok(()) }
    }

    fn is_in_place(&self) -> bool {
        let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        fs::symlink_metadata(&self.path).and_then(|there| Ok(same(there, self.file.metadata()?))).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_is_made_and_tried_and_its_files_are_for_the_group_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/csv");
        let mut folder = Directory::open(&path).unwrap();
        assert_eq!(folder.names().unwrap(), Vec::<String>::new(), "nothing is left of the probe");
        let mut file = folder.create("x.csv").unwrap();
        assert_eq!(folder.create("x.csv").err().unwrap().kind(), ErrorKind::AlreadyExists);
        file.write_all(b"whole\r\nha").unwrap();
        file.cut(7).unwrap();
        file.cut(100).unwrap();
        file.write_all(b"next\r\n").unwrap();
        assert_eq!(fs::read(path.join("x.csv")).unwrap(), b"whole\r\nnext\r\n");
        let mode = fs::metadata(path.join("x.csv")).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode & !FILE_MODE, mode & 0o600), (0, 0o600), "{mode:o}");

        assert!(file.is_in_place());
        fs::rename(&path, dir.path().join("moved")).unwrap();
        assert!(!file.is_in_place());
        let other = folder.create("x.csv").unwrap();
        assert!(other.is_in_place() && !file.is_in_place(), "another file of that name");
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert_eq!(folder.create("y.csv").err().unwrap().kind(), ErrorKind::NotFound, "parents are not made");
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(Directory::open(&path).is_err());
        assert!(Directory::open(&path.join("below")).is_err());
    }
}
