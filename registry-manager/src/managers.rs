//! The registry managers there are, as an operator asks for them.

use crate::promotion::sight;
use crate::server::Inner;
use echelon_core::access::Subject;
use echelon_core::id::HostId;
use echelon_core::issuer::{Issuer, issuer_name};
use echelon_core::name::ManagerType;
use echelon_core::package::Package;
use echelon_core::promotion::MemberReport;
use echelon_core::registry::Registry;
use echelon_core::report::{CandidateState, IssuerReport, ManagerReport, ManagerRole};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// How those stand that are there, by name. How many agents another one serves is known while there is a link to it.
pub(crate) fn members(manager: &Inner) -> Vec<MemberReport> {
    sight(manager, |sight| {
        let elsewhere = sight.board.served_elsewhere();
        let here = sight.board.agents().filter(|(_, agent)| agent.is_here()).count();
        sight.members(|host| match sight.peers.get(&host) {
            _ if host == sight.me => Some(here as u64),
            Some(peer) if peer.connected => Some(elsewhere.get(&host).map_or(0, |served| *served as u64)),
            _ => None,
        })
    })
}

/// All of them: the primary, the standbys by name, and then those that have left.
pub(crate) fn reports(manager: &Inner) -> Vec<ManagerReport> {
    let (registry, members) = (manager.hub.registry(), members(manager));
    // As the newest grant says: the registry takes note of it with the first edit under it, which may not be here.
    let (of, primary) = (ManagerType::registry(), manager.edits.situation().primary());
    let there =
        registry.packages_of(&of).filter_map(|package| present(&registry, primary, &members, package));
    let mut reports: Vec<_> = there.chain(left(&registry)).collect();
    reports.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
    reports
}

fn present(
    registry: &Registry,
    primary: HostId,
    members: &[MemberReport],
    package: &Package,
) -> Option<ManagerReport> {
    let host = registry.host(package.host)?;
    let identity = registry.identity(&Subject::Manager(host.id));
    let member = members.iter().find(|member| member.host == host.name.as_str());
    Some(ManagerReport {
        host: host.name.clone(),
        role: if host.id == primary { ManagerRole::Primary } else { ManagerRole::Standby },
        endpoint: package.endpoint(&host.reached_at()),
        counts: registry.meta().sync.members.contains(&host.id),
        state: Some(member.map_or(CandidateState::Unknown, state)),
        joined: identity.map(|identity| identity.enrolled.to_string()),
        issuers: issuers(registry, host.id),
        standing: member.cloned(),
    })
}

fn state(member: &MemberReport) -> CandidateState {
    match (member.connected, member.heard_ms) {
        (true, _) => CandidateState::Live,
        (false, Some(_)) => CandidateState::Suspect,
        (false, None) => CandidateState::Unknown,
    }
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
        standing: None,
    })
}

fn issuers(registry: &Registry, host: HostId) -> Vec<IssuerReport> {
    let mut issuers: Vec<&Issuer> = registry.issuers_of(host).map(AsRef::as_ref).collect();
    issuers.sort_by_key(|issuer| (!issuer.is_in_force(), Reverse(issuer.not_after)));
    let report = |issuer: &Issuer| IssuerReport {
        id: issuer_name(&issuer.id),
        not_after: issuer.not_after.to_string(),
        renew_only: issuer.renew_only.map(|until| until.to_string()),
        dropped: issuer.dropped,
    };
    issuers.into_iter().map(report).collect()
}
