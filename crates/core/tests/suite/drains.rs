//! Draining hosts, and the guard against edits that leave few managers.

use crate::support::*;
use echelon_core::change::Change;
use echelon_core::limits::{MAX_DRAINS_ENDED, SHRINK_WINDOW};
use echelon_core::message::{Failure, FailureClass};
use echelon_core::name::ManagerType;
use echelon_core::order::order;
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_core::report::CandidateState;
use echelon_core::row::{Actor, Drain, Row, RowKey};
use echelon_core::settled::Settled;
use echelon_core::view::Manager;
use std::sync::Arc;

fn console() -> Actor {
    Actor::Console(parse("ops"))
}

fn shown(world: &World, host: &str, of: &str) -> Arc<Manager> {
    world.view().manager(&ty(of), world.host_id(host)).unwrap().clone()
}

fn drain_of(world: &World, host: &str) -> Option<Drain> {
    world.registry.host(world.host_id(host)).unwrap().drained.clone()
}

#[test]
fn everything_on_a_drained_host_counts_as_withdrawn_and_says_why() {
    let mut world = reference_case();
    world.edit([add_manager("agent3", "audit")]);
    let reason = Some(parse("kernel update"));
    world.edit([Change::DrainHost { host: name("agent3"), lasting: None, reason }]);
    for of in [CC, "audit"] {
        let manager = shown(&world, "agent3", of);
        assert!(manager.is_withdrawn() && manager.drained.is_some());
        assert!(!shown(&world, "agent1", CC).is_withdrawn());
    }
    let view = world.view();
    let state_of = |_, _: &ManagerType| (CandidateState::Live, String::new());
    let settled = Settled { registry: &world.registry, view: &view, state_of: &state_of, down: &[] };
    let report = settled.route(world.registry.host_named(&name("agent4")).unwrap(), &ty(CC));
    assert_eq!(report.chosen.unwrap().host, name("agent1"));
    assert_eq!(report.candidates[0].state, CandidateState::Withdrawn);
    assert!(
        report.candidates[0].reason.contains("host drained: kernel update"),
        "{:?}",
        report.candidates[0]
    );
}

#[test]
fn what_the_operator_withdrew_stays_so_when_its_host_is_resumed() {
    let mut world = reference_case();
    world.edit([add_manager("agent3", "audit"), withdraw("agent3", "audit"), drain("agent3", None)]);
    world.edit([resume("agent3")]);
    assert!(!shown(&world, "agent3", CC).is_withdrawn());
    let audit = shown(&world, "agent3", "audit");
    assert!(audit.withdrawn && audit.drained.is_none());
    assert!(world.edit([resume("agent3")]).rows.is_empty(), "nothing to resume");
    // A package that comes to a drained host does not serve either.
    world.edit([drain("agent2", None), add_manager("agent2", CC)]);
    assert!(shown(&world, "agent2", CC).is_withdrawn());
}

#[test]
fn a_host_that_is_drained_again_gets_the_new_time_and_keeps_its_reason() {
    let mut world = reference_case();
    let reason = Some(parse("disk"));
    world.edit([Change::DrainHost { host: name("agent1"), lasting: Some(secs(60)), reason: reason.clone() }]);
    assert_eq!(
        drain_of(&world, "agent1"),
        Some(Drain { until: Some(START + secs(60)), reason: reason.clone() })
    );
    world.now = START + secs(30);
    world.edit([drain("agent1", Some(secs(60)))]);
    assert_eq!(
        drain_of(&world, "agent1"),
        Some(Drain { until: Some(START + secs(90)), reason: reason.clone() })
    );
    world.edit([drain("agent1", None)]);
    assert_eq!(drain_of(&world, "agent1"), Some(Drain { until: None, reason }));
    assert_eq!(world.registry.next_drain_end(), None);
}

#[test]
fn the_registry_package_of_a_drained_host_goes_on() {
    let mut world = reference_case();
    let mut rows: Vec<_> = world.registry.rows().collect();
    let host = world.host_id("agent1");
    let Some(Row::Package(package)) = world.registry.row(&RowKey::Package(host, ty(CC))) else { panic!() };
    let registry = echelon_core::package::Package { ty: ManagerType::registry(), ..package };
    rows.push(Row::Package(registry));
    world.registry = Registry::from_rows(world.registry.position(), rows).unwrap();
    assert_eq!(world.registry.serving().total(), 3, "registry managers are not counted");
    world.edit([drain("agent1", None)]);
    assert!(shown(&world, "agent1", CC).is_withdrawn());
    let registry = shown(&world, "agent1", "registry");
    assert!(!registry.is_withdrawn() && registry.drained.is_none());
    let place = world.place("agent4");
    let order = order(&world.view(), (&place).into(), &ManagerType::registry());
    assert_eq!(order.home().unwrap().manager.name, name("agent1"));
}

#[test]
fn drains_end_in_one_edit_that_looks_at_the_time_itself() {
    let mut world = reference_case();
    world.edit([drain("agent1", Some(secs(60))), drain("agent2", Some(secs(90))), drain("agent3", None)]);
    assert_eq!(world.registry.next_drain_end(), Some(START + secs(60)));
    world.now = START + secs(60);
    // The operator was faster: the edit that was to end it finds nothing to do.
    world.edit([drain("agent1", Some(secs(60)))]);
    assert!(world.edit([Change::EndDrains]).rows.is_empty());
    assert_eq!(world.registry.next_drain_end(), Some(START + secs(90)));
    world.now = START + secs(3600);
    let commit = world.edit([Change::EndDrains]);
    assert_eq!(commit.rows.len(), 2, "{:?}", commit.rows);
    assert_eq!(world.registry.next_drain_end(), None);
    assert!(drain_of(&world, "agent3").is_some(), "one without an end stays");
}

