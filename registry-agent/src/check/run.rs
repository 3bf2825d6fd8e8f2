//! One check of a package.

use crate::check::exchange::exchange;
use crate::check::host_check::{HostCheck, What};
use crate::check::{exec, grpc, http};
use crate::connect;
use echelon_core::check::CheckKind;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{ManagerType, Text};
use std::time::Duration;
use tokio::time::timeout;

/// Checks the package of type `ty` that listens at `endpoint`, within the check's timeout.
///
/// # Errors
/// Says why the check failed, for people.
pub(super) async fn run(check: &HostCheck, ty: &ManagerType, endpoint: &Endpoint) -> Result<(), Text> {
    match &check.what {
        What::Ask(kind) => ask(kind, endpoint, check.timeout).await,
        What::Exec(command) => exec::run(command, ty, endpoint, check.timeout).await,
    }
}

/// Asks whoever listens at `endpoint`, within `limit`.
pub(crate) async fn ask(kind: &CheckKind, endpoint: &Endpoint, limit: Duration) -> Result<(), Text> {
    match timeout(limit, make(kind, endpoint, limit)).await {
        Ok(result) => result,
        Err(_) => Err(no_answer(limit)),
    }
}

async fn make(kind: &CheckKind, endpoint: &Endpoint, limit: Duration) -> Result<(), Text> {
    match kind {
        CheckKind::Connect => connect::tcp(endpoint, limit).await.map(drop),
        CheckKind::Exchange { send, expect } => exchange(endpoint, limit, send, expect).await,
        CheckKind::Http { path, status, host } => {
            http::get(endpoint, limit, path, *status, host.as_ref()).await
        }
        CheckKind::Grpc { service } => grpc::check(endpoint, limit, service.as_ref()).await,
    }
}

/// The failure of a check that ran out of time.
pub(super) fn no_answer(limit: Duration) -> Text {
    Text::lossy(&format!("no answer within {limit:?}"))
}
