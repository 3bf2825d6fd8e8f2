//! Asking a registry manager to enrol this host.

use crate::connect::resolve;
use crate::enrol::pending::Pending;
use crate::enrol::{EnrolError, EnrolOptions};
use echelon_core::endpoint::Endpoint as Address;
use echelon_core::message::{Enrol, Enrolled, Request, Response};
use echelon_identity::{CertificateRequest, TrustBundle};
use echelon_transport::{Connection, Endpoint, Settings, Target};
use echelon_wire::{Bytes, MAX_SESSION_FRAME, Wire};
use std::time::Duration;
use tokio::time::timeout;

/// How long a manager may take to answer: it commits one edit, and waits a little before a refusal.
const DEADLINE: Duration = Duration::from_secs(15);

/// With which the connection is closed in good order.
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
pub(crate) async fn ask(
    options: &EnrolOptions,
    pending: &Pending,
) -> Result<(Enrolled, TrustBundle), EnrolError> {
    let request = request(options, pending)?;
    let endpoint = Endpoint::bind_client(None, None, Settings::client())?;
    let (mut sent, mut failures) = (false, Vec::new());
    for manager in &options.managers {
        match try_one(&endpoint, manager, options.token.pin, &request).await {
            Tried::Answered(response, trust) => return answered(*response).map(|enrolled| (enrolled, trust)),
            Tried::NotSent(why) => failures.push(format!("{manager}: {why}")),
            Tried::NoAnswer(why) => {
                sent = true;
                failures.push(format!("{manager}: {why}"));
            }
        }
    }
    let why = failures.join("; ");
    Err(if sent { EnrolError::Unknown(why) } else { EnrolError::Unreachable(why) })
}

fn request(options: &EnrolOptions, pending: &Pending) -> Result<Bytes, EnrolError> {
    let csr = CertificateRequest::new(&pending.key()?)?;
    let wish = Enrol {
        token: options.token.id,
        secret: *options.token.secret.expose(),
        request: pending.request,
        host: options.host.clone(),
        domain: options.domain.clone(),
        csr: csr.der().to_vec(),
    };
    Ok(Request::Enrol(wish).encode())
}

fn answered(response: Response) -> Result<Enrolled, EnrolError> {
    match response {
        Response::Enrolled(enrolled) => Ok(enrolled),
        Response::Failed(failure) => Err(EnrolError::Refused(Box::new(failure))),
        _ => Err(EnrolError::Answer("it answers another question")),
    }
}

async fn try_one(endpoint: &Endpoint, manager: &Address, pin: [u8; 32], request: &Bytes) -> Tried {
    let connection = match connect(endpoint, manager, pin).await {
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

async fn connect(endpoint: &Endpoint, manager: &Address, pin: [u8; 32]) -> Result<Connection, String> {
    let mut why = "it has no address".to_owned();
    for addr in resolve(manager).await.map_err(|e| e.to_string())? {
        match endpoint.connect(addr, &Target::Pinned(pin)).await {
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
