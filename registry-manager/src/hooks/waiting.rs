//! What is to be told and has to wait for what is being told.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most events of one hook that wait. Of alarms the rest stays where it was found; a role that changes more often
/// than this while one command runs is told by its newest changes.
const MAX_WAITING: usize = 16;

/// One run of a hook's command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Job {
    /// What it tells, for logs and alarms.
    pub(super) what: String,
    /// Its environment.
    pub(super) env: Vec<(&'static str, String)>,
}

/// The jobs that wait for one runner.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    jobs: Mutex<VecDeque<Job>>,
    came: Notify,
}

impl Waiting {
    /// Adds a job; where there is no room, the oldest goes, and this says so.
    pub(super) fn push(&self, job: Job) -> bool {
        let mut jobs = self.jobs();
        let full = jobs.len() >= MAX_WAITING;
        if full {
            jobs.pop_front();
        }
        jobs.push_back(job);
        self.came.notify_one();
        full
    }

    /// How many more find room.
    pub(super) fn room(&self) -> usize {
        MAX_WAITING.saturating_sub(self.jobs().len())
    }

    /// The next job. For one runner alone; dropping the future loses nothing.
    pub(super) async fn next(&self) -> Job {
        loop {
            if let Some(job) = self.jobs().pop_front() {
                return job;
            }
            self.came.notified().await;
        }
    }

    /// Comes once a job waits.
    pub(super) async fn any(&self) {
        while self.jobs().is_empty() {
            self.came.notified().await;
        }
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // Nothing under this lock can leave it half changed.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: usize) -> Job {
        Job { what: n.to_string(), env: Vec::new() }
    }

    #[tokio::test]
    async fn jobs_come_in_order_and_past_the_bound_the_oldest_goes() {
        let waiting = Waiting::default();
        for n in 0..MAX_WAITING {
            assert!(!waiting.push(job(n)));
        }
        assert_eq!(waiting.room(), 0);
        assert!(waiting.push(job(MAX_WAITING)));
        for n in 1..=MAX_WAITING {
            waiting.any().await;
            assert_eq!(waiting.next().await, job(n));
        }
        assert_eq!(waiting.room(), MAX_WAITING);
    }
}
