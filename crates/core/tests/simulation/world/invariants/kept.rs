//! What was acknowledged is for ever. It is in the history of every later grant, but where an admin accepted its loss
//! or chose another lineage, a disk failed, or who counts was changed under the new rule alone; and what was given
//! up is listed by somebody.

use super::{Invariant, Place, Seen, place};
use echelon_core::grant::{Grant, GrantId, Hash, Mark};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Kept {
    acknowledged: BTreeMap<Place, Acknowledged>,
    /// Grants, and whether loss was accepted for them.
    grants: Vec<(Grant, bool)>,
    damaged: bool,
}

#[derive(Clone, Copy)]
struct Acknowledged {
    mark: Mark,
    request: u64,
    alone: Option<u64>,
}

impl Invariant for Kept {
    fn name(&self) -> &'static str {
        "what is acknowledged is kept"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Damaged => self.damaged = true,
            Seen::Acknowledged { request, mark, alone, chain } => {
                let told = Acknowledged { request: *request, mark: *mark, alone: *alone };
                self.acknowledged.entry(place(&mark.position)).or_insert(told);
                let chosen_against = |g: &Grant| chain.grants().iter().any(|c| c.rejects.contains(&g.id));
                let grants = self.grants.iter().filter(|(grant, _)| !chosen_against(grant));
                grants.into_iter().try_for_each(|(grant, lossy)| self.keeps(grant, *lossy, &told))?;
            }
            Seen::Granted { chain, lossy } => {
                self.grants.push((chain.head().clone(), *lossy));
                self.acknowledged.values().try_for_each(|told| self.keeps(chain.head(), *lossy, told))?;
            }
            Seen::Healed { nodes, .. } => {
                let journal: BTreeSet<Hash> = nodes[0].disk.entries.iter().map(|e| e.mark.hash).collect();
                let listed = nodes.iter().flat_map(|n| &n.disk.surplus).map(|e| e.mark.hash);
                let listed: BTreeSet<Hash> = listed.collect();
                let known = |m: &Mark| journal.contains(&m.hash) || listed.contains(&m.hash);
                let lost = self.acknowledged.values().find(|told| !known(&told.mark));
                if let Some(told) = lost.filter(|_| !self.damaged) {
                    return Err(format!(
                        "{}, acknowledged at {}, is nowhere",
                        told.request, told.mark.position
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Kept {
    /// Whether an acknowledged entry is in what a grant builds on, or may be given up by it.
    fn keeps(&self, grant: &Grant, lossy: bool, told: &Acknowledged) -> Result<(), String> {
        let position = told.mark.position;
        let Some(parent) = grant.parent.filter(|p| p.grant == GrantId::of(&position)) else { return Ok(()) };
        let base = parent.mark.revision();
        let alone = told.alone.is_some_and(|alone| alone > base);
        match position.revision <= base || lossy || alone || self.damaged {
            true => Ok(()),
            false => {
                Err(format!("{position} is acknowledged; {} builds on {}", grant.id, parent.mark.position))
            }
        }
    }
}
