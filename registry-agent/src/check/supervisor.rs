//! Keeps one check running for each of this host's managers.

use crate::check::host_check::{HostCheck, HostChecks};
use crate::check::judge::{Judge, Made};
use crate::check::run::{Miss, run};
use crate::metrics::Metrics;
use crate::routes::Routes;
use echelon_core::check::Check;
use echelon_core::endpoint::Endpoint;
use echelon_core::limits::MAX_PACKAGES_PER_HOST;
use echelon_core::message::Health;
use echelon_core::name::ManagerType;
use echelon_core::package::Package;
use echelon_core::router::Input;
use echelon_core::view::Place;
use echelon_daemon::Tasks;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Shortest time between two reasons for one failure. Each goes to every agent of the framework, and what a command
/// says may change from one check to the next.
const BETWEEN_REASONS: Duration = Duration::from_secs(30);

/// The health of this host's packages, by type.
pub(crate) type HealthMap = BTreeMap<ManagerType, Health>;

/// Starts and stops checks as the host's place says, and tells everybody what they find.
pub(crate) struct Supervisor {
    routes: Routes,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    /// The host's own settings, which go before what the registry says.
    own: watch::Receiver<Arc<HostChecks>>,
    health: watch::Sender<Arc<HealthMap>>,
    running: BTreeMap<ManagerType, Running>,
    /// Told apart from an earlier check of the same type by this number.
    next: u64,
}

struct Running {
    number: u64,
    subject: Subject,
    stop: CancellationToken,
    /// When a finding was shown last.
    told: Option<Instant>,
}

/// What is checked, and how.
#[derive(Clone, PartialEq)]
struct Subject {
    check: HostCheck,
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
    /// A supervisor that runs no check yet, and where health is shown. Packages of a type that `own` names are
    /// checked as it says, all others as the registry says.
    pub(crate) fn new(
        routes: Routes,
        tasks: Tasks,
        metrics: Arc<Metrics>,
        own: watch::Receiver<Arc<HostChecks>>,
    ) -> (Self, watch::Receiver<Arc<HealthMap>>) {
        let (health, shown) = watch::channel(Arc::default());
        (Self { routes, tasks, metrics, own, health, running: BTreeMap::new(), next: 0 }, shown)
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (findings, mut found) = mpsc::channel(MAX_PACKAGES_PER_HOST);
        let mut changes = self.routes.changes();
        loop {
            changes.mark_unchanged();
            let own = Arc::clone(&self.own.borrow_and_update());
            if let Some(replica) = self.routes.replica() {
                self.follow(&replica.place, &own, &findings).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // Never fails while `routes` holds the sending side.
                _ = changes.changed() => {}
                // Fails once nobody can change them any more.
                Ok(()) = self.own.changed() => {}
                // Never none while `findings` is here.
                Some(finding) = found.recv() => self.take(finding).await,
            }
        }
    }

    /// Has exactly those checks running that the place asks for. What the host itself has withdrawn is not checked:
    /// that it serves nothing is what others have to know of it.
    async fn follow(&mut self, place: &Place, own: &HostChecks, findings: &mpsc::Sender<Finding>) {
        let wanted = subjects(place, own);
        let before = self.running.len();
        self.running.retain(|ty, running| wanted.get(ty) == Some(&running.subject));
        let mut changed = self.running.len() != before;
        let withdrawn = withdrawn(place);
        for (ty, subject) in wanted {
            if !self.running.contains_key(&ty) {
                let running = self.start(ty.clone(), subject, findings.clone());
                self.running.insert(ty, running);
                changed = true;
            }
        }
        let old = Arc::clone(&self.health.borrow());
        changed |= withdrawn.iter().any(|(ty, health)| old.get(ty) != Some(health));
        changed |= old.len() != self.running.len() + withdrawn.len();
        if changed {
            let known = |ty: &ManagerType| old.get(ty).filter(|health| **health != Health::Withdrawn);
            let health = |ty: &ManagerType| known(ty).cloned().unwrap_or(Health::Unchecked);
            let checked = self.running.keys().map(|ty| (ty.clone(), health(ty)));
            self.show(checked.chain(withdrawn).collect()).await;
        }
    }

