//! Bytes between a caller and a manager, both ways, until both have said all they had to say.

use crate::forward::pipe::{Pipe, Pipes};
use crate::listen::Caller;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What one read can take. Each thread has one such buffer for all its connections, so that an idle one
/// costs none; what the other side has no room for is kept apart.
const BUFFER: usize = 64 * 1024;

/// Reads in a row that fill the buffer before bytes go through a pipe in the kernel: a stream, for which
/// it is worth its four descriptors.
const STREAM: u32 = 4;

/// Steps of one direction before others get their turn: with a pipe up to half a megabyte each.
const STEPS: usize = 16;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A connection under way. Either side can end its half and still hear the other. It is over when both
/// have, or when one breaks.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    caller: Caller,
    /// To a relay both are alike.
    manager: Caller,
    pipes: &'a Pipes,
    up: Half,
    down: Half,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    way: Way,
    /// What was read and not yet sent: these bytes from the second field on.
    rest: (Vec<u8>, usize),
    /// Reads in a row that filled the buffer.
    full: u32,
}

/// How bytes get across.
#[derive(Debug, Default)]
enum Way {
    /// Not begun: what is there already is taken without waiting to be told of it.
    #[default]
    New,
    /// Through the thread's buffer.
    Copy,
    /// Through a pipe.
    Splice(Pipe),
    /// The reader has ended.
    Over,
}

impl<'a> Relay<'a> {
    pub(crate) fn new(caller: Caller, manager: TcpStream, pipes: &'a Pipes) -> Self {
        let (up, down) = Default::default();
        Self { caller, manager: Caller::Tcp(manager), pipes, up, down }
    }

    fn poll_both(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<()>> {
        let Self { caller, manager, pipes, up, down } = self;
        if up.poll(cx, (caller, manager), pipes, buffer)? && !down.is_over() {
            end(manager)?;
        }
        if down.poll(cx, (manager, caller), pipes, buffer)? && !up.is_over() {
            end(caller)?;
        }
        if up.is_over() && down.is_over() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Future for Relay<'_> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        READ.with_borrow_mut(|buffer| self.get_mut().poll_both(cx, buffer))
    }
}

impl Half {
    fn is_over(&self) -> bool {
        matches!(self.way, Way::Over)
    }

    /// Carries what is there. True when this direction has just ended; else it is over or has to wait.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut Caller, &mut Caller),
        pipes: &Pipes,
        buffer: &mut [u8],
    ) -> io::Result<bool> {
        for _ in 0..STEPS {
            let step = match &mut self.way {
                Way::Over => return Ok(false),
                Way::New => self.begin(from, to, buffer).map(Poll::Ready)?,
                Way::Copy => self.copy(cx, from, to, buffer)?,
                Way::Splice(pipe) => pipe.carry(cx, from, to)?,
            };
            match step {
                Poll::Pending => return Ok(false),
                Poll::Ready(Step::Ended) => {
                    self.way = Way::Over;
                    return Ok(true);
                }
                Poll::Ready(Step::Carried) => self.choose_way(pipes),
            }
        }
        cx.waker().wake_by_ref();
        Ok(false)
    }

    fn begin(&mut self, from: &Caller, to: &Caller, buffer: &mut [u8]) -> io::Result<Step> {
        self.way = Way::Copy;
        match recv(from, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Step::Ended),
            Ok((_, n)) => self.send(to, buffer.get(..n).unwrap_or_default()),
            // It is told when there is something, or what broke.
            Err(_) => Ok(Step::Carried),
        }
    }

    fn copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Caller,
        to: &mut Caller,
        buffer: &mut [u8],
    ) -> io::Result<Poll<Step>> {
        if self.flush(cx, to)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let mut read = ReadBuf::new(buffer);
        if Pin::new(from).poll_read(cx, &mut read)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let full = read.remaining() == 0;
        self.full = if full { self.full.saturating_add(1) } else { 0 };
        if read.filled().is_empty() {
            return Ok(Poll::Ready(Step::Ended));
        }
        self.send(to, read.filled()).map(Poll::Ready)
    }

    /// Sends at once what there is room for, and keeps the rest.
    fn send(&mut self, to: &Caller, bytes: &[u8]) -> io::Result<Step> {
        let sent = match send(to, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => sent,
            Err(error) if may_wait(error) => 0,
            Err(error) => return Err(error.into()),
        };
        let rest = bytes.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.rest = (rest.to_vec(), 0);
        }
        Ok(Step::Carried)
    }

    /// Sends what was kept.
    fn flush(&mut self, cx: &mut Context<'_>, to: &mut Caller) -> io::Result<Poll<()>> {
        let (bytes, sent) = &mut self.rest;
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *to).poll_write(cx, rest)? {
                Poll::Ready(n) => *sent = sent.saturating_add(n),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        self.rest = Default::default();
        Ok(Poll::Ready(()))
    }

    /// A stream goes through a pipe, as soon as there is nothing left to send before it.
    fn choose_way(&mut self, pipes: &Pipes) {
        if self.full < STREAM || !matches!(self.way, Way::Copy) || !self.rest.0.is_empty() {
            return;
        }
        self.full = 0;
        if let Some(pipe) = pipes.open() {
            self.way = Way::Splice(pipe);
        }
    }
}

/// What one step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// There may be more.
    Carried,
    /// All there ever was has been sent.
    Ended,
}

fn may_wait(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::AGAIN | Errno::INTR)
}

/// Tells `to` that nothing more comes.
fn end(to: &Caller) -> io::Result<()> {
    match shutdown(to, Shutdown::Write) {
        Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
