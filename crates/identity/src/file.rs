//! Files that are replaced whole, and secrets that only their owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of a file with a secret in it.
pub const SECRET: u32 = 0o600;

/// Mode of a file that anybody may read.
pub const PUBLIC: u32 = 0o644;

/// Mode of a directory with secrets in it.
pub const PRIVATE_DIRECTORY: u32 = 0o700;

/// Most bytes of a file read here: credentials take about 3 KiB, four roots less.
pub const MAX_FILE: u64 = 64 * 1024;

/// Why a file could not be read or written. After a failed write the former file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error(
        "{} has mode {mode:04o} and others may have read it; type: chmod {fix:o} {}",
        .path.display(), .path.display()
    )]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        fix: u32,
    },
    /// Not one of ours.
    #[error("{} has more than {MAX_FILE} bytes and is no file of this program", .0.display())]
    TooLong(PathBuf),
    /// Not text.
    #[error("{} is not text; restore it from a backup", .0.display())]
    NotText(PathBuf),
}

impl FileError {
    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Replaces `path` by `text` in one step that a crash cannot halve: a new file beside it is written,
/// synced and renamed over it. The new file has `mode`, less the process's umask.
///
/// # Errors
/// [`FileError::Io`]; the former file, if any, is then as it was.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let new = beside(path);
    write_new(&new, text, mode)
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| sync_directory(path))
        .map_err(io_error("write", path))
}

/// The text of a file that holds a secret.
///
/// # Errors
/// It is readable by others, too long, not text, or cannot be read.
pub fn read_secret(path: &Path) -> Result<String, FileError> {
    let file = File::open(path).map_err(io_error("read", path))?;
    let mode = file.metadata().map_err(io_error("read", path))?.permissions().mode();
    refuse_open(path, mode, SECRET)?;
    read_text(file, path)
}

/// The text of a file that anybody may read.
///
/// # Errors
/// It is too long, not text, or cannot be read.
pub fn read(path: &Path) -> Result<String, FileError> {
    read_text(File::open(path).map_err(io_error("read", path))?, path)
}

/// Makes a directory, and those above it that are missing, for its owner alone. One that is there is
/// checked as [`check_private_directory`] does.
///
/// # Errors
/// It cannot be made, or others can enter the one that is there.
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path);
    made.map_err(io_error("create", path))?;
    check_private_directory(path)
}

/// Whether only the owner can enter this directory.
///
/// # Errors
/// Others can, or it is not there.
pub fn check_private_directory(path: &Path) -> Result<(), FileError> {
    let mode = fs::metadata(path).map_err(io_error("read", path))?.permissions().mode();
    refuse_open(path, mode, PRIVATE_DIRECTORY)
}

fn refuse_open(path: &Path, mode: u32, fix: u32) -> Result<(), FileError> {
    let mode = mode & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(FileError::TooOpen { path: path.to_owned(), mode, fix })
}

fn read_text(file: File, path: &Path) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that just fits.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_owned()))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn write_new(new: &Path, text: &str, mode: u32) -> io::Result<()> {
    // What a crash left behind may have another mode; it is not written into.
    match fs::remove_file(new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes the rename itself survive a power loss.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn secrets_are_written_for_their_owner_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        fs::write(beside(&path), "left by a crash").unwrap();
        for text in ["one", "two"] {
            write(&path, text, SECRET).unwrap();
            assert_eq!(read_secret(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SECRET);
        assert!(!beside(&path).exists());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_command_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        fs::write(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(read_secret(&path).is_ok());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o750)).unwrap();
        let error = check_private_directory(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_file_too_long_or_not_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.pem");
        fs::write(&path, vec![b'a'; 1 << 17]).unwrap();
        assert!(matches!(read(&path), Err(FileError::TooLong(_))));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read(&path), Err(FileError::NotText(_))));
        assert!(read(&dir.path().join("none")).unwrap_err().is_not_found());
    }
}
