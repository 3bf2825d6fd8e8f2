//! Certificates that run out while everything runs.

use crate::failover::Scene;
use echelon_tests::caller::all_answered;
use echelon_tests::{Agent, Manager, Sandbox, TYPE, wait_until, wait_within};
use std::path::Path;
use std::time::{Duration, Instant};

/// Life of hosts' certificates in this test; the shortest that a manager gives out.
const LIFE: Duration = Duration::from_secs(10);

/// An agent renews its certificate at half of its life and opens its next session with the new one: its
/// connection outlives no certificate, and its callers notice nothing of either.
#[test]
fn an_agent_outlives_its_certificates() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set_renewing(&sandbox, LIFE);
    let identity = scene.caller.identity().join("identity.pem");
    let first = std::fs::read_to_string(&identity).unwrap();
    let calls = scene.calls();
    let begin = Instant::now();
    wait_within(LIFE, "a new certificate", || (read(&identity) != first).then_some(()).ok_or(()));
    // Once over, the first certificate is good for nothing any more; what goes on does so with its successors.
    wait_within(2 * LIFE, "the end of the first", || (begin.elapsed() > LIFE).then_some(()).ok_or(()));
    wait_until("a session", || scene.registry.status()["agents_in_sync"] == 1);
    scene.registry.console().ok(&format!("package withdraw near {TYPE}"));
    calls.wait_served_by("hub");
    assert_eq!(all_answered(&calls.stop()), ["near", "hub"]);
    assert_eq!(key(&first), key(&read(&identity)), "renewals keep the key");
    let log = scene.caller.process().log();
    assert!(log.contains("renewed"), "{log}");
}

/// An agent that was off for longer than its certificate lives renews it at its start, with the key that it has. One
/// whose host was removed meanwhile does not.
#[test]
fn an_agent_that_was_off_for_longer_than_its_certificate_lives_renews_it_at_its_start() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::init(&sandbox);
    manager.configure(&format!("host_certificates = \"{}s\"", LIFE.as_secs()));
    manager.start();
    let mut agents = ["agent1", "agent2"].map(|name| Agent::enrolled(&manager, name));
    let begin = Instant::now();
    let identity = agents[0].identity().join("identity.pem");
    let first = read(&identity);
    manager.console().ok("host remove agent2");
    wait_within(2 * LIFE, "the end", || (begin.elapsed() > LIFE).then_some(()).ok_or(()));
    agents.iter_mut().for_each(Agent::start);
    wait_until("a session", || manager.status()["agents_in_sync"] == 1);
    assert_ne!(read(&identity), first);
    assert_eq!(key(&first), key(&read(&identity)), "renewals keep the key");
    let refused = || agents[1].process().log().contains("this identity is unknown here, or denied");
    wait_until("the removed host to be refused", refused);
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The private key in a file of credentials.
fn key(pem: &str) -> &str {
    let begin = pem.find("-----BEGIN PRIVATE KEY").unwrap();
    let end = pem[begin..].find("-----END PRIVATE KEY").unwrap();
    &pem[begin..begin + end]
}
