//! Background probes: so that no caller is the one to find out that a manager is back.

use crate::check::ask;
use crate::connect;
use crate::metrics::Metrics;
use crate::registry::ManagerProbe;
use crate::routes::Routes;
use echelon_core::check::CheckKind;
use echelon_core::evidence::Seen;
use echelon_core::id::HostId;
use echelon_core::name::ManagerType;
use echelon_core::route::Target;
use echelon_core::router::Input;
use echelon_daemon::Tasks;
use echelon_daemon::patience::is_too_long;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Probes under way at a time. Each is one connect; more would be a burst on the network, and at a
/// second each this many look at a large type within seconds.
const MAX_AT_ONCE: usize = 64;

/// Probes that may wait or be under way; those past it are left to the next round.
const MAX_WAITING: usize = 1024;

/// Makes probes and hands in what came of them.
#[derive(Clone)]
pub(crate) struct Prober(Arc<Inner>);

struct Inner {
    routes: Routes,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    places: Semaphore,
    under_way: Mutex<BTreeSet<(ManagerType, HostId)>>,
    /// How registry managers are probed, which do not speak TCP; none for an agent without a registry.
    registry: Option<ManagerProbe>,
    /// Whether it makes none for now.
    rests: AtomicBool,
}

impl Prober {
    pub(crate) fn new(
        routes: Routes,
        tasks: Tasks,
        metrics: Arc<Metrics>,
        registry: Option<ManagerProbe>,
    ) -> Self {
        let (places, under_way, rests) =
            (Semaphore::new(MAX_AT_ONCE), Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { routes, tasks, metrics, places, under_way, registry, rests }))
    }

    /// Makes no probes for now, or goes on. Those that are left out are due again in the next round.
    pub(crate) fn rest(&self, rests: bool) {
        self.0.rests.store(rests, Ordering::Relaxed);
    }

    /// Probes a manager, unless a probe of it is under way: by `check`, or by connecting where there is none.
    pub(crate) fn probe(&self, ty: ManagerType, target: Target, timeout: Duration, check: Option<CheckKind>) {
        let key = (ty.clone(), target.host);
        if self.0.rests.load(Ordering::Relaxed) || !self.0.enter(key.clone()) {
            return;
        }
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn("probe", async move {
            // Never closed, so that a place comes up sooner or later.
            let _place = inner.places.acquire().await;
            let began = Instant::now();
            let seen = inner.look(&ty, &target, timeout, check.as_ref()).await;
            // First, so that the next one may begin as soon as the router knows of this one.
            inner.leave(&key);
            if let Some(seen) = seen {
                inner.metrics.count_probe(&seen);
                let (host, endpoint, took) = (target.host, Some(target.endpoint), began.elapsed());
                // There are few, so that they may wait while the queue is full.
                inner.routes.tell(Input::Saw { ty, host, endpoint, check, seen, took }).await;
            }
        });
    }
}

impl Inner {
    /// What a probe comes to; none where nothing can be said.
    async fn look(
        &self,
        ty: &ManagerType,
        target: &Target,
        timeout: Duration,
        check: Option<&CheckKind>,
    ) -> Option<Seen> {
        if ty.is_registry() {
            return self.registry.as_ref()?.probe(target).await;
        }
        if let Some(kind) = check {
            let began = Instant::now();
            let asked = ask(kind, &target.endpoint, timeout).await;
            let busy = is_too_long(began.elapsed(), timeout);
            return match asked {
                Ok(()) => Some(Seen::Answered),
                Err(_) if busy => None,
                Err(miss) => miss.met().map(|(why, met)| Seen::Unanswered { why, met }),
            };
        }
        match connect::tcp(&target.endpoint, timeout).await {
            Ok(_) => Some(Seen::Connected),
            Err(why) => why.seen(),
        }
    }

    fn enter(&self, key: (ManagerType, HostId)) -> bool {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.len() >= MAX_WAITING {
            self.metrics.dropped_probes.inc();
            return false;
        }
        under_way.insert(key)
    }

    fn leave(&self, key: &(ManagerType, HostId)) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