    fn start(&mut self, ty: ManagerType, subject: Subject, findings: mpsc::Sender<Finding>) -> Running {
        let (number, stop) = (self.next, self.tasks.shutdown().child_token());
        self.next = self.next.wrapping_add(1);
        let (stopped, what) = (stop.clone(), subject.clone());
        let metrics = Arc::clone(&self.metrics);
        self.tasks.spawn("check", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = check_for_ever(ty, number, what, findings, &metrics) => {}
            }
        });
        Running { number, subject, stop, told: None }
    }

    async fn take(&mut self, finding: Finding) {
        let Finding { ty, number, health } = finding;
        let Some(running) = self.running.get_mut(&ty).filter(|r| r.number == number) else { return };
        let old = Arc::clone(&self.health.borrow());
        if !tells(old.get(&ty), &health, running.told.map(|told| told.elapsed())) {
            return;
        }
        running.told = Some(Instant::now());
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

/// Whether a finding is to be shown, where `old` was shown that long ago.
fn tells(old: Option<&Health>, new: &Health, shown_ago: Option<Duration>) -> bool {
    let fails = |health| matches!(health, &Health::Failing { .. });
    let reworded = old.is_some_and(|old| fails(old) && fails(new));
    old != Some(new) && !(reworded && shown_ago.is_some_and(|ago| ago < BETWEEN_REASONS))
}

/// What is to be checked on a host. Registry managers do not speak TCP where they listen; agents and
/// consoles see for themselves whether they answer.
fn subjects(place: &Place, own: &HostChecks) -> BTreeMap<ManagerType, Subject> {
    let checked = |p: &&Package| !p.ty.is_registry() && !p.is_withdrawn_by_host();
    let packages = place.packages.iter().filter(checked).take(MAX_PACKAGES_PER_HOST);
    let check = |p: &Package| own.get(&p.ty).cloned().unwrap_or_else(|| p.check.clone().into());
    let subject = |p: &Package| Some(Subject { endpoint: p.endpoint(&place.address)?, check: check(p) });
    packages.filter_map(|p| Some((p.ty.clone(), subject(p)?))).collect()
}

/// What the host itself wants to serve nothing.
fn withdrawn(place: &Place) -> HealthMap {
    let withdrawn = place.packages.iter().filter(|p| p.is_manager() && p.is_withdrawn_by_host());
    withdrawn.take(MAX_PACKAGES_PER_HOST).map(|p| (p.ty.clone(), Health::Withdrawn)).collect()
}

async fn check_for_ever(
    ty: ManagerType,
    number: u64,
    subject: Subject,
    findings: mpsc::Sender<Finding>,
    metrics: &Metrics,
) {
    let Subject { check, endpoint } = subject;
    let mut judge = Judge::new(&check);
    let mut due = Instant::now();
    loop {
        sleep_until(due).await;
        let began = Instant::now();
        let late = began.saturating_duration_since(due);
        let result = run(&check, &ty, &endpoint).await;
        if !result.as_ref().is_err_and(Miss::is_ours) {
            metrics.count_check(&ty, result.is_ok());
        }
        let made = Made { late, took: began.elapsed(), result };
        if let Some(health) = judge.conclude(made)
            && findings.send(Finding { ty: ty.clone(), number, health }).await.is_err()
        {
            return;
        }
        let next = match judge.is_in_doubt() && check.demands_answer() {
            true => Check::after_miss(check.interval, check.timeout),
            false => check.interval,
        };
        // Checks that were missed are not made up for.
        due = Instant::now().max(due + next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::name::Text;

    #[test]
    fn a_failure_that_only_says_something_else_is_not_told_each_time() {
        let failing = |why| Health::Failing { demands_answer: true, reason: Text::lossy(why) };
        let (early, late) = (Some(Duration::from_secs(1)), Some(BETWEEN_REASONS));
        let (old, new) = (failing("lag 12 s"), failing("lag 13 s"));
        assert!(!tells(Some(&old), &new, early) && tells(Some(&old), &new, late));
        assert!(!tells(Some(&old), &old, late), "nothing new");
        for (old, new) in [(Health::Passing, &new), (Health::Unchecked, &new), (old, &Health::Passing)] {
            assert!(tells(Some(&old), new, early), "{old:?}");
        }
        assert!(tells(None, &new, None));
    }
}
