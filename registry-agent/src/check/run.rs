//! One check of a package.

use crate::check::exchange::exchange;
use crate::check::host_check::{HostCheck, What};
use crate::check::{exec, grpc, http};
use crate::connect::{self, NoConnection};
use echelon_core::check::CheckKind;
use echelon_core::endpoint::Endpoint;
use echelon_core::evidence::Met;
use echelon_core::name::{ManagerType, Text};
use echelon_daemon::exec::ExecError;
use echelon_daemon::patience::within;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// Why a check did not pass, for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Miss {
    /// Nobody took a connection.
    #[error(transparent)]
    NoConnection(NoConnection),
    /// What was asked did not answer, or something else than was expected.
    #[error("{0}")]
    NoAnswer(Text),
    /// This host lacks what the check takes: it says nothing of who is checked.
    #[error("{0}")]
    Ours(Text),
}

impl Miss {
    /// Why, and whom the check met; none where it says nothing of who is checked.
    pub(crate) fn met(self) -> Option<(Text, Met)> {
        match self {
            Self::NoAnswer(why) => Some((why, Met::Connected)),
            Self::NoConnection(NoConnection::Refused(why)) => Some((why, Met::Refused)),
            Self::NoConnection(NoConnection::Silent(why)) => Some((why, Met::Nobody)),
            Self::NoConnection(NoConnection::Ours(_)) | Self::Ours(_) => None,
        }
    }

    /// Whether it says nothing of who is checked.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::NoConnection(NoConnection::Ours(_)) | Self::Ours(_))
    }
}

impl From<ExecError> for Miss {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Failed(why) => Self::NoAnswer(Text::lossy(&why)),
            ExecError::Lacking(why) => Self::Ours(Text::lossy(&why)),
        }
    }
}

/// Checks the package of type `ty` that listens at `endpoint`, within the check's timeout.
///
/// # Errors
/// [`Miss`].
pub(super) async fn run(check: &HostCheck, ty: &ManagerType, endpoint: &Endpoint) -> Result<(), Miss> {
    match &check.what {
        What::Ask(kind) => ask(kind, endpoint, check.timeout).await,
        What::Exec(command) => Ok(exec::run(command, ty, endpoint, check.timeout).await?),
    }
}

/// Asks whoever listens at `endpoint`, within `limit` of time in which this process runs.
///
/// # Errors
/// [`Miss`].
pub(crate) async fn ask(kind: &CheckKind, endpoint: &Endpoint, limit: Duration) -> Result<(), Miss> {
    let connected = AtomicBool::new(false);
    let asked = async {
        let stream = connect::tcp_at_leisure(endpoint).await.map_err(Miss::NoConnection)?;
        connected.store(true, Ordering::Relaxed);
        converse(kind, stream, endpoint, limit).await.map_err(Miss::NoAnswer)
    };
    let late = || match connected.load(Ordering::Relaxed) {
        true => Miss::NoAnswer(no_answer(limit)),
        false => Miss::NoConnection(NoConnection::Silent(no_answer(limit))),
    };
    within(limit, asked).await.unwrap_or_else(|| Err(late()))
}

async fn converse(
    kind: &CheckKind,
    stream: TcpStream,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<(), Text> {
    match kind {
        CheckKind::Connect => Ok(()),
        CheckKind::Exchange { send, expect } => exchange(stream, send, expect).await,
        CheckKind::Http { path, status, host } => {
            http::get(stream, endpoint, path, *status, host.as_ref()).await
        }
        CheckKind::Grpc { service } => grpc::check(stream, endpoint, limit, service.as_ref()).await,
    }
}

/// The failure of a check that ran out of time.
pub(super) fn no_answer(limit: Duration) -> Text {
    Text::lossy(&format!("no answer within {limit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{refusing, silent_listener};

    #[tokio::test]
    async fn a_miss_says_how_far_the_check_came() {
        let limit = Duration::from_millis(200);
        let get = CheckKind::Http { path: "/".parse().unwrap(), status: None, host: None };
        let met = async |endpoint: Endpoint| ask(&get, &endpoint, limit).await.unwrap_err().met().unwrap().1;
        let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(met(hangs.local_addr().unwrap().into()).await, Met::Connected);
        assert_eq!(met(refusing().addr.into()).await, Met::Refused);
        assert_eq!(met(silent_listener().addr.into()).await, Met::Nobody);
    }
}
