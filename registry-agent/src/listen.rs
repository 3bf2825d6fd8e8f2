//! Where the agent listens, as it is written, and as it is bound.

mod places;

use crate::slots::{Slot, Slots, Waiting};
use places::Queue;
pub(crate) use places::{GivenError, Place, Places};

use echelon_core::name::{ManagerType, NameError, quoted};
use echelon_daemon::BindUnixError;
use serde::Deserialize;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// Pause after the system refused to accept, which it does at once, again and again, while descriptors
/// or memory are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The group that sockets are given to where this system has it.
const GROUP: &str = "echelon";

/// Where groups are listed, and how much of it is read: a thousand groups with their members.
const GROUPS: (&str, u64) = ("/etc/group", 1 << 20);

/// What a unix socket is written with.
const UNIX: &str = "unix:";

/// Where callers on this host connect: `ADDR:PORT`, where ADDR is a loopback address, or `unix:PATH`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// A loopback TCP address; port 0 takes any that is free.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// A forwarder: callers who connect there are led to the manager of this type. `TYPE=ADDR:PORT` or
/// `TYPE=unix:PATH`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Forward {
    /// The type.
    pub ty: ManagerType,
    /// Where its callers connect.
    pub listen: Listen,
}

/// Why a text says no place to listen at. Nothing was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Neither form.
    #[error("{} is no place to listen at: write ADDR:PORT, as in 127.0.0.1:7000, or unix:PATH", quoted(.0))]
    Form(String),
    /// An address that other hosts could reach.
    #[error("other hosts could reach {0}: write a loopback address, such as 127.0.0.1:{port}, or unix:PATH", port = .0.port())]
    NotLoopback(SocketAddr),
    /// Not `TYPE=…`.
    #[error("{} names no type: write TYPE=ADDR:PORT or TYPE=unix:PATH", quoted(.0))]
    NoType(String),
    /// Not a type.
    #[error(transparent)]
    Type(#[from] NameError),
}

