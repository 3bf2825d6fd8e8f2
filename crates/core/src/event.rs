//! What watchers are told: each change of configuration and liveness, as it happens.

use crate::board::Agent;
use crate::message::{Health, Using};
use crate::name::{HostName, ManagerType};
use crate::report::{AlarmReport, GivenUpReport, HistoryReport, Outcome};
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// Most changed objects that one event names; `echelon history` has all of them.
const MAX_NAMED: usize = 3;

/// One event; its JSON is what scripts rely on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventReport {
    /// When, RFC 3339, by the registry manager's clock.
    pub at: String,
    /// What happened.
    pub event: EventKind,
    /// To whom: a host, `host:type`, an alarm's subject, `revision N`, or the watcher itself.
    pub subject: String,
    /// More of it in words; may be empty.
    pub detail: String,
    /// The host it happened to; none for edits, alarms and what was missed.
    pub host: Option<HostName>,
    /// The type of the package or route.
    #[serde(rename = "type")]
    pub ty: Option<ManagerType>,
    /// With an edit: the revision. With edits that are given up: the last one that stays.
    pub revision: Option<u64>,
    /// With an alarm: the alarm.
    pub alarm: Option<AlarmReport>,
    /// How many events this watcher was too slow for; with `missed` only.
    pub missed: Option<u64>,
}

/// Kinds of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// An edit was committed.
    Edit,
    /// An agent's session began.
    AgentConnected,
    /// An agent's session ended. Whether it comes back, time will tell.
    AgentDisconnected,
    /// An agent was not heard for too long.
    AgentSilent,
    /// An agent that was silent is heard again.
    AgentHeard,
    /// A package's check passes, after it failed or was not made.
    PackagePassing,
    /// A package's check fails.
    PackageFailing,
    /// A host wants its package to serve nothing.
    PackageWithdrawn,
    /// A host uses a manager that is not its home, or another one than before.
    NotHome,
    /// A host uses its home again.
    Home,
    /// An alarm was raised, or says something else.
    AlarmRaised,
    /// An alarm is over.
    AlarmCleared,
    /// The watcher was too slow and missed events.
    Missed,
    /// Edits are none of the history any more.
    GivenUp,
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Edit => "edit",
            Self::AgentConnected => "agent-connected",
            Self::AgentDisconnected => "agent-disconnected",
            Self::AgentSilent => "agent-silent",
            Self::AgentHeard => "agent-heard",
            Self::PackagePassing => "package-passing",
            Self::PackageFailing => "package-failing",
            Self::PackageWithdrawn => "package-withdrawn",
            Self::NotHome => "not-home",
            Self::Home => "home",
            Self::AlarmRaised => "alarm-raised",
            Self::AlarmCleared => "alarm-cleared",
            Self::Missed => "missed",
            Self::GivenUp => "given-up",
        })
    }
}

impl EventReport {
    fn new(at: UnixMillis, event: EventKind, subject: String, detail: String) -> Self {
        let (host, ty, revision, alarm, missed) = Default::default();
        Self { at: at.to_string(), event, subject, detail, host, ty, revision, alarm, missed }
    }

