//! This host's own packages: what is recorded, what is announced, and announcing.

use crate::announce::{AnnounceError, Outcome};
use crate::api::problem::{Refused, problem};
use crate::api::writers::Peer;
use crate::clock::unix_now;
use crate::registry::source_chain;
use crate::status::Subject;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Json};
use echelon_core::announce::HostWord;
use echelon_core::announcements::{SayError, Saying};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::RequestId;
use echelon_core::message::{Failure, FailureClass, Health};
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_core::package::{Package, Role};
use echelon_topology::{Fault, TopologyError, parse_announced};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Longest announcement: its longest part is a check, of which every text has a limit of 1 KiB.
const MAX_BODY: usize = 16 * 1024;

/// How long an announcement's text may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// How long an answer waits for the registry, while a registry manager is connected. Longer than an edit takes on a
/// busy manager; who wants to wait longer asks again.
const PATIENCE: Duration = Duration::from_secs(3);

/// `GET`, `PUT` and `DELETE` of one package.
pub(crate) fn one() -> MethodRouter<Arc<Subject>> {
    get(show).put(announce).delete(withdraw)
}

/// A package of this host as programs read it. Fields are added, never renamed.
#[derive(Serialize)]
struct PackageDocument {
    host: HostName,
    #[serde(rename = "type")]
    ty: ManagerType,
    endpoint: Option<Endpoint>,
    version: Option<Text>,
    role: Option<Role>,
    priority: u32,
    weight: u32,
    /// `active`, or `withdrawn` by those in `withdrawn_by`: `operator`, `host`.
    state: &'static str,
    withdrawn_by: Vec<&'static str>,
    /// The operator's reason.
    reason: Option<Text>,
    /// Whether this host announced it itself.
    announced: bool,
    health: Option<Health>,
    /// What the registry has not confirmed yet.
    pending: Option<PendingDocument>,
}

/// An announcement on its way.
#[derive(Serialize)]
struct PendingDocument {
    /// `runs` or `withdraws`.
    says: &'static str,
    number: RequestId,
    since_ms: u64,
    /// What it waits for.
    reason: String,
}

/// What is wrong, and what has become of the package all the same.
#[derive(Serialize)]
struct Objection<'a> {
    error: &'a str,
    message: String,
    package: Option<PackageDocument>,
}

/// All packages of this host, by type.
#[derive(Serialize)]
struct List {
    packages: Vec<PackageDocument>,
}

pub(crate) async fn list(State(agent): State<Arc<Subject>>) -> Response {
    let Some(replica) = agent.routes.replica() else { return no_replica() };
    let packages = replica.place.packages.iter().map(|p| agent.document(p)).collect();
    Json(List { packages }).into_response()
}

async fn show(State(agent): State<Arc<Subject>>, Path(ty): Path<String>) -> Response {
    let ty = match parse(&ty) {
        Ok(ty) => ty,
        Err(refused) => return refused.into_response(),
    };
    match agent.package(&ty) {
        Some(document) => Json(document).into_response(),
        None if agent.routes.replica().is_none() => no_replica(),
        None => {
            let message = format!("this host has no package of type {ty}");
            problem(StatusCode::NOT_FOUND, "unknown-package", &message)
        }
    }
}

async fn announce(
    State(agent): State<Arc<Subject>>,
    Extension(peer): Extension<Peer>,
    Path(ty): Path<String>,
    body: Body,
) -> Response {
    let word = async |ty: &ManagerType| {
        let read = timeout(BODY_DEADLINE, to_bytes(body, MAX_BODY)).await;
        let Ok(Ok(text)) = read else {
            let message = format!(
                "the announcement did not arrive within {BODY_DEADLINE:?}, or has more than {MAX_BODY} bytes"
            );
            return Err(problem(StatusCode::BAD_REQUEST, "bad-announcement", &message).into());
        };
        let spec = parse_announced(ty.as_str(), &text).map_err(|error| bad(&error))?;
        Ok(HostWord::Runs(spec))
    };
    agent.take(peer, &ty, word).await.into_response()
}

async fn withdraw(
    State(agent): State<Arc<Subject>>,
    Extension(peer): Extension<Peer>,
    Path(ty): Path<String>,
) -> Response {
    let word = async |_: &ManagerType| Ok(HostWord::Withdraws);
    agent.take(peer, &ty, word).await.into_response()
}

impl Subject {
    /// Takes an announcement from a peer and answers once it is known what has become of it, or that that takes
    /// time.
    async fn take(
        &self,
        peer: Peer,
        ty: &str,
        word: impl AsyncFnOnce(&ManagerType) -> Result<HostWord, Refused>,
    ) -> Result<Response, Refused> {
        let ty = parse(ty)?;
        if let Err(error) = peer.may_write(&ty, &self.api_writers.load()) {
            return Err(problem(StatusCode::FORBIDDEN, "not-a-writer", &error.to_string()).into());
        }
        let word = word(&ty).await?;
        if self.tasks.shutdown().is_cancelled() {
            return Err(refused(&AnnounceError::Stopping).into());
        }
        let known = self.announcer.place().is_some_and(|place| place.package(&ty).is_some());
        let runs = word != HostWord::Withdraws;
        match self.announcer.say(ty.clone(), word).await.map_err(|error| refused(&error))? {
            Saying::Idle => Ok(self.done(StatusCode::OK, &ty, runs)),
            Saying::New(number) | Saying::Same(number) => {
                let patience = if self.link.session().is_some() { PATIENCE } else { Duration::ZERO };
                // What was announced a moment ago may not have come back in a view yet.
                let created = if known || !runs { StatusCode::OK } else { StatusCode::CREATED };
                match self.announcer.outcome(&ty, number, patience).await {
                    Outcome::Committed => Ok(self.done(created, &ty, runs)),
                    Outcome::Pending => Ok(self.done(StatusCode::ACCEPTED, &ty, runs)),
                    // Nothing is left to withdraw, which is what was asked for.
                    Outcome::Refused(why) if !runs && why.error == "unknown-package" => {
                        Ok(self.done(StatusCode::OK, &ty, runs))
                    }
                    Outcome::Refused(why) => Err(self.objection(&ty, &why).into()),
                    Outcome::Replaced => Err(self.replaced(&ty).into()),
                }
            }
        }
    }

