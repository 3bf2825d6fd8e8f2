//! The registry's rows and its journal.

use crate::chain::{self, Link};
use crate::database::{Database, Schema, Sync, from_sql, to_sql};
use crate::error::{Problem, StoreError};
use echelon_core::id::{Lineage, RequestId};
use echelon_core::position::Position;
use echelon_core::row::{Commit, Row, RowChange};
use echelon_core::time::UnixMillis;
use echelon_wire::Wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::path::{Path, PathBuf};

/// How many of the newest entries have their hashes checked when the file is opened: the work of a second
/// at most, and far more than a crash can have damaged. Agents witness the rest.
const CHECKED_ENTRIES: usize = 1_000;

/// After so many bytes of entries the check ends early: entries can have tens of megabytes each.
const CHECKED_BYTES: usize = 64 << 20;

/// The application id is "ECHr" in ASCII; any number that no other program uses would do.
pub(crate) const SCHEMA: Schema = Schema {
    application_id: 0x4543_4872,
    migrations: &["
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
    "],
};

/// A registry manager's file. Every commit is safe from a power loss before [`RegistryStore::append`]
/// returns.
pub struct RegistryStore {
    database: Database,
    position: Position,
    chain: Link,
}

/// What a registry manager starts from.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The last committed position.
    pub position: Position,
    /// All rows, by key.
    pub rows: Vec<Row>,
    /// The change sets whose request ids are still remembered, by revision.
    pub requests: Vec<Remembered>,
}

/// A committed change set as it is remembered for the case that it comes again.
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
    /// Makes a file that holds these rows at this position, and an empty journal. It is there whole, or not
    /// at all.
    ///
    /// # Errors
    /// [`Problem::Exists`] where there is a file; else nothing but a file named `.new` is left behind,
    /// which the next call replaces.
    pub fn create(path: &Path, position: Position, rows: &[Row]) -> Result<Self, StoreError> {
        const DOING: &str = "make the registry";
        let fail = |e: std::io::Error| StoreError::new(path, DOING, e);
        if path.try_exists().map_err(fail)? {
            return Err(StoreError::new(path, DOING, Problem::Exists));
        }
        let unfinished = beside(path, ".new");
        for leftover in [&unfinished, &beside(&unfinished, "-wal"), &beside(&unfinished, "-shm")] {
            match std::fs::remove_file(leftover) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
                _ => {}
            }
        }
        let mut database = Database::open_or_create(&unfinished, &SCHEMA, Sync::Full)?;
        database.write(DOING, |transaction| insert_all(transaction, position, rows))?;
        database.close()?;
        std::fs::rename(&unfinished, path).map_err(fail)?;
        sync_directory(path).map_err(fail)?;
        Self::open(path)
    }

    /// Opens a file, and checks the newest part of its journal's hash chain.
    ///
    /// # Errors
    /// There is none, it is damaged, or a later build has written it. It is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::open(path, &SCHEMA, Sync::Full)?;
        let (position, chain) = database.read("check the journal", |connection| {
            let meta = Meta::load(connection)?;
            meta.check_chain(connection)?;
            Ok((meta.position, meta.chain))
        })?;
        Ok(Self { database, position, chain })
    }

    /// The last committed position.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The hash of the journal up to the last commit: whoever keeps it will notice a history rewritten.
    pub fn chain_head(&self) -> [u8; 32] {
        self.chain
    }

    /// The registry, and the change sets committed at or after `since`: those whose request
    /// ids are to be remembered.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(&self, since: UnixMillis) -> Result<Loaded, StoreError> {
        self.database.read("load the registry", |connection| {
            let mut rows = connection
                .prepare("SELECT value FROM row")?
                .query_and_then([], |r| decode::<Row>("a row", r.get_ref(0)?.as_blob().map_err(not_a_blob)?))?
                .collect::<Result<Vec<_>, _>>()?;
            rows.sort_by_cached_key(Row::key);
            let since = i64::try_from(since.0).unwrap_or(i64::MAX);
            let requests = connection
                .prepare(
                    "SELECT request, content, lineage, epoch, revision FROM journal \
                     WHERE at >= ?1 ORDER BY revision",
                )?
                .query_and_then([since], remembered_request)?
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Loaded { position: self.position, rows, requests })
        })
    }

    /// When the commits at or after `since` were made, and how many managers served before each; by revision.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn served(&self, since: UnixMillis) -> Result<Vec<(UnixMillis, u64)>, StoreError> {
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        self.database.read("read the journal", |connection| {
            connection
                .prepare("SELECT entry FROM journal WHERE at >= ?1 ORDER BY revision")?
                .query_and_then([since], |r| commit_in(r).map(|commit| (commit.at, commit.served)))?
                .collect()
        })
    }

    /// Commits change sets, all of them or none, in one transaction. Safe from a power loss when it returns.
    ///
    /// # Errors
    /// Nothing was written and the registry is as before, except after [`Problem::Disk`]: then a restart
    /// must find out, and nothing may be answered.
    pub fn append(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        let (mut position, mut chain) = (self.position, self.chain);
        self.database.write("commit to the journal", |transaction| {
            for commit in commits {
                check_follows(position, commit.position)?;
                commit.rows.iter().try_for_each(|change| apply(transaction, change))?;
                chain = insert_entry(transaction, commit, &chain)?;
                position = commit.position;
            }
            Meta::advance(transaction, position, &chain)
        })?;
        (self.position, self.chain) = (position, chain);
        Ok(())
    }

    /// The commit that made this revision; none where the journal does not reach back to it, or not yet
    /// forward.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn commit_at(&self, revision: u64) -> Result<Option<Commit>, StoreError> {
        Ok(self.journal(revision, 1)?.pop().filter(|commit| commit.position.revision == revision))
    }

    /// At most `limit` commits, from `from_revision` on, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn journal(&self, from_revision: u64, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let from = i64::try_from(from_revision).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.database.read("read the journal", |connection| {
            connection
                .prepare_cached("SELECT entry FROM journal WHERE revision >= ?1 ORDER BY revision LIMIT ?2")?
                .query_and_then([from, limit], commit_in)?
                .collect()
        })
    }
}

