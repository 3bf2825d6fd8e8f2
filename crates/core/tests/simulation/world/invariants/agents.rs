//! Agents go forward: neither to grants that theirs beat, nor to a lower position of the same history. Where all that
//! they have seen under a grant is given up by a choice, they begin anew.

use super::{Invariant, Seen};
use echelon_core::grant::{GrantId, Relation};

pub(crate) struct AgentsGoForward;

impl Invariant for AgentsGoForward {
    fn name(&self) -> &'static str {
        "agents go forward"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Agent { before, after, disk } = seen else { return Ok(()) };
        let (from, to) = (before.at.position, after.at.position);
        match before.chain.compare(&after.chain) {
            Relation::Same | Relation::Newer(_) => {}
            other => return Err(format!("from {from} to {to}: {other:?}")),
        }
        let given_up = after.chain.cut_after(GrantId::of(&from)).map_or(0, |cut| cut.parent.mark.revision());
        let floor = if after.chain.contains(&from) { from.revision } else { given_up };
        if to.revision < floor {
            return Err(format!("from {from} to {to}"));
        }
        let moved = after.at != before.at;
        if moved && disk.mark(after.at.revision()) != Some(after.at) {
            return Err(format!("{} is not what it was shown", after.at.position));
        }
        Ok(())
    }
}
