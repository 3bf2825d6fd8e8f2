//! The one writer: decides on edits, makes them durable, then shows them. In this order.

use crate::edit_queue::Edit;
use crate::failure;
use crate::hub::Hub;
use crate::limits::MAX_GROUP;
use echelon_core::edit::Edited;
use echelon_core::message::{EditAnswer, Failure};
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_core::row::Commit;
use echelon_store::{Problem, RegistryStore, StoreError};
use echelon_wire::{MAX_EDIT_FRAME, Wire};
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// Bytes around a row in a list.
const ROW_OVERHEAD: usize = 8;

/// Bytes of an edit's answer besides its rows, generously.
const ANSWER_OVERHEAD: usize = 1024;

type Answer = (oneshot::Sender<Result<EditAnswer, Failure>>, EditAnswer);

/// Takes edits until every sender is gone. Runs on a thread of its own: it waits for the disk.
///
/// # Errors
/// The store failed in a way that leaves open what is durable. The process must end, and finds out when it
/// starts again; whoever waited for an answer is told that the outcome is unknown.
pub(crate) fn run(mut store: RegistryStore, mut edits: Receiver<Edit>, hub: &Hub) -> Result<(), StoreError> {
    while let Some(first) = edits.blocking_recv() {
        let more = std::iter::from_fn(|| edits.try_recv().ok()).take(MAX_GROUP - 1);
        let group: Vec<_> = std::iter::once(first).chain(more).collect();
        Group::new(hub).carry_out(group, &mut store, hub)?;
    }
    Ok(())
}

/// Edits that become durable together.
struct Group {
    registry: Arc<Registry>,
    states: Vec<(Arc<Registry>, Commit)>,
    answers: Vec<Answer>,
    repeated: Vec<(oneshot::Sender<Result<EditAnswer, Failure>>, u64)>,
}

impl Group {
    fn new(hub: &Hub) -> Self {
        Self { registry: hub.registry(), states: Vec::new(), answers: Vec::new(), repeated: Vec::new() }
    }

    fn carry_out(mut self, group: Vec<Edit>, store: &mut RegistryStore, hub: &Hub) -> Result<(), StoreError> {
        group.into_iter().for_each(|edit| self.decide(edit));
        if let Err(e) = self.persist(store) {
            error!(error = %e, edits = self.answers.len(), "Edits could not be made durable");
            if matches!(e.problem, Problem::Disk(_)) {
                return Err(e);
            }
            let failure = failure::not_stored(&e);
            self.answers.into_iter().for_each(|(to, _)| send(to, Err(failure.clone())));
            self.repeated.into_iter().for_each(|(to, _)| send(to, Err(failure.clone())));
            return Ok(());
        }
        for (registry, commit) in self.states {
            info!(revision = commit.position.revision, actor = %commit.actor, request = %commit.request,
                rows = commit.rows.len(), "Committed");
            hub.commit(registry, &commit);
        }
        self.answers.into_iter().for_each(|(to, answer)| send(to, Ok(answer)));
        self.repeated.into_iter().for_each(|(to, revision)| send(to, repeat(store, revision)));
        Ok(())
    }

    fn decide(&mut self, edit: Edit) {
        let Edit { set, context, dry_run, answer } = edit;
        match self.registry.edit(&set, &context) {
            Err(refusal) => {
                info!(error = refusal.name(), actor = %context.actor, "Refused an edit: {refusal}");
                if let Refusal::Enrol(why) = &refusal {
                    // The host is not told.
                    warn!(actor = %context.actor, "A join token was refused: {why}");
                }
                send(answer, Err((&refusal).into()));
            }
            Ok(Edited::Repeated(revision)) => self.repeated.push((answer, revision)),
            Ok(Edited::Done(_, commit)) if !answer_fits(&commit) => {
                send(answer, Err(failure::too_large(commit.rows.len())));
            }
            Ok(Edited::Done(registry, commit)) => {
                let (position, request, rows) = (commit.position, commit.request, commit.rows.clone());
                let reply = EditAnswer { position, request, rows, repeated: false };
                if dry_run {
                    // What would be, at the state there is: a dry run has no position of its own.
                    let position = self.registry.position();
                    return send(answer, Ok(EditAnswer { position, ..reply }));
                }
                self.registry = Arc::from(registry);
                self.states.push((Arc::clone(&self.registry), commit));
                self.answers.push((answer, reply));
            }
        }
    }

    fn persist(&self, store: &mut RegistryStore) -> Result<(), StoreError> {
        if self.states.is_empty() {
            return Ok(());
        }
        let commits: Vec<_> = self.states.iter().map(|(_, commit)| commit.clone()).collect();
        store.append(&commits)
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
