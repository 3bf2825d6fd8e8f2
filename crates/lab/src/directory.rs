//! Where a lab keeps the state of everything that runs in it.

use echelon_daemon::create_private_dir;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Longest path of a unix socket on Linux, in bytes (unix(7): 108 with the final NUL).
const MAX_SOCKET_PATH: usize = 107;

/// A directory for one lab: `manager` in it is the manager's, `agents` has one for each host, `sockets`
/// the forwarders.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Removes the directory when it is dropped; none for one that is kept.
    _temporary: Option<TempDir>,
}

/// Why there is no directory. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is something in it.
    #[error("{} is not empty: name a new directory with --keep", .0.display())]
    NotEmpty(PathBuf),
    /// It could not be made or read.
    #[error("the directory {} cannot be used", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not private, or could not be made so.
    #[error(transparent)]
    Private(#[from] echelon_daemon::StateDirError),
}

impl Directory {
    /// A new directory at `keep`, or a temporary one.
    pub(crate) fn new(keep: Option<&Path>) -> Result<Self, DirectoryError> {
        let directory = match keep {
            Some(path) => {
                create_private_dir(path)?;
                let io = |source| DirectoryError::Io { path: path.to_owned(), source };
                if fs::read_dir(path).map_err(io)?.next().is_some() {
                    return Err(DirectoryError::NotEmpty(path.to_owned()));
                }
                Self { path: fs::canonicalize(path).map_err(io)?, _temporary: None }
            }
            None => {
                let path = std::env::temp_dir();
                let made = tempfile::Builder::new().prefix("echelon-lab-").tempdir();
                let temporary = made.map_err(|source| DirectoryError::Io { path, source })?;
                Self { path: temporary.path().to_owned(), _temporary: Some(temporary) }
            }
        };
        for part in ["agents", "sockets"] {
            create_private_dir(&directory.path.join(part))?;
        }
        Ok(directory)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The manager's state directory.
    pub(crate) fn manager(&self) -> PathBuf {
        self.path.join("manager")
    }

    /// The state directory of a host's agent.
    pub(crate) fn agent(&self, host: &str) -> PathBuf {
        self.path.join("agents").join(host)
    }

    /// The socket of a host's forwarder for a type: `sockets/HOST:TYPE`, or numbers where that is longer
    /// than names of sockets may be.
    pub(crate) fn forward(&self, (host, number): (&str, usize), (ty, type_number): (&str, usize)) -> PathBuf {
        self.socket(format!("{host}:{ty}"), || format!("{number}:{type_number}"))
    }

    /// The socket of a host's API: `sockets/HOST`, or its number.
    pub(crate) fn api(&self, host: &str, number: usize) -> PathBuf {
        self.socket(host.to_owned(), || format!(":{number}"))
    }

    fn socket(&self, name: String, short: impl FnOnce() -> String) -> PathBuf {
        let sockets = self.path.join("sockets");
        let path = sockets.join(name);
        if path.as_os_str().len() <= MAX_SOCKET_PATH { path } else { sockets.join(short()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_one_goes_and_a_kept_one_stays() {
        let temporary = Directory::new(None).unwrap();
        let path = temporary.path().to_owned();
        fs::write(temporary.api("agent1", 0), "").unwrap();
        drop(temporary);
        assert!(!path.exists());

        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("lab");
        drop(Directory::new(Some(&path)).unwrap());
        assert!(path.join("agents").is_dir());
        let error = Directory::new(Some(&path)).unwrap_err();
        assert!(matches!(error, DirectoryError::NotEmpty(_)), "{error}");
    }

    #[test]
    fn sockets_are_named_for_people_where_the_name_fits() {
        let directory = Directory::new(None).unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name(directory.forward(("agent4", 3), ("audit", 1))), "agent4:audit");
        assert_eq!(name(directory.api("agent4", 3)), "agent4");
        let long = "h".repeat(253);
        assert_eq!(name(directory.forward((&long, 3), ("audit", 1))), "3:1");
        assert_eq!(name(directory.api(&long, 3)), ":3");
    }
}
