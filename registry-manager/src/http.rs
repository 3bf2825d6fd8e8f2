//! Metrics and health, for programs that watch the manager.

use crate::limits::{HTTP_ACCEPT_PAUSE, HTTP_CONNECTIONS, HTTP_HEAD, HTTP_HEAD_DEADLINE};
use crate::server::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use echelon_daemon::Tasks;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
        .route("/primary", get(ready))
        .with_state(shared)
}

/// This build has one manager, which serves agents and accepts edits as long as it is not stopping.
async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.stop.is_cancelled() {
        false => (StatusCode::OK, "ok\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let (hub, m) = (&shared.hub, &shared.hub.metrics);
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mark = hub.mark();
    m.revision.set(number(mark.position.revision));
    m.view_revision.set(number(mark.view_revision));
    m.hosts.set(number(hub.registry().host_count() as u64));
    m.sessions.set(number(hub.sessions.count() as u64));
    {
        let board = hub.board();
        m.silent.set(number(board.agents().filter(|(_, a)| a.is_silent()).count() as u64));
        m.self_doubt.set(board.is_doubting().into());
    }
    let stats = shared.endpoint.stats();
    m.connections.set(number(stats.open as u64));
    m.handshakes_failed.inner().store(stats.failed, Ordering::Relaxed);
    m.socket_drops.inner().store(shared.endpoint.socket_drops().unwrap_or(0), Ordering::Relaxed);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], m.text())
}
