//! Runs the core's router: receive or sleep, decide, probe and publish.

use crate::clock::Clock;
use crate::prober::Prober;
use crate::routes::{RouterInput, Routes, Snapshot};
use echelon_core::announce::{Announcement, overlay};
use echelon_core::limits::MAX_WANTED_TYPES;
use echelon_core::message::{Health, LivenessEntry};
use echelon_core::name::ManagerType;
use echelon_core::policy::{Effective, Failback};
use echelon_core::report::Outcome;
use echelon_core::route::Route;
use echelon_core::router::{Input, Output, Router};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Most inputs taken before routes are shown: few enough that a reader waits for no more than these.
const BATCH: usize = 64;

/// Shortest sleep, so that deadlines that follow each other closely cannot occupy a core.
const SHORTEST: Duration = Duration::from_millis(1);

/// The task's state.
pub(crate) struct RouterTask {
    clock: Clock,
    routes: Routes,
    prober: Prober,
    /// None until view and place are both known.
    router: Option<Router>,
    /// The replica as the registry has it; none before the first.
    recorded: Option<Arc<Snapshot>>,
    /// What this host announces that the replica does not show yet.
    announced: Vec<Announcement>,
    /// What was wanted before there was a router.
    wanted: BTreeSet<ManagerType>,
    session: bool,
    /// What this host's own checks found before there was a router.
    own: BTreeMap<ManagerType, Health>,
}

