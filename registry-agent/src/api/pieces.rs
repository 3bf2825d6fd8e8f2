//! The body of an answer that is partly made already.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::array::IntoIter;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Two pieces, which are written one after the other and not copied together.
pub(super) struct Pieces(IntoIter<Bytes, 2>);

impl Pieces {
    pub(super) fn new(first: Bytes, second: Bytes) -> Self {
        Self([first, second].into_iter())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_slice().iter().map(|piece| piece.len() as u64).sum())
    }
}
