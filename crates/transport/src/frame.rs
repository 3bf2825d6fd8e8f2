//! Frames: a length of four bytes, big-endian, and as many bytes of body.

use crate::connection::{CloseReason, Inner};
use crate::limits::{MAX_BATCH, MAX_FRAME, MAX_UPFRONT};
use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of the length before each body.
const HEADER: usize = 4;

/// Most chunks handed to the library in one call: a batch is written in a few calls, each under one lock.
const CHUNKS: usize = 64;

/// With which a receiver stops a stream that broke the rules.
const BROKEN: u32 = 0x1_0100;

/// Why a frame was not sent. The channel is of no further use for sending, except after `TooLong` and
/// `TooMany`, which sent nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Longer than any frame may be.
    #[error("a frame of {length} bytes is longer than {MAX_FRAME} bytes; nothing was sent")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// More frames than one batch may have.
    #[error("a batch of {count} frames has more than {MAX_BATCH}; nothing was sent")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The peer wants no more on this channel.
    #[error("the peer stopped reading this channel (code {code}); what was sent last may not have been read")]
    Stopped {
        /// The peer's code.
        code: u32,
    },
    /// The channel was finished or reset here.
    #[error("the channel is already finished; nothing was sent")]
    Finished,
    /// The connection is no more.
    #[error("the connection is gone; what was sent last may not have arrived")]
    Closed(#[source] CloseReason),
}

/// Why no frame was received. The channel is of no further use for receiving.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The peer announced more than the caller takes. Nothing of it was read, and the peer is stopped.
    #[error("the peer announced a frame of {length} bytes, more than {max}; the channel was stopped")]
    TooLong {
        /// The announced length.
        length: usize,
        /// What the caller takes.
        max: usize,
    },
    /// The channel ended inside a frame.
    #[error("the channel ended in the middle of a frame; the part that came was dropped")]
    Truncated,
    /// The peer gave the channel up.
    #[error("the peer gave up this channel (code {code})")]
    Reset {
        /// The peer's code.
        code: u32,
    },
    /// The channel was stopped here.
    #[error("the channel is already stopped")]
    Stopped,
    /// The connection is no more.
    #[error("the connection is gone")]
    Closed(#[source] CloseReason),
}

/// One ordered stream of frames each way.
#[derive(Debug)]
pub struct Channel {
    /// Towards the peer.
    pub sender: FrameSender,
    /// From the peer.
    pub receiver: FrameReceiver,
}

impl Channel {
    pub(crate) fn new(send: SendStream, recv: RecvStream, connection: Arc<Inner>) -> Self {
        let sender = FrameSender { stream: send, pending: VecDeque::new(), connection: connection.clone() };
        let receiver = FrameReceiver { stream: recv, state: State::START, connection };
        Self { sender, receiver }
    }

    /// The two directions, to be used by different tasks.
    pub fn split(self) -> (FrameSender, FrameReceiver) {
        (self.sender, self.receiver)
    }

    /// [`FrameSender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, body: &Bytes) -> Result<(), SendError> {
        self.sender.send(body).await
    }

    /// [`FrameReceiver::recv`].
    ///
    /// # Errors
    /// As there.
    pub async fn recv(&mut self, max: usize) -> Result<Option<Bytes>, RecvError> {
        self.receiver.recv(max).await
    }
}

/// The sending half. Dropping it finishes the channel; a frame that was not wholly handed over is then
/// received as truncated.
pub struct FrameSender {
    pub(crate) stream: SendStream,
    /// What was taken and not yet handed to the library.
    pending: VecDeque<Bytes>,
    connection: Arc<Inner>,
}

impl FrameSender {
    /// Sends one frame; waits while the peer is slower. A future that is dropped has either not taken the
    /// frame or taken it whole: the rest of it goes out before whatever is sent next.
    ///
    /// # Errors
    /// [`SendError`] says what became of it.
    pub async fn send(&mut self, body: &Bytes) -> Result<(), SendError> {
        self.send_all(std::slice::from_ref(body)).await
    }

    /// Sends several frames in order, in as few datagrams as they fit. Dropping the future is as safe as
    /// for [`Self::send`]: all of them are taken or none.
    ///
    /// # Errors
    /// [`SendError`] says what became of them.
    pub async fn send_all(&mut self, bodies: &[Bytes]) -> Result<(), SendError> {
        if bodies.len() > MAX_BATCH {
            return Err(SendError::TooMany { count: bodies.len() });
        }
        let headers = bodies.iter().map(header).collect::<Result<Vec<_>, _>>()?;
        self.flush().await?;
        for (header, body) in headers.into_iter().zip(bodies) {
            self.pending.extend([header, body.clone()]);
        }
        self.flush().await
    }

