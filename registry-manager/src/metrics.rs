//! What the manager counts as it happens. What it is at the moment is read when somebody asks: [`crate::readings`].

use crate::hooks::{Cause, Kind, Ran};
use echelon_daemon::metrics::Durations;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry as Metered};

/// What every name begins with.
pub(crate) const PREFIX: &str = "echelon_manager";

/// The manager's counters. One set for each manager, so that several can run in one process.
pub(crate) struct Metrics {
    pub(crate) bytes_pushed: Counter,
    pub(crate) heartbeat_bytes: Counter,
    pub(crate) deltas: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) repairs: Counter,
    pub(crate) empty_replicas: Counter,
    pub(crate) sessions: Counter,
    /// From when an edit was queued until it was answered, of edits that were committed.
    pub(crate) edit_duration: Durations,
    /// Making a group of edits durable.
    pub(crate) journal_duration: Durations,
    catch_ups: Family<OfKind, Counter>,
    edits: Family<OfOutcome, Counter>,
    enrolments: Family<OfOutcome, Counter>,
    renewals: Family<OfOutcome, Counter>,
    requests: Family<OfRequest, Counter>,
    queue_drops: Family<OfQueue, Counter>,
    hooks: Family<OfHook, Counter>,
    promotions: Family<OfCause, Counter>,
    metered: Metered,
}

/// What became of an edit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EditBecame {
    /// It is durable.
    Committed,
    /// It had been committed before, and was answered as then.
    Repeated,
    /// It was asked for without effect.
    DryRun,
    /// The registry's state, or a limit, forbids it.
    Refused,
    /// It could not be made durable.
    Failed,
}

/// A queue that gives up what it has no room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queue {
    /// Pushes for a session that is too slow for them; it is brought level instead.
    Pushes,
    /// Connections for which there was no place.
    Connections,
    /// Changes of this manager's role for a hook that is too slow.
    Promotions,
}

