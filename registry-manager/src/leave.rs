//! Leaving: a standby asks the others to take it out of the registry.

use crate::clock::unix_now;
use crate::failure::in_full;
use crate::init::load_issuer;
use crate::left;
use crate::limits::{LINK_DEADLINE, RELAY_DEADLINE};
use crate::lineage::{LineageError, registry_in};
use crate::links::others_of;
use crate::paths::Paths;
use crate::server::{DENIED, own_credentials};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::{HostId, RequestId};
use echelon_core::message::{Failure, FailureClass, Request, Response};
use echelon_core::name::HostName;
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_identity::file::FileError;
use echelon_identity::{Credentials, IdentityDirectory, TrustBundle};
use echelon_store::{RegistryStore, StoreError};
use echelon_transport::{ConnectProblem, Connection, Endpoint as Socket, Settings, Target, resolve};
use echelon_wire::{MAX_EDIT_FRAME, Wire};
use std::time::Duration;
use tokio::time::timeout;
use uuid::Uuid;

/// How often each manager is asked: the second time tells what became of an answer that was lost on its way.
const ROUNDS: usize = 2;

/// How long a manager may take to answer: it may wait for the primary itself.
const ANSWER: Duration = RELAY_DEADLINE.saturating_add(Duration::from_secs(5));

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The registry manager on this host has left.
    Left(HostName),
    /// The others say that it is none of them: it has left before, or was removed.
    WasOut(HostName),
}

