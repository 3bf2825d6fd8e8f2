//! The order of candidates, one rule of routing.md at a time.

use crate::support::*;
use echelon_core::access::{Denial, Subject};
use echelon_core::change::{Change, PackageSpec};
use echelon_core::name::ManagerType;
use echelon_core::order::{Exclusion, Order, order};
use echelon_core::policy::{PolicySettings, Walk};
use echelon_core::view::{View, ViewChange, ViewRow};

fn order_of(world: &World, view: &View, host: &str, of: &str) -> Order {
    order(view, (&world.place(host)).into(), &ty(of))
}

fn names(order: &Order) -> Vec<&str> {
    order.candidates.iter().map(|c| c.manager.name.as_str()).collect()
}

fn ranked(world: &World, host: &str, of: &str) -> Vec<String> {
    order_of(world, &world.view(), host, of).ranked().map(|c| c.manager.name.to_string()).collect()
}

fn spec(priority: u32, weight: u32) -> PackageSpec {
    PackageSpec { priority, weight, ..manager_spec() }
}

/// A tree in which every walk gives another order for `asker` in /a/b:
/// managers in the root, /a, /a/x, /a/b/c, /a/b/c/d and /z, none in /a/b itself.
fn walks(walk: Option<Walk>) -> World {
    let mut world = World::with(["/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/x", "/z"].map(add_domain));
    let hosts = [("root", "/"), ("a", "/a"), ("x", "/a/x"), ("c", "/a/b/c"), ("d", "/a/b/c/d"), ("z", "/z")];
    for (host, domain) in hosts {
        world.edit([add_host(host, domain), add_manager(host, CC)]);
    }
    world.edit([add_host("asker", "/a/b")]);
    if walk.is_some() {
        world.edit([set_policy("/", "*", PolicySettings { walk, ..PolicySettings::default() })]);
    }
    world
}

#[test]
fn chain_takes_own_domain_and_ancestors_first_then_the_branch_with_the_deepest_common_ancestor() {
    for world in [walks(None), walks(Some(Walk::Chain))] {
        assert_eq!(ranked(&world, "asker", CC), ["a", "root", "c", "d", "x", "z"]);
    }
}

#[test]
fn subtree_takes_own_subdomains_before_the_parent() {
    assert_eq!(ranked(&walks(Some(Walk::Subtree)), "asker", CC), ["c", "d", "a", "x", "root", "z"]);
}

#[test]
fn hops_takes_the_fewest_steps_and_on_a_tie_the_parent_before_the_child() {
    let world = walks(Some(Walk::Hops));
    let order = order_of(&world, &world.view(), "asker", CC);
    assert_eq!(names(&order), ["a", "c", "root", "x", "d", "z"]);
    let steps: Vec<_> = order.candidates.iter().map(|c| (c.up, c.down)).collect();
    assert_eq!(steps, [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (2, 1)]);
}

#[test]
fn the_manager_on_the_host_itself_comes_first_whatever_its_priority_and_weight() {
    let mut world = World::with([add_domain("/a"), add_host("here", "/a"), add_host("near", "/a")]);
    world.edit([add_package("here", CC, spec(65_535, 0)), add_package("near", CC, spec(0, 9))]);
    let order = order_of(&world, &world.view(), "here", CC);
    assert_eq!(names(&order), ["here", "near"]);
    assert!(order.candidates[0].same_host && !order.candidates[1].same_host);
    assert_eq!(ranked(&world, "near", CC), ["near", "here"]);
}

#[test]
fn inside_a_tier_priority_counts_before_weight_and_weight_0_comes_last_of_its_priority() {
    let mut world = World::with([add_host("asker", "/")]);
    let managers =
        [("late", 200, 9), ("idle-b", 100, 0), ("idle-a", 100, 0), ("busy", 100, 1), ("first", 50, 0)];
    for (host, priority, weight) in managers {
        world.edit([add_host(host, "/"), add_package(host, CC, spec(priority, weight))]);
    }
    assert_eq!(ranked(&world, "asker", CC), ["first", "busy", "idle-a", "idle-b", "late"]);
}

#[test]
fn priority_never_outweighs_distance() {
    let mut world =
        World::with([add_domain("/a"), add_host("far", "/"), add_host("near", "/a"), add_host("h", "/a")]);
    world.edit([add_package("far", CC, spec(0, 1)), add_package("near", CC, spec(900, 1))]);
    assert_eq!(ranked(&world, "h", CC), ["near", "far"]);
}

#[test]
fn a_nearer_backup_is_preferred_to_the_primary_and_withdrawn_ones_keep_their_rank() {
    let mut world = reference_case();
    world.edit([withdraw("agent1", CC)]);
    let order = order_of(&world, &world.view(), "agent2", CC);
    assert_eq!(names(&order), ["agent1", "framework-manager", "agent3"]);
    assert_eq!(order.home().unwrap().manager.name, name("framework-manager"));
}

/// /a/b/c with a manager in each domain and in /z; the asking host is in /a/b/c.
fn fenced(policies: impl IntoIterator<Item = Change>) -> World {
    let mut world = World::with(["/a", "/a/b", "/a/b/c", "/z"].map(add_domain));
    for (host, domain) in [("r", "/"), ("a", "/a"), ("b", "/a/b"), ("c", "/a/b/c"), ("z", "/z")] {
        world.edit([add_host(host, domain), add_manager(host, CC), add_manager(host, "audit")]);
    }
    world.edit([add_host("asker", "/a/b/c")]);
    for policy in policies {
        world.edit([policy]);
    }
    world
}

