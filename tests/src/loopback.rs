//! Loopback addresses that nobody else on this machine uses.

use std::net::{IpAddr, Ipv4Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first second byte of these addresses, and the one after the last: people and examples use those below, labs those
/// from there on.
const SECOND_BYTES: (u32, u32) = (16, 64);

/// How many blocks there are, with a third byte each.
const BLOCKS: u32 = (SECOND_BYTES.1 - SECOND_BYTES.0) * 256;

/// How many blocks a process uses before it comes to where the next one began.
const APART: u32 = 64;

/// A block of addresses. Ports on them that the system gives to nobody by itself (below 32,768) are free whenever one comes
/// to them: a port that was given out, is closed and then opened again may be somebody else's by then.
#[derive(Debug)]
pub struct Loopback {
    block: u32,
    /// Like the addresses it is of one network namespace, and like them it is free once its process has ended.
    _claim: UnixListener,
}

impl Loopback {
    /// A block that is used by nobody else who claims one, as long as this lives.
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let begin = process::id().wrapping_mul(APART);
        let mut tries =
            (0..BLOCKS).map(|_| begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS);
        tries.find_map(Self::try_claim).expect("there are more blocks than tests at a time")
    }

    fn try_claim(block: u32) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("echelon-loopback-{block}")).expect("it is short");
        UnixListener::bind_addr(&name).ok().map(|claim| Self { block, _claim: claim })
    }

    /// Its address that ends in this byte.
    pub fn address(&self, last: u8) -> IpAddr {
        let [.., second, third] = (SECOND_BYTES.0 * 256 + self.block).to_be_bytes();
        Ipv4Addr::new(127, second, third, last).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_given_to_one_at_a_time() {
        let block = Loopback::claim();
        assert!(Loopback::try_claim(block.block).is_none());
        let (number, other) = (block.block, Loopback::claim());
        assert_ne!(block.address(1), other.address(1));
        assert!(block.address(1).is_loopback());
        drop(block);
        assert!(Loopback::try_claim(number).is_some());
    }
}
