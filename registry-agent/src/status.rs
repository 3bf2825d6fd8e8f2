//! How an agent is, for people and programs.

use crate::alarms::Alarms;
use crate::announce::Announcer;
use crate::api::ApiWriters;
use crate::check::HealthMap;
use crate::clock::{Clock, millis};
use crate::direct::DirectStatus;
use crate::doors::Doors;
use crate::forward::{Forwarder, ForwarderStatus};
use crate::http::{HttpForwarder, HttpForwarderStatus};
use crate::metrics::Metrics;
use crate::readings::readings;
use crate::record::EnrolledAs;
use crate::registry::{Identity, Link};
use crate::routes::{Routes, Snapshot};
use arc_swap::ArcSwap;
use echelon_core::id::{HostId, Lineage};
use echelon_core::message::Health;
use echelon_core::name::{DomainPath, FrameworkName, HostName, ManagerType};
use echelon_core::report::{AlarmReport, At, Basis, Outcome, RouteReport, Source};
use echelon_core::route::Route;
use echelon_core::time::Monotonic;
use echelon_daemon::Tasks;
use echelon_daemon::metrics::{Exposition, exposition};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// The agent as its local API shows it. Fields are added, never renamed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AgentStatus {
    /// The framework.
    pub framework: FrameworkName,
    /// This host.
    pub host: HostName,
    /// This host's id.
    pub host_id: HostId,
    /// The domain this host is in.
    pub domain: DomainPath,
    /// The agent's build.
    pub version: &'static str,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Larger at every start.
    pub incarnation: u64,
    /// Whether there is a replica.
    pub ready: bool,
    /// The replica's position; none of these where there is no replica.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// The revision of the last change to its view.
    pub view_revision: Option<u64>,
    /// The digest of its view.
    pub view_digest: Option<String>,
    /// How many managers the view has.
    pub managers: u64,
    /// Age of the newest word from a registry manager; none where there has never been one.
    pub replica_age_ms: Option<u64>,
    /// How often a difference from a manager had to be repaired.
    pub repairs: u64,
    /// The grants of registry managers that it goes by; none before a manager has told them.
    pub grants: Option<GrantsStatus>,
    /// How often a registry manager was refused because of its grants.
    pub grants_refused: u64,
    /// The session with a registry manager.
    pub session: Option<SessionStatus>,
    /// When the certificate expires, in milliseconds from now; 0 once it has.
    pub certificate_left_ms: u64,
    /// The health of this host's packages.
    pub packages: BTreeMap<ManagerType, Health>,
    /// The forwarders.
    pub forwarders: Vec<ForwarderStatus>,
    /// The forwarders for HTTP.
    pub http_forwarders: Vec<HttpForwarderStatus>,
    /// The sockets of the direct hand-over.
    pub direct: Vec<DirectStatus>,
    /// Who serves each type that was asked for.
    pub routes: Vec<RouteLine>,
    /// Outcomes of connects that the router had no room for.
    pub evidence_dropped: u64,
    /// Its alarms that are up.
    pub alarms: Vec<AlarmReport>,
}

/// The newest grant of a registry manager that an agent is witness of.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct GrantsStatus {
    /// The lineage whose states are written under it.
    pub lineage: Lineage,
    /// Which writer.
    pub epoch: u64,
    /// How many grants there have been, since the registry was made.
    pub count: u64,
}

/// A session with a registry manager.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SessionStatus {
    /// The manager's host.
    pub manager: HostName,
    /// Where it is.
    pub address: String,
    /// Its build.
    pub version: String,
    /// How long the session has been up.
    pub age_ms: u64,
}

/// One route in a line.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RouteLine {
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// Who is used.
    pub manager: Option<HostName>,
    /// The kind of choice.
    pub outcome: Outcome,
    /// Why it is not home.
    pub cause: String,
}

/// Everything that a status is drawn from.
pub(crate) struct Subject {
    pub(crate) clock: Clock,
    pub(crate) started: Monotonic,
    /// Larger each time that the session is taken up anew after another process might have had it.
    pub(crate) incarnation: Arc<AtomicU64>,
    pub(crate) enrolled: EnrolledAs,
    pub(crate) routes: Routes,
    pub(crate) link: Arc<Link>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) health: watch::Receiver<Arc<HealthMap>>,
    pub(crate) announcer: Announcer,
    pub(crate) api_writers: ArcSwap<ApiWriters>,
    pub(crate) doors: Doors,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) alarms: Alarms,
    pub(crate) tasks: Tasks,
}

impl Subject {
    /// How the agent is now.
    pub(crate) fn status(&self) -> AgentStatus {
        let (now, replica) = (self.clock.now(), self.routes.replica());
        let mark = replica.as_ref().map(|r| r.mark);
        let place = replica.as_ref().map(|r| &r.place);
        let session = self.link.session().map(|s| SessionStatus {
            manager: s.manager.clone(),
            address: s.addr.to_string(),
            version: s.build.clone(),
            age_ms: millis(now.since(s.since)),
        });
        let host = place.map_or(&self.enrolled.host, |p| &p.name);
        AgentStatus {
            framework: self.enrolled.framework.clone(),
            host: host.clone(),
            host_id: self.identity.host(),
            domain: place.map_or(&self.enrolled.domain, |p| &p.path).clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: millis(now.since(self.started)),
            incarnation: self.incarnation.load(Ordering::Relaxed),
            ready: replica.is_some(),
            at: mark.map(|m| m.position.into()),
            view_revision: mark.map(|m| m.view_revision),
            view_digest: mark.map(|m| m.digest.to_string()),
            managers: replica.as_ref().map_or(0, |r| r.view.manager_count() as u64),
            replica_age_ms: self.link.age().map(millis),
            repairs: self.link.repairs(),
            grants: self.link.grants().map(|grants| GrantsStatus {
                lineage: grants.head.lineage,
                epoch: grants.head.epoch,
                count: grants.count as u64,
            }),
            grants_refused: self.link.refused(),
            session,
            certificate_left_ms: millis(self.identity.left()),
            packages: self.health.borrow().as_ref().clone(),
            forwarders: self.doors.forwarders().iter().map(Forwarder::status).collect(),
            http_forwarders: self.doors.http_forwarders().iter().map(HttpForwarder::status).collect(),
            direct: self.doors.directs().iter().map(|direct| direct.status()).collect(),
            routes: self
                .routes
                .all()
                .values()
                .map(|route| RouteLine {
                    ty: route.ty.clone(),
                    manager: route.chosen().map(|e| e.candidate.manager.name.clone()),
                    outcome: route.outcome,
                    cause: route.cause.to_string(),
                })
                .collect(),
            evidence_dropped: self.routes.dropped(),
            alarms: self.alarms.list().iter().map(|r| AlarmReport::raised(r, host.as_str())).collect(),
        }
    }

    /// A route as people and programs read it, with the replica that it is made from.
    pub(crate) fn report(&self, route: &Route, replica: &Snapshot) -> RouteReport {
        RouteReport {
            at: Some(replica.mark.position.into()),
            age_ms: self.link.age().map(millis),
            source: Some(self.source()),
            ..route.report(&replica.view, self.clock.now(), Basis::Live)
        }
    }

    /// Where answers come from now.
    pub(crate) fn source(&self) -> Source {
        if self.link.is_up() { Source::Manager } else { Source::Replica }
    }

    /// Everything that can be counted, in the format that the header `Accept` asks for.
    pub(crate) fn metrics(&self, accept: Option<&str>) -> Result<Exposition, std::fmt::Error> {
        exposition(&[self.metrics.registry(), &readings(self)], accept)
    }
}
