//! Asking a registry manager to enrol this host.

use crate::enrol::pending::Pending;
use crate::enrol::{EnrolError, EnrolOptions};
use echelon_core::message::{Enrol, Enrolled, Request, Response};
use echelon_identity::{CertificateRequest, TrustBundle};
use echelon_transport::{PinnedError, ask_pinned};
use echelon_wire::{Bytes, MAX_SESSION_FRAME, Wire};
use std::time::Duration;

/// How long a manager may take to answer: it commits one edit, and waits a little before a refusal.
const DEADLINE: Duration = Duration::from_secs(15);

/// Asks the managers in order until one answers. Gives the answer and the roots that the token pinned.
pub(crate) async fn ask(
    options: &EnrolOptions,
    pending: &Pending,
) -> Result<(Enrolled, TrustBundle), EnrolError> {
    let request = request(options, pending)?;
    let asked = ask_pinned(&options.managers, options.token.pin, &request, MAX_SESSION_FRAME, DEADLINE);
    let (answer, trust) = asked.await.map_err(|error| match error {
        PinnedError::Bind(e) => e.into(),
        PinnedError::Unreachable(why) => EnrolError::Unreachable(why),
        PinnedError::Unknown(why) => EnrolError::Unknown(why),
    })?;
    let enrolled = match Response::decode(&answer) {
        Ok(Response::Enrolled(enrolled)) => enrolled,
        Ok(Response::Failed(failure)) => return Err(EnrolError::Refused(Box::new(failure))),
        Ok(_) => return Err(EnrolError::Answer("it answers another question")),
        Err(e) => return Err(EnrolError::Unknown(e.to_string())),
    };
    Ok((enrolled, trust))
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