#[test]
fn managers_outside_the_boundary_are_excluded_and_listed_last() {
    let world = fenced([boundary("/a/b", CC, true)]);
    let order = order_of(&world, &world.view(), "asker", CC);
    assert_eq!(names(&order), ["c", "b", "a", "r", "z"]);
    let excluded: Vec<_> = order.candidates.iter().map(|c| c.excluded).collect();
    let out = Some(Exclusion::Boundary);
    assert_eq!(excluded, [None, None, out, out, out]);
    assert_eq!(ranked(&world, "asker", "audit"), ["c", "b", "a", "r", "z"], "another type is not fenced");
    assert_eq!(ranked(&world, "a", CC), ["a", "r", "b", "c", "z"], "who is outside sees all");
}

#[test]
fn the_nearest_domain_that_says_anything_about_the_boundary_decides() {
    let inner = fenced([boundary("/a", CC, true), boundary("/a/b", CC, true)]);
    assert_eq!(ranked(&inner, "asker", CC), ["c", "b"]);
    let lifted = fenced([boundary("/a", CC, true), boundary("/a/b", CC, false)]);
    assert_eq!(ranked(&lifted, "asker", CC), ["c", "b", "a", "r", "z"]);
    assert_eq!(ranked(&lifted, "a", CC), ["a", "b", "c"], "above the lifting the fence stands");
    let again = fenced([boundary("/a", CC, true), boundary("/a/b", CC, false), boundary("/a/b/c", CC, true)]);
    assert_eq!(ranked(&again, "asker", CC), ["c"]);
}

#[test]
fn at_one_domain_the_type_wins_over_all_types_and_a_nearer_all_types_wins_over_a_farther_type() {
    let type_lifts = fenced([boundary("/a/b", "*", true), boundary("/a/b", CC, false)]);
    assert_eq!(ranked(&type_lifts, "asker", CC).len(), 5);
    assert_eq!(ranked(&type_lifts, "asker", "audit"), ["c", "b"]);
    let all_lifts = fenced([boundary("/a", CC, true), boundary("/a/b", "*", false)]);
    assert_eq!(ranked(&all_lifts, "asker", CC).len(), 5);
}

/// A view in which these hosts have `registry` managers, which no edit can give them.
fn with_registry(world: &World, hosts: &[&str]) -> View {
    let view = world.view();
    let registry = |host: &&str| {
        let known = view.managers().find(|m| m.name == name(host)).unwrap();
        let row = ViewRow::Manager(echelon_core::view::Manager {
            ty: ManagerType::registry(),
            ..(**known).clone()
        });
        ViewChange { key: row.key(), row: Some(row) }
    };
    view.with(hosts.iter().map(registry)).unwrap()
}

#[test]
fn all_types_never_fences_the_type_registry_but_the_type_itself_does() {
    let fence = |world: &World| {
        let view = with_registry(world, &["r", "b"]);
        let order = order_of(world, &view, "asker", "registry");
        order.ranked().map(|c| c.manager.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(fence(&fenced([boundary("/a/b", "*", true)])), ["b", "r"]);
    assert_eq!(fence(&fenced([boundary("/a/b", "registry", true)])), ["b"]);
    // It hides no fence of the type itself further up, and may lift one.
    assert_eq!(fence(&fenced([boundary("/a", "registry", true), boundary("/a/b", "*", true)])), ["b"]);
    assert_eq!(fence(&fenced([boundary("/a", "registry", true), boundary("/a/b", "*", false)])), ["b", "r"]);
}

#[test]
fn a_denied_hosts_manager_is_excluded_with_its_reason() {
    let world = fenced([]);
    let denial = Denial { subject: Subject::Host(world.host_id("c")), up_to: 1, until: START };
    let row = ViewRow::Denial(denial);
    let view = world.view().with([ViewChange { key: row.key(), row: Some(row) }]).unwrap();
    let order = order_of(&world, &view, "asker", CC);
    assert_eq!(names(&order), ["b", "a", "r", "z", "c"]);
    assert_eq!(order.candidates[4].excluded, Some(Exclusion::Denied));
    assert_eq!(order.home().unwrap().manager.name, name("b"));
    // Not even on the host itself.
    assert_eq!(order_of(&world, &view, "c", CC).home().unwrap().manager.name, name("b"));
}

#[test]
fn each_setting_is_inherited_on_its_own() {
    let settings = |walk, hold: Option<u64>| PolicySettings {
        walk,
        failback_hold: hold.map(secs),
        ..PolicySettings::default()
    };
    let world = fenced([
        set_policy("/", "*", settings(Some(Walk::Hops), Some(1))),
        set_policy("/a", CC, settings(None, Some(2))),
        set_policy("/a/b", "*", settings(Some(Walk::Subtree), None)),
    ]);
    let policy = order_of(&world, &world.view(), "asker", CC).policy;
    assert_eq!((policy.walk, policy.failback_hold), (Walk::Subtree, secs(2)));
    let policy = order_of(&world, &world.view(), "asker", "audit").policy;
    assert_eq!((policy.walk, policy.failback_hold), (Walk::Subtree, secs(1)));
    let policy = order_of(&world, &world.view(), "z", CC).policy;
    assert_eq!((policy.walk, policy.failback_jitter), (Walk::Hops, secs(30)));
}
