//! State directories: one process each, for its owner alone, and made once.

use echelon_tests::manager::FRAMEWORK;
use echelon_tests::{Manager, Sandbox};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
    let output = manager.run_command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let holder = format!("process {}", manager.process().id());
    assert!(said.contains("is in use by") && said.contains(&holder), "{said}");
    assert_eq!(manager.init_again(FRAMEWORK).code, 1, "init uses the directory as well");
    manager.console().ok("status");
}

/// Keys that others could read are not used; the message holds the command that puts it right.
#[test]
fn directories_and_keys_that_others_can_read_are_refused() {
    let sandbox = Sandbox::new();
    let manager = Manager::init(&sandbox);
    let refused = |path: &Path, mode: u32| {
        let was = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let output = manager.run_command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let command = format!("chmod {:o} {}", was.mode() & 0o777, path.display());
        assert!(said.contains(&command), "no {command:?} in {said}");
        fs::set_permissions(path, was).unwrap();
    };
    refused(manager.state(), 0o750);
    refused(manager.state(), 0o701);
    refused(&manager.state().join("issuer.pem"), 0o640);
    refused(&manager.state().join("identity/identity.pem"), 0o604);
    refused(&manager.state().join("identity"), 0o755);
    let console = manager.console_identity().join("identity.pem");
    fs::set_permissions(&console, Permissions::from_mode(0o644)).unwrap();
    let said = manager.console().fails(1, "status").err;
    assert!(said.contains(&format!("chmod 600 {}", console.display())), "{said}");
}
