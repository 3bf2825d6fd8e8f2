//! Answers to questions, as documents.

use crate::failure;
use crate::hub::Hub;
use crate::limits::{MAX_DOWN, REPORT_OVERHEAD};
use crate::server::Shared;
use echelon_core::message::{Failure, Query};
use echelon_core::name::{HostName, ManagerType};
use echelon_core::registry::Registry;
use echelon_core::report::{CandidateState, Down, StatusReport, TokenReport};
use echelon_core::row::Host;
use echelon_core::settled::{Room, Settled};
use echelon_wire::MAX_SESSION_FRAME;
use serde::Serialize;
use std::collections::BTreeMap;
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
        Query::Route { host, ty, down, candidates } => routes(hub, host, &ty, &down, candidates, &mut parts)?,
    }
    parts.flush()
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
    let (registry, mark, board, now) = (hub.registry(), hub.mark(), hub.board(), hub.clock.now());
    let count = |n: usize| n as u64;
    let failing = |(host, _): &(_, &echelon_core::board::Agent)| {
        let on_it = registry.packages_on(*host).filter(|p| p.is_manager());
        on_it.filter(|p| board.state_of(p.host, &p.ty).0 == CandidateState::Down).count()
    };
    StatusReport {
        framework: registry.meta().framework.clone(),
        manager: shared.name(),
        role: "primary".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_ms: now.0 / 1000,
        at: registry.position().into(),
        view_revision: mark.view_revision,
        view_digest: mark.digest.to_string(),
        domains: count(registry.hierarchy().len()),
        hosts: count(registry.host_count()),
        packages: count(registry.package_count()),
        managers: count(registry.manager_count()),
        agents_connected: count(board.agents().filter(|(_, a)| a.is_connected()).count()),
        agents_in_sync: count(board.agents().filter(|(_, a)| a.is_in_sync(mark.digest)).count()),
        agents_silent: count(board.agents().filter(|(_, a)| a.is_silent()).count()),
        warming: board.is_warming(now),
        self_doubt: board.is_doubting(),
        managers_failing: count(board.agents().map(|a| failing(&a)).sum()),
        hosts_not_home: count(board.agents().filter(|(_, a)| !a.report().using.is_empty()).count()),
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
