//! Registries that come back from a backup, and state directories that come back too old.

use crate::backup::passphrase;
use echelon_tests::manager::FRAMEWORK;
use echelon_tests::{Agent, Answer, Manager, Sandbox, binaries, wait_for, wait_until};
use std::fs;
use std::path::Path;
use std::process::Command;

/// `registry-manager restore FILE` into the state directory of a manager.
pub(crate) fn restore(manager: &Manager<'_>, file: &Path, passphrase: Option<&Path>) -> Answer {
    let mut command = manager.sandbox().command(&binaries().manager);
    command.arg("restore").arg(file).arg("--state").arg(manager.state()).args(["--reason", "a test"]);
    if let Some(passphrase) = passphrase {
        command.arg("--passphrase-file").arg(passphrase);
    }
    Answer::of(command)
}

/// `registry-manager recover`, for the framework of this name.
fn recover(manager: &Manager<'_>, name: &str) -> Answer {
    let mut command = manager.sandbox().command(&binaries().manager);
    command.arg("recover").arg("--state").arg(manager.state()).args(["--reason", "a test", "--yes", name]);
    Answer::of(command)
}

/// The revision of an agent's replica.
fn held(agent: &Agent<'_>) -> (u64, u64) {
    let status = agent.get("/v1/status").unwrap().json();
    let number = |key: &str| status[key].as_u64().unwrap_or_else(|| panic!("no {key} in {status}"));
    (number("epoch"), number("revision"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The disk of the only manager is gone for good. On a fresh machine with its address the backup makes it anew: all
/// that was acknowledged before the backup is there, agents come over by themselves and go back to it, tokens made
/// before work, certificates are renewed.
#[test]
fn a_manager_whose_disk_is_gone_is_made_anew_from_its_backup() {
    let sandbox = Sandbox::new();
    let mut first = Manager::init(&sandbox);
    first.start();
    let mut agents = [Agent::enrolled(&first, "a"), Agent::enrolled(&first, "b")];
    agents.iter_mut().for_each(Agent::start_ready);
    first.console().ok("domain add /before");
    let token = first.token("--host late");
    let (file, secret) =
        (sandbox.path("acme.tar"), passphrase(&sandbox, "passphrase", "correct horse battery"));
    let line = format!("backup {} --passphrase-file {}", file.display(), secret.display());
    let revision = first.console().object(&line)["revision"].as_u64().unwrap();
    first.console().ok("domain add /after");
    wait_until("the agents to see it", || agents.iter().all(|agent| held(agent) == (1, revision + 1)));
    first.kill9();
    fs::remove_dir_all(first.state()).unwrap();

    let mut second = Manager::in_directory(&sandbox, "second", first.listen());
    // Seconds are enough to see a renewal.
    second.configure("host_certificates = \"10s\"\n");
    let refused = restore(&second, &file, None);
    assert!(refused.code == 1 && refused.err.contains("--passphrase-file"), "{refused:?}");
    let restored = restore(&second, &file, Some(&secret));
    assert_eq!(restored.code, 0, "{restored:?}");
    second.start();
    second.wait_in_sync(2);
    let tree = second.console().ok("tree");
    assert!(tree.contains("before") && !tree.contains("after"), "{tree}");
    second.console().ok("domain add /again");
    second.wait_in_sync(2);
    for agent in &agents {
        let (epoch, at) = held(agent);
        assert!(epoch == 2 && at > revision, "{} is at revision {at} of epoch {epoch}", agent.name());
    }
    let mut late = Agent::new(&sandbox, "late");
    let enrolled = late.enroll(second.listen(), &token, "");
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    let identity = late.identity().join("identity.pem");
    let certificate = read(&identity);
    late.start_ready();
    wait_until("a renewal", || read(&identity) != certificate);
}

/// A running manager's registry is not pulled from under it; a stopped one's is set aside, and what only that had is
/// kept.
#[test]
fn a_registry_is_replaced_only_while_nobody_uses_it() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let mut agent = Agent::enrolled(&manager, "a");
    agent.start_ready();
    let file = sandbox.path("acme.tar");
    manager.console().ok(&format!("backup {}", file.display()));
    manager.console().ok("domain add /mistake");
    manager.wait_in_sync(1);
    let refused = restore(&manager, &file, None);
    assert!(refused.code == 1 && refused.err.contains("is in use by"), "{refused:?}");
    manager.terminate();
    let restored = restore(&manager, &file, None);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(
        restored.out.contains("registry.db.replaced-1") && restored.out.contains("edits lost"),
        "{restored:?}"
    );
    manager.start();
    manager.wait_in_sync(1);
    manager.console().fails(1, "tree /mistake");
    manager.console().ok("domain add /correct");
    manager.wait_in_sync(1);
    assert_eq!(held(&agent).0, 2);
}

/// A state directory that was set back to an earlier state, as with a machine's snapshot: by what its agents hold the
/// manager finds out that it has lost edits, and takes none until an operator says how to go on. Agents do not go back
/// meanwhile.
#[test]
fn a_state_directory_that_was_set_back_is_noticed() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let mut agent = Agent::enrolled(&manager, "a");
    agent.start_ready();
    manager.console().ok("domain add /kept");
    manager.wait_in_sync(1);
    manager.terminate();
    let (state, saved) = (manager.state().to_owned(), sandbox.path("saved"));
    let copied = Command::new("cp").arg("-a").args([&state, &saved]).status().unwrap();
    assert!(copied.success());
    manager.start();
    manager.console().ok("domain add /lost1");
    manager.console().ok("domain add /lost2");
    let seen = manager.status()["revision"].as_u64().unwrap();
    wait_until("the agent to see it", || held(&agent) == (1, seen));
    manager.kill9();
    fs::rename(&state, sandbox.path("gone")).unwrap();
    fs::rename(&saved, &state).unwrap();

    manager.start();
    let alarm = |manager: &Manager<'_>| {
        let alarms = manager.console().objects("alarm list");
        alarms.into_iter().find(|alarm| alarm["name"] == "rolled-back").ok_or("no such alarm")
    };
    let raised = wait_for("the alarm", || alarm(&manager));
    assert!(raised.to_string().contains(&format!("revision {seen}")), "{raised}");
    assert_eq!(raised["severity"], "critical");
    let refused = manager.console().fails(4, "domain add /refused --output json").error();
    assert_eq!(refused["error"], "rolled-back");
    let said = format!("{} {}", refused["message"], refused["remedy"]);
    assert!(
        said.contains(&seen.to_string()) && said.contains("recover") && said.contains("promote"),
        "{said}"
    );
    assert!(manager.console().ok("status").contains("it has lost edits"), "status says nothing of it");
    assert_eq!(held(&agent), (1, seen), "the agent went back");

    agent.terminate();
    manager.terminate();
    manager.start();
    wait_for("the alarm after a restart", || alarm(&manager));
    manager.console().fails(4, "domain add /refused");
    manager.terminate();
    assert_eq!(recover(&manager, "other").code, 3);
    let recovered = recover(&manager, FRAMEWORK);
    assert!(recovered.code == 0 && recovered.out.contains(&format!("revision {seen}")), "{recovered:?}");
    manager.start();
    assert!(alarm(&manager).is_err());
    manager.console().ok("domain add /new");
    agent.start_ready();
    manager.wait_in_sync(1);
    assert_eq!(held(&agent).0, 2);
    manager.console().fails(1, "tree /lost1");
    manager.console().ok("tree /new");
}