impl RouterTask {
    /// A router that knows nothing yet.
    pub(crate) fn new(clock: Clock, routes: Routes, prober: Prober) -> Self {
        Self {
            clock,
            routes,
            prober,
            router: None,
            recorded: None,
            announced: Vec::new(),
            wanted: BTreeSet::new(),
            session: false,
            own: BTreeMap::new(),
        }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<RouterInput>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let deadline = self.router.as_ref().and_then(Router::next_deadline);
            let earliest = self.clock.now() + SHORTEST;
            let due = deadline.map(|at| self.clock.instant(at.max(earliest)));
            tokio::select! {
                () = stop.cancelled() => return,
                _ = inputs.recv_many(&mut batch, BATCH) => {
                    self.take_all(batch.drain(..));
                    self.look_at_occupancy(|policy| policy.failback == Failback::Dormant);
                }
                () = sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    self.handle([Input::Tick]);
                }
            }
        }
    }

    /// Takes in what has waited. What was seen of managers in a row is decided on at once.
    fn take_all(&mut self, inputs: impl Iterator<Item = RouterInput>) {
        let mut seen = Vec::new();
        for input in merged(inputs) {
            match input {
                RouterInput::Core(saw @ Input::Saw { .. }) => seen.push(saw),
                other => {
                    self.handle(std::mem::take(&mut seen));
                    self.take(other);
                }
            }
        }
        self.handle(seen);
    }

    fn take(&mut self, input: RouterInput) {
        match input {
            RouterInput::Replica(snapshot) => self.take_replica(snapshot),
            RouterInput::Announced(announced, taken) => {
                self.announced = announced;
                self.follow(false);
                // Whoever said so may have gone away.
                let _ = taken.send(());
            }
            RouterInput::Want(ty, answer) => {
                self.want(ty.clone());
                // Whoever asked may have gone away.
                let _ = answer.send(self.routes.get(&ty));
            }
            // Looked at after every batch.
            RouterInput::Occupied => {}
            // Whoever asked may have gone away.
            RouterInput::Ask(answer) => drop(answer.send(())),
            RouterInput::Core(Input::Want(ty)) => self.want(ty),
            RouterInput::Core(input) => {
                match &input {
                    Input::Session(up) => self.session = *up,
                    Input::OwnHealth(own) => self.own.clone_from(own),
                    _ => {}
                }
                self.handle([input]);
            }
        }
    }

    /// Tells the router whether connections are open, of the types under such policies. A route that has just
    /// begun to go by it is known to those who open connections before this looks, so that nothing is missed.
    fn look_at_occupancy(&mut self, such: impl Fn(&Effective) -> bool) {
        let routes = self.routes.all();
        let types: Vec<_> = routes.values().filter(|r| such(&r.policy)).map(|r| r.ty.clone()).collect();
        let occupied = |ty| Input::Occupied { occupied: self.routes.is_occupied(&ty), ty };
        let inputs: Vec<_> = types.into_iter().map(occupied).collect();
        self.handle(inputs);
    }

    fn want(&mut self, ty: ManagerType) {
        if self.router.is_some() {
            self.handle([Input::Want(ty)]);
        } else if self.wanted.len() < MAX_WANTED_TYPES {
            self.wanted.insert(ty);
        }
    }

    fn take_replica(&mut self, snapshot: Arc<Snapshot>) {
        let same = self.recorded.as_ref().is_some_and(|old| old.mark.digest == snapshot.mark.digest);
        self.recorded = Some(snapshot);
        self.follow(same && self.announced.is_empty());
    }

    /// Goes by the replica, and by what this host has announced besides. `view_same` says that the view is the
    /// one gone by already.
    fn follow(&mut self, view_same: bool) {
        let Some(recorded) = self.recorded.clone() else { return };
        let snapshot = match self.announced.is_empty() {
            true => recorded,
            false => {
                let (view, place) = overlay(&recorded.view, &recorded.place, self.announced.iter().cloned());
                Arc::new(Snapshot { view, place, mark: recorded.mark })
            }
        };
        // The view may be the first to go by it.
        self.look_at_occupancy(|_| true);
        let old = self.routes.replica();
        let (view, place) = (snapshot.view.clone(), snapshot.place.clone());
        if self.router.is_none() {
            self.router = Some(Router::new(view, place));
            let wanted = std::mem::take(&mut self.wanted).into_iter().map(Input::Want);
            let known = [Input::Session(self.session), Input::OwnHealth(self.own.clone())];
            self.handle_with(wanted.chain(known), Some(snapshot));
        } else {
            let place_same = old.is_some_and(|old| old.place == place);
            let view = (!view_same).then_some(Input::View(view));
            let place = (!place_same).then_some(Input::Place(place));
            self.handle_with(view.into_iter().chain(place), Some(snapshot));
        }
    }

    fn handle(&mut self, inputs: impl IntoIterator<Item = Input>) {
        self.handle_with(inputs, None);
    }

    /// Decides, and shows what follows together with the replica that it follows from, where that is new.
    fn handle_with(&mut self, inputs: impl IntoIterator<Item = Input>, replica: Option<Arc<Snapshot>>) {
        let Some(router) = &mut self.router else { return };
        let mut out = Vec::new();
        router.handle_all(self.clock.now(), inputs, &mut out);
        let mut published = Vec::new();
        for output in out {
            match output {
                Output::Standing(standing) => self.routes.stand(standing),
                Output::Publish(route) => {
                    announce(self.routes.get(&route.ty).as_deref(), &route);
                    published.push(route);
                }
                Output::Probe { ty, target, timeout, check } => {
                    self.prober.probe(ty, target, timeout, check);
                }
            }
        }
        self.routes.publish(published, replica);
    }
}

/// Reports of liveness that waited behind one another as one, so that many agents' news cost one decision.
fn merged(inputs: impl Iterator<Item = RouterInput>) -> Vec<RouterInput> {
    let mut merged: Vec<RouterInput> = Vec::new();
    for mut input in inputs {
        match (merged.last_mut().and_then(news), news(&mut input)) {
            (Some(before), Some(more)) => before.append(more),
            _ => merged.push(input),
        }
    }
    merged
}

/// The entries of a report that says nothing of what it does not name.
fn news(input: &mut RouterInput) -> Option<&mut Vec<LivenessEntry>> {
    match input {
        RouterInput::Core(Input::Liveness { complete: false, entries }) => Some(entries),
        _ => None,
    }
}

