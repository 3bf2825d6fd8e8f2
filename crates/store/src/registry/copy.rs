//! Copies of a registry's file, and putting them to use.

use super::{Extent, Meta, RegistryStore, SCHEMA, Standing};
use crate::database::{Database, Sync, sync_directory};
use crate::error::{Problem, StoreError};
use crate::surplus::{self, Dismissal};
use echelon_core::grant::Relation;
use echelon_core::position::Position;
use echelon_core::time::UnixMillis;
use std::path::Path;

const REPLACING: &str = "replace the registry by a copy";

impl RegistryStore {
    /// Checks a copy, moves it to where no file is yet, and opens it: another manager's registry becomes that of a
    /// new one. What only concerned the other manager is taken out of it.
    ///
    /// # Errors
    /// [`Problem::Exists`], or the copy is damaged or no registry's. It is then where it was.
    pub fn install(copy: &Path, path: &Path) -> Result<Self, StoreError> {
        const DOING: &str = "put a copy in place";
        let fail = |e: std::io::Error| StoreError::new(path, DOING, e);
        if path.try_exists().map_err(fail)? {
            return Err(StoreError::new(path, DOING, Problem::Exists));
        }
        let mut database = check(copy)?.database;
        database.write(DOING, |transaction| {
            transaction.execute("DELETE FROM surplus", [])?;
            Standing::disown(transaction)
        })?;
        database.close()?;
        std::fs::File::open(copy).and_then(|file| file.sync_all()).map_err(fail)?;
        std::fs::rename(copy, path).map_err(fail)?;
        sync_directory(path).map_err(fail)?;
        Self::open(path)
    }

    /// Checks a copy of this registry, and becomes what that is, in one transaction: whoever reads beside it sees
    /// the one or the other. What this manager has promised stays, and entries that the copy has not got are kept
    /// where [`crate::JournalReader::surplus`] finds them. The copy may be removed afterwards.
    ///
    /// # Errors
    /// The copy is damaged, of another registry, or goes by older grants; nothing has changed.
    pub fn replace_by(&mut self, copy: &Path) -> Result<(), StoreError> {
        let copied = check(copy)?;
        let common = self.common_revision(&copied)?;
        let common = common.ok_or_else(|| StoreError::new(copy, REPLACING, Problem::OtherRegistry))?;
        if !matches!(self.grants.compare(&copied.grants), Relation::Same | Relation::Newer(_)) {
            return Err(StoreError::new(copy, REPLACING, Problem::OlderGrants));
        }
        let seals = self.standing()?.seals;
        let (mut theirs, ours) = (copied.database, self.database.connection());
        theirs.write(REPLACING, |transaction| {
            transaction.execute("DELETE FROM surplus", [])?;
            Standing::disown(transaction)?;
            Standing::set_seals(transaction, &seals)?;
            surplus::carry(ours, transaction)?;
            surplus::carry_entries(ours, transaction, common, copied.grants.head().id)
        })?;
        self.database.become_copy_of(&theirs)?;
        (self.head, self.committed, self.grants) = (copied.head, copied.committed, copied.grants);
        Ok(())
    }

    /// Opens a copy that came from elsewhere, after everything in it was looked at.
    ///
    /// # Errors
    /// It is damaged, no registry's, or of a later build. It is left as it is.
    pub fn open_copy(copy: &Path) -> Result<Self, StoreError> {
        check(copy)
    }

    /// Keeps, where [`crate::JournalReader::surplus`] finds them, the entries of the file that this one is to replace,
    /// as far as this one has not got them, beside what was lost there before. Gives the newest of these entries.
    ///
    /// # Errors
    /// [`Problem::OtherRegistry`], or one of the files cannot be read or written; nothing has changed.
    pub fn keep_surplus_of(&mut self, old: &Self) -> Result<Option<Position>, StoreError> {
        let other = || StoreError::new(&old.database.path, REPLACING, Problem::OtherRegistry);
        let common = old.common_revision(self)?.ok_or_else(other)?;
        let (from, lost_to) = (old.database.connection(), self.grants.head().id);
        self.database.write(REPLACING, |transaction| {
            transaction.execute("DELETE FROM surplus", [])?;
            surplus::carry(from, transaction)?;
            surplus::carry_entries(from, transaction, common, lost_to)
        })?;
        Ok(Some(old.head.position).filter(|_| old.head.revision() > common))
    }

    /// Notes that somebody has dealt with the entries that were lost, up to this number of [`crate::Lost::number`] and
    /// where nobody had before. They stay where they are. Gives how many.
    ///
    /// # Errors
    /// The file cannot be written; nothing has changed.
    pub fn dismiss_surplus(&mut self, through: u64, dismissal: &Dismissal) -> Result<usize, StoreError> {
        self.database.write("note that lost entries were dealt with", |transaction| {
            surplus::dismiss(transaction, through, dismissal)
        })
    }

    /// Closes the file, after which nothing of it stands beside it and it may be moved.
    ///
    /// # Errors
    /// It could not be brought into one file; nothing is lost of it.
    pub fn close(self) -> Result<(), StoreError> {
        self.database.close()
    }

    /// The newest revision up to which both journals are one; none where they begin differently.
    fn common_revision(&self, other: &Self) -> Result<Option<u64>, StoreError> {
        let equal = |revision| -> Result<bool, StoreError> {
            let (ours, theirs) = (self.mark_at(revision)?, other.mark_at(revision)?);
            Ok(ours.is_some() && ours.map(|m| m.hash) == theirs.map(|m| m.hash))
        };
        let genesis = self.database.read(REPLACING, Meta::load)?.genesis_revision;
        let (mut same, mut differs) = (genesis, self.head.revision().min(other.head.revision()));
        if !equal(same)? {
            return Ok(None);
        }
        if equal(differs)? {
            return Ok(Some(differs));
        }
        // Each hash covers all before it: once they differ, they differ for ever.
        while differs.saturating_sub(same) > 1 {
            let middle = same.midpoint(differs);
            match equal(middle)? {
                true => same = middle,
                false => differs = middle,
            }
        }
        Ok(Some(same))
    }
}

/// Opens a copy that came from elsewhere, after everything in it was looked at.
fn check(copy: &Path) -> Result<RegistryStore, StoreError> {
    let database = Database::open(copy, &SCHEMA, Sync::Full)?;
    database.check_pages()?;
    let store = RegistryStore::of(database, Extent::Whole)?;
    store.load(UnixMillis(0))?;
    Ok(store)
}
