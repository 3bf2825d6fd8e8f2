//! The direct hand-over: asks the agent for a connection and gets its descriptor.

mod answer;

pub(crate) use answer::{Answer, Malformed, Receiving};

use echelon_core::name::ManagerType;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// The socket's name, beside that of the API.
const FILE_NAME: &str = "direct.sock";

/// Connections to the agent that are kept between two calls: more calls than that at the same moment open
/// further ones, each of which costs some 20 µs.
const MAX_KEPT: usize = 4;

/// The agent's side of the hand-over, over connections that are kept.
#[derive(Debug)]
pub(crate) struct Handover {
    socket: PathBuf,
    kept: Mutex<Vec<UnixStream>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Nobody listens at the socket, or this user may not connect.
    Connect(io::Error),
    /// The connection ended first.
    Lost,
    /// What came is no answer.
    Malformed(Malformed),
}

/// Where connections are handed over, beside an API's socket.
pub(crate) fn socket_beside(api: &Path) -> PathBuf {
    api.with_file_name(FILE_NAME)
}

/// What is sent to ask for a connection.
pub(crate) fn request(ty: &ManagerType) -> String {
    format!("{ty}\n")
}

impl Handover {
    pub(crate) fn beside(api: &Path) -> Self {
        Self { socket: socket_beside(api), kept: Mutex::default() }
    }

    /// Where the agent hands over.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// One question. Asked again over a new connection where a kept one turns out to be closed, as it is
    /// after a while of silence, and when the agent was started anew. Dropping the future takes the question
    /// back.
    pub(crate) async fn ask(&self, ty: &ManagerType) -> Result<Answer, Silence> {
        while let Some(stream) = self.take() {
            match self.exchange(stream, ty).await {
                Err(Silence::Lost) => {}
                done => return done,
            }
        }
        let stream = UnixStream::connect(&self.socket).await.map_err(Silence::Connect)?;
        self.exchange(stream, ty).await
    }

    /// Asks over this connection, and keeps it if it is good for another question.
    async fn exchange(&self, mut stream: UnixStream, ty: &ManagerType) -> Result<Answer, Silence> {
        let lost = |_| Silence::Lost;
        stream.write_all(request(ty).as_bytes()).await.map_err(lost)?;
        let mut receiving = Receiving::default();
        while !receiving.is_over() {
            stream.async_io(Interest::READABLE, || receiving.receive(&stream)).await.map_err(lost)?;
        }
        let Some(answer) = receiving.answer().map_err(Silence::Malformed)? else { return Err(Silence::Lost) };
        self.keep(stream);
        Ok(answer)
    }

    fn take(&self) -> Option<UnixStream> {
        self.kept().pop()
    }

    fn keep(&self, stream: UnixStream) {
        let mut kept = self.kept();
        if kept.len() < MAX_KEPT {
            kept.push(stream);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        // Nothing under this lock can leave it half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
