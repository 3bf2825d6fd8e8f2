//! One UDP socket, and everything that goes through it.

use crate::accept::{Acceptor, Counters};
use crate::admission::Admission;
use crate::connect::{ConnectError, Target, connect};
use crate::connection::{Connection, cut};
use crate::limits::{GOODBYE, MAX_UNACCEPTED};
use crate::quic;
use crate::settings::Settings;
use crate::socket::{self, SmallBuffers};
use crate::tls::{Material, Trust, certified_key};
use arc_swap::ArcSwap;
use echelon_identity::{Credentials, TrustBundle};
use quinn::{EndpointConfig, ServerConfig, TokioRuntime, VarInt};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What an endpoint is for.
#[derive(Clone)]
pub enum Role {
    /// It only connects. It may have no identity yet, and trust nobody yet.
    Client,
    /// It accepts whoever `admission` lets in, and may connect as well. It must have an identity and
    /// roots before anybody can connect to it.
    Server(Arc<dyn Admission>),
}

/// Why there is no endpoint. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused the socket.
    #[error(
        "cannot use UDP {addr}; check that it is this host's address and that nothing else uses the port"
    )]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key or the roots cannot be used.
    #[error("the endpoint's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// A server without identity or roots.
    #[error("a server needs an identity and trusted roots; make or load them first")]
    Nobody,
}

/// Why a key or roots cannot be used. What was used before stays in use.
#[derive(Debug, thiserror::Error)]
#[error("the TLS library does not take this key or these roots; the ones in use stay so")]
pub struct IdentityError(#[source] rustls::Error);

/// What became of those who connected here, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Connections that were let in.
    pub accepted: u64,
    /// Handshakes that failed or were refused.
    pub failed: u64,
    /// Clients that had to prove their address first, because many came at once.
    pub validated: u64,
    /// Connections open at the moment, both ways.
    pub open: usize,
}

/// One UDP socket that makes and, as a server, accepts connections. Clones share it; when the last one
/// is gone, nobody is accepted any more, and open connections go on.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    shared: Shared,
    server: Option<Server>,
    addr: SocketAddr,
    inode: u64,
    small_buffers: Option<SmallBuffers>,
}

/// What connecting needs.
pub(crate) struct Shared {
    pub(crate) quic: quinn::Endpoint,
    pub(crate) settings: Settings,
    pub(crate) material: ArcSwap<Material>,
}

struct Server {
    /// The configuration in use; replaced together with the material.
    config: Mutex<ServerConfig>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
    counters: Arc<Counters>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    /// Binds `addr` (port 0: any) as whoever `credentials` say, trusting `trust`. Must run inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// The address cannot be used, the key or the roots cannot, or a server lacks them.
    pub fn bind(
        addr: SocketAddr,
        role: Role,
        credentials: Option<&Credentials>,
        trust: Option<&TrustBundle>,
        settings: Settings,
    ) -> Result<Self, BindError> {
        let material = Material {
            identity: credentials.map(certified_key).transpose().map_err(IdentityError)?,
            trust: trust.map(Trust::new).transpose().map_err(IdentityError)?,
        };
        let config = match (&role, &material) {
            (Role::Client, _) => None,
            (Role::Server(_), Material { identity: Some(identity), trust: Some(trust) }) => {
                Some(quic::server(identity.clone(), trust, &settings))
            }
            (Role::Server(_), _) => return Err(BindError::Nobody),
        };
        let fail = |source| BindError::Socket { addr, source };
        let (socket, small_buffers) = socket::bind(addr, settings.socket_buffer).map_err(fail)?;
        let (addr, inode) = (socket.local_addr().map_err(fail)?, socket::inode(&socket).map_err(fail)?);
        let runtime = Arc::new(TokioRuntime);
        let quic = quinn::Endpoint::new(EndpointConfig::default(), config.clone(), socket, runtime);
        let material = ArcSwap::from_pointee(material);
        let shared = Shared { quic: quic.map_err(fail)?, settings, material };
        let server = match (role, config) {
            (Role::Server(admission), Some(config)) => Some(shared.serve(admission, config)),
            _ => None,
        };
        Ok(Self(Arc::new(Inner { shared, server, addr, inode, small_buffers })))
    }

