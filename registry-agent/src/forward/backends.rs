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
    state: Mutex<State>,
    /// A manager that serves no more has got a connection.
    late: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// A manager stays here after its last connection, for the next, as long as it serves.
    open: BTreeMap<HostId, Backend>,
    /// The managers that may have connections, by the route that was last looked at.
    serving: BTreeSet<HostId>,
    /// All were cut, and nobody drains any more.
    closed: bool,
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
        let mut state = self.backends.state();
        let Some(backend) = state.open.get_mut(&self.host) else { return };
        backend.connections = backend.connections.saturating_sub(1);
        if backend.connections == 0 && !state.serving.contains(&self.host) {
            state.open.remove(&self.host);
        }
    }
}

impl Backends {
    /// Counts a connection to the manager on `host`.
    pub(crate) fn opened(&self, host: HostId) -> Open<'_> {
        let mut state = self.state();
        if !state.serving.contains(&host) {
            self.late.notify_one();
        }
        let closed = state.closed;
        let backend = state.open.entry(host).or_default();
        backend.connections += 1;
        if backend.cut.is_cancelled() && !closed {
            // Those before were cut and have not all noticed; this one was made since and is its own case.
            backend.cut = CancellationToken::new();
        }
        if closed {
            backend.cut.cancel();
        }
        Open { backends: self, host, cut: backend.cut.clone() }
    }

    /// How many connections are open, by manager.
    pub(crate) fn counts(&self) -> BTreeMap<HostId, usize> {
        let state = self.state();
        let counts = state.open.iter().map(|(host, backend)| (*host, backend.connections));
        counts.filter(|(_, connections)| *connections > 0).collect()
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
                () = self.late.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.cut_overdue(&mut draining);
                }
            }
        }
    }

    /// Sets a deadline for managers that have stopped serving, and lifts it for those that serve again.
    fn plan(&self, route: &Route, draining: &mut BTreeMap<HostId, Instant>) {
        let mut state = self.state();
        let serving = serving(route);
        state.open.retain(|host, backend| backend.connections > 0 || serving.contains(host));
        let leaving: BTreeSet<HostId> =
            state.open.keys().filter(|host| !serving.contains(host)).copied().collect();
        state.serving = serving;
        drop(state);
        draining.retain(|host, _| leaving.contains(host));
        for host in &leaving {
            draining.entry(*host).or_insert_with(|| {
                let timeout: Duration = route.policy.drain_timeout;
                info!(manager.type = %route.ty, manager.host.id = %host, ?timeout, "Draining");
                Instant::now() + timeout
            });
        }
    }

    /// Closes every connection, also those that are still being made.
    pub(crate) fn cut_all(&self) {
        let mut state = self.state();
        state.closed = true;
        for backend in state.open.values() {
            backend.cut.cancel();
        }
    }

    fn cut_overdue(&self, draining: &mut BTreeMap<HostId, Instant>) {
        let now = Instant::now();
        let state = self.state();
        draining.retain(|host, due| {
            if *due > now {
                return true;
            }
            if let Some(backend) = state.open.get(host) {
                backend.cut.cancel();
            }
            false
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The managers that may have connections: all that configuration allows, whatever their state.
fn serving(route: &Route) -> BTreeSet<HostId> {
    let out = |state| matches!(state, CandidateState::Withdrawn | CandidateState::Excluded);
    route.entries.iter().filter(|e| !out(e.state)).map(|e| e.candidate.manager.host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    /// A caller's connection may come about while the forwarder is closed; nobody is left to drain it later.
    #[tokio::test]
    async fn what_is_connected_after_all_were_cut_is_cut_as_well() {
        let (backends, host) = (Backends::default(), HostId(uuid::Uuid::from_u128(1)));
        let before = backends.opened(host);
        backends.cut_all();
        let after = backends.opened(host);
        for open in [before, after] {
            timeout(Duration::from_secs(30), open.cut()).await.expect("it stays");
        }
    }
}
