//! How hosts get in, and who does not.

use echelon_tests::{Agent, Answer, Manager, Sandbox, wait_until};
use std::io::Write;
use std::process::Stdio;

/// The same token with another secret.
fn forged(token: &str) -> String {
    let mut parts: Vec<_> = token.split('.').map(ToOwned::to_owned).collect();
    parts[2] = "0".repeat(parts[2].len());
    parts.join(".")
}

/// The same token for another authority.
fn for_another_root(token: &str) -> String {
    let mut parts: Vec<_> = token.split('.').map(ToOwned::to_owned).collect();
    parts[3] = "0".repeat(parts[3].len());
    parts.join(".")
}

/// Whoever tries tokens learns nothing from the answers: an unknown, a forged, a used-up, an expired, a
/// revoked one, one for another host and one for another domain are all refused in the same words. The
/// reason is in the manager's log.
#[test]
fn every_bad_token_is_refused_with_one_and_the_same_answer() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let console = manager.console();
    console.ok("domain add /x");
    let refused_at = |token: &str, arguments: &str| -> Answer {
        let stranger = Agent::new(&sandbox, "stranger");
        let answer = stranger.enroll(manager.listen(), token, arguments);
        assert!(!stranger.identity().join("identity.pem").exists(), "an identity was given out");
        std::fs::remove_dir_all(stranger.state()).unwrap();
        answer
    };
    let refused = |token: &str| refused_at(token, "");
    let used = manager.token("");
    assert_eq!(Agent::new(&sandbox, "first").enroll(manager.listen(), &used, "").code, 0);
    let revoked = console.object("token create");
    console.ok(&format!("token revoke {}", revoked["id"].as_str().unwrap()));
    let expired = manager.token("--ttl 1s --uses 9");
    let answers = [
        ("forged", refused(&forged(&manager.token("")))),
        ("used up", refused(&used)),
        ("revoked", refused(revoked["token"].as_str().unwrap())),
        ("of another host", refused(&manager.token("--host somebody"))),
        ("of another domain", refused_at(&manager.token("--domain /x"), "--domain /")),
        ("of another level", refused(&manager.token("--access viewer"))),
        ("expired", {
            let seconds = std::time::Duration::from_millis(1100);
            std::thread::sleep(seconds); // a token's life is told in whole seconds, and has no event at its end
            refused(&expired)
        }),
    ];
    for (name, answer) in &answers {
        assert_eq!(answer.code, 5, "{name}: {answer:?}");
        assert_eq!(answer.err, answers[0].1.err, "{name}");
    }
    let log = manager.process().log();
    for reason in [
        "unknown token or wrong secret",
        "used up",
        "expired",
        "another host",
        "outside the token's domain",
        "another access level",
    ] {
        assert!(log.contains(reason), "the log does not say: {reason}");
    }
    let hosts: Vec<_> = console.objects("host list").iter().map(|h| h["name"].clone()).collect();
    assert_eq!(hosts, ["first", "hub"], "a refused enrolment leaves no host behind");
}

/// A token pins the authority: it is shown to no manager of another one.
#[test]
fn a_token_is_not_shown_to_another_authority() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let host = Agent::new(&sandbox, "h");
    let token = manager.token("");
    let answer = host.enroll(manager.listen(), &for_another_root(&token), "");
    assert_ne!(answer.code, 0, "{answer:?}");
    assert!(answer.err.contains("another authority"), "{answer:?}");
    let answer = host.enroll(manager.listen(), &token, "");
    assert_eq!(answer.code, 0, "the token was not used up: {answer:?}");
}

/// A host that is enrolled keeps its identity: another one needs a token that says so, and denies the first.
#[test]
fn an_enrolled_host_is_replaced_only_with_a_token_for_that() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let mut first = Agent::enrolled(&manager, "h");
    first.start_ready();
    manager.wait_in_sync(1);
    let refused = |token: &str| {
        let thief = Agent::new(&sandbox, "h");
        std::fs::rename(first.state(), sandbox.path("aside")).unwrap();
        let answer = thief.enroll(manager.listen(), token, "");
        if answer.code != 0 {
            std::fs::remove_dir_all(thief.state()).unwrap();
            std::fs::rename(sandbox.path("aside"), first.state()).unwrap();
        }
        answer.code
    };
    assert_eq!(refused(&manager.token("--host h")), 5);
    assert_eq!(refused(&manager.token("")), 5);
    assert_eq!(refused(&manager.token("--host h --replace")), 0);
    // The session of the first enrolment ends, and it gets no other.
    wait_until("the end of the denied session", || manager.status()["agents_connected"] == 0);
}

