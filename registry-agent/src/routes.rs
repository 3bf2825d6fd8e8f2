//! The routes as everybody in the process reads them.

use crate::clock::Clock;
use crate::history::History;
use crate::occupancy::{Occupancies, Occupancy};
use arc_swap::ArcSwap;
use echelon_core::announce::Announcement;
use echelon_core::endpoint::Endpoint;
use echelon_core::evidence::Seen;
use echelon_core::id::HostId;
use echelon_core::isolation::Standing;
use echelon_core::limits::MAX_WANTED_TYPES;
use echelon_core::message::{Using, ViewMark};
use echelon_core::moves::Move;
use echelon_core::name::ManagerType;
use echelon_core::policy::Failback;
use echelon_core::route::Route;
use echelon_core::router::Input;
use echelon_core::view::{Place, View};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Inputs that may wait for the router. It takes each in well under a millisecond, so that a full queue
/// means a burst of outcomes that all say the same; those past it are dropped and counted.
const MAX_WAITING: usize = 1024;

/// What the replica says at one position: view and place belong together.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The routing view.
    pub view: View,
    /// The host's own place.
    pub place: Place,
    /// Which state of the registry this is.
    pub mark: ViewMark,
}

/// Why there is no route for a type. Asking again is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantError {
    /// No registry manager has told this host anything yet.
    #[error("this host has no replica yet; it gets one as soon as it reaches a registry manager")]
    NoReplica,
    /// Too many types already.
    #[error("this agent keeps routes for {MAX_WANTED_TYPES} types already and takes no more")]
    TooMany,
    /// The agent is stopping.
    #[error("this agent is stopping")]
    Stopping,
}

/// What the router task takes in.
pub(crate) enum RouterInput {
    /// What the core's router takes.
    Core(Input),
    /// Somebody wants a route, and waits for it.
    Want(ManagerType, oneshot::Sender<Option<Arc<Route>>>),
    /// Connections of a type with `failback = dormant` are open from now on, or no longer: the router looks
    /// itself.
    Occupied,
    /// Asks for a sign of life.
    Ask(oneshot::Sender<()>),
    /// A new state of the replica, already on disk.
    Replica(Arc<Snapshot>),
    /// What this host announces that the replica does not show yet; whoever says so waits until it counts.
    Announced(Vec<Announcement>, oneshot::Sender<()>),
}

/// The routes by type. Reading never waits, not even for the router.
#[derive(Clone, Debug)]
pub struct Routes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    shown: ArcSwap<Shown>,
    changed: watch::Sender<u64>,
    inputs: mpsc::Sender<RouterInput>,
    dropped: AtomicU64,
    moves: Mutex<Moves>,
    history: History,
    /// How far what this host sees of others can be believed.
    standing: watch::Sender<Standing>,
    occupancies: Occupancies,
}

/// How often routes have led elsewhere, by type and cause.
pub(crate) type Moves = BTreeMap<(ManagerType, Move), u64>;

/// Routes, and the replica that they are made from. They change together, so that no answer says another
/// position than its route is of.
#[derive(Clone, Debug, Default)]
struct Shown {
    table: Arc<BTreeMap<ManagerType, Arc<Route>>>,
    replica: Option<Arc<Snapshot>>,
}

impl Routes {
    /// No routes yet, and where the router finds what it is to take in.
    pub(crate) fn new(clock: Clock) -> (Self, mpsc::Receiver<RouterInput>) {
        let (inputs, queue) = mpsc::channel(MAX_WAITING);
        let inner = Inner {
            clock,
            shown: ArcSwap::default(),
            changed: watch::Sender::new(0),
            inputs,
            dropped: AtomicU64::new(0),
            moves: Mutex::default(),
            history: History::new(),
            standing: watch::Sender::default(),
            occupancies: Occupancies::default(),
        };
        (Self(Arc::new(inner)), queue)
    }

