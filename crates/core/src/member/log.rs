//! The journal as far as deciding goes: its end, what of it is committed, and which standbys count.

use super::{Entry, SyncChange};
use crate::grant::{Grant, Mark, SyncRule};
use std::collections::VecDeque;

/// An entry that is durable here and not known to be committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Its place.
    pub mark: Mark,
    /// How it changes the standbys that count.
    pub sync: Option<SyncChange>,
}

impl From<&Entry> for Pending {
    fn from(entry: &Entry) -> Self {
        Self { mark: entry.mark, sync: entry.sync.clone() }
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    last: Mark,
    committed: u64,
    /// The rule after the last committed entry.
    rule: SyncRule,
    /// Above the committed revision, in order.
    tail: VecDeque<Pending>,
}

impl Log {
    /// A journal whose newest committed revision is `committed`, after which `rule` holds, and these entries.
    /// `last` is the last of them, or the committed one where there are none.
    pub fn new(last: Mark, committed: u64, rule: SyncRule, tail: Vec<Pending>) -> Self {
        Self { last, committed, rule, tail: tail.into() }
    }

    /// The last entry.
    pub fn last(&self) -> Mark {
        self.last
    }

    /// The newest committed revision.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Whether all of it is committed.
    pub fn is_settled(&self) -> bool {
        self.tail.is_empty()
    }

    /// How many entries are not known to be committed.
    pub fn waiting(&self) -> usize {
        self.tail.len()
    }

    /// Whether an entry that changes the standbys that count is not committed yet. The first one under a grant says
    /// once more what the grant has said; that changes nothing.
    pub fn is_changing(&self, grant: &Grant) -> bool {
        let first = self.first_rule(grant);
        self.rules_since(grant).any(|rule| rule != first)
    }

    /// The entry of this revision, where it is the last one or not known to be committed.
    pub fn mark_at(&self, revision: u64) -> Option<Mark> {
        let pending = self.tail.iter().find(|p| p.mark.revision() == revision).map(|p| p.mark);
        pending.or_else(|| Some(self.last).filter(|last| last.revision() == revision))
    }

    /// Whether this can be one of its entries: it is not above the last one, and where the entry of this revision is
    /// at hand, it is that.
    pub(super) fn may_have(&self, mark: Mark) -> bool {
        let revision = mark.revision();
        revision <= self.last.revision() && self.mark_at(revision).is_none_or(|known| known == mark)
    }

    /// Takes entries that follow on the last one.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        self.tail.extend(entries.iter().map(Pending::from));
        if let Some(entry) = entries.last() {
            self.last = entry.mark;
        }
    }

    /// Notes that all up to this revision is committed. Gives the revision, where that is news and there is such
    /// an entry.
    pub(super) fn commit(&mut self, revision: u64) -> Option<u64> {
        let revision = revision.min(self.last.revision());
        if revision <= self.committed {
            return None;
        }
        while self.tail.front().is_some_and(|p| p.mark.revision() <= revision) {
            if let Some(SyncChange { rule, .. }) = self.tail.pop_front().and_then(|p| p.sync) {
                self.rule = rule;
            }
        }
        self.committed = revision;
        Some(revision)
    }

    /// The rule in force for the next entry under a grant.
    pub fn rule_under<'a>(&'a self, grant: &'a Grant) -> &'a SyncRule {
        let own = self.tail.iter().rev().filter(|p| is_under(grant, p.mark.revision()));
        let changed = own.into_iter().find_map(|p| p.sync.as_ref().map(|s| &s.rule));
        changed.unwrap_or_else(|| self.first_rule(grant))
    }

    /// The rules by which somebody who knows less of this journal may go: that after what is committed, and those
    /// of each change since.
    pub(super) fn rules_since<'a>(&'a self, grant: &'a Grant) -> impl Iterator<Item = &'a SyncRule> {
        let changes = self.tail.iter().filter(|p| is_under(grant, p.mark.revision()));
        let changed = changes.filter_map(|p| p.sync.as_ref().map(|s| &s.rule));
        std::iter::once(self.first_rule(grant)).chain(changed)
    }

    /// The newest revision that is committed when `holds` says which entries, by their revision, a rule is content
    /// with. A grant brings its own rule for all that was not committed before it.
    pub(super) fn committable(&self, grant: &Grant, holds: impl Fn(&SyncRule, u64) -> bool) -> u64 {
        let (mut rule, mut committed, mut unbroken) = (self.first_rule(grant), self.committed, true);
        for pending in &self.tail {
            let revision = pending.mark.revision();
            let change = pending.sync.as_ref().filter(|_| is_under(grant, revision));
            let alone = change.is_some_and(|c| c.alone);
            let old = alone || holds(rule, revision);
            rule = change.map_or(rule, |c| &c.rule);
            let held = old && holds(rule, revision);
            unbroken = held && (unbroken || alone);
            if unbroken {
                committed = revision;
            }
        }
        committed
    }

    /// The rule for the first entry above the committed ones.
    fn first_rule<'a>(&'a self, grant: &'a Grant) -> &'a SyncRule {
        if is_under(grant, self.committed) { &self.rule } else { &grant.sync }
    }
}

/// Whether an entry of this revision is made under this grant, which is the newest.
fn is_under(grant: &Grant, revision: u64) -> bool {
    grant.parent.is_none_or(|parent| revision > parent.mark.revision())
}
