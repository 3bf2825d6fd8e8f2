//! One place where requests are taken, and what serves them.

use crate::dialer::{Dialer, Parts};
use crate::forward::{Backends, Common, Throttle};
use crate::http::answer::AnswerBody;
use crate::http::exchange::{SOUGHT, exchange};
use crate::http::place::Place;
use crate::http::pool::{Pool, Serving};
use crate::http::refusal::Refusal;
use crate::http::upstream::Link;
use crate::latch::Latch;
use crate::listen::{BindError, Caller, Forward, Listen, Listener};
use crate::metrics::{HttpMetrics, Requested};
use crate::routes::Occupant;
use crate::slots::{Slots, Waiting};
use echelon_core::name::{HostName, ManagerType};
use echelon_core::repeat::Tries;
use echelon_core::report::Outcome;
use echelon_core::route::Route;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, warn};

/// Callers' connections open at a time. Each takes a descriptor and up to two buffers; past it they wait in the
/// kernel's queue.
const MAX_CONNECTIONS: usize = 8192;

/// Requests under way at a time, and protocols that took a connection over. Each may have a connection to a manager;
/// past it they are answered with 503 at once.
const MAX_REQUESTS: usize = 4096;

/// Bytes of bodies that all requests hold together: a thousand that fill what one may hold.
const MAX_HELD: usize = 64 << 20;

/// How long a request's head may take to arrive, and a caller's connection may be idle. Longer than clients keep idle
/// connections (Go 90 s, others less), so that it is they who close, not we just when a request comes.
const HEAD_DEADLINE: Duration = Duration::from_secs(120);

/// Most bytes of a request's or an answer's head, and of what is read ahead; servers take 8 KiB to 64 KiB.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// How long callers may take in the last words, once the connections to managers are cut that were left for
/// `drain_timeout`.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often idle connections are looked through, besides at every change of the route.
const SWEEP: Duration = Duration::from_secs(1);

/// Takes requests for the managers of one type. Clones are the same one.
#[derive(Clone)]
pub(crate) struct HttpForwarder(Arc<Inner>);

/// What requests need.
pub(super) struct Inner {
    pub(super) ty: ManagerType,
    pub(super) at: Listen,
    pub(super) parts: Parts,
    pub(super) dialer: Dialer,
    pub(super) metrics: HttpMetrics,
    pub(super) backends: Backends,
    /// How long a manager is sought for one request.
    pub(super) patience: Duration,
    /// Bytes of bodies that may still be held.
    pub(super) holds: Arc<Semaphore>,
    /// What connections and requests do is told as the forwarder's.
    pub(super) span: Span,
    common: Common,
    connections: Slots,
    requests: Arc<Semaphore>,
    occupant: Occupant,
    pools: Vec<Arc<Pool>>,
    latch: Latch,
    /// It was closed, and `drain_timeout` is over.
    over: CancellationToken,
    complaints: Throttle,
}

/// One thread's part: it uses its own connections, so that nothing moves between cores.
#[derive(Clone)]
pub(super) struct Shard {
    pub(super) forwarder: Arc<Inner>,
    pub(super) pool: Arc<Pool>,
}

/// How an HTTP forwarder is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HttpForwarderStatus {
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// Where its callers connect.
    pub listen: String,
    /// Requests under way now, and connections that changed their protocol.
    pub open: u64,
    /// Connections to managers open now, by manager.
    pub open_by_manager: BTreeMap<HostName, u64>,
    /// Of these, idle ones.
    pub idle: u64,
    /// Requests that a manager answered, since the start.
    pub answered: u64,
    /// Requests that no manager answered, since the start.
    pub failed: u64,
    /// Requests for which there was no manager to try, since the start.
    pub unserved: u64,
    /// Requests that could not be passed on, since the start.
    pub refused: u64,
    /// Times that a request was sent once more, since the start.
    pub repeated: u64,
}

impl HttpForwarder {
    /// What its place is asked for in.
    pub(crate) fn asked(forward: &Forward) -> String {
        format!("http {forward}")
    }

