//! One forwarder.

use crate::dialer::{Dialer, Parts};
use crate::forward::backends::{Backends, Word};
use crate::forward::common::Common;
use crate::forward::pipe::Pipes;
use crate::forward::relay::Relay;
use crate::forward::throttle::Throttle;
use crate::latch::Latch;
use crate::listen::{BindError, Caller, Forward, Listen, Listener};
use crate::metrics::{Became, Cut, TypeMetrics};
use crate::routes::Occupant;
use crate::slots::{Slots, Waiting};
use echelon_core::name::{HostName, ManagerType};
use echelon_core::route::Target;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, warn};

/// Connections open through one forwarder, where descriptors allow as many. Each takes two, four more where it
/// carries a stream, and 64 KiB each way while the other side does not read; past it callers wait in the kernel's
/// queue.
const MAX_CONNECTIONS: usize = 8192;

/// Leads callers to the nearest live manager of one type. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Forwarder(Arc<Inner>);

struct Inner {
    ty: ManagerType,
    at: Listen,
    parts: Parts,
    /// Its threads run for as long as there are connections.
    common: Common,
    dialer: Dialer,
    occupant: Occupant,
    metrics: TypeMetrics,
    backends: Backends,
    slots: Slots,
    pipes: Pipes,
    latch: Latch,
    complaints: Throttle,
    /// What happens to connections is told as the forwarder's; a span for each would cost as much as a
    /// connect.
    span: Span,
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
    /// Listens, and serves callers, with the hands of the common crew, until the tasks are shut down.
    ///
    /// # Errors
    /// It cannot listen there.
    pub(crate) async fn start(forward: &Forward, parts: Parts, common: Common) -> Result<Self, BindError> {
        let listener = parts.places.listen(&forward.to_string(), &forward.listen)?;
        let ty = forward.ty.clone();
        let span = parts.tasks.span("connection");
        let metrics = parts.metrics.of_type(&ty);
        let inner = Inner {
            at: listener.at().clone(),
            dialer: Dialer::new(ty.clone(), parts.clone()),
            occupant: parts.routes.occupant(&ty),
            backends: Backends::new(metrics.clone()),
            metrics,
            slots: common.slots.share(MAX_CONNECTIONS),
            pipes: Pipes::default(),
            latch: Latch::new(&parts.tasks),
            complaints: Throttle::default(),
            span,
            ty,
            parts,
            common,
        };
        let this = Self(Arc::new(inner));
        // The first caller may be waiting already: it finds a route. Without a replica there is none yet.
        let _ = this.0.parts.routes.want(&this.0.ty).await;
        let tasks = &this.0.parts.tasks;
        let (latch, inner) = (&this.0.latch, &this.0);
        inner.common.crew.serve(listener, |door| {
            tasks.spawn("forwarder", latch.holding(Arc::clone(inner).accept(door, latch.stop())));
        })?;
        tasks.spawn("drainer", Arc::clone(inner).drain(tasks.shutdown()));
        Ok(this)
    }

    /// Takes no more callers, and returns once the place is free. Those it has are left for the type's
    /// `drain_timeout`.
    pub(crate) async fn close(&self) {
        self.0.latch.close().await;
    }

    /// The type.
    pub(crate) fn ty(&self) -> &ManagerType {
        &self.0.ty
    }

    /// Where callers connect, with the port that was given for 0.
    pub(crate) fn at(&self) -> &Listen {
        &self.0.at
    }

    /// Whether there is no place for one more caller.
    pub(crate) fn is_full(&self) -> bool {
        self.0.slots.is_full()
    }

    /// How it is.
    pub(crate) fn status(&self) -> ForwarderStatus {
        let counts = self.0.backends.counts();
        let served = |became| self.0.metrics.callers(became);
        ForwarderStatus {
            ty: self.0.ty.clone(),
            listen: self.0.at.to_string(),
            open: counts.values().map(|n| *n as u64).sum(),
            open_by_manager: self.0.backends.named(self.0.parts.routes.get(&self.0.ty).as_deref()),
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
            self.parts.tasks.spawn_in(&self.span, "connection", async move {
                this.serve(caller).await;
                drop(place);
            });
        };
        let complain = |waiting: &Waiting| {
            if let Waiting::Full(_) = waiting {
                self.metrics.full();
            }
            self.complain(&waiting.to_string());
        };
        listener.serve_within(&self.slots, stop, welcome, complain).await;
    }

    /// Closes connections of managers that serve no more; once the forwarder is closed, all.
    async fn drain(self: Arc<Self>, agent_stops: CancellationToken) {
        let (closed, close_dead) = (self.latch.stop(), self.common.close_dead.clone());
        tokio::select! {
            () = self.backends.drain_until(closed, &self.parts.routes, &self.ty, close_dead) => {}
            // What is open then is given the grace of the agent's end.
            () = agent_stops.cancelled() => {}
        }
    }

    async fn serve(&self, caller: Caller) {
        match self.dialer.dial(self.here()).await {
            Ok((stream, target)) => {
                self.count(Became::Served);
                self.relay(caller, stream, &target).await;
            }
            Err(error) => {
                self.complain(&error.to_string());
                self.count(error.became());
                caller.refuse();
            }
        }
    }

    async fn relay(&self, caller: Caller, stream: TcpStream, target: &Target) {
        let mut open = self.backends.opened(target);
        let _occupied = self.occupant.enter();
        let mut relay = Relay::new(caller, stream, &self.pipes);
        loop {
            tokio::select! {
                biased;
                done = &mut relay => return self.ended(done, open.is_in_question(), target),
                word = open.word() => match word {
                    Word::Stay => relay.ask_often(false),
                    Word::Ask => relay.ask_often(true),
                    Word::Close(cause) => {
                        return debug!(manager.host = %target.name, cause = cause.as_str(), "Closed a connection");
                    }
                },
            }
        }
    }

    fn ended(&self, done: io::Result<()>, in_question: bool, target: &Target) {
        let Err(error) = done else { return };
        if in_question && error.kind() == io::ErrorKind::TimedOut {
            self.backends.cut(Cut::Unreachable);
        }
        debug!(manager.host = %target.name, "A connection broke: {error}");
    }

    /// Where it listens, which may be written down as a manager's endpoint.
    fn here(&self) -> Option<SocketAddr> {
        match &self.at {
            Listen::Tcp(here) => Some(*here),
            Listen::Unix(_) => None,
        }
    }

    fn count(&self, outcome: Became) {
        self.metrics.caller(outcome);
    }

    fn complain(&self, why: &str) {
        if let Some(held_back) = self.complaints.let_through() {
            warn!(manager.type = %self.ty, held_back, "A caller could not be served: {why}");
        }
    }
}
