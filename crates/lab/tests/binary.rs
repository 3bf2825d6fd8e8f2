//! The command `echelon-lab`: what it prints, and how it exits.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The reference case at addresses that the lab chooses, so that tests can run beside each other.
struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = include_str!("../../../examples/reference/topology.toml");
        let text = text.replace("address = \"127.0.0.", "address = \"10.0.0.");
        std::fs::write(directory.path().join("topology.toml"), text).unwrap();
        Self { directory }
    }

    fn topology(&self) -> PathBuf {
        self.directory.path().join("topology.toml")
    }

    fn script(&self, text: &str) -> PathBuf {
        let path = self.directory.path().join("script.lab");
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Runs the lab with these arguments and this on its standard input.
fn lab<S: AsRef<std::ffi::OsStr>>(arguments: &[S], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_echelon-lab"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not get as far as reading closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn with<'a>(case: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    std::iter::once(case.to_str().unwrap()).chain(more.iter().copied()).collect()
}

#[test]
fn a_pipe_of_commands_gives_one_object_a_line() {
    let case = Case::new();
    let input = "expect agent4 command-control agent3 # settles\n\ncall agent4 command-control\n\
                 down agent3\nexpect agent4 command-control agent1\nroutes command-control\nregistry down\n";
    let done = lab(&with(&case.topology(), &["--output", "json"]), input);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let lines: Vec<Value> = text(&done.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let started = &lines[0]["started"];
    assert_eq!((&started["manager"], &started["hosts"]), (&"framework-manager".into(), &5.into()));
    let of = |command: &str| lines.iter().filter(|l| l["command"] == command).collect::<Vec<_>>();
    let call = of("call agent4 command-control")[0];
    assert_eq!(call["answered"], "agent3");
    assert!(call["took_ms"].as_f64().unwrap() > 0.0 && call["at_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(of("down agent3")[0]["state"], "down");
    let expect = of("expect agent4 command-control agent1")[0];
    assert_eq!((&expect["met"], &expect["fault"]), (&true.into(), &"down agent3".into()));
    let routes = of("routes command-control");
    assert_eq!(routes.len(), 5);
    let agent4 = routes.iter().find(|r| r["host"] == "agent4").unwrap();
    assert_eq!((&agent4["chosen"], &agent4["outcome"]), (&"agent1".into(), &"failover".into()));
    assert_eq!(of("registry down")[0]["running"], false);
}

#[test]
fn an_expectation_that_is_not_met_ends_the_script_with_exit_code_1() {
    let case = Case::new();
    let script = case.script("# never\nexpect agent4 command-control agent1 within 200ms\ndown agent3\n");
    let done = lab(&with(&case.topology(), &["--script", script.to_str().unwrap()]), "");
    assert_eq!(done.status.code(), Some(1));
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(out.contains("agent3 answers, not agent1 after 2"), "{out}");
    assert!(!out.contains("down agent3"), "{out}");
    assert!(
        err.contains("script.lab:2: expect agent4 command-control agent1 within 200ms was not met"),
        "{err}"
    );
}

#[test]
fn what_is_wrong_is_found_before_anything_starts() {
    let case = Case::new();
    for (script, expected) in [
        ("quit\ncal agent4 command-control", "script.lab:2: there is no command \"cal\""),
        ("\n\ncall agent9 command-control", "script.lab:3: the topology has no host agent9: use agent1"),
    ] {
        let script = case.script(script);
        let done = lab(&with(&case.topology(), &["--script", script.to_str().unwrap()]), "");
        let err = text(&done.stderr);
        assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{err}");
        assert!(err.contains(expected), "{err}");
    }
    std::fs::write(case.topology(), "framework = \"x\"\n[[host]]\nnam = \"a\"\n").unwrap();
    let done = lab(&with(&case.topology(), &["--output", "json"]), "");
    let error: Value = serde_json::from_slice(&done.stderr).unwrap();
    assert_eq!((done.status.code(), &error["exit"]), (Some(1), &1.into()));
    assert!(error["message"].as_str().unwrap().contains("topology.toml:3:1"), "{error}");
    assert_eq!(lab(&["--no-such-flag"], "").status.code(), Some(2));
    assert_eq!(lab(&["no-such-file.toml"], "").status.code(), Some(1));
}

#[test]
fn the_state_is_kept_where_that_is_wanted_and_two_labs_do_not_share_it() {
    let case = Case::new();
    let keep = case.directory.path().join("kept");
    let arguments = with(&case.topology(), &["--keep", keep.to_str().unwrap()]).join("\n");
    let arguments: Vec<&str> = arguments.lines().collect();
    let done = lab(&arguments, "quit\n");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(keep.join("manager/registry.db").exists() && keep.join("agents/agent4").is_dir());
    let again = lab(&arguments, "quit\n");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("is not empty: name a new directory with --keep"));
}