    /// A committed edit.
    pub fn edit(edit: &HistoryReport) -> Self {
        let objects = edit.changed.iter().map(|c| format!("{} {}", c.kind, c.name));
        let more = edit.changed.len().saturating_sub(MAX_NAMED);
        let mut objects = objects.take(MAX_NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 || edit.more {
            let least = if edit.more { "at least " } else { "" };
            objects = format!("{objects} and {least}{more} more");
        }
        let (revision, actor) = (edit.at_position.revision, &edit.actor);
        let objects = if objects.is_empty() { "nothing: it was so already" } else { &objects };
        Self {
            at: edit.at.clone(),
            revision: Some(revision),
            ..Self::new(
                UnixMillis(0),
                EventKind::Edit,
                format!("revision {revision}"),
                format!("{actor} changed {objects}"),
            )
        }
    }

    /// An alarm that was raised, or is over.
    pub fn alarm(at: UnixMillis, event: EventKind, alarm: AlarmReport) -> Self {
        let detail = format!("{} {}: {}", alarm.severity, alarm.name, alarm.message);
        Self { alarm: Some(alarm.clone()), ..Self::new(at, event, alarm.subject, detail) }
    }

    /// An agent was not heard for too long.
    pub fn silent(at: UnixMillis, host: &HostName) -> Self {
        Self::of_host(at, EventKind::AgentSilent, host, "what runs on the host is suspect".into())
    }

    /// Edits do not count any more that watchers were told of.
    pub fn given_up(at: UnixMillis, report: &GivenUpReport) -> Self {
        let (after, detail) =
            (report.given_up_after, format!("{report}; echelon edits lost lists those that are kept"));
        let subject = format!("revision {after}");
        Self { revision: Some(after), ..Self::new(at, EventKind::GivenUp, subject, detail) }
    }

    /// A watcher was too slow for so many events.
    pub fn missed(at: UnixMillis, count: u64) -> Self {
        let detail = format!("{count} events came faster than they were read");
        Self { missed: Some(count), ..Self::new(at, EventKind::Missed, "this watcher".into(), detail) }
    }

    fn of_host(at: UnixMillis, event: EventKind, host: &HostName, detail: String) -> Self {
        Self { host: Some(host.clone()), ..Self::new(at, event, host.to_string(), detail) }
    }

    fn of_type(at: UnixMillis, event: EventKind, host: &HostName, ty: &ManagerType, detail: String) -> Self {
        let subject = format!("{host}:{ty}");
        Self { subject, ty: Some(ty.clone()), ..Self::of_host(at, event, host, detail) }
    }
}

/// What has happened to an agent between two looks at it.
pub fn differences(
    at: UnixMillis,
    host: &HostName,
    before: Option<&Agent>,
    after: Option<&Agent>,
) -> Vec<EventReport> {
    let mut events = Vec::new();
    events
        .extend(session(before, after).map(|(event, detail)| EventReport::of_host(at, event, host, detail)));
    events.extend(packages(at, host, before, after));
    events.extend(routes(at, host, before, after));
    events
}

/// What became of an agent's session.
fn session(before: Option<&Agent>, after: Option<&Agent>) -> Option<(EventKind, String)> {
    let is = |agent: Option<&Agent>, what: fn(&Agent) -> bool| agent.is_some_and(what);
    let start = |agent: Option<&Agent>| agent.map(|a| a.report().incarnation);
    match (is(before, Agent::is_connected), is(after, Agent::is_connected)) {
        (true, false) => Some((EventKind::AgentDisconnected, String::new())),
        (false, true) => Some((EventKind::AgentConnected, build(after))),
        // Its former session has not been missed yet.
        (true, true) if start(before) != start(after) => Some((EventKind::AgentConnected, build(after))),
        (true, true) if is(before, Agent::is_silent) => Some((EventKind::AgentHeard, String::new())),
        _ => None,
    }
}

fn build(agent: Option<&Agent>) -> String {
    let build = agent.and_then(|a| a.report().build.as_ref());
    build.map(|build| format!("version {build}")).unwrap_or_default()
}

fn packages(
    at: UnixMillis,
    host: &HostName,
    before: Option<&Agent>,
    after: Option<&Agent>,
) -> Vec<EventReport> {
    let was = |ty: &ManagerType| before.and_then(|a| a.report().packages.get(ty));
    let now = after.map(|a| &a.report().packages).into_iter().flatten();
    let told = now.filter(|(ty, health)| was(ty) != Some(health)).filter_map(|(ty, health)| match health {
        Health::Unchecked => None,
        Health::Withdrawn => {
            Some(EventReport::of_type(at, EventKind::PackageWithdrawn, host, ty, String::new()))
        }
        Health::Passing => Some(EventReport::of_type(at, EventKind::PackagePassing, host, ty, String::new())),
        Health::Failing { reason, .. } => {
            Some(EventReport::of_type(at, EventKind::PackageFailing, host, ty, reason.to_string()))
        }
    });
    told.collect()
}

fn routes(
    at: UnixMillis,
    host: &HostName,
    before: Option<&Agent>,
    after: Option<&Agent>,
) -> Vec<EventReport> {
    let using = |agent: Option<&Agent>| agent.map(|a| a.report().using.clone()).unwrap_or_default();
    let (was, is) = (using(before), using(after));
    let same = |a: &Using, b: &Using| (&a.ty, &a.manager, a.outcome) == (&b.ty, &b.manager, b.outcome);
    let away = is.iter().filter(|u| !was.iter().any(|w| same(u, w)));
    let away = away.map(|u| EventReport::of_type(at, EventKind::NotHome, host, &u.ty, where_to(u)));
    let back = was.iter().filter(|w| !is.iter().any(|u| u.ty == w.ty));
    let back = back.map(|w| EventReport::of_type(at, EventKind::Home, host, &w.ty, String::new()));
    away.chain(back).collect()
}

fn where_to(using: &Using) -> String {
    let cause = if using.cause.as_str().is_empty() { String::new() } else { format!(": {}", using.cause) };
    match (&using.manager, using.outcome) {
        (None, _) => format!("served by nobody{cause}"),
        (Some(manager), Outcome::LastResort) => format!("uses {manager} as a last resort{cause}"),
        (Some(manager), _) => format!("uses {manager}{cause}"),
    }
}
