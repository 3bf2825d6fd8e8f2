//! What an agent counts as it happens. What it is at the moment is read when somebody asks: [`crate::readings`].

use echelon_core::evidence::Seen;
use echelon_core::name::ManagerType;
use echelon_core::repeat::End;
use echelon_daemon::metrics::Durations;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};
use std::time::Duration;

/// What every name begins with.
pub(crate) const PREFIX: &str = "echelon_agent";

/// The counters of one agent; there is no process-wide state, so that one process can run many agents.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: Family<OfOutcome, Counter>,
    cuts: Family<OfCause, Counter>,
    full: Family<OfType, Counter>,
    connects: Family<OfOutcome, Durations>,
    http_requests: Family<OfOutcome, Counter>,
    http_repeats: Family<Repeated, Counter>,
    handovers: Family<OfType, Counter>,
    handover_errors: Family<OfError, Counter>,
    probes: Family<Probed, Counter>,
    checks: Family<OfOutcome, Counter>,
    on_changes: Family<OfOutcome, Counter>,
    api_requests: Family<OfCode, Counter>,
    renewals: Family<Renewed, Counter>,
    replica_updates: Family<OfKind, Counter>,
    pub(crate) sessions: Counter,
    pub(crate) write_failures: Counter,
    /// Background probes for which there was no place.
    pub(crate) dropped_probes: Counter,
    /// Attempts, overtaken by others, for whose end there was no place to wait.
    pub(crate) dropped_overtaken: Counter,
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

/// What became of a request to an HTTP forwarder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Requested {
    /// A manager answered it.
    Answered,
    /// No manager answered.
    Failed,
    /// There was no manager to try.
    Nobody,
    /// It could not be passed on, or there were too many.
    Refused,
}

/// Why a connection was closed that neither side had ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Its manager serves no more, and the time to drain is over.
    Withdrawn,
    /// Its manager's check, which demands an answer, failed.
    Unanswered,
    /// Its manager could not be reached, and no longer acknowledged anything on it.
    Unreachable,
    /// Its forwarder was closed, and the time to drain is over.
    ForwarderClosed,
}

/// How the replica was brought further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Update {
    /// By a whole view.
    Snapshot,
    /// By what changed in it.
    Delta,
    /// By this host's own place.
    Place,
}

/// What is counted for one type. Counting takes no lock and no memory: it happens for every connection.
#[derive(Clone, Debug)]
pub(crate) struct TypeMetrics {
    served: Counter,
    failed: Counter,
    unserved: Counter,
    full: Counter,
    cuts: [Counter; Cut::ALL.len()],
    connected: Durations,
    overtaken: Durations,
    refused: Durations,
}

/// What is counted for the requests of one type.
#[derive(Clone, Debug)]
pub(crate) struct HttpMetrics {
    answered: Counter,
    failed: Counter,
    unserved: Counter,
    refused: Counter,
    unsent: Counter,
    broken: Counter,
    overloaded: Counter,
}