    /// The route for a type that somebody has wanted before.
    pub fn get(&self, ty: &ManagerType) -> Option<Arc<Route>> {
        self.0.shown.load().table.get(ty).cloned()
    }

    /// The same, with the replica that it is made from.
    pub(crate) fn get_with_replica(&self, ty: &str) -> Option<(Arc<Route>, Arc<Snapshot>)> {
        let shown = self.0.shown.load();
        Some((shown.table.get(ty)?.clone(), shown.replica.clone()?))
    }

    /// The route for a type, which from now on is kept up to date.
    ///
    /// # Errors
    /// [`WantError`].
    pub async fn want(&self, ty: &ManagerType) -> Result<Arc<Route>, WantError> {
        if let Some(route) = self.get(ty) {
            return Ok(route);
        }
        let (answer, route) = oneshot::channel();
        self.send(RouterInput::Want(ty.clone(), answer)).await;
        match route.await {
            Ok(Some(route)) => Ok(route),
            Ok(None) if self.replica().is_none() => Err(WantError::NoReplica),
            Ok(None) => Err(WantError::TooMany),
            Err(_) => Err(WantError::Stopping),
        }
    }

    /// Comes once the router has come to this question, behind what was waiting before it: for a watchdog.
    pub async fn answer(&self) {
        let (answer, answered) = oneshot::channel();
        self.send(RouterInput::Ask(answer)).await;
        // A router that has ended is the end of the agent, which is under way.
        let _ = answered.await;
    }

    /// The replica that the routes are made from; none before the first.
    pub fn replica(&self) -> Option<Arc<Snapshot>> {
        self.0.shown.load().replica.clone()
    }

    /// What became of a connection to a manager at `endpoint`, or wherever it listens now. Never waits: where more is
    /// waiting than the router could make use of, it is dropped.
    pub fn saw(
        &self,
        ty: &ManagerType,
        host: HostId,
        endpoint: Option<Endpoint>,
        seen: Seen,
        took: Duration,
    ) {
        let saw = Input::Saw { ty: ty.clone(), host, endpoint, check: None, seen, took };
        let input = RouterInput::Core(saw);
        if self.0.inputs.try_send(input).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Who counts connections to managers of this type as open. With `failback = dormant` new connections return to a
    /// better manager only once none is.
    pub(crate) fn occupant(&self, ty: &ManagerType) -> Occupant {
        let (ty, occupancy) = (ty.clone(), self.0.occupancies.of(ty));
        Occupant(Arc::new(OfType { routes: self.clone(), ty, occupancy }))
    }

    /// Whether connections to managers of this type are open.
    pub(crate) fn is_occupied(&self, ty: &ManagerType) -> bool {
        self.0.occupancies.of(ty).any()
    }

    /// Has the router look whether connections are open, where that matters. Where its queue is full, it will look
    /// when it has come to the end of it.
    fn occupied(&self, ty: &ManagerType) {
        if self.get(ty).is_some_and(|route| route.policy.failback == Failback::Dormant) {
            let _ = self.0.inputs.try_send(RouterInput::Occupied);
        }
    }

    /// Follows one type.
    pub fn watch(&self, ty: ManagerType) -> RouteWatch {
        RouteWatch { changed: self.changes(), routes: self.clone(), ty, last: None }
    }

    /// For each type that is not served by its home: by whom, and why.
    pub fn using(&self) -> Vec<Using> {
        let now = self.0.clock.now();
        self.0.shown.load().table.values().filter_map(|route| route.using(now)).collect()
    }

    /// All routes, by type.
    pub(crate) fn all(&self) -> Arc<BTreeMap<ManagerType, Arc<Route>>> {
        self.0.shown.load().table.clone()
    }

    /// Marked at every change of any route or of the replica.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// How far what this host sees of others can be believed, now and from now on.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
    }

