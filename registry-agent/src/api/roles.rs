//! What this host's own managers are: primary of their type, under which number, or backup.

use crate::api::asked::{Asked, Pairs, news};
use crate::api::follow::Followers;
use crate::api::problem::problem;
use crate::clock::millis;
use crate::routes::WantError;
use crate::status::Subject;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use echelon_core::name::{ManagerType, quoted};
use echelon_core::package::Role;
use echelon_core::report::RoleReport;
use serde::Serialize;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// `/v1/roles/TYPE`.
pub(super) fn router<S: Clone + Send + Sync + 'static>(
    agent: Arc<Subject>,
    followers: Followers,
    stop: CancellationToken,
) -> Router<S> {
    Router::new().route("/v1/roles/{type}", get(one)).with_state(Api { agent, followers, stop })
}

#[derive(Clone)]
struct Api {
    agent: Arc<Subject>,
    followers: Followers,
    stop: CancellationToken,
}

/// A role as it is answered.
#[derive(Serialize)]
struct Tagged {
    /// Differs where role or number do; means nothing else. The same after a restart.
    tag: String,
    #[serde(flatten)]
    role: RoleReport,
}

/// Why there is no role to answer with.
enum Missing {
    Package(String),
    Replica,
}

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        match self {
            Self::Package(text) => {
                let message = format!("this host has no package of type {}", quoted(&text));
                problem(StatusCode::NOT_FOUND, "unknown-package", &message)
            }
            Self::Replica => {
                let message = WantError::NoReplica.to_string();
                problem(StatusCode::SERVICE_UNAVAILABLE, "no-replica", &message)
            }
        }
    }
}

/// The role of this host's package of one type: now, or once it is another than `after` names.
async fn one(State(api): State<Api>, Path(text): Path<String>, query: Query<Pairs>) -> Response {
    let asked = match Asked::read(&query) {
        Ok(asked) => asked,
        Err(message) => return problem(StatusCode::BAD_REQUEST, "bad-query", &message),
    };
    let Ok(ty) = text.parse::<ManagerType>() else { return Missing::Package(text).into_response() };
    let found = match asked {
        Asked { after: None, .. } => api.current(&ty),
        Asked { after: Some(tag), wait } => match api.followers.admit() {
            Ok(_place) => api.after(&ty, &tag, wait).await,
            Err(full) => return full.into_response(),
        },
    };
    found.map_or_else(Missing::into_response, |role| Json(role).into_response())
}

impl Api {
    fn current(&self, ty: &ManagerType) -> Result<Tagged, Missing> {
        let replica = self.agent.routes.replica().ok_or(Missing::Replica)?;
        let package = replica.place.package(ty).ok_or_else(|| Missing::Package(ty.to_string()))?;
        // What is announced here and not committed yet has no number, and so is primary of nothing. The view comes
        // before the place that belongs to it, and counts where it says less.
        let role = match (package.settled_role(), replica.view.manager(ty, package.host).map(|m| m.role)) {
            (_, None) => None,
            (Some(Role::Primary), Some(Role::Backup)) => Some(Role::Backup),
            (role, Some(_)) => role,
        };
        let role = RoleReport {
            host: replica.place.name.clone(),
            ty: ty.clone(),
            role,
            fencing: package.fencing.filter(|_| role == Some(Role::Primary)),
            at: replica.mark.position.into(),
            age_ms: self.agent.link.age().map(millis),
            source: self.agent.source(),
        };
        Ok(Tagged { tag: role.tag(), role })
    }

    /// The same once its tag is another, at the end of `wait`, or when the agent stops.
    async fn after(&self, ty: &ManagerType, tag: &str, wait: Duration) -> Result<Tagged, Missing> {
        let look = || ready(self.current(ty));
        news(self.agent.routes.changes(), wait, &self.stop, look, |found| found.tag != tag).await
    }
}
