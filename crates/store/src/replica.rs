//! An agent's replica of the view.

use crate::database::{Database, Schema, Sync, from_sql, to_sql};
use crate::error::{Problem, StoreError};
use crate::registry::sql::{decode, not_a_blob};
use echelon_core::grant::{Chain, Grant, Mark};
use echelon_core::message::ViewMark;
use echelon_core::signed_mark::SignedMark;
use echelon_core::view::{Place, ViewChange, ViewRow};
use echelon_wire::Wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::path::Path;

/// The application id is "ECHp" in ASCII.
const SCHEMA: Schema = Schema {
    application_id: 0x4543_4870,
    migrations: &[
        "
        PRAGMA application_id = 0x45434870;
        CREATE TABLE replica (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            mark BLOB,
            place BLOB,
            incarnation INTEGER NOT NULL
        ) STRICT;
        INSERT INTO replica (one, incarnation) VALUES (1, 0);
        CREATE TABLE row (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    ",
        "
        ALTER TABLE replica ADD COLUMN grants BLOB;
        ALTER TABLE replica ADD COLUMN witnessed BLOB;
    ",
        "
        ALTER TABLE replica ADD COLUMN signed BLOB;
    ",
        // The grants one by one, so that one more is one row more. What builds before kept in the column, moves here
        // with the next one.
        "
        CREATE TABLE granted (epoch INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
    ",
    ],
};

/// An agent's file. Rows and the mark they belong to always change together. After a power loss the
/// replica may be a little older, and its mark says so; what begins a new lineage or epoch, the grants and the
/// incarnation are safe at once.
pub struct ReplicaStore {
    database: Database,
    mark: Option<ViewMark>,
    grants: Option<Chain>,
    witnessed: Option<Mark>,
    signed: Option<SignedMark>,
}

/// What an agent starts from.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadedReplica {
    /// Which view the rows are. That they add up to its digest is for the caller to check.
    pub mark: ViewMark,
    /// The rows, by key.
    pub rows: Vec<ViewRow>,
    /// The host's place; none where no manager has told it yet.
    pub place: Option<Place>,
}

impl ReplicaStore {
    /// Opens a file, which is made where there is none, and checks it for damage.
    ///
    /// # Errors
    /// It is damaged (see [`StoreError::is_damage`], and [`crate::set_aside`]), or a later build has
    /// written it. It is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::open_or_create(path, &SCHEMA, Sync::Normal)?;
        let (mark, grants, witnessed, signed) = database.read("check the replica", |connection| {
            // A replica is small, so that all of it can be checked.
            let found: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
            if found != "ok" {
                return Err(Problem::Inconsistent(found));
            }
            let mark = column::<ViewMark>(connection, "the mark", "SELECT mark FROM replica")?;
            let grants = grants(connection)?;
            let witnessed = column::<Mark>(connection, "a mark", "SELECT witnessed FROM replica")?;
            let signed = column::<SignedMark>(connection, "a signed mark", "SELECT signed FROM replica")?;
            Ok((mark, grants, witnessed, signed))
        })?;
        Ok(Self { database, mark, grants, witnessed, signed })
    }

    /// The newest grants that were kept; none before the first.
    pub fn grants(&self) -> Option<&Chain> {
        self.grants.as_ref()
    }

    /// The newest hash of the registry's journal that was kept, with its position.
    pub fn witnessed(&self) -> Option<Mark> {
        self.witnessed
    }

    /// The newest mark that a registry manager has signed and that was kept.
    pub fn signed(&self) -> Option<&SignedMark> {
        self.signed.as_ref()
    }

    /// Keeps these grants from now on. Safe from a power loss when it returns. Writes those that are new.
    ///
    /// # Errors
    /// The grants are as before.
    pub fn set_grants(&mut self, grants: &Chain) -> Result<(), StoreError> {
        let known = self.grants.clone();
        self.write_synced("keep the grants", true, |transaction| {
            let in_rows = transaction.query_row("SELECT grants IS NULL FROM replica", [], |r| r.get(0))?;
            let mut new = grants.unknown_to(known.as_ref().filter(|_| in_rows)).peekable();
            let stays = new.peek().map_or(Some(grants.head()), |(before, _)| *before);
            let stays = to_sql("an epoch", stays.map_or(0, |last| last.id.epoch))?;
            // Those of a branch that is given up go.
            transaction.execute("DELETE FROM granted WHERE epoch > ?1", [stays])?;
            new.try_for_each(|(_, grant)| put_grant(transaction, grant))?;
            transaction.execute("UPDATE replica SET grants = NULL WHERE grants IS NOT NULL", [])?;
            Ok(())
        })?;
        self.grants = Some(grants.clone());
        Ok(())
    }

    /// Takes a hash of the registry's journal and a mark that a manager has signed, to be written with the next mark of
    /// the view: they move on as often as that does.
    pub fn witness(&mut self, witnessed: Option<Mark>, signed: Option<SignedMark>) {
        (self.witnessed, self.signed) = (witnessed, signed);
    }

    /// The view the rows are; none before the first snapshot.
    pub fn mark(&self) -> Option<ViewMark> {
        self.mark
    }

    /// The replica; none before the first snapshot.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(&self) -> Result<Option<LoadedReplica>, StoreError> {
        let Some(mark) = self.mark else { return Ok(None) };
        self.database.read("load the replica", |connection| {
            let mut rows = connection
                .prepare("SELECT value FROM row")?
                .query_and_then([], |r| {
                    decode::<ViewRow>("a row of the view", r.get_ref(0)?.as_blob().map_err(not_a_blob)?)
                })?
                .collect::<Result<Vec<_>, _>>()?;
            rows.sort_by_cached_key(ViewRow::key);
            let place = column::<Place>(connection, "the place", "SELECT place FROM replica")?;
            Ok(Some(LoadedReplica { mark, rows, place }))
        })
    }

    /// Takes a snapshot: these rows instead of all there were.
    ///
    /// # Errors
    /// The replica is as before.
    pub fn replace(&mut self, mark: &ViewMark, rows: &[ViewRow]) -> Result<(), StoreError> {
        self.write_marked("take a snapshot", mark, |transaction| {
            transaction.execute("DELETE FROM row", [])?;
            rows.iter().try_for_each(|row| put(transaction, row))
        })
    }

    /// Takes a delta: rows set and rows removed.
    ///
    /// # Errors
    /// The replica is as before.
    pub fn apply(&mut self, mark: &ViewMark, changes: &[ViewChange]) -> Result<(), StoreError> {
        self.write_marked("take a delta", mark, |transaction| {
            changes.iter().try_for_each(|change| match &change.row {
                Some(row) => put(transaction, row),
                None => remove(transaction, change),
            })
        })
    }

    /// Takes a new mark for the same rows: the registry went on, the view did not.
    ///
    /// # Errors
    /// The replica is as before.
    pub fn advance(&mut self, mark: &ViewMark) -> Result<(), StoreError> {
        self.write_marked("advance", mark, |_| Ok(()))
    }

    /// Takes the host's place.
    ///
    /// # Errors
    /// The replica is as before.
    pub fn set_place(&mut self, place: &Place) -> Result<(), StoreError> {
        self.database.write("take the place", |transaction| {
            transaction.execute("UPDATE replica SET place = ?1", params![&place.encode()[..]])?;
            Ok(())
        })
    }

    /// A number for this start of the agent, larger than all that this file has given before and not
    /// less than `at_least`. Safe from a power loss when it returns.
    ///
    /// Pass the wall clock in milliseconds: then the numbers go on rising even where the file was lost, and
    /// managers do not take a new start for an old one.
    ///
    /// # Errors
    /// No number was given.
    pub fn next_incarnation(&mut self, at_least: u64) -> Result<u64, StoreError> {
        self.write_synced("count this start", true, |transaction| {
            let last: i64 = transaction.query_row("SELECT incarnation FROM replica", [], |r| r.get(0))?;
            let next = from_sql(last).saturating_add(1).max(at_least);
            let stored = to_sql("the incarnation", next)?;
            transaction.execute("UPDATE replica SET incarnation = ?1", [stored])?;
            Ok(next)
        })
    }

    fn write_marked(
        &mut self,
        doing: &'static str,
        mark: &ViewMark,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), Problem>,
    ) -> Result<(), StoreError> {
        let writer = |mark: ViewMark| (mark.position.lineage, mark.position.epoch);
        let new_writer = self.mark.map(writer) != Some(writer(*mark));
        let witnessed = self.witnessed.map(|witnessed| witnessed.encode());
        let signed = self.signed.as_ref().map(Wire::encode);
        self.write_synced(doing, new_writer, |transaction| {
            work(transaction)?;
            let marks = params![&mark.encode()[..], witnessed.as_deref(), signed.as_deref()];
            transaction.execute("UPDATE replica SET mark = ?1, witnessed = ?2, signed = ?3", marks)?;
            Ok(())
        })?;
        self.mark = Some(*mark);
        Ok(())
    }

    /// As [`Database::write`], safe from a power loss at once where `synced` says so.
    fn write_synced<T>(
        &mut self,
        doing: &'static str,
        synced: bool,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Problem>,
    ) -> Result<T, StoreError> {
        if !synced {
            return self.database.write(doing, work);
        }
        self.database.set_sync(Sync::Full)?;
        let result = self.database.write(doing, work);
        self.database.set_sync(Sync::Normal)?;
        result
    }
}

