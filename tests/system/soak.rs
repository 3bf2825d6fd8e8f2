//! What callers do to connections leaves nothing behind.

use crate::soaked::{Service, Soaked};
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Sandbox, TYPE, Topology, wait_until};
use std::net::SocketAddr;
use std::time::Duration;

/// How long callers call.
const TIME: Duration = Duration::from_secs(5);

/// Callers reset, end halves first, leave in the middle of answers and are left by a manager that is killed, revived,
/// withdrawn and restored. No answer ends early without an error, and afterwards the agent holds as many descriptors
/// and tasks as before.
#[test]
fn no_connection_leaves_a_task_or_a_descriptor_behind() {
    let sandbox = Sandbox::new();
    let registry = Manager::running(&sandbox);
    let mut agent = Agent::new(&sandbox, "caller").forwarding(TYPE);
    let near = SocketAddr::new(sandbox.address(), PORT);
    let hub = SocketAddr::new(registry.listen().ip(), PORT);
    let policy = "failback_hold = \"0s\"\nfailback_jitter = \"0s\"\ndrain_timeout = \"500ms\"";
    let topology =
        Topology::new().policy(policy).manager("hub", "/", hub.ip()).manager("near", "/x", near.ip());
    registry.apply(&topology.host("caller", "/x", agent.address()));
    let (mut near, _hub) = (Service::start(near), Service::start(hub));
    agent.enroll_with(&registry);
    agent.start_ready();
    wait_until("the nearest manager to be known", || agent.route(TYPE)["chosen"]["host"] == "near");

    let (at, process, console) = (agent.forwarder(TYPE), agent.process().id(), registry.console());
    let metrics = || agent.get("/metrics").unwrap().body;
    let mut disturb = |times: usize| match times % 4 {
        0 => near.kill(),
        1 => near.revive(),
        2 => drop(console.ok(&format!("package withdraw near {TYPE}"))),
        _ => drop(console.ok(&format!("package restore near {TYPE}"))),
    };
    let soak = Soaked { at, process, metrics: &metrics, disturb: &mut disturb }.soak(8, TIME);
    assert!(soak.disturbances >= 4 && soak.complete * 2 > soak.connections, "{soak:?}");
}