/// The commit in a row that begins with an entry.
fn commit_in(row: &rusqlite::Row<'_>) -> Result<Commit, Problem> {
    decode("an entry of the journal", row.get_ref(0)?.as_blob().map_err(not_a_blob)?)
}

/// The one row of the table `meta`.
struct Meta {
    position: Position,
    genesis_revision: u64,
    genesis: Link,
    chain: Link,
}

impl Meta {
    fn load(connection: &Connection) -> Result<Self, Problem> {
        let sql = "SELECT lineage, epoch, revision, genesis_revision, genesis, chain FROM meta";
        let meta = connection.query_row(sql, [], |r| {
            Ok(Self {
                position: position(r.get(0)?, r.get(1)?, r.get(2)?),
                genesis_revision: from_sql(r.get(3)?),
                genesis: r.get(4)?,
                chain: r.get(5)?,
            })
        });
        meta.optional()?.ok_or_else(|| Problem::Inconsistent("it says no position".into()))
    }

    fn advance(transaction: &Transaction<'_>, position: Position, chain: &Link) -> Result<(), Problem> {
        let changed = transaction
            .prepare_cached("UPDATE meta SET lineage = ?1, epoch = ?2, revision = ?3, chain = ?4")?
            .execute(params![
                lineage_bytes(position),
                to_sql("the epoch", position.epoch)?,
                to_sql("the revision", position.revision)?,
                chain
            ])?;
        match changed {
            1 => Ok(()),
            _ => Err(Problem::Inconsistent("it says no position".into())),
        }
    }

    /// Follows the chain from the newest entry down, as far as the limits allow. What the newest entry must
    /// be, this row says; every entry's hash is proved by the entry before it.
    fn check_chain(&self, connection: &Connection) -> Result<(), Problem> {
        let mut statement =
            connection.prepare("SELECT revision, chain, entry FROM journal ORDER BY revision DESC")?;
        let mut entries = statement.query([])?;
        let mut bytes = 0;
        let mut newer: Option<Entry> = None;
        for _ in 0..=CHECKED_ENTRIES {
            let entry = entries.next()?.map(Entry::load).transpose()?;
            let (revision, chain) = match &entry {
                Some(entry) => (entry.revision, entry.chain),
                None => (self.genesis_revision, self.genesis),
            };
            match &newer {
                None if revision == self.position.revision && chain == self.chain => {}
                None => return Err(Problem::Chain { revision: self.position.revision }),
                Some(newer) => newer.check_follows(revision, &chain)?,
            }
            bytes += entry.as_ref().map_or(0, |entry| entry.bytes.len());
            if entry.is_none() || bytes > CHECKED_BYTES {
                break;
            }
            newer = entry;
        }
        Ok(())
    }
}

/// An entry of the journal as far as the chain needs it.
struct Entry {
    revision: u64,
    chain: Link,
    bytes: Vec<u8>,
}