    /// The answer that an announcement counts; or that it is kept and does not count, because the operator wants
    /// otherwise.
    fn done(&self, status: StatusCode, ty: &ManagerType, runs: bool) -> Response {
        let package = self.package(ty);
        let overruled = package.as_ref().is_some_and(|p| p.withdrawn_by.contains(&"operator"));
        if !runs || !overruled {
            return (status, Json(package)).into_response();
        }
        let reason = package.as_ref().and_then(|p| p.reason.as_ref());
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let host = &package.as_ref().map_or(&self.enrolled.host, |p| &p.host);
        let drained = self.routes.replica().is_some_and(|replica| replica.place.drained.is_some());
        let remedy = match drained {
            true => format!("echelon host resume {host}"),
            false => format!("echelon package restore {host} {ty}"),
        };
        let message = format!(
            "the operator has withdrawn {ty} on this host{reason}: the announcement is kept, and the package is not \
             used until: {remedy}"
        );
        (StatusCode::CONFLICT, Json(Objection { error: "withdrawn-by-operator", message, package }))
            .into_response()
    }

    fn objection(&self, ty: &ManagerType, why: &Failure) -> Response {
        let status = match why.class {
            FailureClass::NotAllowed => StatusCode::FORBIDDEN,
            _ => StatusCode::CONFLICT,
        };
        let message = format!("the registry does not take the announcement: {}", why.message);
        (status, Json(Objection { error: &why.error, message, package: self.package(ty) })).into_response()
    }

    fn replaced(&self, ty: &ManagerType) -> Response {
        let message =
            format!("something else was announced of {ty} meanwhile, or an operator has removed it");
        let package = self.package(ty);
        (StatusCode::CONFLICT, Json(Objection { error: "superseded", message, package })).into_response()
    }

    fn package(&self, ty: &ManagerType) -> Option<PackageDocument> {
        self.routes.replica()?.place.package(ty).map(|package| self.document(package))
    }

    fn document(&self, package: &Package) -> PackageDocument {
        let replica = self.routes.replica();
        let place = replica.as_ref().map(|replica| &replica.place);
        let drained = place.and_then(|place| place.drained.as_ref()).filter(|_| !package.ty.is_registry());
        let by_operator = package.withdrawn.as_ref().or(drained);
        let operator = by_operator.map(|_| "operator");
        let host = package.is_withdrawn_by_host().then_some("host");
        PackageDocument {
            host: place.map_or(&self.enrolled.host, |place| &place.name).clone(),
            ty: package.ty.clone(),
            endpoint: place.and_then(|place| package.endpoint(&place.address)),
            version: package.version.clone(),
            role: package.role,
            priority: package.priority,
            weight: package.weight,
            state: if operator.or(host).is_some() { "withdrawn" } else { "active" },
            withdrawn_by: operator.into_iter().chain(host).collect(),
            reason: by_operator.and_then(|w| w.reason.clone()),
            announced: package.is_announced(),
            health: self.health.borrow().get(&package.ty).cloned(),
            pending: self.pending(&package.ty),
        }
    }

    fn pending(&self, ty: &ManagerType) -> Option<PendingDocument> {
        let shown = self.announcer.shown().borrow().clone();
        let (said, why) = shown.pending(ty)?;
        let connected = self.link.session().is_some();
        let reason = match why {
            _ if !connected => "no registry manager is connected".to_owned(),
            Some(why) => why.message.clone(),
            None => "the registry manager has not answered yet".to_owned(),
        };
        Some(PendingDocument {
            says: if said.word == HostWord::Withdraws { "withdraws" } else { "runs" },
            number: said.number,
            since_ms: unix_now().0.saturating_sub(said.since.0),
            reason,
        })
    }
}

fn parse(ty: &str) -> Result<ManagerType, Refused> {
    ty.parse().map_err(|error: echelon_core::name::NameError| {
        problem(StatusCode::BAD_REQUEST, "bad-type", &error.to_string()).into()
    })
}

fn no_replica() -> Response {
    refused(&AnnounceError::NoReplica)
}

fn bad(error: &TopologyError) -> Response {
    let owned = error.problems.iter().any(|p| matches!(p.fault, Fault::OperatorsKey { .. }));
    match owned {
        true => problem(StatusCode::CONFLICT, "owned-by-operator", &error.to_string()),
        false => problem(StatusCode::BAD_REQUEST, "bad-announcement", &error.to_string()),
    }
}

fn refused(error: &AnnounceError) -> Response {
    let (status, name) = match error {
        AnnounceError::NoReplica => (StatusCode::SERVICE_UNAVAILABLE, "no-replica"),
        AnnounceError::NotKept(_) => (StatusCode::SERVICE_UNAVAILABLE, "not-kept"),
        AnnounceError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        AnnounceError::Refused(SayError::NotAllowed(_)) => (StatusCode::FORBIDDEN, "type-not-allowed"),
        AnnounceError::Refused(SayError::Unknown(_)) => (StatusCode::NOT_FOUND, "unknown-package"),
        AnnounceError::Refused(SayError::TooMany) => (StatusCode::CONFLICT, "too-many-packages"),
    };
    problem(status, name, &source_chain(error))
}
