//! Routes: one, one once it has changed, all as they change.

use crate::api::asked::{Asked, Pairs, news};
use crate::api::documents::Documents;
use crate::api::follow::{Followers, TooMany};
use crate::api::problem::problem;
use crate::api::writers::Peer;
use crate::routes::{Snapshot, WantError};
use crate::status::Subject;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use echelon_core::limits::MAX_WANTED_TYPES;
use echelon_core::name::{ManagerType, quoted};
use echelon_core::report::RouteHistory;
use echelon_core::route::Route;
use echelon_core::router::Input;
use futures::stream::unfold;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Time without a change after which a stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `/v1/routes` and what is below it.
pub(super) fn router<S: Clone + Send + Sync + 'static>(
    agent: Arc<Subject>,
    followers: Followers,
    documents: Documents,
    stop: CancellationToken,
) -> Router<S> {
    let router = Router::new()
        .route("/v1/routes", get(all))
        .route("/v1/routes/{type}", get(one))
        .route("/v1/routes/{type}/return", post(bring_back))
        .route("/v1/history/{type}", get(history));
    router.with_state(Api { agent, followers, documents, stop })
}

#[derive(Clone)]
struct Api {
    agent: Arc<Subject>,
    followers: Followers,
    documents: Documents,
    stop: CancellationToken,
}

/// Why there is no route to answer with.
enum Missing {
    Unknown(String),
    Want(WantError),
}

impl From<WantError> for Missing {
    fn from(error: WantError) -> Self {
        Self::Want(error)
    }
}

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::Unknown(text) => {
                let message = format!("there is no manager of type {}", quoted(&text));
                problem(StatusCode::NOT_FOUND, "unknown-type", &message)
            }
            Self::Want(error @ WantError::NoReplica) => {
                problem(unavailable, "no-replica", &error.to_string())
            }
            Self::Want(error) => problem(unavailable, "no-route", &error.to_string()),
        }
    }
}

impl IntoResponse for TooMany {
    fn into_response(self) -> Response {
        problem(StatusCode::SERVICE_UNAVAILABLE, "too-many-waiting", &self.to_string())
    }
}

/// The route for one type: now, or once it is another than `after` names.
async fn one(State(api): State<Api>, Path(text): Path<String>, query: Query<Pairs>) -> Response {
    let asked = match Asked::read(&query) {
        Ok(asked) => asked,
        Err(message) => return problem(StatusCode::BAD_REQUEST, "bad-query", &message),
    };
    let Ok(ty) = text.parse::<ManagerType>() else { return Missing::Unknown(text).into_response() };
    match asked {
        Asked { after: None, .. } => api.answer(api.current(&ty).await),
        Asked { after: Some(tag), wait } => match api.followers.admit() {
            Ok(_place) => api.answer(api.after(&ty, &tag, wait).await),
            Err(full) => full.into_response(),
        },
    }
}

/// Where the route for one type has led since the agent started. Asking for it has the route kept up to date from then
/// on, as asking for the route has.
async fn history(State(api): State<Api>, Path(text): Path<String>, query: Query<Pairs>) -> Response {
    if let Some((name, _)) = query.first() {
        let message = format!("{} is not known: a history has no options", quoted(name));
        return problem(StatusCode::BAD_REQUEST, "bad-query", &message);
    }
    let Ok(ty) = text.parse::<ManagerType>() else { return Missing::Unknown(text).into_response() };
    let host = match api.current(&ty).await {
        Ok(current) => current.route.asker.clone(),
        Err(missing) => match api.agent.routes.get(&ty) {
            // Its managers are gone, but not what happened to it.
            Some(route) => route.asker.clone(),
            None => return missing.into_response(),
        },
    };
    let history = api.agent.routes.history();
    let (since, history) = (history.since().to_string(), history.of(&ty));
    Json(RouteHistory { host, ty, since, history }).into_response()
}

/// Has new connections return to the best manager that is live, whatever holds them back, and answers with the route
/// as it is then.
async fn bring_back(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(text): Path<String>,
) -> Response {
    let Ok(ty) = text.parse::<ManagerType>() else { return Missing::Unknown(text).into_response() };
    if let Err(error) = peer.may_write(&ty, &api.agent.api_writers.load()) {
        return problem(StatusCode::FORBIDDEN, "not-a-writer", &error.to_string());
    }
    if let Err(missing) = api.current(&ty).await {
        return missing.into_response();
    }
    info!(manager.type = %ty, "An operator wants connections to return");
    api.agent.routes.tell(Input::Return(ty.clone())).await;
    // Once the router has come to the next question, it has shown what came of this one.
    api.agent.routes.answer().await;
    api.answer(api.current(&ty).await)
}

