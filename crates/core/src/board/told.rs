//! What one manager tells another of an agent.

use super::{Agent, Report};
use crate::alarm::Raised;
use crate::id::HostId;
use crate::message::{Health, Holding, Using};
use crate::name::{ManagerType, Text};
use crate::time::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

/// How far two beginnings may lie apart that are reported as ages: the reports took different times on their way.
const JITTER: Duration = Duration::from_secs(2);

/// All that a manager knows of one agent. Of two words the one with the larger [`Told::number`] holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// The host.
    pub host: HostId,
    /// The manager that has or had the agent's last session: it alone judges its silence.
    pub by: HostId,
    /// Whether it has a session.
    pub connected: bool,
    /// Whether it was silent for too long.
    pub silent: bool,
    /// Counts what `by` has said of this report.
    pub word: u64,
    /// How long ago the report came. While the link is up, what it says holds.
    pub ago: Duration,
    /// See [`Report::incarnation`].
    pub incarnation: u64,
    /// See [`Report::sequence`].
    pub sequence: u64,
    /// See [`Report::packages`].
    pub packages: BTreeMap<ManagerType, Health>,
    /// See [`Report::using`].
    pub using: Vec<Using>,
    /// What its replica held when this was said. It moves on without a word.
    pub holds: Option<Holding>,
    /// See [`Report::alarms`].
    pub alarms: Vec<Raised>,
    /// See [`Report::build`].
    pub build: Option<Text>,
    /// See [`Report::isolated`].
    pub isolated: bool,
    /// Since how long the checks fail that fail.
    pub failing: BTreeMap<ManagerType, Duration>,
    /// Since how long its replica has been behind, where that is longer than three heartbeats.
    pub behind: Option<Duration>,
}

impl Told {
    /// What orders all that is said of one agent: its reports, then what is said of one of them. Equal numbers say
    /// the same.
    pub fn number(&self) -> (u64, u64, u64, HostId) {
        (self.incarnation, self.sequence, self.word, self.by)
    }

    /// What the manager on `own` has to say of an agent.
    pub(super) fn of(host: HostId, agent: &Agent, own: HostId, now: Monotonic) -> Self {
        let report = agent.report.clone();
        Self {
            host,
            by: agent.by.unwrap_or(own),
            connected: agent.connected,
            silent: agent.silent && !agent.guessed,
            word: agent.word,
            ago: now.since(agent.heard),
            incarnation: report.incarnation,
            sequence: report.sequence,
            packages: report.packages,
            using: report.using,
            holds: report.holds,
            alarms: report.alarms,
            build: report.build,
            isolated: report.isolated,
            failing: agent.failing.iter().map(|(ty, since)| (ty.clone(), now.since(*since))).collect(),
            behind: agent.behind.then(|| now.since(agent.level)),
        }
    }

    pub(super) fn report(self) -> Report {
        Report {
            incarnation: self.incarnation,
            sequence: self.sequence,
            packages: self.packages,
            using: self.using,
            holds: self.holds,
            alarms: self.alarms,
            build: self.build,
            isolated: self.isolated,
        }
    }
}

/// Whether a report says what the one before it said, but for the time that has passed.
pub(super) fn is_same(old: &Agent, now: Monotonic, new: &Report) -> bool {
    let passed = now.since(old.heard);
    let was = &old.report;
    let began_alike = |old: Duration, new: Duration| (old + passed).abs_diff(new) <= JITTER;
    let using = |(old, new): (&Using, &Using)| {
        (&old.ty, &old.manager, &old.cause, old.outcome) == (&new.ty, &new.manager, &new.cause, new.outcome)
            && began_alike(old.since, new.since)
    };
    let alarm =
        |(old, new): (&Raised, &Raised)| old.notice == new.notice && began_alike(old.since, new.since);
    was.incarnation == new.incarnation
        && was.packages == new.packages
        && (&was.build, was.isolated) == (&new.build, new.isolated)
        && was.using.len() == new.using.len()
        && was.using.iter().zip(&new.using).all(using)
        && was.alarms.len() == new.alarms.len()
        && was.alarms.iter().zip(&new.alarms).all(alarm)
}
