//! Keeps registry, journal and replica in SQLite.
//!
//! A registry manager has a [`RegistryStore`]: the registry's rows, and the journal of every change set
//! that made them. An agent has a [`ReplicaStore`]: the rows of its view, and its place. In both, rows and
//! the position they belong to change in one transaction, so that a file always says which state it is.
//!
//! Everything here blocks on the disk. Each file has one owner, which calls it from a thread of its own; a
//! [`JournalReader`] reads beside it.

mod aside;
mod chain;
mod database;
mod entry;
mod error;
mod journal;
mod registry;
mod replica;
mod surplus;

pub use aside::{MAX_SET_ASIDE, set_aside};
pub use entry::Entry;
pub use error::{Problem, StoreError};
pub use journal::{Copied, JournalReader};
pub use registry::{Loaded, RegistryStore, Remembered, Standing};
pub use replica::{LoadedReplica, ReplicaStore};
pub use surplus::{Dismissal, Lost};
