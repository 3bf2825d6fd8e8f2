//! The binary's command line.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use echelon_identity::JoinToken;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-agent"));
    command.args(arguments).env_remove("ECHELON_TOKEN").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn token() -> JoinToken {
    JoinToken::generate([7; 32]).unwrap()
}

/// An address where nobody answers: a bound UDP socket that nobody reads.
fn deaf() -> (std::net::UdpSocket, String) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    (socket, addr)
}

fn enroll<'a>(state: &'a Path, manager: &'a str) -> Vec<&'a str> {
    vec!["enroll", "--state", state.to_str().unwrap(), "--host", "agent1", "--manager", manager]
}

#[test]
fn a_token_in_the_arguments_is_refused_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let token = token().expose();
    let secret = token.split('.').nth(2).unwrap();
    for argument in [token.clone(), format!("--token={token}"), format!("--token-file={token}")] {
        let mut arguments = enroll(&state, "127.0.0.1:1");
        arguments.push(&argument);
        let (code, out, err) = run(&mut agent(&arguments));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("ECHELON_TOKEN") && err.contains("--token-file"), "{err}");
        assert!(!err.contains(&secret[..8]), "{err}");
        assert!(!state.exists());
    }
}

#[test]
fn a_missing_a_damaged_and_an_open_token_are_each_answered() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let arguments = enroll(&state, "127.0.0.1:1");
    let (code, _, err) = run(&mut agent(&arguments));
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("ECHELON_TOKEN"), "{err}");
    let (code, _, err) = run(agent(&arguments).env("ECHELON_TOKEN", "ech1.damaged"));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("copy it whole"), "{err}");

    let file = dir.path().join("token");
    std::fs::write(&file, token().expose()).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let named = ["--token-file", file.to_str().unwrap()];
    let (code, _, err) = run(agent(&arguments).args(named));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("chmod 600"), "{err}");
    assert!(!state.exists());
}

#[test]
fn when_no_manager_answers_the_exit_code_says_so_and_nothing_is_enrolled() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (_deaf, manager) = deaf();
    let mut child = agent(&enroll(&state, &manager))
        .args(["--token-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", token().expose()).as_bytes()).unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let err = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(4), "{err}");
    assert!(err.contains(&manager) && err.contains("repeating is safe"), "{err}");
    assert!(!state.join("identity").exists());

    let (code, _, err) = run(&mut agent(&["run", "--state", state.to_str().unwrap()]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("registry-agent enroll"), "{err}");
}

#[test]
fn wrong_arguments_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    for (arguments, what) in [
        (&["enroll", "--state", state][..], "--manager"),
        (&["enroll", "--manager", "nowhere"], "nowhere"),
        (&["enroll", "--manager", "127.0.0.1:1", "--host", "UPPER"], "lower-case"),
        (&["enroll", "--manager", "127.0.0.1:1", "--domain", "emea"], "begin with '/'"),
        (&["run", "--state", state, "--api", "0.0.0.0:1"], "loopback"),
        (&["run", "--state", state, "--forward", "127.0.0.1:1"], "TYPE=ADDR:PORT"),
        (&["run", "--state", state, "--forward", "audit=192.0.2.1:1"], "loopback"),
        (&["run", "--state", state, "--dns", "127.0.0.1:1"], "--dns"),
    ] {
        let (code, _, err) = run(&mut agent(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(what), "{arguments:?}: {err}");
    }
    let (code, _, err) = run(&mut agent(&["run", "--state", state]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("does not exist"), "{err}");
}

#[test]
fn a_bad_settings_file_is_named_with_its_place_and_the_printed_one_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.toml");
    std::fs::write(&file, "state = \"/nonexistent/agent\"\nforwarders = []\n").unwrap();
    let (code, _, err) = run(&mut agent(&["run", "--config", file.to_str().unwrap()]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("agent.toml:2:1: unknown key `forwarders`"), "{err}");

    let (code, defaults, _) = run(&mut agent(&["config", "--default"]));
    assert_eq!(code, Some(0));
    std::fs::write(&file, format!("state = \"/nonexistent/agent\"\n{defaults}")).unwrap();
    let (code, _, err) = run(&mut agent(&["run", "--config", file.to_str().unwrap()]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("/nonexistent/agent does not exist"), "{err}");
}
