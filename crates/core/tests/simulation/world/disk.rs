//! What a manager has made durable: its journal, its grants, its promises, and what it had to give up.

use echelon_core::grant::{Chain, GrantId, Mark, Parent, Relation, SyncRule};
use echelon_core::member::{Entry, Log, Pending, Seals, Stored};
use echelon_core::position::Position;

#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) chain: Chain,
    /// The entry of revision 1 comes first.
    pub(crate) entries: Vec<Entry>,
    /// A lower bound of what is committed: it is written along with other things.
    pub(crate) committed: u64,
    pub(crate) seals: Seals,
    pub(crate) rolled_back: Option<Position>,
    /// What was taken out of the journal.
    pub(crate) surplus: Vec<Entry>,
}

impl Disk {
    pub(crate) fn new(chain: Chain) -> Self {
        let (entries, surplus) = (vec![], vec![]);
        Self { chain, entries, committed: 0, seals: Seals::default(), rolled_back: None, surplus }
    }

    /// The entry of a revision; what was before the first one has a mark, too.
    pub(crate) fn mark(&self, revision: u64) -> Option<Mark> {
        match usize::try_from(revision).ok()?.checked_sub(1) {
            None => Some(Mark { position: self.chain.first().id.at(0), hash: [0; 32] }),
            Some(index) => self.entries.get(index).map(|e| e.mark),
        }
    }

    pub(crate) fn last(&self) -> Mark {
        self.mark(self.entries.len() as u64).expect("an entry for each revision")
    }

    /// The entries after a revision.
    pub(crate) fn after(&self, revision: u64) -> &[Entry] {
        &self.entries[(revision as usize).min(self.entries.len())..]
    }

    pub(crate) fn find(&self, request: u64) -> Option<Mark> {
        self.entries.iter().find(|e| request_of(e) == request).map(|e| e.mark)
    }

    /// The rule that the configuration names, up to this revision.
    pub(crate) fn rule_of_rows(&self, revision: u64) -> SyncRule {
        let entries = &self.entries[..revision as usize];
        let changed = entries.iter().rev().find_map(|e| e.sync.as_ref());
        changed.map_or_else(|| self.chain.first().sync.clone(), |s| s.rule.clone())
    }

    /// What a process starts from.
    pub(crate) fn stored(&self) -> Stored {
        let tail = self.after(self.committed).iter().map(Pending::from).collect();
        let log = Log::new(self.last(), self.committed, self.rule_of_rows(self.committed), tail);
        let (chain, seals) = (self.chain.clone(), self.seals.clone());
        Stored { chain, log, seals, rolled_back: self.rolled_back }
    }

    /// Goes by another chain. Entries above the cut become a surplus, where the journal is, up to the cut, the one
    /// that the chain speaks of; where not, it stays as it is, to be replaced by a copy.
    pub(crate) fn adopt(&mut self, chain: Chain, cut: Option<Parent>) {
        (self.chain, self.seals, self.rolled_back) = (chain, Seals::default(), None);
        let Some(cut) = cut.filter(|cut| self.mark(cut.mark.revision()) == Some(cut.mark)) else { return };
        self.surplus.extend(self.entries.split_off(cut.mark.revision() as usize));
        self.committed = self.committed.min(cut.mark.revision());
    }

    /// Becomes what a copy of another manager's journal is; what only this one had becomes a surplus. Not where
    /// the other manager knew less of the grants: one's own promises and answers are of a later time then.
    pub(crate) fn replace_by(&mut self, copy: Self) -> bool {
        if !matches!(self.chain.compare(&copy.chain), Relation::Same | Relation::Newer(_)) {
            return false;
        }
        let common = self.entries.iter().zip(&copy.entries).take_while(|(a, b)| a == b).count();
        self.surplus.extend(self.entries.split_off(common));
        (self.chain, self.entries, self.committed) = (copy.chain, copy.entries, copy.committed);
        self.rolled_back = None;
        true
    }
}

/// The first bytes of an entry name the request that it was made for.
pub(crate) fn request_of(entry: &Entry) -> u64 {
    u64::from_le_bytes(entry.bytes[..8].try_into().expect("entries begin with a request's number"))
}

/// The entry made for a request, the `count`-th of all that were ever made.
pub(crate) fn entry(after: Mark, grant: GrantId, request: u64, count: u64) -> Entry {
    let bytes: std::sync::Arc<[u8]> = [request.to_le_bytes(), count.to_le_bytes()].concat().into();
    let hash = echelon_core::member::link(&after.hash, &bytes);
    Entry { mark: Mark { position: grant.at(after.revision() + 1), hash }, sync: None, bytes }
}
