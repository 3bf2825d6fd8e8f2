//! The journal's hash chain: every entry's hash covers the entry and the hash before it, so that nobody
//! who has seen a newer hash can be shown a rewritten or truncated history.

use echelon_core::position::Position;
use echelon_wire::Wire;

/// A hash of the chain.
pub(crate) type Link = [u8; 32];

/// The hash that the first entry builds on: of the position at which the registry was made, and of the rows it
/// was made with, in the order of their keys, each with its length before it.
pub(crate) fn genesis<'a>(position: &Position, rows: impl Iterator<Item = &'a [u8]>) -> Link {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    };
    add(&position.encode());
    rows.for_each(&mut add);
    *hasher.finalize().as_bytes()
}

/// The hash of an entry that follows on `previous`.
pub(crate) fn link(previous: &Link, entry: &[u8]) -> Link {
    *blake3::Hasher::new().update(previous).update(entry).finalize().as_bytes()
}
