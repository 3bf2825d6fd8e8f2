//! Follows routes and does what the rules say.

use crate::alarms::Alarms;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::on_change::claims::Claims;
use crate::on_change::faults::Faults;
use crate::on_change::rule::{OnChange, OnChanges};
use crate::on_change::state::{Plan, State};
use crate::on_change::teller::Teller;
use crate::routes::{Routes, Snapshot};
use echelon_core::limits::MAX_WANTED_TYPES;
use echelon_core::name::{HostName, ManagerType};
use echelon_core::policy::TypeSelector;
use echelon_core::report::Basis;
use echelon_core::route::Route;
use echelon_core::time::Monotonic;
use echelon_daemon::Tasks;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What the rules are followed with.
#[derive(Clone)]
pub(crate) struct Reactions {
    clock: Clock,
    routes: Routes,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    faults: Faults,
    claims: Claims,
}

/// A rule that is followed.
struct Run {
    stop: CancellationToken,
    /// Cancelled once nothing of it is under way any more.
    ended: CancellationToken,
}

type Rules = watch::Receiver<Arc<OnChanges>>;

impl Reactions {
    pub(crate) fn new(
        clock: Clock,
        routes: Routes,
        tasks: Tasks,
        metrics: Arc<Metrics>,
        alarms: Alarms,
    ) -> Self {
        let (faults, claims) = (Faults::new(alarms), Claims::default());
        Self { clock, routes, tasks, metrics, faults, claims }
    }

