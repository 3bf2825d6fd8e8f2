//! Asking another registry manager, over the connection of a link to it.

use echelon_core::message::{Request, Response};
use echelon_transport::Connection;
use echelon_wire::{MAX_EDIT_FRAME, Wire};
use std::time::Duration;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// What was asked may be done, or be done yet.
    #[error("{0}")]
    Lost(String),
}

/// Asks, and gives the answer, whatever it says.
///
/// # Errors
/// None came within this time; see [`NoAnswer`].
pub(crate) async fn ask(
    connection: &Connection,
    request: &Request,
    within: Duration,
) -> Result<Response, NoAnswer> {
    let lost = |why: &dyn std::fmt::Display| NoAnswer::Lost(why.to_string());
    let exchange = async {
        // Nothing is sent before there is a channel.
        let mut channel = connection.open().await.map_err(|e| NoAnswer::NotSent(e.to_string()))?;
        channel.send(&request.encode()).await.map_err(|e| lost(&e))?;
        let frame = channel.recv(MAX_EDIT_FRAME).await.map_err(|e| lost(&e))?;
        Response::decode(&frame.ok_or_else(|| lost(&"it ended the channel"))?).map_err(|e| lost(&e))
    };
    timeout(within, exchange).await.unwrap_or_else(|_| Err(lost(&"it does not answer")))
}
