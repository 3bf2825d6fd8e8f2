//! Going on with a state directory that was rolled back, while no manager runs.

use crate::lineage::{self, LineageError, Me, registry_in};
use crate::paths::Paths;
use echelon_core::grant::GrantId;
use echelon_core::id::HostId;
use echelon_core::member::{self, Log, Pending};
use echelon_core::name::{FrameworkName, Text};
use echelon_core::position::Position;
use echelon_core::registry::Registry;
use echelon_core::time::UnixMillis;
use echelon_store::{RegistryStore, StoreError};
use std::path::Path;

/// A state directory as it is found.
pub struct Found {
    store: RegistryStore,
    registry: Registry,
    me: Me,
    rolled_back: Option<Position>,
}

/// What was made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The last entry, which counts.
    pub position: Position,
    /// The host of the manager that is the primary.
    pub host: String,
    /// The grant by which it is.
    pub grant: GrantId,
}

/// Why the state directory cannot be gone on with. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Another manager may write.
    #[error(
        "the primary is the registry manager on {holder}, not this one; nothing was changed. If it is gone for good: echelon promote {me} --force --reason TEXT"
    )]
    NotPrimary {
        /// On which host.
        holder: String,
        /// This manager's host.
        me: String,
    },
    /// Standbys may hold what is missing here.
    #[error(
        "standbys count here and may hold what this directory has lost: {}; nothing was changed. Promote one of them: \
         echelon promote {first} --force --reason TEXT; or give up what only they have, with --accept-loss",
        names.join(", "),
        first = names.first().map_or("HOST", String::as_str)
    )]
    Standbys {
        /// Their hosts.
        names: Vec<String>,
    },
    /// The new lineage could not be begun.
    #[error("this registry cannot be made the newest; nothing was changed")]
    Lineage(#[from] LineageError),
    /// The registry cannot be read or written.
    #[error("the registry cannot be used")]
    Store(#[from] StoreError),
}

impl Found {
    /// Opens a state directory, which the caller has locked.
    ///
    /// # Errors
    /// It cannot be gone on with.
    pub fn open(state: &Path) -> Result<Self, RecoverError> {
        let paths = Paths::of(state);
        let store = RegistryStore::open(&paths.registry())?;
        let (me, rolled_back) = (Me::load(&paths)?, store.standing()?.rolled_back);
        let registry = registry_in(&store)?;
        Ok(Self { store, registry, me, rolled_back })
    }

    /// Whose registry it is.
    pub fn framework(&self) -> &FrameworkName {
        &self.registry.meta().framework
    }

    /// Its last entry.
    pub fn position(&self) -> Position {
        self.store.head().position
    }

    /// A position that others have seen and this directory has lost, where it knows.
    pub fn rolled_back(&self) -> Option<Position> {
        self.rolled_back
    }

    /// Makes what it holds the newest lineage.
    ///
    /// # Errors
    /// See [`RecoverError`].
    pub fn recover(mut self, reason: Text, accept_loss: bool) -> Result<Recovered, RecoverError> {
        let holder = self.store.grants().head().holder;
        if holder != self.me.host {
            return Err(RecoverError::NotPrimary { holder: self.name(holder), me: self.name(self.me.host) });
        }
        let standbys = self.standbys()?;
        if !standbys.is_empty() && !accept_loss {
            return Err(RecoverError::Standbys { names: standbys });
        }
        let (chain, grant) = lineage::begin(&self.store, &self.registry, None, &self.me, Some(reason))?;
        self.store.adopt(&chain, None)?;
        let recovered = Recovered { position: self.position(), host: self.name(self.me.host), grant };
        self.store.close()?;
        Ok(recovered)
    }

    /// The hosts of those standbys that count.
    fn standbys(&self) -> Result<Vec<String>, RecoverError> {
        let tail = self.store.load(UnixMillis(0))?.tail;
        let tail = tail.iter().map(|entry| Pending::from(&member::Entry::from(entry))).collect();
        let rule = self.registry.meta().sync.clone();
        let log = Log::new(self.store.head(), self.store.committed(), rule, tail);
        let rule = log.rule_under(self.store.grants().head());
        Ok(rule.members.iter().map(|host| self.name(*host)).collect())
    }

    /// What a host is called; its id, where the registry does not know it.
    fn name(&self, host: HostId) -> String {
        self.registry.host(host).map_or_else(|| host.to_string(), |row| row.name.to_string())
    }
}
