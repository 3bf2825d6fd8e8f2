//! What an agent is at the moment, as metrics. Read when somebody asks, so that nothing that is gone stays in them.

use crate::metrics::{OfType, PREFIX};
use crate::status::Subject;
use echelon_core::alarm::Severity;
use echelon_core::message::Health;
use echelon_core::moves::Move;
use echelon_core::report::CandidateState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Seconds, with their parts.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Role {
    role: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Cause {
    r#type: String,
    cause: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Reason {
    r#type: String,
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfQueue {
    queue: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfHealth {
    health: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfSeverity {
    severity: String,
}

/// Why a candidate is passed over. Excluded ones come last in the order, so that none of them is nearer.
const REASONS: [CandidateState; 5] = [
    CandidateState::Live,
    CandidateState::Unknown,
    CandidateState::Suspect,
    CandidateState::Down,
    CandidateState::Withdrawn,
];

/// Everything that can be read now.
pub(crate) fn readings(agent: &Subject) -> Registry {
    let mut r = Registry::with_prefix(PREFIX);
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    r.register("build_info", "The agent's build", build);
    routes(&mut r, agent);
    callers(&mut r, agent);
    replica(&mut r, agent);
    host(&mut r, agent);
    let tasks = Family::<Role, Gauge>::default();
    for (role, count) in agent.tasks.counts() {
        tasks.get_or_create(&Role { role }).set(signed(count as u64));
    }
    r.register("tasks", "Tasks running", tasks);
    r
}

fn routes(r: &mut Registry, agent: &Subject) {
    let changes = Family::<Cause, Counter>::default();
    let moves = agent.routes.moves();
    for ty in agent.routes.all().keys() {
        for cause in Move::ALL {
            let count = moves.get(&(ty.clone(), cause)).copied().unwrap_or(0);
            changes.get_or_create(&Cause { r#type: ty.to_string(), cause: cause.as_str() }).inc_by(count);
        }
    }
    r.register("route_changes", "Times connections went to another manager than before, by cause", changes);

    let (away, unserved) = (Family::<OfType, Seconds>::default(), Family::<OfType, Gauge>::default());
    let passed_over = Family::<Reason, Gauge>::default();
    let now = agent.clock.now();
    for route in agent.routes.all().values() {
        let ty = OfType { r#type: route.ty.to_string() };
        let using = route.using(now);
        let since = using.as_ref().map_or(Duration::ZERO, |using| using.since);
        away.get_or_create(&ty).set(since.as_secs_f64());
        unserved.get_or_create(&ty).set(using.is_some_and(|using| using.manager.is_none()).into());
        for reason in REASONS {
            let label = Reason { r#type: route.ty.to_string(), reason: reason.as_str() };
            let count = route.passed_over().filter(|state| *state == reason).count();
            passed_over.get_or_create(&label).set(signed(count as u64));
        }
    }
    r.register(
        "not_home_seconds",
        "How long callers have not been served by their home; 0 where they are",
        away,
    );
    r.register("unserved", "1 where nobody may serve callers", unserved);
    let help = "Managers nearer than the one in use, by why they are passed over; live ones are held back";
    r.register("candidates_passed_over", help, passed_over);
}

fn callers(r: &mut Registry, agent: &Subject) {
    let open = Family::<OfType, Gauge>::default();
    for forwarder in agent.doors.forwarders() {
        let status = forwarder.status();
        open.get_or_create(&OfType { r#type: status.ty.to_string() }).inc_by(signed(status.open));
    }
    r.register("connections_open", "Connections open through forwarders", open);
    let (http, idle) = <(Family<OfType, Gauge>, Family<OfType, Gauge>)>::default();
    for forwarder in agent.doors.http_forwarders() {
        let status = forwarder.status();
        let ty = OfType { r#type: status.ty.to_string() };
        http.get_or_create(&ty).inc_by(signed(status.open));
        idle.get_or_create(&ty).inc_by(signed(status.idle));
    }
    r.register("http_requests_open", "Requests under way through HTTP forwarders", http);
    r.register("http_connections_idle", "Connections to managers that wait for a request", idle);
    let drops = Family::<OfQueue, Counter>::default();
    let m = &agent.metrics;
    let dropped = [
        ("evidence", agent.routes.dropped()),
        ("probes", m.dropped_probes.get()),
        ("overtaken", m.dropped_overtaken.get()),
    ];
    for (queue, count) in dropped {
        drops.get_or_create(&OfQueue { queue }).inc_by(count);
    }
    r.register("queue_drops", "What a full queue gave up", drops);
}

fn replica(r: &mut Registry, agent: &Subject) {
    let mark = agent.routes.replica().map(|replica| replica.mark);
    let age = agent.link.age().map_or(f64::NAN, |age| age.as_secs_f64());
    let (revisions, behind) = agent.link.lag();
    let gauge = |r: &mut Registry, name: &str, help: &str, value: u64| {
        r.register(name, help, ConstGauge::new(signed(value)));
    };
    gauge(
        r,
        "session_up",
        "1 while there is a session with a registry manager",
        agent.link.session().is_some().into(),
    );
    gauge(r, "ready", "1 once there is a replica", mark.is_some().into());
    gauge(r, "replica_revision", "Revision of the replica", mark.map_or(0, |m| m.position.revision));
    gauge(
        r,
        "replica_view_revision",
        "Revision of its view's last change",
        mark.map_or(0, |m| m.view_revision),
    );
    r.register(
        "replica_age_seconds",
        "Age of a registry manager's last word; NaN before the first",
        ConstGauge::new(age),
    );
    gauge(r, "replica_lag_revisions", "Revisions of the view that the session's manager has more", revisions);
    let help = "For how long the session's manager has had more";
    r.register("replica_lag_seconds", help, ConstGauge::new(behind.as_secs_f64()));
    let grants = agent.link.grants();
    gauge(r, "grants", "Grants of registry managers that are known", grants.map_or(0, |g| g.count as u64));
    gauge(r, "grant_epoch", "Epoch of the newest of them", grants.map_or(0, |g| g.head.epoch));
    let refused = ConstCounter::new(agent.link.refused());
    r.register("grants_refused", "Times a registry manager was refused because of its grants", refused);
    let repairs = ConstCounter::new(agent.link.repairs());
    r.register("replica_repairs", "Snapshots asked for because of a difference", repairs);
}

fn host(r: &mut Registry, agent: &Subject) {
    let left = ConstGauge::new(agent.identity.left().as_secs_f64());
    r.register("certificate_left_seconds", "Time until the certificate expires", left);
    let drops = ConstCounter::new(agent.identity.endpoint().socket_drops().unwrap_or(0));
    r.register("socket_drops", "Datagrams that the kernel dropped at the full socket", drops);
    let packages = Family::<OfHealth, Gauge>::default();
    let count = |health: &'static str, is: fn(&Health) -> bool| {
        let count = agent.health.borrow().values().filter(|health| is(health)).count();
        packages.get_or_create(&OfHealth { health }).set(signed(count as u64));
    };
    count("unchecked", |health| *health == Health::Unchecked);
    count("passing", |health| *health == Health::Passing);
    count("failing", |health| matches!(health, Health::Failing { .. }));
    r.register("packages", "This host's packages that are checked, by health", packages);
    let alarms = Family::<OfSeverity, Gauge>::default();
    let up = agent.alarms.list();
    for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
        let count = up.iter().filter(|raised| raised.notice.severity == severity).count();
        alarms.get_or_create(&OfSeverity { severity: severity.to_string() }).set(signed(count as u64));
    }
    r.register("alarms", "Alarms that are up, by severity", alarms);
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
