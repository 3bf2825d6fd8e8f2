//! What is wrong at the moment, who says so, and the exit code for scripts.

use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Sandbox, Stub, TYPE, Topology, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn alarm(manager: &Manager<'_>, name: &str, subject: &str) -> Option<Value> {
    let alarms = manager.console().objects("alarm list");
    alarms.into_iter().find(|alarm| alarm["name"] == name && alarm["subject"] == subject)
}

#[track_caller]
fn wait_alarm(manager: &Manager<'_>, name: &str, subject: &str) -> Value {
    wait_for(&format!("{name} of {subject}"), || {
        alarm(manager, name, subject).ok_or_else(|| manager.console().ok("alarm list"))
    })
}

/// A service that is down is an alarm of its host, a type that nobody serves a critical one, and an agent that
/// is gone one of its own. `status --check` says so with its exit code, and is content again afterwards.
#[test]
fn failures_raise_alarms_that_status_reports_and_that_go_with_them() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let mut agent = Agent::new(&sandbox, "a");
    manager.apply(&Topology::new().manager("a", "/", agent.address()));
    let mut service = Stub::start("a", (agent.address(), PORT).into());
    agent.enroll_with(&manager);
    agent.start_ready();
    let live = || console.objects("package list")[0]["state"] == "live";
    wait_until("a live manager", live);
    assert_eq!(console.run("status --check").code, 0, "{}", console.ok("alarm list"));

    service.kill();
    let package = format!("a:{TYPE}");
    let failing = wait_alarm(&manager, "package-failing", &package);
    assert_eq!(failing["severity"], "warning");
    let unserved = wait_alarm(&manager, "type-unserved", TYPE);
    assert_eq!(unserved["severity"], "critical");
    let status = console.fails(7, "status --check");
    assert!(status.out.contains("the worst is critical") && status.err.is_empty(), "{status:?}");
    let status = manager.status();
    assert_eq!((&status["worst_alarm"], &status["types_unserved"][0]), (&"critical".into(), &TYPE.into()));
    let worst_first = console.ok("alarm list");
    assert!(worst_first.lines().nth(1).unwrap().starts_with("critical"), "{worst_first}");

    service.revive();
    wait_until("no alarm", || console.run("status --check").code == 0);
    assert_eq!(alarm(&manager, "type-unserved", TYPE), None);

    console.ok("host drain a --allow-shrink");
    wait_alarm(&manager, "type-unserved", TYPE);
    console.ok("host resume a");
    wait_until("no alarm", || console.run("status --check").code == 0);

    agent.kill9();
    wait_alarm(&manager, "agent-silent", "a");
    console.fails(7, "status --check");
}

/// An agent's own alarms reach the operator with its heartbeats, and its own API shows them: here a replica that
/// cannot be written.
#[test]
fn an_agents_own_alarms_reach_the_operator() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let mut agent = Agent::enrolled(&manager, "a");
    agent.start_with_files_up_to(256);
    manager.wait_in_sync(1);
    let made = std::cell::Cell::new(0);
    let raised = wait_for("an alarm", || {
        made.set(made.get() + 1);
        let hosts: String = (0..400)
            .map(|n| {
                format!(
                    "[[host]]\nname = \"h{}-{n}\"\naddress = \"10.0.0.1\"\npackages = [\"audit:1\"]\n",
                    made.get()
                )
            })
            .collect();
        let path = sandbox.file("more.toml", format!("framework = \"acme\"\n{hosts}"));
        manager.console().ok(&format!("apply {}", path.display()));
        alarm(&manager, "replica-not-saved", "a").ok_or(())
    });
    assert_eq!(raised["severity"], "warning");
    let own = agent.get("/v1/status").unwrap().json()["alarms"].clone();
    assert_eq!(own[0]["name"], "replica-not-saved", "{own}");
    let shown = manager.console().object("host show a");
    assert_eq!(shown["alarms"][0]["name"], "replica-not-saved", "{shown}");
}

/// The command of `on_alarm` hears what comes and what goes, each once; what it could not tell it tells once it can.
#[test]
fn a_command_is_told_of_alarms_that_come_and_go() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::init(&sandbox);
    let told = sandbox.path("told");
    let script = format!(
        "#!/bin/sh\ntest -e {broken} && {{ echo 'no mail today'; exit 1; }}\n\
         test -n \"$ECHELON_SINCE\" && test -n \"$ECHELON_REMEDY\" || exit 2\n\
         echo \"$ECHELON_STATE $ECHELON_SEVERITY $ECHELON_ALARM $ECHELON_SUBJECT $ECHELON_SUCCESS $ECHELON_HOST\" >> {told}\n",
        broken = sandbox.path("broken").display(),
        told = told.display(),
    );
    let program = sandbox.file("page.sh", script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!("[on_alarm]\ncommand = [\"{}\"]\n", program.display());
    manager.configure(&settings);
    manager.start();
    let heard = |line: &str| {
        wait_for(line, || {
            let all = fs::read_to_string(&told).unwrap_or_default();
            if all.lines().any(|l| l == line) { Ok(()) } else { Err(all) }
        });
    };
    let mut agent = Agent::new(&sandbox, "a");
    manager.apply(&Topology::new().manager("a", "/", agent.address()));
    agent.enroll_with(&manager);
    agent.start_ready();
    // Nobody serves there yet.
    heard(&format!("raised critical type-unserved {TYPE} false hub"));
    heard(&format!("raised warning package-failing a:{TYPE} false hub"));
    fs::write(sandbox.path("broken"), "").unwrap();
    let service = Stub::start("a", (agent.address(), PORT).into());
    let failing = wait_alarm(&manager, "on-alarm-failed", "hub");
    assert!(failing["message"].as_str().unwrap().contains("no mail today"), "{failing}");
    let metrics = echelon_tests::http::get_tcp(manager.http(), "/metrics").unwrap().body;
    let series = "echelon_manager_alarm_seconds{name=\"on-alarm-failed\",severity=\"warning\",subject=\"hub\",remedy=\"see";
    assert!(metrics.contains(series), "{metrics}");
    let listed = manager.status()["alarm_list"].clone();
    assert!(listed.as_array().unwrap().iter().any(|a| a["name"] == "on-alarm-failed"), "{listed}");
    let over_http = echelon_tests::http::get_tcp(manager.http(), "/alarms").unwrap().json();
    assert!(over_http.as_array().unwrap().iter().any(|a| a["name"] == "on-alarm-failed"), "{over_http}");

    fs::remove_file(sandbox.path("broken")).unwrap();
    manager.process().signal(Signal::HUP);
    heard(&format!("cleared critical type-unserved {TYPE} true hub"));
    heard(&format!("cleared warning package-failing a:{TYPE} true hub"));
    wait_until("no alarm", || alarm(&manager, "on-alarm-failed", "hub").is_none());
    let all = fs::read_to_string(&told).unwrap();
    assert_eq!(all.lines().count(), 4, "each once, and nothing of what is not worth it or of itself: {all}");
    drop(service);
}

/// One address that does not answer costs a command a moment, not the whole time it is tried.
#[test]
fn a_dead_address_costs_little() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    // A socket that takes what comes and never answers.
    let dead = std::net::UdpSocket::bind(sandbox.endpoint(29120)).unwrap();
    let dead = dead.local_addr().unwrap();
    let begin = std::time::Instant::now();
    manager.console().ok(&format!("status --manager {dead} --manager {}", manager.listen()));
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: an address is tried for 5 s");
}