    /// Whether what this host says of managers is not to be believed.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.0.standing.borrow().is_doubtful()
    }

    /// From now on this is how far what this host sees can be believed. For the router alone.
    pub(crate) fn stand(&self, standing: Standing) {
        self.0.standing.send_replace(standing);
    }

    /// How many outcomes were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// How often routes have led elsewhere since the start.
    pub(crate) fn moves(&self) -> Moves {
        self.0.moves.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where routes have led since the start.
    pub(crate) fn history(&self) -> &History {
        &self.0.history
    }

    /// Hands something to the router; waits while its queue is full. Nothing happens once it has ended.
    pub(crate) async fn send(&self, input: RouterInput) {
        // The router ends only with the agent, which then has no use for it.
        let _ = self.0.inputs.send(input).await;
    }

    /// [`Self::send`], from a thread that may wait.
    pub(crate) fn send_blocking(&self, input: RouterInput) {
        // As above.
        let _ = self.0.inputs.blocking_send(input);
    }

    /// [`Self::send`] for what the core's router takes.
    pub(crate) async fn tell(&self, input: Input) {
        self.send(RouterInput::Core(input)).await;
    }

    /// Shows new routes, and the replica where it is new as well. For the router alone.
    pub(crate) fn publish(&self, routes: Vec<Arc<Route>>, replica: Option<Arc<Snapshot>>) {
        if routes.is_empty() && replica.is_none() {
            return;
        }
        let mut shown = Shown::clone(&self.0.shown.load());
        self.note_moves(&shown, &routes);
        if !routes.is_empty() {
            Arc::make_mut(&mut shown.table).extend(routes.into_iter().map(|r| (r.ty.clone(), r)));
        }
        shown.replica = replica.or(shown.replica);
        self.0.shown.store(Arc::new(shown));
        self.0.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn note_moves(&self, before: &Shown, routes: &[Arc<Route>]) {
        let mut moves = self.0.moves.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest: BTreeMap<&ManagerType, &Arc<Route>> = BTreeMap::new();
        for route in routes {
            let old = newest.insert(&route.ty, route).or_else(|| before.table.get(&route.ty));
            self.0.history.note(old.map(Arc::as_ref), route);
            if let Some(moved) = old.and_then(|old| route.moved_from(old)) {
                *moves.entry((route.ty.clone(), moved.why)).or_default() += 1;
            }
        }
    }
}

/// Who occupies managers of one type, without looking anything up.
#[derive(Debug)]
pub(crate) struct Occupant(Arc<OfType>);

#[derive(Debug)]
struct OfType {
    routes: Routes,
    ty: ManagerType,
    occupancy: Occupancy,
}

impl Occupant {
    /// One more is open, until what this gives is dropped.
    pub(crate) fn enter(&self) -> Occupied {
        if self.0.occupancy.enter() {
            self.0.routes.occupied(&self.0.ty);
        }
        Occupied(Arc::clone(&self.0))
    }
}

/// One open connection; dropping it counts it as closed.
#[derive(Debug)]
pub(crate) struct Occupied(Arc<OfType>);

impl Drop for Occupied {
    fn drop(&mut self) {
        if self.0.occupancy.leave() {
            self.0.routes.occupied(&self.0.ty);
        }
    }
}

/// Follows the route for one type.
#[derive(Debug)]
pub struct RouteWatch {
    routes: Routes,
    ty: ManagerType,
    changed: watch::Receiver<u64>,
    last: Option<Arc<Route>>,
}

impl RouteWatch {
    /// The next route that was not given before: at first the present one. Dropping the future loses
    /// nothing; of several changes in a row only the last may be seen.
    pub async fn next(&mut self) -> Arc<Route> {
        loop {
            self.changed.mark_unchanged();
            let route = self.routes.get(&self.ty);
            let known = |route: &Arc<Route>| self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, route));
            match route.filter(|route| !known(route)) {
                Some(route) => {
                    self.last = Some(Arc::clone(&route));
                    return route;
                }
                // Never fails while `routes` holds the sending side.
                None => drop(self.changed.changed().await),
            }
        }
    }
}
