//! Answers to questions, as documents.

use crate::failure;
use crate::history::History;
use crate::hub::Hub;
use crate::journal::Situation;
use crate::limits::{MAX_DOWN, REPORT_OVERHEAD};
use crate::lost;
use crate::managers;
use crate::promotion::sight;
use crate::server::Shared;
use echelon_core::access::Subject;
use echelon_core::actual;
use echelon_core::alarm::Raised;
use echelon_core::board::Board;
use echelon_core::digest::Digest;
use echelon_core::member::CannotWrite;
use echelon_core::message::{Failure, Query};
use echelon_core::name::{HostName, ManagerType};
use echelon_core::registry::Registry;
use echelon_core::report::{
    AgentReport, AgentState, AlarmReport, CandidateState, Down, EditsReport, EnrolmentReport,
    MAX_STATUS_ALARMS, RouteReport, StatusReport, TokenReport, UsingReport, millis,
};
use echelon_core::row::Host;
use echelon_core::settled::{Room, Settled};
use echelon_core::time::Monotonic;
use echelon_wire::MAX_SESSION_FRAME;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;

/// Bytes of documents in one part: as much as rows in theirs.
const PART: usize = echelon_wire::MAX_PART;

/// Most documents in one part.
const MOST: usize = 1024;

/// Works out the answer and sends it in parts. Runs where it may take its time.
///
/// # Errors
/// The question cannot be answered; parts sent before count for nothing.
pub(crate) fn answer(
    shared: &Shared,
    hub: &Hub,
    query: Query,
    to: &Sender<Vec<String>>,
) -> Result<(), Failure> {
    let mut parts = Parts { to, part: Vec::new(), size: 0 };
    match query {
        Query::Status => parts.add(&status(shared, hub))?,
        Query::Tokens => tokens(&hub.registry()).try_for_each(|t| parts.add(&t))?,
        Query::Managers => managers::reports(shared).iter().try_for_each(|m| parts.add(m))?,
        Query::Route { host, ty, down, candidates } => routes(hub, host, &ty, &down, candidates, &mut parts)?,
        Query::Actual { host, ty } => parts.add(&actual(hub, &host, &ty)?)?,
        Query::Alarms => shared.survey(|survey| survey.alarms()).iter().try_for_each(|a| parts.add(a))?,
        Query::Agents { host } => agents(hub, host.as_ref())?.iter().try_for_each(|a| parts.add(a))?,
        Query::History { since, limit, .. } => history(shared, hub, since, limit, &mut parts)?,
        Query::Lineage => sight(shared, |sight| sight.grants()).iter().try_for_each(|g| parts.add(g))?,
        Query::Lost => lost::edits(shared)?.iter().try_for_each(|edit| parts.add(edit))?,
        // Has no end, and is answered in `watchers`.
        Query::Watch => return Err(failure::bad_request(&"a watch has no end")),
    }
    parts.flush()
}

fn history(
    shared: &Shared,
    hub: &Hub,
    since: Option<u64>,
    limit: Option<u64>,
    parts: &mut Parts<'_>,
) -> Result<(), Failure> {
    let registry = hub.registry();
    let head = registry.position().revision;
    let wanted = || !parts.to.is_closed();
    let mut history =
        History::from_now(&shared.journal, Arc::clone(&registry))?.back_to(since, limit, wanted)?;
    loop {
        match history.part(head, &registry)?.as_slice() {
            [] => return Ok(()),
            part => part.iter().try_for_each(|report| parts.add(report))?,
        }
    }
}

/// What is known of one host's agent, or of those of all enrolled hosts.
fn agents(hub: &Hub, host: Option<&HostName>) -> Result<Vec<AgentReport>, Failure> {
    let (registry, mark) = (hub.registry(), hub.mark());
    let (board, now) = (hub.board(), hub.clock.now());
    let state = |host: &Host| agent_state(&registry, &board, host, now, mark.digest);
    let report = |host: &Host| AgentReport { host: host.name.clone(), state: state(host) };
    match host {
        Some(name) => {
            let host = registry.host_named(name).ok_or_else(|| failure::unknown_host(name))?;
            Ok(vec![report(host)])
        }
        None => {
            let enrolled = registry.hosts_by_name().filter(|host| board.agent(host.id).is_some());
            Ok(enrolled.map(|host| report(host)).collect())
        }
    }
}

