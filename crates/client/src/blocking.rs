//! Connections for programs without a runtime, by direct hand-over.

use crate::agent::{AgentError, usual_socket};
use crate::dial::{DIAL_TIMEOUT, DialError, handed, silent};
use crate::handover::{Answer, Receiving, Silence, request, socket_beside};
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{HostName, ManagerType};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The agent on this machine, asked by threads that may wait. One connection to it is kept; calls at the same
/// moment open further ones.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use echelon_client::blocking::LocalAgent;
/// use std::io::Write;
///
/// let agent = LocalAgent::from_env();
/// let mut connection = agent.connect(&"command-control".parse()?)?;
/// connection.stream.write_all(b"hello\n")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalAgent {
    socket: PathBuf,
    kept: Mutex<Option<UnixStream>>,
}

/// A connection, and to whom. It is this program's own: nothing lies between.
#[derive(Debug)]
pub struct Connection {
    /// The manager's host.
    pub host: HostName,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The connection, with `TCP_NODELAY` set.
    pub stream: TcpStream,
}

impl LocalAgent {
    /// The agent whose API listens at this unix socket. Nothing is opened yet.
    pub fn at(api: impl Into<PathBuf>) -> Self {
        Self { socket: socket_beside(&api.into()), kept: Mutex::default() }
    }

    /// The agent at the socket that the environment variable `ECHELON_AGENT_SOCKET` names, or else at the
    /// default, as [`crate::LocalAgent::from_env`].
    pub fn from_env() -> Self {
        Self::at(usual_socket())
    }

    /// A connection to the nearest live manager of a type, past managers that refuse or are silent. The agent
    /// makes it and hands it over; one that does not do so cannot be asked in this way.
    ///
    /// # Errors
    /// [`DialError`], after at most 35 s.
    pub fn connect(&self, ty: &ManagerType) -> Result<Connection, DialError> {
        let answer = match self.ask(ty) {
            Ok(answer) => answer,
            Err(Failed::Timeout) => return Err(DialError::Timeout),
            Err(Failed::Silence(silence)) => return Err(AgentError::into(silent(silence, &self.socket))),
        };
        let (host, endpoint, descriptor) = handed(ty, answer)?;
        Ok(Connection { host, endpoint, stream: descriptor.into() })
    }

    fn ask(&self, ty: &ManagerType) -> Result<Answer, Failed> {
        // The agent closes it after a while of silence, and when it is started anew.
        let kept = self.kept().take();
        if let Some(stream) = kept {
            match self.exchange(stream, ty) {
                Err(Failed::Silence(Silence::Lost)) => {}
                done => return done,
            }
        }
        let connect = || {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(DIAL_TIMEOUT))?;
            Ok(stream)
        };
        self.exchange(connect().map_err(Silence::Connect)?, ty)
    }

    fn exchange(&self, mut stream: UnixStream, ty: &ManagerType) -> Result<Answer, Failed> {
        stream.write_all(request(ty).as_bytes()).map_err(|_| Silence::Lost)?;
        let mut receiving = Receiving::default();
        while !receiving.is_over() {
            match receiving.receive(&stream).map_err(|e| e.kind()) {
                Ok(()) | Err(io::ErrorKind::Interrupted) => {}
                Err(io::ErrorKind::WouldBlock) => return Err(Failed::Timeout),
                Err(_) => return Err(Silence::Lost.into()),
            }
        }
        let answer = receiving.answer().map_err(Silence::Malformed)?.ok_or(Silence::Lost)?;
        *self.kept() = Some(stream);
        Ok(answer)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<UnixStream>> {
        // Nothing under this lock can leave it half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no answer.
enum Failed {
    Silence(Silence),
    Timeout,
}

impl From<Silence> for Failed {
    fn from(silence: Silence) -> Self {
        Self::Silence(silence)
    }
}
