//! One writer per epoch: whoever writes holds the newest grant that it knows, a grant has one holder, and no two
//! entries have one position.

use super::{Invariant, Place, Seen, place};
use echelon_core::grant::{Grant, GrantId, Hash, Mark};
use echelon_core::id::HostId;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct SingleWriter {
    writers: BTreeMap<GrantId, HostId>,
    written: BTreeMap<Place, Hash>,
    damaged: bool,
}

impl Invariant for SingleWriter {
    fn name(&self) -> &'static str {
        "single writer"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Damaged => self.damaged = true,
            Seen::Wrote { by, chain, entries } => {
                entries.iter().try_for_each(|entry| self.wrote(*by, chain.head(), &entry.mark))?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl SingleWriter {
    fn wrote(&mut self, by: HostId, head: &Grant, mark: &Mark) -> Result<(), String> {
        let (position, grant) = (mark.position, GrantId::of(&mark.position));
        if head.id != grant || head.holder != by {
            return Err(format!("{by} writes {position} and goes by {}", head.id));
        }
        let writer = *self.writers.entry(grant).or_insert(by);
        let hash = *self.written.entry(place(&position)).or_insert(mark.hash);
        // A primary whose disk became an older one may have written there before.
        match writer == by && (hash == mark.hash || self.damaged) {
            true => Ok(()),
            false => Err(format!("{by} writes {position}, which {writer} has written")),
        }
    }
}
