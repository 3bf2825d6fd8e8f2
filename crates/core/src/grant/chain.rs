//! All grants since `init`, and how two such chains relate.

use super::{Basis, Grant, GrantId, Parent};
use crate::digest::{Digest, RowHasher};
use crate::id::HostId;
use crate::position::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most grants of a chain: one a week for twenty years. It travels whole.
pub const MAX_GRANTS: usize = 1_024;

/// Of how many grants, the newest, the proof is kept: whoever knows an older part compares it, and whoever knows
/// nothing trusts the manager that it asks.
const KEPT_PROOFS: usize = 32;

/// Every grant since `init`, oldest first. Never empty, and each builds on the one before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Grant>", into = "Vec<Grant>")]
pub struct Chain {
    grants: Vec<Grant>,
}

/// Why grants are no chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainError {
    /// None, or too many.
    #[error("a chain of {count} grants; it has 1 to {MAX_GRANTS}")]
    Count {
        /// How many.
        count: usize,
    },
    /// The first one builds on something, or is none of `init`.
    #[error("the first grant of the chain is not that of a registry's making")]
    First,
    /// One does not build on the one before it.
    #[error("grant {0} does not build on the one before it")]
    Link(GrantId),
    /// A lineage that goes on though it should end, or the other way round.
    #[error("grant {0} is of a lineage that its basis does not allow")]
    Lineage(GrantId),
    /// Lineages are rejected by a grant that is no choice.
    #[error("grant {0} rejects lineages and is no choice")]
    Rejects(GrantId),
}

/// How another chain relates to one's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// The same.
    Same,
    /// The other one beats one's own, and is to be adopted; entries above the cut are a surplus.
    Newer(Cut),
    /// One's own beats the other one.
    Older,
    /// Two children of one parent, and nobody has chosen.
    Conflict {
        /// The first grant of one's own that the other chain has not got.
        ours: GrantId,
        /// The first grant of the other that one's own has not got.
        theirs: GrantId,
    },
    /// Of another registry.
    Foreign,
}

/// Where journals of two chains part: entries above the parent's revision belong to one chain alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The oldest state that a grant of one chain alone builds on.
    pub parent: Parent,
}

impl Chain {
    /// A chain of these grants.
    ///
    /// # Errors
    /// They are none; see [`ChainError`].
    pub fn new(grants: Vec<Grant>) -> Result<Self, ChainError> {
        if grants.is_empty() || grants.len() > MAX_GRANTS {
            return Err(ChainError::Count { count: grants.len() });
        }
        if grants.first().is_some_and(|g| g.parent.is_some() || g.basis != Basis::Init || g.id.epoch != 1) {
            return Err(ChainError::First);
        }
        for pair in grants.windows(2) {
            let [before, grant] = pair else { continue };
            check_link(before, grant)?;
        }
        let mut lineages = BTreeSet::new();
        for grant in &grants {
            let begins = grant.parent.is_none() || grant.basis.begins_lineage();
            if lineages.insert(grant.id.lineage) != begins {
                return Err(ChainError::Lineage(grant.id));
            }
        }
        Ok(Self { grants })
    }

    /// The chain of a registry that was just made.
    pub fn begin(first: Grant) -> Result<Self, ChainError> {
        Self::new(vec![first])
    }

    /// The chain with one grant more.
    ///
    /// # Errors
    /// It does not build on the last one, or there are too many.
    pub fn extended(&self, grant: Grant) -> Result<Self, ChainError> {
        let mut grants = self.grants.clone();
        grants.push(grant);
        let unneeded = grants.len().saturating_sub(KEPT_PROOFS);
        grants.iter_mut().take(unneeded).for_each(|old| old.proof = None);
        Self::new(grants)
    }

    /// The grants, oldest first.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// The newest grant: who may write now.
    pub fn head(&self) -> &Grant {
        self.grants.last().expect("a chain is made with at least one grant")
    }

    /// The first grant: that of the registry's making.
    pub fn first(&self) -> &Grant {
        self.grants.first().expect("a chain is made with at least one grant")
    }

