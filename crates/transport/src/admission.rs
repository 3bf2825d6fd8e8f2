//! The last word of a handshake.

use echelon_identity::PeerIdentity;
use std::net::SocketAddr;

/// Why somebody is not let in; both reach the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The close code, as for [`crate::Connection::close`].
    pub code: u32,
    /// For people, at most [`crate::limits::MAX_REASON`] bytes.
    pub reason: String,
}

/// Decides whether a peer that proved its identity, or has none, is let in. Asked at the end of every
/// handshake, so that a denial holds from the moment it is known; must answer without blocking.
pub trait Admission: Send + Sync + 'static {
    /// Lets the peer in, or says why not. `peer` is none for one that showed no certificate.
    ///
    /// # Errors
    /// The peer is not let in.
    fn admit(&self, peer: Option<&PeerIdentity>, from: SocketAddr) -> Result<(), Rejection>;
}

/// Lets everybody in whose certificate holds, and everybody without one.
#[derive(Clone, Copy, Debug)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn admit(&self, _: Option<&PeerIdentity>, _: SocketAddr) -> Result<(), Rejection> {
        Ok(())
    }
}

impl<F> Admission for F
where
    F: Fn(Option<&PeerIdentity>, SocketAddr) -> Result<(), Rejection> + Send + Sync + 'static,
{
    fn admit(&self, peer: Option<&PeerIdentity>, from: SocketAddr) -> Result<(), Rejection> {
        self(peer, from)
    }
}
