//! One peer, and the channels to it.

use crate::frame::Channel;
use crate::limits::MAX_REASON;
use echelon_core::time::UnixMillis;
use echelon_identity::{PeerIdentity, TrustBundle};
use quinn::{ConnectionError, VarInt};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::AbortHandle;

/// Codes with which this crate itself closes a connection. Callers use 1 to 65535.
pub mod close_code {
    /// The peer let go of the connection without a word.
    pub const DROPPED: u32 = 0;
    /// The certificate that the peer showed has run out.
    pub const EXPIRED: u32 = 0x1_0000;
    /// A peer without identity stayed longer than it may.
    pub const ANONYMOUS_LIFE: u32 = 0x1_0001;
    /// The peer's certificate names nobody.
    pub const UNREADABLE: u32 = 0x1_0002;
}

/// Why a connection is no more. What was sent and not answered may or may not have arrived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it.
    #[error("the peer closed the connection (code {code}): {reason}")]
    Peer {
        /// The peer's code; [`close_code`] tells this crate's own.
        code: u32,
        /// The peer's words, printable, at most [`MAX_REASON`] bytes.
        reason: String,
    },
    /// The peer fell silent.
    #[error("the peer has not been heard for too long; it may be down, or the network between")]
    TimedOut,
    /// The peer lives, but knows nothing of this connection: it was restarted.
    #[error("the peer was restarted")]
    Reset,
    /// This side closed it.
    #[error("the connection was closed here")]
    Local,
    /// This side closed it, because the certificate that the peer showed has run out.
    #[error("the peer's certificate has expired during the connection; connect again once it is renewed")]
    Expired,
    /// This side closed it, because a peer without identity stayed longer than it may.
    #[error("the peer has no identity and stayed longer than such a one may")]
    AnonymousLife,
    /// One side broke the protocol's rules.
    #[error("the connection broke: {0}")]
    Protocol(String),
}

/// A connection to one peer. Clones share it; when the last clone and the last channel are gone, it is
/// closed.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

pub(crate) struct Inner {
    id: u64,
    quic: quinn::Connection,
    peer: Option<PeerIdentity>,
    trust: Option<TrustBundle>,
    /// Why this crate closed the connection, if it did.
    verdict: Arc<OnceLock<CloseReason>>,
    guard: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The guard holds the connection too, and would keep it open.
        self.guard.abort();
    }
}

/// After what time a connection is closed, and as what.
pub(crate) struct Life {
    pub(crate) left: Duration,
    pub(crate) end: CloseReason,
}

impl Life {
    /// As long as the peer's certificate holds; the peer looks after ours.
    pub(crate) fn until(not_after: UnixMillis) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_millis(not_after.0).saturating_sub(now);
        Self { left, end: CloseReason::Expired }
    }
}

impl Connection {
    /// Takes over a connection whose handshake is done. Must run inside a tokio runtime.
    pub(crate) fn new(
        quic: quinn::Connection,
        peer: Option<PeerIdentity>,
        trust: Option<TrustBundle>,
        life: Life,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let verdict = Arc::new(OnceLock::new());
        let guard = tokio::spawn(guard(quic.clone(), life, verdict.clone())).abort_handle();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { id, quic, peer, trust, verdict, guard }))
    }

    /// Who is at the other end; none for a peer that showed no certificate.
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.0.peer.as_ref()
    }

    /// The root that this connection's pin was found to belong to; only on one made to a pin.
    pub fn pinned_trust(&self) -> Option<&TrustBundle> {
        self.0.trust.as_ref()
    }

    /// Where the peer is at the moment. It may move; this is no identity.
    pub fn remote_addr(&self) -> SocketAddr {
        canonical(self.0.quic.remote_address())
    }

    /// The current estimate of the round trip.
    pub fn rtt(&self) -> Duration {
        self.0.quic.rtt()
    }

    /// A number that no other connection of this process has or had.
    pub fn stable_id(&self) -> u64 {
        self.0.id
    }

    /// Opens a channel; waits while the peer's limit of channels is reached. The peer sees it once
    /// something was sent on it. Dropping the future is safe.
    ///
    /// # Errors
    /// The connection is no more.
    pub async fn open(&self) -> Result<Channel, CloseReason> {
        let (send, recv) = self.0.quic.open_bi().await.map_err(|e| self.0.close_reason(&e))?;
        Ok(Channel::new(send, recv, self.0.clone()))
    }

    /// The next channel the peer opened. Dropping the future is safe.
    ///
    /// # Errors
    /// The connection is no more.
    pub async fn accept(&self) -> Result<Channel, CloseReason> {
        let (send, recv) = self.0.quic.accept_bi().await.map_err(|e| self.0.close_reason(&e))?;
        Ok(Channel::new(send, recv, self.0.clone()))
    }

    /// Closes at once; what was not yet delivered may be lost. `code` is 1 to 65535, the reason is for
    /// people and cut at [`MAX_REASON`] bytes.
    pub fn close(&self, code: u32, reason: &str) {
        self.0.quic.close(VarInt::from_u32(code), cut(reason).as_bytes());
    }

    /// Waits for the end. Dropping the future is safe.
    pub async fn closed(&self) -> CloseReason {
        let error = self.0.quic.closed().await;
        self.0.close_reason(&error)
    }

    /// Why the connection is no more; none while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        Some(self.0.close_reason(&self.0.quic.close_reason()?))
    }
}

impl Inner {
    /// Where the peer is, and by which address of this host it is reached, where the system tells.
    pub(crate) fn ends(&self) -> (SocketAddr, Option<IpAddr>) {
        (canonical(self.quic.remote_address()), self.quic.local_ip().map(|ip| ip.to_canonical()))
    }

    pub(crate) fn close_reason(&self, error: &ConnectionError) -> CloseReason {
        match error {
            ConnectionError::LocallyClosed => self.verdict.get().cloned().unwrap_or(CloseReason::Local),
            other => CloseReason::of(other),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.peer().map_or("anonymous".to_owned(), |p| p.spiffe_id().to_string());
        write!(f, "Connection({}, {who}, {})", self.0.id, self.remote_addr())
    }
}

impl CloseReason {
    pub(crate) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Peer {
                code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
                reason: printable(&close.reason),
            },
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::LocallyClosed => Self::Local,
            other => Self::Protocol(printable(other.to_string().as_bytes())),
        }
    }
}

/// Closes the connection when its life is over.
async fn guard(quic: quinn::Connection, life: Life, verdict: Arc<OnceLock<CloseReason>>) {
    let over = tokio::time::timeout(life.left, quic.closed()).await.is_err();
    if !over {
        return;
    }
    let code = match life.end {
        CloseReason::Expired => close_code::EXPIRED,
        _ => close_code::ANONYMOUS_LIFE,
    };
    let reason = life.end.to_string();
    // Said before it is done, so that whoever is woken by the close finds it.
    let _ = verdict.set(life.end);
    quic.close(VarInt::from_u32(code), cut(&reason).as_bytes());
}

/// An IPv4 address as such, also where it came through an IPv6 socket.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Foreign words as text for a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&clean).to_owned()
}

/// A reason of our own, as long as one may be.
pub(crate) fn cut(reason: &str) -> &str {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|&i| reason.is_char_boundary(i));
    reason.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_are_cut_and_made_printable() {
        assert_eq!(printable(b"a\x1b[31m\xff"), "a [31m\u{fffd}");
        assert_eq!(printable("ä".repeat(500).as_bytes()).len(), MAX_REASON);
        assert_eq!(cut(&format!("a{}", "ä".repeat(500))).len(), MAX_REASON - 1);
    }
}
