//! One connection to a manager, and one request over it at a time.

use crate::http::forwarder::Inner;
use crate::http::upload::Replay;
use crate::http::wire::{Wire, WireIo};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::HostId;
use echelon_core::route::Target;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
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
}

/// Why no answer began.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(super) struct Failed {
    /// Not a byte of the request was written.
    pub(super) unsent: bool,
    source: hyper::Error,
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
        let (sender, connection) = http1::Builder::new().handshake(io).await?;
        let (this, whom, kept) = (Arc::clone(forwarder), target.clone(), Arc::clone(&wire));
        forwarder.parts.tasks.spawn_in(&forwarder.span, "http-upstream", async move {
            let mut open = this.backends.opened(&whom);
            tokio::select! {
                biased;
                ended = connection.with_upgrades() => {
                    if let Err(error) = ended {
                        debug!(manager.host = %whom.name, %error, "A connection to a manager broke");
                    }
                }
                () = open.cut() => kept.cut(),
            }
        });
        Ok(Self { sender, wire, target, begun: Instant::now(), reused: false })
    }

    /// Sends a request. Where it fails, nothing of it is written any more.
    pub(super) async fn send(&mut self, request: Request<Replay>) -> Result<Response<Incoming>, Failed> {
        let before = self.wire.written();
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|error| Failed { unsent: self.wire.seal() == before, source: error.into_error() })
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