fn agent_state(registry: &Registry, board: &Board, host: &Host, now: Monotonic, view: Digest) -> AgentState {
    let identity = registry.identity(&Subject::Host(host.id));
    let enrolment = identity.map(|identity| EnrolmentReport {
        number: identity.enrolment,
        access: identity.access,
        allow_types: identity.allow_types.iter().cloned().collect(),
        enrolled: identity.enrolled.to_string(),
    });
    let unheard = AgentState { enrolment, ..AgentState::default() };
    let Some(agent) = board.agent(host.id) else { return unheard };
    let silent = agent.is_silent();
    if !agent.is_heard() {
        return AgentState { silent, ..unheard };
    }
    let (said, ago) = (agent.report(), now.since(agent.heard()));
    let raised = |raised: &Raised| {
        let since = raised.since.saturating_add(ago);
        AlarmReport::raised(&Raised { since, ..raised.clone() }, host.name.as_str())
    };
    AgentState {
        connected: agent.is_connected(),
        silent,
        heard_ms: Some(millis(agent.heard_ago(now))),
        build: said.build.clone(),
        in_sync: agent.is_in_sync(view),
        behind_ms: agent.behind(now, view).map(millis),
        revision: said.holds.map(|holds| holds.position.revision),
        using: said.using.iter().map(|using| UsingReport::said(using, ago)).collect(),
        alarms: said.alarms.iter().map(raised).collect(),
        isolated: said.isolated,
        ..unheard
    }
}

/// What a host uses at the moment, by its agent's last word.
fn actual(hub: &Hub, name: &HostName, ty: &ManagerType) -> Result<RouteReport, Failure> {
    let (registry, view) = hub.registry_and_view();
    if registry.packages_of(ty).next().is_none() {
        return Err(failure::unknown_type(ty));
    }
    let host = registry.host_named(name).ok_or_else(|| failure::unknown_host(name))?;
    let (agent, now) = (hub.board().agent(host.id).cloned(), hub.clock.now());
    let heard = agent.as_ref().filter(|agent| agent.is_heard());
    let connected = heard.filter(|agent| agent.is_connected() && !agent.is_silent());
    let Some(agent) = connected else {
        return Err(failure::agent_away(name, heard.map(|agent| millis(now.since(agent.heard())))));
    };
    let state_of = |host, ty: &ManagerType| hub.board().state_of(host, ty);
    let settled = Settled { registry: &registry, view: &view, state_of: &state_of, down: &[] };
    let report =
        actual::actual(settled.route(host, ty), agent, now).ok_or_else(|| failure::out_of_step(name))?;
    Ok(RouteReport { at: Some(registry.position().into()), ..report })
}

struct Parts<'a> {
    to: &'a Sender<Vec<String>>,
    part: Vec<String>,
    size: usize,
}

impl Parts<'_> {
    fn add(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document).map_err(|e| failure::internal(&e))?;
        if text.len() > MAX_SESSION_FRAME - REPORT_OVERHEAD {
            return Err(failure::report_too_large(text.len()));
        }
        if self.size + text.len() > PART || self.part.len() == MOST {
            self.flush()?;
        }
        self.size += text.len();
        self.part.push(text);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.size = 0;
        let part = std::mem::take(&mut self.part);
        // Where whoever asked is gone, the rest is of no use to anybody.
        self.to.blocking_send(part).map_err(|_| failure::nobody_listens())
    }
}

