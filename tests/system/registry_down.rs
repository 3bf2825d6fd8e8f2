//! Routing without a registry.

use crate::failover::{Scene, some_more};
use echelon_client::blocking::LocalAgent;
use echelon_tests::caller::{all_answered, ask, call};
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Cluster, Sandbox, Stub, TYPE, Topology, wait_until};
use std::net::SocketAddr;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Callers in each of the ways to a manager.
const CALLERS: usize = 4;

/// Answered calls in each way between two deaths of a manager.
const CALLS: usize = 120;

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
    // Its host says so, before its silence does.
    wait_until("the end to be noticed", || scene.caller.process().log().contains("its process has ended"));

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

/// Deaths of a manager by which the agent has to know that it has no registry manager any more; it takes seconds.
const MOST_ROUNDS: usize = 200;

/// Stops callers, also where the test fails.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A way to a manager: whether it leads to one, or what went wrong.
type Way<'a> = &'a (dyn Fn() -> Result<(), String> + Sync);

/// The primary and its standby are dead, and a manager of another type dies and comes back again and again: not one of
/// many callers at once, of the API, by hand-over and through a forwarder, stays without an answer.
#[test]
fn every_caller_is_answered_while_all_registry_managers_are_dead() {
    let sandbox = Sandbox::new();
    let mut cluster = Cluster::running(&sandbox, 1);
    let [near, far] = [(); 2].map(|()| SocketAddr::new(sandbox.address(), PORT));
    let mut caller = Agent::new(&sandbox, "caller").forwarding(TYPE);
    let topology = Topology::new()
        .policy("failback_hold = \"0s\"\nfailback_jitter = \"0s\"")
        .manager("near", "/x", near.ip())
        .manager("far", "/", far.ip())
        .host("caller", "/x", caller.address());
    cluster[0].apply(&topology);
    let (mut near, _far) = (Stub::start("near", near), Stub::start("far", far));
    caller.enroll_with(&cluster[0]);
    caller.start_ready();
    caller.wait_served_by(TYPE, "near");
    (0..cluster.len()).for_each(|at| cluster[at].kill9());

    let (local, ty, forwarder) =
        (LocalAgent::at(caller.api()), TYPE.parse().unwrap(), caller.forwarder(TYPE));
    let by_api = || {
        let reply = caller.get(&format!("/v1/routes/{TYPE}")).map_err(|e| e.to_string())?;
        let chosen = reply.status == 200 && reply.json()["chosen"]["host"].is_string();
        chosen.then_some(()).ok_or(format!("{reply:?}"))
    };
    let handed_over = || {
        let connection = local.connect(&ty).map_err(|e| e.to_string())?;
        ask(connection.stream).map(drop).map_err(|e| e.to_string())
    };
    let forwarded = || call(forwarder).map(drop).map_err(|e| e.to_string());
    let ways: [Way<'_>; 3] = [&by_api, &handed_over, &forwarded];
    let (answered, stop) = ([(); 3].map(|()| AtomicUsize::new(0)), AtomicBool::new(false));
    // Whoever calls holds it for reading: what is under way in a manager that dies cannot be saved.
    let no_call = RwLock::new(());
    let work = &|way: Way<'_>, answered: &AtomicUsize| {
        while !stop.load(Ordering::SeqCst) {
            let _call = no_call.read().unwrap();
            way().unwrap_or_else(|e| panic!("after {answered:?} calls: {e}"));
            answered.fetch_add(1, Ordering::SeqCst);
        }
    };
    thread::scope(|scope| {
        let _end = AtEnd(&stop);
        for (way, answered) in ways.iter().zip(&answered) {
            (0..CALLERS).for_each(|_| drop(scope.spawn(move || work(*way, answered))));
        }
        let some_more = || {
            let before: Vec<_> = answered.iter().map(|count| count.load(Ordering::SeqCst)).collect();
            wait_until("more calls in every way", || {
                let mut both = answered.iter().zip(&before);
                both.all(|(count, before)| count.load(Ordering::SeqCst) >= before + CALLS)
            });
        };
        let mut rounds = 0;
        while rounds < 3 || caller.route(TYPE)["source"] != "replica" {
            rounds += 1;
            assert!(rounds < MOST_ROUNDS, "the agent does not notice that nobody is there");
            some_more();
            let quiet = no_call.write().unwrap();
            near.kill();
            drop(quiet);
            some_more();
            near.revive();
            wait_until("calls to return", || {
                near.calls() > 0 && caller.served_by(TYPE).as_deref() == Some("near")
            });
        }
    });
    for at in 0..cluster.len() {
        cluster[at].start();
    }
    wait_until("a session", || caller.route(TYPE)["source"] == "manager");
}
