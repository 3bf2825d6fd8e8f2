//! State directories: one process each, for its owner alone, and made once.

use echelon_tests::manager::FRAMEWORK;
use echelon_tests::{Agent, Answer, Manager, Sandbox};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Path and content of everything below a directory.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => drop(all.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    all
}

/// A second `init` neither replaces keys nor the registry; another framework's is refused.
#[test]
fn init_twice_changes_nothing() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    manager.console().ok("domain add /a");
    manager.terminate();
    // The lock file names the process that held it last.
    let state = |manager: &Manager<'_>| {
        let mut all = contents(manager.state());
        all.retain(|path, _| !path.ends_with("lock"));
        all
    };
    let before = state(&manager);
    let again = manager.init_again(FRAMEWORK);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.out.contains("Nothing was changed"), "{again:?}");
    let other = manager.init_again("other");
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.err.contains(FRAMEWORK), "it says whose the directory is: {other:?}");
    assert!(state(&manager) == before, "files have changed");
    manager.start();
    manager.console().ok("tree /a");
}

/// Two managers on one registry would both think that they are its one writer.
#[test]
fn a_second_manager_on_one_state_directory_is_refused() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let answer = Answer::of(manager.run_command());
    assert_eq!(answer.code, 1, "{answer:?}");
    let holder = format!("process {}", manager.process().id());
    assert!(answer.err.contains("is in use by") && answer.err.contains(&holder), "{answer:?}");
    assert_eq!(manager.init_again(FRAMEWORK).code, 1, "init uses the directory as well");
    manager.console().ok("status");
}

/// Two agents on one replica would each think that it holds what the other wrote.
#[test]
fn a_second_agent_on_one_state_directory_is_refused() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let mut agent = Agent::enrolled(&manager, "h");
    agent.start_ready();
    let answer = Answer::of(agent.run_command());
    assert_eq!(answer.code, 1, "{answer:?}");
    let holder = format!("process {}", agent.process().id());
    assert!(answer.err.contains("is in use by") && answer.err.contains(&holder), "{answer:?}");
    assert_eq!(agent.get("/readyz").unwrap().status, 200, "the first one goes on");
}

/// With this mode at `path`, the command fails and says what to type.
#[track_caller]
fn refused(command: Command, path: &Path, mode: u32) {
    let was = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let answer = Answer::of(command);
    assert_eq!(answer.code, 1, "{answer:?}");
    let remedy = format!("chmod {:o} {}", was.mode() & 0o777, path.display());
    assert!(answer.err.contains(&remedy), "no {remedy:?} in {answer:?}");
    fs::set_permissions(path, was).unwrap();
}

/// Keys that others could read are not used; the message holds the command that puts it right.
#[test]
fn directories_and_keys_that_others_can_read_are_refused() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let agent = Agent::enrolled(&manager, "h");
    manager.terminate();
    refused(manager.run_command(), manager.state(), 0o750);
    refused(manager.run_command(), manager.state(), 0o701);
    refused(manager.run_command(), &manager.state().join("issuer.pem"), 0o640);
    refused(manager.run_command(), &manager.state().join("identity/identity.pem"), 0o604);
    refused(manager.run_command(), &manager.state().join("identity"), 0o755);
    refused(agent.run_command(), agent.state(), 0o711);
    refused(agent.run_command(), &agent.identity(), 0o750);
    refused(agent.run_command(), &agent.identity().join("identity.pem"), 0o644);
    let console = manager.console_identity().join("identity.pem");
    fs::set_permissions(&console, Permissions::from_mode(0o644)).unwrap();
    let said = manager.console().fails(1, "status").err;
    assert!(said.contains(&format!("chmod 600 {}", console.display())), "{said}");
}

/// Every entry of the journal is bound to the one before it: history that was rewritten, with care and in all
/// places, is noticed.
#[test]
fn a_rewritten_history_is_noticed() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    manager.console().ok("domain add /guilty");
    manager.console().ok("domain add /other");
    manager.terminate();
    let path = manager.state().join("registry.db");
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"guilty")).collect();
    assert!(places.len() >= 2, "a row and an entry of the journal");
    places.into_iter().for_each(|at| bytes[at..at + 6].copy_from_slice(b"nobody"));
    fs::write(&path, &bytes).unwrap();
    let answer = Answer::of(manager.run_command());
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("registry.db"), "{answer:?}");
}

/// A registry that is damaged is not served, not repaired by guessing, and not touched.
#[test]
fn a_damaged_registry_is_refused_and_left_as_it_is() {
    let sandbox = Sandbox::new();
    let manager = Manager::init(&sandbox);
    let path = manager.state().join("registry.db");
    let whole = fs::read(&path).unwrap();
    let mut broken = whole.clone();
    broken[4096..8192].fill(0x5a);
    for damaged in [broken, b"no database".repeat(1000), whole[..whole.len() / 2].to_vec()] {
        fs::write(&path, &damaged).unwrap();
        let answer = Answer::of(manager.run_command());
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.err.contains("registry.db"), "{answer:?}");
        assert!(fs::read(&path).unwrap() == damaged, "the file was changed");
    }
}