/// How a session's agent was brought level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CaughtUp {
    /// It was level.
    Level,
    /// It is ahead of this manager.
    Ahead,
    /// By the deltas that it missed.
    Deltas,
    /// By a whole view.
    Snapshot,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfRequest {
    request: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfQueue {
    queue: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfHook {
    hook: &'static str,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfCause {
    cause: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut m = Metered::with_prefix(PREFIX);
        let this = Self {
            bytes_pushed: add(&mut m, "pushed_bytes", "Bytes of messages sent on agents' sessions"),
            heartbeat_bytes: add(
                &mut m,
                "pushed_heartbeat_bytes",
                "Those of pushed_bytes that were heartbeats",
            ),
            deltas: add(&mut m, "deltas", "Deltas of the view sent to agents"),
            snapshots: add(&mut m, "snapshots", "Snapshots of the view sent to agents"),
            repairs: add(&mut m, "repairs", "Replicas that differed and were replaced by a snapshot"),
            empty_replicas: add(&mut m, "empty_replicas", "Sessions of agents that came with nothing"),
            sessions: add(&mut m, "sessions_started", "Sessions of agents that began"),
            catch_ups: add(
                &mut m,
                "catch_ups",
                "Agents brought level outside of the pushes, by what it took",
            ),
            edits: add(&mut m, "edits", "Edits, by what became of them"),
            edit_duration: add(
                &mut m,
                "edit_duration_seconds",
                "From a committed edit's arrival to its answer",
            ),
            journal_duration: add(
                &mut m,
                "journal_write_duration_seconds",
                "Making a group of edits durable, which is a wait for the disk",
            ),
            enrolments: add(&mut m, "enrolments", "Enrolments of hosts, by outcome"),
            renewals: add(&mut m, "renewals", "Renewals of certificates that peers asked for, by outcome"),
            requests: add(&mut m, "requests", "Requests of agents and consoles"),
            queue_drops: add(&mut m, "queue_drops", "What a full queue gave up"),
            hooks: add(&mut m, "hooks", "Runs of the commands of on_alarm and on_promote, by outcome"),
            promotions: add(
                &mut m,
                "promotions",
                "Times this manager became primary or ceased to be, by cause",
            ),
            metered: Metered::default(),
        };
        this.begin_at_0();
        Self { metered: m, ..this }
    }

    /// Makes a series of each label that is known beforehand: one that begins at 1 looks as if nothing had happened.
    fn begin_at_0(&self) {
        for outcome in EditBecame::ALL.map(EditBecame::name) {
            drop(self.edits.get_or_create(&OfOutcome { outcome }));
        }
        for outcome in [true, false].map(enrolment) {
            drop(self.enrolments.get_or_create(&OfOutcome { outcome }));
        }
        for outcome in [true, false].map(renewal) {
            drop(self.renewals.get_or_create(&OfOutcome { outcome }));
        }
        for queue in [Queue::Pushes, Queue::Connections, Queue::Promotions].map(Queue::name) {
            drop(self.queue_drops.get_or_create(&OfQueue { queue }));
        }
        for (hook, ran) in Kind::ALL.into_iter().flat_map(|kind| Ran::ALL.map(|ran| (kind, ran))) {
            drop(self.hooks.get_or_create(&OfHook { hook: hook.name(), outcome: ran.name() }));
        }
        for cause in Cause::OF_CHANGES.map(Cause::word) {
            drop(self.promotions.get_or_create(&OfCause { cause }));
        }
        for kind in CaughtUp::ALL.map(CaughtUp::name) {
            drop(self.catch_ups.get_or_create(&OfKind { kind }));
        }
    }

    /// All counters, for whoever writes them.
    pub(crate) fn metered(&self) -> &Metered {
        &self.metered
    }

    pub(crate) fn edit(&self, became: EditBecame, count: usize) {
        self.edits.get_or_create(&OfOutcome { outcome: became.name() }).inc_by(count as u64);
    }

    pub(crate) fn enrolment(&self, done: bool) {
        self.enrolments.get_or_create(&OfOutcome { outcome: enrolment(done) }).inc();
    }

    pub(crate) fn renewal(&self, done: bool) {
        self.renewals.get_or_create(&OfOutcome { outcome: renewal(done) }).inc();
    }

    /// Counts a request by its kind, of which there are few.
    pub(crate) fn request(&self, request: &'static str) {
        self.requests.get_or_create(&OfRequest { request }).inc();
    }

    pub(crate) fn dropped(&self, queue: Queue) {
        self.queue_drops.get_or_create(&OfQueue { queue: queue.name() }).inc();
    }

    pub(crate) fn hook(&self, kind: Kind, ran: Ran) {
        self.hooks.get_or_create(&OfHook { hook: kind.name(), outcome: ran.name() }).inc();
    }

    /// Its role has changed.
    pub(crate) fn promoted(&self, cause: Cause) {
        self.promotions.get_or_create(&OfCause { cause: cause.word() }).inc();
    }

    pub(crate) fn caught_up(&self, by: CaughtUp) {
        self.catch_ups.get_or_create(&OfKind { kind: by.name() }).inc();
    }
}

fn enrolment(done: bool) -> &'static str {
    if done { "enrolled" } else { "refused" }
}

fn renewal(done: bool) -> &'static str {
    if done { "renewed" } else { "refused" }
}

fn add<M: Metric + Clone + Default>(metered: &mut Metered, name: &str, help: &str) -> M {
    let metric = M::default();
    metered.register(name, help, metric.clone());
    metric
}

impl EditBecame {
    const ALL: [Self; 5] = [Self::Committed, Self::Repeated, Self::DryRun, Self::Refused, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Repeated => "repeated",
            Self::DryRun => "dry_run",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Queue {
    fn name(self) -> &'static str {
        match self {
            Self::Pushes => "pushes",
            Self::Connections => "connections",
            Self::Promotions => "promotions",
        }
    }
}

impl CaughtUp {
    const ALL: [Self; 4] = [Self::Level, Self::Ahead, Self::Deltas, Self::Snapshot];

    fn name(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Ahead => "ahead",
            Self::Deltas => "deltas",
            Self::Snapshot => "snapshot",
        }
    }
}
