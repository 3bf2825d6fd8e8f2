//! HTTP/1.1 on a local socket or port.

use crate::api::answers::App;
use crate::api::deadline::Deadline;
use crate::api::writers::Peer;
use crate::listen::{Caller, Listener};
use crate::slots::Waiting;
use echelon_daemon::Tasks;
use futures::future::{Either, ready};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections open at a time on one socket: a host's programs, each with one or two. Past it they wait
/// in the kernel's queue.
pub(super) const MAX_CONNECTIONS: usize = 1024;

/// How long a request's head may take to arrive, and an idle connection is kept.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// Most bytes of a request's head that are held. Types have 63 bytes, so that this is ample.
const MAX_HEAD: usize = 16 * 1024;

/// Serves `app` on `listener` until `stop`.
pub(crate) async fn serve(listener: Listener, app: App, tasks: Tasks, stop: CancellationToken) {
    let welcome = |caller, place| {
        let (app, stop) = (app.clone(), stop.clone());
        tasks.spawn("api", async move {
            converse(caller, app, stop).await;
            drop(place);
        });
    };
    let complain = |error: &Waiting| warn!(%error, "The API cannot accept a connection");
    listener.serve(MAX_CONNECTIONS, stop.clone(), welcome, complain).await;
}

/// Answers requests on one connection; at a stop, the one under way is still answered.
async fn converse(caller: Caller, app: App, stop: CancellationToken) {
    let peer = Peer::of(&caller);
    let App { documents, router } = app;
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| match documents.answer(&request) {
        Some(answer) => Either::Left(ready(Ok(answer))),
        None => {
            request.extensions_mut().insert(peer);
            Either::Right(router.call(request))
        }
    });
    let deadline = Deadline::default();
    let connection = http1::Builder::new()
        .timer(deadline.clone())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(caller), service);
    let mut connection = std::pin::pin!(connection);
    let answering = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = tokio::select! {
        ended = answering => ended,
        () = deadline.passed(HEADER_DEADLINE) => return debug!("A caller of the API said nothing for too long"),
    };
    if let Err(error) = ended {
        debug!(%error, "A connection to the API broke");
    }
}
