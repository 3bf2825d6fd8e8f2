//! Pipes in the kernel, through which streams go without being copied to this process.

use crate::forward::relay::Step;
use crate::listen::Caller;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pipes of one forwarder; past it streams are copied. Each takes two descriptors, and the kernel gives a
/// user's pipes 64 MiB, a thousand of the usual 64 KiB, before it makes them smaller.
const MAX_PIPES: usize = 256;

/// Asked for at once: more than the sixteen segments of 32 KiB that a pipe holds.
const MOST: usize = 1 << 20;

/// Gives out pipes, up to [`MAX_PIPES`].
#[derive(Debug)]
pub(crate) struct Pipes(Arc<Semaphore>);

/// A pipe from one socket to another.
#[derive(Debug)]
pub(crate) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    /// Bytes in it.
    held: usize,
    _place: OwnedSemaphorePermit,
}

impl Default for Pipes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_PIPES)))
    }
}

impl Pipes {
    /// A pipe; none while too many are open, or descriptors are short.
    pub(crate) fn open(&self) -> Option<Pipe> {
        let place = Arc::clone(&self.0).try_acquire_owned().ok()?;
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        Some(Pipe { out, into, held: 0, _place: place })
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn open_now(&self) -> usize {
        MAX_PIPES - self.0.available_permits()
    }
}

impl Pipe {
    /// Bytes in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes what is there, for a pipe that is empty, so that it is the socket that would have to be waited for.
    ///
    /// # Errors
    /// The socket broke.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>, from: &Caller) -> io::Result<Poll<Step>> {
        let into = self.into.as_fd();
        Ok(when_ready(cx, from, Interest::READABLE, |socket| shift(socket, into))?.map(|n| {
            self.held = n;
            if n == 0 { Step::Ended } else { Step::Carried }
        }))
    }

    /// Hands everything on.
    ///
    /// # Errors
    /// The socket broke; what it did not take is lost.
    pub(crate) fn empty(&mut self, cx: &mut Context<'_>, to: &Caller) -> io::Result<Poll<()>> {
        while self.held > 0 {
            let out = self.out.as_fd();
            match when_ready(cx, to, Interest::WRITABLE, |socket| shift(out, socket))? {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => self.held = self.held.saturating_sub(n),
            }
        }
        Ok(Poll::Ready(()))
    }
}

fn shift(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<usize> {
    match splice(from, None, to, None, MOST, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
        Err(Errno::AGAIN | Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
        done => Ok(done?),
    }
}

/// Does `io` as soon as the socket is ready for it.
fn when_ready(
    cx: &mut Context<'_>,
    socket: &Caller,
    interest: Interest,
    io: impl Fn(BorrowedFd<'_>) -> io::Result<usize>,
) -> io::Result<Poll<usize>> {
    loop {
        let ready = match interest.is_readable() {
            true => socket.poll_read_ready(cx)?,
            false => socket.poll_write_ready(cx)?,
        };
        if ready.is_pending() {
            return Ok(Poll::Pending);
        }
        match socket.try_io(interest, &io) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done.map(Poll::Ready),
        }
    }
}