/// Says who serves a type now, where that has changed.
fn announce(old: Option<&Route>, new: &Route) {
    let name = |route: &Route| route.chosen().map(|e| e.candidate.manager.name.clone());
    let (from, to) = (old.and_then(name), name(new));
    if old.is_some() && from == to {
        return;
    }
    let [from, to] = [from, to].map(|name| name.map_or_else(|| "nobody".to_owned(), |n| n.to_string()));
    match new.outcome {
        Outcome::Home => info!(manager.type = %new.ty, %from, %to, "Routed home"),
        Outcome::Unserved => {
            info!(manager.type = %new.ty, %from, cause = %new.cause, "Nobody serves this type")
        }
        Outcome::Failover | Outcome::LastResort => {
            info!(manager.type = %new.ty, %from, %to, cause = %new.cause, "Rerouted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::id::HostId;

    /// By the time of the edit the hold is long over, so that an open connection alone keeps the host where it is.
    #[tokio::test]
    async fn an_edit_to_dormant_goes_by_connections_that_were_opened_before_it() {
        use crate::testing::{eventually, host, manager, routes, service, snapshot, ty};
        use echelon_core::evidence::Seen;
        use echelon_core::name::Text;
        use echelon_core::policy::PolicySettings;
        use echelon_core::report::CandidateState;
        let (near, far) = (service("near").await, service("far").await);
        let managers = [manager(1, 0, near), manager(2, 1, far)];
        let replica = |revision, failback| {
            let no_wait = PolicySettings {
                failback_hold: Some(Duration::ZERO),
                failback_jitter: Some(Duration::ZERO),
                failback: Some(failback),
                ..PolicySettings::default()
            };
            RouterInput::Replica(snapshot(revision, &managers, no_wait))
        };
        let (routes, _tasks) = routes(snapshot(1, &managers, PolicySettings::default())).await;
        routes.send(replica(2, Failback::Off)).await;
        routes.saw(&ty(), host(1), None, Seen::Failed(Text::lossy("refused")), Duration::ZERO);
        let chosen = || routes.get(&ty())?.chosen().map(|e| e.candidate.manager.host);
        eventually("a failover", || (chosen()? == host(2)).then_some(())).await;
        routes.saw(&ty(), host(1), None, Seen::Connected, Duration::from_millis(1));
        eventually("a return that is held back", || {
            let live = routes.get(&ty())?.entries[0].state == CandidateState::Live;
            (live && chosen()? == host(2)).then_some(())
        })
        .await;
        let open = routes.occupant(&ty()).enter();
        routes.send(replica(3, Failback::Dormant)).await;
        routes.answer().await;
        assert_eq!(chosen(), Some(host(2)));
        drop(open);
        eventually("the return", || (chosen()? == host(1)).then_some(())).await;
    }

    #[test]
    fn only_reports_that_follow_one_another_and_are_of_what_they_name_are_merged() {
        let report = |complete, host: u128| {
            let host = HostId(uuid::Uuid::from_u128(host));
            let packages = BTreeMap::new();
            let entry = LivenessEntry { host, incarnation: 1, sequence: 1, silent: false, packages };
            RouterInput::Core(Input::Liveness { complete, entries: vec![entry] })
        };
        let session = RouterInput::Core(Input::Session(true));
        let inputs = [
            report(false, 1),
            report(false, 2),
            session,
            report(false, 3),
            report(true, 4),
            report(false, 5),
            report(false, 6),
        ];
        let shape = |input: RouterInput| match input {
            RouterInput::Core(Input::Liveness { entries, .. }) => {
                entries.iter().map(|e| e.host.0.as_u128()).collect()
            }
            _ => Vec::new(),
        };
        let found: Vec<_> = merged(inputs.into_iter()).into_iter().map(shape).collect();
        assert_eq!(found, [vec![1, 2], vec![], vec![3], vec![4], vec![5, 6]]);
    }
}
