//! Who is primary of a type, and under which number.

use crate::support::*;
use echelon_core::access::Access;
use echelon_core::change::{Change, PackageSpec};
use echelon_core::edit::Edited;
use echelon_core::package::{Listens, Package, Role};
use echelon_core::position::Position;
use echelon_core::project::project;
use echelon_core::registry::Registry;
use echelon_core::row::Row;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Three managers of each of two types; framework-manager has the primaries.
fn world() -> World {
    let mut world = reference_case();
    world.edit(["framework-manager", "agent1", "agent3"].map(|host| add_manager(host, "audit")));
    world
}

fn package(world: &World, host: &str, of: &str) -> Arc<Package> {
    world.registry.package(world.host_id(host), &ty(of)).unwrap().clone()
}

/// Who is primary of a type, and its number.
fn primary(world: &World, of: &str) -> (String, u64) {
    let primary = world.registry.primary_of(&ty(of)).unwrap();
    let host = world.registry.host(primary.host).unwrap();
    (host.name.to_string(), primary.fencing.unwrap().into())
}

/// Epoch 1 and this many revisions later than `world`.
fn number(world: &World, later: u64) -> u64 {
    (1 << 32) + world.registry.position().revision + later
}

fn remove(host: &str, successor: Option<&str>) -> Change {
    Change::RemovePackage { host: name(host), ty: ty(CC), successor: successor.map(name) }
}

#[test]
fn a_promotion_changes_two_roles_and_raises_the_number() {
    let mut world = world();
    let (before, next) = (primary(&world, CC), number(&world, 1));
    assert_eq!(before, ("framework-manager".into(), (1 << 32) + 1), "by the edit that added it");
    let commit = world.edit([promote("agent3", CC)]);
    assert_eq!(commit.rows.len(), 2, "{:?}", commit.rows);
    assert_eq!(primary(&world, CC), ("agent3".into(), next));
    let old = package(&world, "framework-manager", CC);
    assert_eq!((old.role, old.fencing), (Some(Role::Backup), None));
    assert_eq!(primary(&world, "audit").0, "framework-manager", "another type stays where it was");
    assert!(world.edit([promote("agent3", CC)]).rows.is_empty(), "it is so already");
    assert_eq!(primary(&world, CC).1, next, "and keeps its number");
}

#[test]
fn agents_are_told_by_their_place_and_by_the_view() {
    let mut world = world();
    let (place, view) = (world.place("agent1"), project(&world.registry));
    world.edit([promote("agent1", CC)]);
    assert_ne!(world.place("agent1").digest(), place.digest());
    assert_ne!(project(&world.registry).digest(), view.digest());
    let place = world.place("agent1");
    world.edit([promote("agent3", CC)]);
    world.edit([promote("agent1", CC)]);
    assert_ne!(world.place("agent1").digest(), place.digest(), "primary again, under another number");
}

#[test]
fn all_that_one_host_leads_and_another_has_is_promoted_at_once() {
    let mut world = world();
    let web = PackageSpec { listens: Listens::Nowhere, ..PackageSpec::default() };
    world.edit([add_manager("framework-manager", "web"), add_package("agent1", "web", web)]);
    world.edit([add_manager("agent1", "store"), promote("agent3", "audit")]);
    let next = number(&world, 1);
    world.edit([promote_from("agent1", "framework-manager")]);
    assert_eq!(primary(&world, CC), ("agent1".into(), next));
    assert_eq!(primary(&world, "audit").0, "agent3", "led by another host");
    assert_eq!(primary(&world, "web").0, "framework-manager", "of which agent1 has no manager");
    let again = world.refuse([promote_from("agent1", "framework-manager")]);
    assert_eq!(again.name(), "nothing-to-promote");
}

