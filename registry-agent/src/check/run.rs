//! One check of a package.

use crate::check::exchange::exchange;
use crate::check::host_check::{HostCheck, What};
use crate::check::patience::within;
use crate::check::{exec, grpc, http};
use crate::connect;
use echelon_core::check::CheckKind;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{ManagerType, Text};
use std::time::Duration;

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

/// Asks whoever listens at `endpoint`, within `limit` of time in which this process runs.
pub(crate) async fn ask(kind: &CheckKind, endpoint: &Endpoint, limit: Duration) -> Result<(), Text> {
    within(limit, make(kind, endpoint, limit)).await.unwrap_or_else(|| Err(no_answer(limit)))
}

async fn make(kind: &CheckKind, endpoint: &Endpoint, limit: Duration) -> Result<(), Text> {
    match kind {
        CheckKind::Connect => Ok(connect::tcp_at_leisure(endpoint).await.map(drop)?),
        CheckKind::Exchange { send, expect } => exchange(endpoint, send, expect).await,
        CheckKind::Http { path, status, host } => http::get(endpoint, path, *status, host.as_ref()).await,
        CheckKind::Grpc { service } => grpc::check(endpoint, limit, service.as_ref()).await,
    }
}

/// The failure of a check that ran out of time.
pub(super) fn no_answer(limit: Duration) -> Text {
    Text::lossy(&format!("no answer within {limit:?}"))
}
