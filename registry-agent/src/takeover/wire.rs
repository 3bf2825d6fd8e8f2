//! Messages and descriptors between two processes of one host.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Longest message: the places of as many sockets as a process has, with paths, take a third of it.
const MAX_MESSAGE: u32 = 512 * 1024;

/// What goes with a descriptor, since none goes alone.
const MARK: u8 = b'#';

/// A connection between two processes.
#[derive(Debug)]
pub(super) struct Wire(UnixStream);

/// Why nothing was heard.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The connection.
    #[error("the other process said nothing more")]
    Gone(#[source] io::Error),
    /// More than is taken.
    #[error("the other process sends {0} bytes at once, more than {MAX_MESSAGE}")]
    TooLong(u32),
    /// Not what is said here.
    #[error("the other process says what this one does not understand")]
    Content(#[from] serde_json::Error),
    /// Not one descriptor.
    #[error("the other process sends {0} descriptors where there should be one")]
    Descriptors(usize),
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    pub(super) user: u32,
    /// None where it cannot be seen from here, as in another container.
    pub(super) process: Option<u32>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// To whoever listens there.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self)
    }

    /// Who is at the other end, as the kernel says.
    pub(super) fn peer(&self) -> io::Result<Peer> {
        let credentials = self.0.peer_cred()?;
        let process = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        Ok(Peer { user: credentials.uid(), process })
    }

    /// Says one thing.
    pub(super) async fn send(&mut self, message: &impl Serialize) -> Result<(), WireError> {
        let bytes = serde_json::to_vec(message)?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if length > MAX_MESSAGE {
            return Err(WireError::TooLong(length));
        }
        self.0.write_u32(length).await.map_err(WireError::Gone)?;
        self.0.write_all(&bytes).await.map_err(WireError::Gone)
    }

    /// Hears one thing.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        let length = self.0.read_u32().await.map_err(WireError::Gone)?;
        if length > MAX_MESSAGE {
            return Err(WireError::TooLong(length));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.0.read_exact(&mut bytes).await.map_err(WireError::Gone)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Hands over a copy of a descriptor.
    pub(super) async fn send_descriptor(&self, descriptor: BorrowedFd<'_>) -> Result<(), WireError> {
        let sending = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let descriptors = [descriptor];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(&self.0, &[IoSlice::new(&[MARK])], &mut control, flags)?)
        };
        self.0.async_io(Interest::WRITABLE, sending).await.map(drop).map_err(WireError::Gone)
    }

    /// Takes a descriptor, which no child of this process gets.
    pub(super) async fn receive_descriptor(&self) -> Result<OwnedFd, WireError> {
        let receiving = || {
            let (mut mark, mut space) = ([0], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut place = [IoSliceMut::new(&mut mark)];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let received = recvmsg(&self.0, &mut place, &mut control, flags)?;
            let descriptors = control.drain().filter_map(|ancillary| match ancillary {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            });
            Ok((received.bytes, descriptors.flatten().collect::<Vec<_>>()))
        };
        let received = self.0.async_io(Interest::READABLE, receiving).await.map_err(WireError::Gone)?;
        match received {
            (0, _) => Err(WireError::Gone(io::ErrorKind::UnexpectedEof.into())),
            (_, mut descriptors) if descriptors.len() == 1 => {
                descriptors.pop().ok_or(WireError::Descriptors(0))
            }
            (_, descriptors) => Err(WireError::Descriptors(descriptors.len())),
        }
    }

    /// Waits for the other process to be gone.
    pub(super) async fn gone(&mut self) {
        let mut rest = [0; 1024];
        while self.0.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn messages_and_descriptors_come_in_their_order() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut one, mut other) = (Wire(one), Wire(other));
        let mut file = tempfile::tempfile().unwrap();
        one.send(&"first").await.unwrap();
        one.send_descriptor(file.as_fd()).await.unwrap();
        one.send_descriptor(file.as_fd()).await.unwrap();
        one.send(&"last").await.unwrap();
        assert_eq!(other.receive::<String>().await.unwrap(), "first");
        for word in ["a", "b"] {
            let mut copy = std::fs::File::from(other.receive_descriptor().await.unwrap());
            copy.write_all(word.as_bytes()).unwrap();
        }
        assert_eq!(other.receive::<String>().await.unwrap(), "last");
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ab");
        let peer = Peer { user: rustix::process::geteuid().as_raw(), process: Some(std::process::id()) };
        assert_eq!(one.peer().unwrap(), peer);
        drop(one);
        assert!(matches!(other.receive::<String>().await, Err(WireError::Gone(_))));
        assert!(matches!(other.receive_descriptor().await, Err(WireError::Gone(_))));
        other.gone().await;
    }

    #[tokio::test]
    async fn what_is_too_long_or_no_message_is_refused() {
        let (mut raw, other) = UnixStream::pair().unwrap();
        let mut other = Wire(other);
        raw.write_u32(MAX_MESSAGE + 1).await.unwrap();
        assert!(matches!(other.receive::<String>().await, Err(WireError::TooLong(_))));
        raw.write_all(b"\0\0\0\x02{]").await.unwrap();
        assert!(matches!(other.receive::<String>().await, Err(WireError::Content(_))));
        raw.write_all(b"#").await.unwrap();
        assert!(matches!(other.receive_descriptor().await, Err(WireError::Descriptors(0))));
    }
}
