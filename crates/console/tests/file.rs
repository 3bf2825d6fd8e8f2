//! The commands that work on a topology file alone, run as a user runs them.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The reference case of docs/routing.md.
const REFERENCE: &str = r#"
framework = "acme"

[[host]]
name = "framework-manager"
address = "127.0.0.10"
packages = ["command-control:7000"]

[[host]]
name = "agent1"
domain = "/sub1"
address = "127.0.0.11"
packages = ["command-control:7000"]

[[host]]
name = "agent2"
domain = "/sub1"
address = "127.0.0.12"
packages = ["audit"]

[[host]]
name = "agent3"
domain = "/sub1/sub1a"
address = "127.0.0.13"
packages = ["command-control:7000"]

[[host]]
name = "agent4"
domain = "/sub1/sub1a"
address = "127.0.0.14"
"#;

const WITHDRAWN: &str = r#"
[[host.package]]
type = "command-control"
port = 7000
state = "withdrawn"
"#;

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("topology.toml");
    std::fs::write(&path, text).unwrap();
    File { _dir: dir, path }
}

impl File {
    /// Runs `echelon LINE --file FILE`.
    fn run(&self, line: &str) -> Output {
        let arguments =
            line.split_whitespace().map(Into::into).chain(["--file".into(), self.path.clone().into()]);
        echelon(arguments.collect())
    }

