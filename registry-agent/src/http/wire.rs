//! A connection to a manager, which knows whether anything was written to it.

use crate::forward::{Open, Word};
use crate::listen::ask_often;
use crate::metrics::Cut;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A connection. Whoever reads and writes does so through a [`WireIo`] of it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    out: Mutex<Out>,
    given_up: Notify,
}

/// What went out.
#[derive(Debug, Default)]
struct Out {
    /// Bytes that the system has taken.
    written: u64,
    /// Nothing more is written.
    sealed: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Self { stream, out: Mutex::default(), given_up: Notify::new() })
    }

    /// Bytes that were written so far.
    pub(super) fn written(&self) -> u64 {
        self.out().written
    }

    /// Ends writing for good, and says how many bytes were written ever. Whatever is still on its way inside this
    /// process goes no further, so that the number is final.
    pub(super) fn seal(&self) -> u64 {
        let mut out = self.out();
        out.sealed = true;
        out.written
    }

    /// Ends the connection both ways, whoever still holds it.
    fn cut(&self) {
        // It may have ended by itself.
        let _ = shutdown(&self.stream, Shutdown::Both);
    }

    /// Nobody wants anything of it any more: whoever carries it is to drop it.
    pub(super) fn give_up(&self) {
        self.given_up.notify_one();
    }

    /// Comes once it is given up.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Does as those who watch its manager say, until they have it closed, and says why.
    pub(super) async fn obey(&self, open: &mut Open<'_>) -> Cut {
        loop {
            // Refused, a dead side is found out later.
            let _ = match open.word().await {
                Word::Stay => ask_often(&self.stream, false),
                Word::Ask => ask_often(&self.stream, true),
                Word::Close(cause) => {
                    self.cut();
                    return cause;
                }
            };
        }
    }

    /// Whether nothing has come since the last answer: neither bytes, which nobody asked for, nor the end. The task
    /// that reads the connection hears of these later.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        // Nothing under this lock can leave it half changed.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what there is room for, unless writing has ended.
    fn try_write(&self, write: impl FnOnce(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        // Held while the system takes the bytes, so that `seal` counts them.
        let mut out = self.out();
        if out.sealed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = write(&self.stream)?;
        out.written = out.written.saturating_add(written as u64);
        Ok(written)
    }

    fn poll_writing(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(&write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            ready!(self.stream.poll_write_ready(cx))?;
        }
    }
}

/// Reads and writes a [`Wire`].
#[derive(Debug)]
pub(super) struct WireIo(pub(super) Arc<Wire>);

impl AsyncRead for WireIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read_buf(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done.map(drop)),
            }
        }
    }
}

impl AsyncWrite for WireIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_writing(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_writing(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match shutdown(&self.0.stream, Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_was_written_is_final_once_it_is_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let mut io = WireIo(Arc::clone(&wire));
        io.write_all(b"four").await.unwrap();
        assert_eq!(wire.written(), 4);
        assert_eq!(wire.seal(), 4);
        assert_eq!(io.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(wire.seal(), 4);
    }
}
