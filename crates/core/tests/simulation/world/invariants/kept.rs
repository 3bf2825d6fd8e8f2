//! What was acknowledged is for ever. It is in the history of every later grant, but where an admin accepted its loss
//! or chose another lineage, lineages were in conflict before it was committed in one of them, a disk failed, or who
//! counts was changed under the new rule alone; and what was given up is listed by somebody.

use super::{Invariant, Place, Seen, place};
use echelon_core::grant::{Basis, Chain, Grant, GrantId, Hash, Mark};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Kept {
    acknowledged: BTreeMap<Place, Acknowledged>,
    /// How each entry came to be committed.
    committed: BTreeMap<Hash, Committing>,
    /// In the order in which they were made.
    grants: Vec<Given>,
    damaged: bool,
}

/// A grant that some manager has made durable.
#[derive(Clone)]
struct Given {
    grant: Grant,
    /// The grants before it.
    before: Option<Chain>,
    /// Whether loss was accepted for it.
    lossy: bool,
}

/// A primary's taking an entry for committed, as the first one.
struct Committing {
    /// The grant by which it was the primary.
    under: GrantId,
    /// How many grants there were by then.
    grants: usize,
}

#[derive(Clone)]
struct Acknowledged {
    mark: Mark,
    request: u64,
    alone: Option<u64>,
    /// Grants by which it was committed though others were promised that it would not be: with loss accepted, or by
    /// a primary that handed over to itself to end promises.
    against_promises: Vec<GrantId>,
}

impl Invariant for Kept {
    fn name(&self) -> &'static str {
        "what is acknowledged is kept"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Damaged { .. } => self.damaged = true,
            Seen::Committed { leading: true, chain, entries, .. } => {
                let (under, grants) = (chain.head().id, self.grants.len());
                for entry in *entries {
                    self.committed.entry(entry.mark.hash).or_insert(Committing { under, grants });
                }
            }
            Seen::Acknowledged { request, mark, alone, chain } => {
                let against = self.grants.iter().filter(|given| given.is_against_promises());
                let against = against.map(|given| given.grant.id).filter(|id| chain.get(*id).is_some());
                let against_promises = against.collect();
                let told = Acknowledged { request: *request, mark: *mark, alone: *alone, against_promises };
                self.acknowledged.entry(place(&mark.position)).or_insert(told.clone());
                let chosen_against = |g: &Grant| chain.grants().any(|c| c.rejects.contains(&g.id));
                let torn_off = self.torn_off(mark, chain);
                let grants = self.grants.iter().filter(|given| !chosen_against(&given.grant));
                let grants = grants.filter(|given| !torn_off.contains(&given.grant.id));
                grants.into_iter().try_for_each(|given| self.keeps(given, &told))?;
            }
            Seen::Granted { chain, lossy } => {
                let (grant, count) = (chain.head(), chain.grants().len());
                let before = Chain::new(chain.grants().take(count - 1).cloned().collect()).ok();
                let given = Given { grant: grant.clone(), before, lossy: *lossy };
                self.acknowledged.values().try_for_each(|told| self.keeps(&given, told))?;
                self.grants.push(given);
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

impl Given {
    fn is_against_promises(&self) -> bool {
        let holder = self.before.as_ref().map(|before| before.head().holder);
        self.lossy || self.grant.basis == Basis::Handover && holder == Some(self.grant.holder)
    }
}

impl Kept {
    /// Grants in conflict with the one under which an entry was committed, that were made before it was. Both were
    /// promised that the old primary would commit no more: the one builds on what it had written, the other on
    /// less, and then the one commits it. Both is as it has to be, and an admin chooses.
    fn torn_off(&self, mark: &Mark, chain: &Chain) -> BTreeSet<GrantId> {
        let Some(Committing { under, grants }) = self.committed.get(&mark.hash) else {
            return BTreeSet::new();
        };
        let knows = |given: &Given| given.before.as_ref().is_none_or(|before| before.get(*under).is_some());
        let there = self.grants.iter().take(*grants).filter(|given| !knows(given));
        there.map(|given| given.grant.id).filter(|id| chain.get(*id).is_none()).collect()
    }

    /// Whether an acknowledged entry that was part of the history before a grant is in what the grant builds on, or
    /// may be given up by it.
    fn keeps(&self, given: &Given, told: &Acknowledged) -> Result<(), String> {
        let (position, Given { grant, before, lossy }) = (told.mark.position, given);
        let counted = before.as_ref().is_some_and(|before| before.contains(&position));
        let Some(parent) = grant.parent.filter(|_| counted) else { return Ok(()) };
        let base = parent.mark.revision();
        let alone = told.alone.is_some_and(|alone| alone > base);
        // It was committed by a grant that builds on the same state as this one, which may have been without it.
        let apart =
            told.against_promises.iter().any(|id| before.as_ref().is_some_and(|b| b.get(*id).is_none()));
        match position.revision <= base || *lossy || alone || apart || self.damaged {
            true => Ok(()),
            false => {
                Err(format!("{position} is acknowledged; {} builds on {}", grant.id, parent.mark.position))
            }
        }
    }
}
