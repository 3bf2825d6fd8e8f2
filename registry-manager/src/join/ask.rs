//! Asking a registry manager to take this one in, and for a copy.

use super::pending::Pending;
use super::{Join, JoinError, identity_error};
use crate::copies::{self, CopyError};
use crate::failure::in_full;
use crate::server::DENIED;
use crate::versions::greeting;
use echelon_core::endpoint::Endpoint as Place;
use echelon_core::message::{self, Failure, Joined, Request, Response};
use echelon_identity::{CertificateRequest, Credentials, TrustBundle};
use echelon_transport::{
    ConnectError, ConnectProblem, Endpoint, PinnedError, Settings, Target, ask_pinned, resolve,
};
use echelon_wire::{Bytes, MAX_SESSION_FRAME, Wire};
use std::path::Path;
use std::time::Duration;

/// How long a manager may take to answer: it commits one edit, and waits a little before a refusal.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks the managers in order until one answers. Gives the answer and the roots that the token pinned.
pub(super) async fn ask(options: &Join, pending: &Pending) -> Result<(Joined, TrustBundle), JoinError> {
    let request = request(options, pending)?;
    let asked = ask_pinned(&options.managers, options.token.pin, &request, MAX_SESSION_FRAME, DEADLINE);
    let (answer, trust) = asked.await.map_err(|error| match error {
        PinnedError::Bind(e) => e.into(),
        PinnedError::Unreachable(why) => JoinError::Unreachable(why),
        PinnedError::Unknown(why) => JoinError::Unknown(why),
    })?;
    let joined = match Response::decode(&answer) {
        Ok(Response::Joined(joined)) => joined,
        Ok(Response::Failed(failure)) => return Err(JoinError::Refused(Box::new(told(failure, options)))),
        Ok(_) => return Err(JoinError::Answer("it answers another question")),
        Err(e) => return Err(JoinError::Unknown(e.to_string())),
    };
    Ok((joined, trust))
}

/// Of a token that does not do, what kind is needed: a manager does not tell whoever shows a wrong one.
fn told(failure: Failure, options: &Join) -> Failure {
    if failure.error != "token-refused" {
        return failure;
    }
    let remedy = format!(
        "make one on a console: echelon token create --access manager --host {} (with --replace where that host has been a \
         registry manager); the primary's log says what was wrong with this one",
        options.host
    );
    Failure { remedy, ..failure }
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
        greeting: Some(greeting(None)),
    };
    Ok(Request::Join(wish).encode())
}

/// Gets a copy of the registry from the first manager that gives one.
pub(super) async fn fetch(
    options: &Join,
    credentials: &Credentials,
    trust: &TrustBundle,
    copy: &Path,
) -> Result<(), JoinError> {
    let endpoint = Endpoint::bind_client(Some(credentials), Some(trust), Settings::client())?;
    let (mut failures, mut denied) = (Vec::new(), false);
    for manager in &options.managers {
        match fetch_from(&endpoint, manager, copy).await {
            Ok(()) => return Ok(()),
            Err(no_copy) => {
                denied |= no_copy.denied;
                failures.push(format!("{manager}: {}", no_copy.why));
            }
        }
    }
    let why = failures.join("; ");
    Err(if denied { JoinError::Denied(why) } else { CopyError::Refused(why).into() })
}

/// Why one manager gave no copy.
struct NoCopy {
    /// To it this one is no registry manager.
    denied: bool,
    why: String,
}

impl From<String> for NoCopy {
    fn from(why: String) -> Self {
        Self { denied: false, why }
    }
}

async fn fetch_from(endpoint: &Endpoint, manager: &Place, copy: &Path) -> Result<(), NoCopy> {
    let mut no_copy = NoCopy::from("it has no address".to_owned());
    for addr in resolve(manager).await? {
        match endpoint.connect(addr, &Target::AnyManager).await {
            Ok(connection) => {
                return copies::fetch(&connection, copy).await.map_err(|e| in_full(&e).into());
            }
            Err(ConnectError { problem, .. }) => {
                let denied = matches!(problem, ConnectProblem::Rejected { code: DENIED, .. });
                no_copy = NoCopy { denied, why: problem.to_string() };
            }
        }
    }
    Err(no_copy)
}
