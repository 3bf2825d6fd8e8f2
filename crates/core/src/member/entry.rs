//! An entry of the journal, as far as its place and the commit rule go.

use crate::grant::{Mark, SyncRule};
use crate::row::{Commit, Row, RowChange};
use std::sync::Arc;

/// One commit in a journal, with its bytes, which nobody here looks into.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place.
    pub mark: Mark,
    /// How it changes the standbys that count; none where it does not.
    pub sync: Option<SyncChange>,
    /// The commit as it is kept and sent.
    pub bytes: Arc<[u8]>,
}

/// A change of the standbys that count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncChange {
    /// The rule from this entry on.
    pub rule: SyncRule,
    /// Whether the entry, and all that waited before it, is committed under the new rule alone; else it takes the
    /// old rule too.
    pub alone: bool,
}

impl Entry {
    /// The entry of this commit, whose bytes are `bytes`, after the entry at `before`. Its hash is BLAKE3 of the
    /// hash before it and its bytes.
    pub fn after(before: &Mark, commit: &Commit, bytes: Arc<[u8]>) -> Self {
        let hash = link(&before.hash, &bytes);
        Self { mark: Mark { position: commit.position, hash }, sync: sync_change(commit), bytes }
    }
}

/// The hash of an entry that follows on `previous`.
pub fn link(previous: &[u8; 32], entry: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(previous).update(entry).finalize().as_bytes()
}

/// How a commit changes the standbys that count.
pub fn sync_change(commit: &Commit) -> Option<SyncChange> {
    let rule = |row: &Option<Row>| match row {
        Some(Row::Meta(meta)) => Some(meta.sync.clone()),
        _ => None,
    };
    let changed = |change: &RowChange| {
        let (before, after) = (rule(&change.before), rule(&change.after));
        after.filter(|after| before.as_ref() != Some(after))
    };
    let rule = commit.rows.iter().find_map(changed)?;
    Some(SyncChange { rule, alone: commit.alone })
}
