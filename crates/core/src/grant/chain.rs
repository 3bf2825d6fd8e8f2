//! All grants since `init`, and how two such chains relate.

use super::{Basis, Grant, GrantId, Parent};
use crate::digest::{Digest, RowHasher};
use crate::id::{HostId, Lineage};
use crate::position::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most grants of a chain: two a day, there and back for each patch, for twenty-two years. A chain is never cut, so that
/// whoever was away for however long can follow it.
pub const MAX_GRANTS: usize = 16_384;

/// Most bytes of a chain, about: more than twice what [`MAX_GRANTS`] have that are signed as managers sign them. Every
/// agent holds it in memory.
const MAX_BYTES: usize = 64 << 20;

/// Most bytes of one grant, about: so that each fits into any frame. What is large in one is what a choice rejects.
const MAX_GRANT: usize = 192 << 10;

/// Every grant since `init`, oldest first. Never empty, and each builds on the one before it. A copy costs nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Grant>", into = "Vec<Grant>")]
pub struct Chain {
    links: Arc<Vec<Link>>,
}

/// A grant in its chain.
#[derive(Clone, Debug)]
struct Link {
    grant: Arc<Grant>,
    /// Of the chain up to and with it.
    digest: Digest,
    /// So many bytes have it and all before it.
    bytes: usize,
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
    /// One is too large, or all of them are.
    #[error("with grant {0} the chain is too large, or the grant is by itself")]
    Size(GrantId),
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
        let mut grants = grants.into_iter();
        let first = grants.next().ok_or(ChainError::Count { count: 0 })?;
        Self::begin(first)?.followed_by(grants)
    }

    /// The chain of a registry that was just made.
    ///
    /// # Errors
    /// It is no first grant, or too large.
    pub fn begin(first: Grant) -> Result<Self, ChainError> {
        if first.parent.is_some() || first.basis != Basis::Init || first.id.epoch != 1 {
            return Err(ChainError::First);
        }
        check_size(&first)?;
        Ok(Self { links: Arc::new(vec![Link::after(None, first)]) })
    }

    /// The chain with one grant more.
    ///
    /// # Errors
    /// It does not build on the last one, or there are too many.
    pub fn extended(&self, grant: Grant) -> Result<Self, ChainError> {
        self.followed_by([grant])
    }

    /// The chain with these grants more.
    ///
    /// # Errors
    /// One of them does not build on the one before it, or there are too many.
    pub fn followed_by(&self, grants: impl IntoIterator<Item = Grant>) -> Result<Self, ChainError> {
        let mut grants = grants.into_iter().peekable();
        if grants.peek().is_none() {
            return Ok(self.clone());
        }
        let mut links = Vec::clone(&self.links);
        let mut lineages: BTreeSet<Lineage> = self.grants().map(|grant| grant.id.lineage).collect();
        for grant in grants {
            let before = links.last();
            before.map_or(Err(ChainError::First), |before| check_link(&before.grant, &grant))?;
            check_size(&grant)?;
            if grant.basis.begins_lineage() && !lineages.insert(grant.id.lineage) {
                return Err(ChainError::Lineage(grant.id));
            }
            let (id, link) = (grant.id, Link::after(before, grant));
            if links.len() >= MAX_GRANTS {
                return Err(ChainError::Count { count: links.len() + 1 });
            }
            if link.bytes > MAX_BYTES {
                return Err(ChainError::Size(id));
            }
            links.push(link);
        }
        Ok(Self { links: Arc::new(links) })
    }

    /// The grants, oldest first.
    pub fn grants(&self) -> impl DoubleEndedIterator<Item = &Grant> + ExactSizeIterator + Clone {
        self.links.iter().map(|link| &*link.grant)
    }

    /// The newest grant: who may write now.
    pub fn head(&self) -> &Grant {
        &self.last().grant
    }

    /// The first grant: that of the registry's making.
    pub fn first(&self) -> &Grant {
        &self.links.first().expect("a chain is made with at least one grant").grant
    }

    fn last(&self) -> &Link {
        self.links.last().expect("a chain is made with at least one grant")
    }

    /// The grants that whoever keeps `known` has not got, each with the one before it; all of them for somebody who
    /// keeps none.
    pub fn unknown_to<'a>(
        &'a self,
        known: Option<&Self>,
    ) -> impl Iterator<Item = (Option<&'a Grant>, &'a Grant)> {
        let common = known.map_or(0, |known| self.common(known));
        let before = self.grants().map(Some);
        [None].into_iter().chain(before).zip(self.grants()).skip(common)
    }

    /// Tells chains apart: equal for those that are [`Relation::Same`]. Never [`Digest::default`], which stands for
    /// none.
    pub fn digest(&self) -> Digest {
        self.last().digest
    }

    /// The digest of its first so many grants; that of none is [`Digest::default`].
    pub(super) fn digest_of_first(&self, count: usize) -> Digest {
        let last = count.checked_sub(1).and_then(|last| self.links.get(last));
        last.map_or_else(Digest::default, |link| link.digest)
    }

    /// How many of its first grants have this digest together, 0 for [`Digest::default`]; none where it has no such
    /// beginning.
    pub(super) fn count_with_digest(&self, digest: Digest) -> Option<usize> {
        match digest == Digest::default() {
            true => Some(0),
            false => self.links.iter().rposition(|link| link.digest == digest).map(|last| last + 1),
        }
    }

    /// Its first so many grants; none for none.
    pub(super) fn beginning(&self, count: usize) -> Option<Self> {
        match count {
            0 => None,
            _ if count >= self.links.len() => Some(self.clone()),
            _ => Some(Self { links: Arc::new(self.links.get(..count)?.to_vec()) }),
        }
    }

    /// Whether a grant after this one may give up revisions that somebody has seen. All of them come after one that is
    /// none of this chain.
    pub fn gives_up_since(&self, id: GrantId) -> bool {
        self.grants().rev().take_while(|g| g.id != id).any(|g| g.basis.may_give_up())
    }

    /// The grant with this name.
    pub fn get(&self, id: GrantId) -> Option<&Grant> {
        self.index_of(id).and_then(|at| self.links.get(at)).map(|link| &*link.grant)
    }

    /// Epochs rise along a chain.
    fn index_of(&self, id: GrantId) -> Option<usize> {
        let at = self.links.binary_search_by_key(&id.epoch, |link| link.grant.id.epoch).ok()?;
        self.links.get(at).filter(|link| link.grant.id == id).map(|_| at)
    }

    /// Whether the manager on this host may write by this chain.
    pub fn is_held_by(&self, host: HostId) -> bool {
        self.head().holder == host
    }

    /// Above which state entries of this position's grant do not count by this chain, where another grant
    /// followed.
    pub fn cut_after(&self, grant: GrantId) -> Option<Cut> {
        let at = self.index_of(grant)?;
        lowest(self.links.get(at + 1..)?).map(|parent| Cut { parent })
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
        let (ours, theirs) = (self.links.split_at(common).1, other.links.split_at(common).1);
        match (ours.first(), theirs.first()) {
            (None, None) => Relation::Same,
            (Some(_), None) => Relation::Older,
            (None, Some(_)) => newer(&[], theirs),
            (Some(first), Some(their_first)) => match (self.rejects(theirs), other.rejects(ours)) {
                (true, false) => Relation::Older,
                (false, true) => newer(ours, theirs),
                _ => Relation::Conflict { ours: first.grant.id, theirs: their_first.grant.id },
            },
        }
    }

    /// How many grants both begin with.
    pub(super) fn common(&self, other: &Self) -> usize {
        if Arc::ptr_eq(&self.links, &other.links) {
            return self.links.len();
        }
        let same = |a: &Grant, b: &Grant| a.id == b.id && a.parent == b.parent && a.holder == b.holder;
        let pairs = self.links.iter().zip(other.links.iter());
        pairs.take_while(|(a, b)| Arc::ptr_eq(&a.grant, &b.grant) || same(&a.grant, &b.grant)).count()
    }

    /// Whether this chain was chosen over a branch that ends so: its newest grant is named by a choice.
    fn rejects(&self, branch: &[Link]) -> bool {
        branch.last().is_some_and(|last| self.grants().any(|g| g.rejects.contains(&last.grant.id)))
    }
}

