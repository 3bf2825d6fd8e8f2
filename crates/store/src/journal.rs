//! The journal, for readers beside the one writer.

use crate::database::{Database, from_sql, to_sql};
use crate::error::{Problem, StoreError};
use crate::registry::sql::{decode, not_a_blob};
use crate::registry::{MAX_PART_BYTES, MAX_PART_ENTRIES, Meta, SCHEMA, Standing};
use crate::surplus::{self, Lost};
use echelon_core::grant::{Chain, Hash, Mark};
use echelon_core::id::RequestId;
use echelon_core::row::Commit;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use uuid::Uuid;

/// Most request ids in one part: one has a few tens of bytes.
const MAX_REQUESTS: i64 = 16_384;

/// Reads the journal of a registry manager's file while its [`crate::RegistryStore`] writes, which is held up
/// by nothing here: each part is read from one state of the file, and the file is let go after it.
pub struct JournalReader {
    database: Database,
}

/// What a copy of a registry's file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copied {
    /// The last entry.
    pub head: Mark,
    /// The revision up to which entries were known to be committed.
    pub committed: u64,
    /// All grants that its manager knew of.
    pub grants: Chain,
}

impl JournalReader {
    /// Opens the file to read.
    ///
    /// # Errors
    /// There is none, or it is no registry's.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open_to_read(path, &SCHEMA)? })
    }

    /// The oldest commits of the revisions `from` to `to`, in order: one at least, where there is one, and more
    /// as far as a part holds them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn forwards(&self, from: u64, to: u64) -> Result<Vec<Commit>, StoreError> {
        Ok(self.forwards_marked(from, to)?.into_iter().map(|(commit, _)| commit).collect())
    }

    /// As [`Self::forwards`], each with the hash of the journal up to it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn forwards_marked(&self, from: u64, to: u64) -> Result<Vec<(Commit, Hash)>, StoreError> {
        const SQL: &str =
            "SELECT entry, chain FROM journal WHERE revision BETWEEN ?1 AND ?2 ORDER BY revision LIMIT ?3";
        self.part(SQL, from, to)
    }

    /// The hash of the journal up to the commit of this revision; none where it has none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn hash_at(&self, revision: u64) -> Result<Option<Hash>, StoreError> {
        self.database.read("read the journal", |connection| {
            let sql = "SELECT chain FROM journal WHERE revision = ?1";
            let revision = to_sql("the revision", revision)?;
            Ok(connection.query_row(sql, [revision], |row| row.get(0)).optional()?)
        })
    }

    /// The grants that the manager of the file goes by.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn grants(&self) -> Result<Chain, StoreError> {
        self.database.read("read the grants", |connection| Ok(standing(connection)?.grants))
    }

    /// The newest commits of the revisions `from` to `to`, newest first; see [`Self::forwards`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn backwards(&self, from: u64, to: u64) -> Result<Vec<Commit>, StoreError> {
        const SQL: &str = "SELECT entry, chain FROM journal WHERE revision BETWEEN ?1 AND ?2 ORDER BY revision DESC LIMIT ?3";
        Ok(self.part(SQL, from, to)?.into_iter().map(|(commit, _)| commit).collect())
    }

    /// The oldest entries that were lost to other grants, after this number of [`Lost::number`] (0 for all): one at
    /// least, where there is one, and more as far as a part holds them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn surplus(&self, after: u64) -> Result<Vec<Lost>, StoreError> {
        self.database.read("read what was lost", |connection| surplus::after(connection, after))
    }

    /// The oldest commits after the revision `after` and up to `to`, no more than [`MAX_REQUESTS`]: their revisions and
    /// request ids.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn requests(&self, after: u64, to: u64) -> Result<Vec<(u64, RequestId)>, StoreError> {
        const SQL: &str = "SELECT revision, request FROM journal WHERE revision > ?1 AND revision <= ?2 \
                           ORDER BY revision LIMIT ?3";
        self.database.read("read the journal", |connection| {
            let mut statement = connection.prepare_cached(SQL)?;
            let (after, to) = (to_sql("the revision", after)?, to_sql("the revision", to)?);
            let mut rows = statement.query(params![after, to, MAX_REQUESTS])?;
            let mut requests = Vec::new();
            while let Some(row) = rows.next()? {
                requests.push((from_sql(row.get(0)?), RequestId(Uuid::from_bytes(row.get(1)?))));
            }
            Ok(requests)
        })
    }

    /// Makes a copy of the whole file, as it is at one moment, at a path where nothing is. Holds up the writer in
    /// nothing; commits meanwhile are not in it.
    ///
    /// # Errors
    /// It could not be made; nothing is left of it.
    pub fn copy_to(&self, path: &Path) -> Result<Copied, StoreError> {
        self.database.copy_to(path, |connection| {
            let Meta { head, committed, .. } = Meta::load(connection)?;
            Ok(Copied { head, committed, grants: standing(connection)?.grants })
        })
    }

    fn part(&self, sql: &str, from: u64, to: u64) -> Result<Vec<(Commit, Hash)>, StoreError> {
        self.database.read("read the journal", |connection| {
            let (from, to) = (to_sql("the revision", from)?, to_sql("the revision", to)?);
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![from, to, MAX_PART_ENTRIES])?;
            let (mut commits, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()?.filter(|_| bytes < MAX_PART_BYTES) {
                let entry = row.get_ref(0)?.as_blob().map_err(not_a_blob)?;
                bytes += entry.len();
                commits.push((decode::<Commit>("an entry of the journal", entry)?, row.get(1)?));
            }
            Ok::<_, Problem>(commits)
        })
    }
}

fn standing(connection: &Connection) -> Result<Standing, Problem> {
    Standing::load(connection)?.ok_or_else(|| Problem::Inconsistent("it says no grants".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::{at, commit, fresh};

    #[test]
    fn a_reader_sees_what_the_writer_has_committed_and_holds_it_up_in_nothing() {
        let (_directory, path, mut store) = fresh();
        let first = store.head().revision() + 1;
        let reader = JournalReader::open(&path).unwrap();
        assert_eq!(reader.forwards(first, u64::from(u32::MAX)).unwrap(), []);
        let last = first + 2 * MAX_PART_ENTRIES as u64;
        for revision in first..=last {
            store.commit(&[commit(revision, vec![])]).unwrap();
        }
        let revisions = |part: Vec<Commit>| part.iter().map(|c| c.position.revision).collect::<Vec<_>>();
        let part = revisions(reader.forwards(first + 1, last).unwrap());
        assert_eq!(part, (first + 1..=first + MAX_PART_ENTRIES as u64).collect::<Vec<_>>());
        let part = revisions(reader.backwards(first, last - 1).unwrap());
        assert_eq!((part[0], part.len()), (last - 1, MAX_PART_ENTRIES as usize));
        assert_eq!(revisions(reader.forwards(last, last).unwrap()), [last]);
        let requests = reader.requests(first, last - 1).unwrap();
        let requests: Vec<_> = requests.into_iter().map(|(revision, _)| revision).collect();
        assert_eq!(requests, (first + 1..last).collect::<Vec<_>>());
        assert_eq!(store.head().position, at(last));
    }
}