    /// Listens, and serves requests, with the hands of the common crew, until the tasks are shut down.
    ///
    /// # Errors
    /// It cannot listen there.
    pub(crate) async fn start(forward: &Forward, parts: Parts, common: Common) -> Result<Self, BindError> {
        Self::start_with(SOUGHT, forward, parts, common).await
    }

    /// The same with so much patience.
    pub(super) async fn start_with(
        patience: Duration,
        forward: &Forward,
        parts: Parts,
        common: Common,
    ) -> Result<Self, BindError> {
        let listener = parts.places.listen(&Self::asked(forward), &forward.listen)?;
        let ty = forward.ty.clone();
        let inner = Arc::new(Inner {
            at: listener.at().clone(),
            dialer: Dialer::new(ty.clone(), parts.clone()),
            metrics: parts.metrics.http(&ty),
            backends: Backends::new(parts.metrics.of_type(&ty)),
            patience,
            holds: Arc::new(Semaphore::new(MAX_HELD)),
            span: parts.tasks.span("http"),
            connections: common.slots.share(MAX_CONNECTIONS),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            occupant: parts.routes.occupant(&ty),
            pools: (0..common.crew.size()).map(|_| Arc::default()).collect(),
            latch: Latch::new(&parts.tasks),
            over: CancellationToken::new(),
            complaints: Throttle::default(),
            ty,
            parts,
            common,
        });
        // The first caller may be waiting already: it finds a route. Without a replica there is none yet.
        let _ = inner.parts.routes.want(&inner.ty).await;
        let (tasks, latch) = (&inner.parts.tasks, &inner.latch);
        let mut pools = inner.pools.iter();
        inner.common.crew.serve(listener, |door| {
            let Some(pool) = pools.next().cloned() else { return };
            let shard = Shard { forwarder: Arc::clone(&inner), pool };
            tasks.spawn("http-forwarder", latch.holding(shard.accept(door, latch.stop())));
        })?;
        tasks.spawn("http-sweeper", Arc::clone(&inner).sweep(latch.stop()));
        tasks.spawn("http-drainer", Arc::clone(&inner).drain(tasks.shutdown()));
        Ok(Self(inner))
    }

    /// Takes no more callers, and returns once the place is free. Requests under way are left for the type's
    /// `drain_timeout`.
    pub(crate) async fn close(&self) {
        self.0.latch.close().await;
    }

    /// Where it listens.
    pub(crate) fn at(&self) -> &Listen {
        &self.0.at
    }

    /// The type.
    pub(crate) fn ty(&self) -> &ManagerType {
        &self.0.ty
    }

    /// What requests need.
    #[cfg(test)]
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Bytes of bodies that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        MAX_HELD - self.0.holds.available_permits()
    }

    /// How it is.
    pub(crate) fn status(&self) -> HttpForwarderStatus {
        let inner = &self.0;
        let requested = |became| inner.metrics.requests(became);
        HttpForwarderStatus {
            ty: inner.ty.clone(),
            listen: inner.at.to_string(),
            open: MAX_REQUESTS.saturating_sub(inner.requests.available_permits()) as u64,
            open_by_manager: inner.backends.named(inner.route().as_deref()),
            idle: inner.pools.iter().map(|pool| pool.idle() as u64).sum(),
            answered: requested(Requested::Answered),
            failed: requested(Requested::Failed),
            unserved: requested(Requested::Nobody),
            refused: requested(Requested::Refused),
            repeated: inner.metrics.repeats(),
        }
    }
}

impl Inner {
    /// The route at this moment.
    pub(super) fn route(&self) -> Option<Arc<Route>> {
        self.parts.routes.get(&self.ty)
    }

    /// Where it listens, which may be written down as a manager's endpoint.
    pub(super) fn here(&self) -> Option<SocketAddr> {
        match &self.at {
            Listen::Tcp(here) => Some(*here),
            Listen::Unix(_) => None,
        }
    }

