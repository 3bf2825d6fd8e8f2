//! Making a connection, and every way in which that fails.

use crate::connection::{CloseReason, Connection, Life};
use crate::endpoint::Shared;
use crate::quic;
use crate::tls::Material;
use crate::verify::{Expectation, ServerVerifier};
use echelon_core::id::HostId;
use echelon_core::name::FrameworkName;
use echelon_identity::trust::root_hash;
use echelon_identity::{PeerIdentity, TrustBundle};
use quinn::ConnectionError;
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

/// The library wants a name to connect to; it is not sent, and nothing depends on it.
const NO_NAME: &str = "registry-manager";

/// QUIC's code for "no" without a reason (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 0x2;

/// QUIC's codes from here on, 256 of them, are TLS alerts (RFC 9001, section 4.8).
const ALERTS: u64 = 0x100;

/// Whom a connection is meant to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any manager of the framework that is trusted here.
    AnyManager,
    /// The manager on this host.
    Manager(HostId),
    /// Any manager whose chain ends in the root with this hash (BLAKE3 of the certificate), as a join
    /// token pins it. No identity is shown to it.
    Pinned([u8; 32]),
}

/// Why the certificate that a manager showed is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Signed by nobody who is trusted here.
    #[error("the manager's certificate is not signed by this framework's authority")]
    Unsigned,
    /// Run out, or not begun.
    #[error("the manager's certificate has expired or is not valid yet; check the clocks of both hosts")]
    Time,
    /// Of another framework.
    #[error("the manager belongs to the framework {found}")]
    Framework {
        /// The framework.
        found: FrameworkName,
    },
    /// Not a manager's.
    #[error("whoever answers there is no registry manager; check the address")]
    NotManager,
    /// Another manager's.
    #[error("the manager there is {found}, not {expected}")]
    OtherManager {
        /// The one meant.
        expected: HostId,
        /// The one found.
        found: HostId,
    },
    /// The pinned root is not in its chain.
    #[error("the join token is for another authority than the manager's; check the address and the token")]
    Pin,
    /// Not readable, or not what this system issues.
    #[error("the manager's certificate is not one that this system issues")]
    Unreadable,
}

impl Distrust {
    /// What is wrong with a chain.
    pub(crate) fn of_chain(error: &rustls::Error) -> Self {
        use CertificateError as E;
        let rustls::Error::InvalidCertificate(error) = error else {
            return Self::Unreadable;
        };
        match error {
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                Self::Time
            }
            E::UnknownIssuer | E::BadSignature => Self::Unsigned,
            // Only managers' certificates are for servers.
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::NotManager,
            _ => Self::Unreadable,
        }
    }

    /// The same for the TLS library, which tells the peer.
    pub(crate) fn to_tls(&self) -> rustls::Error {
        match self {
            Self::Unsigned | Self::Pin => CertificateError::UnknownIssuer,
            Self::Time => CertificateError::Expired,
            Self::Unreadable => CertificateError::BadEncoding,
            Self::Framework { .. } | Self::NotManager | Self::OtherManager { .. } => {
                CertificateError::ApplicationVerificationFailure
            }
        }
        .into()
    }
}

/// Why a manager does not believe our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Run out, or not begun.
    #[error("it has expired or is not valid yet; check the clocks of both hosts, or enrol anew")]
    Time,
    /// Signed by nobody who is trusted there.
    #[error("it is not signed by that manager's authority; check the address, or enrol anew")]
    Unsigned,
    /// Anything else.
    #[error("it is not acceptable there (TLS alert {alert}); enrol anew")]
    Other {
        /// The alert's number (RFC 8446, section 6.2).
        alert: u8,
    },
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectProblem {
    /// Nothing came back.
    #[error("no answer within {} s; check the address, the manager, and that UDP is let through", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The address cannot be connected to from this endpoint.
    #[error("this address cannot be reached from the local one; check the address family and the port")]
    Address,
    /// The manager's certificate is not believed.
    #[error("{0}")]
    Distrust(Distrust),
    /// The manager does not believe ours.
    #[error("the manager refused our certificate: {0}")]
    Refused(Refusal),
    /// The manager knows who we are and does not let us in.
    #[error("the manager closed the connection (code {code}): {reason}")]
    Rejected {
        /// Its code.
        code: u32,
        /// Its words, printable.
        reason: String,
    },
    /// The manager takes no connections at the moment.
    #[error("the manager takes no connections at the moment; try again later")]
    Busy,
    /// Whoever answers speaks something else.
    #[error("whoever answers there does not speak this protocol; check the port and the versions")]
    Protocol,
    /// There are no roots to check anybody against.
    #[error("no authority is trusted here yet; enrol first")]
    NoTrust,
    /// This endpoint is closed.
    #[error("this endpoint is closed")]
    Closed,
    /// The handshake broke in another way.
    #[error("the handshake failed: {0}")]
    Handshake(String),
}

/// Why there is no connection to a manager. Nothing was sent to it but the handshake; trying again is
/// safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to the manager at {addr}: {problem}")]
pub struct ConnectError {
    /// Where it was tried.
    pub addr: SocketAddr,
    /// What went wrong.
    pub problem: ConnectProblem,
}

