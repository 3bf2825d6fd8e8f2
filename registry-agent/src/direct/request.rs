//! What a program asks.

use echelon_core::name::{ManagerType, NameError};
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// Longest request, with the newline. Types have at most 63 bytes.
const MAX_REQUEST: usize = 256;

/// How long a connection without a question is kept: programs that ask rarely open a new one, which costs
/// them some 20 µs.
const IDLE: Duration = Duration::from_secs(60);

/// How long the rest of a request may take, which programs send in one piece.
const REST: Duration = Duration::from_secs(5);

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The program is gone, or has had nothing to ask for too long.
    #[error("the connection is over")]
    Over,
    /// It does not get on.
    #[error("the rest of the request did not come within {} s; the connection is closed", REST.as_secs())]
    Slow,
    /// Too many bytes without an end.
    #[error("a request has at most {MAX_REQUEST} bytes: a type and a newline; the connection is closed")]
    TooLong,
    /// More than one at a time.
    #[error("the next request came before the answer to this one; the connection is closed")]
    Early,
    /// Not a type.
    #[error(transparent)]
    NoType(NameError),
}

impl RequestError {
    /// The name under which programs know it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NoType(_) => "unknown-type",
            Self::Over | Self::Slow | Self::TooLong | Self::Early => "bad-request",
        }
    }
}

/// Reads requests.
#[derive(Debug)]
pub(crate) struct Requests {
    bytes: [u8; MAX_REQUEST],
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; MAX_REQUEST] }
    }

    /// The next request's type.
    pub(crate) async fn next(&mut self, stream: &mut UnixStream) -> Result<ManagerType, RequestError> {
        let mut length = 0;
        let mut due = (Instant::now() + IDLE, RequestError::Over);
        loop {
            let Some(free) = self.bytes.get_mut(length..).filter(|free| !free.is_empty()) else {
                return Err(RequestError::TooLong);
            };
            let read = timeout_at(due.0, stream.read(free)).await;
            let Ok(read) = read else { return Err(due.1) };
            let read = read.map_err(|_| RequestError::Over)?;
            if read == 0 {
                return Err(RequestError::Over);
            }
            let begin = length;
            length += read;
            let new = self.bytes.get(begin..length).unwrap_or_default();
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                return self.parse(begin + at, length);
            }
            if begin == 0 {
                due = (Instant::now() + REST, RequestError::Slow);
            }
        }
    }

    /// The type in the bytes before `end`, where the newline is, if nothing follows that.
    fn parse(&self, end: usize, length: usize) -> Result<ManagerType, RequestError> {
        if end + 1 != length {
            return Err(RequestError::Early);
        }
        let text = String::from_utf8_lossy(self.bytes.get(..end).unwrap_or_default());
        text.parse().map_err(RequestError::NoType)
    }
}

/// Waits until a program that waits for its answer is gone, or speaks although it is not its turn. One that
/// has only ended its own half is waited for.
pub(crate) async fn broken_off(stream: &UnixStream) -> RequestError {
    loop {
        if stream.readable().await.is_err() {
            return RequestError::Over;
        }
        match stream.try_read(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(1..) => return RequestError::Early,
            Ok(0) if !is_closed(stream).await => return std::future::pending().await,
            Ok(0) | Err(_) => return RequestError::Over,
        }
    }
}

/// Whether nobody can read an answer any more.
async fn is_closed(stream: &UnixStream) -> bool {
    let ready = stream.ready(tokio::io::Interest::WRITABLE).await;
    ready.is_ok_and(|ready| ready.is_write_closed())
}
