//! Keeps one check running for each of this host's managers.

use crate::check::judge::{Judge, Made};
use crate::check::run::run;
use crate::routes::Routes;
use echelon_core::endpoint::Endpoint;
use echelon_core::limits::MAX_PACKAGES_PER_HOST;
use echelon_core::message::Health;
use echelon_core::name::ManagerType;
use echelon_core::package::Check;
use echelon_core::router::Input;
use echelon_core::view::Place;
use echelon_daemon::Tasks;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The health of this host's packages, by type.
pub(crate) type HealthMap = BTreeMap<ManagerType, Health>;

/// Starts and stops checks as the host's place says, and tells everybody what they find.
pub(crate) struct Supervisor {
    routes: Routes,
    tasks: Tasks,
    health: watch::Sender<Arc<HealthMap>>,
    running: BTreeMap<ManagerType, Running>,
    /// Told apart from an earlier check of the same type by this number.
    next: u64,
}

struct Running {
    number: u64,
    subject: Subject,
    stop: CancellationToken,
}

/// What is checked, and how.
#[derive(Clone, PartialEq)]
struct Subject {
    check: Check,
    endpoint: Endpoint,
}

struct Finding {
    ty: ManagerType,
    number: u64,
    health: Health,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Supervisor {
    /// A supervisor without checks, and where health is shown.
    pub(crate) fn new(routes: Routes, tasks: Tasks) -> (Self, watch::Receiver<Arc<HealthMap>>) {
        let (health, shown) = watch::channel(Arc::default());
        (Self { routes, tasks, health, running: BTreeMap::new(), next: 0 }, shown)
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (findings, mut found) = mpsc::channel(MAX_PACKAGES_PER_HOST);
        let mut changes = self.routes.changes();
        loop {
            changes.mark_unchanged();
            if let Some(replica) = self.routes.replica() {
                self.follow(&replica.place, &findings).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // Never fails while `routes` holds the sending side.
                _ = changes.changed() => {}
                // Never none while `findings` is here.
                Some(finding) = found.recv() => self.take(finding).await,
            }
        }
    }

    /// Has exactly those checks running that the place asks for.
    async fn follow(&mut self, place: &Place, findings: &mpsc::Sender<Finding>) {
        let wanted = subjects(place);
        let before = self.running.len();
        self.running.retain(|ty, running| wanted.get(ty) == Some(&running.subject));
        let mut changed = self.running.len() != before;
        for (ty, subject) in wanted {
            if !self.running.contains_key(&ty) {
                let running = self.start(ty.clone(), subject, findings.clone());
                self.running.insert(ty, running);
                changed = true;
            }
        }
        if changed {
            let old = Arc::clone(&self.health.borrow());
            let health = |ty: &ManagerType| old.get(ty).cloned().unwrap_or(Health::Unchecked);
            self.show(self.running.keys().map(|ty| (ty.clone(), health(ty))).collect()).await;
        }
    }

    fn start(&mut self, ty: ManagerType, subject: Subject, findings: mpsc::Sender<Finding>) -> Running {
        let (number, stop) = (self.next, self.tasks.shutdown().child_token());
        self.next = self.next.wrapping_add(1);
        let (stopped, what) = (stop.clone(), subject.clone());
        self.tasks.spawn("check", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = check_for_ever(ty, number, what, findings) => {}
            }
        });
        Running { number, subject, stop }
    }

    async fn take(&mut self, finding: Finding) {
        let Finding { ty, number, health } = finding;
        let current = self.running.get(&ty).is_some_and(|r| r.number == number);
        let old = Arc::clone(&self.health.borrow());
        if !current || old.get(&ty) == Some(&health) {
            return;
        }
        match &health {
            Health::Failing { reason, .. } => warn!(package = %ty, %reason, "A package failed its check"),
            _ => info!(package = %ty, "A package passes its check"),
        }
        let mut map = HealthMap::clone(&old);
        map.insert(ty, health);
        self.show(map).await;
    }

    async fn show(&self, map: HealthMap) {
        // Nobody may be listening, as in an agent without a registry.
        self.health.send_replace(Arc::new(map.clone()));
        self.routes.tell(Input::OwnHealth(map)).await;
    }
}

/// What is to be checked on a host. Registry managers do not speak TCP where they listen; agents and
/// consoles see for themselves whether they answer.
fn subjects(place: &Place) -> BTreeMap<ManagerType, Subject> {
    let packages = place.packages.iter().filter(|p| !p.ty.is_registry()).take(MAX_PACKAGES_PER_HOST);
    let subject = |check: &Check, endpoint| Subject { check: check.clone(), endpoint };
    packages.filter_map(|p| Some((p.ty.clone(), subject(&p.check, p.endpoint(&place.address)?)))).collect()
}

async fn check_for_ever(ty: ManagerType, number: u64, subject: Subject, findings: mpsc::Sender<Finding>) {
    let Subject { check, endpoint } = subject;
    let mut judge = Judge::new(&check);
    let mut due = Instant::now();
    loop {
        sleep_until(due).await;
        let began = Instant::now();
        let late = began.saturating_duration_since(due);
        let result = run(&check.kind, &endpoint, check.timeout).await;
        let made = Made { late, took: began.elapsed(), result };
        if let Some(health) = judge.conclude(made)
            && findings.send(Finding { ty: ty.clone(), number, health }).await.is_err()
        {
            return;
        }
        // Checks that were missed are not made up for.
        due = Instant::now().max(due + check.interval);
    }
}