    /// The grants that whoever keeps `known` has not got, each with the one before it; all of them for somebody who
    /// keeps none.
    pub fn unknown_to<'a>(
        &'a self,
        known: Option<&Self>,
    ) -> impl Iterator<Item = (Option<&'a Grant>, &'a Grant)> {
        let common = known.map_or(0, |known| self.common(known));
        let before = self.grants.iter().map(Some);
        [None].into_iter().chain(before).zip(&self.grants).skip(common)
    }

    /// Whether this chain keeps the proof of its grant with this name: it is one of the newest, and not the first.
    pub fn keeps_proof(&self, id: GrantId) -> bool {
        let unneeded = self.grants.len().saturating_sub(KEPT_PROOFS).max(1);
        self.grants.iter().skip(unneeded).any(|g| g.id == id)
    }

    /// Tells chains apart: equal for those that are [`Relation::Same`]. Never [`Digest::default`], which stands for
    /// none.
    pub fn digest(&self) -> Digest {
        let mut hasher = RowHasher::default();
        for grant in &self.grants {
            let parent = grant.parent.map(|parent| (parent.grant, parent.mark.position, parent.mark.hash));
            hasher
                .bytes(grant.id.lineage.0.as_bytes())
                .number(grant.id.epoch)
                .bytes(grant.holder.0.as_bytes());
            if let Some((before, position, hash)) = parent {
                hasher.bytes(before.lineage.0.as_bytes()).number(before.epoch);
                hasher.bytes(position.lineage.0.as_bytes()).number(position.epoch).number(position.revision);
                hasher.bytes(&hash);
            }
        }
        Digest::of(hasher.finish())
    }

    /// Whether a grant after this one may give up revisions that somebody has seen. All of them come after one that is
    /// none of this chain.
    pub fn gives_up_since(&self, id: GrantId) -> bool {
        self.grants.iter().rev().take_while(|g| g.id != id).any(|g| g.basis.may_give_up())
    }

    /// The grant with this name.
    pub fn get(&self, id: GrantId) -> Option<&Grant> {
        self.grants.iter().find(|g| g.id == id)
    }

    /// Whether the manager on this host may write by this chain.
    pub fn is_held_by(&self, host: HostId) -> bool {
        self.head().holder == host
    }

    /// Above which state entries of this position's grant do not count by this chain, where another grant
    /// followed.
    pub fn cut_after(&self, grant: GrantId) -> Option<Cut> {
        let at = self.grants.iter().position(|g| g.id == grant)?;
        lowest(&self.grants[at + 1..]).map(|parent| Cut { parent })
    }

    /// Whether an entry at this position can be part of this chain's history.
    pub fn contains(&self, position: &Position) -> bool {
        let id = GrantId::of(position);
        let Some(grant) = self.get(id) else { return false };
        let above = grant.parent.is_none_or(|p| position.revision > p.mark.revision());
        above && self.cut_after(id).is_none_or(|cut| position.revision <= cut.parent.mark.revision())
    }

    /// How `other` relates to this chain.
    pub fn compare(&self, other: &Self) -> Relation {
        let common = self.common(other);
        if common == 0 {
            return Relation::Foreign;
        }
        match (self.grants.get(common), other.grants.get(common)) {
            (None, None) => Relation::Same,
            (Some(_), None) => Relation::Older,
            (None, Some(_)) => newer(&[], &other.grants[common..]),
            (Some(ours), Some(theirs)) => {
                match (self.rejects(&other.grants[common..]), other.rejects(&self.grants[common..])) {
                    (true, false) => Relation::Older,
                    (false, true) => newer(&self.grants[common..], &other.grants[common..]),
                    _ => Relation::Conflict { ours: ours.id, theirs: theirs.id },
                }
            }
        }
    }

    /// How many grants both begin with.
    fn common(&self, other: &Self) -> usize {
        let same = |(a, b): &(&Grant, &Grant)| a.id == b.id && a.parent == b.parent && a.holder == b.holder;
        self.grants.iter().zip(&other.grants).take_while(same).count()
    }

    /// Whether this chain was chosen over a branch that ends so: its newest grant is named by a choice.
    fn rejects(&self, branch: &[Grant]) -> bool {
        branch.last().is_some_and(|last| self.grants.iter().any(|g| g.rejects.contains(&last.id)))
    }
}

/// Above the lowest state that a grant of either branch builds on the two part.
fn newer(ours: &[Grant], theirs: &[Grant]) -> Relation {
    let parents = [lowest(ours), lowest(theirs)];
    match parents.into_iter().flatten().min_by_key(|p| p.mark.revision()) {
        Some(parent) => Relation::Newer(Cut { parent }),
        None => Relation::Foreign,
    }
}

/// The oldest state that one of these grants builds on.
fn lowest(grants: &[Grant]) -> Option<Parent> {
    grants.iter().filter_map(|g| g.parent).min_by_key(|p| p.mark.revision())
}

fn check_link(before: &Grant, grant: &Grant) -> Result<(), ChainError> {
    let follows = grant.parent.is_some_and(|parent| {
        parent.grant == before.id
            // What it builds on is not older than what the one before it built on, unless that was given up.
            && (grant.basis.begins_lineage()
                || before.parent.is_none_or(|p| parent.mark.revision() >= p.mark.revision()))
    });
    if !follows || grant.id.epoch <= before.id.epoch || grant.basis == Basis::Init {
        return Err(ChainError::Link(grant.id));
    }
    if grant.basis.begins_lineage() == (grant.id.lineage == before.id.lineage) {
        return Err(ChainError::Lineage(grant.id));
    }
    match grant.rejects.is_empty() || grant.basis == Basis::Choice {
        true => Ok(()),
        false => Err(ChainError::Rejects(grant.id)),
    }
}

impl PartialEq for Chain {
    /// Whether both have the same grants, proved or not.
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Relation::Same
    }
}

impl Eq for Chain {}

impl TryFrom<Vec<Grant>> for Chain {
    type Error = ChainError;
    fn try_from(grants: Vec<Grant>) -> Result<Self, ChainError> {
        Self::new(grants)
    }
}

impl From<Chain> for Vec<Grant> {
    fn from(chain: Chain) -> Self {
        chain.grants
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
