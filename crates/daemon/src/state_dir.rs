use crate::{
    bounded::read_at_most,
    secret::{parent_of, sync_directory},
    text::shell_word,
};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicBool, Ordering},
};
use thiserror::Error;

/// A state directory belongs to its owner alone.
const DIRECTORY_MODE: u32 = 0o700;

/// What others than the owner may do, among the permission bits.
const OTHERS: u32 = 0o077;

/// The file in a state directory whose lock says that a process uses it.
const LOCK_FILE: &str = "lock";

/// The longest content of a lock file that is read: a process id has at most 7 digits on Linux.
const MAX_LOCK_BYTES: u64 = 32;

/// The directory a process keeps its state in: private, and locked for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
    /// Whether the lock is another process's to give up.
    ceded: AtomicBool,
}

/// Why a state directory cannot be used. Nothing in it was changed.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// There is no such directory, and it was not to be made.
    #[error("the state directory {} does not exist; create it with `init` or `enroll`, or check --state", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The path is something else.
    #[error("{} is not a directory; name another one with --state", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Others than the owner may enter the directory.
    #[error(
        "others may use the directory {} (mode {mode:04o}), it was not opened; if nobody has copied its keys: \
         chmod 700 {}",
        path.display(), shell_word(&path.to_string_lossy())
    )]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process uses the directory.
    #[error(
        "the state directory {} is in use by {}; end that process first, or name another directory with --state",
        path.display(), holder(*pid)
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that locked it, where the lock file tells.
        pid: Option<u32>,
    },
    /// A lock that was handed over is that of another directory.
    #[error("the lock that was handed over is not that of {}; nothing was changed", path.display())]
    OtherLock {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {action} {}; check that this user owns it and that the disk works", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StateDir {
    /// Opens and locks the state directory at `path`; makes it, and its parents, where it is missing and `create`
    /// says so.
    ///
    /// # Errors
    /// Refuses a directory that others may enter, and one that another process (or another value in this one) uses.
    pub fn open(path: &Path, create: bool) -> Result<Self, StateDirError> {
        if create {
            create_private_dir(path)?;
        }
        check_private(path)?;
        let this = Self { path: path.to_owned(), lock: lock(path)?, ceded: AtomicBool::new(false) };
        this.sign()?;
        Ok(this)
    }

    /// The state directory at `path`, with the lock of the process that uses it, which has handed over the lock's
    /// descriptor. At no moment could anybody else have locked it. Until [`Self::claim`] the lock is still the other
    /// process's, and dropping this value leaves it locked.
    ///
    /// # Errors
    /// Refuses a directory that others may enter, and a lock that is not this directory's.
    pub fn adopt(path: &Path, lock: OwnedFd) -> Result<Self, StateDirError> {
        check_private(path)?;
        let (file, lock) = (path.join(LOCK_FILE), File::from(lock));
        let failed = |source| StateDirError::Io { action: "look at", path: file.clone(), source };
        let (there, here) = (fs::metadata(&file).map_err(failed)?, lock.metadata().map_err(failed)?);
        if (there.dev(), there.ino()) != (here.dev(), here.ino()) {
            return Err(StateDirError::OtherLock { path: path.to_owned() });
        }
        // The lock belongs to the open file that both descriptors are of, so that this takes it only where the other
        // process has given it up.
        locked(path, &lock)?;
        Ok(Self { path: path.to_owned(), lock, ceded: AtomicBool::new(true) })
    }

    /// From now on the lock is this process's, and given up with this value.
    ///
    /// # Errors
    /// The lock file cannot say so. The lock is this process's all the same.
    pub fn claim(&self) -> Result<(), StateDirError> {
        self.ceded.store(false, Ordering::SeqCst);
        self.sign()
    }

    /// From now on the lock is that of the process which [`Self::lock`] was handed over to.
    pub fn cede(&self) {
        self.ceded.store(true, Ordering::SeqCst);
    }

    /// The lock's descriptor, to be handed over.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Writes down for others who holds the lock.
    fn sign(&self) -> Result<(), StateDirError> {
        let failed = |source| StateDirError::Io { action: "lock", path: self.file(LOCK_FILE), source };
        let text = format!("{}\n", process::id());
        // Where the last holder stopped writing is of no account.
        self.lock.set_len(0).and_then(|()| self.lock.write_all_at(text.as_bytes(), 0)).map_err(failed)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file `name` in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.ceded.load(Ordering::SeqCst) {
            return;
        }
        // Closing is not enough: a child between fork and exec still holds a copy of the descriptor, and with it the
        // lock. Unlocking acts on all copies. If it fails, closing is what is left.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Makes the directory `path` with mode 0700, durably, and its parents where they are missing (those with the
/// umask's mode). One that exists is only checked.
///
/// # Errors
/// Refuses a path that is no directory, and a directory that others may enter.
pub fn create_private_dir(path: &Path) -> Result<(), StateDirError> {
    let failed = |source| StateDirError::Io { action: "create the directory", path: path.to_owned(), source };
    if !path.exists() {
        create_parents(parent_of(path)).map_err(failed)?;
        make_durably(path, DirBuilder::new().mode(DIRECTORY_MODE)).map_err(failed)?;
    }
    check_private(path)
}

fn create_parents(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    create_parents(parent_of(path))?;
    make_durably(path, &DirBuilder::new())
}

fn make_durably(path: &Path, builder: &DirBuilder) -> io::Result<()> {
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_directory(parent_of(path))),
    }
}

fn check_private(path: &Path) -> Result<(), StateDirError> {
    let path = path.to_owned();
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateDirError::Missing { path }),
        Err(source) => return Err(StateDirError::Io { action: "look at", path, source }),
    };
    if !metadata.is_dir() {
        return Err(StateDirError::NotADirectory { path });
    }
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS != 0 { Err(StateDirError::TooOpen { path, mode }) } else { Ok(()) }
}

