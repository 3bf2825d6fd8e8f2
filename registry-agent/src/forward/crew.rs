//! The threads that carry callers' bytes, and hand connections over.

use crate::listen::{BindError, Listener};
use std::io;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Threads of a crew at most: one for each core of a large machine.
const MAX_THREADS: usize = 64;

/// Threads that forwarders work on, each with a runtime of its own: what one thread took up it finishes,
/// so that nothing moves between cores. An empty crew works on the runtime that it is asked on.
///
/// The threads end once the crew is dropped.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    hands: Vec<Handle>,
    gone: CancellationToken,
}

impl Crew {
    /// Starts so many threads, at most [`MAX_THREADS`].
    ///
    /// # Errors
    /// The system gives no thread or no runtime. Those already started end.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let mut crew = Self::default();
        for number in 0..threads.min(MAX_THREADS) {
            crew.hands.push(hand(number, crew.gone.clone())?);
        }
        Ok(crew)
    }

    /// How many times [`Self::each`] does its work.
    pub(crate) fn size(&self) -> usize {
        self.hands.len().max(1)
    }

    /// Has each thread serve callers at this place; `serve` starts the task that does so.
    ///
    /// # Errors
    /// The place cannot be shared. Nobody serves there.
    pub(crate) fn serve(&self, at: Listener, mut serve: impl FnMut(Listener)) -> Result<(), BindError> {
        let mut doors = (1..self.size()).map(|_| at.share()).collect::<Result<Vec<_>, _>>()?;
        doors.push(at);
        self.each(|| doors.pop().into_iter().for_each(&mut serve));
        Ok(())
    }

    /// Does `work`, which may start tasks, once on the runtime of each thread.
    pub(crate) fn each(&self, mut work: impl FnMut()) {
        if self.hands.is_empty() {
            work();
        }
        for hand in &self.hands {
            let _entered = hand.enter();
            work();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

/// One thread, which runs tasks until `gone`.
fn hand(number: usize, gone: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let work = move || {
        runtime.block_on(gone.cancelled());
        // A resolver that gets no answer must not keep the thread.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name(format!("forward-{number}")).spawn(work)?;
    Ok(handle)
}

/// How many threads a crew has where nobody says otherwise.
pub(crate) fn default_threads() -> usize {
    const MOST: usize = 2;
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST))
}

/// A crew of so many threads; an empty one where the system gives none.
pub(crate) fn crew(threads: usize) -> Crew {
    Crew::start(threads).unwrap_or_else(|error| {
        warn!(%error, "No threads for forwarders; they share those of the agent");
        Crew::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn work_is_done_once_on_each_thread_and_ends_with_the_crew() {
        let (tell, told) = mpsc::channel();
        let crew = Crew::start(2).unwrap();
        assert_eq!(crew.size(), 2);
        crew.each(|| {
            let tell = tell.clone();
            tokio::spawn(async move {
                tell.send(thread::current().name().map(str::to_owned)).unwrap();
                std::future::pending::<()>().await;
            });
        });
        drop(tell);
        let mut names: Vec<_> = (0..2).map(|_| told.recv().unwrap().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["forward-0", "forward-1"]);
        drop(crew);
        // Once the threads have ended nobody can tell any more.
        assert!(told.recv().is_err());
    }

    #[tokio::test]
    async fn an_empty_crew_works_where_it_is_asked() {
        let crew = Crew::default();
        let here = thread::current().id();
        let mut there = Vec::new();
        crew.each(|| there.push(thread::current().id()));
        assert_eq!((there, crew.size()), (vec![here], 1));
    }
}