/// Why nothing listens at a place. Nothing was opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("cannot listen at {addr}; check that nothing else does, and that it is this host's address")]
    Tcp {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A unix socket.
    #[error(transparent)]
    Unix(#[from] BindUnixError),
}

impl FromStr for Listen {
    type Err = ListenError;
    fn from_str(text: &str) -> Result<Self, ListenError> {
        let form = || ListenError::Form(text.chars().take(256).collect());
        match text.strip_prefix(UNIX) {
            Some("") => Err(form()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => match text.parse::<SocketAddr>().map_err(|_| form())? {
                addr if addr.ip().to_canonical().is_loopback() => Ok(Self::Tcp(addr)),
                addr => Err(ListenError::NotLoopback(addr)),
            },
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.to_string_lossy().escape_debug()),
        }
    }
}

impl FromStr for Forward {
    type Err = ListenError;
    fn from_str(text: &str) -> Result<Self, ListenError> {
        let no_type = || ListenError::NoType(text.chars().take(256).collect());
        let (ty, listen) = text.split_once('=').ok_or_else(no_type)?;
        Ok(Self { ty: ty.parse()?, listen: listen.parse()? })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.ty, self.listen)
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;
    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl TryFrom<String> for Forward {
    type Error = ListenError;
    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

/// Callers taken one after the other before those taken get their turn.
const ACCEPTED_AT_ONCE: u32 = 4;

/// Callers that wait at an open place. Dropping it, and all that share the place, closes that.
#[derive(Debug)]
pub(crate) struct Listener {
    queue: Queue,
    place: Arc<Place>,
}

/// A queue of callers that one runtime waits at.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that somebody on this host made.
#[derive(Debug)]
pub(crate) enum Caller {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Waits at a place.
    fn at_place(place: Arc<Place>) -> Result<Self, BindError> {
        Ok(Self { queue: place.queue()?, place })
    }

    /// Where it listens, with the port that was given for 0.
    pub(crate) fn at(&self) -> &Listen {
        self.place.at()
    }

    /// The same place once more: whoever serves first gets the next caller.
    pub(crate) fn share(&self) -> Result<Self, BindError> {
        Self::at_place(Arc::clone(&self.place))
    }

    /// [`Self::serve_within`] up to `most` slots of its own.
    pub(crate) async fn serve(
        self,
        most: usize,
        stop: CancellationToken,
        welcome: impl Fn(Caller, Slot),
        complain: impl Fn(&Waiting),
    ) {
        self.serve_within(&Slots::new(most), stop, welcome, complain).await;
    }

    /// Hands callers to `welcome` until `stop`, each with the slot it holds until that is dropped. While
    /// there is no slot, callers wait in the kernel's queue. `complain` hears of that, and when the system
    /// refuses to accept. Runs on the runtime that first polls it.
    pub(crate) async fn serve_within(
        self,
        slots: &Slots,
        stop: CancellationToken,
        welcome: impl Fn(Caller, Slot),
        complain: impl Fn(&Waiting),
    ) {
        let Self { queue, place: at } = self;
        let door = match queue.open() {
            Ok(door) => door,
            Err(error) => return complain(&Waiting::Refused(error)),
        };
        let accepting = async {
            for taken in 1_u32.. {
                if slots.is_full() {
                    complain(&Waiting::Full(slots.most()));
                }
                let slot = slots.take().await;
                match door.accept().await {
                    Ok(caller) => welcome(caller, slot),
                    Err(error) => {
                        complain(&Waiting::Refused(error));
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
                if taken.is_multiple_of(ACCEPTED_AT_ONCE) {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = accepting => {}
        }
        drop((door, at));
    }
}

impl Queue {
    /// Waits at the queue on this runtime.
    fn open(self) -> io::Result<Door> {
        Ok(match self {
            Self::Tcp(socket) => Door::Tcp(TcpListener::from_std(socket)?),
            Self::Unix(socket) => Door::Unix(UnixListener::from_std(socket)?),
        })
    }
}

impl Door {
    /// The next caller. Dropping the future loses nobody.
    async fn accept(&self) -> io::Result<Caller> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Caller::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Caller::Unix(stream)),
        }
    }
}

impl Caller {
    /// Ready once there may be something to read.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Ready once there may be room to write.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Does `io` if the socket is ready for it; where `io` says that it would have to wait, it no longer
    /// counts as ready.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        io: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, || io(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(interest, || io(stream.as_fd())),
        }
    }

    /// Closes the connection so that the caller sees an error, not an empty answer: over TCP it is reset.
    pub(crate) fn refuse(self) {
        self.reset();
    }

    /// From now on closing it means a reset, over TCP; a unix socket knows only one kind of end.
    pub(crate) fn reset(&self) {
        if let Self::Tcp(stream) = self {
            // Refused, it is closed as any other.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// What broke the connection, where that has not been told yet.
    pub(crate) fn fault(&self) -> Option<io::Error> {
        match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
        }
        .ok()?
    }
}

/// Lets the group's members call. Only root, or a member, can give a socket away; another user's agent
/// serves that user.
fn give_to_group(path: &Path) {
    let (file, most) = GROUPS;
    let mut groups = String::new();
    let read = File::open(file).and_then(|f| f.take(most).read_to_string(&mut groups));
    let Some(id) = read.ok().and_then(|_| listed_id(&groups, GROUP)) else { return };
    if let Err(error) = std::os::unix::fs::chown(path, None, Some(id)) {
        debug!(%error, path = %path.display(), "The socket stays with this user's group");
    }
}

/// The id of a name in a list in the format of group(5) or passwd(5).
pub(crate) fn listed_id(list: &str, name: &str) -> Option<u32> {
    let fields = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.filter_map(|f| Some((*f.first()?, *f.get(2)?))).find(|(n, _)| *n == name)?.1.parse().ok()
}

/// Has the system ask the other side of a silent connection whether it is still there: a host that lost its power
/// would else hold it open for ever, and whoever speaks through a relay cannot find out by himself. An answer that
/// does not come breaks the connection in two minutes.
pub(crate) fn ask_seldom(socket: &impl AsFd) -> io::Result<()> {
    let questions = TcpKeepalive::new().with_time(Duration::from_secs(30));
    SockRef::from(socket).set_tcp_keepalive(&questions.with_interval(Duration::from_secs(10)))
}

/// [`ask_seldom`], but each second; what nobody acknowledges within three breaks the connection. Or as before.
pub(crate) fn ask_often(socket: &impl AsFd, often: bool) -> io::Result<()> {
    const SECOND: Duration = Duration::from_secs(1);
    let options = SockRef::from(socket);
    options.set_tcp_user_timeout(often.then_some(3 * SECOND))?;
    match often {
        true => options.set_tcp_keepalive(&TcpKeepalive::new().with_time(SECOND).with_interval(SECOND)),
        false => ask_seldom(socket),
    }
}

fn listen_tcp(addr: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // An agent that restarts takes its port over from connections that are still winding down.
    socket.set_reuseaddr(true)?;
    // What is accepted inherits it: small writes leave at once, as they would without a forwarder between.
    socket.set_nodelay(true)?;
    ask_seldom(&socket)?;
    socket.bind(addr)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Caller {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Caller {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_print_as_they_are_written() {
        for text in ["127.0.0.1:7000", "127.9.8.7:0", "[::1]:80", "unix:/run/a.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        let forward: Forward = "audit=unix:x=y".parse().unwrap();
        assert_eq!((forward.ty.as_str(), forward.listen), ("audit", Listen::Unix("x=y".into())));
    }

    #[test]
    fn what_other_hosts_could_reach_is_refused_with_a_way_out() {
        for text in ["0.0.0.0:7000", "10.0.0.1:7000", "[::]:7000", "[2001:db8::1]:7000"] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(matches!(error, ListenError::NotLoopback(_)), "{error}");
            assert!(error.to_string().contains("127.0.0.1:7000"), "{error}");
        }
        for text in ["", "7000", "localhost:7000", "unix:", "127.0.0.1", "127.0.0.1:70000"] {
            assert!(matches!(text.parse::<Listen>(), Err(ListenError::Form(_))), "{text:?}");
        }
        assert!(matches!("127.0.0.1:1".parse::<Forward>(), Err(ListenError::NoType(_))));
        assert!(matches!("UP=127.0.0.1:1".parse::<Forward>(), Err(ListenError::Type(_))));
    }

    #[test]
    fn the_groups_id_is_found_in_the_systems_list() {
        let groups = "root:x:0:\nechelons:x:7:\n:::\nechelon:x:412:anna,ben\nbad\n";
        assert_eq!(listed_id(groups, "echelon"), Some(412));
        assert_eq!(listed_id(groups, "nobody"), None);
        assert_eq!(listed_id("echelon:x:many:", "echelon"), None);
    }

    #[tokio::test]
    async fn a_port_of_0_becomes_a_real_one_and_sockets_leave_no_file() {
        let places = Places::default();
        let listener = places.listen("a", &"127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(matches!(listener.at(), Listen::Tcp(addr) if addr.port() != 0));
        let taken = places.listen("b", listener.at()).unwrap_err();
        assert!(matches!(taken, BindError::Tcp { .. }), "{taken}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(places.listen("c", &Listen::Unix(path.clone())).unwrap());
        assert!(!path.exists());
    }
}