impl Entry {
    fn load(row: &rusqlite::Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self { revision: from_sql(row.get(0)?), chain: row.get(1)?, bytes: row.get(2)? })
    }

    fn check_follows(&self, revision: u64, chain: &Link) -> Result<(), Problem> {
        let next = revision.checked_add(1) == Some(self.revision);
        match next && chain::link(chain, &self.bytes) == self.chain {
            true => Ok(()),
            false => Err(Problem::Chain { revision: self.revision }),
        }
    }
}

fn insert_all(transaction: &Transaction<'_>, position: Position, rows: &[Row]) -> Result<(), Problem> {
    let mut encoded: Vec<_> = rows.iter().map(|row| (row.key(), row.encode())).collect();
    encoded.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut insert = transaction.prepare("INSERT INTO row (key, value) VALUES (?1, ?2)")?;
    for (key, value) in &encoded {
        insert.execute(params![&key.encode()[..], &value[..]])?;
    }
    let genesis = chain::genesis(&position, encoded.iter().map(|(_, value)| &value[..]));
    let revision = to_sql("the revision", position.revision)?;
    transaction.execute(
        "INSERT INTO meta (one, lineage, epoch, revision, genesis_revision, genesis, chain) \
         VALUES (1, ?1, ?2, ?3, ?3, ?4, ?4)",
        params![lineage_bytes(position), to_sql("the epoch", position.epoch)?, revision, genesis],
    )?;
    Ok(())
}

fn check_follows(last: Position, found: Position) -> Result<(), Problem> {
    let next = last.revision.checked_add(1) == Some(found.revision);
    match next && found.lineage == last.lineage && found.epoch >= last.epoch {
        true => Ok(()),
        false => Err(Problem::OutOfOrder { last, found }),
    }
}

/// Sets or removes one row. Whether there was one is compared with what the commit says, so that a memory
/// that has come apart from its file is found before it does more harm.
fn apply(transaction: &Transaction<'_>, change: &RowChange) -> Result<(), Problem> {
    let key = change.key.encode();
    let changed = match (&change.before, &change.after) {
        (None, Some(row)) => transaction
            .prepare_cached("INSERT INTO row (key, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![&key[..], &row.encode()[..]])?,
        (Some(_), Some(row)) => transaction
            .prepare_cached("UPDATE row SET value = ?2 WHERE key = ?1")?
            .execute(params![&key[..], &row.encode()[..]])?,
        (_, None) => {
            transaction.prepare_cached("DELETE FROM row WHERE key = ?1")?.execute(params![&key[..]])?
        }
    };
    match changed {
        1 => Ok(()),
        _ => Err(Problem::Diverged { key: change.key.clone() }),
    }
}

fn insert_entry(transaction: &Transaction<'_>, commit: &Commit, chain: &Link) -> Result<Link, Problem> {
    let entry = commit.encode();
    let link = chain::link(chain, &entry);
    transaction
        .prepare_cached(
            "INSERT INTO journal (revision, epoch, lineage, at, request, content, chain, entry) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            to_sql("the revision", commit.position.revision)?,
            to_sql("the epoch", commit.position.epoch)?,
            lineage_bytes(commit.position),
            // Only to look up what is remembered; the entry has the time itself.
            i64::try_from(commit.at.0).unwrap_or(i64::MAX),
            commit.request.0.into_bytes(),
            commit.content,
            link,
            &entry[..],
        ])?;
    Ok(link)
}

fn remembered_request(row: &rusqlite::Row<'_>) -> Result<Remembered, Problem> {
    Ok(Remembered {
        request: RequestId(uuid::Uuid::from_bytes(row.get(0)?)),
        content: row.get(1)?,
        position: position(row.get(2)?, row.get(3)?, row.get(4)?),
    })
}

fn position(lineage: [u8; 16], epoch: i64, revision: i64) -> Position {
    let lineage = Lineage(uuid::Uuid::from_bytes(lineage));
    Position { lineage, epoch: from_sql(epoch), revision: from_sql(revision) }
}

fn lineage_bytes(position: Position) -> [u8; 16] {
    position.lineage.0.into_bytes()
}

/// The value in a column that a file of ours always has as bytes.
pub(crate) fn decode<T: Wire>(what: &'static str, bytes: &[u8]) -> Result<T, Problem> {
    T::decode(bytes).map_err(|source| Problem::Undecodable { what, source: Box::new(source) })
}

pub(crate) fn not_a_blob(error: rusqlite::types::FromSqlError) -> Problem {
    Problem::Inconsistent(error.to_string())
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

#[cfg(test)]
#[path = "registry_tests.rs"]
pub(crate) mod tests;
