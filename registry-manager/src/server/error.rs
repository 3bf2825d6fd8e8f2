//! Why a manager does not start.

use crate::config::HOST_CERTIFICATES;
use crate::journal::LoadError;
use crate::paths::Paths;
use crate::unfinished::Unfinished;
use echelon_daemon::shell_word;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Why a manager does not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory holds no manager.
    #[error("{0} holds no registry: make one with registry-manager init --state {dir} --framework NAME", dir = shell_word(.0))]
    NoRegistry(String),
    /// The state directory holds no manager yet, or no longer.
    #[error("{0} holds no registry: {1}")]
    Unfinished(String, Unfinished),
    /// The manager of the directory has left.
    #[error(
        "this registry manager is out of the registry: {why}. What it has kept serves nobody; to be a standby again: registry-manager join"
    )]
    Left {
        /// Why.
        why: String,
    },
    /// A setting is out of its range.
    #[error(
        "host_certificates is {given:?}, and may be from {least:?} to {most:?}; correct it in the settings file",
        least = HOST_CERTIFICATES.start(),
        most = HOST_CERTIFICATES.end()
    )]
    HostCertificates {
        /// What it is.
        given: Duration,
    },
    /// The store cannot be used, or its content is no registry.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The journal cannot be taken up.
    #[error("the journal cannot be taken up")]
    Begin(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Keys or certificates cannot be used.
    #[error("the manager's identity cannot be used")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The QUIC endpoint cannot be bound.
    #[error("the manager cannot listen")]
    Bind(#[from] echelon_transport::BindError),
    /// The HTTP listener cannot be bound.
    #[error("metrics and health cannot be served on TCP {addr}; choose another address with --http")]
    Http {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// There is no registry in this state directory.
    pub fn no_registry(state: &Path) -> Self {
        let shown = state.display().to_string();
        match Unfinished::of(&Paths::of(state)) {
            Some(what) => Self::Unfinished(shown, what),
            None => Self::NoRegistry(shown),
        }
    }
}

pub(super) fn identity_error(e: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Identity(Box::new(e))
}
