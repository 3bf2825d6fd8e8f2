//! Digests of content whose order does not matter.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A digest of a set of rows: the sum, modulo 2^256, of the rows' BLAKE3 hashes.
///
/// One row changes it in constant time, and equal sets have equal digests in whatever order they came
/// about. It finds copies that differ by accident; it is no defence against someone who can choose rows
/// (they would need a manager's certificate, and would need no collision).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest([u64; 4]);

impl Digest {
    /// The digest of one row, given its hash.
    pub fn of(hash: blake3::Hash) -> Self {
        Self::from_bytes(*hash.as_bytes())
    }

    /// The digest with one row more.
    pub fn add(&mut self, row: Self) {
        self.combine(row, u64::overflowing_add);
    }

    /// The digest with one row less.
    pub fn remove(&mut self, row: Self) {
        self.combine(row, u64::overflowing_sub);
    }

    fn combine(&mut self, row: Self, op: fn(u64, u64) -> (u64, bool)) {
        let mut carry = 0;
        for (limb, other) in self.0.iter_mut().zip(row.0) {
            let (partial, first) = op(*limb, other);
            let (value, second) = op(partial, carry);
            *limb = value;
            carry = u64::from(first | second);
        }
    }

    /// As 32 bytes, least significant first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// From what [`Digest::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = u64::from_le_bytes(chunk.try_into().expect("chunks are of 8 bytes"));
        }
        Self(limbs)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Digest {
    /// The first 16 of its 64 hexadecimal digits: enough to compare by eye.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().take(8).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Writes fields so that no two different rows hash alike: every text with its length before it.
#[derive(Default)]
pub(crate) struct RowHasher(blake3::Hasher);

impl RowHasher {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(crate) fn finish(&self) -> blake3::Hash {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_taken_out_leave_what_was_there_before(rows in prop::collection::vec(any::<[u8; 32]>(), 1..8)) {
            let start = Digest::from_bytes([0xff; 32]);
            let mut digest = start;
            rows.iter().for_each(|r| digest.add(Digest::from_bytes(*r)));
            rows.iter().rev().for_each(|r| digest.remove(Digest::from_bytes(*r)));
            prop_assert_eq!(digest, start);
            prop_assert_eq!(Digest::from_bytes(digest.to_bytes()), digest);
        }
    }
}
