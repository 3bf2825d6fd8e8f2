//! One request to a registry manager, on a channel of its own.

use echelon_core::message::{Request, Response};
use echelon_transport::{CloseReason, Connection, RecvError, SendError};
use echelon_wire::{DecodeError, MAX_SESSION_FRAME, Wire};
use std::time::Duration;
use tokio::time::timeout;

/// Why there is no answer. Whether the request had an effect is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the connection is gone")]
    Closed(#[from] CloseReason),
    #[error("the request was not sent")]
    Send(#[from] SendError),
    #[error("the answer did not arrive")]
    Receive(#[from] RecvError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the answer cannot be read")]
    Message(#[from] DecodeError),
    #[error("the manager answered something else")]
    Other,
}

/// Asks, and gives the answer, whatever it says.
///
/// # Errors
/// None came within `deadline`, or none that can be read.
pub(crate) async fn ask(
    connection: &Connection,
    request: &Request,
    deadline: Duration,
) -> Result<Response, AskError> {
    let exchange = async {
        let mut channel = connection.open().await?;
        channel.send(&request.encode()).await?;
        let frame = channel.recv(MAX_SESSION_FRAME).await?.ok_or(AskError::Other)?;
        Ok(Response::decode(&frame)?)
    };
    timeout(deadline, exchange).await.unwrap_or(Err(AskError::Timeout(deadline)))
}