    /// A client on any free port, for IPv6 and IPv4 where the system has both.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn bind_client(
        credentials: Option<&Credentials>,
        trust: Option<&TrustBundle>,
        settings: Settings,
    ) -> Result<Self, BindError> {
        let bind = |ip: IpAddr| {
            Self::bind(SocketAddr::new(ip, 0), Role::Client, credentials, trust, settings.clone())
        };
        match bind(Ipv6Addr::UNSPECIFIED.into()) {
            // A system without IPv6.
            Err(BindError::Socket { .. }) => bind(Ipv4Addr::UNSPECIFIED.into()),
            done => done,
        }
    }

    /// The address that was bound, with the port that was given for 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// Connects to the manager at `addr`, if it is who `target` says. Returns once it has let us in.
    /// Dropping the future gives up.
    ///
    /// # Errors
    /// [`ConnectError`]; trying again is safe.
    pub async fn connect(&self, addr: SocketAddr, target: &Target) -> Result<Connection, ConnectError> {
        connect(&self.0.shared, addr, target).await.map_err(|problem| ConnectError { addr, problem })
    }

    /// The next peer that was let in; none once the endpoint is closed, and for a client always.
    /// Dropping the future is safe.
    pub async fn accept(&self) -> Option<Connection> {
        let server = self.0.server.as_ref()?;
        server.accepted.lock().await.recv().await
    }

    /// From now on this key and chain are shown to new peers; open connections keep theirs.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn set_identity(&self, credentials: &Credentials) -> Result<(), IdentityError> {
        let identity = certified_key(credentials).map_err(IdentityError)?;
        self.replace(|old| Material { identity: Some(identity.clone()), trust: old.trust.clone() });
        Ok(())
    }

    /// From now on these roots are trusted for new peers; open connections go on.
    ///
    /// # Errors
    /// The roots cannot be used.
    pub fn set_trust(&self, trust: &TrustBundle) -> Result<(), IdentityError> {
        let trust = Trust::new(trust).map_err(IdentityError)?;
        self.replace(|old| Material { identity: old.identity.clone(), trust: Some(trust.clone()) });
        Ok(())
    }

    /// How many datagrams the kernel has dropped because the socket's receive buffer was full; none where
    /// the system does not tell.
    pub fn socket_drops(&self) -> Option<u64> {
        socket::drops(self.0.inode).ok().flatten()
    }

    /// The socket's buffers, where the system gives less than was asked for.
    pub fn small_buffers(&self) -> Option<SmallBuffers> {
        self.0.small_buffers
    }

    /// What became of those who connected here.
    pub fn stats(&self) -> EndpointStats {
        let open = self.0.shared.quic.open_connections();
        let Some(server) = &self.0.server else {
            return EndpointStats { open, ..EndpointStats::default() };
        };
        let counters = &server.counters;
        let [accepted, failed, validated] =
            [&counters.accepted, &counters.failed, &counters.validated].map(|c| c.load(Ordering::Relaxed));
        EndpointStats { accepted, failed, validated, open }
    }

    /// Closes every connection with this code and reason, accepts nobody any more, and waits up to
    /// [`GOODBYE`] for the peers to be told.
    pub async fn close(&self, code: u32, reason: &str) {
        self.0.shared.quic.close(VarInt::from_u32(code), cut(reason).as_bytes());
        // Whoever could not be told finds out by silence.
        let _ = tokio::time::timeout(GOODBYE, self.0.shared.quic.wait_idle()).await;
    }

    /// Swaps the material, and a server's configuration with it.
    fn replace(&self, new: impl Fn(&Material) -> Material) {
        let shared = &self.0.shared;
        let Some(server) = &self.0.server else {
            shared.material.rcu(|old| new(old));
            return;
        };
        // The lock keeps two replacements from undoing each other.
        let mut config = server.config.lock().unwrap_or_else(PoisonError::into_inner);
        let material = new(&shared.material.load());
        if let Material { identity: Some(identity), trust: Some(trust) } = &material {
            *config = quic::replace_crypto(&config, identity.clone(), trust);
            shared.quic.set_server_config(Some(config.clone()));
        }
        shared.material.store(Arc::new(material));
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.0.addr)
    }
}

impl Shared {
    fn serve(&self, admission: Arc<dyn Admission>, config: ServerConfig) -> Server {
        let (sender, accepted) = mpsc::channel(MAX_UNACCEPTED);
        let counters = Arc::new(Counters::default());
        let acceptor = Acceptor {
            quic: self.quic.clone(),
            settings: self.settings.clone(),
            admission,
            counters: counters.clone(),
            accepted: sender,
        };
        let task = tokio::spawn(acceptor.run()).abort_handle();
        Server { config: Mutex::new(config), accepted: tokio::sync::Mutex::new(accepted), counters, task }
    }
}
