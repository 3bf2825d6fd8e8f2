//! One TCP connect to a manager.

use crate::lateness::is_too_late;
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::evidence::Seen;
use echelon_core::hedge::LONGEST_HEDGE;
use echelon_core::name::Text;
use echelon_daemon::exec::is_lack;
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Addresses of one name that are tried, in the resolver's order: a host with two networks in both
/// families has four.
const MAX_ADDRESSES: usize = 4;

/// Names resolved at a time in this process. The system's resolver blocks a thread for seconds while it
/// gets no answer, and giving up waiting does not free that thread; writes of the replica need some, too.
const MAX_LOOKUPS: usize = 32;

static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);

/// Why there is no connection, for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoConnection {
    /// The other side refused, or broke it off.
    #[error("{0}")]
    Refused(Text),
    /// Nobody answered in time, or there is no way to it.
    #[error("{0}")]
    Silent(Text),
    /// This host is at fault, or was too busy to tell: it says nothing about the manager.
    #[error("{0}")]
    Ours(Text),
}

impl NoConnection {
    /// What it says about the manager; none where it says nothing.
    pub(crate) fn seen(&self) -> Option<Seen> {
        match self {
            Self::Refused(why) => Some(Seen::Failed(why.clone())),
            Self::Silent(why) => Some(Seen::Silent(why.clone())),
            Self::Ours(_) => None,
        }
    }
}

impl From<NoConnection> for Text {
    fn from(error: NoConnection) -> Self {
        match error {
            NoConnection::Refused(why) | NoConnection::Silent(why) | NoConnection::Ours(why) => why,
        }
    }
}

/// Connects within `limit`, which covers resolving a name as well. Small writes are sent at once.
///
/// # Errors
/// [`NoConnection`]. Where our own timer fired late, nothing is said about the manager.
pub(crate) async fn tcp(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, NoConnection> {
    let due = Instant::now() + limit;
    match timeout_at(due, connect(endpoint)).await {
        Ok(done) => done,
        Err(_) => {
            let why = Text::lossy(&format!("no answer within {limit:?}"));
            // A timeout is far longer than a hedge, and no reason to believe ourselves for longer.
            Err(if is_too_late(due, limit.min(LONGEST_HEDGE)) {
                NoConnection::Ours(why)
            } else {
                NoConnection::Silent(why)
            })
        }
    }
}

/// [`tcp`] without a limit, for whoever has one of his own.
///
/// # Errors
/// [`NoConnection`].
pub(crate) async fn tcp_at_leisure(endpoint: &Endpoint) -> Result<TcpStream, NoConnection> {
    connect(endpoint).await
}

/// The addresses of an endpoint. A name is resolved anew each time.
///
/// # Errors
/// Says why, for people.
pub(crate) async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Text> {
    let name = match &endpoint.address {
        Address::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, endpoint.port.get())]),
        Address::Name(name) => name,
    };
    let found = look_up(name.to_string(), endpoint.port.get()).await;
    let found = found.map_err(|e| cannot_resolve(name.as_str(), &e))?;
    if found.is_empty() { Err(Text::lossy(&format!("{name} has no address"))) } else { Ok(found) }
}

/// Asks the system's resolver. Its place is given up only when it has answered, whoever still waits.
async fn look_up(name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let place = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let asking = tokio::spawn(async move {
        let found = lookup_host((name.as_str(), port)).await;
        drop(place);
        found.map(|addresses| addresses.take(MAX_ADDRESSES).collect())
    });
    asking.await.map_err(io::Error::other)?
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, NoConnection> {
    let mut why = None;
    for addr in resolve(endpoint).await.map_err(NoConnection::Silent)? {
        match one(addr).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why = Some(no_connection(&error)),
        }
    }
    Err(why.unwrap_or_else(|| NoConnection::Silent(Text::lossy("no address"))))
}

