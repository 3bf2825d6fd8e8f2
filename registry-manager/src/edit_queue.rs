//! The way into the journal.

use crate::failure;
use crate::limits::EDIT_QUEUE;
use echelon_core::change::ChangeSet;
use echelon_core::edit::Context;
use echelon_core::message::{EditAnswer, Failure};
use tokio::sync::{mpsc, oneshot};

/// An edit on its way to the journal.
pub(crate) struct Edit {
    pub(crate) set: ChangeSet,
    pub(crate) context: Context,
    pub(crate) dry_run: bool,
    pub(crate) answer: oneshot::Sender<Result<EditAnswer, Failure>>,
}

/// Hands edits to the journal. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Edits(mpsc::Sender<Edit>);

impl Edits {
    /// A queue, and the end from which the journal takes.
    pub(crate) fn queue() -> (Self, mpsc::Receiver<Edit>) {
        let (sender, receiver) = mpsc::channel(EDIT_QUEUE);
        (Self(sender), receiver)
    }

    /// Waits for room and for the journal's answer.
    pub(crate) async fn edit(
        &self,
        set: ChangeSet,
        context: Context,
        dry_run: bool,
    ) -> Result<EditAnswer, Failure> {
        let (answer, answered) = oneshot::channel();
        let edit = Edit { set, context, dry_run, answer };
        self.0.send(edit).await.map_err(|_| failure::stopping())?;
        answered.await.unwrap_or_else(|_| Err(failure::outcome_unknown()))
    }
}
