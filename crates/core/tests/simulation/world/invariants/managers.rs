//! Managers go forward: nobody goes by grants that those it went by before beat, also not over a restart or a copy.

use super::{Invariant, Seen};
use echelon_core::grant::Relation;

pub(crate) struct ManagersGoForward;

impl Invariant for ManagersGoForward {
    fn name(&self) -> &'static str {
        "managers go forward"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Adopted { by, before, after } = seen else { return Ok(()) };
        match before.compare(after) {
            Relation::Same | Relation::Newer(_) => Ok(()),
            other => Err(format!("{by} went from {} to {}: {other:?}", before.head().id, after.head().id)),
        }
    }
}
