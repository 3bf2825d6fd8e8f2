//! Hearing a peer that says something again and again, and noticing soon that it is gone.
//!
//! Over UDP a process that dies says nothing, and its silence takes long to tell from a slow machine. Where its host
//! lives, that host's system knows better: it answers whatever is sent to a port where nobody listens. So a peer that
//! is late is knocked at, from a socket that is told of such answers.

use crate::frame::{FrameReceiver, RecvError};
use crate::limits::{KNOCK, KNOCK_AGAIN};
use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

/// Why a peer was not heard. What was sent to it may or may not have arrived.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    /// Its host lives, and says that nobody listens there.
    #[error("nobody listens any more where the peer was: its process has ended")]
    Gone,
    /// It said nothing for so long.
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
    /// The channel or the connection has ended.
    #[error(transparent)]
    Receive(#[from] RecvError),
}

impl FrameReceiver {
    /// As [`Self::recv`], from a peer that is to say something every now and then. Once it is `late` it is looked, again
    /// and again, whether its process is there at all; after `silent` it is given up.
    ///
    /// # Errors
    /// [`Unheard`]. The connection is as it was.
    pub async fn hear(
        &mut self,
        max: usize,
        late: Duration,
        silent: Duration,
    ) -> Result<Option<Bytes>, Unheard> {
        let (mut last, mut partial) = (Instant::now(), self.partial());
        loop {
            let left = silent.saturating_sub(last.elapsed());
            if let Ok(heard) = timeout(late.min(left), self.recv(max)).await {
                return Ok(heard?);
            }
            if self.partial() != partial {
                (last, partial) = (Instant::now(), self.partial());
                continue;
            }
            if last.elapsed() >= silent {
                return Err(Unheard::Silent(silent));
            }
            let (there, here) = self.connection.ends();
            if nobody_listens(there, here).await {
                return Err(Unheard::Gone);
            }
        }
    }
}

/// Comes once the system at this address has said, twice in a row, that nobody listens there; where it says nothing,
/// never. A process that is just starting there has [`KNOCK_AGAIN`] for it.
pub async fn left(there: SocketAddr) {
    let mut before = false;
    loop {
        let refused = nobody_listens(there, None).await;
        if refused && before {
            return;
        }
        before = refused;
        sleep(KNOCK_AGAIN).await;
    }
}

/// Whether the system at this address says that nobody listens there. That it says nothing tells nothing: somebody may
/// listen, the host may be gone, or a firewall may keep its word back.
async fn nobody_listens(there: SocketAddr, here: Option<IpAddr>) -> bool {
    let refused = |e: &io::Error| e.kind() == ErrorKind::ConnectionRefused;
    matches!(timeout(KNOCK, knock(there, here)).await, Ok(Err(e)) if refused(&e))
}

/// Sends a byte that nobody understands, and waits for what the system makes of it.
async fn knock(there: SocketAddr, here: Option<IpAddr>) -> io::Result<()> {
    let any = match there.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let here = here.filter(|ip| ip.is_ipv4() == there.is_ipv4()).unwrap_or(any);
    let socket = UdpSocket::bind((here, 0)).await?;
    socket.connect(there).await?;
    socket.send(&[0]).await?;
    socket.recv(&mut [0]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_said_to_be_left_once_it_is_and_never_while_it_is_used() {
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok(used) = UdpSocket::bind((ip, 0)).await else { continue };
            let there = used.local_addr().unwrap();
            assert!(!nobody_listens(there, Some(ip)).await);
            drop(used);
            assert!(nobody_listens(there, Some(ip)).await);
            assert!(nobody_listens(there, None).await);
        }
    }
}