/// Enrolling again in a state directory that is enrolled changes nothing and uses no token up.
#[test]
fn a_second_enrolment_of_the_same_directory_changes_nothing() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let host = Agent::enrolled(&manager, "h");
    let key = std::fs::read(host.identity().join("identity.pem")).unwrap();
    let revision = manager.status()["revision"].clone();
    let answer = host.enroll(manager.listen(), &forged(&manager.token("")), "");
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(std::fs::read(host.identity().join("identity.pem")).unwrap(), key);
    assert_eq!(manager.status()["revision"].as_u64(), revision.as_u64().map(|r| r + 1), "only the token");
}

/// Arguments are seen by every user of a machine: a token among them is refused, and not repeated.
#[test]
fn a_token_among_the_arguments_is_refused_with_a_hint() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let token = manager.token("");
    let host = Agent::new(&sandbox, "h");
    for arguments in [format!("--token {token}"), format!("--token={token}"), token.clone()] {
        let answer = Answer::of(host.enroll_command(manager.listen(), &arguments));
        assert_ne!(answer.code, 0, "{answer:?}");
        assert!(answer.err.contains("ECHELON_TOKEN") && answer.err.contains("--token-file"), "{answer:?}");
        assert!(!answer.err.contains(&token) && !answer.out.contains(&token), "{answer:?}");
        assert!(!host.state().exists(), "nothing was done");
    }
    let standby = Manager::in_directory(&sandbox, "standby", sandbox.endpoint(29120));
    for arguments in [vec!["--token", &token], vec![&token], vec!["--token-file", &token]] {
        let answer = Answer::of(standby.join_command("standby", &manager).args(arguments));
        assert_eq!(answer.code, 2, "{answer:?}");
        assert!(answer.err.contains("ECHELON_TOKEN") && !answer.err.contains(&token), "{answer:?}");
        assert!(!standby.state().exists(), "nothing was done");
    }
    // One that does not do says which one does, and how it is made.
    let answer = Answer::of(standby.join_command("standby", &manager).env("ECHELON_TOKEN", &token));
    assert_eq!(answer.code, 5, "{answer:?}");
    assert!(answer.err.contains("echelon token create --access manager --host standby"), "{answer:?}");
    let answer = manager.console().run(&format!("token revoke {token}"));
    assert_ne!(answer.code, 0, "{answer:?}");
    assert!(answer.err.contains("ECHELON_TOKEN") && !answer.err.contains(&token), "{answer:?}");
}

/// The ways that are left: the environment, a file of this user alone, standard input.
#[test]
fn tokens_come_by_environment_file_or_standard_input() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    Agent::enrolled(&manager, "by-environment");
    let path = sandbox.path("join.token");
    manager.console().ok(&format!("token create --out {}", path.display()));
    let by_file = Agent::new(&sandbox, "by-file");
    let from_file = format!("--token-file {}", path.display());
    let answer = Answer::of(by_file.enroll_command(manager.listen(), &from_file));
    assert_eq!(answer.code, 0, "{answer:?}");

    let by_input = Agent::new(&sandbox, "by-input");
    let mut command = by_input.enroll_command(manager.listen(), "--token-file -");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", manager.token("")).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(manager.status()["hosts"], 4);
}

/// No log of any process, however talkative, and no file of an agent holds the secret of a token.
#[test]
fn secrets_of_tokens_are_in_no_log_and_on_no_disk() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::init(&sandbox);
    manager.log_as("trace");
    manager.start();
    let token = manager.token("--uses 2");
    let mut agent = Agent::new(&sandbox, "h");
    agent.log_as("trace");
    let mut said = String::new();
    for token in [&forged(&token), &token] {
        let mut command = agent.enroll_command(manager.listen(), "");
        let answer = Answer::of(command.env("ECHELON_TOKEN", token).env("ECHELON_LOG", "trace"));
        said += &(answer.out + &answer.err);
    }
    agent.start_ready();
    manager.wait_in_sync(1);
    assert!(said.len() > 1000, "the log is at trace: {said}");
    agent.terminate();
    manager.terminate();
    let secret = token.split('.').nth(2).unwrap();
    let bytes = blake3_input(secret);
    for (path, log) in sandbox.all_logs().into_iter().chain([("enroll".into(), said)]) {
        assert!(!log.contains(secret), "{} holds the secret", path.display());
    }
    for directory in [agent.state(), manager.state()] {
        for (path, content) in files(directory) {
            let holds = |needle: &[u8]| content.windows(needle.len()).any(|part| part == needle);
            assert!(!holds(secret.as_bytes()) && !holds(&bytes), "{} holds the secret", path.display());
        }
    }
}

/// A secret as bytes.
fn blake3_input(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn files(directory: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => std::fs::read(&path).map(|content| vec![(path, content)]).unwrap_or_default(),
    };
    entries.flat_map(below).collect()
}
