//! Files that only their owner may read: keys, identities, tokens.

use crate::{bounded::read_at_most, text::shell_word};
use rustix::fs::{Mode, OFlags, fchmod, open};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};
use thiserror::Error;

/// What a secret file may allow at most: its owner reads and writes.
const SECRET_MODE: u32 = 0o600;

/// The permission bits of a file's mode, without its kind and the set-id bits.
const PERMISSIONS: u32 = 0o777;

/// Why a secret file was not read or written.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("cannot read the secret file {}; check the path and that this user owns it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The path is a directory, a pipe or a device.
    #[error("{} is not a regular file; name the secret file itself", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others than the owner may use the file.
    #[error(
        "others may use the secret file {} (mode {mode:04o}), it was not read; if nobody has copied it: chmod 600 {}",
        path.display(), shell_word(&path.to_string_lossy())
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds more than was allowed for.
    #[error("{} is larger than {max} bytes and was not read; check that it is the right file", path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: u64,
    },
    /// The new content is not on disk. What was there before is unchanged.
    #[error(
        "cannot write the secret file {}; what it held before is unchanged, check space and permissions of its \
         directory and repeat",
        path.display()
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The new content is in place, but a power loss may still undo it.
    #[error("{} was replaced, but its directory could not be made durable; repeating is safe", path.display())]
    NotDurable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Reads a secret file of at most `max` bytes.
///
/// # Errors
/// Refuses a file whose mode is wider than 0600, anything but a regular file, and more than `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    // Not blocking, because opening a pipe would otherwise wait for its other end; the opened file is judged, not
    // the path, so that it cannot be exchanged in between.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(open(path, flags, Mode::empty()).map_err(|errno| unreadable(errno.into()))?);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & PERMISSIONS;
    if mode & !SECRET_MODE != 0 {
        return Err(SecretError::TooOpen { path: path.to_owned(), mode });
    }
    let bytes = read_at_most(file, max).map_err(unreadable)?;
    bytes.ok_or_else(|| SecretError::TooBig { path: path.to_owned(), max })
}

/// Writes a secret file with mode 0600 so that after any crash it holds either the old content or all of the new:
/// a temporary file beside it is filled, made durable, and renamed over it.
///
/// A crash in between may leave the temporary file (`.NAME.PID-N.tmp`, also 0600) behind; it is never read.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let unwritable = |source| SecretError::Unwritable { path: path.to_owned(), source };
    let temporary = temporary_beside(path).map_err(unwritable)?;
    let renamed = fill(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = renamed {
        // Best effort: the cause is what matters, and a leftover is harmless.
        let _ = fs::remove_file(&temporary);
        return Err(unwritable(source));
    }
    sync_directory(parent_of(path))
        .map_err(|source| SecretError::NotDurable { path: path.to_owned(), source })
}

/// Makes the names in `directory` durable, which syncing a file in it does not.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory that `path` is in; `.` for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name that no other thread and no other living process uses.
fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!(".{}.{}-{number}.tmp", name.to_string_lossy(), process::id());
    Ok(path.with_file_name(name))
}

fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // One left behind by a dead process with our id; anything else is found by `create_new`, which follows no link.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRET_MODE).open(path)?;
    fchmod(&file, Mode::from_raw_mode(SECRET_MODE))?; // against a umask that takes more away
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_child::DEADLINE;
    use std::{
        os::unix::fs::{PermissionsExt, symlink},
        sync::mpsc,
        thread,
    };

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_was_written_is_read_back_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & PERMISSIONS, SECRET_MODE);
        assert_eq!(names(dir.path()), ["key.pem"]);
    }

    #[test]
    fn a_replaced_file_does_not_keep_its_wide_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        fs::write(&path, b"old").unwrap();
        chmod(&path, 0o644);
        write(&path, b"new").unwrap();
        assert_eq!(read(&path, 100).unwrap(), b"new");
    }

    #[test]
    fn wide_modes_are_refused_with_the_command_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a key");
        write(&path, b"x").unwrap();
        for mode in [0o604, 0o640, 0o620, 0o601, 0o700, 0o644] {
            chmod(&path, mode);
            let error = read(&path, 100).unwrap_err().to_string();
            assert!(error.contains(&format!("(mode {mode:04o})")), "{error}");
            assert!(error.ends_with(&format!("chmod 600 '{}'", path.display())), "{error}");
        }
        chmod(&path, 0o400);
        assert_eq!(read(&path, 100).unwrap(), b"x");
    }

    #[test]
    fn size_and_kind_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"12345").unwrap();
        assert!(matches!(read(&path, 4), Err(SecretError::TooBig { max: 4, .. })));
        assert!(matches!(read(dir.path(), 4), Err(SecretError::NotAFile { .. })));
        assert!(matches!(read(Path::new("/dev/null"), 4), Err(SecretError::NotAFile { .. })));
        let Err(SecretError::Unreadable { source, .. }) = read(&dir.path().join("absent"), 4) else {
            panic!("an absent file was read");
        };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(SECRET_MODE)).unwrap();
        let (done, answer) = mpsc::channel();
        thread::spawn(move || done.send(read(&path, 4)));
        let answer = answer.recv_timeout(DEADLINE).expect("it waited for a writer");
        assert!(matches!(answer, Err(SecretError::NotAFile { .. })));
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::create_dir_all(taken.join("full")).unwrap();
        assert!(matches!(write(&taken, b"x"), Err(SecretError::Unwritable { .. })));
        assert!(taken.join("full").is_dir());
        assert_eq!(names(dir.path()), ["taken"]);
        assert!(matches!(write(Path::new("/"), b"x"), Err(SecretError::Unwritable { .. })));
        assert!(matches!(write(&dir.path().join("no/such/dir"), b"x"), Err(SecretError::Unwritable { .. })));
    }

    #[test]
    fn a_link_is_replaced_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, b"theirs").unwrap();
        symlink(&target, &link).unwrap();
        write(&link, b"ours").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        assert_eq!(read(&link, 100).unwrap(), b"ours");
    }
}
