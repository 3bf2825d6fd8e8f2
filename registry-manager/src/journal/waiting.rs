//! Answers that wait until what they rest on is committed.

use crate::failure;
use crate::hub::Hub;
use crate::limits::COMMIT_DEADLINE;
use crate::metrics::EditBecame;
use echelon_core::message::{EditAnswer, Failure};
use echelon_core::row::Commit;
use echelon_store::RegistryStore;
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::sync::oneshot;

/// An edit that was decided on, and who waits for its answer.
pub(super) struct Asked {
    pub(super) answer: Answer,
    pub(super) became: EditBecame,
    pub(super) came: Instant,
    pub(super) to: oneshot::Sender<Result<EditAnswer, Failure>>,
}

/// What is said in the end.
pub(super) enum Answer {
    This(Result<EditAnswer, Failure>),
    /// What the commit at this revision was answered with.
    AsAt(u64),
}

/// Answers by the revision that has to be committed before they are given: also a refusal rests on the entries
/// before it, and says something of them.
#[derive(Default)]
pub(super) struct Waiting {
    by_revision: BTreeMap<(u64, u64), Asked>,
    next: u64,
}

impl Asked {
    fn give(self, store: &RegistryStore, hub: &Hub) {
        hub.metrics.edit(self.became, 1);
        if self.became == EditBecame::Committed {
            hub.metrics.edit_duration.observe(self.came.elapsed());
        }
        let answer = match self.answer {
            Answer::This(answer) => answer,
            Answer::AsAt(revision) => repeat(store, revision),
        };
        send(self.to, answer);
    }

    /// Nobody can say whether what it rests on will be committed.
    fn give_up(self, hub: &Hub) {
        hub.metrics.edit(EditBecame::Failed, 1);
        let failure = match self.became {
            EditBecame::Committed | EditBecame::Repeated => failure::not_committed(),
            _ => failure::undecided(),
        };
        send(self.to, Err(failure));
    }
}

impl Waiting {
    /// Has an answer wait for this revision.
    pub(super) fn push(&mut self, revision: u64, asked: Asked) {
        self.next = self.next.wrapping_add(1);
        self.by_revision.insert((revision, self.next), asked);
    }

    /// Gives those that waited for revisions up to this one.
    pub(super) fn committed(&mut self, revision: u64, store: &RegistryStore, hub: &Hub) {
        while let Some(first) = self.by_revision.first_entry().filter(|e| e.key().0 <= revision) {
            first.remove().give(store, hub);
        }
    }

    /// Gives up those that have waited for too long. Their entries may be committed later all the same.
    pub(super) fn expire(&mut self, now: Instant, hub: &Hub) {
        let late = |asked: &Asked| now.saturating_duration_since(asked.came) >= COMMIT_DEADLINE;
        let keys: Vec<_> = self.by_revision.iter().filter(|(_, a)| late(a)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.by_revision.remove(key)).for_each(|asked| asked.give_up(hub));
    }

    /// Gives up all: somebody else decides now what becomes of the entries.
    pub(super) fn give_up(&mut self, hub: &Hub) {
        std::mem::take(&mut self.by_revision).into_values().for_each(|asked| asked.give_up(hub));
    }
}

/// The answer that an edit committed earlier was given.
fn repeat(store: &RegistryStore, revision: u64) -> Result<EditAnswer, Failure> {
    match store.commit_at(revision) {
        Ok(Some(Commit { position, request, rows, .. })) => {
            Ok(EditAnswer { position, request, rows, repeated: true })
        }
        Ok(None) => Err(failure::internal(&format_args!("revision {revision} is missing in the journal"))),
        Err(e) => Err(failure::internal(&e)),
    }
}

pub(super) fn send(to: oneshot::Sender<Result<EditAnswer, Failure>>, answer: Result<EditAnswer, Failure>) {
    // Whoever asked may be gone; the edit stands all the same.
    let _ = to.send(answer);
}
