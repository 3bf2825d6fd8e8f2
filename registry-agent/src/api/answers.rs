//! What is answered.

use crate::routes::WantError;
use crate::status::Subject;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use echelon_core::name::{ManagerType, quoted};
use echelon_core::report::Outcome;
use serde::Serialize;
use std::sync::Arc;

/// The API over an agent.
pub(crate) fn router(agent: Arc<Subject>) -> Router {
    Router::new()
        .route("/v1/routes/{type}", get(route))
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
        .with_state(agent)
}

/// An error as JSON.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    message: &'a str,
}

fn problem(status: StatusCode, error: &str, message: &str) -> Response {
    (status, Json(Problem { error, message })).into_response()
}

async fn route(State(agent): State<Arc<Subject>>, Path(text): Path<String>) -> Response {
    let Some(replica) = agent.routes.replica() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no-replica", &WantError::NoReplica.to_string());
    };
    let unknown = || {
        let message = format!("there is no manager of type {}", quoted(&text));
        problem(StatusCode::NOT_FOUND, "unknown-type", &message)
    };
    let Ok(ty) = text.parse::<ManagerType>() else { return unknown() };
    // Only types that exist are kept routes for, so that callers who invent some take up no room.
    if replica.view.managers_of(&ty).next().is_none() {
        return unknown();
    }
    if let Err(error) = agent.routes.want(&ty).await {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no-route", &error.to_string());
    }
    let Some(report) = agent.report(&ty) else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "no-replica", &WantError::NoReplica.to_string());
    };
    let status = match report.outcome {
        Outcome::Unserved => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (status, Json(report)).into_response()
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
