//! Accepting connections: many handshakes at a time, each bounded, none holding back another.

use crate::admission::Admission;
use crate::connect::peer_chain;
use crate::connection::{CloseReason, Connection, Life, canonical, close_code, cut};
use crate::limits::{MAX_HANDSHAKES, VALIDATE_ABOVE};
use crate::quic::raise_limits;
use crate::settings::Settings;
use echelon_identity::PeerIdentity;
use quinn::{ConnectionError, Incoming, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::{debug, info};

/// At most one line about failed handshakes in this time, so that strangers cannot fill the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What became of those who came.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Let in.
    pub(crate) accepted: AtomicU64,
    /// Not let in, for whatever reason.
    pub(crate) failed: AtomicU64,
    /// Told to prove their address first.
    pub(crate) validated: AtomicU64,
}

/// The task that takes in whoever comes.
pub(crate) struct Acceptor {
    pub(crate) quic: quinn::Endpoint,
    pub(crate) settings: Settings,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) accepted: mpsc::Sender<Connection>,
}

/// Why somebody was not taken in.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the handshake took longer than {} s", .0.as_secs_f64())]
    TooSlow(Duration),
    #[error("{}", CloseReason::of(.0))]
    Handshake(ConnectionError),
    #[error("its certificate names nobody")]
    Unreadable,
    #[error("not let in: {0}")]
    Rejected(String),
}

impl Acceptor {
    /// Runs until the endpoint is closed or nobody listens any more.
    pub(crate) async fn run(self) {
        let shared = Arc::new(self);
        let permits = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let mut handshakes = JoinSet::new();
        let mut log = Occasionally::default();
        loop {
            // First a place, then a client: those for whom there is none wait in the library's queue.
            let permit = permits.clone().acquire_owned().await.expect("this semaphore is never closed");
            let incoming = tokio::select! {
                // Those who are done are counted first, so that their number stays bounded.
                biased;
                Some(done) = handshakes.join_next() => {
                    if let Ok(Err((addr, failure))) = done {
                        log.failed(addr, &failure);
                    }
                    continue;
                }
                incoming = shared.quic.accept() => incoming,
            };
            let Some(incoming) = incoming else { return };
            let busy = MAX_HANDSHAKES - permits.available_permits();
            if busy > VALIDATE_ABOVE && !incoming.remote_address_validated() {
                shared.counters.validated.fetch_add(1, Ordering::Relaxed);
                // Fails only for a validated address.
                let _ = incoming.retry();
                continue;
            }
            let shared = shared.clone();
            handshakes.spawn(async move {
                let outcome = shared.take_in(incoming).await;
                drop(permit);
                outcome
            });
        }
    }

    async fn take_in(&self, incoming: Incoming) -> Result<(), (SocketAddr, Failure)> {
        let addr = canonical(incoming.remote_address());
        match self.handshake(incoming).await {
            Ok(connection) => {
                self.counters.accepted.fetch_add(1, Ordering::Relaxed);
                // Fails only where nobody accepts any more; the connection is then dropped.
                let _ = self.accepted.send(connection).await;
                Ok(())
            }
            Err(failure) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                Err((addr, failure))
            }
        }
    }

    async fn handshake(&self, incoming: Incoming) -> Result<Connection, Failure> {
        let limit = self.settings.handshake;
        let connecting = incoming.accept().map_err(Failure::Handshake)?;
        let handshake = tokio::time::timeout(limit, connecting).await;
        let quic = handshake.map_err(|_| Failure::TooSlow(limit))?.map_err(Failure::Handshake)?;
        let peer = self.identify(&quic)?;
        if let Err(rejection) = self.admission.admit(peer.as_ref(), canonical(quic.remote_address())) {
            refuse(&quic, rejection.code, &rejection.reason);
            return Err(Failure::Rejected(rejection.reason));
        }
        if peer.as_ref().is_some_and(|peer| !is_expired(peer)) {
            raise_limits(&quic);
        }
        // One that grants no stream for it would never be welcomed, and keep its place for as long as it likes.
        let welcome = tokio::time::timeout(limit, welcome(&quic)).await;
        welcome.map_err(|_| Failure::TooSlow(limit))?.map_err(Failure::Handshake)?;
        let life = self.life(peer.as_ref());
        Ok(Connection::new(quic, peer, None, life))
    }

    fn identify(&self, quic: &quinn::Connection) -> Result<Option<PeerIdentity>, Failure> {
        let chain = peer_chain(quic);
        if chain.is_empty() {
            return Ok(None);
        }
        // The verifier has read it already; this cannot fail unless the two disagree.
        PeerIdentity::from_chain(&chain).map(Some).map_err(|error| {
            refuse(quic, close_code::UNREADABLE, &error.to_string());
            Failure::Unreadable
        })
    }

    fn life(&self, peer: Option<&PeerIdentity>) -> Life {
        match peer {
            Some(peer) if is_expired(peer) => {
                Life { left: self.settings.anonymous_life, end: CloseReason::Expired }
            }
            Some(peer) => Life::until(peer.not_after),
            None => Life { left: self.settings.anonymous_life, end: CloseReason::AnonymousLife },
        }
    }
}

/// Whether all that the peer may do is to renew its certificate; the verifier lets no others in that have expired.
fn is_expired(peer: &PeerIdentity) -> bool {
    Life::until(peer.not_after).left.is_zero()
}

/// Tells the client that it is let in: an empty stream.
async fn welcome(quic: &quinn::Connection) -> Result<(), ConnectionError> {
    let mut stream = quic.open_uni().await?;
    // Fails only for a stream that is already finished.
    let _ = stream.finish();
    Ok(())
}

fn refuse(quic: &quinn::Connection, code: u32, reason: &str) {
    quic.close(VarInt::from_u32(code), cut(reason).as_bytes());
}

/// Says something at most once in [`LOG_INTERVAL`], and how much was left unsaid.
#[derive(Default)]
struct Occasionally {
    last: Option<Instant>,
    unsaid: u64,
}

impl Occasionally {
    fn failed(&mut self, addr: SocketAddr, failure: &Failure) {
        if self.last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            self.unsaid += 1;
            debug!(peer.addr = %addr, reason = %failure, "Handshake failed");
            return;
        }
        info!(peer.addr = %addr, reason = %failure, others = self.unsaid, "Handshake failed");
        *self = Self { last: Some(Instant::now()), unsaid: 0 };
    }
}
