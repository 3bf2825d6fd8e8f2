//! Connections to the nearest live manager of a type.

use crate::agent::{AgentError, LocalAgent};
use crate::handover::{Answer, Silence};
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_core::report::{CandidateReport, CandidateState, RouteReport};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection is sought. The agent gives up after 30 s with the reason, which is worth waiting for.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(35);

/// How long one manager may take where this program connects by itself; the agent's own default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Managers that are then tried. With all of them silent, a program has waited for 16 s.
const MAX_TRIED: usize = 16;

/// Failures that one message names.
const MAX_NAMED: usize = 3;

/// A connection, and to whom. It is this program's own: nothing lies between.
#[derive(Debug)]
pub struct Connection {
    /// The manager's host.
    pub host: HostName,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The connection, with `TCP_NODELAY` set.
    pub stream: TcpStream,
    /// Who made it.
    pub way: Way,
}

/// Who made a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The agent, which handed it over.
    Direct,
    /// This program, by the agent's route: the agent hands nothing over.
    Route,
}

/// Why there is no connection. Nothing is left open; [`Self::is_retriable`] says whether asking again can help.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The agent could not be asked.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// All managers of the type are withdrawn or excluded.
    #[error("{message}")]
    Unserved {
        /// The type.
        ty: ManagerType,
        /// Why.
        message: String,
    },
    /// Every manager that was tried failed.
    #[error("{message}")]
    Unreachable {
        /// The type.
        ty: ManagerType,
        /// Who failed, and how.
        message: String,
    },
    /// The agent gives no connection for another reason.
    #[error("the agent gives no connection ({error}): {message}")]
    Refused {
        /// The reason's name.
        error: String,
        /// What the agent said.
        message: String,
        /// Whether it said that asking again is worth it.
        retriable: bool,
    },
    /// The descriptor cannot be used.
    #[error("what the agent handed over cannot be used; look at this process's limit of open files")]
    Descriptor(#[source] io::Error),
    /// Nothing in time.
    #[error("there was no connection within {} s; ask again, and look at the agent's log", DIAL_TIMEOUT.as_secs())]
    Timeout,
}

impl DialError {
    /// Whether the same call can succeed later without anybody changing the call.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Agent(error) => error.is_retriable(),
            Self::Refused { retriable, .. } => *retriable,
            Self::Unserved { .. } | Self::Unreachable { .. } | Self::Descriptor(_) | Self::Timeout => true,
        }
    }
}

impl LocalAgent {
    /// A connection to the nearest live manager of a type, past managers that refuse or are silent. The agent
    /// makes it and hands it over. Where an agent does not do that, this program connects by itself, one
    /// candidate after the other, in the order of the agent's route.
    ///
    /// Dropping the future gives up; whoever cannot wait long puts a shorter timeout around it.
    ///
    /// # Errors
    /// [`DialError`], after at most 35 s.
    pub async fn connect(&self, ty: &ManagerType) -> Result<Connection, DialError> {
        timeout(DIAL_TIMEOUT, self.dial(ty)).await.map_err(|_| DialError::Timeout)?
    }

    async fn dial(&self, ty: &ManagerType) -> Result<Connection, DialError> {
        match self.handover.ask(ty).await {
            Err(Silence::Connect(error)) if is_absent(&error) => self.dial_by_route(ty).await,
            Err(silence) => Err(silent(silence, self.handover.socket()).into()),
            Ok(answer) => {
                let (host, endpoint, descriptor) = handed(ty, answer)?;
                let stream = taken_over(descriptor).map_err(DialError::Descriptor)?;
                Ok(Connection { host, endpoint, stream, way: Way::Direct })
            }
        }
    }

    async fn dial_by_route(&self, ty: &ManagerType) -> Result<Connection, DialError> {
        let route = self.route(ty).await?;
        let mut failures = Vec::new();
        for candidate in in_order(&route).into_iter().take(MAX_TRIED) {
            let (host, endpoint) = (candidate.host.clone(), candidate.endpoint.clone());
            match connect(&endpoint).await {
                Ok(stream) => return Ok(Connection { host, endpoint, stream, way: Way::Route }),
                Err(error) => failures.push(format!("{host}: {error}")),
            }
        }
        let ty = ty.clone();
        if failures.is_empty() {
            return Err(DialError::Unserved { message: format!("nobody may serve {ty} here"), ty });
        }
        let more = failures.len().saturating_sub(MAX_NAMED);
        failures.truncate(MAX_NAMED);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        let message = format!("no manager of type {ty} can be reached: {}{more}", failures.join("; "));
        Err(DialError::Unreachable { ty, message })
    }
}

/// Whether an agent that runs hands nothing over here. One that does not run is found out by asking its API.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Why there was no answer.
pub(crate) fn silent(silence: Silence, socket: &Path) -> AgentError {
    match silence {
        Silence::Connect(source) => AgentError::Connect { path: socket.to_owned(), source },
        Silence::Lost => AgentError::Ended,
        Silence::Malformed(malformed) => AgentError::Malformed(malformed.into()),
    }
}

/// What was handed over, or why nothing was.
pub(crate) fn handed(ty: &ManagerType, answer: Answer) -> Result<(HostName, Endpoint, OwnedFd), DialError> {
    let refusal = match answer {
        Answer::Handed { host, endpoint, descriptor } => {
            let malformed = |e: echelon_core::name::NameError| AgentError::Malformed(e.into());
            let host = host.parse().map_err(malformed)?;
            let endpoint = endpoint.parse().map_err(malformed)?;
            return Ok((host, endpoint, descriptor));
        }
        Answer::Refused(refusal) => refusal,
    };
    let (ty, message) = (ty.clone(), Text::lossy(&refusal.message).to_string());
    Err(match refusal.error.as_str() {
        "unknown-type" => AgentError::UnknownType { ty }.into(),
        "unserved" => DialError::Unserved { ty, message },
        "unreachable" | "timeout" => DialError::Unreachable { ty, message },
        error => {
            let error = Text::lossy(error).to_string();
            DialError::Refused { error, message, retriable: refusal.retry == "safe" }
        }
    })
}

fn taken_over(descriptor: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(descriptor);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

async fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let port = endpoint.port.get();
    let connecting = async {
        match &endpoint.address {
            Address::Ip(ip) => TcpStream::connect((*ip, port)).await,
            Address::Name(name) => TcpStream::connect((name.as_str(), port)).await,
        }
    };
    let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whom an agent would try, in its order: the chosen one, the other usable ones, suspects, those that are down.
pub(crate) fn in_order(route: &RouteReport) -> Vec<&CandidateReport> {
    let turn = |candidate: &CandidateReport| match candidate.state {
        _ if route.chosen.as_ref().is_some_and(|chosen| chosen.host == candidate.host) => Some(0),
        CandidateState::Live | CandidateState::Unknown => Some(1),
        CandidateState::Suspect => Some(2),
        CandidateState::Down => Some(3),
        CandidateState::Withdrawn | CandidateState::Excluded => None,
    };
    let mut turns: Vec<_> = route.candidates.iter().filter_map(|c| Some((turn(c)?, c))).collect();
    // Keeps the order among equals.
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, candidate)| candidate).collect()
}
