//! A caller on a host: connects to the host's forwarder, asks, and reads who answers.

use echelon_core::name::HostName;
use registry_agent::Listen;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longest answer that is read: a host name and a line end.
const MAX_ANSWER: u64 = 256;

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the forwarder takes no calls: {0}")]
    Connect(io::Error),
    #[error("the forwarder closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("the answer is no host name")]
    Strange,
}

/// Asks through the forwarder at `listen` who serves, and gives up after `limit`. The time counts from the
/// connect.
pub(crate) async fn call(listen: &Listen, limit: Duration) -> (Result<HostName, CallError>, Duration) {
    let began = Instant::now();
    let answered = match timeout(limit, connect_and_ask(listen)).await {
        Ok(answered) => answered,
        Err(_) => Err(CallError::Silent(limit)),
    };
    (answered, began.elapsed())
}

async fn connect_and_ask(listen: &Listen) -> Result<HostName, CallError> {
    match listen {
        Listen::Unix(path) => ask(UnixStream::connect(path).await.map_err(CallError::Connect)?).await,
        Listen::Tcp(addr) => ask(TcpStream::connect(addr).await.map_err(CallError::Connect)?).await,
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<HostName, CallError> {
    stream.write_all(b"who?\n").await.map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer).await.map_err(broken)?;
    match answer.strip_suffix('\n') {
        Some(name) => name.parse().map_err(|_| CallError::Strange),
        None if answer.is_empty() => Err(CallError::Closed),
        None => Err(CallError::Strange),
    }
}

/// A forwarder that has nobody to lead to closes the connection, over a unix socket perhaps before the
/// question is written.
fn broken(error: io::Error) -> CallError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => CallError::Closed,
        _ => CallError::Broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    async fn answered(reply: Option<&'static [u8]>, limit: Duration) -> Result<HostName, CallError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            if let Some(reply) = reply {
                stream.write_all(reply).await.unwrap();
                return;
            }
            std::future::pending::<()>().await;
        });
        let (answer, _) = call(&Listen::Unix(path), limit).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn answers_and_their_absence_are_told_apart() {
        let long = Duration::from_secs(10);
        assert_eq!(answered(Some(b"agent3\n"), long).await.unwrap().as_str(), "agent3");
        assert!(matches!(answered(Some(b""), long).await, Err(CallError::Closed)));
        assert!(matches!(answered(Some(b"Agent 3\n"), long).await, Err(CallError::Strange)));
        assert!(matches!(answered(Some(&[b'x'; 1000]), long).await, Err(CallError::Strange)));
        let short = Duration::from_millis(50);
        assert!(matches!(answered(None, short).await, Err(CallError::Silent(_))));
        let nowhere = Listen::Unix("/nonexistent/echelon".into());
        assert!(matches!(call(&nowhere, long).await.0, Err(CallError::Connect(_))));
    }
}
