//! Routing without a registry.

use crate::failover::{Scene, some_more};
use echelon_tests::caller::all_answered;
use echelon_tests::{Sandbox, TYPE, wait_until};

/// With every registry manager dead, agents go on serving, find the next manager by themselves, and start
/// from their own disk; when the registry is back, they are level with it again.
#[test]
fn calls_go_on_while_every_registry_process_is_dead() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let calls = scene.calls();
    scene.registry.kill9();
    some_more(&calls);
    calls.between_calls(|| scene.near.kill());
    calls.wait_served_by("hub");
    some_more(&calls);
    assert_eq!(all_answered(&calls.stop()), ["near", "hub"]);

    scene.caller.kill9();
    scene.caller.start_ready();
    let route = scene.caller.route(TYPE);
    assert_eq!(route["source"], "replica", "{route}");
    assert_eq!(scene.caller.call(TYPE).unwrap(), "hub", "without a registry, from disk");
    scene.near.revive();
    wait_until("the return", || scene.caller.call(TYPE).unwrap() == "near");

    scene.registry.start();
    scene.registry.wait_in_sync(1);
    wait_until("a session", || scene.caller.route(TYPE)["source"] == "manager");
}

/// A registry manager that hangs with its sockets open is as good as dead, and no worse: nothing in the way
/// of a call waits for it.
#[test]
fn calls_do_not_wait_for_a_registry_that_hangs() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let calls = scene.calls();
    scene.registry.pause();
    some_more(&calls);
    calls.between_calls(|| scene.near.kill());
    calls.wait_served_by("hub");
    wait_until("the silence to be noticed", || scene.caller.route(TYPE)["source"] == "replica");
    some_more(&calls);
    calls.between_calls(|| scene.near.revive());
    calls.wait_served_by("near");
    assert_eq!(all_answered(&calls.stop()), ["near", "hub", "near"]);
    scene.registry.resume();
    scene.registry.wait_in_sync(1);
}
