//! Agents go forward: neither to grants that theirs beat, nor to a lower position of the same history.

use super::{Invariant, Seen};
use echelon_core::grant::Relation;

pub(crate) struct AgentsGoForward;

impl Invariant for AgentsGoForward {
    fn name(&self) -> &'static str {
        "agents go forward"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Agent { before, after, disk } = seen else { return Ok(()) };
        let floor = match before.chain.compare(&after.chain) {
            Relation::Same => before.at.revision(),
            Relation::Newer(cut) => before.at.revision().min(cut.parent.mark.revision()),
            other => return Err(format!("from {} to {}: {other:?}", before.at.position, after.at.position)),
        };
        if after.at.revision() < floor {
            return Err(format!("from {} to {}", before.at.position, after.at.position));
        }
        let moved = after.at != before.at;
        if moved && disk.mark(after.at.revision()) != Some(after.at) {
            return Err(format!("{} is not what it was shown", after.at.position));
        }
        Ok(())
    }
}
