//! Metrics and health, for programs that watch the manager.

use crate::server::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// The HTTP interface.
pub(crate) fn router(shared: Shared) -> Router {
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
    m.handshakes_failed.set(number(stats.failed));
    m.socket_drops.set(shared.endpoint.socket_drops().map_or(0, number));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], m.text())
}
