//! A request's body, which is held until it is known that nobody needs it again.

use bytes::Bytes;
use futures::task::AtomicWaker;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Bytes of one request's body that are held. What programs send to each other in a call is far smaller; files are
/// not sent twice.
pub(super) const MAX_HELD: usize = 64 * 1024;

/// How long a manager's word is awaited for a body that its caller holds back until then. Callers send it after about
/// as long by themselves (RFC 9110, section 10.1.1: not forever).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A caller's body broke off. The request is not repeated with it.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub(super) struct UploadError(#[source] hyper::Error);

/// The body of one request, for as many tries as it takes.
#[derive(Debug)]
pub(super) struct Upload {
    state: Mutex<State>,
    /// Bytes that all requests together may still hold.
    budget: Arc<Semaphore>,
    hint: SizeHint,
}

#[derive(Debug)]
struct State {
    incoming: Incoming,
    held: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// For what is held.
    places: Option<OwnedSemaphorePermit>,
    /// Not all that was read is held.
    lost: bool,
    /// The caller has broken off.
    broken: bool,
    /// All of it was read.
    ended: bool,
    /// Which try reads.
    reader: u64,
}

impl Upload {
    /// The body that comes, of which so much is held as `budget` has permits for. None where there is no body.
    pub(super) fn new(incoming: Incoming, budget: &Arc<Semaphore>) -> Option<Arc<Self>> {
        if incoming.is_end_stream() {
            return None;
        }
        let hint = incoming.size_hint();
        let (held, trailers, places) = Default::default();
        let (lost, broken, ended, reader) = Default::default();
        let state = State { incoming, held, trailers, places, lost, broken, ended, reader };
        Some(Arc::new(Self { state: Mutex::new(state), budget: Arc::clone(budget), hint }))
    }

    /// The body from its beginning. A reader before this one waits for ever from now on: its connection, which may
    /// have an answer that is still read, is given up by whoever asks for another reader. Asked for a second time
    /// only while [`Self::is_held`].
    pub(super) fn read(self: &Arc<Self>, gate: Option<Arc<Gate>>) -> Replay {
        let mut state = self.state();
        state.reader += 1;
        let source = Source { upload: Arc::clone(self), reader: state.reader, at: 0, told_trailers: false };
        let waiting = gate.map(|gate| (gate, Box::pin(sleep(CONTINUE_WAIT))));
        Replay { source: Some(source), waiting }
    }

    /// Whether all that has been read is there to be read again.
    pub(super) fn is_held(&self) -> bool {
        let state = self.state();
        !state.lost && !state.broken
    }

    /// Whether the caller has broken off.
    pub(super) fn is_broken(&self) -> bool {
        self.state().broken
    }

    /// Nobody will read it from the beginning any more.
    pub(super) fn let_go(&self) {
        self.state().lose();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the caller sends next.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        budget: &Arc<Semaphore>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            None => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                self.broken = true;
                return Poll::Ready(Some(Err(UploadError(error))));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(bytes) = frame.data_ref() {
            self.hold(bytes, budget);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.ended = true;
            self.trailers = Some(trailers.clone());
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Copies `bytes`: small pieces may belong to large buffers.
    fn hold(&mut self, bytes: &Bytes, budget: &Arc<Semaphore>) {
        if self.lost {
            return;
        }
        let room = MAX_HELD.checked_sub(self.held.len()).is_some_and(|room| bytes.len() <= room);
        let count = u32::try_from(bytes.len()).ok().filter(|_| room);
        let places = count.and_then(|count| Arc::clone(budget).try_acquire_many_owned(count).ok());
        match (places, &mut self.places) {
            (None, _) => return self.lose(),
            (Some(more), Some(places)) => places.merge(more),
            (places, none) => *none = places,
        }
        self.held.extend_from_slice(bytes);
    }

    fn lose(&mut self) {
        self.lost = true;
        self.held = Vec::new();
        self.places = None;
    }
}

/// The body as one try sends it: first what is held, then what comes.
#[derive(Debug)]
pub(super) struct Replay {
    source: Option<Source>,
    /// Until the manager wants it, or has said nothing for too long.
    waiting: Option<(Arc<Gate>, Pin<Box<Sleep>>)>,
}

#[derive(Debug)]
struct Source {
    upload: Arc<Upload>,
    reader: u64,
    /// How much of what is held was read.
    at: usize,
    told_trailers: bool,
}

impl Replay {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { source: None, waiting: None }
    }
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut state = self.upload.state();
        if state.reader != self.reader {
            return Poll::Pending;
        }
        if let Some(rest) = state.held.get(self.at..).filter(|rest| !rest.is_empty()) {
            let bytes = Bytes::copy_from_slice(rest);
            self.at = state.held.len();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(trailers) = state.trailers.as_ref().filter(|_| !self.told_trailers) {
            self.told_trailers = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
        }
        let next = state.poll_next(cx, &self.upload.budget);
        self.at = state.held.len();
        self.told_trailers = state.trailers.is_some();
        next
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = self.get_mut();
        if let Some((gate, patience)) = &mut this.waiting {
            if !gate.is_open(cx) {
                ready!(patience.as_mut().poll(cx));
            }
            this.waiting = None;
        }
        match &mut this.source {
            None => Poll::Ready(None),
            Some(source) => source.poll_next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.as_ref().map_or(SizeHint::with_exact(0), |source| source.upload.hint)
    }
}

/// Holds a body back until its manager asks for it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    waiting: AtomicWaker,
}

impl Gate {
    /// Lets the body through.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waiting.wake();
    }

    fn is_open(&self, cx: &mut Context<'_>) -> bool {
        self.waiting.register(cx.waker());
        self.open.load(Ordering::Acquire)
    }
}
