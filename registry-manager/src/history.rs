//! Committed edits, told in the names of their time.

use crate::failure;
use crate::limits::HISTORY_DOCUMENT;
use echelon_core::describe::{Changed, describe};
use echelon_core::grant::{GrantId, Mark};
use echelon_core::message::Failure;
use echelon_core::names::{Past, Side};
use echelon_core::registry::Registry;
use echelon_core::report::{GivenUpReport, HistoryDocument, HistoryReport};
use echelon_core::row::Commit;
use echelon_store::{JournalReader, StoreError};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use tracing::debug;

/// A reader of the journal, at some revision of it. Blocks on the disk, and delays no commit: it has a
/// connection of its own.
pub(crate) struct History {
    reader: JournalReader,
    /// The names as they were right before `next`.
    past: Past,
    /// The revision that is told next.
    next: u64,
    /// The newest commits that were told, oldest first, and before them the one after which was begun.
    told: VecDeque<Mark>,
}

/// Most commits that are remembered as told: more than a grant ever gives up, unless somebody accepts that.
const MOST_TOLD: usize = 1_024;

impl History {
    /// Begins after this state of the registry.
    pub(crate) fn from_now(journal: &Path, registry: Arc<Registry>) -> Result<Self, Failure> {
        let next = registry.position().revision + 1;
        let reader = JournalReader::open(journal).map_err(|e| internal(&e))?;
        let history = Self { reader, past: Past::of(registry), next, told: VecDeque::new() };
        history.begun()
    }

    /// Notes after which commit it begins.
    fn begun(mut self) -> Result<Self, Failure> {
        let before = self.reader.forwards_marked(self.next.saturating_sub(1), self.next.saturating_sub(1));
        let before = before.map_err(|e| internal(&e))?;
        self.told = before.into_iter().map(|(c, hash)| Mark { position: c.position, hash }).collect();
        Ok(self)
    }

    /// Goes back to what comes after the revision `since`, but no further than `limit` commits, as long as it is
    /// `wanted`.
    ///
    /// The names of then are found by undoing, one by one, what was renamed and removed since.
    pub(crate) fn back_to(
        mut self,
        since: Option<u64>,
        limit: Option<u64>,
        wanted: impl Fn() -> bool,
    ) -> Result<Self, Failure> {
        let least = self.next.saturating_sub(limit.unwrap_or(u64::MAX));
        self.rewind(least.max(since.map_or(0, |since| since.saturating_add(1))), wanted)?;
        self.begun()
    }

    /// Goes back to this revision, or as far as there are any.
    fn rewind(&mut self, first: u64, wanted: impl Fn() -> bool) -> Result<(), Failure> {
        while self.next > first {
            if !wanted() {
                debug!(revision = self.next, "A reading of the history is given up: whoever asked is gone");
                return Err(failure::nobody_listens());
            }
            let part = self.reader.backwards(first, self.next - 1);
            let part = part.map_err(|e| internal(&e))?;
            let Some(oldest) = part.last() else { break };
            self.next = oldest.position.revision;
            part.iter().for_each(|commit| self.past.go(&commit.rows, Side::Before));
        }
        Ok(())
    }

    /// Forgets the names of before, now that it has come to this state.
    pub(crate) fn arrive(&mut self, registry: Arc<Registry>) {
        if registry.position().revision + 1 == self.next {
            self.past = Past::of(registry);
        }
    }

    /// Some of the commits up to the revision `head`, as documents; none once there is none left. A commit that
    /// is too large for one document has several. Where what was told has been given up since, that is told first.
    ///
    /// `registry` is what is shown now; it has the commit at `head`, or one after it.
    pub(crate) fn part(
        &mut self,
        head: u64,
        registry: &Arc<Registry>,
    ) -> Result<Vec<HistoryDocument>, Failure> {
        if !self.still_counts(self.told.back())? {
            // In between the file is cut, and what is shown is not: that follows at once.
            return match self.is_shown(registry)? {
                true => Ok(vec![HistoryDocument::GivenUp(self.go_back(registry)?)]),
                false => Ok(Vec::new()),
            };
        }
        if self.next > head {
            return Ok(Vec::new());
        }
        let part = self.reader.forwards_marked(self.next, head).map_err(|e| internal(&e))?;
        let mut documents = Vec::new();
        for (commit, hash) in part {
            let reports = in_documents(&commit, describe(&commit.rows, Some(&self.past)));
            documents.extend(reports.into_iter().map(|report| HistoryDocument::Edit(Box::new(report))));
            self.past.go(&commit.rows, Side::After);
            self.next = commit.position.revision + 1;
            self.told.push_back(Mark { position: commit.position, hash });
        }
        let over = self.told.len().saturating_sub(MOST_TOLD);
        self.told.drain(..over);
        Ok(documents)
    }

    /// Whether the journal still has this commit.
    fn still_counts(&self, told: Option<&Mark>) -> Result<bool, Failure> {
        let Some(told) = told else { return Ok(true) };
        Ok(self.reader.hash_at(told.revision()).map_err(|e| internal(&e))? == Some(told.hash))
    }

    /// Whether the last commit of this registry is one of the journal.
    fn is_shown(&self, registry: &Registry) -> Result<bool, Failure> {
        let shown = registry.position();
        let last = self.reader.forwards(shown.revision, shown.revision).map_err(|e| internal(&e))?;
        // Before the first commit there is none.
        let before = self.told.front().is_some_and(|told| shown.revision < told.revision());
        Ok(last.first().map_or(before, |commit| commit.position == shown))
    }

    /// Goes back to the newest commit that was told and still counts.
    fn go_back(&mut self, registry: &Arc<Registry>) -> Result<GivenUpReport, Failure> {
        let (mut oldest, newest) = (self.next, self.told.back().map(|told| told.position));
        while !self.still_counts(self.told.back())? {
            oldest = self.told.pop_back().map_or(oldest, |told| told.revision());
        }
        let grants = self.reader.grants().map_err(|e| internal(&e))?;
        let cut = newest.and_then(|newest| grants.cut_after(GrantId::of(&newest)));
        let cut = cut.map_or(0, |cut| cut.parent.mark.revision());
        let stays = self.told.back().map_or_else(|| cut.min(oldest.saturating_sub(1)), Mark::revision);
        (self.past, self.next) = (Past::of(Arc::clone(registry)), registry.position().revision + 1);
        self.rewind(stays + 1, || true)?;
        self.next = stays + 1;
        let GrantId { lineage, epoch } = grants.head().id;
        Ok(GivenUpReport { given_up_after: stays, lineage, epoch })
    }
}

fn internal(error: &StoreError) -> Failure {
    failure::internal(&failure::in_full(error))
}

/// A commit as one document or more, each small enough for a message.
fn in_documents(commit: &Commit, changed: Vec<Changed>) -> Vec<HistoryReport> {
    let mut documents = vec![HistoryReport::of(commit)];
    let mut size = 0;
    for change in changed {
        // A value of plain maps always has a JSON; should it not, it is taken for a large one.
        let length = serde_json::to_vec(&change).map_or(HISTORY_DOCUMENT, |json| json.len());
        size += length;
        if size > HISTORY_DOCUMENT && documents.last().is_some_and(|d| !d.changed.is_empty()) {
            size = length;
            if let Some(full) = documents.last_mut() {
                full.more = true;
            }
            documents.push(HistoryReport::of(commit));
        }
        if let Some(last) = documents.last_mut() {
            last.changed.push(change);
        }
    }
    documents
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