    /// Follows exactly these rules until `stop`. Those that stay when the rules change go on; what they could not tell
    /// is tried again at once, and their templates are read again.
    pub(crate) async fn run(self, mut rules: Rules, stop: CancellationToken) {
        let mut running: BTreeMap<OnChange, Run> = BTreeMap::new();
        let mut leaving: Vec<CancellationToken> = Vec::new();
        loop {
            let wanted = Arc::clone(&rules.borrow_and_update());
            let wanted: BTreeSet<&OnChange> = wanted.iter().collect();
            leaving.retain(|ended| !ended.is_cancelled());
            running.retain(|rule, run| {
                let stays = wanted.contains(rule);
                if !stays {
                    run.stop.cancel();
                    leaving.push(run.ended.clone());
                }
                stays
            });
            for rule in wanted {
                if !running.contains_key(rule) {
                    running.insert(rule.clone(), self.start(rule.clone(), rules.clone(), leaving.clone()));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = rules.changed() => if changed.is_err() {
                    // Nobody can change them any more.
                    return stop.cancelled().await;
                }
            }
        }
    }

    /// Follows a rule once those that are `leaving` have ended, which may be writing the same file.
    fn start(&self, rule: OnChange, rules: Rules, leaving: Vec<CancellationToken>) -> Run {
        let (stop, ended) = (self.tasks.shutdown().child_token(), CancellationToken::new());
        let (stopped, guard) = (stop.clone(), ended.clone().drop_guard());
        let teller = Teller::new(self.clock, self.claims.clone(), rule);
        let mut follower = Follower { parts: self.clone(), teller, types: BTreeMap::new(), rules };
        self.tasks.spawn("on-change", async move {
            let _ended = guard;
            let following = async {
                for ended in leaving {
                    ended.cancelled().await;
                }
                follower.follow().await
            };
            tokio::select! {
                () = stopped.cancelled() => {}
                never = following => match never {},
            }
            follower.end().await;
        });
        Run { stop, ended }
    }
}

/// One rule being followed: one thing at a time, and of several changes the last.
struct Follower {
    parts: Reactions,
    teller: Teller,
    types: BTreeMap<ManagerType, State>,
    /// Marked at each reload.
    rules: Rules,
}

impl Follower {
    async fn follow(&mut self) -> std::convert::Infallible {
        let mut changes = self.parts.routes.changes();
        loop {
            changes.mark_unchanged();
            let mut next: Option<Instant> = None;
            for ty in self.wanted() {
                let due = self.look(&ty).await;
                next = next.into_iter().chain(due).min();
            }
            tokio::select! {
                // Never fails while the agent is there.
                _ = changes.changed() => {}
                Ok(()) = self.rules.changed() => self.again(),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Has what has failed tried again, and templates read again: people may have corrected them.
    fn again(&mut self) {
        let (now, renders) = (Instant::now(), self.teller.rule().rendering.is_some());
        self.types.values_mut().for_each(|state| state.again(now, renders));
    }

    /// The types of the rule. One that there are no managers of any more stays: nobody is news, too.
    fn wanted(&self) -> BTreeSet<ManagerType> {
        match (&self.teller.rule().ty, self.parts.routes.replica()) {
            (TypeSelector::One(ty), _) => BTreeSet::from([ty.clone()]),
            (TypeSelector::All, None) => BTreeSet::new(),
            (TypeSelector::All, Some(replica)) => {
                let there = replica.view.managers().map(|m| &m.ty).chain(self.types.keys());
                let there: BTreeSet<_> = there.collect();
                there.into_iter().take(MAX_WANTED_TYPES).cloned().collect()
            }
        }
    }

    /// Does what is due for a type. Gives when to look again though nothing changes.
    async fn look(&mut self, ty: &ManagerType) -> Option<Instant> {
        // Without a replica, or with too many types, there is nothing to tell; another change brings us back.
        self.parts.routes.want(ty).await.ok()?;
        let (route, replica) = self.parts.routes.get_with_replica(ty.as_str())?;
        let rule = self.teller.rule();
        let key = key(rule, &route, &replica);
        let (now, debounce) = (Instant::now(), rule.debounce);
        let state = self.types.entry(ty.clone()).or_default();
        match state.plan(key, now, debounce) {
            Plan::Told => {
                self.parts.faults.clear(rule, ty);
                return None;
            }
            Plan::GivenUp => return None,
            Plan::At(due) if due > now => return Some(due),
            Plan::At(_) => {}
        }
        let told = self.teller.tell(state, &route, &replica).await;
        let (rule, label) = (self.teller.rule(), self.teller.rule().label(ty));
        match told {
            Ok(news) => {
                let to = route.chosen().map(|entry| entry.candidate.manager.name.clone());
                if news {
                    info!(manager.type = %ty, rule = label, to = ?to.as_ref().map(HostName::as_str), "Told of a change");
                    self.parts.metrics.count_on_change(ty, true);
                }
                state.succeed(key, news.then_some(to));
                self.parts.faults.clear(rule, ty);
                None
            }
            Err(why) => {
                self.parts.metrics.count_on_change(ty, false);
                let again = state.fail(key, Instant::now());
                warn!(manager.type = %ty, rule = label, again = again.is_some(), "Could not tell of a change: {why}");
                self.parts.faults.raise(rule, ty, &why);
                again
            }
        }
    }

    /// Leaves nothing under way, and no fault of a rule that nobody follows.
    async fn end(mut self) {
        self.teller.end().await;
        self.parts.faults.forget(self.teller.rule());
    }
}

/// What tells apart two routes to a rule: for a file all that its template may say, but for the passing of time.
fn key(rule: &OnChange, route: &Route, replica: &Snapshot) -> u64 {
    let mut hasher = DefaultHasher::new();
    match (&rule.rendering, route.chosen()) {
        (Some(_), _) => {
            // At the beginning of time nothing is of any age.
            let report = route.report(&replica.view, Monotonic::default(), Basis::Live);
            serde_json::to_vec(&report).expect("a report is JSON").hash(&mut hasher);
        }
        (None, None) => {}
        (None, Some(entry)) => {
            let manager = &entry.candidate.manager;
            (manager.name.as_str(), manager.endpoint.to_string()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
#[path = "watcher_tests.rs"]
mod tests;
