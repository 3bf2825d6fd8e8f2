//! What is answered.

use crate::api::documents::Documents;
use crate::api::follow::Followers;
use crate::api::packages;
use crate::api::problem::problem;
use crate::api::{roles, routes};
use crate::routes::WantError;
use crate::status::Subject;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What answers on one listener.
#[derive(Clone)]
pub(crate) struct App {
    /// What most ask for, asked first.
    pub(super) documents: Documents,
    pub(super) router: Router,
}

/// The API over an agent, on a listener that closes with `stop`: who waits or follows there is answered then.
pub(crate) fn app(agent: Arc<Subject>, stop: CancellationToken) -> App {
    let followers = Followers::new();
    let documents = Documents::new(Arc::clone(&agent), followers.clone());
    let roles = roles::router(Arc::clone(&agent), followers.clone(), stop.clone());
    let routes = routes::router(Arc::clone(&agent), followers, documents.clone(), stop);
    App { documents, router: router(agent, routes.merge(roles)) }
}

fn router(agent: Arc<Subject>, routes: Router<Arc<Subject>>) -> Router {
    Router::new()
        .merge(routes)
        .route("/v1/packages", get(packages::list))
        .route("/v1/packages/{type}", packages::one())
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async {
            problem(StatusCode::NOT_FOUND, "unknown-path", "there is nothing at this path")
        })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "unknown-method", "this can only be read: use GET")
        })
        .layer(map_response_with_state(Arc::clone(&agent), count))
        .with_state(agent)
}

async fn count(State(agent): State<Arc<Subject>>, answer: Response) -> Response {
    agent.metrics.count_answer(answer.status().as_u16());
    answer
}

async fn status(State(agent): State<Arc<Subject>>) -> Response {
    Json(agent.status()).into_response()
}

async fn metrics(State(agent): State<Arc<Subject>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match agent.metrics(accept) {
        Ok(all) => ([(header::CONTENT_TYPE, all.content_type)], all.text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()),
    }
}

async fn ready(State(agent): State<Arc<Subject>>) -> Response {
    match agent.routes.replica() {
        Some(_) => "ready\n".into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "no-replica", &WantError::NoReplica.to_string()),
    }
}
