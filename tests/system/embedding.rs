//! Programs that take the agent into themselves, or speak to one beside them, in Rust and in Python: the
//! examples, as people run them.

use crate::failover::Scene;
use echelon_tests::binaries::{example, workspace};
use echelon_tests::skip::have;
use echelon_tests::{Answer, Process, Sandbox, TYPE, wait_for, wait_until, wait_within};
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Runs under a Python of at least 3.9 only, as the client says.
const NEW_ENOUGH: &str = "import sys; sys.exit(sys.version_info < (3, 9))";

/// What a program may rely on, said in Python: the same errors, one connection kept, no descriptor left over.
const IN_PYTHON: &str = r#"
import os, sys, time
from echelon_agent import Agent, AgentError

agent = Agent()
def refused(type_):
    for ask in (agent.nearest, agent.connect):
        try:
            ask(type_)
        except AgentError as error:
            yield error.error, error.retriable

assert set(refused("nothing-of-the-kind")) == {("unknown-type", False)}, list(refused("nothing-of-the-kind"))

def who():
    with agent.connect(sys.argv[1]) as connection:
        assert connection.getblocking() and not connection.get_inheritable()
        connection.sendall(b"who\n")
        with connection.makefile() as lines:
            return lines.readline().strip()

assert who() == "near"
before = len(os.listdir("/proc/self/fd"))
assert {who() for _ in range(300)} == {"near"}
for _ in range(50):
    assert list(refused("nothing-of-the-kind"))
after = len(os.listdir("/proc/self/fd"))
assert after == before, (before, after)

held = agent.connect(sys.argv[1])
print("holding", flush=True)
# Meanwhile the agent is killed and started anew.
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
held.sendall(b"who\n")
assert held.makefile().readline() == "near\n"
assert who() == "near"
print("done", flush=True)
"#;

/// How long the example may take that says it runs in a minute; it does in six seconds.
const A_MINUTE: Duration = Duration::from_secs(60);

/// The story that the example tells, and that it passes: its calls are answered while a manager and the
/// registry are dead.
#[test]
fn the_embedded_example_tells_its_story() {
    let sandbox = Sandbox::new();
    let mut process = Process::spawn("embedded", sandbox.command(&example("embedded")), &sandbox.logs());
    wait_within(A_MINUTE, "its end", || (!process.is_running()).then_some(()).ok_or("it still runs"));
    let out = fs::read_to_string(sandbox.logs().join("embedded.out")).unwrap();
    assert!(process.wait().success(), "{out}");
    let order = [
        "enrolled  framework-host in /site",
        "route     now to neighbour (home)",
        "call      answered by neighbour",
        "fault     the manager on neighbour is killed",
        "call      answered by center",
        "route     now to center (neighbour: connection refused",
        "fault     the registry manager is killed",
        "call      answered by center",
        "repair    the manager on neighbour is back",
        "route     now to neighbour (home)",
        "call      answered by neighbour",
    ];
    let mut lines = out.lines();
    for expected in order {
        assert!(lines.any(|line| line.starts_with(expected)), "no {expected:?} in its place:\n{out}");
    }
}

/// A program beside an agent follows its route, calls whom it leads to, and does not mind that the agent is
/// started anew meanwhile.
#[test]
fn the_sidecar_example_follows_its_route_through_restarts() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let mut command = sandbox.command(&example("sidecar"));
    command.arg(TYPE).env("ECHELON_AGENT_SOCKET", scene.caller.api());
    let mut program = Process::spawn("sidecar", command, &sandbox.logs());
    let mut said = |what: &str, times: usize| {
        wait_for(&format!("{what:?} {times} times"), || {
            assert!(program.is_running(), "it ended:\n{}", program.log());
            let out = fs::read_to_string(sandbox.logs().join("sidecar.out")).unwrap();
            if out.lines().filter(|l| l.starts_with(what)).count() >= times { Ok(()) } else { Err(out) }
        });
    };
    said("nearest   near at ", 1);
    said("answered  near", 1);
    scene.near.kill();
    // Somebody has to notice.
    assert_eq!(scene.caller.call(TYPE).unwrap(), "hub");
    said("route     hub near: connection refused", 1);
    said("answered  hub", 1);
    scene.caller.kill9();
    scene.caller.start_ready();
    scene.near.revive();
    said("answered  near", 2);
}

/// A program in a language without a client of ours needs one file.
#[test]
fn python_programs_are_handed_connections() {
    if !have("the Python client", "python3", &["-c", NEW_ENOUGH]) {
        return;
    }
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let python = |scene: &Scene<'_>| {
        let mut python = Command::new("python3");
        // Leaves nothing in the source tree.
        python.arg("-B").env("PYTHONPATH", workspace().join("examples/python"));
        python.env("ECHELON_AGENT_SOCKET", scene.caller.api());
        python
    };
    let mut demo = python(&scene);
    demo.arg(workspace().join("examples/python/demo.py")).arg(TYPE);
    let answer = Answer::of(demo);
    assert_eq!(answer.code, 0, "{answer:?}");
    let near = scene.near.at();
    assert_eq!(answer.out, format!("nearest   near at {near}\nconnected to {near}\nanswered  near\n"));

    let mut demo = python(&scene);
    demo.arg(workspace().join("examples/python/demo.py")).arg("nothing-of-the-kind");
    let answer = Answer::of(demo);
    assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{answer:?}");
    assert!(answer.err.contains("nothing-of-the-kind") && answer.err.contains("pointless"), "{answer:?}");

    let mut demo = python(&scene);
    demo.arg(workspace().join("examples/python/demo.py")).arg(TYPE).arg("--watch");
    let following = Process::spawn("demo", demo, &sandbox.logs());
    let followed = |line: &str| {
        wait_for(&format!("{line:?}"), || {
            let out = fs::read_to_string(sandbox.logs().join("demo.out")).unwrap();
            if out.lines().any(|l| l.starts_with(line)) { Ok(()) } else { Err(out) }
        });
    };
    followed("route     near");
    scene.registry.console().ok(&format!("package withdraw near {TYPE}"));
    followed("route     hub");
    drop(following);
    scene.registry.console().ok(&format!("package restore near {TYPE}"));
    scene.caller.wait_served_by(TYPE, "near");

    let mut program = python(&scene);
    let go_on = sandbox.path("go-on");
    program.arg("-c").arg(IN_PYTHON).arg(TYPE).arg(&go_on);
    let mut program = Process::spawn("program", program, &sandbox.logs());
    let said = |line: &str| fs::read_to_string(sandbox.logs().join("program.out")).unwrap().contains(line);
    wait_until("the program to hold a connection", || {
        assert!(program.is_running() || said("holding"), "{}", program.log());
        said("holding")
    });
    scene.caller.kill9();
    scene.caller.start_ready();
    fs::write(&go_on, "").unwrap();
    assert!(program.wait().success(), "{}", program.log());
    assert!(said("done"));
}
