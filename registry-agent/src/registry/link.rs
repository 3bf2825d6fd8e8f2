//! What everybody may know of the connection to the registry.

use crate::clock::{Clock, unix_now};
use arc_swap::ArcSwapOption;
use echelon_core::name::HostName;
use echelon_core::time::{Monotonic, UnixMillis};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
        let (session, heard, repairs) = Default::default();
        Self { clock, session, heard, written, repairs }
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

    /// How long ago a manager was heard last. Of one heard before this process started only the replica
    /// that it left tells, which may have been written earlier: the age is then at most too high.
    pub(crate) fn age(&self) -> Option<Duration> {
        match self.heard.load(Ordering::Relaxed) {
            0 => self.written.map(|at| Duration::from_millis(unix_now().0.saturating_sub(at.0))),
            heard => Some(self.clock.now().since(Monotonic(heard - 1))),
        }
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
}
