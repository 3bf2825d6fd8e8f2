//! One answer, as it comes in.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use serde::Deserialize;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Longest answer that is taken: an agent's have under 2 KiB.
const MAX_ANSWER: usize = 4096;

/// What the agent says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A connection.
    Handed {
        /// The manager's host.
        host: String,
        /// Where it was reached.
        endpoint: String,
        /// The connection.
        descriptor: OwnedFd,
    },
    /// None, and why.
    Refused(Refusal),
}

/// Why the agent gives no connection.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Refusal {
    /// Its name.
    pub(crate) error: String,
    /// In words.
    pub(crate) message: String,
    /// `safe` or `pointless`.
    #[serde(default)]
    pub(crate) retry: String,
}

/// What came is no answer of an agent's. Descriptors that came with it are closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// Too long, or more than one.
    #[error("it is not one line of at most {MAX_ANSWER} bytes")]
    Length,
    /// A connection without its descriptor, or with several, or a descriptor with something else.
    #[error("{0} descriptors came with it")]
    Descriptors(usize),
    /// Not the document.
    #[error("it cannot be read")]
    Document(#[source] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Handed { host: String, endpoint: String },
    Refused(Refusal),
}

/// An answer of which some may have come.
#[derive(Debug)]
pub(crate) struct Receiving {
    bytes: [u8; MAX_ANSWER],
    length: usize,
    ended: bool,
    /// The kernel had more descriptors than there was room for.
    truncated: bool,
    descriptors: Vec<OwnedFd>,
}

impl Default for Receiving {
    fn default() -> Self {
        Self { bytes: [0; MAX_ANSWER], length: 0, ended: false, truncated: false, descriptors: Vec::new() }
    }
}

impl Receiving {
    /// Whether nothing more is to be received: a line is whole, there is no room, or the other side has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.ended || self.length == MAX_ANSWER || self.received().ends_with(b"\n")
    }

    /// One `recvmsg`.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let free = self.bytes.get_mut(self.length..).unwrap_or_default();
        let message = recvmsg(socket, &mut [IoSliceMut::new(free)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        self.length += message.bytes;
        self.ended |= message.bytes == 0;
        self.truncated |= message.flags.contains(ReturnFlags::CTRUNC);
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = ancillary {
                self.descriptors.extend(descriptors);
            }
        }
        Ok(())
    }

    /// The answer; none where the other side ended before there was one.
    pub(crate) fn answer(mut self) -> Result<Option<Answer>, Malformed> {
        let received = self.received();
        if self.ended && !received.ends_with(b"\n") {
            return Ok(None);
        }
        if received.iter().position(|byte| *byte == b'\n') != received.len().checked_sub(1) {
            return Err(Malformed::Length);
        }
        let line = serde_json::from_slice(received).map_err(Malformed::Document)?;
        let (descriptor, more) = (self.descriptors.pop(), self.descriptors.len());
        match (line, descriptor, more) {
            (Line::Handed { host, endpoint }, Some(descriptor), 0) if !self.truncated => {
                Ok(Some(Answer::Handed { host, endpoint, descriptor }))
            }
            (Line::Refused(refusal), None, _) => Ok(Some(Answer::Refused(refusal))),
            (_, descriptor, more) => Err(Malformed::Descriptors(more + usize::from(descriptor.is_some()))),
        }
    }

    fn received(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