/// Connects, and returns once the server has let us in.
pub(crate) async fn connect(
    shared: &Shared,
    addr: SocketAddr,
    target: &Target,
) -> Result<Connection, ConnectProblem> {
    let material = shared.material.load();
    let identity = material.identity.clone().filter(|_| !matches!(target, Target::Pinned(_)));
    let (verifier, distrust) = ServerVerifier::new(expectation(target, &material)?);
    let config = quic::client(identity, verifier, &shared.settings);
    let connecting = shared.quic.connect_with(config, addr, NO_NAME).map_err(|e| cannot_begin(&e))?;
    let handshake = async {
        let quic = connecting.await?;
        // The server's welcome. Without it we would not know whether our certificate was believed: TLS
        // 1.3 is done for the client before the server has looked at it.
        quic.accept_uni().await?;
        Ok(quic)
    };
    let limit = shared.settings.handshake;
    let quic = match tokio::time::timeout(limit, handshake).await {
        Ok(done) => done.map_err(|e| problem(&e, &distrust, limit))?,
        Err(_) => return Err(ConnectProblem::TimedOut(limit)),
    };
    let chain = peer_chain(&quic);
    let peer =
        PeerIdentity::from_chain(&chain).map_err(|_| ConnectProblem::Distrust(Distrust::Unreadable))?;
    let trust = match target {
        Target::Pinned(pin) => Some(pinned_root(&chain, pin)?),
        Target::AnyManager | Target::Manager(_) => None,
    };
    let life = Life::until(peer.not_after);
    Ok(Connection::new(quic, Some(peer), trust, life))
}

/// The certificates that the peer showed, leaf first; none where it showed none.
pub(crate) fn peer_chain(quic: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let any = quic.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    any.map(|chain| *chain).unwrap_or_default()
}

fn expectation(target: &Target, material: &Material) -> Result<Expectation, ConnectProblem> {
    let id = match target {
        Target::Pinned(pin) => return Ok(Expectation::Pinned(*pin)),
        Target::AnyManager => None,
        Target::Manager(id) => Some(*id),
    };
    let trust = material.trust.as_ref().ok_or(ConnectProblem::NoTrust)?;
    Ok(Expectation::Manager { roots: trust.roots.clone(), framework: trust.framework.clone(), id })
}

/// The root that was pinned, from a chain that was verified up to it.
fn pinned_root(chain: &[CertificateDer<'_>], pin: &[u8; 32]) -> Result<TrustBundle, ConnectProblem> {
    let root = chain.iter().find(|c| root_hash(c) == *pin);
    root.and_then(|root| TrustBundle::new(vec![root.to_vec()]).ok())
        .ok_or(ConnectProblem::Distrust(Distrust::Unreadable))
}

fn cannot_begin(error: &quinn::ConnectError) -> ConnectProblem {
    match error {
        quinn::ConnectError::InvalidRemoteAddress(_) => ConnectProblem::Address,
        quinn::ConnectError::EndpointStopping => ConnectProblem::Closed,
        other => ConnectProblem::Handshake(other.to_string()),
    }
}

fn problem(error: &ConnectionError, distrust: &OnceLock<Distrust>, limit: Duration) -> ConnectProblem {
    if let Some(distrust) = distrust.get() {
        return ConnectProblem::Distrust(distrust.clone());
    }
    match error {
        ConnectionError::TimedOut => ConnectProblem::TimedOut(limit),
        ConnectionError::LocallyClosed => ConnectProblem::Closed,
        ConnectionError::VersionMismatch => ConnectProblem::Protocol,
        ConnectionError::ConnectionClosed(close) => said_no(u64::from(close.error_code), error),
        ConnectionError::TransportError(own) => own_failure(u64::from(own.code), error),
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset | ConnectionError::CidsExhausted => {
            match CloseReason::of(error) {
                CloseReason::Peer { code, reason } => ConnectProblem::Rejected { code, reason },
                other => ConnectProblem::Handshake(other.to_string()),
            }
        }
    }
}

/// What the server's library told us, by its code.
fn said_no(code: u64, error: &ConnectionError) -> ConnectProblem {
    if code == CONNECTION_REFUSED {
        return ConnectProblem::Busy;
    }
    // Numbers from RFC 8446, section 6, and RFC 7301, section 3.2.
    match code.checked_sub(ALERTS).and_then(|alert| u8::try_from(alert).ok()) {
        Some(45) => ConnectProblem::Refused(Refusal::Time),
        Some(48 | 51) => ConnectProblem::Refused(Refusal::Unsigned),
        Some(alert @ (42..=44 | 46 | 49 | 116)) => ConnectProblem::Refused(Refusal::Other { alert }),
        Some(70 | 120) => ConnectProblem::Protocol,
        _ => ConnectProblem::Handshake(CloseReason::of(error).to_string()),
    }
}

/// What our own library found wrong with the server, other than its certificate.
fn own_failure(code: u64, error: &ConnectionError) -> ConnectProblem {
    match code.checked_sub(ALERTS) {
        Some(70 | 120) => ConnectProblem::Protocol,
        _ => ConnectProblem::Handshake(CloseReason::of(error).to_string()),
    }
}
