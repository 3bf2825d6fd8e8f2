#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::clock::unix_now;
use echelon_core::access::{Access, Token};
use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::{Chain, Grant, SyncRule};
use echelon_core::id::{DomainId, Lineage, RequestId, TokenId};
use echelon_core::message::Health;
use echelon_core::package::Listens;
use echelon_core::position::Position;
use echelon_core::row::{Actor, Meta};
use echelon_core::time::UnixMillis;
use std::time::Duration;
use uuid::Uuid;

fn hub() -> Hub {
    let meta = Meta {
        framework: "test".parse().unwrap(),
        next_domain: DomainId(1),
        trust: Vec::new(),
        emptied: None,
        sync: SyncRule::alone(),
    };
    let position = Position { lineage: Lineage(Uuid::from_u128(1)), epoch: 1, revision: 0 };
    let first =
        Grant::first(position.lineage, HostId(Uuid::from_u128(1)), "m".parse().unwrap(), UnixMillis(0));
    Hub::new(Registry::new(position, meta), Chain::begin(first).unwrap())
}

fn carry_out(hub: &Hub, change: Change) {
    let set = ChangeSet {
        request: RequestId(Uuid::now_v7()),
        if_revision: None,
        allow_shrink: false,
        changes: vec![change],
    };
    let actor = Actor::Console("admin".parse().unwrap());
    let context = Context { now: unix_now(), actor, from: None, content: [0; 32] };
    let Edited::Done(after, commit) = hub.registry().edit(&set, &context).unwrap() else {
        panic!("it was never made before")
    };
    hub.commit(Arc::from(after), &commit);
}

fn add_host(hub: &Hub, name: &str) -> HostId {
    let id = HostId(Uuid::now_v7());
    let (name, domain) = (name.parse().unwrap(), "/".parse().unwrap());
    carry_out(hub, Change::AddHost { id, name, domain, address: None });
    id
}

fn add_manager(hub: &Hub, host: &str) {
    let spec = PackageSpec { listens: Listens::At("127.0.0.1:9".parse().unwrap()), ..PackageSpec::default() };
    carry_out(hub, Change::AddPackage { host: host.parse().unwrap(), ty: "audit".parse().unwrap(), spec });
}

fn report(hub: &Hub, host: HostId, sequence: u64) {
    let packages = ["audit", "invented"].map(|ty| (ty.parse().unwrap(), Health::Passing)).into();
    hub.report(host, Report { incarnation: 1, sequence, packages, ..Report::default() });
}

fn news(hub: &Hub) -> Vec<LivenessEntry> {
    std::mem::take(&mut *hub.news.lock().unwrap()).into_values().collect()
}

/// Protects: the board holds the hosts that there are; a report under way while its host is removed does not
/// bring it back as one that is silent for ever.
#[test]
fn a_report_of_a_host_that_was_removed_leaves_no_trace() {
    let hub = hub();
    let host = add_host(&hub, "a");
    report(&hub, host, 1);
    assert!(hub.board().agent(host).is_some());
    carry_out(&hub, Change::RemoveHost { host: "a".parse().unwrap(), with_packages: true });
    report(&hub, host, 2);
    assert!(hub.board().agent(host).is_none());
}

/// Protects: an agent speaks of the packages of its own host only; others are told of nothing else.
#[test]
fn a_report_of_packages_that_the_host_does_not_have_is_told_to_nobody() {
    let hub = hub();
    let host = add_host(&hub, "a");
    add_manager(&hub, "a");
    report(&hub, host, 1);
    let told = news(&hub);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].packages.keys().map(|ty| ty.as_str()).collect::<Vec<_>>(), ["audit"]);
}

/// Protects: sessions that are there already hear of a host that becomes a manager what a new one is told.
#[test]
fn what_is_known_of_a_host_is_news_once_it_is_a_manager() {
    let hub = hub();
    let host = add_host(&hub, "a");
    report(&hub, host, 1);
    assert!(news(&hub).is_empty());
    add_manager(&hub, "a");
    let told = news(&hub);
    assert_eq!(told, hub.liveness());
    assert_eq!(told[0].host, host);
}

/// Protects: the agent of a host that was enrolled ought to be heard, also where the manager started before.
#[test]
fn the_agent_of_a_host_that_enrols_is_expected() {
    let hub = hub();
    let token = Token {
        id: TokenId(Uuid::now_v7()),
        secret_hash: [0; 32],
        access: Access::Agent,
        host: None,
        domain: DomainId::ROOT,
        allow_types: Default::default(),
        replace: false,
        expires: unix_now() + Duration::from_secs(60),
        uses_left: 1,
    };
    let (id, host) = (token.id, HostId(Uuid::now_v7()));
    carry_out(&hub, Change::CreateToken { token, domain: "/".parse().unwrap() });
    let name = "a".parse().unwrap();
    carry_out(
        &hub,
        Change::Enrol { token: id, host: name, id: host, domain: None, address: None, key_hash: [1; 32] },
    );
    assert!(!hub.board().agent(host).unwrap().is_connected());
}

/// Protects: every manager tells its agents and consoles of the agents of all others.
#[test]
fn what_one_manager_hears_another_tells_its_agents() {
    let (one, other) = (hub(), hub());
    let host = add_host(&one, "a");
    let managers = [HostId(Uuid::from_u128(71)), HostId(Uuid::from_u128(72))];
    one.board().link_up(managers[1]);
    other.board().link_up(managers[0]);
    report(&one, host, 1);
    let told = one.board_news(managers[0], managers[1]).expect("it is news");
    assert_eq!(one.board_news(managers[0], managers[1]), None);
    // The other one's registry does not have the host yet.
    other.learn(managers[1], managers[0], told);
    assert!(other.board().agent(host).is_none());
    let (name, domain) = ("a".parse().unwrap(), "/".parse().unwrap());
    carry_out(&other, Change::AddHost { id: host, name, domain, address: None });
    add_manager(&other, "a");
    assert_eq!(other.board_news(managers[1], managers[0]), None, "it has heard nothing itself");
    assert_eq!(other.board().agent(host).unwrap().elsewhere(), Some(managers[0]));
    assert_eq!(news(&other).len(), 1);
    // What it was told is no news to the one that told it.
    other.lost(managers[0]);
    assert!(other.board().agent(host).unwrap().is_connected(), "as it was last known");
}
