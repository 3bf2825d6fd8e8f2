//! Nothing that is not committed is shown: what a primary takes for committed is durable on as many of the standbys
//! that count as each rule says, and what others take for committed a primary did before.

use super::{Invariant, Seen};
use echelon_core::grant::{Chain, GrantId, Hash, SyncRule};
use echelon_core::id::HostId;
use echelon_core::member::Entry;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Committed {
    /// Where an entry has ever been durable.
    durable: BTreeMap<Hash, BTreeSet<HostId>>,
    committed: BTreeSet<Hash>,
    damaged: bool,
    /// The rule after the newest entry that a primary has committed under a grant.
    now: BTreeMap<GrantId, SyncRule>,
}

impl Invariant for Committed {
    fn name(&self) -> &'static str {
        "only committed entries are shown"
    }

    fn saw(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Damaged { .. } => self.damaged = true,
            Seen::Durable { at, entries } => {
                for entry in *entries {
                    self.durable.entry(entry.mark.hash).or_default().insert(*at);
                }
            }
            Seen::Committed { by, leading: true, chain, entries } => {
                self.is_held(*by, chain, entries)?;
                self.committed.extend(entries.iter().map(|e| e.mark.hash));
            }
            Seen::Committed { by, leading: false, entries, .. } => {
                let unknown = entries.iter().find(|e| !self.committed.contains(&e.mark.hash));
                if let Some(entry) = unknown.filter(|_| !self.damaged) {
                    return Err(format!("{by} shows {}, which is not committed", entry.mark.position));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Committed {
    /// Whether the rules are content with where these entries are durable.
    fn is_held(&mut self, by: HostId, chain: &Chain, entries: &[Entry]) -> Result<(), String> {
        let head = chain.head();
        let parent = head.parent.map_or(0, |p| p.mark.revision());
        let mut rule = self.now.get(&head.id).cloned().unwrap_or_else(|| head.sync.clone());
        let mut lacking = None;
        for entry in entries.iter() {
            let change = entry.sync.as_ref().filter(|_| entry.mark.revision() > parent);
            let alone = change.is_some_and(|c| c.alone);
            let old = self.holds(&rule, entry) || alone;
            rule = change.map_or(rule, |c| c.rule.clone());
            let new = self.holds(&rule, entry);
            match old && new {
                false => lacking = lacking.or(Some(entry.mark.position)),
                true if alone => lacking = None,
                true => {}
            }
        }
        if let Some(lacking) = lacking.filter(|_| !self.damaged) {
            return Err(format!("{by} commits {lacking}, which too few hold"));
        }
        self.now.insert(head.id, rule);
        Ok(())
    }

    fn holds(&self, rule: &SyncRule, entry: &Entry) -> bool {
        let at = self.durable.get(&entry.mark.hash);
        let holding = rule.members.iter().filter(|m| at.is_some_and(|at| at.contains(m))).count();
        holding >= (rule.min_sync as usize).min(rule.members.len())
    }
}
