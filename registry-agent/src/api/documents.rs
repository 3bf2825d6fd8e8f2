//! The documents that tell of routes: made once for all who ask, but for the ages in them.

use crate::api::follow::Followers;
use crate::api::pieces::Pieces;
use crate::clock::millis;
use crate::routes::Snapshot;
use crate::status::Subject;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use echelon_core::name::ManagerType;
use echelon_core::report::{Outcome, RouteReport, Source};
use echelon_core::route::Route;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Where routes are asked for, before the type.
const PATH: &str = "/v1/routes/";

/// A route as it is answered.
#[derive(Serialize)]
pub(super) struct Tagged {
    /// Differs where the choice or the order of candidates does; means nothing else. The same after a restart.
    tag: String,
    #[serde(flatten)]
    route: RouteReport,
}

/// The newest document of each type. Clones are the same.
#[derive(Clone)]
pub(super) struct Documents {
    agent: Arc<Subject>,
    followers: Followers,
    made: Arc<Mutex<BTreeMap<ManagerType, Arc<Document>>>>,
}

/// One document, and what it was made from. References that keep nothing alive tell whether it still is that;
/// routes are kept for a bounded number of types, and so are these.
struct Document {
    route: Weak<Route>,
    replica: Weak<Snapshot>,
    source: Source,
    /// The second in which it was made, where its candidates tell ages: those may be a second old.
    second: Option<u64>,
    status: StatusCode,
    text: Text,
}

/// The text of a document without its two ages.
struct Text {
    before_age: String,
    before_since: String,
    rest: Bytes,
}

impl Documents {
    pub(super) fn new(agent: Arc<Subject>, followers: Followers) -> Self {
        Self { agent, followers, made: Arc::default() }
    }

    /// The answer to a plain request for the route of a type, where its document is made already: nearly every
    /// request is that, and this is the short way to its answer. None to any other.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response> {
        let ty = request.uri().path().strip_prefix(PATH)?;
        if request.method() != Method::GET || request.uri().query().is_some() {
            return None;
        }
        let (route, replica) = self.agent.routes.get_with_replica(ty)?;
        let document = self.made(&route, &replica)?;
        self.agent.metrics.count_answer(document.status.as_u16());
        Some(self.told(&document, &route))
    }

    /// The answer that tells of this route.
    pub(super) fn response(
        &self,
        route: &Arc<Route>,
        replica: &Arc<Snapshot>,
    ) -> serde_json::Result<Response> {
        let document = match self.made(route, replica) {
            Some(document) => document,
            None => self.make(route, replica)?,
        };
        Ok(self.told(&document, route))
    }

    /// The route as it is answered.
    pub(super) fn tagged(&self, route: &Arc<Route>, replica: &Snapshot) -> Tagged {
        Tagged { tag: self.followers.tag(route), route: self.agent.report(route, replica) }
    }

    fn made(&self, route: &Arc<Route>, replica: &Arc<Snapshot>) -> Option<Arc<Document>> {
        let is_current = |document: &&Arc<Document>| {
            std::ptr::eq(document.route.as_ptr(), Arc::as_ptr(route))
                && std::ptr::eq(document.replica.as_ptr(), Arc::as_ptr(replica))
                && document.source == self.agent.source()
                && document.second.is_none_or(|second| second == self.second())
        };
        self.lock().get(&route.ty).filter(is_current).cloned()
    }

    fn make(&self, route: &Arc<Route>, replica: &Arc<Snapshot>) -> serde_json::Result<Arc<Document>> {
        let (source, second) = (self.agent.source(), self.second());
        let tagged = self.tagged(route, replica);
        let document = Arc::new(Document {
            route: Arc::downgrade(route),
            replica: Arc::downgrade(replica),
            source,
            second: route.tells_ages().then_some(second),
            status: match route.outcome {
                Outcome::Unserved => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::OK,
            },
            text: Text::of(Tagged { route: RouteReport { source: Some(source), ..tagged.route }, ..tagged })?,
        });
        self.lock().insert(route.ty.clone(), Arc::clone(&document));
        Ok(document)
    }

    /// The answer with this document.
    fn told(&self, document: &Document, route: &Route) -> Response {
        let since = self.agent.clock.now().since(route.since);
        let text = document.text.with(self.agent.link.age().map(millis), millis(since));
        let mut answer = Response::new(Body::new(text));
        *answer.status_mut() = document.status;
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }

    fn second(&self) -> u64 {
        self.agent.clock.now().0 / 1_000_000
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ManagerType, Arc<Document>>> {
        // Nothing under this lock can leave it half changed.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Text {
    fn of(Tagged { tag, route }: Tagged) -> serde_json::Result<Self> {
        let route = RouteReport { age_ms: Some(0), since_ms: Some(0), ..route };
        let text = serde_json::to_string(&Tagged { tag, route })?;
        // Quotes inside of texts are escaped, so that these can only be the keys.
        let (before_age, text) = text.split_once("\"age_ms\":0,").unwrap_or(("", &text));
        let (before_since, rest) = text.split_once("\"since_ms\":0,").unwrap_or(("", text));
        let rest = Bytes::copy_from_slice(rest.as_bytes());
        Ok(Self { before_age: before_age.to_owned(), before_since: before_since.to_owned(), rest })
    }

    /// With these ages, in milliseconds.
    fn with(&self, age: Option<u64>, since: u64) -> Pieces {
        // Each age has a key and at most twenty digits.
        let mut head = String::with_capacity(self.before_age.len() + self.before_since.len() + 64);
        head.push_str(&self.before_age);
        // Writing to a text cannot fail.
        if let Some(age) = age {
            let _ = write!(head, "\"age_ms\":{age},");
        }
        head.push_str(&self.before_since);
        let _ = write!(head, "\"since_ms\":{since},");
        Pieces::new(head.into(), self.rest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::report::Basis;
    use http_body_util::BodyExt;

    fn tagged(cause: &str, age_ms: Option<u64>) -> Tagged {
        let route = RouteReport {
            host: "a".parse().unwrap(),
            ty: "audit".parse().unwrap(),
            at: None,
            basis: Basis::Live,
            age_ms,
            outcome: Outcome::Failover,
            cause: cause.to_owned(),
            since_ms: Some(7),
            home: None,
            isolated: false,
            chosen: None,
            candidates: Vec::new(),
            source: Some(Source::Replica),
        };
        Tagged { tag: "t".into(), route }
    }

    #[tokio::test]
    async fn a_text_with_ages_is_that_of_the_whole_document() {
        for cause in ["", "\"age_ms\":0,", "\\\"since_ms\":0,\"since_ms\":0,"] {
            let text = Text::of(tagged(cause, Some(3))).unwrap();
            for age in [None, Some(0), Some(u64::MAX)] {
                let body = text.with(age, 7).collect().await.unwrap().to_bytes();
                let whole = serde_json::to_string(&tagged(cause, age)).unwrap();
                assert_eq!(std::str::from_utf8(&body), Ok(whole.as_str()));
            }
        }
    }
}