async fn one(addr: SocketAddr) -> io::Result<TcpStream> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    set_tcp_nodelay(&socket, true)?;
    // On this host the other side has answered before the first call returns, and the second says so:
    // then nobody has to wait to be told.
    let connected = try_connect(&socket, addr)? || try_connect(&socket, addr)?;
    let stream = TcpStream::from_std(socket.into())?;
    if !connected {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    if has_met_itself(&stream, addr)? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Begins to connect, or asks how it stands: true once connected, false while there is no answer.
fn try_connect(socket: &OwnedFd, addr: SocketAddr) -> io::Result<bool> {
    match rustix::net::connect(socket, &addr) {
        Ok(()) | Err(Errno::ISCONN) => Ok(true),
        Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A connect to a port of this host that nobody listens on may be given that very port as its own, and
/// so meet itself (simultaneous open, RFC 9293, section 3.5).
fn has_met_itself(stream: &TcpStream, peer: SocketAddr) -> io::Result<bool> {
    Ok(stream.local_addr()? == peer)
}

fn cannot_resolve(name: &str, error: &io::Error) -> Text {
    Text::lossy(&format!("cannot resolve {name}: {error}"))
}

/// What it means that the system did not connect.
fn no_connection(error: &io::Error) -> NoConnection {
    use io::ErrorKind as K;
    let why = in_words(error);
    match error.kind() {
        _ if is_lack(error) => NoConnection::Ours(why),
        K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => NoConnection::Silent(why),
        K::TimedOut | K::PermissionDenied => NoConnection::Silent(why),
        _ => NoConnection::Refused(why),
    }
}

/// What the system said, without its numbers.
fn in_words(error: &io::Error) -> Text {
    use io::ErrorKind as K;
    Text::lossy(match error.kind() {
        K::ConnectionRefused => "connection refused",
        K::ConnectionReset => "connection reset",
        K::ConnectionAborted => "connection aborted",
        K::HostUnreachable => "host unreachable",
        K::NetworkUnreachable => "network unreachable",
        K::TimedOut => "no answer",
        K::PermissionDenied => "forbidden by this host's firewall",
        _ => return Text::lossy(&error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::silent_listener;
    use std::net::TcpListener;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_refusal_is_said_at_once_and_silence_after_the_limit() {
        let limit = Duration::from_secs(5);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let why = tcp(&closed.into(), limit).await.unwrap_err();
        assert_eq!(why, NoConnection::Refused(Text::lossy("connection refused")));
        let silent = silent_listener();
        let why = tcp(&silent.addr.into(), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(why.to_string(), "no answer within 50ms");
    }

    /// The process stands still from shortly before the timer is due until well past it.
    #[tokio::test(start_paused = true)]
    async fn a_timer_that_fired_late_says_nothing_about_the_manager() {
        let (silent, limit) = (silent_listener(), Duration::from_secs(1));
        for (still, expected) in [(30, true), (90, false)] {
            let endpoint = silent.addr.into();
            let connecting = tcp(&endpoint, limit);
            let busy = async {
                tokio::time::sleep(Duration::from_millis(990)).await;
                tokio::time::advance(Duration::from_millis(still)).await;
            };
            let (result, ()) = tokio::join!(connecting, busy);
            let why = result.unwrap_err();
            assert_eq!(why.seen().is_some(), expected, "{why:?} after {still} ms");
        }
    }

    #[test]
    fn what_this_host_lacks_is_not_held_against_the_manager() {
        let says = |errno: Errno| no_connection(&errno.into());
        use Errno as E;
        for ours in [E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM, E::ADDRNOTAVAIL, E::AGAIN] {
            assert!(matches!(says(ours), NoConnection::Ours(_)), "{ours}");
        }
        for silent in [Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::TIMEDOUT, Errno::PERM] {
            assert!(matches!(says(silent).seen(), Some(Seen::Silent(_))), "{silent}");
        }
        for refused in [Errno::CONNREFUSED, Errno::CONNRESET] {
            assert!(matches!(says(refused).seen(), Some(Seen::Failed(_))), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_noticed() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = socket.local_addr().unwrap();
        assert!(has_met_itself(&socket.connect(addr).await.unwrap(), addr).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(!has_met_itself(&one(addr).await.unwrap(), addr).unwrap());
    }

    #[tokio::test]
    async fn names_are_resolved_and_unknown_ones_are_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        tcp(&endpoint(&format!("localhost:{port}")), Duration::from_secs(5)).await.unwrap();
        let why = tcp(&endpoint("no-such-host.invalid:1"), Duration::from_secs(20)).await.unwrap_err();
        let words = why.to_string();
        assert!(words.contains("no-such-host.invalid") || words.contains("no answer"), "{why}");
    }
}
