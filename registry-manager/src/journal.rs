//! The one writer: decides on edits, makes them durable, then shows them. In this order.

use crate::edit_queue::{Edit, Queue};
use crate::failure;
use crate::hub::Hub;
use crate::limits::MAX_GROUP;
use crate::metrics::EditBecame;
use echelon_core::change::ChangeSet;
use echelon_core::edit::{Context, Edited};
use echelon_core::message::{EditAnswer, Failure};
use echelon_core::registry::Registry;
use echelon_core::row::Commit;
use echelon_store::{Entry, Problem, RegistryStore, StoreError};
use echelon_wire::{MAX_EDIT_FRAME, Wire};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::{error, info};

/// Bytes around a row in a list.
const ROW_OVERHEAD: usize = 8;

/// Bytes of an edit's answer besides its rows, generously.
const ANSWER_OVERHEAD: usize = 1024;

/// Carries out edits until their queue ends. Runs on a thread of its own: it waits for the disk.
///
/// # Errors
/// The store failed in a way that leaves open what is durable. The process must end, and finds out when it
/// starts again; whoever waited for an answer is told that the outcome is unknown.
pub(crate) fn run(mut store: RegistryStore, mut edits: Queue, hub: &Hub) -> Result<(), StoreError> {
    while let Some(group) = edits.next_group(MAX_GROUP) {
        Group::new(hub).carry_out(group, &mut store, hub)?;
    }
    Ok(())
}

/// Edits that become durable together. Each builds on the ones before it, so that none is answered, not even
/// one that is refused, before those are durable.
struct Group {
    registry: Arc<Registry>,
    states: Vec<(Arc<Registry>, Commit)>,
    asked: Vec<Asked>,
}

/// An edit that was decided on, and who waits for its answer.
struct Asked {
    answer: Answer,
    became: EditBecame,
    came: Instant,
    to: oneshot::Sender<Result<EditAnswer, Failure>>,
}

/// What is said once the group is durable.
enum Answer {
    This(Result<EditAnswer, Failure>),
    /// What the commit at this revision was answered with.
    AsAt(u64),
}

impl Group {
    fn new(hub: &Hub) -> Self {
        Self { registry: hub.registry(), states: Vec::new(), asked: Vec::new() }
    }

    fn carry_out(mut self, group: Vec<Edit>, store: &mut RegistryStore, hub: &Hub) -> Result<(), StoreError> {
        for Edit { set, context, dry_run, came, answer: to } in group {
            let answer = self.decide(&set, &context, dry_run);
            let became = answer.became(dry_run);
            self.asked.push(Asked { answer, became, came, to });
        }
        if let Err(e) = self.persist(store, hub) {
            hub.metrics.edit(EditBecame::Failed, self.asked.len());
            error!(error = %e, edits = self.states.len(), "Edits could not be made durable");
            if matches!(e.problem, Problem::Disk(_)) {
                return Err(e);
            }
            let failure = failure::not_stored(&e);
            self.asked.into_iter().for_each(|asked| send(asked.to, Err(failure.clone())));
            return Ok(());
        }
        for (registry, commit) in self.states {
            info!(revision = commit.position.revision, actor = %commit.actor, request = %commit.request,
                rows = commit.rows.len(), shrinks = commit.shrinks, "Committed");
            hub.commit(registry, &commit);
        }
        hub.witnesses.committed(store.head());
        for Asked { answer, became, came, to } in self.asked {
            hub.metrics.edit(became, 1);
            if became == EditBecame::Committed {
                hub.metrics.edit_duration.observe(came.elapsed());
            }
            send(to, answer.or_read(store));
        }
        Ok(())
    }

    fn decide(&mut self, set: &ChangeSet, context: &Context, dry_run: bool) -> Answer {
        match self.registry.edit(set, context) {
            Err(refusal) => {
                let actor = &context.actor;
                info!(error = refusal.name(), %actor, "Refused an edit: {}", failure::in_full(&refusal));
                Answer::This(Err((&refusal).into()))
            }
            Ok(Edited::Repeated(revision)) => Answer::AsAt(revision),
            Ok(Edited::Done(_, commit)) if !answer_fits(&commit) => {
                Answer::This(Err(failure::too_large(commit.rows.len())))
            }
            Ok(Edited::Done(registry, commit)) => {
                let (request, rows) = (commit.request, commit.rows.clone());
                if !dry_run {
                    self.registry = Arc::from(registry);
                    self.states.push((Arc::clone(&self.registry), commit));
                }
                // A dry run has no position of its own: it says what would be at the state there is.
                let position = self.registry.position();
                Answer::This(Ok(EditAnswer { position, request, rows, repeated: false }))
            }
        }
    }

    fn persist(&self, store: &mut RegistryStore, hub: &Hub) -> Result<(), StoreError> {
        if self.states.is_empty() {
            return Ok(());
        }
        let mut before = store.head();
        let entries = self.states.iter().map(|(_, commit)| {
            let entry = Entry::new(&before, commit.clone());
            before = entry.mark;
            entry
        });
        let entries: Vec<_> = entries.collect();
        let began = Instant::now();
        store.append(&entries, entries.last().map_or(0, Entry::revision))?;
        hub.metrics.journal_duration.observe(began.elapsed());
        Ok(())
    }
}

impl Answer {
    /// What becomes of the edit, once the group is durable.
    fn became(&self, dry_run: bool) -> EditBecame {
        match self {
            Self::AsAt(_) => EditBecame::Repeated,
            Self::This(Err(_)) => EditBecame::Refused,
            Self::This(Ok(_)) if dry_run => EditBecame::DryRun,
            Self::This(Ok(_)) => EditBecame::Committed,
        }
    }

    fn or_read(self, store: &RegistryStore) -> Result<EditAnswer, Failure> {
        match self {
            Self::This(answer) => answer,
            Self::AsAt(revision) => repeat(store, revision),
        }
    }
}

/// Whether the answer to an edit fits into one frame: an edit that could not be answered is not carried out.
fn answer_fits(commit: &Commit) -> bool {
    commit.rows.iter().map(|row| row.encoded_len() + ROW_OVERHEAD).sum::<usize>()
        < MAX_EDIT_FRAME - ANSWER_OVERHEAD
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

fn send(to: oneshot::Sender<Result<EditAnswer, Failure>>, answer: Result<EditAnswer, Failure>) {
    // Whoever asked may be gone; the edit stands all the same.
    let _ = to.send(answer);
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
