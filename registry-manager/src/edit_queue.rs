//! The way into the journal.

use crate::failure;
use crate::limits::EDIT_QUEUE;
use echelon_core::change::ChangeSet;
use echelon_core::edit::Context;
use echelon_core::message::{EditAnswer, Failure};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// An edit on its way to the journal.
pub(crate) struct Edit {
    pub(crate) set: ChangeSet,
    pub(crate) context: Context,
    pub(crate) dry_run: bool,
    pub(crate) came: Instant,
    pub(crate) answer: oneshot::Sender<Result<EditAnswer, Failure>>,
}

enum Work {
    Edit(Edit),
    /// Asks for a sign of life.
    Ask(oneshot::Sender<()>),
    End,
}

/// Hands edits to the journal. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Edits(mpsc::Sender<Work>);

/// The end of the queue from which the journal takes.
pub(crate) struct Queue {
    work: mpsc::Receiver<Work>,
    ended: bool,
}

impl Edits {
    /// A queue, and the end from which the journal takes.
    pub(crate) fn queue() -> (Self, Queue) {
        let (sender, work) = mpsc::channel(EDIT_QUEUE);
        (Self(sender), Queue { work, ended: false })
    }

    /// Waits for room and for the journal's answer.
    pub(crate) async fn edit(
        &self,
        set: ChangeSet,
        context: Context,
        dry_run: bool,
    ) -> Result<EditAnswer, Failure> {
        let (answer, answered) = oneshot::channel();
        let edit = Edit { set, context, dry_run, answer, came: Instant::now() };
        self.0.send(Work::Edit(edit)).await.map_err(|_| failure::stopping())?;
        answered.await.unwrap_or_else(|_| Err(failure::outcome_unknown()))
    }

    /// Waits until the journal has come to this question, behind the edits that were there before it.
    pub(crate) async fn answer(&self) {
        let (answer, answered) = oneshot::channel();
        // A journal that has ended is the end of the process, which is under way.
        if self.0.send(Work::Ask(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }

    /// How many edits are waiting.
    pub(crate) fn waiting(&self) -> u64 {
        self.0.max_capacity().saturating_sub(self.0.capacity()) as u64
    }

    /// Ends the queue after the edits in it: whoever still holds a clone keeps nothing going.
    pub(crate) async fn end(&self) {
        // Fails only where nobody takes from it any more.
        let _ = self.0.send(Work::End).await;
    }
}

impl Queue {
    /// Waits for an edit, and takes those behind it, up to `most` in all. None once the queue has ended.
    pub(crate) fn next_group(&mut self, most: usize) -> Option<Vec<Edit>> {
        let mut group = Vec::new();
        while !self.ended && group.len() < most {
            let next = match group.is_empty() {
                true => self.work.blocking_recv(),
                false => match self.work.try_recv() {
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    taken => taken.ok(),
                },
            };
            match next {
                Some(Work::Edit(edit)) => group.push(edit),
                // Whoever asked may be gone.
                Some(Work::Ask(answer)) => drop(answer.send(())),
                Some(Work::End) | None => self.ended = true,
            }
        }
        (!group.is_empty()).then_some(group)
    }
}

impl Drop for Queue {
    /// Nothing was done with what is left, and its senders are told so.
    fn drop(&mut self) {
        self.work.close();
        while let Ok(work) = self.work.try_recv() {
            if let Work::Edit(edit) = work {
                // Whoever asked may be gone.
                let _ = edit.answer.send(Err(failure::stopping()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_journal_that_takes_nothing_gives_no_sign_of_life() {
        let (edits, mut queue) = Edits::queue();
        let mut answer = std::pin::pin!(edits.answer());
        timeout(Duration::from_millis(50), answer.as_mut()).await.unwrap_err();
        assert_eq!(edits.waiting(), 1);
        let journal = std::thread::spawn(move || queue.next_group(8).is_none());
        answer.await;
        edits.end().await;
        assert!(journal.join().unwrap());
        edits.answer().await;
    }
}
