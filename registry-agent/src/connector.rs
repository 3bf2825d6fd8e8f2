//! Connections to managers of any type, for programs that then have them to themselves.

use crate::dialer::{DialError, Dialer, Parts};
use crate::routes::WantError;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{HostName, ManagerType};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one connection is sought. Thirty managers that are silent for the default `connect_timeout` take
/// under two seconds beside each other; a program that has waited for so long would rather have an error.
const DEADLINE: Duration = Duration::from_secs(30);

/// Connects to the nearest live manager of a type, as a forwarder does: candidates in the order of the route,
/// one that fails is passed over at once, one that is silent is overtaken; what was seen of them is evidence
/// for the routes. Only, nothing lies between afterwards: the connection is the caller's own.
///
/// Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// One for each type that was asked for and exists; bounded by the types that routes are kept for.
    dialers: Mutex<BTreeMap<ManagerType, Arc<Dialer>>>,
}

/// A connection, and to whom.
#[derive(Debug)]
pub struct Connected {
    /// The manager's host.
    pub host: HostName,
    /// The endpoint under which it was reached.
    pub endpoint: Endpoint,
    /// The connection, with `TCP_NODELAY` set.
    pub stream: TcpStream,
}

/// Why there is no connection. Nothing is left open, and what was seen of the managers is known to the
/// routes; [`Self::is_retriable`] says whether asking again can help.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// No manager of the type is in the registry.
    #[error("there is no manager of type {0}; check the name, or add one: echelon package add")]
    UnknownType(ManagerType),
    /// Registry managers speak QUIC with agents and consoles.
    #[error(
        "a registry manager is not reached by connections of programs; use the echelon console, or an agent's API"
    )]
    Registry,
    /// There is no route.
    #[error(transparent)]
    NoRoute(WantError),
    /// All managers of the type are withdrawn or excluded.
    #[error("nobody may serve {ty} here: {cause}")]
    Unserved {
        /// The type.
        ty: ManagerType,
        /// Why.
        cause: String,
    },
    /// Every manager that was tried failed.
    #[error("no manager of type {ty} can be reached: {failures}")]
    Unreachable {
        /// The type.
        ty: ManagerType,
        /// Who failed, and how.
        failures: String,
    },
    /// Nobody had answered in time.
    #[error("no manager of type {ty} answered within {} s", DEADLINE.as_secs())]
    Timeout {
        /// The type.
        ty: ManagerType,
    },
}

impl ConnectError {
    /// Whether the same call can succeed later without anybody changing the call.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::UnknownType(_) | Self::Registry => false,
            Self::NoRoute(WantError::TooMany) => false,
            Self::NoRoute(_) | Self::Unserved { .. } | Self::Unreachable { .. } | Self::Timeout { .. } => {
                true
            }
        }
    }

    /// The name under which programs know it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::UnknownType(_) => "unknown-type",
            Self::Registry => "registry",
            Self::NoRoute(WantError::NoReplica) => "no-replica",
            Self::NoRoute(_) => "no-route",
            Self::Unserved { .. } => "unserved",
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
        }
    }
}

impl Connector {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner { parts, dialers: Mutex::default() }))
    }

    /// A connection to the nearest live manager of `ty`. A manager that refuses is passed over in this very
    /// call. Dropping the future gives up.
    ///
    /// # Errors
    /// [`ConnectError`], after at most 30 s.
    pub async fn connect(&self, ty: &ManagerType) -> Result<Connected, ConnectError> {
        let dialer = match self.known(ty) {
            Some(dialer) => dialer,
            None => self.begin(ty).await?,
        };
        let dialed = timeout(DEADLINE, dialer.dial(None)).await;
        let dialed = dialed.map_err(|_| ConnectError::Timeout { ty: ty.clone() })?;
        match dialed {
            Ok((stream, target)) => Ok(Connected { host: target.name, endpoint: target.endpoint, stream }),
            Err(DialError::Unserved(_)) if !self.exists(ty) => Err(ConnectError::UnknownType(ty.clone())),
            Err(DialError::Unserved(cause)) => {
                Err(ConnectError::Unserved { ty: ty.clone(), cause: cause.to_string() })
            }
            Err(DialError::Unreachable(failures)) => {
                Err(ConnectError::Unreachable { ty: ty.clone(), failures })
            }
        }
    }

    fn known(&self, ty: &ManagerType) -> Option<Arc<Dialer>> {
        self.dialers().get(ty).cloned()
    }

    /// Begins to keep a route for a type. One that does not exist takes up no room.
    async fn begin(&self, ty: &ManagerType) -> Result<Arc<Dialer>, ConnectError> {
        if ty.is_registry() {
            return Err(ConnectError::Registry);
        }
        if self.0.parts.routes.replica().is_none() {
            return Err(ConnectError::NoRoute(WantError::NoReplica));
        }
        if !self.exists(ty) {
            return Err(ConnectError::UnknownType(ty.clone()));
        }
        self.0.parts.routes.want(ty).await.map_err(ConnectError::NoRoute)?;
        let new = || Arc::new(Dialer::new(ty.clone(), self.0.parts.clone()));
        Ok(Arc::clone(self.dialers().entry(ty.clone()).or_insert_with(new)))
    }

    /// Whether the registry has managers of this type.
    fn exists(&self, ty: &ManagerType) -> bool {
        let replica = self.0.parts.routes.replica();
        replica.is_some_and(|replica| replica.view.managers_of(ty).next().is_some())
    }

    fn dialers(&self) -> std::sync::MutexGuard<'_, BTreeMap<ManagerType, Arc<Dialer>>> {
        // Nothing under this lock can leave it half changed.
        self.0.dialers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.dialers().keys().collect::<Vec<_>>()).finish()
    }
}
