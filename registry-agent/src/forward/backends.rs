//! Open connections by manager, so that those of a withdrawn or dead one can be closed in the end.
//!
//! What becomes of connections follows from the route alone ([`standing`]):
//! - A manager that serves no more, or listens elsewhere now, is left `drain_timeout`.
//! - One that is down because a check that demands an answer failed gives no answer on open connections either. They
//!   are closed after [`GRACE`], where another manager is usable, so that callers reconnect to that one; without
//!   one they would only come back here.
//! - One that is down because it could not be reached says nothing of open connections: if its process has ended, its
//!   system has closed them, and if it winds down it still serves them. So the system is made to ask on each of
//!   them, and breaks those on which nobody acknowledges any more.
//!
//! A suspicion does neither.

use crate::metrics::{Cut, TypeMetrics};
use crate::routes::{RouteWatch, Routes};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::HostId;
use echelon_core::name::{HostName, ManagerType};
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::route::{Entry, Route, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// How long a failed check must stay failed before open connections are closed. It failed as often as its `misses`
/// say before it was reported; this leaves time for one more at the default interval of 2 s.
const GRACE: Duration = Duration::from_secs(2);

/// A deadline noticed so late says that this process stood still, and has yet to hear what happened meanwhile.
const LATE: Duration = Duration::from_secs(1);

/// The managers that connections are open to.
#[derive(Debug)]
pub(crate) struct Backends {
    metrics: TypeMetrics,
    state: Mutex<State>,
    /// A manager whose connections are not to stay has got one.
    late: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// A manager stays here after its last connection, for the next, as long as it serves.
    open: BTreeMap<Peer, Backend>,
    /// The managers whose connections may stay, by the route that was last looked at.
    serving: BTreeSet<Peer>,
    /// All were cut, and nobody drains any more.
    closed: bool,
}

/// A manager where it listens: at another place it is another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Peer {
    host: HostId,
    endpoint: Endpoint,
}

#[derive(Debug)]
struct Backend {
    name: HostName,
    connections: usize,
    word: watch::Sender<Word>,
}

/// What an open connection is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// Go on.
    Stay,
    /// Go on, and find out whether the other side is still there.
    Ask,
    /// Close.
    Close(Cut),
}

/// How a manager stands with its open connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Serves,
    /// It could not be reached.
    Unreachable,
    /// Its connections are closed for this cause, after this time.
    Leaves(Cut, Duration),
}

/// When connections are closed, and why.
#[derive(Debug)]
struct Deadline {
    at: Instant,
    cause: Cut,
}

/// One open connection; dropping it counts it as closed.
#[derive(Debug)]
pub(crate) struct Open<'a> {
    backends: &'a Backends,
    peer: Peer,
    word: watch::Receiver<Word>,
}

impl Open<'_> {
    /// Waits until the connection has to do something else than before, and says what. One that was made while
    /// its manager could not be reached need not ask. Dropping the future loses nothing.
    pub(crate) async fn word(&mut self) -> Word {
        if self.word.changed().await.is_err() {
            // Its manager is kept for as long as it is open; nothing more would be said.
            std::future::pending::<()>().await;
        }
        *self.word.borrow_and_update()
    }

    /// Whether its manager could not be reached, when it was last looked at.
    pub(crate) fn is_in_question(&self) -> bool {
        *self.word.borrow() == Word::Ask
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.backends.state();
        let Some(backend) = state.open.get_mut(&self.peer) else { return };
        backend.connections = backend.connections.saturating_sub(1);
        if backend.connections == 0 && !state.serving.contains(&self.peer) {
            state.open.remove(&self.peer);
        }
    }
}

impl Backends {
    pub(crate) fn new(metrics: TypeMetrics) -> Self {
        Self { metrics, state: Mutex::default(), late: Notify::new() }
    }

