//! The way into the journal.

use crate::failure;
use crate::journal::Situation;
use crate::limits::{EDIT_QUEUE, WORD_QUEUE};
use arc_swap::ArcSwap;
use echelon_core::change::ChangeSet;
use echelon_core::edit::Context;
use echelon_core::id::{HostId, RequestId};
use echelon_core::member::{Input, Told};
use echelon_core::message::{EditAnswer, Failure};
use echelon_store::Dismissal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// An edit on its way to the journal.
pub(crate) struct Edit {
    pub(crate) set: ChangeSet,
    pub(crate) context: Context,
    pub(crate) dry_run: bool,
    pub(crate) came: Instant,
    pub(crate) answer: oneshot::Sender<Result<EditAnswer, Failure>>,
}

/// What is told to the journal, besides edits.
pub(crate) enum Word {
    /// Something happened to this manager.
    Input(Input),
    /// What waits to be committed is waited for no longer.
    GiveUp,
    /// There is one link more to a manager, or one less.
    Relinked(HostId),
    /// A wish that is answered more than once: every word of what becomes of it goes to this receiver.
    Wish(RequestId, Input, mpsc::UnboundedSender<Told>),
    /// An admin has dealt with the edits that were given up and are kept here, up to this number.
    Dismiss(u64, Dismissal, oneshot::Sender<Result<usize, Failure>>),
    /// The copy that was wished for under this number has come, and is in this file; or it has not.
    Copied(u64, Option<Arrived>),
}

/// A copy that has come.
pub(crate) struct Arrived {
    /// The file.
    pub(crate) path: PathBuf,
    /// Takes why it could not be put in place; nothing where it was. Dropped where it is not wished for any more.
    pub(crate) put: oneshot::Sender<Option<String>>,
}

enum Work {
    Edit(Edit),
    /// Asks for a sign of life.
    Ask(oneshot::Sender<()>),
    End,
}

/// Hands edits and words to the journal. Clones share its queues.
#[derive(Clone)]
pub(crate) struct Edits {
    work: mpsc::Sender<Work>,
    words: mpsc::Sender<Word>,
    situation: Arc<ArcSwap<Situation>>,
}

/// The end of the queues from which the journal takes.
pub(crate) struct Queue {
    work: mpsc::Receiver<Work>,
    words: mpsc::Receiver<Word>,
    ended: bool,
}

/// What the journal has to do next.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) words: Vec<Word>,
    pub(crate) edits: Vec<Edit>,
}

impl Edits {
    /// The queues, and their end from which the journal takes, which tells how things are in `situation`.
    pub(crate) fn queue(situation: Arc<ArcSwap<Situation>>) -> (Self, Queue) {
        let ((work, edits), (words, said)) = (mpsc::channel(EDIT_QUEUE), mpsc::channel(WORD_QUEUE));
        (Self { work, words, situation }, Queue { work: edits, words: said, ended: false })
    }

    /// How things are with this manager among the others.
    pub(crate) fn situation(&self) -> Arc<Situation> {
        self.situation.load_full()
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
        self.work.send(Work::Edit(edit)).await.map_err(|_| failure::stopping())?;
        answered.await.unwrap_or_else(|_| Err(failure::outcome_unknown()))
    }

    /// Waits for room. A journal that has ended is the end of the process, which is under way.
    pub(crate) async fn say(&self, word: Word) {
        let _ = self.words.send(word).await;
    }

    /// Notes that an admin has dealt with the edits that were given up and are kept here, up to this number. Gives how
    /// many that are.
    pub(crate) async fn dismiss(&self, through: u64, dismissal: Dismissal) -> Result<usize, Failure> {
        let (answer, answered) = oneshot::channel();
        self.say(Word::Dismiss(through, dismissal, answer)).await;
        answered.await.unwrap_or_else(|_| Err(failure::stopping()))
    }

    /// Makes a wish; gives all that is told of it until this manager stops.
    pub(crate) async fn wish(&self, id: RequestId, input: Input) -> mpsc::UnboundedReceiver<Told> {
        let (sender, told) = mpsc::unbounded_channel();
        self.say(Word::Wish(id, input, sender)).await;
        told
    }

    /// Waits until the journal has come to this question, behind the edits that were there before it.
    pub(crate) async fn answer(&self) {
        let (answer, answered) = oneshot::channel();
        // A journal that has ended is the end of the process, which is under way.
        if self.work.send(Work::Ask(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }

    /// How many edits are waiting.
    pub(crate) fn waiting(&self) -> u64 {
        self.work.max_capacity().saturating_sub(self.work.capacity()) as u64
    }

    /// Ends the queue after the edits in it: whoever still holds a clone keeps nothing going.
    pub(crate) async fn end(&self) {
        // Fails only where nobody takes from it any more.
        let _ = self.work.send(Work::End).await;
    }
}

impl Queue {
    /// Waits for something to do, though not longer than `most`, and takes all there is, up to so many edits and
    /// as many words. None once the queue has ended.
    pub(crate) fn next(&mut self, runtime: &Handle, longest: Duration, most: usize) -> Option<Turn> {
        let mut turn = Turn::default();
        if !self.ended {
            self.take_there(&mut turn, most);
        }
        if !self.ended && turn.is_empty() {
            // Nothing in time is a turn, too.
            let _ = runtime.block_on(async { timeout(longest, self.wait(&mut turn)).await });
            self.take_there(&mut turn, most);
        }
        (!self.ended || !turn.is_empty()).then_some(turn)
    }

    async fn wait(&mut self, turn: &mut Turn) {
        tokio::select! {
            work = self.work.recv() => self.take(work, turn),
            Some(word) = self.words.recv() => turn.words.push(word),
        }
    }

    fn take_there(&mut self, turn: &mut Turn, most: usize) {
        while turn.words.len() < most
            && let Ok(word) = self.words.try_recv()
        {
            turn.words.push(word);
        }
        while !self.ended && turn.edits.len() < most {
            match self.work.try_recv() {
                Err(mpsc::error::TryRecvError::Empty) => break,
                taken => self.take(taken.ok(), turn),
            }
        }
    }

    fn take(&mut self, work: Option<Work>, turn: &mut Turn) {
        match work {
            Some(Work::Edit(edit)) => turn.edits.push(edit),
            // Whoever asked may be gone.
            Some(Work::Ask(answer)) => drop(answer.send(())),
            Some(Work::End) | None => self.ended = true,
        }
    }
}

impl Turn {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.edits.is_empty()
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

    #[tokio::test]
    async fn a_journal_that_takes_nothing_gives_no_sign_of_life() {
        let (edits, mut queue) = Edits::queue(crate::journal::tests::situation());
        let mut answer = std::pin::pin!(edits.answer());
        timeout(Duration::from_millis(50), answer.as_mut()).await.unwrap_err();
        assert_eq!(edits.waiting(), 1);
        let runtime = Handle::current();
        let journal =
            std::thread::spawn(move || while queue.next(&runtime, Duration::from_secs(60), 8).is_some() {});
        answer.await;
        edits.end().await;
        tokio::task::spawn_blocking(|| journal.join()).await.unwrap().unwrap();
        edits.answer().await;
    }
}
