//! Making a manager, and starting it with settings that make sense.

#![allow(clippy::unwrap_used, reason = "tests")]

use echelon_daemon::{StateDir, Tasks};
use registry_manager::config::Config;
use registry_manager::init::{Init, InitError, Outcome, init};
use registry_manager::{Manager, StartError};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn wish(state: &Path, framework: &str) -> Init {
    Init {
        state: state.to_owned(),
        framework: framework.parse().unwrap(),
        host: "registry".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: "127.0.0.1:1".parse().unwrap(),
    }
}

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(&dir.path().join("a manager's"), true).unwrap();
    (dir, state)
}

/// What all files in and below a directory hold.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
    let of = |path: std::path::PathBuf| match path.is_dir() {
        true => contents(&path),
        false => BTreeMap::from([(path.display().to_string(), std::fs::read(&path).unwrap())]),
    };
    entries.flat_map(of).collect()
}

/// Protects: a second `init` changes nothing, also where the root key was taken elsewhere, as it should be.
#[test]
fn a_second_init_changes_nothing_with_and_without_the_root_key() {
    let (_dir, state) = state();
    assert_eq!(init(&wish(state.path(), "acme")).unwrap(), Outcome::Made);
    for _ in 0..2 {
        let before = contents(state.path());
        assert_eq!(init(&wish(state.path(), "acme")).unwrap(), Outcome::WasThere);
        let other = init(&wish(state.path(), "other")).unwrap_err();
        assert!(matches!(other, InitError::OtherFramework { .. }), "{other}");
        assert_eq!(contents(state.path()), before);
        // Gone the second time.
        let _ = std::fs::remove_file(state.path().join("root.pem"));
    }
}

/// What somebody is told who starts a manager that does not start.
async fn start(state: &Path) -> String {
    let config = Config::new(state, "127.0.0.1:0".parse().unwrap());
    Manager::start(&config, Tasks::new()).await.map(|_| ()).unwrap_err().to_string()
}

/// Protects: in a directory where something else was broken off, nobody is told to make a new registry, or makes one over
/// what is wanted to go on.
#[tokio::test]
async fn what_was_broken_off_in_a_directory_is_gone_on_with() {
    for (file, command) in
        [("joining.json", "registry-manager join"), ("registry.db.restoring", "registry-manager restore")]
    {
        let (_dir, state) = state();
        std::fs::write(state.path().join(file), "").unwrap();
        let told = [start(state.path()).await, init(&wish(state.path(), "acme")).unwrap_err().to_string()];
        for told in told {
            assert!(told.contains("repeat") && told.contains(command), "{told}");
            assert!(!told.contains("registry-manager init"), "{told}");
        }
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 2, "beside the lock");
    }
    let (_dir, state) = state();
    init(&wish(state.path(), "acme")).unwrap();
    std::fs::write(state.path().join("left"), "it left").unwrap();
    std::fs::remove_file(state.path().join("registry.db")).unwrap();
    let told = start(state.path()).await;
    assert!(told.contains("has left") && told.contains("registry-manager join"), "{told}");
}

/// Protects: what an `init` that was cut off left behind is used or replaced by the next.
#[tokio::test]
async fn an_init_that_was_cut_off_goes_on() {
    let (_dir, state) = state();
    init(&wish(state.path(), "acme")).unwrap();
    for missing in ["registry.db", "manager.toml", "console", "identity", "issuer.pem"] {
        let path = state.path().join(missing);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.unwrap();
        let _ = std::fs::remove_file(state.path().join("registry.db"));
        std::fs::write(state.path().join("registry.db.new"), "half of one").unwrap();
        assert_eq!(init(&wish(state.path(), "acme")).unwrap(), Outcome::Made, "without {missing}");
        let config = Config::new(state.path(), "127.0.0.1:0".parse().unwrap());
        Manager::start(&config, Tasks::new()).await.unwrap().stop().await.unwrap();
    }
}

/// Protects: certificates of hosts live neither for seconds nor for longer than denials are kept for.
#[tokio::test]
async fn lives_of_certificates_out_of_range_are_refused() {
    let (_dir, state) = state();
    init(&wish(state.path(), "acme")).unwrap();
    let mut config = Config::new(state.path(), "127.0.0.1:0".parse().unwrap());
    for seconds in [0, 9, 24 * 3600 + 1] {
        config.host_certificates = Duration::from_secs(seconds);
        let refused = Manager::start(&config, Tasks::new()).await.err().expect("it is refused");
        assert!(matches!(refused, StartError::HostCertificates { .. }), "{refused}");
    }
    config.host_certificates = Duration::from_secs(10);
    Manager::start(&config, Tasks::new()).await.unwrap().stop().await.unwrap();
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_registry-manager")).args(arguments).output().unwrap()
}

/// Protects: the commands that `init` prints can be pasted, whatever the directory is called; what nobody could
/// connect to is refused before anything is made.
#[test]
fn the_command_line_says_what_to_type_and_refuses_what_cannot_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it's here");
    let state = path.to_str().unwrap();
    let init = ["init", "--state", state, "--framework", "acme", "--name", "h"];
    for (wrong, says) in [
        (["--listen", "127.0.0.1:0"], "port"),
        (["--listen", "127.0.0.1"], "ADDR:PORT"),
        (["--advertise", "0.0.0.0:29120"], "connect"),
        (["--advertise", "[::]:29120"], "connect"),
    ] {
        let refused = run(&[&init[..], &wrong].concat());
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(2) && error.contains(says), "{wrong:?}: {error}");
        assert!(!path.exists());
    }
    let made = run(&[&init[..], &["--listen", "127.0.0.1:29120"]].concat());
    let printed = String::from_utf8(made.stdout).unwrap();
    let quoted = format!("registry-manager run --state '{}'", state.replace('\'', r"'\''"));
    assert!(printed.contains(&quoted), "{printed}");

    std::fs::remove_file(path.join("registry.db")).unwrap();
    let error = String::from_utf8(run(&["run", "--state", state]).stderr).unwrap();
    assert!(error.contains("holds no registry") && error.contains("init --state"), "{error}");
}
