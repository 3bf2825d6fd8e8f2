//! What a journal is made of.

use echelon_core::grant::Mark;
use echelon_core::member::{self, sync_change};
use echelon_core::row::Commit;
use echelon_wire::{DecodeError, Wire};
use std::sync::Arc;

/// An entry of the journal: a commit, the bytes that are its truth, and where in the journal they stand.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The commit's position, and the hash of the journal up to and with it.
    pub mark: Mark,
    /// What the bytes say.
    pub commit: Commit,
    /// The commit's encoding, as it travels and as it is hashed.
    pub bytes: Arc<[u8]>,
}

impl Entry {
    /// The entry that this commit is, after the one at `before`.
    pub fn new(before: &Mark, commit: Commit) -> Self {
        let bytes: Arc<[u8]> = commit.encode()[..].into();
        Self { mark: member::Entry::after(before, &commit, Arc::clone(&bytes)).mark, commit, bytes }
    }

    /// The entry that these bytes are, after the one at `before`.
    ///
    /// # Errors
    /// They are no commit.
    pub fn read(before: &Mark, bytes: Arc<[u8]>) -> Result<Self, DecodeError> {
        let commit = Commit::decode(&bytes)?;
        Ok(Self { mark: member::Entry::after(before, &commit, Arc::clone(&bytes)).mark, commit, bytes })
    }

    /// The revision that it makes.
    pub fn revision(&self) -> u64 {
        self.mark.revision()
    }
}

impl TryFrom<&member::Entry> for Entry {
    type Error = DecodeError;
    fn try_from(entry: &member::Entry) -> Result<Self, DecodeError> {
        let commit = Commit::decode(&entry.bytes)?;
        Ok(Self { mark: entry.mark, commit, bytes: Arc::clone(&entry.bytes) })
    }
}

impl From<&Entry> for member::Entry {
    fn from(entry: &Entry) -> Self {
        let sync = sync_change(&entry.commit);
        Self { mark: entry.mark, sync, bytes: Arc::clone(&entry.bytes) }
    }
}
