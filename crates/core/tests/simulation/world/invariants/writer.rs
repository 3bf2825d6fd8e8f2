//! One writer per epoch: whoever writes holds the newest grant that it knows, no two grants have one name, and no two
//! entries have one position. A manager whose disk became an older one does again what it has forgotten, where nobody
//! is there who knows of it: then two grants may have one name, and two entries one position.

use super::{Invariant, Place, Seen, place};
use echelon_core::grant::{Chain, Grant, GrantId, Hash, Mark};
use echelon_core::id::HostId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct SingleWriter {
    /// By which grants there was writing first, of those whose newest has one name.
    chains: BTreeMap<GrantId, Chain>,
    written: BTreeMap<Place, Hash>,
    /// Whose disk failed.
    damaged: BTreeSet<HostId>,
}

impl Invariant for SingleWriter {
    fn name(&self) -> &'static str {
        "single writer"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Damaged { at } => {
                self.damaged.insert(*at);
            }
            Seen::Wrote { by, chain, entries } => {
                entries.iter().try_for_each(|entry| self.wrote(*by, chain, &entry.mark))?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl SingleWriter {
    fn wrote(&mut self, by: HostId, chain: &Chain, mark: &Mark) -> Result<(), String> {
        let (head, position) = (chain.head(), mark.position);
        if head.id != GrantId::of(&position) || head.holder != by {
            return Err(format!("{by} writes {position} and goes by {}", head.id));
        }
        let first = self.chains.entry(head.id).or_insert_with(|| chain.clone());
        let hash = *self.written.entry(place(&position)).or_insert(mark.hash);
        let excused = match granted_twice(first, chain) {
            None => hash == mark.hash || !self.damaged.is_empty(),
            Some(by) => self.damaged.contains(&by),
        };
        match excused {
            true => Ok(()),
            false => Err(format!("{by} writes {position}, which {} has written", first.head().holder)),
        }
    }
}

/// Who has granted twice what is one grant by its name: who held the last one that two chains have in common.
fn granted_twice(one: &Chain, other: &Chain) -> Option<HostId> {
    let pairs = one.grants().zip(other.grants());
    let common = pairs.take_while(|(a, b)| a == b).map(|(a, _)| a);
    (one != other).then(|| common.last().map(|g: &Grant| g.holder)).flatten()
}