#[test]
fn whoever_becomes_primary_in_whatever_way_gets_the_number_of_that_edit() {
    let mut world = world();
    let next = number(&world, 1);
    world.edit([remove("framework-manager", Some("agent1"))]);
    assert_eq!(primary(&world, CC), ("agent1".into(), next), "a successor");
    let next = number(&world, 1);
    world.edit([remove("agent1", None), remove("agent3", None), add_manager("agent2", CC)]);
    assert_eq!(primary(&world, CC), ("agent2".into(), next), "the first of its type");
    let next = number(&world, 1);
    world.edit([remove("agent2", None), add_manager("agent2", CC)]);
    assert_eq!(primary(&world, CC), ("agent2".into(), next), "the same host, but another package");
    let inventory = || Change::SetPackage { host: name("agent2"), ty: ty(CC), spec: PackageSpec::default() };
    world.edit([inventory()]);
    assert_eq!(package(&world, "agent2", CC).fencing, None, "inventory has none");
    let next = number(&world, 1);
    world.edit([Change::SetPackage { host: name("agent2"), ty: ty(CC), spec: manager_spec() }]);
    assert_eq!(primary(&world, CC), ("agent2".into(), next));
    world.edit([withdraw("agent2", CC), drain("agent2", None)]);
    assert_eq!(primary(&world, CC), ("agent2".into(), next), "withdrawing leaves the role where it is");
}

#[test]
fn the_number_of_a_role_that_comes_back_within_one_edit_stays() {
    let mut world = world();
    let before = primary(&world, CC);
    world.edit([promote("agent1", CC), promote("framework-manager", CC)]);
    assert_eq!(primary(&world, CC), before);
    assert_eq!(package(&world, "agent1", CC).fencing, None);
}

/// What a forced promotion of a registry manager comes to: fewer revisions, a higher epoch.
#[test]
fn a_number_of_a_later_epoch_is_larger_though_the_revision_is_lower() {
    let mut world = world();
    world.edit([promote("agent1", CC)]);
    let before = primary(&world, CC).1;
    let position = Position { epoch: 2, revision: 1, ..world.registry.position() };
    world.registry = Registry::from_rows(position, world.registry.rows()).unwrap();
    world.edit([promote("agent3", CC)]);
    assert_eq!(primary(&world, CC), ("agent3".into(), (2 << 32) + 2));
    assert!(primary(&world, CC).1 > before);
}

#[test]
fn an_edit_whose_number_would_not_be_exact_in_json_is_refused_and_others_are_not() {
    let mut world = world();
    let position = Position { epoch: 1 << 21, ..world.registry.position() };
    world.registry = Registry::from_rows(position, world.registry.rows()).unwrap();
    assert_eq!(world.refuse([promote("agent1", CC)]).name(), "out-of-range");
    world.edit([withdraw("agent1", CC)]);
}

/// A journal from before there were numbers.
#[test]
fn a_primary_without_a_number_acts_as_none_and_gets_one_by_being_promoted() {
    let mut world = world();
    let old = world.registry.rows().map(|row| match row {
        Row::Package(package) => Row::Package(Package { fencing: None, ..package }),
        row => row,
    });
    world.registry = Registry::from_rows(world.registry.position(), old.collect::<Vec<_>>()).unwrap();
    let settled = |world: &World, host| package(world, host, CC).settled_role();
    assert_eq!(settled(&world, "framework-manager"), None);
    assert_eq!(settled(&world, "agent1"), Some(Role::Backup));
    let next = number(&world, 1);
    world.edit([promote("framework-manager", CC)]);
    assert_eq!(primary(&world, CC), ("framework-manager".into(), next));
    assert_eq!(settled(&world, "framework-manager"), Some(Role::Primary));
}

#[test]
fn a_promotion_takes_an_admin_and_repeating_it_has_no_second_effect() {
    let mut world = world();
    let set = world.set([promote_from("agent1", "framework-manager")]);
    assert!(set.changes.iter().chain(&[promote("agent1", CC)]).all(|c| c.needs() == Some(Access::Admin)));
    let context = world.context();
    let Edited::Done(next, _) = world.registry.edit(&set, &context).unwrap() else { panic!() };
    world.registry = *next;
    let leads = |world: &World| BTreeMap::from([CC, "audit"].map(|of| (of, primary(world, of))));
    let after = leads(&world);
    world.edit([promote("agent3", CC)]);
    assert!(matches!(world.registry.edit(&set, &context), Ok(Edited::Repeated(_))));
    assert_eq!(after[CC].0, "agent1");
    assert_eq!(primary(&world, CC).0, "agent3");
}
