//! The examples, as the README tells to run them.

use echelon_tests::binaries::{binaries, workspace};
use echelon_tests::{Answer, Console, Sandbox};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The commands that work on a file alone need no identity.
fn console() -> Console {
    Console::new(Path::new("/nonexistent"))
}

fn example(name: &str) -> PathBuf {
    workspace().join("examples").join(name)
}

/// Every topology among the examples is one.
#[test]
fn all_topologies_are_read() {
    let directories = fs::read_dir(workspace().join("examples")).unwrap();
    let files = directories.map(|entry| entry.unwrap().path().join("topology.toml"));
    let topologies: Vec<_> = files.filter(|path| path.exists()).collect();
    assert!(topologies.len() >= 2, "{topologies:?}");
    for path in topologies {
        let tree = console().ok(&format!("tree --file {}", path.display()));
        assert!(tree.starts_with('/'), "{tree}");
    }
}

fn served(line: &str) -> Vec<String> {
    let file = example("reference/topology.toml");
    let line = format!("route --file {} --type command-control {line}", file.display());
    let name = |route: &Value| route["chosen"]["host"].as_str().unwrap_or("nobody").to_owned();
    console().objects(&line).iter().map(name).collect()
}

/// The worked example of docs/routing.md, host by host and row by row; the last row, with a withdrawal, is
/// in the lab's script.
#[test]
fn the_reference_case_is_answered_as_the_contract_says() {
    for (host, answers) in [
        ("agent1", ["agent1", "agent1", "framework-manager"]),
        ("agent2", ["agent1", "agent1", "framework-manager"]),
        ("agent3", ["agent3", "agent1", "framework-manager"]),
        ("agent4", ["agent3", "agent1", "framework-manager"]),
    ] {
        let downs = ["", "--down agent3", "--down agent3 --down agent1:command-control"];
        for (down, answer) in downs.into_iter().zip(answers) {
            assert_eq!(served(&format!("--host {host} {down}")), [answer], "{host} {down}");
        }
    }
    // By name: the four agents, then the host of the framework's own manager.
    let all = ["agent1", "agent1", "agent3", "agent3", "framework-manager"];
    assert_eq!(served("--all"), all);
    let down = "--all --down agent1 --down agent3 --down framework-manager";
    assert_eq!(served(down), ["agent1", "agent1", "agent3", "agent3", "framework-manager"], "last resort");
}

/// The story of the README: managers die, then the registry, and no call goes unanswered.
#[test]
fn the_failover_script_passes_in_the_lab() {
    let sandbox = Sandbox::new();
    // On addresses of its own, so that somebody may have the example running beside it.
    let mut topology = fs::read_to_string(example("reference/topology.toml")).unwrap();
    for last in 10..=14 {
        let (theirs, ours) = (format!("\"127.0.0.{last}\""), format!("\"{}\"", sandbox.address_with(last)));
        assert!(topology.contains(&theirs), "no {theirs} in the example");
        topology = topology.replace(&theirs, &ours);
    }
    let mut lab = sandbox.command(&binaries().lab);
    lab.arg(sandbox.file("topology.toml", topology));
    lab.arg("--script").arg(example("reference/failover.lab"));
    let answer = Answer::of(lab);
    assert_eq!(answer.code, 0, "{}\n{}", answer.out, answer.err);
}
