//! What people get wrong, and what they are told: where it is, what is wrong, and what to do.

use echelon_tests::manager::FRAMEWORK;
use echelon_tests::{Agent, Answer, Console, Manager, Sandbox};
use std::process::Command;

/// Most bytes that an error may have, however large what it complains about.
const MAX_ERROR: usize = 2048;

/// Address space of a console that reads a file without an end.
const MEMORY_KIB: u32 = 1 << 20;

struct Case {
    name: &'static str,
    text: String,
    /// Line and column.
    at: (usize, usize),
    /// What the message has to name.
    says: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |name, text: &str, at, says| {
        let begin =
            if text.starts_with('{') { String::new() } else { format!("framework = {FRAMEWORK:?}\n") };
        Case { name, text: begin + text, at, says }
    };
    let long = format!("[[host]]\nname = \"{}\"\n", "x".repeat(300));
    vec![
        case("unknown key", "[[host]]\nname = \"a\"\ndomian = \"/x\"\n", (4, 1), "domain"),
        case("unknown table", "[[hots]]\nname = \"a\"\n", (2, 3), "host"),
        case("malformed path", "[[host]]\nname = \"a\"\ndomain = \"x/\"\n", (4, 10), "/emea/de"),
        case("empty step", "[[domain]]\npath = \"/a//b\"\n", (3, 8), "//"),
        case("duplicate host", "[[host]]\nname = \"a\"\n[[host]]\nname = \"a\"\n", (5, 8), "twice"),
        case("wrong type", "[[host]]\nname = 7\n", (3, 8), "name"),
        case("wrong type below", "[[host]]\nname = \"a\"\npackages = \"audit\"\n", (4, 12), "packages"),
        case("not TOML", "[[host]\nname = \"a\"\n", (2, 8), "TOML"),
        case("not JSON", "{\"host\": [}", (1, 11), "JSON"),
        case("long name", &long, (3, 8), "300 bytes"),
        case("escape in a name", "[[host]]\nname = \"a\\u001b[2J\"\n", (3, 8), "position 2"),
        case("raw control character", "[[host]]\nname = \"a\u{1b}[2J\"\n", (3, 10), "control character"),
        case("port 0", "[[host]]\nname = \"a\"\npackages = [\"audit:0\"]\n", (4, 13), "port"),
        case("duration", "[[policy]]\nfailback_hold = \"soon\"\n", (3, 17), "30s"),
        case("another walk", "[[policy]]\nwalk = \"random\"\n", (3, 8), "chain"),
        case("a later format", "format = 2\n", (2, 10), "1"),
        case("no framework", "{\"host\": []}", (1, 1), "framework"),
    ]
}

fn no_control_characters(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control())
}

/// A broken topology file is answered with file, line, column, cause and remedy, and changes nothing.
#[test]
fn a_broken_topology_file_is_answered_with_the_place_and_the_remedy() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    for Case { name, text, at, says } in cases() {
        let path = sandbox.file("broken.toml", &text);
        let answer = console.fails(1, &format!("apply {}", path.display()));
        let place = format!("{}:{}:{}", path.display(), at.0, at.1);
        assert!(answer.err.contains(&place), "{name}: no {place} in {answer:?}");
        assert!(answer.err.contains(says), "{name}: no {says:?} in {answer:?}");
        assert!(answer.err.len() < MAX_ERROR && no_control_characters(&answer.err), "{name}: {answer:?}");
        assert_eq!(answer.out, "", "{name}");
        let error = console.fails(1, &format!("apply {} --output json", path.display())).error();
        assert_eq!((&error["exit"], &error["where"]), (&1.into(), &place.into()), "{name}");
        assert_eq!(error["retry"], "pointless", "{name}: {error}");
    }
    assert_eq!(manager.status()["revision"], 0, "nothing was changed");
}

/// Files that are none at all: large, binary, without end, of another framework.
#[test]
fn files_that_are_no_topology_are_refused_in_bounded_time_and_words() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let noise: Vec<u8> = noise().take(10 << 20).collect();
    let text: Vec<u8> = noise.iter().map(|byte| b'!' + byte % 90).collect();
    let nested = format!("a = {}", "[".repeat(100_000));
    let files: [(&str, &[u8]); 4] = [
        ("noise.toml", &noise),
        ("text.toml", &text),
        ("nested.toml", nested.as_bytes()),
        ("nul.toml", &[0; 1000]),
    ];
    for (name, content) in files {
        let path = sandbox.file(name, content);
        let answer = console.fails(1, &format!("apply {}", path.display()));
        assert!(answer.err.contains(name), "{name}: {answer:?}");
        assert!(answer.err.len() < MAX_ERROR && no_control_characters(&answer.err), "{name}: {answer:?}");
    }
    // With far more memory than it may take, and far less than a file without an end has.
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"")]);
    let apply = console.command(["apply", "/dev/zero"]);
    let endless = Answer::of(shell.arg(apply.get_program()).args(apply.get_args()));
    assert_eq!(endless.code, 1, "{endless:?}");
    assert!(endless.err.contains("/dev/zero") && endless.err.contains("at most"), "{endless:?}");
    console.fails(1, &format!("apply {}", sandbox.path("absent.toml").display()));
    console.fails(1, &format!("apply {}", sandbox.path("").display()));
    assert_eq!(manager.status()["revision"], 0, "nothing was changed");
}

