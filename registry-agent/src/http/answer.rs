//! A manager's answer on its way to the caller.

use crate::http::place::Place;
use crate::http::pool::Pool;
use crate::http::upstream::Link;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What callers get: a manager's answer, or the agent's own.
pub(super) type AnswerBody = Either<Passed, Full<Bytes>>;

/// A manager's answer broke off. The caller's connection is closed, so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the manager's answer broke off")]
pub(super) struct AnswerError(#[source] hyper::Error);

/// The body of a manager's answer. Once it is whole, the connection is kept for further requests.
#[derive(Debug)]
pub(super) struct Passed {
    body: Incoming,
    link: Option<Link>,
    pool: Arc<Pool>,
    _place: Place,
}

impl Passed {
    /// Of the answer that came over `link`.
    pub(super) fn new(body: Incoming, link: Link, pool: &Arc<Pool>, place: Place) -> Self {
        let mut this = Self { body, link: Some(link), pool: Arc::clone(pool), _place: place };
        if this.body.is_end_stream() {
            this.whole();
        }
        this
    }

    fn whole(&mut self) {
        if let Some(link) = self.link.take() {
            self.pool.put(link);
        }
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.get_mut();
        if this.link.is_none() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if frame.is_trailers() || this.body.is_end_stream() {
                    this.whole();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(AnswerError(error))),
            None => {
                this.whole();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.link.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
