//! Open connections by manager, so that those of a withdrawn one can be closed in the end.

use crate::routes::RouteWatch;
use echelon_core::id::HostId;
use echelon_core::report::CandidateState;
use echelon_core::route::Route;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The managers that connections are open to.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    open: Mutex<BTreeMap<HostId, Backend>>,
    /// A manager has got its first connection.
    new: Notify,
}

#[derive(Debug, Default)]
struct Backend {
    connections: usize,
    /// Cancelled when connections have to be closed.
    cut: CancellationToken,
}

/// One open connection; dropping it counts it as closed.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    backends: &'a Backends,
    host: HostId,
    cut: CancellationToken,
}

impl Open<'_> {
    /// Waits until the connection has to be closed.
    pub(crate) async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut open = self.backends.open();
        let Some(backend) = open.get_mut(&self.host) else { return };
        backend.connections = backend.connections.saturating_sub(1);
        if backend.connections == 0 {
            open.remove(&self.host);
        }
    }
}

impl Backends {
    /// Counts a connection to the manager on `host`.
    pub(crate) fn opened(&self, host: HostId) -> Open<'_> {
        let mut open = self.open();
        let backend = open.entry(host).or_default();
        backend.connections += 1;
        if backend.connections == 1 {
            self.new.notify_one();
        }
        if backend.cut.is_cancelled() {
            // Those before were cut and have not all noticed; this one was made since and is its own case.
            backend.cut = CancellationToken::new();
        }
        Open { backends: self, host, cut: backend.cut.clone() }
    }

    /// How many connections are open, by manager.
    pub(crate) fn counts(&self) -> BTreeMap<HostId, usize> {
        self.open().iter().map(|(host, backend)| (*host, backend.connections)).collect()
    }

    /// Closes connections of managers that serve no more, after the `drain_timeout` of the route. A manager
    /// that serves again in time keeps them. Runs until dropped.
    pub(crate) async fn drain(&self, mut watch: RouteWatch) {
        let mut route = watch.next().await;
        let mut draining: BTreeMap<HostId, Instant> = BTreeMap::new();
        loop {
            self.plan(&route, &mut draining);
            let due = draining.values().min().copied();
            tokio::select! {
                next = watch.next() => route = next,
                () = self.new.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.cut_overdue(&mut draining);
                }
            }
        }
    }

    /// Sets a deadline for managers that have stopped serving, and lifts it for those that serve again.
    fn plan(&self, route: &Route, draining: &mut BTreeMap<HostId, Instant>) {
        let serving = serving(route);
        let open: BTreeSet<HostId> = self.open().keys().copied().collect();
        draining.retain(|host, _| open.contains(host) && !serving.contains(host));
        for host in open.difference(&serving) {
            draining.entry(*host).or_insert_with(|| {
                let timeout: Duration = route.policy.drain_timeout;
                info!(manager.type = %route.ty, manager.host.id = %host, ?timeout, "Draining");
                Instant::now() + timeout
            });
        }
    }

    fn cut_overdue(&self, draining: &mut BTreeMap<HostId, Instant>) {
        let now = Instant::now();
        let open = self.open();
        draining.retain(|host, due| {
            if *due > now {
                return true;
            }
            if let Some(backend) = open.get(host) {
                backend.cut.cancel();
            }
            false
        });
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<HostId, Backend>> {
        // Nothing under this lock can leave it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The managers that may have connections: all that configuration allows, whatever their state.
fn serving(route: &Route) -> BTreeSet<HostId> {
    let out = |state| matches!(state, CandidateState::Withdrawn | CandidateState::Excluded);
    route.entries.iter().filter(|e| !out(e.state)).map(|e| e.candidate.manager.host).collect()
}
