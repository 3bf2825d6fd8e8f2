//! Errors, as programs read them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error as JSON.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    message: &'a str,
}

/// The answer that something is wrong: `error` is a stable name for programs, `message` is for people.
pub(crate) fn problem(status: StatusCode, error: &str, message: &str) -> Response {
    (status, Json(Problem { error, message })).into_response()
}
