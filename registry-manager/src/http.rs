//! Metrics and health, for programs that watch the manager.

use crate::failure;
use crate::limits::{HTTP_ACCEPT_PAUSE, HTTP_CONNECTIONS, HTTP_HEAD, HTTP_HEAD_DEADLINE};
use crate::readings::readings;
use crate::server::Shared;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use echelon_core::member::CannotWrite;
use echelon_daemon::Tasks;
use echelon_daemon::metrics::exposition;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Answers on `listener` until the manager stops.
pub(crate) async fn serve(shared: Shared, listener: TcpListener, tasks: Tasks) {
    let (stop, room) = (shared.stop.clone(), Arc::new(Semaphore::new(HTTP_CONNECTIONS)));
    let app = router(shared);
    loop {
        let accept = async {
            // The semaphore is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (app, stop) = (app.clone(), stop.clone());
                tasks.spawn("http-connection", async move {
                    tokio::select! {
                        () = converse(stream, app) => {}
                        // What is asked here can be asked again; a peer that is slow must not hold up the end.
                        () = stop.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "Metrics and health: a connection could not be accepted");
                tokio::time::sleep(HTTP_ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, app: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_DEADLINE)
        .max_buf_size(HTTP_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    if let Err(error) = connection.await {
        debug!(%error, "A connection for metrics and health broke");
    }
}

/// The HTTP interface.
fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        // The process answers, so it is alive.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/primary", get(primary))
        .route("/alarms", get(alarms))
        .with_state(shared)
}

/// Agents are served by every manager that is not stopping.
async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.stop.is_cancelled() {
        false => (StatusCode::OK, "ok\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

/// For what leads edits to the one manager that takes them.
async fn primary(State(shared): State<Shared>) -> impl IntoResponse {
    let situation = shared.edits.situation();
    match &situation.writes {
        _ if shared.stop.is_cancelled() => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(CannotWrite::NotPrimary { holder, .. }) => {
            let text = format!(
                "this registry manager is a standby; the primary is {}\n",
                shared.hub.name_of(*holder)
            );
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
        Err(why) => {
            let (registry, now) = (shared.hub.registry(), shared.hub.clock.now());
            let failure = failure::cannot_write(why, &registry, shared.host, now);
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", failure.message))
        }
    }
}

/// All alarms that are up, the worst first, as a list.
async fn alarms(State(shared): State<Shared>) -> impl IntoResponse {
    Json(shared.survey(|survey| survey.worst_alarms()))
}

/// In the format that is asked for; see [`echelon_daemon::metrics`].
async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match exposition(&[shared.hub.metrics.metered(), &readings(&shared)], accept) {
        Ok(all) => ([(header::CONTENT_TYPE, all.content_type)], all.text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