/// The value of the one row and column that `sql` selects; none where it is null.
fn column<T: Wire>(connection: &Connection, what: &'static str, sql: &str) -> Result<Option<T>, Problem> {
    let bytes: Option<Option<Vec<u8>>> = connection.query_row(sql, [], |r| r.get(0)).optional()?;
    bytes.flatten().map(|bytes| decode(what, &bytes)).transpose()
}

/// The grants: those of the rows, or what a build before has left in the column.
fn grants(connection: &Connection) -> Result<Option<Chain>, Problem> {
    const WHAT: &str = "the grants";
    let grants = connection
        .prepare("SELECT value FROM granted ORDER BY epoch")?
        .query_and_then([], |r| decode::<Grant>(WHAT, r.get_ref(0)?.as_blob().map_err(not_a_blob)?))?
        .collect::<Result<Vec<_>, _>>()?;
    if grants.is_empty() {
        return column::<Chain>(connection, WHAT, "SELECT grants FROM replica");
    }
    let chain = Chain::new(grants).map_err(|e| Problem::Inconsistent(format!("{WHAT} are no chain: {e}")))?;
    Ok(Some(chain))
}

fn put_grant(transaction: &Transaction<'_>, grant: &Grant) -> Result<(), Problem> {
    let epoch = to_sql("an epoch", grant.id.epoch)?;
    transaction
        .prepare_cached("INSERT INTO granted (epoch, value) VALUES (?1, ?2)")?
        .execute(params![epoch, &grant.encode()[..]])?;
    Ok(())
}

fn put(transaction: &Transaction<'_>, row: &ViewRow) -> Result<(), Problem> {
    transaction
        .prepare_cached("INSERT INTO row (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?
        .execute(params![&row.key().encode()[..], &row.encode()[..]])?;
    Ok(())
}

fn remove(transaction: &Transaction<'_>, change: &ViewChange) -> Result<(), Problem> {
    transaction
        .prepare_cached("DELETE FROM row WHERE key = ?1")?
        .execute(params![&change.key.encode()[..]])?;
    Ok(())
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
