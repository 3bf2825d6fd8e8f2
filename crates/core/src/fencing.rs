//! Fencing numbers: what the primary of a type shows to a resource, so that whoever was primary before is refused there.

use crate::package::NumberError;
use crate::position::Position;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bits of a number that are the revision: 4 billion edits.
const REVISION_BITS: u32 = 32;

/// Highest revision that a number holds.
const MAX_REVISION: u64 = (1 << REVISION_BITS) - 1;

/// Highest epoch that a number holds: two million promotions of registry managers. With the revision that makes 53
/// bits, the largest whole numbers that every reader of JSON has exactly (RFC 8259, section 6).
const MAX_EPOCH: u64 = (1 << (53 - REVISION_BITS)) - 1;

/// The number of a manager that is primary of its type: epoch and revision of the commit that made it that, or of the
/// first one under a later grant that may give revisions up.
///
/// It is larger for whoever became primary later, along any chain of grants: a forced promotion of a registry manager may
/// take revisions back, but raises the epoch, which counts first, and by that the number of every primary. It is a token to hand to the resource that the
/// primary writes to, which must remember the largest it has seen and refuse lower ones. It is no lock: the old primary
/// may go on for a while, and only the resource can tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Fencing(u64);

impl Fencing {
    /// The number of those who become primary by the commit at this position.
    ///
    /// # Errors
    /// Epoch or revision are past what a number holds.
    pub fn at(position: &Position) -> Result<Self, NumberError> {
        NumberError::check("epoch", position.epoch, 0, MAX_EPOCH)?;
        NumberError::check("revision", position.revision, 0, MAX_REVISION)?;
        Ok(Self((position.epoch << REVISION_BITS) | position.revision))
    }
}

impl TryFrom<u64> for Fencing {
    type Error = NumberError;
    fn try_from(value: u64) -> Result<Self, NumberError> {
        let most = (MAX_EPOCH << REVISION_BITS) | MAX_REVISION;
        NumberError::check("fencing number", value, 0, most).map(|()| Self(value))
    }
}

impl From<Fencing> for u64 {
    fn from(fencing: Fencing) -> Self {
        fencing.0
    }
}

impl fmt::Display for Fencing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Lineage;
    use uuid::Uuid;

    fn at(epoch: u64, revision: u64) -> Result<Fencing, NumberError> {
        Fencing::at(&Position { lineage: Lineage(Uuid::nil()), epoch, revision })
    }

    #[test]
    fn a_later_commit_has_a_larger_number_though_revisions_are_taken_back() {
        assert_eq!(u64::from(at(1, 5).unwrap()), (1 << 32) + 5);
        let chain =
            [at(1, 5), at(1, 900), at(1, MAX_REVISION), at(2, 7), at(2, 8), at(3, 1)].map(Result::unwrap);
        assert!(chain.is_sorted_by(|a, b| a < b), "{chain:?}");
    }

    #[test]
    fn every_number_is_exact_in_json_and_none_overflows() {
        let largest = at(MAX_EPOCH, MAX_REVISION).unwrap();
        assert_eq!(u64::from(largest), (1 << f64::MANTISSA_DIGITS) - 1);
        assert_eq!(at(MAX_EPOCH + 1, 1).unwrap_err().what, "epoch");
        assert_eq!(at(1, MAX_REVISION + 1).unwrap_err().what, "revision");
        let read = |text: &str| serde_json::from_str::<Fencing>(text);
        assert_eq!(read(&largest.to_string()).unwrap(), largest);
        assert!(read("9007199254740992").is_err());
    }
}