#[test]
fn one_edit_ends_no_more_drains_than_fit_and_the_rest_are_due_at_once() {
    let mut world = World::new();
    let hosts: Vec<_> = (0..=MAX_DRAINS_ENDED).map(|n| format!("h{n}")).collect();
    world.edit(hosts.iter().map(|h| add_host(h, "/")));
    world.edit(hosts.iter().map(|h| drain(h, Some(secs(1)))));
    world.now = START + secs(10);
    assert_eq!(world.edit([Change::EndDrains]).rows.len(), MAX_DRAINS_ENDED);
    assert!(world.registry.next_drain_end() <= Some(world.now));
    assert_eq!(world.edit([Change::EndDrains]).rows.len(), 1);
    assert_eq!(world.registry.next_drain_end(), None);
}

#[test]
fn only_managers_end_drains_by_their_time() {
    assert_eq!(Change::EndDrains.needs(), None);
    assert!(drain("a", None).needs().is_some() && resume("a").needs().is_some());
}

#[test]
fn the_last_serving_manager_of_a_type_goes_only_where_that_is_meant() {
    let mut world = reference_case();
    world.edit([add_manager("agent2", "audit")]);
    world.now = START + SHRINK_WINDOW + secs(10);
    let ways = [
        withdraw("agent2", "audit"),
        drain("agent2", None),
        remove_package("agent2", "audit"),
        remove_host("agent2"),
        Change::SetPackage { host: name("agent2"), ty: ty("audit"), spec: Default::default() },
    ];
    for way in ways {
        let refusal = world.edit_guarded(console(), [way.clone()]).unwrap_err();
        assert_eq!(refusal, Refusal::LastManager { types: vec![ty("audit")] }, "{way:?}");
        let failure = Failure::from(&refusal);
        assert_eq!(failure.class, FailureClass::Forbidden);
        assert!(failure.remedy.contains("--allow-shrink"), "{failure:?}");
    }
    // What takes its place in the same edit counts.
    let both = [withdraw("agent2", "audit"), add_manager("agent1", "audit")];
    assert!(!world.edit_guarded(console(), both).unwrap().shrinks);
    let meant = world.edit([withdraw("agent1", "audit")]);
    assert!(meant.shrinks, "a meant one says so");
    assert!(!world.edit([restore("agent1", "audit")]).shrinks, "one that takes none does not");
}

#[test]
fn less_than_half_of_ten_minutes_ago_is_left_only_where_that_is_meant() {
    let mut world = World::new();
    let hosts: Vec<_> = (0..8).map(|n| format!("h{n}")).collect();
    world.edit(hosts.iter().flat_map(|h| [add_host(h, "/"), add_manager(h, CC)]));
    let withdrawn = |n: usize| hosts[..n].iter().map(|h| withdraw(h, CC)).collect::<Vec<_>>();
    // A registry that has just been made has nothing to lose yet, apart from the last of a type.
    assert_eq!(world.registry.serving().ten_minutes_before(world.now), 0);
    world.now = START + SHRINK_WINDOW + secs(10);
    let few = Refusal::TooFewManagers { left: 3, before: 8 };
    assert_eq!(world.edit_guarded(console(), withdrawn(5)), Err(few.clone()));
    assert!(!world.edit_guarded(console(), withdrawn(4)).unwrap().shrinks);
    // One at a time comes to the same.
    world.now = world.now + secs(60);
    assert_eq!(world.edit_guarded(console(), [withdraw("h4", CC)]), Err(few));
    // Whoever waits sees the new state as the usual one.
    world.now = world.now + SHRINK_WINDOW + secs(10);
    assert!(world.edit_guarded(console(), [withdraw("h4", CC)]).is_ok());
}

#[test]
fn a_host_is_not_held_back_and_a_drain_that_ends_takes_nothing() {
    let mut world = World::with([add_host("h", "/"), add_manager("h", CC)]);
    let agent = Actor::Agent(name("h"));
    assert!(!world.edit_guarded(agent, [withdraw("h", CC)]).unwrap().shrinks);
    world.edit([restore("h", CC), drain("h", Some(secs(5)))]);
    world.now = START + secs(6);
    let manager = Actor::Manager(name("hub"));
    assert_eq!(world.edit_guarded(manager, [Change::EndDrains]).unwrap().rows.len(), 1);
    assert_eq!(world.registry.serving().total(), 1);
}

#[test]
fn the_memory_of_the_last_ten_minutes_comes_back_from_the_commits() {
    let mut world = World::new();
    let mut commits = Vec::new();
    for n in 0..6 {
        world.now = START + secs(n * 150);
        let host = format!("h{n}");
        commits.push(world.edit([add_host(&host, "/"), add_manager(&host, CC)]));
    }
    let mut loaded = Registry::from_rows(world.registry.position(), world.registry.rows()).unwrap();
    let since = world.now - SHRINK_WINDOW;
    commits.iter().filter(|c| c.at >= since).for_each(|c| loaded.recall(c.at, c.served));
    for ahead in [0, 60, 300, 599, 601] {
        let now = world.now + secs(ahead);
        let ago = |registry: &Registry| registry.serving().ten_minutes_before(now);
        assert_eq!(ago(&loaded), ago(&world.registry), "{ahead} s later");
    }
}

#[test]
fn the_registry_remembers_when_its_last_manager_went() {
    let mut world = World::with([add_host("h", "/"), add_manager("h", CC)]);
    assert_eq!(world.registry.meta().emptied, None);
    world.edit([withdraw("h", CC)]);
    assert_eq!(world.registry.meta().emptied, None, "it is still there");
    let commit = world.edit([remove_host("h")]);
    assert_eq!(world.registry.meta().emptied, Some(commit.position.revision));
}
