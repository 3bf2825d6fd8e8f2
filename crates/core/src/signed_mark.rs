//! Marks of the journal that a registry manager has signed: what an agent can prove that it was shown.
//!
//! An agent's word about the journal is worth nothing by itself: one host in wrong hands could stop every edit with it.
//! What it was shown by a manager is another matter. A manager signs the newest mark that it shows, each agent keeps the
//! newest one that it was given, and shows it to whichever manager it meets.

use crate::grant::{Chain, Mark, Proof};
use crate::position::Position;
use crate::time::UnixMillis;
use crate::witness::{Standing, standing};
use std::cmp::Ordering;

/// Most bytes of the proof of a mark: three certificates of the largest kind, and a signature. An agent that kept a
/// larger one could not greet any manager with it.
pub const MAX_PROOF: usize = 16 << 10;

/// A mark that a registry manager has shown to agents, and its signature, from which it can be told who that was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedMark {
    /// The mark: all up to it was committed.
    pub mark: Mark,
    /// When it was signed, by the clock of whoever did.
    pub at: UnixMillis,
    /// The signature over both.
    pub proof: Proof,
}

impl SignedMark {
    /// How many bytes the proof takes, without what frames them.
    pub fn proof_len(&self) -> usize {
        self.proof.certificates.iter().map(Vec::len).sum::<usize>() + self.proof.signature.len()
    }
}

/// What a mark that is shown to a manager says against its journal, if it is proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// There was more than this manager has committed.
    Further,
    /// What is committed here was another history before.
    Differs,
}

/// What a mark says against the journal of a manager that goes by these grants, has committed up to `own`, and has the
/// mark `at_same` at the position of what is shown, where it keeps one; none where it says nothing. Only then a
/// signature is worth its check.
pub fn claim(grants: &Chain, own: &Position, at_same: Option<&Mark>, shown: &Mark) -> Option<Claim> {
    match standing(Some(grants), own, &shown.position) {
        Standing::Compares(Ordering::Greater) => Some(Claim::Further),
        Standing::Compares(_) => at_same.filter(|same| same.hash != shown.hash).map(|_| Claim::Differs),
        Standing::Outside | Standing::Replaces => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Grant;
    use crate::id::{HostId, Lineage};
    use uuid::Uuid;

    /// Protects: only what goes beyond or contradicts what a manager has is a claim at all.
    #[test]
    fn only_what_goes_beyond_or_contradicts_is_a_claim() {
        let (lineage, host) = (Lineage(Uuid::from_u128(1)), HostId(Uuid::from_u128(1)));
        let first = Grant::first(lineage, host, "a".parse().unwrap(), UnixMillis(0));
        let (at, grants) = (|n| first.id.at(n), Chain::begin(first.clone()).unwrap());
        let mark = |n, hash| Mark { position: at(n), hash: [hash; 32] };
        let own = mark(10, 1);
        let claims = |shown: &Mark, same: Option<&Mark>| claim(&grants, &own.position, same, shown);
        assert_eq!(claims(&mark(11, 1), None), Some(Claim::Further));
        assert_eq!(claims(&mark(10, 1), Some(&own)), None);
        assert_eq!(claims(&mark(10, 2), Some(&own)), Some(Claim::Differs));
        assert_eq!(claims(&mark(9, 2), None), None, "too old to be told");
        let elsewhere = Position { lineage: Lineage(Uuid::from_u128(2)), ..at(99) };
        assert_eq!(claims(&Mark { position: elsewhere, hash: [1; 32] }, None), None);
        assert_eq!(claims(&Mark { position: Position { epoch: 2, ..at(99) }, hash: [1; 32] }, None), None);
    }
}
