//! The journal, for readers beside the one writer.

use crate::database::{Database, to_sql};
use crate::error::{Problem, StoreError};
use crate::registry::{SCHEMA, decode, not_a_blob};
use echelon_core::row::Commit;
use rusqlite::params;
use std::path::Path;

/// Most commits in one part.
const MOST: i64 = 256;

/// Bytes of commits after which a part ends: one commit can have tens of megabytes, and is read whole.
const PART: usize = 1 << 20;

/// Reads the journal of a registry manager's file while its [`crate::RegistryStore`] writes, which is held up
/// by nothing here: each part is read from one state of the file, and the file is let go after it.
pub struct JournalReader {
    database: Database,
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
        const SQL: &str =
            "SELECT entry FROM journal WHERE revision BETWEEN ?1 AND ?2 ORDER BY revision LIMIT ?3";
        self.part(SQL, from, to)
    }

    /// The newest commits of the revisions `from` to `to`, newest first; see [`Self::forwards`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn backwards(&self, from: u64, to: u64) -> Result<Vec<Commit>, StoreError> {
        const SQL: &str =
            "SELECT entry FROM journal WHERE revision BETWEEN ?1 AND ?2 ORDER BY revision DESC LIMIT ?3";
        self.part(SQL, from, to)
    }

    fn part(&self, sql: &str, from: u64, to: u64) -> Result<Vec<Commit>, StoreError> {
        self.database.read("read the journal", |connection| {
            let (from, to) = (to_sql("the revision", from)?, to_sql("the revision", to)?);
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![from, to, MOST])?;
            let (mut commits, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()?.filter(|_| bytes < PART) {
                let entry = row.get_ref(0)?.as_blob().map_err(not_a_blob)?;
                bytes += entry.len();
                commits.push(decode::<Commit>("an entry of the journal", entry)?);
            }
            Ok::<_, Problem>(commits)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::{at, commit, fresh};

    #[test]
    fn a_reader_sees_what_the_writer_has_committed_and_holds_it_up_in_nothing() {
        let (_directory, path, mut store) = fresh();
        let first = store.position().revision + 1;
        let reader = JournalReader::open(&path).unwrap();
        assert_eq!(reader.forwards(first, u64::from(u32::MAX)).unwrap(), []);
        let last = first + 2 * MOST as u64;
        for revision in first..=last {
            store.append(&[commit(revision, vec![])]).unwrap();
        }
        let revisions = |part: Vec<Commit>| part.iter().map(|c| c.position.revision).collect::<Vec<_>>();
        let part = revisions(reader.forwards(first + 1, last).unwrap());
        assert_eq!(part, (first + 1..=first + MOST as u64).collect::<Vec<_>>());
        let part = revisions(reader.backwards(first, last - 1).unwrap());
        assert_eq!((part[0], part.len()), (last - 1, MOST as usize));
        assert_eq!(revisions(reader.forwards(last, last).unwrap()), [last]);
        assert_eq!(store.position(), at(last));
    }
}
