//! The journal's hash chain: every entry's hash covers the entry and the hash before it
//! ([`echelon_core::member::link`]), so that nobody who has seen a newer hash can be shown a rewritten or
//! truncated history.

use echelon_core::grant::Hash;
use echelon_core::position::Position;
use echelon_wire::Wire;

/// The hash that the first entry builds on: of the position at which the registry was made, and of the rows it
/// was made with, in the order of their keys, each with its length before it.
pub(crate) fn genesis<'a>(position: &Position, rows: impl Iterator<Item = &'a [u8]>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &[u8]| {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    };
    add(&position.encode());
    rows.for_each(&mut add);
    *hasher.finalize().as_bytes()
}