fn lock(directory: &Path) -> Result<File, StateDirError> {
    let path = directory.join(LOCK_FILE);
    let failed = |source| StateDirError::Io { action: "lock", path: path.clone(), source };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = File::from(open(&path, flags, mode).map_err(|errno| failed(errno.into()))?);
    locked(directory, &file)?;
    Ok(file)
}

fn locked(directory: &Path, file: &File) -> Result<(), StateDirError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            Err(StateDirError::InUse { path: directory.to_owned(), pid: holder_in(file) })
        }
        Err(errno) => {
            let path = directory.join(LOCK_FILE);
            Err(StateDirError::Io { action: "lock", path, source: errno.into() })
        }
    }
}

/// The process id that the holder wrote, if it has got that far.
fn holder_in(lock: &File) -> Option<u32> {
    let bytes = read_at_most(lock, MAX_LOCK_BYTES).ok().flatten()?;
    str::from_utf8(&bytes).ok()?.trim_end().parse().ok()
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_child::{command, is_child, wait_end, wait_for};
    use std::os::unix::fs::PermissionsExt;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn it_is_made_private_with_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("var/lib/manager");
        let state = StateDir::open(&path, true).unwrap();
        assert_eq!(mode_of(&path), DIRECTORY_MODE);
        assert_eq!(mode_of(&path.join(LOCK_FILE)), 0o600);
        assert_eq!(state.file("journal.db"), path.join("journal.db"));
        assert_eq!(state.path(), path);
    }

    #[test]
    fn a_missing_one_is_made_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(matches!(StateDir::open(&path, false), Err(StateDirError::Missing { .. })));
        assert!(!path.exists());
        drop(StateDir::open(&path, true).unwrap());
        StateDir::open(&path, false).unwrap();
    }

    #[test]
    fn wide_modes_are_refused_with_the_command_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::create_dir(&path).unwrap();
        for mode in [0o750, 0o705, 0o710, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            for create in [false, true] {
                let error = StateDir::open(&path, create).unwrap_err().to_string();
                assert!(error.contains(&format!("(mode {mode:04o})")), "{error}");
                assert!(error.ends_with(&format!("chmod 700 {}", path.display())), "{error}");
            }
        }
        assert!(!path.join(LOCK_FILE).exists());
    }

    #[test]
    fn a_second_holder_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::open(&path, true).unwrap();
        let error = StateDir::open(&path, true).unwrap_err();
        assert!(matches!(error, StateDirError::InUse { pid: Some(pid), .. } if pid == process::id()));
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        fs::write(path.join(LOCK_FILE), "no number").unwrap();
        let error = StateDir::open(&path, true).unwrap_err();
        assert!(error.to_string().contains("in use by another process;"), "{error}");
        drop(first);
        StateDir::open(&path, false).unwrap();
    }

    #[test]
    fn a_lock_that_is_handed_over_is_held_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let in_use =
            || matches!(StateDir::open(&path, false), Err(StateDirError::InUse { pid: Some(_), .. }));
        let old = StateDir::open(&path, true).unwrap();
        let copy = || old.lock().try_clone_to_owned().unwrap();
        // One who never claims it takes nothing away.
        drop(StateDir::adopt(&path, copy()).unwrap());
        assert!(in_use());
        let new = StateDir::adopt(&path, copy()).unwrap();
        old.cede();
        new.claim().unwrap();
        drop(old);
        assert!(in_use());
        assert_eq!(fs::read_to_string(path.join(LOCK_FILE)).unwrap(), format!("{}\n", process::id()));
        drop(new);
        StateDir::open(&path, false).unwrap();
    }

    #[test]
    fn only_the_lock_of_this_directory_can_be_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        let (one_dir, _other_dir) =
            (StateDir::open(&one, true).unwrap(), StateDir::open(&other, true).unwrap());
        let lock = one_dir.lock().try_clone_to_owned().unwrap();
        assert!(matches!(StateDir::adopt(&other, lock), Err(StateDirError::OtherLock { .. })));
        // A file that is open a second time has no part in the lock.
        let stranger = File::open(one.join(LOCK_FILE)).unwrap();
        assert!(matches!(StateDir::adopt(&one, stranger.into()), Err(StateDirError::InUse { .. })));
    }

    #[test]
    fn the_lock_of_a_killed_process_is_free() {
        if is_child() {
            let path = std::env::var_os("STATE").unwrap();
            let _state = StateDir::open(Path::new(&path), true).unwrap();
            println!("child: locked");
            std::thread::sleep(crate::test_child::DEADLINE);
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut child = command("state_dir::tests::the_lock_of_a_killed_process_is_free")
            .env("STATE", &path)
            .spawn()
            .unwrap();
        wait_for(&mut child, "child: locked");
        let error = StateDir::open(&path, false).unwrap_err();
        assert!(matches!(error, StateDirError::InUse { pid: Some(pid), .. } if pid == child.id()), "{error}");
        child.kill().unwrap();
        wait_end(&mut child);
        StateDir::open(&path, false).unwrap();
    }

    #[test]
    fn files_links_and_pipes_in_the_way_are_answered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for create in [false, true] {
            assert!(matches!(StateDir::open(&file, create), Err(StateDirError::NotADirectory { .. })));
            assert!(matches!(StateDir::open(&file.join("below"), create), Err(StateDirError::Io { .. })));
        }
        let path = dir.path().join("state");
        create_private_dir(&path).unwrap();
        std::os::unix::fs::symlink(&file, path.join(LOCK_FILE)).unwrap();
        assert!(matches!(StateDir::open(&path, false), Err(StateDirError::Io { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"");
    }
}
