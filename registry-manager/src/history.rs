//! Committed edits, told in the names of their time.

use crate::failure;
use crate::limits::HISTORY_DOCUMENT;
use echelon_core::describe::{Changed, describe};
use echelon_core::message::Failure;
use echelon_core::names::{Past, Side};
use echelon_core::registry::Registry;
use echelon_core::report::HistoryReport;
use echelon_core::row::Commit;
use echelon_store::JournalReader;
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
}

impl History {
    /// Begins after this state of the registry.
    pub(crate) fn from_now(journal: &Path, registry: Arc<Registry>) -> Result<Self, Failure> {
        let next = registry.position().revision + 1;
        let reader = JournalReader::open(journal).map_err(|e| failure::internal(&failure::in_full(&e)))?;
        Ok(Self { reader, past: Past::of(registry), next })
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
        let first = least.max(since.map_or(0, |since| since.saturating_add(1)));
        while self.next > first {
            if !wanted() {
                debug!(revision = self.next, "A reading of the history is given up: whoever asked is gone");
                return Err(failure::nobody_listens());
            }
            let part = self.reader.backwards(first, self.next - 1);
            let part = part.map_err(|e| failure::internal(&failure::in_full(&e)))?;
            let Some(oldest) = part.last() else { break };
            self.next = oldest.position.revision;
            part.iter().for_each(|commit| self.past.go(&commit.rows, Side::Before));
        }
        Ok(self)
    }

    /// The revision that is told next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Forgets the names of before, now that it has come to this state.
    pub(crate) fn arrive(&mut self, registry: Arc<Registry>) {
        if registry.position().revision + 1 == self.next {
            self.past = Past::of(registry);
        }
    }

    /// Some of the commits up to the revision `head`, as documents; none once there is none left. A commit that
    /// is too large for one document has several.
    pub(crate) fn part(&mut self, head: u64) -> Result<Vec<HistoryReport>, Failure> {
        if self.next > head {
            return Ok(Vec::new());
        }
        let part = self.reader.forwards(self.next, head);
        let part = part.map_err(|e| failure::internal(&failure::in_full(&e)))?;
        let mut documents = Vec::new();
        for commit in part {
            documents.extend(in_documents(&commit, describe(&commit.rows, Some(&self.past))));
            self.past.go(&commit.rows, Side::After);
            self.next = commit.position.revision + 1;
        }
        Ok(documents)
    }
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