    /// Says that nothing more will come. What was sent is still delivered.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn finish(&mut self) -> Result<(), SendError> {
        self.flush().await?;
        self.stream.finish().map_err(|_| SendError::Finished)
    }

    /// Comes once the peer reads no more of this channel, or the connection is gone, and says which; never once all
    /// was sent and finished here. Waiting for it holds up nothing.
    pub fn gone(&self) -> impl Future<Output = SendError> + Send + 'static {
        let (stopped, connection) = (self.stream.stopped(), Arc::clone(&self.connection));
        async move {
            match stopped.await {
                Ok(Some(code)) => SendError::Stopped { code: code_of(code) },
                Err(StoppedError::ConnectionLost(lost)) => SendError::Closed(connection.close_reason(&lost)),
                Ok(None) | Err(StoppedError::ZeroRttRejected) => std::future::pending().await,
            }
        }
    }

    /// Gives the channel up: what was not yet delivered is dropped, and the peer is told `code`.
    pub fn reset(&mut self, code: u32) {
        self.pending.clear();
        // Fails only where it is over already.
        let _ = self.stream.reset(VarInt::from_u32(code));
    }

    async fn flush(&mut self) -> Result<(), SendError> {
        while !self.pending.is_empty() {
            let chunks = self.pending.make_contiguous();
            let few = chunks.len().min(CHUNKS);
            let written = self.stream.write_chunks(chunks.split_at_mut(few).0).await;
            match written {
                Ok(written) => drop(self.pending.drain(..written.chunks)),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &WriteError) -> SendError {
        self.pending.clear();
        match error {
            WriteError::Stopped(code) => SendError::Stopped { code: code_of(*code) },
            WriteError::ConnectionLost(lost) => SendError::Closed(self.connection.close_reason(lost)),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => SendError::Finished,
        }
    }
}

impl std::fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameSender({})", self.stream.id())
    }
}

/// The receiving half. Dropping it tells the peer to stop.
pub struct FrameReceiver {
    stream: RecvStream,
    pub(crate) state: State,
    pub(crate) connection: Arc<Inner>,
}

/// How far into a frame the receiver is.
pub(crate) enum State {
    Header { bytes: [u8; HEADER], filled: usize },
    Body { buffer: BytesMut, left: usize },
    Ended,
    Failed(RecvError),
}

impl State {
    const START: Self = Self::Header { bytes: [0; HEADER], filled: 0 };
}

impl FrameReceiver {
    /// The next frame's body, at most `max` bytes long; none once the peer has finished. Memory is taken
    /// as bytes arrive, whatever length was announced. Dropping the future loses nothing: the next call
    /// goes on where it stopped (with the `max` of the call that read the length).
    ///
    /// # Errors
    /// [`RecvError`]; every later call answers the same.
    pub async fn recv(&mut self, max: usize) -> Result<Option<Bytes>, RecvError> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
                State::Body { buffer, left: 0 } => {
                    let body = std::mem::take(buffer).freeze();
                    self.state = State::START;
                    return Ok(Some(body));
                }
                State::Header { .. } | State::Body { .. } => self.step(max).await,
            }
        }
    }

    /// How many bytes of a frame that is on its way have come; 0 between two frames.
    pub fn partial(&self) -> usize {
        match &self.state {
            State::Header { filled, .. } => *filled,
            State::Body { buffer, .. } => HEADER + buffer.len(),
            State::Ended | State::Failed(_) => 0,
        }
    }

    /// Tells the peer to send nothing more on this channel.
    pub fn stop(&mut self, code: u32) {
        self.state = State::Failed(RecvError::Stopped);
        // Fails only where it is over already.
        let _ = self.stream.stop(VarInt::from_u32(code));
    }

    /// Waits for some bytes and takes them in. The only await is a read that loses nothing when dropped.
    async fn step(&mut self, max: usize) {
        let wanted = match &self.state {
            State::Header { filled, .. } => HEADER - filled,
            State::Body { left, .. } => *left,
            State::Ended | State::Failed(_) => return,
        };
        match self.stream.read_chunk(wanted, true).await {
            Ok(Some(chunk)) => self.take(&chunk.bytes, max),
            Ok(None) => self.end(),
            Err(error) => self.state = State::Failed(self.failed(error)),
        }
    }

    fn take(&mut self, chunk: &[u8], max: usize) {
        match &mut self.state {
            State::Header { bytes, filled } => {
                for (to, from) in bytes.iter_mut().skip(*filled).zip(chunk) {
                    *to = *from;
                }
                *filled += chunk.len();
                if *filled == HEADER {
                    let length = u32::from_be_bytes(*bytes) as usize;
                    self.begin(length, max);
                }
            }
            State::Body { buffer, left } => {
                buffer.extend_from_slice(chunk);
                *left = left.saturating_sub(chunk.len());
            }
            State::Ended | State::Failed(_) => {}
        }
    }

    fn begin(&mut self, length: usize, max: usize) {
        if length > max {
            self.stop(BROKEN);
            self.state = State::Failed(RecvError::TooLong { length, max });
            return;
        }
        let buffer = BytesMut::with_capacity(length.min(MAX_UPFRONT));
        self.state = State::Body { buffer, left: length };
    }

    fn end(&mut self) {
        self.state = match self.state {
            State::Header { filled: 0, .. } => State::Ended,
            _ => State::Failed(RecvError::Truncated),
        };
    }

    fn failed(&self, error: ReadError) -> RecvError {
        match error {
            ReadError::Reset(code) => RecvError::Reset { code: code_of(code) },
            ReadError::ConnectionLost(lost) => RecvError::Closed(self.connection.close_reason(&lost)),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                RecvError::Stopped
            }
        }
    }
}

impl std::fmt::Debug for FrameReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameReceiver({})", self.stream.id())
    }
}

pub(crate) fn header(body: &Bytes) -> Result<Bytes, SendError> {
    match u32::try_from(body.len()) {
        Ok(length) if body.len() <= MAX_FRAME => Ok(Bytes::copy_from_slice(&length.to_be_bytes())),
        _ => Err(SendError::TooLong { length: body.len() }),
    }
}

fn code_of(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}