/// Every route as it is, then each that changes: as long as the caller listens.
async fn all(State(api): State<Api>, query: Query<Pairs>) -> Response {
    let types = match followed(&query) {
        Ok(types) => types,
        Err(message) => return problem(StatusCode::BAD_REQUEST, "bad-query", &message),
    };
    let place = match api.followers.admit() {
        Ok(place) => place,
        Err(full) => return full.into_response(),
    };
    let mut changes = api.agent.routes.changes();
    // All that there is now is news to this caller.
    changes.mark_changed();
    let start = Following { api, types, changes, due: Vec::new(), told: BTreeMap::new(), _place: place };
    let events = unfold(start, |mut following| async move {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// The types to follow; none means all there are.
fn followed(pairs: &Pairs) -> Result<Option<BTreeSet<ManagerType>>, String> {
    let (mut stream, mut types) = (false, BTreeSet::new());
    for (name, value) in pairs {
        match name.as_str() {
            "stream" => stream = true,
            "type" => types.extend([value.parse::<ManagerType>().map_err(|e| e.to_string())?]),
            _ => return Err(format!("{} is not known: use stream and type", quoted(name))),
        }
    }
    match types.len() {
        _ if !stream => Err("ask for /v1/routes/TYPE, or follow all with /v1/routes?stream".into()),
        0 => Ok(None),
        1..=MAX_WANTED_TYPES => Ok(Some(types)),
        _ => Err(format!("at most {MAX_WANTED_TYPES} types can be followed")),
    }
}

/// A stream under way. Events are made when the caller has read those before, so that whoever reads slowly is told
/// the last of several changes and holds up nobody.
struct Following {
    api: Api,
    types: Option<BTreeSet<ManagerType>>,
    changes: watch::Receiver<u64>,
    /// What has to be looked at since the last change, in reverse.
    due: Vec<ManagerType>,
    /// The tags that were told; none for a type of which it was told that it has no managers.
    told: BTreeMap<ManagerType, Option<String>>,
    _place: OwnedSemaphorePermit,
}

impl Following {
    /// The next event; none once the listener closes, as it does when the agent stops.
    async fn next(&mut self) -> Option<Event> {
        let stop = self.api.stop.clone();
        loop {
            while let Some(ty) = self.due.pop() {
                if let Some(event) = self.look(ty).await {
                    return Some(event);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                // Never fails while the agent is there.
                _ = self.changes.changed() => self.due = self.there(),
            }
        }
    }

    /// The types to look at, in reverse.
    fn there(&self) -> Vec<ManagerType> {
        let types = match (&self.types, self.api.agent.routes.replica()) {
            (Some(types), _) => types.clone(),
            (None, Some(replica)) => {
                let told = self.told.keys().cloned();
                replica.view.managers().map(|m| m.ty.clone()).chain(told).collect()
            }
            (None, None) => BTreeSet::new(),
        };
        types.into_iter().rev().collect()
    }

    /// What there is to tell of this type.
    async fn look(&mut self, ty: ManagerType) -> Option<Event> {
        match self.api.current(&ty).await {
            Ok(current) => {
                let tag = Some(current.tag.clone());
                let event = Event::default().event("route").id(&current.tag);
                (self.told.insert(ty, tag.clone()) != Some(tag)).then_some(())?;
                event.json_data(self.api.documents.tagged(&current.route, &current.replica)).ok()
            }
            Err(Missing::Unknown(text)) => {
                let gone = Gone { ty: text, error: "unknown-type" };
                (self.told.insert(ty, None) != Some(None)).then_some(())?;
                Event::default().event("gone").json_data(gone).ok()
            }
            // There is nothing to tell yet.
            Err(Missing::Want(_)) => None,
        }
    }
}

/// A type that has no managers.
#[derive(Serialize)]
struct Gone {
    #[serde(rename = "type")]
    ty: String,
    error: &'static str,
}

/// A route, what it was made from, and its tag.
struct Current {
    tag: String,
    route: Arc<Route>,
    replica: Arc<Snapshot>,
}

impl Api {
    async fn current(&self, ty: &ManagerType) -> Result<Current, Missing> {
        let routes = &self.agent.routes;
        let unknown = || Missing::Unknown(ty.to_string());
        let exists = |replica: &Snapshot| replica.view.managers_of(ty).next().is_some();
        if routes.get(ty).is_none() {
            // Only types that exist are kept routes for, so that callers who invent some take up no room.
            let replica = routes.replica().ok_or(WantError::NoReplica)?;
            exists(&replica).then_some(()).ok_or_else(unknown)?;
            routes.want(ty).await?;
        }
        // The replica may be another one by now, and what is answered is made of this one.
        let (route, replica) = routes.get_with_replica(ty.as_str()).ok_or(WantError::NoReplica)?;
        exists(&replica).then_some(()).ok_or_else(unknown)?;
        Ok(Current { tag: self.followers.tag(&route), route, replica })
    }

    fn answer(&self, found: Result<Current, Missing>) -> Response {
        let Current { route, replica, .. } = match found {
            Ok(current) => current,
            Err(missing) => return missing.into_response(),
        };
        self.documents.response(&route, &replica).unwrap_or_else(|error| {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string())
        })
    }

    /// The same once its tag is another, at the end of `wait`, or when the agent stops.
    async fn after(&self, ty: &ManagerType, tag: &str, wait: Duration) -> Result<Current, Missing> {
        let is_news = |current: &Current| current.tag != tag;
        news(self.agent.routes.changes(), wait, &self.stop, || self.current(ty), is_news).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &[(&str, &str)]) -> Pairs {
        query.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn a_stream_is_of_all_types_or_of_those_that_are_named() {
        let types = |query: &[(&str, &str)]| followed(&pairs(query)).map(|t| t.map(|t| t.len()));
        assert_eq!(types(&[("stream", "")]), Ok(None));
        assert_eq!(types(&[("type", "a"), ("stream", "1"), ("type", "b"), ("type", "a")]), Ok(Some(2)));
        assert!(types(&[]).unwrap_err().contains("/v1/routes?stream"));
        assert!(types(&[("stream", ""), ("type", "A")]).unwrap_err().contains("manager type \"A\""));
        let many: Vec<_> = (0..=MAX_WANTED_TYPES).map(|i| ("type".to_owned(), format!("t{i}"))).collect();
        assert!(followed(&[many, pairs(&[("stream", "")])].concat()).is_err());
    }
}
