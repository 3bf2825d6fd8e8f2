//! Answers programs on `direct.sock`.

use crate::connector::{ConnectError, Connected, Connector};
use crate::dialer::Parts;
use crate::direct::answer::{self, SEND_BUFFER};
use crate::direct::request::{RequestError, Requests, broken_off};
use crate::forward::{Crew, Throttle};
use crate::latch::Latch;
use crate::listen::{BindError, Caller, Listen, Listener};
use crate::metrics::Metrics;
use crate::slots::{Slots, Waiting};
use echelon_core::name::ManagerType;
use echelon_daemon::Tasks;
use serde::Serialize;
use socket2::SockRef;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, warn};

/// The socket's name, beside that of the API.
const FILE_NAME: &str = "direct.sock";

/// Connections open at a time on one socket: the programs of a host, each with a few that it keeps. Past it
/// they wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// Reads of up to 4 KiB after which a program that goes on sending gets a reset: as much as fits in its socket's
/// buffer.
const MAX_DISCARDED: usize = 64;

/// Hands connections over to programs.
pub(crate) struct Direct {
    at: PathBuf,
    connector: Connector,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    /// Its threads end with the last who holds it.
    crew: Arc<Crew>,
    span: Span,
    slots: Slots,
    open: AtomicU64,
    served: AtomicU64,
    failed: AtomicU64,
    latch: Latch,
    complaints: Throttle,
}

/// What follows an answer.
enum Next {
    Request,
    End,
}

/// How one socket of the direct hand-over is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DirectStatus {
    /// Where programs connect.
    pub listen: String,
    /// Programs' connections open now. Connections that were handed over are theirs, and not counted.
    pub open: u64,
    /// Connections to managers that were handed over, since the start.
    pub served: u64,
    /// Requests that were answered with an error, since the start.
    pub failed: u64,
}

impl Direct {
    /// The socket beside an API's; none where the API itself is called so.
    pub(crate) fn beside(api: &Path) -> Option<PathBuf> {
        let path = api.with_file_name(FILE_NAME);
        (path != api).then_some(path)
    }

    /// What it is asked for in.
    pub(crate) fn asked(at: &Listen) -> String {
        format!("direct {at}")
    }

    /// Listens at `path`, and answers programs, with the hands of this crew, until the tasks of `parts` are shut
    /// down.
    ///
    /// # Errors
    /// It cannot listen there.
    pub(crate) fn start(
        path: PathBuf,
        connector: Connector,
        parts: Parts,
        crew: Arc<Crew>,
    ) -> Result<Arc<Self>, BindError> {
        let at = Listen::Unix(path.clone());
        let listener = parts.places.listen(&Self::asked(&at), &at)?;
        let (open, served, failed, complaints) = Default::default();
        let this = Arc::new(Self {
            at: path,
            connector,
            metrics: parts.metrics,
            span: parts.tasks.span("direct"),
            latch: Latch::new(&parts.tasks),
            tasks: parts.tasks,
            crew,
            slots: Slots::new(MAX_CONNECTIONS),
            open,
            served,
            failed,
            complaints,
        });
        this.crew.serve(listener, |door| {
            let accepting = Arc::clone(&this).accept(door);
            this.tasks.spawn("direct-listener", this.latch.holding(accepting));
        })?;
        Ok(this)
    }

    /// Lets no more programs in, answers the requests under way, and returns once the place is free.
    pub(crate) async fn close(&self) {
        self.latch.close().await;
    }

    /// How it is.
    pub(crate) fn status(&self) -> DirectStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DirectStatus {
            listen: Listen::Unix(self.at.clone()).to_string(),
            open: count(&self.open),
            served: count(&self.served),
            failed: count(&self.failed),
        }
    }

    async fn accept(self: Arc<Self>, listener: Listener) {
        let stop = self.latch.stop();
        let welcome = |caller, place| {
            // It listens on a unix socket only.
            let Caller::Unix(stream) = caller else { return };
            let (this, stop) = (Arc::clone(&self), stop.clone());
            self.tasks.spawn_in(&self.span, "direct", async move {
                this.open.fetch_add(1, Ordering::Relaxed);
                this.converse(stream, stop).await;
                this.open.fetch_sub(1, Ordering::Relaxed);
                drop(place);
            });
        };
        let complain = |error: &Waiting| {
            if let Some(held_back) = self.complaints.let_through() {
                warn!(%error, held_back, "The direct hand-over cannot accept a connection");
            }
        };
        listener.serve_within(&self.slots, stop.clone(), welcome, complain).await;
    }

    /// Answers one request after the other; at a stop, the one under way is still answered.
    async fn converse(&self, mut stream: UnixStream, stop: CancellationToken) {
        // Refused, it is larger, which only a program that reads nothing could turn to account.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        let mut requests = Requests::new();
        loop {
            let request = tokio::select! {
                biased;
                request = requests.next(&mut stream) => request,
                () = stop.cancelled() => return,
            };
            let answered = match request {
                Ok(ty) => tokio::select! {
                    biased;
                    connected = self.connector.connect(&ty) => self.answer(&stream, &ty, connected).await,
                    error = broken_off(&stream) => self.reject(&stream, &error).await,
                },
                Err(error) => self.reject(&stream, &error).await,
            };
            match answered {
                Ok(Next::Request) => {}
                Ok(Next::End) => return,
                Err(error) => return debug!(%error, "An answer of the direct hand-over was not taken"),
            }
        }
    }

    async fn answer(
        &self,
        stream: &UnixStream,
        ty: &ManagerType,
        connected: Result<Connected, ConnectError>,
    ) -> io::Result<Next> {
        match connected {
            Ok(connected) => {
                answer::hand_over(stream, connected).await?;
                self.served.fetch_add(1, Ordering::Relaxed);
                self.metrics.count_handover(ty);
            }
            Err(error) => {
                self.count_failed(error.name());
                answer::refuse(stream, &error).await?;
            }
        }
        Ok(Next::Request)
    }

    /// Says what is wrong with a request. After most faults nobody could tell where the next one begins.
    async fn reject(&self, stream: &UnixStream, error: &RequestError) -> io::Result<Next> {
        if matches!(error, RequestError::Over) {
            return Ok(Next::End);
        }
        self.count_failed(error.name());
        answer::reject(stream, error).await?;
        if matches!(error, RequestError::NoType(_)) {
            return Ok(Next::Request);
        }
        discard(stream);
        Ok(Next::End)
    }

    fn count_failed(&self, error: &'static str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.metrics.count_handover_error(error);
    }
}

/// Reads away what has come, within reason: unread, it would make of the end a reset.
fn discard(stream: &UnixStream) {
    let mut bytes = [0; 4096];
    for _ in 0..MAX_DISCARDED {
        if !stream.try_read(&mut bytes).is_ok_and(|read| read > 0) {
            return;
        }
    }
}
