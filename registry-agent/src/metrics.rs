//! What can be counted of one agent.

use echelon_core::evidence::Seen;
use echelon_core::name::ManagerType;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// The counters and gauges of one agent; there is no process-wide state, so that one process can run
/// many agents.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: Family<Connections, Counter>,
    attempts: Family<Attempts, Counter>,
    handovers: Family<OfType, Counter>,
    handover_errors: Family<OfError, Counter>,
    pub(crate) open: Family<OfType, Gauge>,
    pub(crate) tasks: Family<Role, Gauge>,
    pub(crate) sessions: Counter,
    pub(crate) session: Gauge,
    pub(crate) renewals: Counter,
    pub(crate) repairs: Gauge,
    pub(crate) revision: Gauge,
    pub(crate) view_revision: Gauge,
    pub(crate) replica_age: Gauge,
    pub(crate) certificate_left: Gauge,
    pub(crate) write_failures: Counter,
    pub(crate) dropped: Gauge,
}

/// What became of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Became {
    /// Connected to a manager.
    Served,
    /// No manager could be reached.
    Failed,
    /// There was no manager to try.
    Nobody,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Connections {
    r#type: String,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Attempts {
    r#type: String,
    outcome: &'static str,
}

/// A type as a label.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct OfType {
    pub(crate) r#type: String,
}

/// An error's name as a label.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfError {
    error: &'static str,
}

/// A task's role as a label.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct Role {
    pub(crate) role: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("echelon_agent"),
            connections: Family::default(),
            attempts: Family::default(),
            handovers: Family::default(),
            handover_errors: Family::default(),
            open: Family::default(),
            tasks: Family::default(),
            sessions: Counter::default(),
            session: Gauge::default(),
            renewals: Counter::default(),
            repairs: Gauge::default(),
            revision: Gauge::default(),
            view_revision: Gauge::default(),
            replica_age: Gauge::default(),
            certificate_left: Gauge::default(),
            write_failures: Counter::default(),
            dropped: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        let r = &mut self.registry;
        r.register("build", "The agent's build", build);
        r.register("connections", "Callers of forwarders, by what became of them", self.connections.clone());
        r.register("connect_attempts", "Connects to managers for callers, by outcome", self.attempts.clone());
        let handovers = self.handovers.clone();
        r.register(
            "handovers",
            "Connections handed over to programs that asked for them directly",
            handovers,
        );
        let errors = self.handover_errors.clone();
        r.register("handover_errors", "Requests for a hand-over answered with an error, by error", errors);
        r.register("connections_open", "Connections open through forwarders", self.open.clone());
        r.register("tasks", "Tasks running", self.tasks.clone());
        r.register("sessions", "Sessions with registry managers begun", self.sessions.clone());
        r.register("session_up", "Whether a session is up", self.session.clone());
        r.register("certificate_renewals", "Certificates renewed", self.renewals.clone());
        r.register("replica_repairs", "Snapshots asked for because of a difference", self.repairs.clone());
        r.register("replica_revision", "Revision of the replica", self.revision.clone());
        r.register("replica_view_revision", "Revision of its view's last change", self.view_revision.clone());
        r.register(
            "replica_age_milliseconds",
            "Age of a registry manager's last word",
            self.replica_age.clone(),
        );
        let left = self.certificate_left.clone();
        r.register("certificate_left_seconds", "Time until the certificate expires", left);
        let failures = self.write_failures.clone();
        r.register("replica_write_failures", "Writes of the replica that failed", failures);
        r.register(
            "evidence_dropped",
            "Outcomes of connects the router had no room for",
            self.dropped.clone(),
        );
    }

    pub(crate) fn count_served(&self, ty: &ManagerType, outcome: Became) {
        self.connections.get_or_create(&Connections::of(ty, outcome)).inc();
    }

    pub(crate) fn served(&self, ty: &ManagerType, outcome: Became) -> u64 {
        self.connections.get_or_create(&Connections::of(ty, outcome)).get()
    }

    pub(crate) fn attempt(&self, ty: &ManagerType, seen: &Seen) {
        let outcome = match seen {
            Seen::Connected => "connected",
            Seen::Overtaken => "overtaken",
            Seen::Failed(_) => "failed",
        };
        self.attempts.get_or_create(&Attempts { r#type: ty.to_string(), outcome }).inc();
    }

    pub(crate) fn count_handover(&self, ty: &ManagerType) {
        self.handovers.get_or_create(&OfType { r#type: ty.to_string() }).inc();
    }

    pub(crate) fn count_handover_error(&self, error: &'static str) {
        self.handover_errors.get_or_create(&OfError { error }).inc();
    }

    /// Everything in the text format of OpenMetrics.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Connections {
    fn of(ty: &ManagerType, outcome: Became) -> Self {
        let outcome = match outcome {
            Became::Served => "served",
            Became::Failed => "failed",
            Became::Nobody => "unserved",
        };
        Self { r#type: ty.to_string(), outcome }
    }
}
