//! Renewal of the agent's certificate over a connection to a registry manager.

use crate::alarms::Alarms;
use crate::clock::unix_now;
use crate::metrics::Metrics;
use crate::registry::{AskError, Identity, IdentityError, ask};
use echelon_core::alarm::Notice;
use echelon_core::message::{Request, Response};
use echelon_identity::CertificateRequest;
use echelon_identity::request::RequestError;
use echelon_transport::Connection;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// How long a manager may take to answer: it signs one certificate.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest sleep before the wall clock is looked at again, which may have been set or stood still.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Shortest and longest time between two tries.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Part of what is left of the certificate's life that passes between two tries.
const RETRY_SHARE: u32 = 10;

/// Why a certificate was not renewed. The old one stays in use; trying again is safe.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("no request could be made")]
    Request(#[from] RequestError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the manager refused: {0}")]
    Refused(String),
    #[error("the new certificate is not used")]
    Identity(#[from] IdentityError),
}

/// Renews the certificate whenever half its life is over, for as long as it is polled. `share`, from 0
/// to 1 and different for each host, spreads the hosts over a tenth of the remaining life.
pub(crate) async fn keep_renewed(
    identity: &Arc<Identity>,
    connection: &Connection,
    metrics: &Metrics,
    alarms: &Alarms,
    share: f64,
) -> std::convert::Infallible {
    loop {
        wait_until_due(identity, share).await;
        let renewed = renew(identity, connection, metrics).await;
        tell(alarms, &renewed);
        if let Err(error) = renewed {
            let left = identity.left();
            let cause = source_chain(&error);
            warn!(certificate.left = ?left, "The certificate was not renewed, and will be tried again: {cause}");
            sleep((left / RETRY_SHARE).clamp(RETRY.0, RETRY.1)).await;
        }
    }
}

/// Raises an alarm where a renewal has failed, and clears it where one has not.
pub(crate) fn tell(alarms: &Alarms, renewed: &Result<(), RenewError>) {
    const NAME: &str = "renewal-failing";
    match renewed {
        Ok(()) => alarms.clear(NAME),
        Err(error) => alarms.raise(Notice::warning(
            NAME,
            &format!("the certificate was not renewed: {}", source_chain(error)),
            "see the logs of this agent and of the registry manager; it is tried again",
        )),
    }
}

/// Renews the certificate now.
pub(crate) async fn renew(
    identity: &Arc<Identity>,
    connection: &Connection,
    metrics: &Metrics,
) -> Result<(), RenewError> {
    let renewed = async {
        let chain = new_chain(identity, connection).await?;
        Ok::<_, RenewError>(identity.renew(chain).await?)
    };
    let renewed = renewed.await;
    metrics.count_renewal(renewed.is_ok());
    renewed?;
    info!(certificate.left = ?identity.left(), "The certificate was renewed");
    Ok(())
}

async fn new_chain(identity: &Identity, connection: &Connection) -> Result<Vec<Vec<u8>>, RenewError> {
    let csr = CertificateRequest::new(identity.credentials().key())?.der().to_vec();
    match ask(connection, &Request::Renew { csr }, DEADLINE).await? {
        Response::Renewed(chain) => Ok(chain),
        Response::Failed(failure) => Err(RenewError::Refused(failure.message)),
        _ => Err(AskError::Other.into()),
    }
}

async fn wait_until_due(identity: &Identity, share: f64) {
    loop {
        let at = identity.renew_at();
        let rest = identity.peer().not_after.0.saturating_sub(at.0);
        let due = at + Duration::from_millis(rest).mul_f64(share.clamp(0.0, 1.0) / 10.0);
        match Duration::from_millis(due.0.saturating_sub(unix_now().0)) {
            Duration::ZERO => return,
            left => sleep(left.min(LOOK_AGAIN)).await,
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn source_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
