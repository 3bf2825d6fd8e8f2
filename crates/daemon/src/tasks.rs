use futures::{
    FutureExt,
    future::{AbortHandle, Abortable},
};
use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, error, error_span, warn};

use crate::Exit;

/// How long tasks that were cut off may take to fall. They end at their next await, so this is ample; it bounds a
/// shutdown when one of them blocks its thread.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// The tasks of a process, or of one part of it: each has a name, all are counted, and all end together.
///
/// Clones are the same set. A task that panics is logged and stops the whole set with [`Exit::Failed`], because what
/// it did for the others is not done any more.
#[derive(Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

struct Inner {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    running: Mutex<Running>,
    span: Span,
}

#[derive(Default)]
struct Running {
    next_id: u64,
    handles: HashMap<u64, AbortHandle>,
    counts: BTreeMap<&'static str, usize>,
    exit: Exit,
    cut_off: bool,
}

/// Tasks did not end in time. They were cut off at their next await, except those that block a thread.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} did not end within {deadline:?} and were cut off", Listed(tasks))]
pub struct DrainError {
    /// What the tasks were given.
    pub deadline: Duration,
    /// Name and number of the tasks that were cut off.
    pub tasks: Vec<(&'static str, usize)>,
}

impl Tasks {
    /// An empty set with a shutdown token of its own. Its tasks' spans lie in the span that is current now.
    pub fn new() -> Self {
        Self::stopped_by(CancellationToken::new())
    }

    /// An empty set that also stops when `parent` is cancelled, but does not stop its parent.
    pub fn below(parent: &CancellationToken) -> Self {
        Self::stopped_by(parent.child_token())
    }

    fn stopped_by(shutdown: CancellationToken) -> Self {
        let (tracker, running) = Default::default();
        Self { inner: Arc::new(Inner { tracker, shutdown, running, span: Span::current() }) }
    }

    /// The token that is cancelled when these tasks should end. Long-lived tasks wait for it beside their work.
    pub fn shutdown(&self) -> CancellationToken {
        self.inner.shutdown.clone()
    }

    /// Starts a task on the current runtime, inside a span that carries its `name` as `role`.
    ///
    /// After a drain that had to cut tasks off nothing is started any more, and `task` is dropped.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`tokio::spawn`].
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_in(&self.span(name), name, task);
    }

    /// A span for tasks of this `name`, as [`Self::spawn`] makes one for each.
    pub fn span(&self, name: &'static str) -> Span {
        error_span!(parent: &self.inner.span, "task", role = name)
    }

    /// [`Self::spawn`] in a span that many tasks share.
    ///
    /// # Panics
    /// As [`Self::spawn`].
    pub fn spawn_in<F>(&self, span: &Span, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some((entry, abortable)) = self.enter(name, AssertUnwindSafe(task).catch_unwind()) else {
            return;
        };
        let tasks = self.clone();
        // A block that awaits the task would take its room twice: where it is made, and where it runs.
        let counted = abortable.map(move |ended| {
            if let Ok(Err(panic)) = ended {
                error!(panic.message = message_of(&*panic), "A task panicked, shutting down");
                tasks.fail(Exit::Failed);
            }
            drop(entry);
        });
        self.inner.tracker.spawn(counted.instrument(span.clone()));
    }

    /// Stops all tasks with an exit code. The first code other than [`Exit::Done`] stays.
    pub fn fail(&self, exit: Exit) {
        let mut running = self.inner.running();
        if running.exit == Exit::Done {
            running.exit = exit;
        }
        drop(running);
        self.inner.shutdown.cancel();
    }

    /// What the process should exit with: [`Exit::Done`] unless a task failed or panicked.
    pub fn exit(&self) -> Exit {
        self.inner.running().exit
    }

    /// How many tasks of each name are running now, for metrics. A name that has run once stays, with 0.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.inner.running().counts.clone()
    }

    /// How many tasks of this name are running now.
    pub fn count(&self, name: &str) -> usize {
        self.inner.running().counts.get(name).copied().unwrap_or_default()
    }

    /// Asks all tasks to end and waits for them; those still running after `deadline` are cut off.
    ///
    /// # Errors
    /// Names the tasks that were cut off. The set is then of no more use.
    pub async fn drain(&self, deadline: Duration) -> Result<(), DrainError> {
        self.inner.shutdown.cancel();
        self.inner.tracker.close();
        if timeout(deadline, self.inner.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let tasks = self.cut_off();
        if timeout(ABORT_GRACE, self.inner.tracker.wait()).await.is_err() {
            warn!(tasks = ?self.remaining(), "Tasks block their threads and were left behind");
        }
        if tasks.is_empty() { Ok(()) } else { Err(DrainError { deadline, tasks }) }
    }

    fn enter<F: Future>(&self, name: &'static str, task: F) -> Option<(Entry, Abortable<F>)> {
        let mut running = self.inner.running();
        if running.cut_off {
            return None;
        }
        let (handle, registration) = AbortHandle::new_pair();
        let id = running.next_id;
        running.next_id = id.wrapping_add(1);
        running.handles.insert(id, handle);
        let count = running.counts.entry(name).or_default();
        *count = count.saturating_add(1);
        drop(running);
        Some((Entry { inner: Arc::clone(&self.inner), id, name }, Abortable::new(task, registration)))
    }

    fn cut_off(&self) -> Vec<(&'static str, usize)> {
        let mut running = self.inner.running();
        running.cut_off = true;
        running.handles.values().for_each(AbortHandle::abort);
        drop(running);
        self.remaining()
    }

    fn remaining(&self) -> Vec<(&'static str, usize)> {
        self.counts().into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, Running> {
        // Nothing under this lock can leave it half changed, so a poisoned one is as good as any.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// Counts one task for as long as it exists, however it ends.
struct Entry {
    inner: Arc<Inner>,
    id: u64,
    name: &'static str,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.inner.running();
        running.handles.remove(&self.id);
        if let Some(count) = running.counts.get_mut(self.name) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Prints `2 × session, 1 × listener`.
struct Listed<'a>(&'a [(&'static str, usize)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, count)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{count} × {name}")?;
        }
        Ok(())
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
#[path = "tasks_tests.rs"]
mod tests;
