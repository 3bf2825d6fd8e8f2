//! Stub managers: services that answer each line with the name of their host.

use crate::layout::{Place, StubPlace};
use echelon_core::name::{HostName, ManagerType};
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Connections that may wait to be accepted. A hung stub accepts none, so that this is also how many
/// connects succeed while it hangs.
const BACKLOG: u32 = 1024;

/// Connections that one stub serves at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// Longest line that a stub reads. Whoever sends more without a line end is cut off.
const MAX_REQUEST: u64 = 64 << 10;

/// Pause after the system refused to accept, which it does again and again while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is added to a privileged port where this user may not listen on it: 80 becomes 20080, which is
/// recognised, needs no privilege, and lies below the ports that the system gives to clients.
const HIGH_PORT: u16 = 20_000;

/// Ports below it are privileged on most systems.
const PRIVILEGED: u16 = 1024;

/// A stub manager. It ends when it is dropped.
#[derive(Debug)]
pub struct Stub {
    host: HostName,
    ty: ManagerType,
    addr: SocketAddr,
    mode: watch::Sender<Mode>,
    service: Mutex<Option<Service>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Answers,
    Hangs,
}

/// The open listener and its connections.
#[derive(Debug)]
struct Service {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// How a stub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StubState {
    /// It answers.
    Up,
    /// It listens, and neither accepts nor answers.
    Hung,
    /// Nothing listens.
    Down,
}

/// Why a stub does not listen. It is down.
#[derive(Debug, thiserror::Error)]
#[error("the stub of {host}'s {ty} cannot listen at {addr}: {}", hint(source))]
pub struct StubError {
    /// The host.
    pub host: HostName,
    /// The type.
    pub ty: ManagerType,
    /// The address.
    pub addr: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "something else listens there; end it, or give the host another address",
        io::ErrorKind::PermissionDenied => "give it a port of 1024 or more, or run the lab as root",
        io::ErrorKind::AddrNotAvailable => "this is no address of this machine; use one in 127.0.0.0/8",
        _ => "see below for the cause",
    }
}

impl Stub {
    /// Listens where it was planned, or, where the lab chose the place, on another port of that address.
    /// Must run inside a tokio runtime.
    ///
    /// # Errors
    /// See [`StubError`].
    pub fn start(place: &StubPlace) -> Result<Self, StubError> {
        let StubPlace { host, ty, listen } = place;
        let listener = bind_near(*listen).map_err(|source| {
            let (host, ty, addr) = (host.clone(), ty.clone(), listen.addr);
            StubError { host, ty, addr, source }
        })?;
        let addr = listener.local_addr().unwrap_or(listen.addr);
        let mode = watch::Sender::new(Mode::Answers);
        let mut stub = Self { host: host.clone(), ty: ty.clone(), addr, mode, service: Mutex::default() };
        *stub.service.get_mut() = Some(stub.serve(listener));
        Ok(stub)
    }

    /// The host that it stands on.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// What it is.
    pub fn ty(&self) -> &ManagerType {
        &self.ty
    }

    /// Where it listens, while it is not down.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How it is.
    pub async fn state(&self) -> StubState {
        match (self.service.lock().await.is_some(), *self.mode.borrow()) {
            (false, _) => StubState::Down,
            (true, Mode::Answers) => StubState::Up,
            (true, Mode::Hangs) => StubState::Hung,
        }
    }

    /// Closes the listener and cuts the connections, as when a process dies. Once this returns, connects
    /// are refused.
    pub async fn down(&self) {
        if let Some(Service { stop, task }) = self.service.lock().await.take() {
            stop.cancel();
            // It neither panics nor is aborted; had it, its listener were closed as well.
            let _ = task.await;
        }
    }

    /// Leaves it listening, but answers nothing any more, as when a process hangs. One that is down is
    /// started first.
    ///
    /// # Errors
    /// See [`StubError`].
    pub async fn hang(&self) -> Result<(), StubError> {
        self.mode.send_replace(Mode::Hangs);
        self.open().await
    }

    /// Lets it answer, whether it was down or hung; what was sent meanwhile is answered too.
    ///
    /// # Errors
    /// See [`StubError`].
    pub async fn up(&self) -> Result<(), StubError> {
        self.mode.send_replace(Mode::Answers);
        self.open().await
    }

    async fn open(&self) -> Result<(), StubError> {
        let mut service = self.service.lock().await;
        if service.is_none() {
            let listener = bind(self.addr).map_err(|source| {
                let (host, ty) = (self.host.clone(), self.ty.clone());
                StubError { host, ty, addr: self.addr, source }
            })?;
            *service = Some(self.serve(listener));
        }
        Ok(())
    }

    fn serve(&self, listener: TcpListener) -> Service {
        let stop = CancellationToken::new();
        let answer = format!("{}\n", self.host).into();
        let task = tokio::spawn(accept(listener, answer, self.mode.subscribe(), stop.clone()));
        Service { stop, task }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(service) = self.service.get_mut().take() {
            service.task.abort();
        }
    }
}

/// Listens at a place, or near it where the lab is free to choose.
fn bind_near(place: Place) -> io::Result<TcpListener> {
    let first = bind(place.addr);
    if !place.movable || first.is_ok() {
        return first;
    }
    let port = place.addr.port();
    let high = if port < PRIVILEGED { port + HIGH_PORT } else { 0 };
    let at = |port| bind(SocketAddr::new(place.addr.ip(), port));
    at(high).or_else(|_| at(0))
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // So that one that was down can come up beside its former connections that are still winding down.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    answer: Arc<str>,
    mut mode: watch::Receiver<Mode>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = next(&listener, &mut mode), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok(stream) => {
                connections.spawn(converse(stream, Arc::clone(&answer), mode.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn next(listener: &TcpListener, mode: &mut watch::Receiver<Mode>) -> io::Result<TcpStream> {
    until_answers(mode).await;
    listener.accept().await.map(|(stream, _)| stream)
}

/// Answers each line until the caller has no more.
async fn converse(stream: TcpStream, answer: Arc<str>, mut mode: watch::Receiver<Mode>) {
    // A connection that breaks is the caller's to notice.
    let _ = answer_lines(stream, &answer, &mut mode).await;
}

async fn answer_lines(stream: TcpStream, answer: &str, mode: &mut watch::Receiver<Mode>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut stream).take(MAX_REQUEST).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        until_answers(mode).await;
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Waits while the stub hangs.
async fn until_answers(mode: &mut watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode == Mode::Answers).await.is_err() {
        // The stub is gone, and this task with it in a moment.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
#[path = "stub_tests.rs"]
mod tests;
