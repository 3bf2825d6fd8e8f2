//! What is wrong at the moment, as one registry manager sees it: worked out from its registry and its board,
//! with nothing kept.

use crate::access::Subject;
use crate::alarm::{Raised, Severity};
use crate::board::{Agent, Board};
use crate::message::{Health, Using};
use crate::name::{HostName, ManagerType};
use crate::registry::Registry;
use crate::report::{AlarmReport, CandidateState, Outcome, UsingReport, millis};
use crate::row::Host;
use crate::time::Monotonic;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that alarms are drawn from.
#[derive(Clone, Copy)]
pub struct Survey<'a> {
    /// The committed registry.
    pub registry: &'a Registry,
    /// What agents have said.
    pub board: &'a Board,
    /// The time, by the board's clock.
    pub now: Monotonic,
    /// The manager's own host.
    pub manager: &'a HostName,
    /// The alarms that the manager has raised of itself.
    pub own: &'a [Raised],
    /// What is wrong among the registry managers.
    pub managers: &'a [AlarmReport],
}

impl Survey<'_> {
    /// All alarms that are up: the manager's own, those of registry managers, types without a manager, then host by host, by name.
    pub fn alarms(&self) -> Vec<AlarmReport> {
        let mut alarms: Vec<_> =
            self.own.iter().map(|raised| AlarmReport::raised(raised, self.manager.as_str())).collect();
        alarms.extend_from_slice(self.managers);
        alarms.extend(self.doubt());
        alarms.extend(self.unserved_types().iter().map(|ty| self.unserved_type(ty)));
        for host in self.registry.hosts_by_name() {
            if let Some(agent) = self.board.agent(host.id) {
                self.of_host(host, agent, &mut alarms);
            }
        }
        alarms
    }

    /// The same, the worst first.
    pub fn worst_alarms(&self) -> Vec<AlarmReport> {
        let mut alarms = self.alarms();
        // Stable: alarms of one severity stay in their order.
        alarms.sort_by_key(|alarm| Reverse(alarm.severity));
        alarms
    }

    /// The types that have managers, none of which can be used: each is down, withdrawn, drained or denied.
    pub fn unserved_types(&self) -> Vec<ManagerType> {
        let mut served = BTreeMap::new();
        for package in self.registry.packages().filter(|p| p.is_manager() && !p.ty.is_registry()) {
            let (state, _) = self.board.state_of(package.host, &package.ty);
            let serves = self.registry.host(package.host).is_some_and(|host| host.serves(package));
            let denied = self.registry.denial_in_force(&Subject::Host(package.host)).is_some();
            let down = matches!(state, CandidateState::Down | CandidateState::Withdrawn);
            let usable = serves && !denied && !down;
            *served.entry(&package.ty).or_insert(false) |= usable;
        }
        served.into_iter().filter(|(_, served)| !served).map(|(ty, _)| ty.clone()).collect()
    }

    fn unserved_type(&self, ty: &ManagerType) -> AlarmReport {
        let message = "no manager of this type can be used: each is down or withdrawn";
        let remedy = format!("echelon package list --type {ty}");
        // Since the last one failed; where all are withdrawn, nobody has noted since when.
        let failed = |host| self.board.agent(host)?.failing_since(ty);
        let last = self.registry.packages_of(ty).filter_map(|p| failed(p.host)).max();
        let since = last.map_or(Duration::ZERO, |last| self.now.since(last));
        alarm("type-unserved", Severity::Critical, ty.to_string(), message, &remedy, since)
    }

    fn doubt(&self) -> Option<AlarmReport> {
        let since = self.board.doubting_since()?;
        Some(alarm(
            "self-doubt",
            Severity::Critical,
            self.manager.to_string(),
            "so many agents fell silent at once that the fault is probably here: none is judged for now",
            "look at the network of the registry manager's host",
            self.now.since(since),
        ))
    }

    fn of_host(&self, host: &Host, agent: &Agent, alarms: &mut Vec<AlarmReport>) {
        let name = &host.name;
        if agent.is_silent() {
            alarms.push(self.silence(host, agent));
            // What it said before is no news any more.
            return;
        }
        alarms.extend(self.failures(host, agent));
        let ago = self.now.since(agent.heard());
        alarms.extend(agent.report().using.iter().filter_map(|using| not_served(name, using, ago)));
        for raised in &agent.report().alarms {
            let raised = Raised { since: raised.since.saturating_add(ago), ..raised.clone() };
            alarms.push(AlarmReport::raised(&raised, name.as_str()));
        }
    }

    fn silence(&self, host: &Host, agent: &Agent) -> AlarmReport {
        // Of a host under maintenance nothing else is expected.
        let severity = if host.drained.is_some() { Severity::Info } else { Severity::Warning };
        let message = match agent.is_heard() {
            true => "its agent is silent: what runs on the host is suspect",
            false => "its agent was not heard since the registry manager's start",
        };
        let remedy = "see on the host whether registry-agent runs and reaches the registry manager";
        let since = self.now.since(agent.heard());
        alarm("agent-silent", severity, host.name.to_string(), message, remedy, since)
    }

    fn failures(&self, host: &Host, agent: &Agent) -> impl Iterator<Item = AlarmReport> {
        let packages = agent.report().packages.iter().filter_map(move |(ty, health)| {
            let Health::Failing { reason, .. } = health else { return None };
            // Of one that is withdrawn nobody expects that it serves.
            let package = self.registry.package(host.id, ty).filter(|p| host.serves(p))?;
            Some((package.ty.clone(), reason.to_string(), agent.failing_since(ty)?))
        });
        let name = host.name.clone();
        packages.map(move |(ty, reason, since)| {
            let (subject, since) = (format!("{name}:{ty}"), self.now.since(since));
            let remedy = format!("echelon host show {name}; see whether it runs there");
            alarm(
                "package-failing",
                Severity::Warning,
                subject,
                &format!("check failed: {reason}"),
                &remedy,
                since,
            )
        })
    }
}

/// A host that is served by nobody, or as a last resort only.
fn not_served(host: &HostName, using: &Using, ago: Duration) -> Option<AlarmReport> {
    let (name, severity) = match using.outcome {
        Outcome::Unserved => ("host-unserved", Severity::Critical),
        Outcome::LastResort => ("last-resort", Severity::Warning),
        Outcome::Home | Outcome::Failover => return None,
    };
    let said = UsingReport::said(using, ago);
    let subject = format!("{host}:{}", using.ty);
    let remedy = format!("echelon route --host {host} --type {} --actual --explain", using.ty);
    let since = Duration::from_millis(said.since_ms);
    Some(alarm(name, severity, subject, &said.cause, &remedy, since))
}

/// An alarm of the registry.
pub(crate) fn alarm(
    name: &'static str,
    severity: Severity,
    subject: String,
    message: &str,
    remedy: &str,
    since: Duration,
) -> AlarmReport {
    AlarmReport {
        name: name.parse().expect("names of alarms in the code are lower case with dashes"),
        severity,
        subject,
        message: message.to_owned(),
        remedy: remedy.to_owned(),
        since_ms: millis(since),
    }
}