    /// Counts a connection to a manager.
    pub(crate) fn opened(&self, target: &Target) -> Open<'_> {
        let peer = Peer { host: target.host, endpoint: target.endpoint.clone() };
        let mut state = self.state();
        if !state.serving.contains(&peer) {
            self.late.notify_one();
        }
        let closed = state.closed;
        let backend = match state.open.get_mut(&peer) {
            Some(backend) => backend,
            None => state.open.entry(peer.clone()).or_insert_with(|| Backend::new(target.name.clone())),
        };
        backend.connections += 1;
        if backend.is_closed() && !closed {
            // Those before were closed and have not all noticed; this one was made since and is its own case.
            backend.word = watch::Sender::new(Word::Stay);
        }
        let mut word = backend.word.subscribe();
        if closed {
            backend.word.send_replace(Word::Close(Cut::ForwarderClosed));
            word.mark_changed();
        }
        Open { backends: self, peer, word }
    }

    /// Counts one connection that broke for this cause.
    pub(crate) fn cut(&self, cause: Cut) {
        self.metrics.cut(cause, 1);
    }

    /// How many connections are open, by the names of those managers that the route has.
    pub(crate) fn named(&self, route: Option<&Route>) -> BTreeMap<HostName, u64> {
        let counts = self.counts();
        let managers = route.map_or(&[][..], |route| &route.entries).iter().map(|e| &e.candidate.manager);
        managers.filter_map(|m| Some((m.name.clone(), *counts.get(&m.host)? as u64))).collect()
    }

    /// How many connections are open, by manager.
    pub(crate) fn counts(&self) -> BTreeMap<HostId, usize> {
        let mut counts = BTreeMap::new();
        for (peer, backend) in self.state().open.iter().filter(|(_, backend)| backend.connections > 0) {
            *counts.entry(peer.host).or_default() += backend.connections;
        }
        counts
    }

    /// [`Self::drain`] until the forwarder is `closed`; all are closed after the `drain_timeout` then.
    pub(crate) async fn drain_until(
        &self,
        closed: CancellationToken,
        routes: &Routes,
        ty: &ManagerType,
        close_dead: watch::Receiver<bool>,
    ) {
        tokio::select! {
            () = self.drain(routes.watch(ty.clone()), close_dead) => {}
            () = closed.cancelled() => {}
        }
        let policy = routes.get(ty).map(|route| route.policy.clone());
        sleep(policy.unwrap_or_default().drain_timeout).await;
        self.close_all();
    }

    /// Closes connections of managers that serve no more, after the `drain_timeout` of the route, and while
    /// `close_dead` says so those of dead ones. A manager that serves again in time keeps them. Runs until dropped.
    pub(crate) async fn drain(&self, mut watch: RouteWatch, mut close_dead: watch::Receiver<bool>) {
        let mut route = watch.next().await;
        let mut deadlines: BTreeMap<Peer, Deadline> = BTreeMap::new();
        loop {
            self.plan(&route, *close_dead.borrow_and_update(), &mut deadlines);
            let due = deadlines.values().map(|deadline| deadline.at).min();
            tokio::select! {
                next = watch.next() => route = next,
                () = self.late.notified() => {}
                Ok(()) = close_dead.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.close_overdue(&route, &mut deadlines);
                }
            }
        }
    }

    /// Sets a deadline for managers whose connections are to be closed, lifts it for those that serve again, and has
    /// the others ask or stay.
    fn plan(&self, route: &Route, close_dead: bool, deadlines: &mut BTreeMap<Peer, Deadline>) {
        let standings: BTreeMap<_, _> =
            route.entries.iter().map(|entry| (Peer::of(entry), standing(route, entry, close_dead))).collect();
        let gone = Standing::Leaves(Cut::Withdrawn, route.policy.drain_timeout);
        let of = |peer: &Peer| standings.get(peer).copied().unwrap_or(gone);
        let leaves = |standing: &Standing| matches!(standing, Standing::Leaves(..));
        let mut state = self.state();
        state.serving = standings.iter().filter(|(_, s)| !leaves(s)).map(|(peer, _)| peer.clone()).collect();
        let State { open, serving, .. } = &mut *state;
        open.retain(|peer, backend| backend.connections > 0 || serving.contains(peer));
        deadlines.retain(|peer, deadline| {
            open.contains_key(peer)
                && matches!(of(peer), Standing::Leaves(cause, _) if cause == deadline.cause)
        });
        for (peer, backend) in open.iter().filter(|(_, backend)| !backend.is_closed()) {
            match of(peer) {
                Standing::Serves => backend.say(Word::Stay),
                Standing::Unreachable => backend.say(Word::Ask),
                Standing::Leaves(cause, after) => {
                    deadlines.entry(peer.clone()).or_insert_with(|| {
                        let (connections, cause_text) = (backend.connections, cause.as_str());
                        info!(manager.type = %route.ty, manager.host = %backend.name, connections,
                            cause = cause_text, ?after, "Connections will be closed");
                        Deadline { at: Instant::now() + after, cause }
                    });
                }
            }
        }
    }

    /// Closes every connection, also those that are still being made.
    pub(crate) fn close_all(&self) {
        let mut state = self.state();
        state.closed = true;
        for backend in state.open.values().filter(|backend| !backend.is_closed()) {
            self.close(backend, Cut::ForwarderClosed);
        }
    }

    fn close_overdue(&self, route: &Route, deadlines: &mut BTreeMap<Peer, Deadline>) {
        let now = Instant::now();
        let state = self.state();
        deadlines.retain(|peer, deadline| {
            if deadline.at > now {
                return true;
            }
            if deadline.cause == Cut::Unanswered && now.saturating_duration_since(deadline.at) > LATE {
                deadline.at = now + GRACE;
                return true;
            }
            if let Some(backend) = state.open.get(peer) {
                let (connections, cause) = (backend.connections, deadline.cause.as_str());
                info!(manager.type = %route.ty, manager.host = %backend.name, connections, cause,
                    "Closed connections");
                self.close(backend, deadline.cause);
            }
            false
        });
    }

    fn close(&self, backend: &Backend, cause: Cut) {
        self.metrics.cut(cause, backend.connections);
        backend.say(Word::Close(cause));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend {
    fn new(name: HostName) -> Self {
        Self { name, connections: 0, word: watch::Sender::new(Word::Stay) }
    }

    fn is_closed(&self) -> bool {
        matches!(*self.word.borrow(), Word::Close(_))
    }

    fn say(&self, word: Word) {
        self.word.send_if_modified(|said| std::mem::replace(said, word) != word);
    }
}

impl Peer {
    fn of(entry: &Entry) -> Self {
        let manager = &entry.candidate.manager;
        Self { host: manager.host, endpoint: manager.endpoint.clone() }
    }
}

fn standing(route: &Route, entry: &Entry, close_dead: bool) -> Standing {
    let another_is_usable = matches!(route.outcome, Outcome::Home | Outcome::Failover);
    match entry.state {
        CandidateState::Withdrawn | CandidateState::Excluded => {
            Standing::Leaves(Cut::Withdrawn, route.policy.drain_timeout)
        }
        CandidateState::Down if !close_dead => Standing::Serves,
        CandidateState::Down if !entry.unanswered => Standing::Unreachable,
        // It is not usable itself.
        CandidateState::Down if another_is_usable => Standing::Leaves(Cut::Unanswered, GRACE),
        CandidateState::Down | CandidateState::Live | CandidateState::Unknown | CandidateState::Suspect => {
            Standing::Serves
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::testing::{host, ty};
    use std::time::Duration;
    use tokio::time::timeout;

    /// A caller's connection may come about while the forwarder is closed; nobody is left to drain it later.
    #[tokio::test]
    async fn what_is_connected_after_all_were_closed_is_closed_as_well() {
        let backends = Backends::new(Metrics::new().of_type(&ty()));
        let endpoint = "127.0.0.1:1".parse().unwrap();
        let hedge = Duration::from_millis(50);
        let target = Target { host: host(1), name: "host1".parse().unwrap(), endpoint, hedge };
        let before = backends.opened(&target);
        backends.close_all();
        let after = backends.opened(&target);
        for mut open in [before, after] {
            let word = timeout(Duration::from_secs(30), open.word()).await.expect("it stays");
            assert_eq!(word, Word::Close(Cut::ForwarderClosed));
        }
    }
}
