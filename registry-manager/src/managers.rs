//! The registry managers there are, as an operator asks for them.

use crate::hub::Hub;
use echelon_core::access::Subject;
use echelon_core::board::Board;
use echelon_core::id::HostId;
use echelon_core::issuer::Issuer;
use echelon_core::name::ManagerType;
use echelon_core::package::{Package, Role};
use echelon_core::registry::Registry;
use echelon_core::report::{IssuerReport, ManagerReport, ManagerRole};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// All of them: the primary, the standbys by name, and then those that have left.
pub(crate) fn reports(hub: &Hub) -> Vec<ManagerReport> {
    let (registry, board) = (hub.registry(), hub.board());
    let of = ManagerType::registry();
    let there = registry.packages_of(&of).filter_map(|package| present(&registry, &board, package));
    let mut reports: Vec<_> = there.chain(left(&registry)).collect();
    reports.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
    reports
}

fn present(registry: &Registry, board: &Board, package: &Package) -> Option<ManagerReport> {
    let host = registry.host(package.host)?;
    let identity = registry.identity(&Subject::Manager(host.id));
    Some(ManagerReport {
        host: host.name.clone(),
        role: if package.role == Some(Role::Primary) { ManagerRole::Primary } else { ManagerRole::Standby },
        endpoint: package.endpoint(&host.reached_at()),
        counts: registry.meta().sync.members.contains(&host.id),
        state: Some(board.state_of(host.id, &package.ty).0),
        joined: identity.map(|identity| identity.enrolled.to_string()),
        issuers: issuers(registry, host.id),
    })
}

fn left(registry: &Registry) -> impl Iterator<Item = ManagerReport> {
    let of = ManagerType::registry();
    let gone = registry.issuers().map(|issuer| issuer.host);
    let gone: BTreeSet<_> = gone.filter(|host| registry.package(*host, &of).is_none()).collect();
    gone.into_iter().filter_map(|id| registry.host(id)).map(|host| ManagerReport {
        host: host.name.clone(),
        role: ManagerRole::Left,
        endpoint: None,
        counts: false,
        state: None,
        joined: None,
        issuers: issuers(registry, host.id),
    })
}

fn issuers(registry: &Registry, host: HostId) -> Vec<IssuerReport> {
    let mut issuers: Vec<&Issuer> = registry.issuers_of(host).map(AsRef::as_ref).collect();
    issuers.sort_by_key(|issuer| (!issuer.is_in_force(), Reverse(issuer.not_after)));
    let report = |issuer: &Issuer| IssuerReport {
        not_after: issuer.not_after.to_string(),
        renew_only: issuer.renew_only.map(|until| until.to_string()),
        dropped: issuer.dropped,
    };
    issuers.into_iter().map(report).collect()
}
