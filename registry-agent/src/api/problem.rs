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

/// An answer that ends the work on a request early. In a box, since it goes through the results of many functions.
pub(crate) struct Refused(Box<Response>);

impl From<Response> for Refused {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}
