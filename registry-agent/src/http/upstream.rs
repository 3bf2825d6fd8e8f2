//! One connection to a manager, and one request over it at a time.

use crate::forward::Open;
use crate::http::forwarder::{Inner, MAX_HEAD};
use crate::http::upload::Replay;
use crate::http::wire::{Wire, WireIo};
use crate::metrics::Cut;
use echelon_core::endpoint::Endpoint;
use echelon_core::id::HostId;
use echelon_core::route::Target;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

/// A connection. Dropping it closes it, once an answer that is still being read has ended.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Replay>,
    wire: Arc<Wire>,
    target: Target,
    begun: Instant,
    reused: bool,
    /// No other request goes over it.
    last: bool,
    /// Nobody wants to hear more of it than this answer.
    given_up: bool,
}

/// Why no answer began.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(super) struct Failed {
    /// Not a byte of the request was written.
    pub(super) unsent: bool,
    source: hyper::Error,
}

impl Failed {
    /// Whether what came is no HTTP, or more of it than is taken.
    pub(super) fn is_bad_answer(&self) -> bool {
        self.source.is_parse()
    }
}

impl Link {
    /// Begins to speak HTTP/1.1 over `stream`.
    pub(super) async fn begin(
        stream: TcpStream,
        target: Target,
        forwarder: &Arc<Inner>,
    ) -> hyper::Result<Self> {
        let wire = Wire::new(stream);
        let io = TokioIo::new(WireIo(Arc::clone(&wire)));
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD).handshake(io).await?;
        let (this, whom, kept) = (Arc::clone(forwarder), target.clone(), Arc::clone(&wire));
        forwarder.parts.tasks.spawn_in(&forwarder.span, "http-upstream", async move {
            let mut open = this.backends.opened(&whom);
            let mut connection = std::pin::pin!(connection.with_upgrades());
            tokio::select! {
                biased;
                ended = connection.as_mut() => this.broke(&whom, &open, ended),
                cause = kept.obey(&mut open) => {
                    debug!(manager.host = %whom.name, cause = cause.as_str(), "Closed a connection to a manager");
                }
                () = kept.given_up() => {}
            }
        });
        let (reused, last, given_up) = Default::default();
        Ok(Self { sender, wire, target, begun: Instant::now(), reused, last, given_up })
    }

    /// Sends a request. Where it fails, nothing of it is written any more.
    pub(super) async fn send(&mut self, request: Request<Replay>) -> Result<Response<Incoming>, Failed> {
        let before = self.wire.written();
        match self.sender.try_send_request(request).await {
            Ok(response) => {
                // hyper would send the next request as HTTP/1.0 as well, in which it can send no chunks.
                self.last |= response.version() < Version::HTTP_11;
                Ok(response)
            }
            Err(error) => Err(Failed { unsent: self.wire.seal() == before, source: error.into_error() }),
        }
    }

    /// Nothing more of it is wanted than what it answers now, not even that it sends the rest of the request. Dropped
    /// from now on, it ends at once.
    pub(super) fn give_up(&mut self) {
        (self.last, self.given_up) = (true, true);
    }

    /// Whether another request may go over it, once this one is answered.
    pub(super) fn may_be_kept(&self) -> bool {
        !self.last
    }

    /// What it goes over.
    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    /// The same connection for another request.
    pub(super) fn again(mut self) -> Self {
        self.reused = true;
        self
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn host(&self) -> HostId {
        self.target.host
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.target.endpoint
    }

    /// Whether it has served other requests before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether a request can go over it now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && self.wire.is_quiet()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.given_up {
            self.wire.give_up();
        }
    }
}

impl Inner {
    fn broke(&self, target: &Target, open: &Open<'_>, ended: hyper::Result<()>) {
        let Err(error) = ended else { return };
        if open.is_in_question() && is_unacknowledged(&error) {
            self.backends.cut(Cut::Unreachable);
        }
        debug!(manager.host = %target.name, %error, "A connection to a manager broke");
    }
}

/// Whether nobody acknowledged what was sent, or that there is somebody.
fn is_unacknowledged(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}
