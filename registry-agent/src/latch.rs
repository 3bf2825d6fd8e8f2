//! Ends one listener before its agent ends.

use echelon_daemon::Tasks;
use std::future::Future;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// What the tasks of one listener are held by. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Latch {
    stop: CancellationToken,
    listening: TaskTracker,
}

impl Latch {
    /// One that opens by itself when the agent ends.
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self { stop: tasks.shutdown().child_token(), listening: TaskTracker::new() }
    }

    /// Cancelled when nobody new is to be let in.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// A future that owns the listener. [`Self::close`] waits for its end.
    pub(crate) fn holding<F: Future>(&self, listening: F) -> TrackedFuture<F> {
        self.listening.track_future(listening)
    }

    /// Lets nobody new in, and returns once the place is free for another listener.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.listening.close();
        self.listening.wait().await;
    }
}
