//! A data directory: made private, locked against a second daemon, and written so that a loss of power leaves the old
//! file or the new one, never half of one. It does not change the mode of a directory that was there before.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use super::IdentityError;

/// Longest file that is read here; the largest are all tokens and all bindings, which stay at half of it.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) fn make_dir(dir: &Path) -> Result<(), IdentityError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(IdentityError::io("make the directory", dir))
}

/// Looks at the lock so often before the directory counts as another's. A process that is just being started by this one's
/// predecessor can hold a copy of its lock for a moment.
const LOCK_LOOKS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Takes the directory for this process, until the file is dropped or the process ends.
pub(super) fn lock_dir(dir: &Path, daemon: &'static str) -> Result<File, IdentityError> {
    let path = dir.join("lock");
    let file = open_private(&path, OpenOptions::new().write(true).create(true).truncate(false))?;
    for _ in 1..LOCK_LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            _ => break,
        }
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IdentityError::Locked { dir: dir.into(), daemon }),
        Err(TryLockError::Error(e)) => Err(IdentityError::io("lock", path)(e)),
    }
}

/// Waits for a lock that is held only while a file is rewritten.
pub(super) fn lock_briefly(path: &Path) -> Result<File, IdentityError> {
    let file = open_private(path, OpenOptions::new().write(true).create(true).truncate(false))?;
    file.lock().map_err(IdentityError::io("lock", path))?;
    Ok(file)
}

pub(super) fn open_private(path: &Path, options: &mut OpenOptions) -> Result<File, IdentityError> {
    options.mode(0o600).open(path).map_err(IdentityError::io("open", path))
}

/// The file's bytes; `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(IdentityError::io("open", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(IdentityError::io("read", path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(damaged(path, format!("over {FILE_BYTES_MAX} bytes"), "it cannot be this program's; move it away"));
    }
    Ok(Some(bytes))
}

/// Puts `bytes` in place of the file, all or nothing.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let mut file = open_private(temporary, OpenOptions::new().write(true).create(true).truncate(true))?;
    // One that an earlier crash left may have any mode.
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(IdentityError::io("protect", temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(IdentityError::io("write", temporary))?;
    fs::rename(temporary, path).map_err(IdentityError::io("replace", path))?;
    // The renaming has to last as well.
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).map_err(IdentityError::io("sync", dir))
}

pub(super) fn damaged(path: &Path, problem: impl ToString, advice: &'static str) -> IdentityError {
    IdentityError::Damaged { path: path.into(), problem: problem.to_string(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_private_whatever_was_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        make_dir(&data).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        let path = data.join("x");
        let left = data.join("x.tmp");
        fs::write(&left, "half of an old fi").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
        assert!(!left.exists());
        assert!(read(&data.join("none")).unwrap().is_none());
    }

    #[test]
    fn a_second_daemon_is_locked_out_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock_dir(dir.path(), "pams-server").unwrap();
        let message = lock_dir(dir.path(), "pams-server").unwrap_err().to_string();
        assert!(message.contains(dir.path().to_str().unwrap()) && message.contains("another pams-server"), "{message}");
        drop(first);
        lock_dir(dir.path(), "pams-server").unwrap();
    }
}
