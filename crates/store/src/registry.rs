//! The registry's rows and its journal.

mod adopt;
mod copy;
mod journal;
mod meta;
mod rows;
pub(crate) mod sql;
mod standing;

use crate::database::{self, Database, Schema, Sync, beside, sync_directory};
use crate::entry::Entry;
use crate::error::{Problem, StoreError};
use echelon_core::grant::{Chain, Mark};
use echelon_core::id::RequestId;
use echelon_core::member::{self, Seals, link};
use echelon_core::position::Position;
use echelon_core::row::{Commit, Row};
use echelon_core::time::UnixMillis;
use rusqlite::Connection;
use std::path::Path;

use meta::Extent;
pub(crate) use meta::Meta;
pub use standing::Standing;

/// Most entries in one part, which may become one message to another manager.
pub(crate) const MAX_PART_ENTRIES: i64 = echelon_wire::MAX_ENTRIES as i64;

/// Bytes of entries after which a part ends: one can have tens of megabytes, and is read whole.
pub(crate) const MAX_PART_BYTES: usize = 1 << 20;

/// The application id is "ECHr" in ASCII; any number that no other program uses would do.
pub(crate) const SCHEMA: Schema = Schema {
    application_id: 0x4543_4872,
    migrations: &[
        "
        PRAGMA application_id = 0x45434872;
        CREATE TABLE meta (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            lineage BLOB NOT NULL,
            epoch INTEGER NOT NULL,
            revision INTEGER NOT NULL,
            genesis_revision INTEGER NOT NULL,
            genesis BLOB NOT NULL,
            chain BLOB NOT NULL
        ) STRICT;
        CREATE TABLE row (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
        CREATE TABLE journal (
            revision INTEGER PRIMARY KEY,
            epoch INTEGER NOT NULL,
            lineage BLOB NOT NULL,
            at INTEGER NOT NULL,
            request BLOB NOT NULL UNIQUE,
            content BLOB NOT NULL,
            chain BLOB NOT NULL,
            entry BLOB NOT NULL
        ) STRICT;
        CREATE INDEX journal_at ON journal (at);
        ",
        // What a build without grants appended was committed by that.
        "
        ALTER TABLE meta ADD COLUMN committed INTEGER NOT NULL DEFAULT 0;
        UPDATE meta SET committed = revision;
        CREATE TABLE standing (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            grants BLOB NOT NULL,
            seal BLOB,
            rolled_back BLOB
        ) STRICT;
        CREATE TABLE surplus (
            id INTEGER PRIMARY KEY,
            lineage BLOB NOT NULL,
            epoch INTEGER NOT NULL,
            entry BLOB NOT NULL
        ) STRICT;
        ",
        "
        ALTER TABLE surplus ADD COLUMN dismissed_at INTEGER;
        ALTER TABLE surplus ADD COLUMN dismissed_by TEXT;
        ",
    ],
};

/// A registry manager's file. What was appended is safe from a power loss before [`RegistryStore::append`]
/// returns; how much of it is committed, the caller says.
///
/// The rows in the file are those of the newest entry. The entries that are not known to be committed are the
/// **tail**: they may have to go again, when another manager turns out to have become the primary.
pub struct RegistryStore {
    database: Database,
    head: Mark,
    committed: u64,
    grants: Chain,
}

/// What a registry manager starts from.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The last position that is known to be committed. More may be: what came last before a crash is not told.
    pub position: Position,
    /// All rows there, by key.
    pub rows: Vec<Row>,
    /// The change sets up to there whose request ids are still remembered, by revision.
    pub requests: Vec<Remembered>,
    /// The entries above it, oldest first.
    pub tail: Vec<Entry>,
}

/// A change set as it is remembered for the case that it comes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// Its id.
    pub request: RequestId,
    /// The hash of what was asked; see [`echelon_wire::content_hash`].
    pub content: [u8; 32],
    /// The position it made.
    pub position: Position,
}

impl RegistryStore {
    /// Makes a file that holds these rows at this revision, made under the newest of these grants, and an empty
    /// journal. It is there whole, or not at all.
    ///
    /// # Errors
    /// [`Problem::Exists`] where there is a file; else nothing but a file named `.new` is left behind,
    /// which the next call replaces.
    pub fn create(path: &Path, grants: &Chain, revision: u64, rows: &[Row]) -> Result<Self, StoreError> {
        const DOING: &str = "make the registry";
        let fail = |e: std::io::Error| StoreError::new(path, DOING, e);
        if path.try_exists().map_err(fail)? {
            return Err(StoreError::new(path, DOING, Problem::Exists));
        }
        let unfinished = beside(path, ".new");
        database::remove(&unfinished).map_err(fail)?;
        let mut database = Database::open_or_create(&unfinished, &SCHEMA, Sync::Full)?;
        database.write(DOING, |transaction| {
            let position = grants.head().id.at(revision);
            let hash = rows::insert_all(transaction, position, rows)?;
            Meta::insert(transaction, &Mark { position, hash })?;
            Standing::insert(transaction, grants)
        })?;
        database.close()?;
        std::fs::rename(&unfinished, path).map_err(fail)?;
        sync_directory(path).map_err(fail)?;
        Self::open(path)
    }

