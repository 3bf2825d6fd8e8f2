//! Who this agent is, whom it trusts, and the socket it connects from.

use crate::clock::unix_now;
use arc_swap::ArcSwap;
use echelon_core::id::HostId;
use echelon_core::time::UnixMillis;
use echelon_core::view::View;
use echelon_identity::chain::ChainError;
use echelon_identity::credentials::CredentialsError;
use echelon_identity::directory::DirectoryError;
use echelon_identity::lifetime::BACKDATE;
use echelon_identity::peer::CertificateError;
use echelon_identity::{CertificateChain, Credentials, IdentityDirectory, PeerIdentity, Spiffe, TrustBundle};
use echelon_transport::{BindError, Endpoint, Settings};
use std::sync::Arc;
use std::time::Duration;

/// How long a handshake with a manager may take: with the first datagram lost twice it takes 1 s, and on
/// a machine where hundreds of agents start at once some more.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Why an identity cannot be used, or not replaced. What was used before stays in use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The files.
    #[error("the identity of this host cannot be read or written")]
    Directory(#[from] DirectoryError),
    /// The socket.
    #[error("no socket for the registry could be opened")]
    Bind(#[from] BindError),
    /// The certificate.
    #[error("the certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// Not an agent's.
    #[error("the certificate is {0}'s, not a host's; enrol this host with a token of access agent")]
    NotAHost(Spiffe),
    /// Somebody else's.
    #[error("the new certificate is for somebody else; it was thrown away")]
    Changed,
    /// Not one that this system trusts.
    #[error("the new certificate is not trusted; it was thrown away")]
    Chain(#[from] ChainError),
    /// For another key.
    #[error("the new certificate was thrown away")]
    Credentials(#[from] CredentialsError),
    /// TLS does not take it.
    #[error("TLS does not take the new certificate or roots")]
    Tls(#[from] echelon_transport::IdentityError),
    /// The write did not run to its end.
    #[error("the agent is stopping")]
    Stopping,
}

/// The agent's identity in use.
pub(crate) struct Identity {
    directory: IdentityDirectory,
    endpoint: Endpoint,
    credentials: ArcSwap<Credentials>,
    peer: ArcSwap<PeerIdentity>,
    trust: ArcSwap<TrustBundle>,
    /// The newest view, which says which managers and issuers count.
    view: ArcSwap<View>,
    host: HostId,
}

impl Identity {
    /// Loads the identity and opens a socket for it. Must run inside a tokio runtime.
    pub(crate) fn open(directory: IdentityDirectory) -> Result<Self, IdentityError> {
        let (credentials, trust) = (directory.load_credentials()?, directory.load_trust()?);
        let peer = credentials.peer()?;
        let host = host_of(&peer)?;
        let settings = Settings { handshake: HANDSHAKE, ..Settings::client() };
        let endpoint = Endpoint::bind_client(Some(&credentials), Some(&trust), settings)?;
        Ok(Self {
            directory,
            endpoint,
            credentials: ArcSwap::from_pointee(credentials),
            peer: ArcSwap::from_pointee(peer),
            trust: ArcSwap::from_pointee(trust),
            view: ArcSwap::default(),
            host,
        })
    }

    /// The host's id.
    pub(crate) fn host(&self) -> HostId {
        self.host
    }

    /// Where connections are made from.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The key and the chain in use.
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.load_full()
    }

    /// What the certificate in use says.
    pub(crate) fn peer(&self) -> Arc<PeerIdentity> {
        self.peer.load_full()
    }

    /// The roots in use.
    pub(crate) fn roots(&self) -> Arc<TrustBundle> {
        self.trust.load_full()
    }

    /// Whether the certificate has run out.
    pub(crate) fn is_expired(&self) -> bool {
        self.peer().not_after <= unix_now()
    }

    /// Goes by this view from now on.
    pub(crate) fn follow(&self, view: &View) {
        self.view.store(Arc::new(view.clone()));
    }

    /// Whether the certificate is to be renewed before anything else: it has run out, or whoever signed it has left.
    pub(crate) fn must_renew(&self) -> bool {
        self.is_expired() || self.view.load().has_left(self.peer().issuer)
    }

    /// Whether the view knows nothing against this manager.
    pub(crate) fn counts(&self, manager: &PeerIdentity) -> bool {
        match &manager.subject {
            Spiffe::Manager(host) => {
                self.view.load().counts_manager(*host, manager.enrolment, manager.issuer)
            }
            Spiffe::Host(_) | Spiffe::Console(_) => false,
        }
    }

    /// How long the certificate still holds.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_millis(self.peer().not_after.0.saturating_sub(unix_now().0))
    }

    /// How long the certificate was to hold when it was issued. It begins an hour before its issue, so that
    /// its own limits are no measure for short-lived ones.
    pub(crate) fn life(&self) -> Duration {
        let peer = self.peer();
        let issued = (peer.not_before + BACKDATE).min(peer.not_after);
        Duration::from_millis(peer.not_after.0.saturating_sub(issued.0))
    }

    /// When to renew: half-way between issue and end.
    pub(crate) fn renew_at(&self) -> UnixMillis {
        self.peer().not_after - self.life() / 2
    }

    /// Takes a new certificate for the same key: to disk first, then into use for new connections.
    pub(crate) async fn renew(self: &Arc<Self>, chain: Vec<Vec<u8>>) -> Result<(), IdentityError> {
        let chain = CertificateChain::new(chain)?;
        chain.verify(&self.trust.load(), unix_now())?;
        let peer = chain.peer()?;
        let old = self.peer();
        if (&peer.framework, &peer.subject) != (&old.framework, &old.subject) {
            return Err(IdentityError::Changed);
        }
        let credentials = Credentials::new(self.credentials().key().clone(), chain)?;
        let (this, kept) = (Arc::clone(self), credentials.clone());
        on_disk(move || this.directory.save_credentials(&kept)).await?;
        self.endpoint.set_identity(&credentials)?;
        self.credentials.store(Arc::new(credentials));
        self.peer.store(Arc::new(peer));
        Ok(())
    }

    /// Takes new roots, if they are of the same framework: to disk first, then into use for new
    /// connections. Says whether they are new.
    pub(crate) async fn trust(self: &Arc<Self>, roots: &[Vec<u8>]) -> Result<bool, IdentityError> {
        let old = self.trust.load_full();
        if roots.is_empty() || roots == old.roots() {
            return Ok(false);
        }
        let trust = TrustBundle::new(roots.to_vec()).map_err(|_| IdentityError::Changed)?;
        if trust.framework() != old.framework() {
            return Err(IdentityError::Changed);
        }
        let (this, kept) = (Arc::clone(self), trust.clone());
        on_disk(move || this.directory.save_trust(&kept)).await?;
        self.endpoint.set_trust(&trust)?;
        self.trust.store(Arc::new(trust));
        Ok(true)
    }
}

/// The host that this certificate is for.
fn host_of(peer: &PeerIdentity) -> Result<HostId, IdentityError> {
    match &peer.subject {
        Spiffe::Host(id) => Ok(*id),
        other => Err(IdentityError::NotAHost(other.clone())),
    }
}

/// Runs what waits for the disk where it holds nobody up.
async fn on_disk(
    work: impl FnOnce() -> Result<(), DirectoryError> + Send + 'static,
) -> Result<(), IdentityError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(IdentityError::Stopping),
    }
}
