//! One question to whoever of several managers answers, by somebody without an identity: whom to believe, a join token
//! says.

use crate::connect::Target;
use crate::endpoint::{BindError, Endpoint};
use crate::settings::Settings;
use crate::{Connection, resolve};
use bytes::Bytes;
use echelon_core::endpoint::Endpoint as Place;
use echelon_identity::TrustBundle;
use std::time::Duration;
use tokio::time::timeout;

/// With which a connection is closed in good order.
const GOODBYE: u32 = 1;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PinnedError {
    /// No socket.
    #[error("no socket could be opened; nothing was sent")]
    Bind(#[from] BindError),
    /// Nothing was sent to any of them, for these reasons.
    #[error("{0}")]
    Unreachable(String),
    /// It was sent to one at least, and what came of it is not known, for these reasons.
    #[error("{0}")]
    Unknown(String),
}

/// Where one try has got to.
enum Tried {
    Answered(Bytes, TrustBundle),
    NotSent(String),
    NoAnswer(String),
}

/// Sends this frame to the managers at these places, in order, until one answers within `within` with a frame of at most
/// `max` bytes. Gives the answer, and the roots that were found to belong to `pin`, the hash of one.
///
/// # Errors
/// None has answered; [`PinnedError`] says whether it was asked.
pub async fn ask_pinned(
    managers: &[Place],
    pin: [u8; 32],
    question: &Bytes,
    max: usize,
    within: Duration,
) -> Result<(Bytes, TrustBundle), PinnedError> {
    let socket = Endpoint::bind_client(None, None, Settings::client())?;
    let (mut sent, mut failures) = (false, Vec::new());
    for manager in managers {
        let why = match try_one(&socket, manager, pin, question, max, within).await {
            Tried::Answered(answer, trust) => return Ok((answer, trust)),
            Tried::NotSent(why) => why,
            Tried::NoAnswer(why) => {
                sent = true;
                why
            }
        };
        failures.push(format!("{manager}: {why}"));
    }
    let why = failures.join("; ");
    Err(if sent { PinnedError::Unknown(why) } else { PinnedError::Unreachable(why) })
}

async fn try_one(
    socket: &Endpoint,
    manager: &Place,
    pin: [u8; 32],
    question: &Bytes,
    max: usize,
    within: Duration,
) -> Tried {
    let connection = match socket.connect_to(manager, &Target::Pinned(pin)).await {
        Ok(connection) => connection,
        Err(why) => return Tried::NotSent(why),
    };
    let Some(trust) = connection.pinned_trust().cloned() else {
        return Tried::NotSent("the connection has no pinned root".into());
    };
    let answer = match timeout(within, exchange(&connection, question, max)).await {
        Ok(Ok(answer)) => Tried::Answered(answer, trust),
        Ok(Err(why)) => Tried::NoAnswer(why),
        Err(_) => Tried::NoAnswer(format!("no answer within {within:?}")),
    };
    connection.close(GOODBYE, "done");
    answer
}

async fn exchange(connection: &Connection, question: &Bytes, max: usize) -> Result<Bytes, String> {
    let mut channel = connection.open().await.map_err(|e| e.to_string())?;
    channel.send(question).await.map_err(|e| e.to_string())?;
    let answer = channel.recv(max).await.map_err(|e| e.to_string())?;
    answer.ok_or_else(|| "the manager ended the channel".to_owned())
}

impl Endpoint {
    /// Connects to the first address of this place at which `target` answers; a name is looked up.
    ///
    /// # Errors
    /// Says, for people, why there is none; trying again is safe.
    pub async fn connect_to(&self, place: &Place, target: &Target) -> Result<Connection, String> {
        let mut why = format!("{place} has no address");
        for addr in resolve(place).await? {
            match self.connect(addr, target).await {
                Ok(connection) => return Ok(connection),
                Err(error) => why = error.problem.to_string(),
            }
        }
        Err(why)
    }
}
