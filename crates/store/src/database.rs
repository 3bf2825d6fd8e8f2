//! One SQLite file, opened with care.

use crate::error::{Problem, StoreError};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, ffi};
use rusqlite_migration::{M, Migrations};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first SQLite without a fault that could damage a database in WAL mode when two connections
/// checkpoint at once (sqlite.org, release log of 3.51.3).
const LEAST_SQLITE: i32 = 3_051_003;

/// How long a lock of another process is waited for. State directories are locked, so that only a backup
/// or a curious `sqlite3` can hold one, and not for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest write-ahead log kept after a checkpoint: one large edit must not hold its disk space for ever.
const JOURNAL_SIZE_LIMIT: i64 = 16 << 20;

/// Mode of the files: they name every host, and hold hashes of tokens.
const MODE: u32 = 0o600;

/// The kind of a file: who made it, and how its tables came about.
pub(crate) struct Schema {
    /// SQLite's `application_id`, by which a file of another kind is told.
    pub(crate) application_id: i32,
    /// In order; only ever appended to.
    pub(crate) migrations: &'static [&'static str],
}

/// When a commit is safe from a power loss.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Before it returns.
    Full,
    /// At some later checkpoint. It is safe from the end of the process at once.
    Normal,
}

/// An open file.
pub(crate) struct Database {
    connection: Connection,
    pub(crate) path: PathBuf,
}

impl Database {
    /// Opens a file that exists.
    pub(crate) fn open(path: &Path, schema: &Schema, sync: Sync) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(|e| StoreError::new(path, OPENING, e))? {
            return Err(StoreError::new(path, OPENING, Problem::Missing));
        }
        Self::connect(path, schema, sync).map_err(|problem| StoreError::new(path, OPENING, problem))
    }

    /// Opens a file, which is made where there is none.
    pub(crate) fn open_or_create(path: &Path, schema: &Schema, sync: Sync) -> Result<Self, StoreError> {
        // SQLite gives its own files the mode of the main one.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path);
        made.map_err(|e| StoreError::new(path, OPENING, e))?;
        Self::open(path, schema, sync)
    }

    /// Opens a file that exists, beside its owner, to read from it only.
    pub(crate) fn open_to_read(path: &Path, schema: &Schema) -> Result<Self, StoreError> {
        let connect = || -> Result<Connection, Problem> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            schema.check(&connection)?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => Ok(Self { connection, path: path.to_owned() }),
            Err(problem) => Err(StoreError::new(path, OPENING, problem)),
        }
    }

    fn connect(path: &Path, schema: &Schema, sync: Sync) -> Result<Self, Problem> {
        if rusqlite::version_number() < LEAST_SQLITE {
            return Err(Problem::OldSqlite { found: rusqlite::version() });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Until the file is known to be ours, closing it again must not even move its log into it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        schema.check(&connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(Problem::NoWriteAheadLog);
        }
        connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_LIMIT)?;
        set_sync(&connection, Sync::Full)?;
        schema.migrate(&mut connection)?;
        set_sync(&connection, sync)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Problem>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|problem| StoreError::new(&self.path, doing, problem))
    }

    /// The connection, for who reads here while writing elsewhere.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Has SQLite look at every page.
    pub(crate) fn check_pages(&self) -> Result<(), StoreError> {
        self.read("check the file", |connection| {
            let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            match found.as_str() {
                "ok" => Ok(()),
                _ => Err(Problem::Inconsistent(found)),
            }
        })
    }

    /// Writes, all of it or nothing.
    pub(crate) fn write<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Problem>,
    ) -> Result<T, StoreError> {
        let run = || -> Result<T, Problem> {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|problem| StoreError::new(&self.path, doing, problem))
    }

    /// Sets when the commits that follow are safe from a power loss.
    pub(crate) fn set_sync(&self, sync: Sync) -> Result<(), StoreError> {
        self.read("set when to sync", |connection| set_sync(connection, sync))
    }

    /// Copies the whole file, as it is at one moment, to a path where nothing is, and reads of the same moment. Whoever
    /// writes to it is held up in nothing.
    pub(crate) fn copy_to<T>(
        &self,
        path: &Path,
        read: impl FnOnce(&Connection) -> Result<T, Problem>,
    ) -> Result<T, StoreError> {
        const DOING: &str = "make a copy";
        let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
        made.map_err(|e| StoreError::new(path, DOING, e))?;
        let copy = || -> Result<T, Problem> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut to = Connection::open_with_flags(path, flags)?;
            // What is read begins the transaction, and the copy is made in it.
            let moment = self.connection.unchecked_transaction()?;
            let read = read(&moment)?;
            copy_all(&self.connection, &mut to)?;
            to.close().map_err(|(_, error)| error)?;
            Ok(read)
        };
        copy().map_err(|problem| {
            // What is left of it is of no use; where it cannot be removed, the first error says why.
            let _ = remove(path);
            StoreError::new(path, DOING, problem)
        })
    }

    /// Becomes, in one transaction, what the other file is. Whoever reads beside it sees the one or the other.
    pub(crate) fn become_copy_of(&mut self, other: &Self) -> Result<(), StoreError> {
        copy_all(&other.connection, &mut self.connection)
            .map_err(|problem| StoreError::new(&self.path, "replace the content", problem))
    }

    /// Closes the file, after which the log beside it is gone.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        let Self { connection, path } = self;
        connection.close().map_err(|(_, error)| StoreError::new(&path, "close the file", error))
    }
}