/// A type as a label.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct OfType {
    pub(crate) r#type: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfOutcome {
    r#type: String,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Repeated {
    r#type: String,
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfCause {
    r#type: String,
    cause: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfError {
    error: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Probed {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfCode {
    code: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Renewed {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut r = Registry::with_prefix(PREFIX);
        let connects = Family::new_with_constructor(Durations::default as fn() -> Durations);
        r.register(
            "connect_duration_seconds",
            "Connects to managers for callers, by outcome, from their begin to their end",
            connects.clone(),
        );
        let metrics = Self {
            connections: add(&mut r, "connections", "Callers of forwarders, by what became of them"),
            cuts: add(&mut r, "connections_cut", "Connections closed that neither side had ended, by cause"),
            full: add(
                &mut r,
                "forwarder_full",
                "Times a forwarder let callers wait, because as many connections were open as may be",
            ),
            connects,
            http_requests: add(
                &mut r,
                "http_requests",
                "Requests to HTTP forwarders, by what became of them",
            ),
            http_repeats: add(&mut r, "http_repeats", "Times a request was sent once more, by why"),
            handovers: add(
                &mut r,
                "handovers",
                "Connections handed over to programs that asked for them directly",
            ),
            handover_errors: add(
                &mut r,
                "handover_errors",
                "Requests for a hand-over answered with an error, by error",
            ),
            on_changes: add(&mut r, "on_changes", "What was done on a change of a route, by what it came to"),
            checks: add(&mut r, "checks", "Checks of this host's packages, by what they came to"),
            api_requests: add(&mut r, "api_requests", "Requests to the local API, by the kind of answer"),
            probes: add(&mut r, "probes", "Background probes of managers, by outcome"),
            renewals: add(&mut r, "certificate_renewals", "Renewals of the certificate, by outcome"),
            replica_updates: add(&mut r, "replica_updates", "Times the replica was brought further, by what"),
            sessions: add(&mut r, "sessions", "Sessions with registry managers begun"),
            write_failures: add(&mut r, "replica_write_failures", "Writes of the replica that failed"),
            dropped_probes: Counter::default(),
            dropped_overtaken: Counter::default(),
            registry: r,
        };
        metrics.begin_at_0();
        metrics
    }

    /// Makes a series of each label that is known beforehand: one that begins at 1 looks as if nothing had happened.
    fn begin_at_0(&self) {
        for outcome in ["connected", "failed"] {
            drop(self.probes.get_or_create(&Probed { outcome }));
        }
        for code in ["2xx", "4xx", "5xx"] {
            drop(self.api_requests.get_or_create(&OfCode { code }));
        }
        for outcome in [true, false].map(renewal) {
            drop(self.renewals.get_or_create(&Renewed { outcome }));
        }
        for kind in [Update::Snapshot, Update::Delta, Update::Place].map(Update::name) {
            drop(self.replica_updates.get_or_create(&OfKind { kind }));
        }
    }

    /// All counters, for whoever writes them.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What is counted for one type.
    pub(crate) fn of_type(&self, ty: &ManagerType) -> TypeMetrics {
        let label = |outcome| OfOutcome { r#type: ty.to_string(), outcome };
        let connections = |outcome| self.connections.get_or_create_owned(&label(outcome));
        let connects = |outcome| self.connects.get_or_create_owned(&label(outcome));
        let cut = |cause: Cut| {
            self.cuts.get_or_create_owned(&OfCause { r#type: ty.to_string(), cause: cause.as_str() })
        };
        TypeMetrics {
            full: self.full.get_or_create_owned(&OfType { r#type: ty.to_string() }),
            cuts: Cut::ALL.map(cut),
            served: connections("served"),
            failed: connections("failed"),
            unserved: connections("unserved"),
            connected: connects("connected"),
            overtaken: connects("overtaken"),
            refused: connects("failed"),
        }
    }

    /// What is counted for the requests of one type.
    pub(crate) fn http(&self, ty: &ManagerType) -> HttpMetrics {
        let requests =
            |outcome| self.http_requests.get_or_create_owned(&OfOutcome { r#type: ty.to_string(), outcome });
        let repeats =
            |reason| self.http_repeats.get_or_create_owned(&Repeated { r#type: ty.to_string(), reason });
        HttpMetrics {
            answered: requests("answered"),
            failed: requests("failed"),
            unserved: requests("unserved"),
            refused: requests("refused"),
            unsent: repeats("unsent"),
            broken: repeats("broken"),
            overloaded: repeats("overloaded"),
        }
    }

    pub(crate) fn count_handover(&self, ty: &ManagerType) {
        self.handovers.get_or_create(&OfType { r#type: ty.to_string() }).inc();
    }

    pub(crate) fn count_handover_error(&self, error: &'static str) {
        self.handover_errors.get_or_create(&OfError { error }).inc();
    }

    pub(crate) fn count_probe(&self, seen: &Seen) {
        self.probes.get_or_create(&Probed { outcome: name(seen) }).inc();
    }

    /// Counts a check of this host's package of one type.
    pub(crate) fn count_check(&self, ty: &ManagerType, passed: bool) {
        let outcome = if passed { "passed" } else { "failed" };
        self.checks.get_or_create(&OfOutcome { r#type: ty.to_string(), outcome }).inc();
    }

    /// Counts that programs of this host were told of a change, or could not be.
    pub(crate) fn count_on_change(&self, ty: &ManagerType, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.on_changes.get_or_create(&OfOutcome { r#type: ty.to_string(), outcome }).inc();
    }

    /// Counts an answer of the local API, by the hundred of its status.
    pub(crate) fn count_answer(&self, status: u16) {
        let code = match status {
            ..400 => "2xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.api_requests.get_or_create(&OfCode { code }).inc();
    }

    pub(crate) fn count_renewal(&self, done: bool) {
        self.renewals.get_or_create(&Renewed { outcome: renewal(done) }).inc();
    }

    pub(crate) fn count_update(&self, update: Update) {
        self.replica_updates.get_or_create(&OfKind { kind: update.name() }).inc();
    }
}

impl TypeMetrics {
    /// Counts a caller.
    pub(crate) fn caller(&self, became: Became) {
        self.callers_that(became).inc();
    }

    /// How many callers became this.
    pub(crate) fn callers(&self, became: Became) -> u64 {
        self.callers_that(became).get()
    }

    fn callers_that(&self, became: Became) -> &Counter {
        match became {
            Became::Served => &self.served,
            Became::Failed => &self.failed,
            Became::Nobody => &self.unserved,
        }
    }

    /// Counts connections that were closed though neither side had ended them.
    pub(crate) fn cut(&self, cause: Cut, connections: usize) {
        let counters = Cut::ALL.into_iter().zip(&self.cuts);
        for (_, counter) in counters.filter(|(of, _)| *of == cause) {
            counter.inc_by(connections as u64);
        }
    }

    #[cfg(test)]
    pub(crate) fn cuts(&self, cause: Cut) -> u64 {
        let mut counters = Cut::ALL.into_iter().zip(&self.cuts);
        counters.find(|(of, _)| *of == cause).map_or(0, |(_, counter)| counter.get())
    }

    #[cfg(test)]
    pub(crate) fn fulls(&self) -> u64 {
        self.full.get()
    }

    /// Counts that callers had to wait for a place.
    pub(crate) fn full(&self) {
        self.full.inc();
    }

    /// Counts an attempt to connect.
    pub(crate) fn attempt(&self, seen: &Seen, took: Duration) {
        let durations = match seen {
            // One that is overloaded has taken the connection.
            Seen::Connected | Seen::Answered | Seen::Overloaded(_) => &self.connected,
            Seen::Overtaken => &self.overtaken,
            Seen::Failed(_) | Seen::Silent(_) | Seen::Unanswered { .. } => &self.refused,
        };
        durations.observe(took);
    }
}

impl HttpMetrics {
    /// Counts a request.
    pub(crate) fn request(&self, became: Requested) {
        self.requests_that(became).inc();
    }

    /// How many requests became this.
    pub(crate) fn requests(&self, became: Requested) -> u64 {
        self.requests_that(became).get()
    }

    fn requests_that(&self, became: Requested) -> &Counter {
        match became {
            Requested::Answered => &self.answered,
            Requested::Failed => &self.failed,
            Requested::Nobody => &self.unserved,
            Requested::Refused => &self.refused,
        }
    }

    /// Counts a request that is sent once more, because a try ended so.
    pub(crate) fn repeat(&self, because: End) {
        match because {
            End::Unsent => &self.unsent,
            End::Broken => &self.broken,
            End::Overloaded => &self.overloaded,
        }
        .inc();
    }

    /// How many requests were sent once more.
    pub(crate) fn repeats(&self) -> u64 {
        [&self.unsent, &self.broken, &self.overloaded].map(Counter::get).iter().sum()
    }
}

impl Cut {
    /// All there are.
    pub(crate) const ALL: [Self; 4] =
        [Self::Withdrawn, Self::Unanswered, Self::Unreachable, Self::ForwarderClosed];

    /// Its name, in metrics and the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Unanswered => "unanswered",
            Self::Unreachable => "unreachable",
            Self::ForwarderClosed => "forwarder_closed",
        }
    }
}

impl Update {
    fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
            Self::Place => "place",
        }
    }
}

fn renewal(done: bool) -> &'static str {
    if done { "renewed" } else { "failed" }
}

fn name(seen: &Seen) -> &'static str {
    match seen {
        Seen::Connected => "connected",
        Seen::Overtaken => "overtaken",
        Seen::Failed(_) | Seen::Silent(_) => "failed",
        Seen::Answered => "answered",
        Seen::Unanswered { .. } => "unanswered",
        Seen::Overloaded(_) => "overloaded",
    }
}

fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