/// Why the manager has not left, as far as is known. Leaving again is safe.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// Its registry cannot be read.
    #[error("the manager's registry cannot be read; nothing was changed")]
    Store(#[from] StoreError),
    /// It contradicts itself.
    #[error(transparent)]
    Registry(#[from] LineageError),
    /// Its identity cannot be used.
    #[error("the manager's identity cannot be used; nothing was changed")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No socket.
    #[error("no socket could be opened; nothing was changed")]
    Socket(#[from] echelon_transport::BindError),
    /// The others refuse.
    #[error("{}; nothing was changed; {}", .0.message, .0.remedy)]
    Refused(Box<Failure>),
    /// None of them has answered.
    #[error(
        "no registry manager has said that this one may leave: {0}; once the primary can be reached, leave again; or there: echelon manager remove {1} --accept-loss"
    )]
    Unreachable(String, HostName),
    /// The directory cannot be marked.
    #[error("the manager has left, and its state directory could not be marked; leave again")]
    Mark(#[from] FileError),
}

fn identity_error(e: impl std::error::Error + Send + Sync + 'static) -> LeaveError {
    LeaveError::Identity(Box::new(e))
}

/// What one manager has said.
enum Said {
    Done,
    /// The registry has this manager no more: an earlier wish of ours has come about.
    Out,
    /// It does not let us in: we are no manager to it.
    Denied,
    Failed(Box<Failure>),
    /// Nothing, after it was or was not asked.
    Nothing {
        asked: bool,
        why: String,
    },
}

impl Said {
    fn by(answer: Response) -> Self {
        match answer {
            Response::Edited(_) => Self::Done,
            Response::Failed(failure) => match failure.error.as_str() {
                "unknown-identity" => Self::Denied,
                // Said once that is committed; whoever let us in had not heard of it a moment ago.
                "no-registry-manager" => Self::Out,
                _ => Self::Failed(Box::new(failure)),
            },
            _ => Self::Nothing { asked: true, why: "it answered something else".into() },
        }
    }
}

/// Takes the manager of a state directory, which may run, out of the registry, and marks the directory.
///
/// # Errors
/// See [`LeaveError`].
pub async fn leave(paths: &Paths) -> Result<Outcome, LeaveError> {
    let store = RegistryStore::open(&paths.registry())?;
    // With its last entries: one of them may be that it has joined.
    let registry = registry_in(&store)?;
    let primary = store.grants().head().holder;
    drop(store);
    let issuer = load_issuer(paths).map_err(LeaveError::Identity)?;
    let directory = IdentityDirectory::open(&paths.identity()).map_err(identity_error)?;
    let (credentials, host) =
        own_credentials(&directory, &issuer).map_err(|e| LeaveError::Identity(Box::new(e)))?;
    let name = registry.host(host).map(|row| row.name.clone());
    let name = name.unwrap_or_else(|| host.to_string().parse().expect("an id is a valid name"));
    let mut others = others_of(&registry, host);
    if primary == host {
        return Err(refused(&registry, &others, name));
    }
    others.sort_by_key(|(host, _)| *host != primary);
    let outcome = ask_in_turn(&registry, &credentials, primary, &others, name).await?;
    let why = match &outcome {
        Outcome::Left(_) => "it left",
        Outcome::WasOut(_) => "it was removed",
    };
    left::mark(paths, &format!("{why}, as it was told at {}", unix_now()))?;
    Ok(outcome)
}

/// What the registry would say to its primary.
fn refused(registry: &Registry, others: &[(HostId, Endpoint)], host: HostName) -> LeaveError {
    let standby = others.first().and_then(|(other, _)| registry.host(*other)).map(|row| row.name.clone());
    LeaveError::Refused(Box::new(Failure::from(&Refusal::ManagerIsPrimary { host, standby })))
}

async fn ask_in_turn(
    registry: &Registry,
    credentials: &Credentials,
    primary: HostId,
    others: &[(HostId, Endpoint)],
    name: HostName,
) -> Result<Outcome, LeaveError> {
    let trust = TrustBundle::new(registry.meta().trust.clone()).map_err(identity_error)?;
    let socket = Socket::bind_client(Some(credentials), Some(&trust), Settings::client())?;
    // One for all: whoever carries it out, it is one edit.
    let request = RequestId(Uuid::now_v7());
    let (mut was_asked, mut problem) = (false, "it knows of none".to_owned());
    for (host, endpoint) in std::iter::repeat_n(others, ROUNDS).flatten() {
        match ask(&socket, *host, endpoint, request).await {
            Said::Done => return Ok(Outcome::Left(name)),
            Said::Out => return Ok(Outcome::WasOut(name)),
            // It has come about, and the answer was cut off together with the connection.
            Said::Denied if was_asked => return Ok(Outcome::Left(name)),
            Said::Denied if *host == primary => return Ok(Outcome::WasOut(name)),
            Said::Denied => problem = format!("{endpoint} does not know this manager"),
            Said::Failed(failure) => match failure.class {
                FailureClass::Unreachable | FailureClass::Unknown => {
                    was_asked = true;
                    problem = failure.message;
                }
                _ => return Err(LeaveError::Refused(failure)),
            },
            Said::Nothing { asked, why } => {
                was_asked |= asked;
                problem = format!("{endpoint}: {why}");
            }
        }
    }
    Err(LeaveError::Unreachable(problem, name))
}

async fn ask(socket: &Socket, host: HostId, endpoint: &Endpoint, request: RequestId) -> Said {
    let connection = match connect(socket, host, endpoint).await {
        Ok(connection) => connection,
        Err(said) => return said,
    };
    match timeout(ANSWER, exchange(&connection, request)).await {
        Ok(Ok(answer)) => Said::by(answer),
        Ok(Err(why)) => Said::Nothing { asked: true, why },
        Err(_) => Said::Nothing { asked: true, why: "it does not answer".into() },
    }
}

async fn connect(socket: &Socket, host: HostId, endpoint: &Endpoint) -> Result<Connection, Said> {
    let nothing = |why| Said::Nothing { asked: false, why };
    let mut problem = "it has no address".to_owned();
    for addr in resolve(endpoint).await.map_err(nothing)? {
        match timeout(LINK_DEADLINE, socket.connect(addr, &Target::Manager(host))).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(e)) if matches!(e.problem, ConnectProblem::Rejected { code: DENIED, .. }) => {
                return Err(Said::Denied);
            }
            Ok(Err(e)) => problem = e.problem.to_string(),
            Err(_) => problem = "it does not answer".into(),
        }
    }
    Err(nothing(problem))
}

async fn exchange(connection: &Connection, request: RequestId) -> Result<Response, String> {
    let mut channel = connection.open().await.map_err(|e| in_full(&e))?;
    channel.send(&Request::Leave { request }.encode()).await.map_err(|e| in_full(&e))?;
    let answer = channel.recv(MAX_EDIT_FRAME).await.map_err(|e| in_full(&e))?;
    Response::decode(&answer.ok_or("it ended the channel")?).map_err(|e| in_full(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: a leave that was broken off is done when it is repeated, also while the first one is being committed.
    #[test]
    fn whoever_is_told_that_there_is_no_such_manager_has_left() {
        let host: HostName = "spare".parse().expect("a valid name");
        let refused = Failure::from(&Refusal::NoRegistryManager { host: host.clone() });
        assert!(matches!(Said::by(Response::Failed(refused)), Said::Out));
        let refused = Failure::from(&Refusal::ManagerIsPrimary { host, standby: None });
        assert!(matches!(Said::by(Response::Failed(refused)), Said::Failed(_)));
    }
}
