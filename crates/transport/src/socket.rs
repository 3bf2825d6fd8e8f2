//! The UDP socket: large buffers, and how much was lost because they were full.

use socket2::{Domain, Protocol, Socket, Type};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use tracing::warn;

/// The tables in which the kernel counts lost datagrams, for IPv4 and IPv6 sockets.
const TABLES: [&str; 2] = ["/proc/self/net/udp", "/proc/self/net/udp6"];

/// Socket buffers that are smaller than was asked for: bursts may be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmallBuffers {
    /// What was asked for, in bytes.
    pub wanted: usize,
    /// What the system gives for receiving.
    pub receive: usize,
    /// What the system gives for sending.
    pub send: usize,
}

/// A bound socket with buffers of `buffer` bytes, or what the system gives; which is told where it is less.
/// An IPv6 wildcard address takes IPv4 as well.
pub(crate) fn bind(addr: SocketAddr, buffer: usize) -> io::Result<(UdpSocket, Option<SmallBuffers>)> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    let small = set_buffers(&socket, buffer)?;
    socket.bind(&addr.into())?;
    Ok((socket.into(), small))
}

/// Asks for buffers and says so when the system gives less.
fn set_buffers(socket: &Socket, wanted: usize) -> io::Result<Option<SmallBuffers>> {
    socket.set_recv_buffer_size(wanted)?;
    socket.set_send_buffer_size(wanted)?;
    // Linux doubles the value for its own book-keeping and reports the doubled one (socket(7)).
    let receive = socket.recv_buffer_size()? / 2;
    let send = socket.send_buffer_size()? / 2;
    if receive < wanted {
        warn!(
            buffer.wanted = wanted,
            buffer.given = receive,
            "Receive buffer is smaller than asked for, bursts may be lost; type: sysctl -w net.core.rmem_max={wanted}"
        );
    }
    if send < wanted {
        warn!(
            buffer.wanted = wanted,
            buffer.given = send,
            "Send buffer is smaller than asked for, pushes may be slower; type: sysctl -w net.core.wmem_max={wanted}"
        );
    }
    Ok((receive.min(send) < wanted).then_some(SmallBuffers { wanted, receive, send }))
}

/// The number by which the kernel's tables know this socket.
pub(crate) fn inode(socket: &UdpSocket) -> io::Result<u64> {
    let copy: OwnedFd = socket.try_clone()?.into();
    Ok(File::from(copy).metadata()?.ino())
}

/// How many datagrams the kernel has dropped for the socket with this inode, because its receive buffer
/// was full; none where the socket is not listed.
pub(crate) fn drops(inode: u64) -> io::Result<Option<u64>> {
    for table in TABLES {
        if let Some(drops) = drops_in(&std::fs::read_to_string(table)?, inode) {
            return Ok(Some(drops));
        }
    }
    Ok(None)
}

/// Columns by proc(5): the tenth is the inode, the thirteenth the drops.
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let found = columns.get(9)?.parse() == Ok(inode);
        found.then(|| columns.get(12)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_for_both_families() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let Ok((socket, _)) = bind(addr.parse().unwrap(), 1) else {
                println!("SKIPPED drops_are_counted_for_both_families: no {addr} here");
                continue;
            };
            let inode = inode(&socket).unwrap();
            assert_eq!(drops(inode).unwrap(), Some(0));
            // The smallest buffer the kernel gives holds a few of these; nobody reads, the rest is lost.
            let sender = UdpSocket::bind((socket.local_addr().unwrap().ip(), 0)).unwrap();
            for _ in 0..100 {
                sender.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
            }
            assert!(drops(inode).unwrap().unwrap() > 50);
        }
        assert_eq!(drops(u64::MAX).unwrap(), None);
    }

    #[test]
    fn buffers_are_as_large_as_the_system_gives() {
        let (socket, small) = bind("127.0.0.1:0".parse().unwrap(), 64 * 1024).unwrap();
        let socket = Socket::from(socket);
        assert!(socket.recv_buffer_size().unwrap() >= 64 * 1024 && small.is_none());
        let (_, small) = bind("127.0.0.1:0".parse().unwrap(), i32::MAX as usize / 2).unwrap();
        assert!(small.is_some_and(|small| small.receive < small.wanted), "{small:?}");
    }

    #[test]
    fn a_table_of_another_shape_is_no_panic() {
        assert_eq!(drops_in("", 1), None);
        assert_eq!(drops_in("header\n1 2 3\n\n0 0 0 0 0 0 0 0 0 1\n", 1), None);
        assert_eq!(drops_in("header\n0 0 0 0 0 0 0 0 0 1 0 0 7\n", 1), Some(7));
    }
}
