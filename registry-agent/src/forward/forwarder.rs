//! One forwarder.

use crate::connect;
use crate::forward::backends::Backends;
use crate::forward::reports::Reports;
use crate::forward::throttle::Throttle;
use crate::listen::{BindError, Caller, Forward, Listen, Listener};
use crate::metrics::{Became, Metrics};
use crate::race::{Attempt, Overtaken, Race, race};
use crate::routes::Routes;
use echelon_core::evidence::Seen;
use echelon_core::id::HostId;
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_core::route::{Route, Target};
use echelon_daemon::Tasks;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections open through one forwarder. Each takes two descriptors and about 20 KiB of buffers; past
/// it callers wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8192;

/// Attempts that go on after they were overtaken. Past it they are given up: those under way already say
/// all there is to find out.
const MAX_OVERTAKEN: usize = 256;

/// How long a silent candidate is waited for where no policy says so.
const HEDGE: Duration = Duration::from_millis(50);

/// Failures that one log line names.
const MAX_NAMED: usize = 3;

/// What a forwarder works with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) routes: Routes,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Arc<Metrics>,
}

/// Leads callers to the nearest live manager of one type. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Forwarder(Arc<Inner>);

struct Inner {
    ty: ManagerType,
    at: Listen,
    parts: Parts,
    reports: Arc<Reports>,
    backends: Backends,
    overtaken: Arc<Semaphore>,
    complaints: Throttle,
}

/// How a forwarder is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ForwarderStatus {
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// Where its callers connect.
    pub listen: String,
    /// Connections open now.
    pub open: u64,
    /// Of these, by manager.
    pub open_by_manager: BTreeMap<HostName, u64>,
    /// Connections that reached a manager, since the start.
    pub served: u64,
    /// Connections for which no manager could be reached, since the start.
    pub failed: u64,
    /// Connections for which there was no manager to try, since the start.
    pub unserved: u64,
}

