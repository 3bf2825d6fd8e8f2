//! Sockets that the service manager opens and keeps open: no caller is refused while the agent is away.

use crate::failover::{Scene, some_more};
use echelon_tests::caller::all_answered;
use echelon_tests::skip::have;
use echelon_tests::{Agent, Caller, Process, Sandbox, Supervisor, TYPE, wait_for, wait_until};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

/// A scene whose caller's agent is under a supervisor that has its forwarder and its API's socket.
fn supervised<'a>(sandbox: &'a Sandbox) -> (Scene<'a>, Supervisor) {
    let mut scene = Scene::set(sandbox);
    scene.caller.terminate();
    let sockets: [OwnedFd; 2] = [
        TcpListener::bind(scene.caller.forwarder(TYPE)).unwrap().into(),
        UnixListener::bind(scene.caller.api()).unwrap().into(),
    ];
    let supervisor = Supervisor::start(sandbox, "supervised", &scene.caller.run_command(), sockets);
    wait_ready(&scene.caller);
    (scene, supervisor)
}

fn wait_ready(agent: &Agent<'_>) {
    wait_for("the agent to be ready", || match agent.get("/readyz") {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Protects: an agent that dies, or is started again, under a supervisor with its sockets. Nobody is refused: who
/// connects meanwhile waits for the next process.
#[test]
fn a_killed_agent_whose_sockets_stay_open_refuses_nobody() {
    let sandbox = Sandbox::new();
    let (scene, supervisor) = supervised(&sandbox);
    let calls: Vec<_> = (0..4).map(|_| scene.calls()).collect();
    for round in 2..=4 {
        calls.iter().for_each(some_more);
        // What is under way in a process that dies cannot be saved, so that it is killed between calls; its next
        // calls begin while there is none.
        kill_between(&calls, || supervisor.with(Process::kill9));
        wait_until("the next start", || supervisor.starts() == round);
        calls.iter().for_each(some_more);
    }
    let made: Vec<_> = calls.into_iter().map(Caller::stop).collect();
    made.iter().for_each(|calls| assert_eq!(all_answered(calls), ["near"]));
    let count: usize = made.iter().map(Vec::len).sum();
    let slowest = made.iter().flatten().map(|call| call.took).max().unwrap();
    println!("3 times kill -9: {count} calls, 0 refused, slowest {slowest:?}");

    // An orderly end leaves the file of a socket that is not its own, and who comes then waits for the next one too.
    let calls = scene.calls();
    let starts = supervisor.starts();
    supervisor.with(Process::terminate);
    assert!(scene.caller.api().exists());
    wait_until("the next start", || supervisor.starts() > starts);
    some_more(&calls);
    assert_eq!(all_answered(&calls.stop()), ["near"]);
    wait_ready(&scene.caller);
    supervisor.end();
}

fn kill_between(calls: &[Caller], kill: impl FnOnce()) {
    match calls.split_first() {
        Some((first, rest)) => first.between_calls(|| kill_between(rest, kill)),
        None => kill(),
    }
}

/// Protects: open connections hold up the end of such an agent for a quarter of a second only, not for the grace that
/// they would have without a socket unit, and a socket that no setting names is pointed at.
#[test]
fn such_an_agent_ends_at_once_and_names_what_nobody_asked_for() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.caller.terminate();
    scene.caller.set_settings("stop_grace = \"10m\"\n");
    let stray = SocketAddr::new(scene.caller.address(), 7999);
    let sockets: [OwnedFd; 2] = [
        TcpListener::bind(scene.caller.forwarder(TYPE)).unwrap().into(),
        TcpListener::bind(stray).unwrap().into(),
    ];
    let supervisor = Supervisor::start(&sandbox, "supervised", &scene.caller.run_command(), sockets);
    wait_ready(&scene.caller);
    let named = ["The service manager opened a socket that no setting names", "two", &stray.to_string()];
    wait_for("what nobody asked for to be named", || {
        let log = supervisor.with(|process| process.log());
        if named.iter().all(|words| log.contains(words)) { Ok(()) } else { Err(log) }
    });
    let open = std::net::TcpStream::connect(scene.caller.forwarder(TYPE)).unwrap();
    wait_for("the connection to be counted", || {
        let status = scene.caller.get("/v1/status").unwrap().json();
        (status["forwarders"][0]["open"] == 1).then_some(()).ok_or(status)
    });
    // Waits no longer than any test does, which is far less than ten minutes.
    supervisor.with(Process::terminate);
    drop(open);

    // A take-over hands on that the sockets are the supervisor's.
    wait_ready(&scene.caller);
    let mut command = scene.caller.run_command();
    command.arg("--take-over");
    let mut new = Process::spawn("second", command, &sandbox.logs());
    wait_until("it to have taken over", || scene.caller.holder() == Some(new.id()));
    let _open = std::net::TcpStream::connect(scene.caller.forwarder(TYPE)).unwrap();
    supervisor.end();
    new.terminate();
}

/// A second opinion on how sockets are passed.
#[test]
fn sockets_are_taken_from_systemds_own_tool() {
    if !have("sockets::sockets_are_taken_from_systemds_own_tool", "systemd-socket-activate", &["--version"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.caller.terminate();
    let run = scene.caller.run_command();
    let mut command = sandbox.command("systemd-socket-activate".as_ref());
    command.arg(format!("--listen={}", scene.caller.forwarder(TYPE)));
    command.arg(format!("--listen={}", scene.caller.api().display()));
    command.args(["--setenv=HOME", "--setenv=ECHELON_LOG"]).env("ECHELON_LOG", "info");
    command.arg(run.get_program()).args(run.get_args());
    let activated = Process::spawn("activated", command, &sandbox.logs());
    // It starts the agent once somebody comes.
    wait_for("a call", || scene.caller.call(TYPE).map(drop));
    assert!(!activated.log().contains("no setting names"), "{}", activated.log());
    wait_ready(&scene.caller);
}