/// Bytes that look random and are the same in every run (a linear congruential generator, Knuth's MMIX).
pub(crate) fn noise() -> impl Iterator<Item = u8> {
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(1_u64), next).map(|state| (state >> 56) as u8)
}

/// Commands that are valid and cannot be carried out: exit codes and the JSON that scripts rely on.
#[test]
fn refused_commands_say_why_with_the_exit_code_of_their_kind() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    console.ok("domain add /a /a/b /a/b/c");
    console.ok("host add h1 --domain /a/b");
    for (code, command, name) in [
        (3, "domain move /a --parent /a/b/c", "domain-cycle"),
        (3, "domain move /a --parent /a", "domain-cycle"),
        (3, "domain add /a", "domain-exists"),
        (3, "domain remove /a/b --recursive", "domain-not-empty"),
        (3, "host add h1 --domain /", "host-exists"),
        (3, "host add h2 --domain / --if-revision 1", "revision-moved"),
        (1, "host add h2 --domain /nowhere", "unknown-domain"),
        (1, "host move nobody --domain /a", "unknown-host"),
        (1, "package withdraw h1 audit", "unknown-package"),
        (1, "route --host nobody --type registry", "unknown-host"),
        (3, "package remove hub registry", "registry-package"),
    ] {
        let error = console.fails(code, &format!("{command} --output json")).error();
        assert_eq!((&error["error"], &error["exit"]), (&name.into(), &code.into()), "{command}: {error}");
        for key in ["message", "where", "remedy", "retry"] {
            assert!(error[key].is_string(), "{command}: {error}");
        }
        assert_ne!(error["message"], "", "{command}");
    }
    assert_eq!(manager.status()["revision"], 2, "nothing of it was carried out");
}

/// Names from the command line are checked before anybody is asked, and reach no terminal unescaped.
#[test]
fn bad_names_on_the_command_line_are_answered_without_echoing_them() {
    let console = Console::new("/nonexistent".as_ref());
    let long = "x".repeat(300);
    for name in [long.as_str(), "a\u{1b}[2J", "a\u{7}", "a\rb", "a\nb", "A", "", "-a.", "ä"] {
        let answer = console.run_with(["host", "show", "--", name]);
        assert_eq!(answer.code, 2, "{name:?}: {answer:?}");
        assert!(answer.err.len() < MAX_ERROR && no_control_characters(&answer.err), "{name:?}: {answer:?}");
    }
}

/// A file is one revision, and none the second time; one of another framework lands in no wrong registry.
#[test]
fn a_good_file_is_applied_whole_and_once() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let text = format!("framework = {FRAMEWORK:?}\n[[host]]\nname = \"a\"\ndomain = \"/x/y\"\n");
    let path = sandbox.file("good.toml", text);
    let shown = manager.console().ok(&format!("apply {}", path.display()));
    assert!(shown.contains("/x/y") && shown.contains('a'), "{shown}");
    assert_eq!(manager.status()["revision"], 1, "one revision for all of it");
    manager.console().ok(&format!("apply {}", path.display()));
    let other = sandbox.file("other.toml", "framework = \"other\"\n[[host]]\nname = \"b\"\n");
    let refused = manager.console().fails(3, &format!("apply {}", other.display()));
    assert!(refused.err.contains("other") && refused.err.contains(FRAMEWORK), "{refused:?}");
    assert_eq!(manager.status()["revision"], 1, "neither changed anything");
}

/// A settings file with a key that means nothing is refused at the start, with the key and its line.
#[test]
fn settings_files_are_checked() {
    let sandbox = Sandbox::new();
    let manager = Manager::init(&sandbox);
    for (settings, says) in [
        ("\nlissten = \"127.0.0.1:1\"\n", ["lissten", "2"]),
        ("listen = 7\n", ["listen", "1"]),
        ("host_certificates = \"1s\"\n", ["host_certificates", "10s"]),
    ] {
        manager.configure(settings);
        let answer = Answer::of(manager.run_command());
        assert_eq!(answer.code, 1, "{settings}: {answer:?}");
        assert!(says.iter().all(|word| answer.err.contains(word)), "{settings}: {answer:?}");
    }
}

/// What cannot be listened at, forwarded or enrolled is said before anything is done.
#[test]
fn an_agent_refuses_arguments_that_make_no_sense() {
    let sandbox = Sandbox::new();
    let agent = Agent::new(&sandbox, "h");
    let run = |arguments: &[&str]| Answer::of(agent.run_command().args(arguments));
    for arguments in [
        ["--forward", "command-control"],
        ["--forward", "UP=127.0.0.1:7000"],
        ["--forward", "command-control=0.0.0.0:7000"],
        ["--forward", "command-control=127.0.0.1:70000"],
        ["--api", "nowhere"],
        ["--manager", "nowhere"],
    ] {
        let answer = run(&arguments);
        assert_eq!(answer.code, 2, "{arguments:?}: {answer:?}");
        assert!(answer.err.contains(arguments[0]), "{arguments:?}: {answer:?}");
    }
    let answer = run(&[]);
    assert_eq!(answer.code, 1, "not enrolled: {answer:?}");
    assert!(answer.err.contains("enroll"), "{answer:?}");
}
