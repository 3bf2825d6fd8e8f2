//! What everybody may know of the connection to the registry.

use crate::clock::{Clock, unix_now};
use arc_swap::ArcSwapOption;
use echelon_core::grant::{Chain, GrantId};
use echelon_core::name::HostName;
use echelon_core::time::{Monotonic, UnixMillis};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The state of the session with a registry manager. Reading never waits.
#[derive(Debug)]
pub(crate) struct Link {
    clock: Clock,
    session: ArcSwapOption<SessionInfo>,
    /// When a manager was heard last, in microseconds of the clock, plus one; 0 for never.
    heard: AtomicU64,
    /// When the replica that the agent started from was written last.
    written: Option<UnixMillis>,
    repairs: AtomicU64,
    grants: ArcSwapOption<GrantsInfo>,
    refused: AtomicU64,
    lag: Mutex<Option<Lag>>,
}

/// What the replica lacks of what the session's manager has.
#[derive(Clone, Copy, Debug)]
struct Lag {
    revisions: u64,
    since: Monotonic,
}

/// The grants that this agent is witness of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GrantsInfo {
    /// The newest.
    pub(crate) head: GrantId,
    /// How many there are.
    pub(crate) count: usize,
}

/// A session that is up.
#[derive(Clone, Debug)]
pub(crate) struct SessionInfo {
    /// The manager.
    pub(crate) manager: HostName,
    /// Where it is.
    pub(crate) addr: SocketAddr,
    /// Its build.
    pub(crate) build: String,
    /// Since when.
    pub(crate) since: Monotonic,
}

impl Link {
    /// No session yet, and a replica that was written last at `written`.
    pub(crate) fn new(clock: Clock, written: Option<UnixMillis>) -> Self {
        let (session, heard, repairs, grants, refused, lag) = Default::default();
        Self { clock, session, heard, written, repairs, grants, refused, lag }
    }

    /// A manager was heard.
    pub(crate) fn heard(&self) {
        self.heard.store(self.clock.now().0.saturating_add(1), Ordering::Relaxed);
    }

    /// A session began, or there is none any more.
    pub(crate) fn set_session(&self, session: Option<SessionInfo>) {
        self.session.store(session.map(Arc::new));
    }

    /// The session that is up.
    pub(crate) fn session(&self) -> Option<Arc<SessionInfo>> {
        self.session.load_full()
    }

    /// Whether a session is up.
    pub(crate) fn is_up(&self) -> bool {
        self.session.load().is_some()
    }

    /// How long ago a manager was heard last. Of one heard before this process started only the replica
    /// that it left tells, which may have been written earlier: the age is then at most too high.
    pub(crate) fn age(&self) -> Option<Duration> {
        match self.heard.load(Ordering::Relaxed) {
            0 => self.written.map(|at| Duration::from_millis(unix_now().0.saturating_sub(at.0))),
            heard => Some(self.clock.now().since(Monotonic(heard - 1))),
        }
    }

    /// The manager's view is of revision `theirs`, the replica's of `ours`.
    pub(crate) fn compare(&self, theirs: u64, ours: u64) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let since = lag.map_or_else(|| self.clock.now(), |lag| lag.since);
        let revisions = theirs.saturating_sub(ours);
        *lag = (revisions > 0).then_some(Lag { revisions, since });
    }

    /// How many revisions of the view the replica lacks, and since how long it has lacked any.
    pub(crate) fn lag(&self) -> (u64, Duration) {
        let lag = *self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        lag.map_or_else(Default::default, |lag| (lag.revisions, self.clock.now().since(lag.since)))
    }

    /// Shows the grants that the agent goes by.
    pub(crate) fn set_grants(&self, grants: Option<&Chain>) {
        let info = |chain: &Chain| GrantsInfo { head: chain.head().id, count: chain.grants().len() };
        self.grants.store(grants.map(info).map(Arc::new));
    }

    /// The grants that the agent goes by.
    pub(crate) fn grants(&self) -> Option<GrantsInfo> {
        self.grants.load().as_deref().copied()
    }

    /// A manager was refused for its grants.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a manager was refused for its grants.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sets how often the replica had to be repaired.
    pub(crate) fn set_repairs(&self, repairs: u64) {
        self.repairs.store(repairs, Ordering::Relaxed);
    }

    /// How often the replica had to be repaired.
    pub(crate) fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn age_counts_from_the_last_word_or_else_from_what_is_on_disk() {
        let clock = Clock::start();
        assert_eq!(Link::new(clock, None).age(), None);
        let hour = Duration::from_secs(3600);
        let link = Link::new(clock, Some(unix_now() - hour));
        assert!(link.age().unwrap() >= hour);
        link.heard();
        assert!(link.age().unwrap() < hour);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_lags_from_when_it_first_lacks_something_until_it_lacks_nothing() {
        let link = Link::new(Clock::start(), None);
        link.compare(5, 5);
        assert_eq!(link.lag(), (0, Duration::ZERO));
        let second = Duration::from_secs(1);
        for theirs in [7, 9] {
            link.compare(theirs, 5);
            tokio::time::advance(second).await;
        }
        assert_eq!(link.lag(), (4, second * 2));
        link.compare(9, 9);
        assert_eq!(link.lag(), (0, Duration::ZERO));
    }
}
