//! What only one process may do for a host: keep its replica, hold its session, announce and probe.

use crate::announce::{Announcer, Held};
use crate::latch::Latch;
use crate::prober::Prober;
use crate::registry::{Keeper, KeeperError, Opened, Uplink, UplinkParts, source_chain};
use echelon_daemon::Tasks;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;
use tracing::error;

/// Time between two tries to take it up again. Until then routing goes on as it was.
const AGAIN: Duration = Duration::from_secs(1);

/// A process's time of doing it.
pub(crate) struct Tenure {
    parts: UplinkParts,
    state: PathBuf,
    tasks: Tasks,
    prober: Prober,
    announcer: Announcer,
    /// Holds the task that keeps replica and session.
    latch: Mutex<Latch>,
    /// The one in force: larger at every start, and every time that it is taken up again.
    incarnation: Arc<AtomicU64>,
}

/// A tenure that rests: what this host announces does not change meanwhile.
pub(crate) struct Rest(Held);

impl Tenure {
    /// Not begun yet.
    pub(crate) fn new(
        parts: UplinkParts,
        state: PathBuf,
        tasks: Tasks,
        prober: Prober,
        incarnation: Arc<AtomicU64>,
    ) -> Self {
        let (announcer, latch) = (parts.announcer.clone(), Mutex::new(Latch::new(&tasks)));
        Self { parts, state, tasks, prober, announcer, latch, incarnation }
    }

    /// Keeps this replica from now on, and a session with a registry manager.
    pub(crate) fn begin(&self, keeper: Keeper) {
        let parts =
            UplinkParts { incarnation: self.incarnation.load(Ordering::Relaxed), ..self.parts.clone() };
        self.parts.link.set_grants(keeper.grants());
        let latch = Latch::new(&self.tasks);
        let uplink = Uplink::new(parts, keeper).run(latch.stop(), self.tasks.shutdown());
        self.tasks.spawn("uplink", latch.holding(uplink));
        *self.latch() = latch;
    }

    /// Rests: returns once session and replica are closed and nothing is being announced.
    pub(crate) async fn rest(&self) -> Rest {
        let latch = self.latch().clone();
        latch.close().await;
        self.prober.rest(true);
        Rest(self.announcer.hold().await)
    }

    /// Goes on after a rest, with what is on disk.
    pub(crate) async fn go_on(&self, rest: Rest) {
        self.announcer.go_on(rest.0).await;
        self.prober.rest(false);
        let mut keeper = self.open().await;
        keeper.publish().await;
        self.begin(keeper);
    }

    /// From now on another process announces for this host, or this one again.
    pub(crate) fn cede(&self, ceded: bool) {
        self.announcer.cede(ceded);
    }

    async fn open(&self) -> Keeper {
        loop {
            let UplinkParts { clock, routes, metrics, alarms, .. } = self.parts.clone();
            let path = self.state.clone();
            let opening = move || Keeper::open(&path, clock, routes, metrics, alarms);
            match tokio::task::spawn_blocking(opening).await {
                Ok(Ok(Opened { keeper, incarnation, .. })) => {
                    self.incarnation.store(incarnation, Ordering::Relaxed);
                    return keeper;
                }
                Ok(Err(fault)) => {
                    let fault: KeeperError = fault;
                    error!("Routing goes on as it was; trying again: {}", source_chain(&fault));
                }
                // The runtime is going away, and the process with it.
                Err(_) => {}
            }
            sleep(AGAIN).await;
        }
    }

    fn latch(&self) -> std::sync::MutexGuard<'_, Latch> {
        // Nothing under this lock can leave it half changed.
        self.latch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