    fn text(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Vec<Value> {
        let text = self.text(&format!("{line} --output json"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn echelon(arguments: Vec<std::ffi::OsString>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_echelon"))
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .unwrap()
}

fn words(line: &str) -> Vec<std::ffi::OsString> {
    line.split_whitespace().map(Into::into).collect()
}

/// Who serves agent1, agent2, agent3, agent4.
fn served(file: &File, down: &str) -> [String; 4] {
    let reports = file.json(&format!("route --all --type command-control {down}"));
    ["agent1", "agent2", "agent3", "agent4"].map(|host| {
        let report = reports.iter().find(|r| r["host"] == host).unwrap();
        report["chosen"]["host"].as_str().unwrap().to_owned()
    })
}

#[test]
fn the_reference_case_routes_as_the_contract_says() {
    let file = file(REFERENCE);
    assert_eq!(served(&file, ""), ["agent1", "agent1", "agent3", "agent3"]);
    assert_eq!(served(&file, "--down agent3"), ["agent1"; 4]);
    assert_eq!(served(&file, "--down agent3 --down agent1:command-control"), ["framework-manager"; 4]);
}

#[test]
fn the_shipped_example_is_the_reference_case() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/reference/topology.toml");
    let file = file(&std::fs::read_to_string(shipped).unwrap());
    assert_eq!(served(&file, ""), ["agent1", "agent1", "agent3", "agent3"]);
    assert_eq!(served(&file, "--down agent3:command-control"), ["agent1"; 4]);
    assert_eq!(served(&file, "--down agent3 --down agent1"), ["framework-manager"; 4]);
}

#[test]
fn a_withdrawn_manager_serves_nobody() {
    let text = REFERENCE.replacen("packages = [\"command-control:7000\"]\n", WITHDRAWN, 1);
    let file = file(&text);
    assert_eq!(served(&file, "--down agent1"), ["agent3"; 4]);
    let entries = file.json("package list --state withdrawn");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["host"], "framework-manager");
}

#[test]
fn a_route_from_a_file_has_the_shape_that_scripts_rely_on() {
    let file = file(REFERENCE);
    let reports = file.json("route --host agent4 --type command-control --down agent3");
    let [report] = reports.as_slice() else { panic!("{reports:?}") };
    for absent in ["lineage", "epoch", "revision", "age_ms", "since_ms", "source"] {
        assert!(report.get(absent).is_none(), "{absent}");
    }
    assert_eq!(
        (&report["basis"], &report["outcome"], &report["home"]),
        (&"settled".into(), &"failover".into(), &"agent3".into())
    );
    assert_eq!(report["chosen"], serde_json::json!({"host": "agent1", "endpoint": "127.0.0.11:7000"}));
    assert!(report["cause"].as_str().unwrap().contains("agent3"));
    let candidates = report["candidates"].as_array().unwrap();
    let order: Vec<_> =
        candidates.iter().map(|c| (c["rank"].as_u64().unwrap(), c["host"].as_str().unwrap())).collect();
    assert_eq!(order, [(1, "agent3"), (2, "agent1"), (3, "framework-manager")]);
    let first = candidates[0].as_object().unwrap();
    let mut keys: Vec<_> = first.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "domain",
            "down",
            "endpoint",
            "host",
            "priority",
            "rank",
            "reason",
            "role",
            "same_host",
            "state",
            "up",
            "weight"
        ]
    );
    assert_eq!(first["state"], "down");
}

#[test]
fn people_get_a_sentence_and_the_candidates() {
    let file = file(REFERENCE);
    let text = file.text("route --host agent4 --type command-control --down agent3");
    assert!(text.starts_with("agent4 → agent1 (127.0.0.11:7000), failover: "), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours where no terminal is: {text:?}");
    assert_eq!(text.lines().count(), 2 + 1 + 3, "{text}");
    let text = file.text("route --all --type command-control --candidates 1");
    assert_eq!(text.lines().count(), 1 + 5, "{text}");
}

#[test]
fn candidates_can_be_limited() {
    let reports = file(REFERENCE).json("route --all --type command-control --candidates 2");
    assert!(reports.iter().all(|r| r["candidates"].as_array().unwrap().len() == 2));
    assert_eq!(reports.len(), 5);
}

#[test]
fn nobody_serves_a_type_that_is_inventory_only() {
    let reports = file(REFERENCE).json("route --host agent1 --type audit");
    assert_eq!((&reports[0]["outcome"], &reports[0]["chosen"]), (&"unserved".into(), &Value::Null));
}

#[test]
fn the_tree_shows_domains_hosts_and_states() {
    let file = file(REFERENCE);
    let expected = "\
/  framework acme
├─ framework-manager  command-control live 127.0.0.10:7000
└─ sub1/
   ├─ agent1  command-control live 127.0.0.11:7000
   ├─ agent2  audit
   └─ sub1a/
      ├─ agent3  command-control live 127.0.0.13:7000
      └─ agent4
";
    assert_eq!(file.text("tree"), expected);
    let entries = file.json("tree /sub1/sub1a");
    let kinds: Vec<_> = entries.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["domain", "host", "host"]);
    assert_eq!(entries[1]["packages"][0]["state"], "live");
}

#[test]
fn lists_are_narrowed() {
    let file = file(REFERENCE);
    let names = |line: &str| {
        let names =
            file.json(line).iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        names.join(" ")
    };
    assert_eq!(names("host list"), "agent1 agent2 agent3 agent4 framework-manager");
    assert_eq!(names("host list --domain /sub1"), "agent1 agent2 agent3 agent4");
    assert_eq!(names("host list --domain /sub1/sub1a --type command-control"), "agent3");
    assert_eq!(names("host list --without-type command-control"), "agent2 agent4");
    assert_eq!(file.json("package list").len(), 4);
    assert_eq!(file.json("package list --type audit")[0]["state"], Value::Null);
    assert_eq!(file.json("package list --state live").len(), 3);
    assert_eq!(file.json("package list --state down").len(), 0);
}

fn error(output: &Output) -> Value {
    serde_json::from_slice(&output.stderr).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn a_bad_file_is_answered_with_its_place() {
    let file = file("framework = \"acme\"\n\n[[host]]\nname = \"a\"\ndomian = \"/\"\n");
    let output = file.run("tree --output json");
    let error = error(&output);
    assert_eq!((output.status.code(), &error["exit"]), (Some(1), &1.into()));
    assert!(error["where"].as_str().unwrap().ends_with("topology.toml:5:1"), "{error}");
    assert!(error["message"].as_str().unwrap().contains("did you mean domain?"), "{error}");
    let text = String::from_utf8(file.run("tree").stderr).unwrap();
    assert!(text.starts_with("error: ") && text.contains("\nwhere: "), "{text}");
}

#[test]
fn garbage_is_answered_and_never_a_panic() {
    let garbage: Vec<u8> = (0..10_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("garbage");
    std::fs::write(&path, garbage).unwrap();
    for what in [path, dir.path().to_owned(), dir.path().join("none"), "/dev/null".into()] {
        let output = echelon(vec!["tree".into(), "--output=json".into(), "--file".into(), what.into()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(error(&output)["exit"], 1);
    }
}

#[test]
fn unknown_names_are_answered_with_what_to_do() {
    let file = file(REFERENCE);
    for (line, name) in [
        ("tree /nowhere", "unknown-domain"),
        ("host list --domain /nowhere", "unknown-domain"),
        ("route --host agent9 --type command-control", "unknown-host"),
        ("route --all --type command-control --down agent9", "unknown-host"),
        ("route --all --type command-contol", "unknown-type"),
    ] {
        let output = file.run(&format!("{line} --output json"));
        let error = error(&output);
        assert_eq!((output.status.code(), error["error"].as_str()), (Some(1), Some(name)), "{line}");
        assert!(!error["remedy"].as_str().unwrap().is_empty());
    }
}

#[test]
fn without_an_identity_nothing_is_asked() {
    let output = echelon(words("host add agent5 --domain / --output json"));
    assert_eq!(error(&output)["error"], "no-identity");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let output = echelon(words("route --type x --output json"));
    let error = error(&output);
    assert_eq!((output.status.code(), error["error"].as_str()), (Some(2), Some("command-line")));
    let output = echelon(words("treee"));
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let output = echelon(words("tree --help"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_token_among_the_arguments_is_refused() {
    let token = format!("ech1.{}.{}.{}", "a".repeat(32), "b".repeat(64), "c".repeat(64));
    let output = echelon(words(&format!("token revoke {token}")));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("ECHELON_TOKEN") && !text.contains(&"b".repeat(8)), "{text}");
}

#[test]
fn whoever_stops_reading_is_no_fault() {
    let file = file(REFERENCE);
    let mut child = Command::new(env!("CARGO_BIN_EXE_echelon"))
        .args(["completion", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
    assert!(file.run("tree").status.success());
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let output = echelon(vec!["man".into(), dir.path().into()]);
    assert!(output.status.success(), "{output:?}");
    for page in ["echelon.1", "echelon-route.1", "echelon-token-create.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    assert_eq!(echelon(vec!["man".into(), dir.path().join("none").into()]).status.code(), Some(1));
}