    /// Opens a file, and checks the newest part of its journal's hash chain. One of an older build is brought up
    /// to date.
    ///
    /// # Errors
    /// There is none, it is damaged, or a later build has written it. It is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::of(Database::open(path, &SCHEMA, Sync::Full)?, Extent::Newest)
    }

    /// The store of an open file.
    fn of(mut database: Database, extent: Extent) -> Result<Self, StoreError> {
        let (meta, standing) = database.read("check the journal", |connection| {
            let meta = Meta::load(connection)?;
            meta.check_chain(connection, extent)?;
            Ok((meta, Standing::load(connection)?))
        })?;
        let grants = match standing {
            Some(standing) => standing.grants,
            None => database.write("bring the file up to date", |transaction| {
                let grants = standing::of_old_file(transaction, meta.head.position)?;
                Standing::insert(transaction, &grants)?;
                Ok(grants)
            })?,
        };
        Ok(Self { database, head: meta.head, committed: meta.committed, grants })
    }

    /// The newest entry: its position, and the hash of the journal up to and with it. Whoever keeps that will
    /// notice a history rewritten.
    pub fn head(&self) -> Mark {
        self.head
    }

    /// The revision up to which entries are known to be committed.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// All grants that this manager knows of.
    pub fn grants(&self) -> &Chain {
        &self.grants
    }

    /// By whose word this manager goes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn standing(&self) -> Result<Standing, StoreError> {
        self.database.read("read the grants", |connection| {
            Standing::load(connection)?.ok_or_else(|| Problem::Inconsistent("it says no grants".into()))
        })
    }

    /// The committed registry, the change sets committed at or after `since` (those whose request ids are to be
    /// remembered), and the tail.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(&self, since: UnixMillis) -> Result<Loaded, StoreError> {
        self.database.read("load the registry", |connection| {
            let tail = self.tail(connection)?;
            let rows = rows::before(rows::load_all(connection)?, &tail);
            let requests = journal::requests(connection, since, self.committed)?;
            let mark = self.mark(connection, self.committed)?;
            let position = mark.ok_or(Problem::Chain { revision: self.committed })?.position;
            Ok(Loaded { position, rows, requests, tail })
        })
    }

    /// When the commits at or after `since` were made, and how many managers served before each; by revision.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn served(&self, since: UnixMillis) -> Result<Vec<(UnixMillis, u64)>, StoreError> {
        self.database
            .read("read the journal", |connection| journal::served(connection, since, self.committed))
    }

    /// Appends entries, all of them or none, in one transaction, and notes that those up to revision `committed`
    /// are committed. Safe from a power loss when it returns.
    ///
    /// # Errors
    /// Nothing was written and the registry is as before, except after [`Problem::Disk`]: then a restart
    /// must find out, and nothing may be answered.
    pub fn append(&mut self, entries: &[Entry], committed: u64) -> Result<(), StoreError> {
        let head = entries.last().map_or(self.head, |last| last.mark);
        let committed = committed.clamp(self.committed, head.revision());
        self.database.write("append to the journal", |transaction| {
            let mut last = self.head;
            for entry in entries {
                check_follows(&self.grants, &last, entry)?;
                entry.commit.rows.iter().try_for_each(|change| rows::apply(transaction, change))?;
                journal::insert(transaction, entry)?;
                last = entry.mark;
            }
            Meta::advance(transaction, &last, committed)
        })?;
        (self.head, self.committed) = (head, committed);
        Ok(())
    }

    /// Notes that entries up to this revision are committed, where there is nothing to append.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn set_committed(&mut self, revision: u64) -> Result<(), StoreError> {
        match revision > self.committed {
            true => self.append(&[], revision),
            false => Ok(()),
        }
    }

    /// Keeps the promises that this manager is held by, in place of those that are kept. Safe from a power loss when
    /// it returns.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn set_seals(&mut self, seals: &Seals) -> Result<(), StoreError> {
        self.database.write("keep promises", |transaction| Standing::set_seals(transaction, seals))
    }

    /// Notes that others have seen this position, which the file has lost.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn set_rolled_back(&mut self, seen: Position) -> Result<(), StoreError> {
        self.database.write("note what was lost", |transaction| Standing::set_rolled_back(transaction, &seen))
    }

    /// The commit that made this revision; none where the journal does not reach back to it, or not yet
    /// forward.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn commit_at(&self, revision: u64) -> Result<Option<Commit>, StoreError> {
        self.database.read("read the journal", |connection| journal::commit(connection, revision))
    }

    /// The mark of this revision; none where the journal does not have it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn mark_at(&self, revision: u64) -> Result<Option<Mark>, StoreError> {
        self.database.read("read the journal", |connection| self.mark(connection, revision))
    }

    /// The oldest entries after this mark, in order: one at least, where there is one, and more as far
    /// as a part holds them. How they change the standbys that count is not looked up: whoever gets the bytes reads
    /// it. None where this journal has no such mark.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn entries_after(&self, after: &Mark) -> Result<Option<Vec<member::Entry>>, StoreError> {
        self.database.read("read the journal", |connection| {
            match self.mark(connection, after.revision())? {
                Some(mark) if mark == *after => journal::after(connection, after.revision()).map(Some),
                _ => Ok(None),
            }
        })
    }

    fn mark(&self, connection: &Connection, revision: u64) -> Result<Option<Mark>, Problem> {
        journal::mark(connection, revision, &self.grants)
    }

    fn tail(&self, connection: &Connection) -> Result<Vec<Entry>, Problem> {
        let mark = self.mark(connection, self.committed)?;
        journal::tail(connection, &mark.ok_or(Problem::Chain { revision: self.committed })?)
    }
}

/// Whether this entry may come after that one, by these grants.
fn check_follows(grants: &Chain, last: &Mark, entry: &Entry) -> Result<(), Problem> {
    let (last_at, found) = (last.position, entry.mark.position);
    let next = last.revision().checked_add(1) == Some(entry.revision());
    let linked = link(&last.hash, &entry.bytes) == entry.mark.hash;
    match next && linked && grants.contains(&found) {
        true => Ok(()),
        false => Err(Problem::OutOfOrder { last: last_at, found }),
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
pub(crate) mod tests;

#[cfg(test)]
mod tail_tests;
