//! The promises that a manager is held by.

use super::Seal;
use crate::grant::GrantId;
use crate::id::RequestId;
use std::collections::BTreeSet;

/// Most promises that a manager gives: one to each other manager that a registry can have, and then some for
/// promotions that could not be ended. Whoever asks for one more gets no answer.
pub const MAX_SEALS: usize = 64;

/// What a manager has promised, to each promotion by itself. Whoever seems dead may only be out of sight, and use
/// the promise it has: a later promise stands beside it, never in its place, and ends without it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seals(BTreeSet<Seal>);

impl Seals {
    /// The promises, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Seal> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those to take nothing under this grant.
    pub fn under(&self, grant: GrantId) -> impl Iterator<Item = &Seal> {
        self.0.iter().filter(move |seal| seal.grant == grant)
    }

    /// Whether nothing may be taken under this grant.
    pub fn hold_under(&self, grant: GrantId) -> bool {
        self.under(grant).next().is_some()
    }

    /// Gives one more. Whether it is given: not where there are too many.
    pub(super) fn give(&mut self, seal: Seal) -> bool {
        self.0.contains(&seal) || self.0.len() < MAX_SEALS && self.0.insert(seal)
    }

    /// Ends those that were given to a promotion. Whether there were any.
    pub(super) fn end(&mut self, proposal: RequestId) -> bool {
        let before = self.0.len();
        self.0.retain(|seal| seal.proposal != proposal);
        self.0.len() < before
    }
}

impl FromIterator<Seal> for Seals {
    fn from_iter<I: IntoIterator<Item = Seal>>(seals: I) -> Self {
        Self(seals.into_iter().collect())
    }
}
