//! How far a copy of the registry has come.

use crate::id::Lineage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A state of the registry. Epoch and revision compare only within one lineage, so this type has no
/// total order of its own: ask [`Position::is_after`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Position {
    /// The chain of states.
    pub lineage: Lineage,
    /// Which writer, counted from 1; a new primary raises it.
    pub epoch: u64,
    /// How many change sets have been committed.
    pub revision: u64,
}

impl Position {
    /// Whether this state comes after `other`; none where the two belong to different lineages.
    pub fn is_after(&self, other: &Self) -> Option<bool> {
        (self.lineage == other.lineage).then_some((self.epoch, self.revision) > (other.epoch, other.revision))
    }

    /// The position of the next change set by the same writer.
    pub fn next(&self) -> Self {
        Self { revision: self.revision + 1, ..*self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.revision)
    }
}
