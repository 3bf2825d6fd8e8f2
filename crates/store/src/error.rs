//! What can go wrong with a file.

use echelon_core::position::Position;
use echelon_core::row::RowKey;
use echelon_wire::DecodeError;
use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// Something that was to be done with a file was not.
#[derive(Debug)]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What was being done, to stand after "cannot".
    pub doing: &'static str,
    /// Why it was not, which state is left, and what to do.
    pub problem: Problem,
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} in {}: {}", self.doing, self.path.display(), self.problem)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Display has said the problem itself.
        std::error::Error::source(&self.problem)
    }
}

impl StoreError {
    pub(crate) fn new(path: &Path, doing: &'static str, problem: impl Into<Problem>) -> Self {
        Self { path: path.to_owned(), doing, problem: problem.into() }
    }

    /// Whether the file itself is damaged, so that no retry will ever read it. A replica can then be given
    /// up with [`crate::set_aside`]; a registry is to be restored from a standby or a backup.
    pub fn is_damage(&self) -> bool {
        use Problem::*;
        matches!(
            self.problem,
            NoDatabase(_) | Damaged(_) | Inconsistent(_) | Undecodable { .. } | Chain { .. }
        )
    }
}

/// Why something was not done, which state is left, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no such file.
    #[error("there is no such file; nothing was made")]
    Missing,
    /// There is such a file already.
    #[error("it exists already and was left as it is; use it, or choose another state directory")]
    Exists,
    /// A later build has written it.
    #[error(
        "a later build has written it (schema {found}, this build knows up to {known}); \
         it was left untouched: run that build or a later one"
    )]
    NewerSchema {
        /// The file's schema.
        found: i32,
        /// The newest schema of this build.
        known: i32,
    },
    /// An SQLite database that something else has made.
    #[error("it is a database of another program or another kind; it was left untouched: check the path")]
    Foreign,
    /// No SQLite database.
    #[error("it is no SQLite database; it was left untouched: set it aside or restore it")]
    NoDatabase(#[source] rusqlite::Error),
    /// SQLite found it damaged.
    #[error("the file is damaged; nothing of this was written: set it aside or restore it")]
    Damaged(#[source] rusqlite::Error),
    /// SQLite's check found it damaged.
    #[error("the file is damaged ({0}); it was left untouched: set it aside or restore it")]
    Inconsistent(String),
    /// A row that this build cannot read.
    #[error("{what} cannot be read; the file was left as it is: set it aside or restore it")]
    Undecodable {
        /// What was to be read.
        what: &'static str,
        /// Why.
        source: Box<DecodeError>,
    },
    /// The journal's hash chain does not hold.
    #[error(
        "the journal was rewritten or damaged: the hash chain breaks at revision {revision}; \
         the file was left as it is: restore it, and find out who wrote to it"
    )]
    Chain {
        /// The first revision, from the newest down, whose hash does not fit.
        revision: u64,
    },
    /// An entry does not follow on the last one, by the grants there are.
    #[error(
        "the entry at {found} does not follow on {last}; nothing was written: this is a fault of the program"
    )]
    OutOfOrder {
        /// The last position in the file.
        last: Position,
        /// The entry's.
        found: Position,
    },
    /// The journal is not the one that a grant builds on.
    #[error(
        "the entry of revision {revision} is not the one that the newest grant builds on; \
         nothing was changed: the file is to be replaced by a copy of the primary's"
    )]
    Apart {
        /// Up to where the two should be one.
        revision: u64,
    },
    /// A copy of a registry is of another one.
    #[error("it is a copy of another registry; nothing was changed: check from where it was fetched")]
    OtherRegistry,
    /// A copy of a registry knows less of who may write.
    #[error(
        "the copy goes by older grants than this registry; nothing was changed: fetch one from the primary"
    )]
    OlderGrants,
    /// A commit changes a row that is not as it says.
    #[error(
        "the row {key:?} is not as the commit says it was; nothing was written: \
         memory and file have come apart, start again from the file"
    )]
    Diverged {
        /// The row.
        key: RowKey,
    },
    /// A number that SQLite cannot hold.
    #[error("{what} {value} is too large; nothing was written: this is a fault of the program")]
    TooLarge {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// No space is left.
    #[error("the disk is full; nothing of this was written: free some space, then repeat it")]
    DiskFull(#[source] rusqlite::Error),
    /// Another process has the file.
    #[error("another process holds the file; nothing was written: end that process, then repeat it")]
    Locked(#[source] rusqlite::Error),
    /// The disk failed.
    #[error(
        "the disk failed; what was being written may be there or not: check the disk, \
         then start again, which reads what is there"
    )]
    Disk(#[source] rusqlite::Error),
    /// The file may not be opened or written.
    #[error("the file cannot be opened or written; nothing was: check its owner and mode, and the disk's")]
    Access(#[source] rusqlite::Error),
    /// A file system that cannot share memory between connections.
    #[error(
        "the file system does not support SQLite's write-ahead log; nothing was written: use a local disk"
    )]
    NoWriteAheadLog,
    /// SQLite is older than is safe.
    #[error(
        "the SQLite in this build is {found}, and before 3.51.3 it could damage files; nothing was touched: build with a newer one"
    )]
    OldSqlite {
        /// Its version.
        found: &'static str,
    },
    /// The schema could not be made or brought up to date.
    #[error("its schema could not be brought up to date; it is as it was")]
    Migration(#[source] Box<rusqlite_migration::Error>),
    /// An operation on the file as a whole failed.
    #[error("the file system refused; nothing of this was done")]
    File(#[source] std::io::Error),
    /// Anything else that SQLite refuses.
    #[error("SQLite refused; nothing of this was written")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(error),
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged(error),
            Some(ErrorCode::NotADatabase) => Self::NoDatabase(error),
            Some(ErrorCode::SystemIoFailure) => Self::Disk(error),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::Access(error)
            }
            _ => Self::Sqlite(error),
        }
    }
}

impl From<rusqlite_migration::Error> for Problem {
    fn from(error: rusqlite_migration::Error) -> Self {
        match error {
            rusqlite_migration::Error::RusqliteError { err, .. } => err.into(),
            other => Self::Migration(Box::new(other)),
        }
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing,
            std::io::ErrorKind::AlreadyExists => Self::Exists,
            _ => Self::File(error),
        }
    }
}