impl Forwarder {
    /// Listens, and serves callers until the tasks are shut down.
    ///
    /// # Errors
    /// It cannot listen there.
    pub(crate) async fn start(forward: &Forward, parts: Parts) -> Result<Self, BindError> {
        let listener = Listener::bind(&forward.listen)?;
        let ty = forward.ty.clone();
        let inner = Inner {
            at: listener.at().clone(),
            reports: Arc::new(Reports::new(parts.routes.clone(), ty.clone())),
            backends: Backends::default(),
            overtaken: Arc::new(Semaphore::new(MAX_OVERTAKEN)),
            complaints: Throttle::default(),
            ty,
            parts,
        };
        let this = Self(Arc::new(inner));
        this.0.parts.routes.tell(echelon_core::router::Input::Want(this.0.ty.clone())).await;
        let tasks = &this.0.parts.tasks;
        tasks.spawn("forwarder", Arc::clone(&this.0).accept(listener, tasks.shutdown()));
        let (drainer, stop) = (Arc::clone(&this.0), tasks.shutdown());
        tasks.spawn("drainer", async move {
            let watch = drainer.parts.routes.watch(drainer.ty.clone());
            tokio::select! {
                () = drainer.backends.drain(watch) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(this)
    }

    /// The type.
    pub(crate) fn ty(&self) -> &ManagerType {
        &self.0.ty
    }

    /// Where callers connect, with the port that was given for 0.
    pub(crate) fn at(&self) -> &Listen {
        &self.0.at
    }

    /// How it is.
    pub(crate) fn status(&self) -> ForwarderStatus {
        let counts = self.0.backends.counts();
        let served = |outcome| self.0.parts.metrics.served(&self.0.ty, outcome);
        ForwarderStatus {
            ty: self.0.ty.clone(),
            listen: self.0.at.to_string(),
            open: counts.values().map(|n| *n as u64).sum(),
            open_by_manager: self.0.named(&counts),
            served: served(Became::Served),
            failed: served(Became::Failed),
            unserved: served(Became::Nobody),
        }
    }
}

impl Inner {
    async fn accept(self: Arc<Self>, listener: Listener, stop: CancellationToken) {
        let welcome = |caller, place| {
            let this = Arc::clone(&self);
            self.parts.tasks.spawn("connection", async move {
                this.serve(caller).await;
                drop(place);
            });
        };
        let complain = |error: &io::Error| self.complain(&format!("cannot accept: {error}"));
        listener.serve(MAX_CONNECTIONS, stop, welcome, complain).await;
    }

    async fn serve(&self, caller: Caller) {
        let route = self.parts.routes.get(&self.ty);
        let Some(route) = route.filter(|route| !route.targets.is_empty()) else {
            let why = self.parts.routes.get(&self.ty).map(|route| route.cause.clone());
            self.complain(why.as_ref().map_or("this host has no replica yet", Text::as_str));
            self.count(Became::Nobody);
            return caller.refuse();
        };
        match self.connect(&route).await {
            Ok((stream, target)) => {
                self.count(Became::Served);
                self.relay(caller, stream, &target).await;
            }
            Err(why) => {
                self.complain(&why);
                self.count(Became::Failed);
                caller.refuse();
            }
        }
    }

    /// A connection to the first manager that answers.
    async fn connect(&self, route: &Arc<Route>) -> Result<(TcpStream, Target), String> {
        let limit = route.policy.connect_timeout;
        let attempt = |i: usize| -> Attempt<TcpStream> {
            let endpoint = route.targets.get(i).filter(|t| !self.is_here(t)).map(|t| t.endpoint.clone());
            Box::pin(async move {
                let endpoint = endpoint.ok_or_else(|| Text::lossy("it is this forwarder itself"))?;
                connect::tcp(&endpoint, limit).await
            })
        };
        let saw = |i: usize, seen: Seen, took: Duration| {
            if let Some(target) = route.targets.get(i) {
                self.parts.metrics.attempt(&self.ty, &seen);
                self.reports.saw(target.host, seen, took);
            }
        };
        let hedge = route.policy.connect_hedge.unwrap_or(HEDGE);
        match race(route.targets.len(), hedge, attempt, saw).await {
            Race::Lost(failures) => Err(in_words(route, &failures)),
            Race::Won { stream, winner, overtaken } => {
                self.follow(route, overtaken);
                let target = route.targets.get(winner).cloned();
                target.map(|t| (stream, t)).ok_or_else(|| "no such candidate".into())
            }
        }
    }

    /// Waits in the background for what becomes of attempts that were overtaken.
    fn follow(&self, route: &Arc<Route>, overtaken: Vec<Overtaken<TcpStream>>) {
        for Overtaken { candidate: i, attempt, began } in overtaken {
            let Ok(place) = Arc::clone(&self.overtaken).try_acquire_owned() else { return };
            let Some(host) = route.targets.get(i).map(|t| t.host) else { continue };
            let reports = Arc::clone(&self.reports);
            self.parts.tasks.spawn("overtaken", async move {
                let seen = attempt.await.map_or_else(Seen::Failed, |_| Seen::Connected);
                reports.saw(host, seen, began.elapsed());
                drop(place);
            });
        }
    }

    async fn relay(&self, mut caller: Caller, mut stream: TcpStream, target: &Target) {
        let open = self.backends.opened(target.host);
        tokio::select! {
            done = copy_bidirectional(&mut caller, &mut stream) => {
                if let Err(error) = done {
                    debug!(manager.host = %target.name, "A connection broke: {error}");
                }
            }
            () = open.cut() => debug!(manager.host = %target.name, "A connection was drained"),
        }
    }

    fn is_here(&self, target: &Target) -> bool {
        let Listen::Tcp(here) = &self.at else { return false };
        target.endpoint.socket_addr().as_ref() == Some(here)
    }

    fn count(&self, outcome: Became) {
        self.parts.metrics.count_served(&self.ty, outcome);
    }

    fn complain(&self, why: &str) {
        if let Some(held_back) = self.complaints.let_through() {
            warn!(manager.type = %self.ty, held_back, "A caller could not be served: {why}");
        }
    }

    fn named(&self, counts: &BTreeMap<HostId, usize>) -> BTreeMap<HostName, u64> {
        let Some(route) = self.parts.routes.get(&self.ty) else { return BTreeMap::new() };
        let named = route.entries.iter().filter_map(|e| {
            let manager = &e.candidate.manager;
            Some((manager.name.clone(), *counts.get(&manager.host)? as u64))
        });
        named.collect()
    }
}

fn in_words(route: &Route, failures: &[(usize, Text)]) -> String {
    let name = |i: usize| route.targets.get(i).map_or_else(String::new, |t| t.name.to_string());
    let named = failures.iter().take(MAX_NAMED).map(|(i, why)| format!("{}: {why}", name(*i)));
    let named = named.collect::<Vec<_>>().join("; ");
    match failures.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// The system's limit of descriptors for this process, raised as far as it may be: each connection takes
/// two, and the usual limit of 1024 is meant for programs that use `select`.
///
/// # Errors
/// The system refused; the limit is as it was.
pub fn raise_descriptor_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
