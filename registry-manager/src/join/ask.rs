//! Asking a registry manager to take this one in, and for a copy.

use super::pending::Pending;
use super::{Join, JoinError, identity_error};
use crate::copies::{self, CopyError};
use crate::links::resolve;
use echelon_core::endpoint::Endpoint as Address;
use echelon_core::message::{self, Joined, Request, Response};
use echelon_identity::{CertificateRequest, Credentials, TrustBundle};
use echelon_transport::{Connection, Endpoint, Settings, Target};
use echelon_wire::{Bytes, MAX_SESSION_FRAME, Wire};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long a manager may take to answer: it commits one edit, and waits a little before a refusal.
const DEADLINE: Duration = Duration::from_secs(20);

/// With which a connection is closed in good order.
const GOODBYE: u32 = 1;

/// Where one try has got to.
enum Tried {
    /// An answer came, over a connection with these roots.
    Answered(Box<Response>, TrustBundle),
    /// Nothing was sent.
    NotSent(String),
    /// Something was sent, and no answer came.
    NoAnswer(String),
}

/// Asks the managers in order until one answers. Gives the answer and the roots that the token pinned.
pub(super) async fn ask(options: &Join, pending: &Pending) -> Result<(Joined, TrustBundle), JoinError> {
    let request = request(options, pending)?;
    let endpoint = Endpoint::bind_client(None, None, Settings::client())?;
    let (mut sent, mut failures) = (false, Vec::new());
    for manager in &options.managers {
        match try_one(&endpoint, manager, options.token.pin, &request).await {
            Tried::Answered(response, trust) => return answered(*response).map(|joined| (joined, trust)),
            Tried::NotSent(why) => failures.push(format!("{manager}: {why}")),
            Tried::NoAnswer(why) => {
                sent = true;
                failures.push(format!("{manager}: {why}"));
            }
        }
    }
    let why = failures.join("; ");
    Err(if sent { JoinError::Unknown(why) } else { JoinError::Unreachable(why) })
}

fn request(options: &Join, pending: &Pending) -> Result<Bytes, JoinError> {
    let csr = |key| CertificateRequest::new(&key).map(|csr| csr.der().to_vec()).map_err(identity_error);
    let wish = message::Join {
        token: options.token.id,
        secret: *options.token.secret.expose(),
        request: pending.request,
        host: options.host.clone(),
        domain: options.domain.clone(),
        endpoint: options.advertise.clone(),
        csr: csr(pending.key()?)?,
        issuer_csr: csr(pending.issuer_key()?)?,
    };
    Ok(Request::Join(wish).encode())
}

fn answered(response: Response) -> Result<Joined, JoinError> {
    match response {
        Response::Joined(joined) => Ok(joined),
        Response::Failed(failure) => Err(JoinError::Refused(Box::new(failure))),
        _ => Err(JoinError::Answer("it answers another question")),
    }
}

async fn try_one(endpoint: &Endpoint, manager: &Address, pin: [u8; 32], request: &Bytes) -> Tried {
    let connection = match connect(endpoint, manager, &Target::Pinned(pin)).await {
        Ok(connection) => connection,
        Err(why) => return Tried::NotSent(why),
    };
    let Some(trust) = connection.pinned_trust().cloned() else {
        return Tried::NotSent("the connection has no pinned root".into());
    };
    let answer = match timeout(DEADLINE, exchange(&connection, request)).await {
        Ok(Ok(response)) => Tried::Answered(Box::new(response), trust),
        Ok(Err(why)) => Tried::NoAnswer(why),
        Err(_) => Tried::NoAnswer(format!("no answer within {DEADLINE:?}")),
    };
    connection.close(GOODBYE, "done");
    answer
}

async fn connect(endpoint: &Endpoint, manager: &Address, target: &Target) -> Result<Connection, String> {
    let mut why = "it has no address".to_owned();
    for addr in resolve(manager).await? {
        match endpoint.connect(addr, target).await {
            Ok(connection) => return Ok(connection),
            Err(error) => why = error.problem.to_string(),
        }
    }
    Err(why)
}

async fn exchange(connection: &Connection, request: &Bytes) -> Result<Response, String> {
    let mut channel = connection.open().await.map_err(|e| e.to_string())?;
    channel.send(request).await.map_err(|e| e.to_string())?;
    let frame = channel.recv(MAX_SESSION_FRAME).await.map_err(|e| e.to_string())?;
    let frame = frame.ok_or("the manager ended the channel")?;
    Response::decode(&frame).map_err(|e| e.to_string())
}

/// Gets a copy of the registry from the first manager that gives one.
pub(super) async fn fetch(
    options: &Join,
    credentials: &Credentials,
    trust: &TrustBundle,
    copy: &Path,
) -> Result<(), JoinError> {
    let endpoint = Endpoint::bind_client(Some(credentials), Some(trust), Settings::client())?;
    let mut failures = Vec::new();
    for manager in &options.managers {
        let fetched = match connect(&endpoint, manager, &Target::AnyManager).await {
            Ok(connection) => copies::fetch(&connection, copy).await.map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        match fetched {
            Ok(()) => return Ok(()),
            Err(why) => failures.push(format!("{manager}: {why}")),
        }
    }
    Err(CopyError::Refused(failures.join("; ")).into())
}
