//! What a journal's file says, as a manager needs it.

use super::appended::Appended;
use crate::clock::unix_now;
use echelon_core::hierarchy::TreeError;
use echelon_core::limits::{REQUEST_CLOCK_SKEW, REQUEST_TTL, SHRINK_WINDOW};
use echelon_core::member::{self, Log, Pending, Stored};
use echelon_core::registry::{Answered, Registry, RowsError};
use echelon_store::{Entry, Loaded, RegistryStore, Remembered, StoreError};
use std::sync::Arc;

/// Why a file is not what a registry manager has.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("the registry cannot be opened")]
    Store(#[from] StoreError),
    /// Its rows contradict each other.
    #[error("the registry in the store contradicts itself; restore a backup")]
    Rows(#[from] RowsError),
    /// Its entries do.
    #[error("the entry of revision {revision} does not follow on the one before it; restore a backup")]
    Tail {
        /// Of which revision.
        revision: u64,
        /// Why.
        #[source]
        source: TreeError,
    },
}

/// The committed registry, and the entries above it.
pub(crate) fn load(store: &RegistryStore) -> Result<(Registry, Vec<Entry>), LoadError> {
    // An id may have been made later than it was committed, by its maker's clock, and is accepted for as much
    // longer.
    let Loaded { position, rows, requests, tail } =
        store.load(unix_now() - REQUEST_TTL - REQUEST_CLOCK_SKEW)?;
    let mut registry = Registry::from_rows(position, rows)?;
    for Remembered { request, content, position } in requests {
        registry.remember(request, Answered { content, position });
    }
    for (at, served) in store.served(unix_now() - SHRINK_WINDOW)? {
        registry.recall(at, served);
    }
    Ok((registry, tail))
}

/// The states after the entries above a committed one.
pub(super) fn appended(committed: Arc<Registry>, tail: &[Entry]) -> Result<Appended, LoadError> {
    let mut appended = Appended::new(committed);
    for entry in tail {
        let follow = appended.follow(entry.clone());
        follow.map_err(|source| LoadError::Tail { revision: entry.revision(), source })?;
    }
    Ok(appended)
}

/// What the state machine has to know of the file.
pub(super) fn stored(
    store: &RegistryStore,
    committed: &Registry,
    tail: &[Entry],
) -> Result<Stored, StoreError> {
    let standing = store.standing()?;
    let pending = tail.iter().map(|entry| Pending::from(&member::Entry::from(entry))).collect();
    let log = Log::new(store.head(), store.committed(), committed.meta().sync.clone(), pending);
    Ok(Stored { chain: standing.grants, log, seals: standing.seals, rolled_back: standing.rolled_back })
}