fn routes(
    hub: &Hub,
    host: Option<HostName>,
    ty: &ManagerType,
    down: &[Down],
    candidates: Option<u32>,
    parts: &mut Parts<'_>,
) -> Result<(), Failure> {
    let (registry, view) = hub.registry_and_view();
    if registry.packages_of(ty).next().is_none() {
        return Err(failure::unknown_type(ty));
    }
    if down.len() > MAX_DOWN {
        return Err(failure::too_many_down(down.len(), MAX_DOWN));
    }
    if let Some(unknown) = down.iter().find(|d| registry.host_named(&d.host).is_none()) {
        return Err(failure::unknown_host(&unknown.host));
    }
    let state_of = |host, ty: &ManagerType| hub.board().state_of(host, ty);
    let settled = Settled { registry: &registry, view: &view, state_of: &state_of, down };
    let routes = settled.of_type(ty);
    let most = candidates.map_or(usize::MAX, |n| n as usize);
    let (mut domains, mut room) = (BTreeMap::new(), Room::default());
    let mut add = |host: &Host| {
        let of_domain = domains.entry(host.domain).or_insert_with(|| routes.of_domain(host.domain, most));
        let mut report = of_domain.route(host, &mut room).report();
        report.at = Some(registry.position().into());
        report.age_ms = Some(0);
        parts.add(&report)
    };
    match host {
        Some(name) => add(registry.host_named(&name).ok_or_else(|| failure::unknown_host(&name))?),
        None => registry.hosts_by_name().try_for_each(|host| add(host)),
    }
}

fn status(shared: &Shared, hub: &Hub) -> StatusReport {
    let (alarms, types_unserved) = shared.survey(|survey| (survey.worst_alarms(), survey.unserved_types()));
    let (registry_managers, situation) = (managers::members(shared), shared.edits.situation());
    let (registry, mark, board, now) = (hub.registry(), hub.mark(), hub.board(), hub.clock.now());
    let count = |n: usize| n as u64;
    let failing = |(host, _): &(_, &echelon_core::board::Agent)| {
        let on_it = registry.packages_on(*host).filter(|p| p.is_manager());
        on_it.filter(|p| board.state_of(p.host, &p.ty).0 == CandidateState::Down).count()
    };
    StatusReport {
        framework: registry.meta().framework.clone(),
        manager: shared.name(),
        role: if situation.leading { "primary" } else { "standby" }.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_ms: now.0 / 1000,
        at: registry.position().into(),
        rolled_back: situation.rolled_back.map(Into::into),
        view_revision: mark.view_revision,
        view_digest: mark.digest.to_string(),
        domains: count(registry.hierarchy().len()),
        hosts: count(registry.host_count()),
        packages: count(registry.package_count()),
        managers: count(registry.manager_count()),
        agents_connected: count(board.agents().filter(|(_, a)| a.is_here()).count()),
        agents_in_sync: count(
            board.agents().filter(|(_, a)| a.is_here() && a.is_in_sync(mark.digest)).count(),
        ),
        agents_silent: count(board.agents().filter(|(_, a)| a.is_silent()).count()),
        warming: board.is_warming(now),
        self_doubt: board.is_doubting(),
        managers_failing: count(board.agents().map(|a| failing(&a)).sum()),
        hosts_not_home: count(board.agents().filter(|(_, a)| !a.report().using.is_empty()).count()),
        types_unserved,
        alarms: count(alarms.len()),
        worst_alarm: alarms.first().map(|alarm| alarm.severity),
        alarm_list: alarms.into_iter().take(MAX_STATUS_ALARMS).collect(),
        edits: Some(edits(shared, &situation, &registry)),
        registry_managers,
    }
}

/// Whether edits are taken. A standby passes them on for as long as the primary is there.
fn edits(shared: &Shared, situation: &Situation, registry: &Registry) -> EditsReport {
    let (now, primary) = (shared.hub.clock.now(), situation.primary());
    let linked = situation.peers.get(&primary).is_some_and(|peer| peer.connected);
    let why = match &situation.writes {
        Err(CannotWrite::NotPrimary { .. }) if linked => None,
        writes => writes.as_ref().err(),
    };
    let rule = &situation.standing.rule;
    EditsReport {
        refused: why.map(|why| failure::cannot_write(why, registry, shared.host, now).message),
        primary: shared.hub.name_of(primary).to_string(),
        members: rule.members.len(),
        min_sync: rule.min_sync,
        needed: rule.needed(),
        connected: situation.leading.then(|| situation.synced(now)),
    }
}

fn tokens(registry: &Registry) -> impl Iterator<Item = TokenReport> {
    registry.tokens().map(|token| TokenReport {
        id: token.id,
        access: token.access,
        host: token.host.clone(),
        domain: registry.path(token.domain),
        allow_types: token.allow_types.iter().cloned().collect(),
        replace: token.replace,
        expires: token.expires.to_string(),
        uses_left: token.uses_left,
    })
}
