//! Bytes between a caller and a manager, both ways, until both have said all they had to say.

use crate::forward::pipe::{Pipe, Pipes};
use crate::listen::{Caller, ask_often, ask_seldom};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// What one read can take. Each thread has one such buffer for all its connections, so that an idle one
/// costs none; what the other side has no room for is kept apart.
const BUFFER: usize = 64 * 1024;

/// Reads in a row that fill the buffer before bytes go through a pipe in the kernel: a stream, for which
/// it is worth its four descriptors.
const STREAM: u32 = 4;

/// Steps of one direction before others get their turn: with a pipe up to half a megabyte each.
const STEPS: usize = 16;

/// How often a side that nothing is read from is looked at, in case it was reset meanwhile. Such connections are
/// few, and nothing but their descriptors depends on it.
const LOOK: Duration = Duration::from_secs(5);

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// A connection under way. Either side can end its half and still hear the other. It is over when both
/// have, or when one breaks.
///
/// Only when both have ended is it closed so that they see an end. In every other case, also when this is dropped
/// before it is over, both are reset over TCP: what was cut off must not look complete.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    caller: Caller,
    /// To a relay both are alike.
    manager: Caller,
    pipes: &'a Pipes,
    up: Half,
    down: Half,
    /// What kept one side from taking more. What that side has sent before is still carried to the other.
    broken: Option<io::Error>,
    /// Both have said all they had to say.
    whole: bool,
    /// The next look at a side that nothing is read from; from the first time on that there is one.
    look: Option<Pin<Box<Sleep>>>,
}

/// Where a direction broke.
#[derive(Debug)]
enum Broken {
    /// Its reader: this side is gone, and all that it sent has been taken.
    From(io::Error),
    /// Its writer: this side takes nothing more. What it sent before may not have been taken yet.
    To(io::Error),
}

impl<'a> Relay<'a> {
    pub(crate) fn new(caller: Caller, manager: TcpStream, pipes: &'a Pipes) -> Self {
        let (up, down, broken, whole, look) = Default::default();
        // As above.
        let _ = ask_seldom(&manager);
        Self { caller, manager: Caller::Tcp(manager), pipes, up, down, broken, whole, look }
    }

    fn poll_both(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<()>> {
        let Self { caller, manager, pipes, up, down, broken, .. } = self;
        let done = up.poll(cx, (caller, manager), pipes, buffer);
        follow(done, up, down, manager, broken)?;
        let done = down.poll(cx, (manager, caller), pipes, buffer);
        follow(done, down, up, caller, broken)?;
        if self.is_over() {
            self.whole = self.broken.is_none();
            return Poll::Ready(self.broken.take().map_or(Ok(()), Err));
        }
        if self.up.is_unwatched() || self.down.waits() {
            return self.poll_look(cx);
        }
        Poll::Pending
    }

    /// Has the system ask the manager's side every second, or as seldom as usual, whether it is still there.
    pub(crate) fn ask_often(&self, often: bool) {
        // Refused, a dead side is found out later.
        let _ = ask_often(&self.manager, often);
    }

    fn is_over(&self) -> bool {
        self.up.is_over() && self.down.is_over()
    }

    /// A side that is not read from does not tell that it was reset: it is asked every now and then. Not needed is
    /// that for a manager that has ended: its caller knows, and has only to end as well.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(look.as_mut().poll(cx));
            look.as_mut().reset(Instant::now() + LOOK);
            for (half, from) in [(&self.up, &self.caller), (&self.down, &self.manager)] {
                if let Some(error) = half.is_unwatched().then(|| from.fault()).flatten() {
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.caller.reset();
            self.manager.reset();
        }
    }
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
    /// The reader has ended, or the writer takes nothing more.
    Over,
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

    /// Whether nothing more is read, at all or until the other side has taken what was.
    fn is_unwatched(&self) -> bool {
        self.is_over() || self.waits()
    }

    /// Whether something was read that the other side has not taken yet.
    fn waits(&self) -> bool {
        !self.rest.0.is_empty() || matches!(&self.way, Way::Splice(pipe) if pipe.held() > 0)
    }

    /// Carries what is there. True when this direction has just ended; else it is over or has to wait.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut Caller, &mut Caller),
        pipes: &Pipes,
        buffer: &mut [u8],
    ) -> Result<bool, Broken> {
        for _ in 0..STEPS {
            let step = match &mut self.way {
                Way::Over => return Ok(false),
                Way::New => Poll::Ready(self.begin(from, to, buffer)?),
                Way::Copy => self.copy(cx, from, to, buffer)?,
                Way::Splice(pipe) => carry(pipe, cx, from, to)?,
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

    fn begin(&mut self, from: &Caller, to: &Caller, buffer: &mut [u8]) -> Result<Step, Broken> {
        self.way = Way::Copy;
        match recv(from, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Step::Ended),
            Ok((_, n)) => self.send(to, buffer.get(..n).unwrap_or_default()),
            // It is told when there is something.
            Err(error) if may_wait(error) => Ok(Step::Carried),
            Err(error) => Err(Broken::From(error.into())),
        }
    }

    fn copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Caller,
        to: &mut Caller,
        buffer: &mut [u8],
    ) -> Result<Poll<Step>, Broken> {
        if self.flush(cx, to)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let mut read = ReadBuf::new(buffer);
        if Pin::new(from).poll_read(cx, &mut read).map_err(Broken::From)?.is_pending() {
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
    fn send(&mut self, to: &Caller, bytes: &[u8]) -> Result<Step, Broken> {
        let sent = match send(to, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => sent,
            Err(error) if may_wait(error) => 0,
            Err(error) => return Err(Broken::To(error.into())),
        };
        let rest = bytes.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.rest = (rest.to_vec(), 0);
        }
        Ok(Step::Carried)
    }

    /// Sends what was kept.
    fn flush(&mut self, cx: &mut Context<'_>, to: &mut Caller) -> Result<Poll<()>, Broken> {
        let (bytes, sent) = &mut self.rest;
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut *to).poll_write(cx, rest).map_err(Broken::To)? {
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

/// Does what follows from a step of `half` towards `to`: an end is told to `to`; a side that takes nothing more is
/// still heard; one that is gone is the end of both.
fn follow(
    done: Result<bool, Broken>,
    half: &mut Half,
    other: &Half,
    to: &Caller,
    broken: &mut Option<io::Error>,
) -> io::Result<()> {
    let ended = match done {
        Ok(ended) => ended && !other.is_over(),
        Err(Broken::From(error)) => return Err(error),
        Err(Broken::To(error)) => {
            half.way = Way::Over;
            *broken = Some(error);
            false
        }
    };
    if ended && let Err(error) = end(to) {
        *broken = Some(error);
    }
    Ok(())
}

fn carry(pipe: &mut Pipe, cx: &mut Context<'_>, from: &Caller, to: &Caller) -> Result<Poll<Step>, Broken> {
    while pipe.held() == 0 {
        match pipe.fill(cx, from).map_err(Broken::From)? {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Step::Ended) => return Ok(Poll::Ready(Step::Ended)),
            Poll::Ready(Step::Carried) => {}
        }
    }
    Ok(pipe.empty(cx, to).map_err(Broken::To)?.map(|()| Step::Carried))
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

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