const OPENING: &str = "open the file";

/// All in one step: between two, another connection's commit would make SQLite begin anew.
fn copy_all(from: &Connection, to: &mut Connection) -> Result<(), Problem> {
    match Backup::new(from, to)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None).into()),
    }
}

/// Removes a file that is not open, and what SQLite keeps beside it, where they are.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    for file in [path, &beside(path, "-wal"), &beside(path, "-shm"), &beside(path, "-journal")] {
        match std::fs::remove_file(file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// `path` with something appended to its file name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes a rename safe from a power loss.
pub(crate) fn sync_directory(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

fn set_sync(connection: &Connection, sync: Sync) -> Result<(), Problem> {
    let value = match sync {
        Sync::Full => "FULL",
        Sync::Normal => "NORMAL",
    };
    Ok(connection.pragma_update(None, "synchronous", value)?)
}

impl Schema {
    fn known(&self) -> i32 {
        i32::try_from(self.migrations.len()).unwrap_or(i32::MAX)
    }

    /// Refuses a file that is not of this kind, or that a later build has written. Writes nothing.
    fn check(&self, connection: &Connection) -> Result<(), Problem> {
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
        let found = number("PRAGMA user_version")?;
        let ours = match found {
            0 => number("SELECT count(*) FROM sqlite_schema")? == 0,
            _ => number("PRAGMA application_id")? == self.application_id,
        };
        match ours {
            false => Err(Problem::Foreign),
            true if found > self.known() => Err(Problem::NewerSchema { found, known: self.known() }),
            true => Ok(()),
        }
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), Problem> {
        let steps: Vec<M<'_>> = self.migrations.iter().map(|sql| M::up(sql)).collect();
        Ok(Migrations::new(steps).to_latest(connection)?)
    }
}

/// A number as SQLite holds it.
pub(crate) fn to_sql(what: &'static str, value: u64) -> Result<i64, Problem> {
    i64::try_from(value).map_err(|_| Problem::TooLarge { what, value })
}

/// A number as [`to_sql`] wrote it. A negative one, which it never writes, becomes 0.
pub(crate) fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
impl Database {
    /// Makes the disk full after so many pages more.
    pub(crate) fn leave_pages(&self, more: i64) {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        self.connection.pragma_update(None, "max_page_count", pages + more).unwrap();
    }

    /// Runs SQL as a vandal would.
    pub(crate) fn tamper(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }
}
