//! One timer for a connection, in place of one for each request on it.

use hyper::rt::{Sleep, Timer};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until};

/// Until when the next request's head must be there; none while a request is worked on. The HTTP library sets it,
/// as its timer, and whoever runs the connection waits beside it for [`Self::passed`]. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Deadline(Arc<Mutex<Option<Instant>>>);

/// What the library takes for a timer. It sets the deadline while it exists, and never wakes anybody.
struct Armed(Deadline);

impl Deadline {
    /// Waits until the deadline has passed. Every deadline is `limit` away when it is set.
    pub(super) async fn passed(&self, limit: Duration) {
        loop {
            match self.get() {
                Some(at) if at <= Instant::now() => return,
                Some(at) => sleep_until(at.into()).await,
                // One that is set meanwhile is further away.
                None => sleep(limit).await,
            }
        }
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl Timer for Deadline {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.set(Some(deadline));
        Box::pin(Armed(self.clone()))
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        self.set(Some(deadline));
    }
}

impl Sleep for Armed {}

impl Future for Armed {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use hyper::body::{Bytes, Incoming};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const LIMIT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_head_has_a_deadline_and_work_on_a_request_has_none() {
        let (mut caller, served) = duplex(1024);
        let deadline = Deadline::default();
        let slow = service_fn(|_: Request<Incoming>| async {
            sleep(LIMIT * 5).await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let connection = http1::Builder::new()
            .timer(deadline.clone())
            .header_read_timeout(LIMIT)
            .serve_connection(TokioIo::new(served), slow);
        let run = async {
            tokio::select! {
                ended = connection => panic!("the connection ended by itself: {ended:?}"),
                () = deadline.passed(LIMIT) => Instant::now(),
            }
        };
        let call = async {
            caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = [0; 256];
            let length = caller.read(&mut answer).await.unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
            let answered = Instant::now();
            caller.write_all(b"GET / HT").await.unwrap();
            answered
        };
        let (ended, answered) = tokio::join!(run, call);
        assert!(ended >= answered, "it ended while a request was worked on");
    }
}
