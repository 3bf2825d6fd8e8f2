//! Going by another chain of grants.

use super::{Meta, RegistryStore, Standing, journal, rows};
use crate::error::{Problem, StoreError};
use crate::surplus;
use echelon_core::grant::{Chain, Mark, Parent};
use rusqlite::Transaction;

impl RegistryStore {
    /// Goes by this chain from now on. Entries above the cut are none of its history: they are moved to where
    /// [`crate::JournalReader::surplus`] finds them, and the rows are what they were before them. All in one
    /// transaction, safe from a power loss when it returns. What was promised under the old chain ends.
    ///
    /// # Errors
    /// As [`Self::append`]; and [`Problem::Apart`] where this journal is not, up to the cut, the one that the
    /// chain speaks of: then nothing has changed, and the file is to be replaced by a copy.
    pub fn adopt(&mut self, grants: &Chain, cut: Option<Parent>) -> Result<(), StoreError> {
        let (old, committed) = (self.head, self.committed);
        let (head, committed) = self.database.write("adopt a grant", |transaction| {
            let head = match cut.filter(|cut| cut.mark.revision() < old.revision()) {
                Some(cut) => cut_off(transaction, grants, &cut)?,
                None => old,
            };
            let committed = committed.min(head.revision());
            Meta::advance(transaction, &head, committed)?;
            Standing::set_grants(transaction, grants)?;
            Ok((head, committed))
        })?;
        (self.head, self.committed, self.grants) = (head, committed, grants.clone());
        Ok(())
    }
}

/// Takes back the entries above the cut, the newest first. Gives the mark that is then the head.
fn cut_off(transaction: &Transaction<'_>, grants: &Chain, cut: &Parent) -> Result<Mark, Problem> {
    let revision = cut.mark.revision();
    let ours = journal::mark(transaction, revision, grants)?;
    let ours = ours.filter(|mark| mark.hash == cut.mark.hash).ok_or(Problem::Apart { revision })?;
    let lost_to = grants.grants().find(|grant| grant.parent.as_ref() == Some(cut));
    let lost_to = lost_to.map_or(grants.head().id, |grant| grant.id);
    surplus::keep(transaction, revision, lost_to)?;
    while let Some(newest) = journal::newest_after(transaction, revision)? {
        let commit = journal::commit(transaction, newest)?.ok_or(Problem::Chain { revision: newest })?;
        commit.rows.iter().try_for_each(|change| rows::undo(transaction, change))?;
        journal::remove(transaction, newest)?;
    }
    Ok(ours)
}