impl Link {
    /// What is compared of a grant is what its digest is of.
    fn after(before: Option<&Self>, grant: Grant) -> Self {
        let mut hasher = RowHasher::default();
        if let Some(before) = before {
            hasher.bytes(&before.digest.to_bytes());
        }
        hasher.bytes(grant.id.lineage.0.as_bytes()).number(grant.id.epoch).bytes(grant.holder.0.as_bytes());
        if let Some(Parent { grant: on, mark }) = grant.parent {
            let position = mark.position;
            hasher.bytes(on.lineage.0.as_bytes()).number(on.epoch);
            hasher.bytes(position.lineage.0.as_bytes()).number(position.epoch).number(position.revision);
            hasher.bytes(&mark.hash);
        }
        let bytes = before.map_or(0, |before| before.bytes) + size(&grant);
        Self { digest: Digest::of(hasher.finish()), bytes, grant: Arc::new(grant) }
    }
}

/// How many bytes a grant takes, about.
fn size(grant: &Grant) -> usize {
    let proof = grant.proof.as_ref();
    let proof = proof.map_or(0, |p| p.signature.len() + p.certificates.iter().map(Vec::len).sum::<usize>());
    let reason = grant.reason.as_ref().map_or(0, |reason| reason.as_str().len());
    size_of::<Grant>()
        + proof
        + reason
        + grant.sync.members.len() * size_of::<HostId>()
        + grant.rejects.len() * size_of::<GrantId>()
}

fn check_size(grant: &Grant) -> Result<(), ChainError> {
    if size(grant) <= MAX_GRANT { Ok(()) } else { Err(ChainError::Size(grant.id)) }
}

/// Above the lowest state that a grant of either branch builds on the two part.
fn newer(ours: &[Link], theirs: &[Link]) -> Relation {
    let parents = [lowest(ours), lowest(theirs)];
    match parents.into_iter().flatten().min_by_key(|p| p.mark.revision()) {
        Some(parent) => Relation::Newer(Cut { parent }),
        None => Relation::Foreign,
    }
}

/// The oldest state that one of these grants builds on.
fn lowest(links: &[Link]) -> Option<Parent> {
    links.iter().filter_map(|link| link.grant.parent).min_by_key(|p| p.mark.revision())
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
        chain.grants().cloned().collect()
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
