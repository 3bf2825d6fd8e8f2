//! What the agent answers itself, in the shape of its API's errors.

use crate::http::answer::AnswerBody;
use bytes::Bytes;
use echelon_core::name::{ManagerType, Text};
use http_body_util::{Either, Full};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// Why a caller gets no manager's answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The request itself.
    #[error("this request cannot be passed on: {0}")]
    Bad(&'static str),
    /// A tunnel is asked for.
    #[error("CONNECT is not passed on; a forwarder for connections does that: --forward TYPE=ADDR:PORT")]
    Connect,
    /// `Max-Forwards` is used up.
    #[error("Max-Forwards is 0, and this agent is not who is asked")]
    LastOnTheWay,
    /// Its body comes in a way that only the next one on the way understands.
    #[error("this request's Transfer-Encoding is not passed on: only chunked is")]
    Coding,
    /// Too many at a time.
    #[error("this agent carries as many requests as it can; come again")]
    Busy,
    /// There was nobody to try.
    #[error("nobody serves this type here: {0}")]
    Unserved(Text),
    /// Nobody could be connected to.
    #[error("no manager can be reached: {0}")]
    Unreachable(String),
    /// Nobody could be connected to in time.
    #[error("no manager could be reached in time")]
    Timeout,
    /// The manager broke off.
    #[error("{manager} broke off before it answered, and may have acted on the request: {why}")]
    Broken {
        /// Its host.
        manager: String,
        /// How.
        why: String,
    },
    /// The manager answered, but not in HTTP that can be passed on.
    #[error("{manager} gave an answer that cannot be passed on, and may have acted on the request: {why}")]
    BadAnswer {
        /// Its host.
        manager: String,
        /// What is wrong with it.
        why: String,
    },
    /// The connection ended before anything was sent, and the request's body is gone.
    #[error("{manager} closed the connection before anything was sent: {why}")]
    Unsent {
        /// Its host.
        manager: String,
        /// How.
        why: String,
    },
    /// The caller broke off.
    #[error("the request broke off")]
    BrokenOff,
}

/// What programs read.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    message: &'a str,
    r#type: &'a str,
}

impl Refusal {
    /// A request that cannot be passed on.
    pub(super) const fn bad(why: &'static str) -> Self {
        Self::Bad(why)
    }

    /// Whether it is the request, and not the managers or this agent, that something is wrong with.
    pub(super) fn is_callers(&self) -> bool {
        matches!(self, Self::Bad(_) | Self::Connect | Self::LastOnTheWay | Self::Coding | Self::BrokenOff)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Bad(_) | Self::BrokenOff => "bad-request",
            Self::Connect => "connect-refused",
            Self::LastOnTheWay => "max-forwards",
            Self::Coding => "coding-unknown",
            Self::Busy => "busy",
            Self::Unserved(_) => "unserved",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken { .. } => "broken",
            Self::BadAnswer { .. } => "bad-answer",
            Self::Unsent { .. } => "unsent",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) | Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::Connect | Self::LastOnTheWay => StatusCode::METHOD_NOT_ALLOWED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Busy | Self::Unserved(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable(_) | Self::Broken { .. } | Self::BadAnswer { .. } | Self::Unsent { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The answer. `retry-after` stands only where the request was not looked at.
    pub(super) fn answer(&self, ty: &ManagerType) -> Response<AnswerBody> {
        let message = self.to_string();
        let problem = Problem { error: self.name(), message: &message, r#type: ty.as_str() };
        let json = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Either::Right(Full::new(Bytes::from(json))));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn header(&self) -> Option<(HeaderName, &'static str)> {
        match self {
            Self::Busy => Some((RETRY_AFTER, "1")),
            Self::Connect | Self::LastOnTheWay => Some((ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE")),
            _ => None,
        }
    }
}