    /// Closes idle connections that nobody should use, until `stop`; then all.
    async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let sweeping = async {
            let mut changes = self.parts.routes.watch(self.ty.clone());
            let mut due = Instant::now() + SWEEP;
            loop {
                tokio::select! {
                    _ = changes.next() => {}
                    () = sleep_until(due) => due = Instant::now() + SWEEP,
                }
                let route = self.route();
                let serving = Serving::of(route.as_deref());
                self.pools.iter().for_each(|pool| pool.sweep(&serving));
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sweeping => {}
        }
        self.pools.iter().for_each(|pool| pool.close());
    }

    /// Closes connections of managers that serve no more; once the forwarder is closed, all, and then its callers'.
    async fn drain(self: Arc<Self>, agent_stops: CancellationToken) {
        let (closed, close_dead) = (self.latch.stop(), self.common.close_dead.clone());
        let drained = self.backends.drain_until(closed, &self.parts.routes, &self.ty, close_dead);
        tokio::select! {
            () = drained => {}
            // What is open then is given the grace of the agent's end.
            () = agent_stops.cancelled() => return,
        }
        sleep(LAST_WORDS).await;
        self.over.cancel();
    }

    fn tell(&self, refusal: &Refusal) {
        self.metrics.request(match refusal {
            Refusal::Unserved(_) => Requested::Nobody,
            Refusal::Busy => Requested::Refused,
            refusal if refusal.is_callers() => Requested::Refused,
            _ => Requested::Failed,
        });
        if refusal.is_callers() {
            debug!(manager.type = %self.ty, "A request was refused: {refusal}");
        } else {
            self.complain(&format!("A request could not be served: {refusal}"));
        }
    }

    fn complain(&self, what: &str) {
        if let Some(held_back) = self.complaints.let_through() {
            warn!(manager.type = %self.ty, held_back, "{what}");
        }
    }
}

impl Shard {
    async fn accept(self, listener: Listener, stop: CancellationToken) {
        let welcome = |caller, place| {
            let (this, stop) = (self.clone(), stop.clone());
            let forwarder = &self.forwarder;
            forwarder.parts.tasks.spawn_in(&forwarder.span, "http-caller", async move {
                this.converse(caller, stop).await;
                drop(place);
            });
        };
        let complain = |waiting: &Waiting| {
            self.forwarder.complain(&format!("A caller could not be accepted: {waiting}"));
        };
        listener.serve_within(&self.forwarder.connections, stop.clone(), welcome, complain).await;
    }

    /// Answers the requests of one connection; at a stop, the one under way is still answered.
    async fn converse(self, caller: Caller, stop: CancellationToken) {
        let service = service_fn(|request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD)
            .serve_connection(TokioIo::new(caller), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = self.forwarder.over.cancelled() => {
                        return debug!(manager.type = %self.forwarder.ty, "Closed a caller's connection");
                    }
                }
            }
        };
        if let Err(error) = ended {
            debug!(manager.type = %self.forwarder.ty, %error, "A caller's connection broke");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let forwarder = &self.forwarder;
        let answered = match Arc::clone(&forwarder.requests).try_acquire_owned() {
            Ok(permit) => exchange(self, request, Place::new(permit, forwarder.occupant.enter())).await,
            Err(_) => Err(Refusal::Busy),
        };
        match answered {
            Ok(response) => {
                forwarder.metrics.request(Requested::Answered);
                response
            }
            Err(refusal) => {
                forwarder.tell(&refusal);
                refusal.answer(&forwarder.ty)
            }
        }
    }

    /// An idle connection to the manager whose turn it is.
    pub(super) fn pooled(&self, tries: &Tries) -> Option<Link> {
        let route = self.forwarder.route()?;
        let target = tries.first(&route.targets)?;
        // What was connected to one in doubt before may hang, and a new connection shows whether it does. Where there
        // is nobody else it is no worse.
        let may = route.outcome == Outcome::LastResort || route.is_usable(target.host);
        if may { self.pool.take(target, tries.effect()) } else { None }
    }
}
