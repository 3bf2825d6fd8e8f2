//! Commits whose rows come in another order than their edits were made in.

use crate::commits::check;
use crate::support::*;
use echelon_core::change::Change;

/// Carries out the changes and checks everything that must hold of a commit.
fn edit(world: &mut World, changes: impl IntoIterator<Item = Change>) {
    let before = world.registry.clone();
    let commit = world.edit(changes);
    check(&before, &world.registry, &commit).unwrap();
}

#[test]
fn hosts_swap_their_names_in_one_edit() {
    let mut world = reference_case();
    let ids = [world.host_id("agent1"), world.host_id("agent2")];
    let swap = [rename_host("agent1", "x"), rename_host("agent2", "agent1"), rename_host("x", "agent2")];
    edit(&mut world, swap);
    assert_eq!([world.host_id("agent2"), world.host_id("agent1")], ids);
}

#[test]
fn a_name_goes_from_a_removed_host_to_a_new_one_in_one_edit() {
    // Whichever of the two ids comes first.
    for (old, new) in [(1, 2), (2, 1)] {
        let add = |n| Change::AddHost { id: host_id(n), name: name("h"), domain: path("/"), address: None };
        let mut world = World::with([add(old)]);
        edit(&mut world, [remove_host("h"), add(new), add_manager("h", CC)]);
        assert_eq!(world.host_id("h"), host_id(new));
    }
}

#[test]
fn domains_swap_their_names_and_their_places_in_one_edit() {
    let mut world = World::with([add_domain("/a"), add_domain("/b"), add_domain("/a/c")]);
    world.edit([add_host("h", "/a/c"), add_manager("h", CC)]);
    edit(&mut world, [rename_domain("/a", "x"), rename_domain("/b", "a"), rename_domain("/x", "b")]);
    assert_eq!(world.place("h").path, path("/b/c"));
    // What was the parent goes below what was its subdomain.
    edit(&mut world, [move_domain("/b/c", "/"), move_domain("/b", "/c")]);
    assert_eq!(world.place("h").path, path("/c"));
    assert!(world.registry.hierarchy().find(&path("/c/b")).is_some());
}

#[test]
fn an_old_domain_goes_below_a_new_one_in_one_edit() {
    let mut world = World::with([add_domain("/old"), add_host("h", "/old"), add_manager("h", CC)]);
    edit(&mut world, [add_domain("/new"), move_domain("/old", "/new")]);
    assert_eq!(world.place("h").path, path("/new/old"));
}

#[test]
fn a_subtree_goes_in_one_edit_whichever_of_its_ids_is_first() {
    let mut world =
        World::with([add_domain("/b"), add_domain("/a"), move_domain("/b", "/a"), add_domain("/a/b/c")]);
    edit(&mut world, [Change::RemoveDomain { path: path("/a"), recursive: true }]);
    assert_eq!(world.registry.hierarchy().len(), 1);
}

#[test]
fn the_last_manager_of_a_domain_goes_with_its_host() {
    let mut world = World::with([add_domain("/a"), add_host("h", "/a"), add_manager("h", CC)]);
    edit(&mut world, [remove_host("h")]);
    assert_eq!((world.view().hierarchy().len(), world.registry.manager_count()), (1, 0));
}
