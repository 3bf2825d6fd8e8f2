//! What bad files are answered with.

use crate::fault::{Fault, TopologyError};
use crate::read::{MAX_INPUT, parse};
use crate::topology::{PackageState, Topology};
use echelon_core::check::CheckKind;
use echelon_core::message::Failure;
use echelon_core::name::NameError;
use echelon_core::package::{Listens, Role};
use echelon_core::policy::{Failback, TypeSelector, Walk};
use proptest::prelude::*;
use std::time::{Duration, Instant};

const HEAD: &str = "format = 1\nframework = \"acme\"\n";

fn refused(text: &str) -> TopologyError {
    parse("acme.toml", text.as_bytes()).expect_err(text)
}

/// The one problem of a file with `HEAD` before `text`: its line within `text`, its column, its words.
fn problem(text: &str) -> (usize, usize, String) {
    let error = refused(&format!("{HEAD}{text}"));
    let [problem] = &error.problems[..] else { panic!("not one problem: {error}") };
    (problem.line - 2, problem.column, problem.fault.to_string())
}

fn taken(text: &str) -> Topology {
    parse("acme.toml", format!("{HEAD}{text}").as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

/// Asserts place and words of the one problem in each text.
fn assert_problems(cases: &[(&str, usize, usize, &str)]) {
    for (text, line, column, words) in cases {
        let (at, to, told) = problem(text);
        assert!((at, to) == (*line, *column) && told.contains(words), "{text}\ngave {at}:{to}: {told}");
    }
}

#[test]
fn the_whole_format_is_read() {
    let topology = taken(
        r#"
        [[domain]]
        path = "/emea/de"
        [[policy]]
        domain = "/emea"
        type = "command-control"
        walk = "hops"
        boundary = true
        failback = "dormant"
        failback_hold = "5m"
        failback_jitter = "0s"
        connect_hedge = "25ms"
        connect_timeout = "2s"
        drain_timeout = "1h"
        evidence_ttl = "1s"
        [[policy]]
        walk = "subtree"
        [[host]]
        name = "agent1"
        domain = "/sub1"
        address = "127.0.0.11"
        packages = ["audit:7001", "shell"]
        [[host.package]]
        type = "command-control"
        endpoint = "[::1]:7000"
        priority = 0
        weight = 65535
        state = "withdrawn"
        role = "primary"
        version = "1.4.2"
        check = { tcp = true, send = "ping\n", expect = "pong", timeout = "1s", misses = 3 }
        [[host]]
        name = "plain"
        "#,
    );
    assert_eq!(topology.framework.as_str(), "acme");
    assert_eq!(topology.domains, ["/emea/de".parse().unwrap()]);
    let [first, second] = &topology.policies[..] else { panic!() };
    assert_eq!((first.domain.to_string(), first.ty.to_string()), ("/emea".into(), "command-control".into()));
    let set = &first.settings;
    assert_eq!(
        (set.walk, set.boundary, set.failback),
        (Some(Walk::Hops), Some(true), Some(Failback::Dormant))
    );
    assert_eq!(set.failback_hold, Some(Duration::from_secs(300)));
    assert_eq!(set.failback_jitter, Some(Duration::ZERO));
    assert_eq!(set.connect_hedge, Some(Duration::from_millis(25)));
    assert_eq!(set.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(set.drain_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(set.evidence_ttl, Some(Duration::from_secs(1)));
    assert!(second.domain.is_root() && second.ty == TypeSelector::All);
    assert_eq!(second.settings.walk, Some(Walk::Subtree));

    let [agent1, plain] = &topology.hosts[..] else { panic!() };
    assert_eq!(
        (agent1.domain.as_ref().unwrap().to_string().as_str(), plain.domain.as_ref()),
        ("/sub1", None)
    );
    assert_eq!(agent1.address.as_ref().unwrap().to_string(), "127.0.0.11");
    let [audit, shell, control] = &agent1.packages[..] else { panic!() };
    assert_eq!(audit.spec.listens, Listens::Port(7001.try_into().unwrap()));
    assert!(!shell.is_manager() && shell.role.is_none() && shell.state.is_none());
    assert_eq!(control.spec.listens, Listens::At("[::1]:7000".parse().unwrap()));
    assert_eq!((control.spec.priority, control.spec.weight), (0, 65535));
    assert_eq!((control.state, control.role), (Some(PackageState::Withdrawn), Some(Role::Primary)));
    assert_eq!(control.spec.version.as_ref().unwrap().as_str(), "1.4.2");
    let check = &control.spec.check;
    let CheckKind::Exchange { send, expect } = &check.kind else { panic!() };
    assert_eq!((send.as_str(), expect.as_str()), ("ping\n", "pong"));
    // A check that demands an answer is made every 500 ms unless the file says otherwise.
    assert_eq!((check.interval.as_millis(), check.timeout.as_millis(), check.misses), (500, 1000, 3));
}

#[test]
fn json_of_the_same_shape_is_the_same_topology() {
    let toml = taken(
        "[[host]]\nname = \"a\"\npackages = [\"x:1\"]\n[[host.package]]\ntype = \"y\"\nport = 2\n\
         check = { interval = \"1s\" }\n[[policy]]\nwalk = \"hops\"\n",
    );
    let json = r#"{"framework":"acme","host":[{"name":"a","packages":["x:1"],
        "package":[{"type":"y","port":2,"check":{"interval":"1s"}}]}],"policy":[{"walk":"hops"}]}"#;
    assert_eq!(parse("acme", json.as_bytes()), Ok(toml.clone()));
    assert_eq!(parse("acme.json", format!("\u{feff}{json}").as_bytes()), Ok(toml));
}

#[test]
fn a_wrong_key_is_named_with_those_that_are_allowed() {
    assert_problems(&[
        (
            "frmework = 1\n",
            1,
            1,
            "unknown key \"frmework\" in the file, did you mean framework?; allowed are format,",
        ),
        (
            "[[host]]\nname = \"a\"\nadress = \"::1\"\n",
            3,
            1,
            "did you mean address?; allowed are name, domain,",
        ),
        ("[[host]]\nname = \"a\"\nzone = 1\n", 3, 1, "unknown key \"zone\" in host; allowed are name"),
        (
            "[[domain]]\npath = \"/a\"\n  paht = \"/b\"\n",
            3,
            3,
            "unknown key \"paht\" in domain, did you mean path?",
        ),
        ("[[policy]]\nwalks = \"hops\"\n", 2, 1, "unknown key \"walks\" in policy, did you mean walk?"),
        ("[[host]]\nname = \"a\"\n[[host.package]]\ntype = \"x\"\nprot = 1\n", 5, 1, "did you mean port?"),
        (
            "[[host]]\nname = \"a\"\n[[host.package]]\ntype = \"x\"\ncheck = { tpc = true }\n",
            5,
            11,
            "did you mean tcp?",
        ),
        ("[[host]]\nname = \"a\"\n\"\\u001b[2J\" = 1\n", 3, 1, "unknown key \"\\u{1b}[2J\""),
    ]);
}

#[test]
fn a_bad_name_is_pointed_at() {
    let long = format!("[[host]]\nname = \"{}\"\n", "a".repeat(300));
    assert_problems(&[
        (&long, 2, 8, "has 300 bytes: use at most 253"),
        ("[[host]]\nname = \"Web1\"\n", 2, 8, "has 'W' at position 1"),
        ("[[host]]\nname = \"a\\u0007b\"\n", 2, 8, "host name \"a\\u{7}b\" has '\\u{7}'"),
        ("[[host]]\nname = \"\"\n", 2, 8, "is empty"),
        ("[[host]]\nname = \"a\"\ndomain = \"emea\"\n", 3, 10, "is not a path: begin with '/'"),
        ("[[host]]\nname = \"a\"\ndomain = \"/a//b\"\n", 3, 10, "empty step"),
        ("[[domain]]\npath = \"/a/\"\n", 2, 8, "empty step"),
        ("[[host]]\nname = \"a\"\naddress = \"1 2\"\n", 3, 11, "address \"1 2\""),
        ("[[host]]\nname = \"a\"\npackages = [\"ok\", \"audit:0\"]\n", 3, 19, "has no usable port"),
        ("[[host]]\nname = \"a\"\npackages = [\"audit:+1\"]\n", 3, 13, "has no usable port"),
        ("[[host]]\nname = \"a\"\npackages = [\":1\"]\n", 3, 13, "manager type \"\" is empty"),
    ]);
    let deep = format!("[[domain]]\npath = \"{}\"\n", "/a".repeat(33));
    assert_problems(&[(&deep, 2, 8, "is 33 levels deep: use at most 32")]);
}

#[test]
fn a_value_of_another_type_is_answered_with_what_it_must_be() {
    assert_problems(&[
        ("[[host]]\nname = 7\n", 2, 8, "name is a number: write a text in quotes"),
        ("[[host]]\nname = 1979-05-27\n", 2, 8, "name is a date or time"),
        ("[[host]]\nname = \"a\"\npackages = \"x\"\n", 3, 12, "packages is a text: write a list of texts"),
        ("[[host]]\nname = \"a\"\npackages = [1]\n", 3, 13, "packages is a number"),
        (
            "[[host]]\nname = \"a\"\n[host.package]\ntype = \"x\"\n",
            3,
            1,
            "package is a table: write a list of tables",
        ),
        ("host = 1\n", 1, 8, "host is a number: write a list of tables, each begun with [[host]]"),
        ("host = [1]\n", 1, 9, "host is a number"),
        (
            "[policy]\nwalk = \"hops\"\n",
            1,
            1,
            "policy is a table: write a list of tables, each begun with [[policy]]",
        ),
        ("[[policy]]\nboundary = \"yes\"\n", 2, 12, "boundary is a text: write true or false"),
        (
            "[[policy]]\nfailback_hold = 30\n",
            2,
            17,
            "failback_hold is a number: write a duration in quotes, as in \"30s\"",
        ),
        ("[[policy]]\nfailback_hold = 1.5\n", 2, 17, "failback_hold is a number with a fraction"),
        (
            "[[policy]]\nfailback_hold = \"1.5s\"\n",
            2,
            17,
            "failback_hold is \"1.5s\": write a whole number and one unit",
        ),
        ("[[policy]]\nwalk = \"up\"\n", 2, 8, "walk is \"up\": write one of chain, subtree, hops"),
    ]);
}

/// A file with one package of the type `x`, whose further keys begin in line 5 of what follows `HEAD`.
fn package(keys: &str) -> String {
    format!("[[host]]\nname = \"a\"\n[[host.package]]\ntype = \"x\"\n{keys}\n")
}

#[test]
fn numbers_durations_and_words_out_of_range_are_pointed_at() {
    let cases = [
        ("port = 0", 8, "port is 0: use 1 to 65535"),
        ("port = 65536", 8, "port is 65536: use 1 to 65535"),
        ("port = -1", 8, "port is -1: use 1 to 65535"),
        ("port = 99999999999999999999", 8, "port is a number of too many digits: use 1 to 65535"),
        ("priority = 65536", 12, "priority is 65536: use 0 to 65535"),
        ("weight = -1", 10, "weight is -1: use 0 to 65535"),
        ("port = 1\nendpoint = \"[::1]:7000\"", 0, "x has both port and endpoint"),
        ("endpoint = \"::1:7000\"", 12, "is not an endpoint: write ADDRESS:PORT"),
        ("state = \"down\"", 9, "state is \"down\": write one of active, withdrawn"),
        ("role = \"master\"", 8, "role is \"master\": write one of primary, backup"),
        ("role = \"backup\"", 8, "x has a role but neither port nor endpoint"),
        ("version = \"a\\u001bb\"", 11, "has a control character at position 2"),
        ("check = { tcp = false }", 17, "tcp is false: a check cannot be switched off"),
        ("check = { send = \"x\" }", 9, "check has send but no expect"),
        ("check = { http = \"healthz\" }", 18, "path \"healthz\" is not the path of a URL: begin with '/'"),
        ("check = { http = \"/\", status = 99 }", 32, "status is 99: use 200 to 599"),
        ("check = { status = 200 }", 20, "check has status, which belongs to http: remove it, or"),
        ("check = { grpc = false }", 18, "grpc is false: a check cannot be switched off"),
        ("check = { grpc = 1 }", 18, "grpc is a number: write true for the whole server, or the name of"),
        ("check = { grpc = \"a b\" }", 18, "service \"a b\" has ' ' at position 2: use letters, digits,"),
        ("check = { http = \"/\", grpc = true }", 30, "check has both http and grpc: keep one"),
        ("check = { exec = [\"/bin/true\"] }", 11, "unknown key \"exec\" in check"),
        ("check = { interval = \"1ms\" }", 22, "interval is 1ms: use 50ms to 1h"),
        ("check = { timeout = \"2m\" }", 21, "timeout is 2m: use 10ms to 1m"),
        ("check = { misses = 0 }", 20, "misses is 0: use 1 to 10"),
        ("check = true", 9, "check is true or false: write a table, as in check = {"),
    ];
    for (keys, column, words) in cases {
        let (line, column) = if column == 0 { (3, 1) } else { (5, column) };
        assert_problems(&[(&package(keys), line, column, words)]);
    }
    assert_problems(&[
        ("[[policy]]\nconnect_hedge = \"0s\"\n", 2, 17, "connect_hedge is 0s: use 1ms to 10s"),
        ("[[policy]]\nconnect_timeout = \"61s\"\n", 2, 19, "connect_timeout is 61s: use 10ms to 1m"),
        ("[[policy]]\nfailback_hold = \"2h\"\n", 2, 17, "failback_hold is 2h: use 0s to 1h"),
        ("[[policy]]\nfailback_jitter = \"61m\"\n", 2, 19, "failback_jitter is 61m: use 0s to 1h"),
        ("[[policy]]\ndrain_timeout = \"1d\"\n", 2, 17, "drain_timeout is 1d: use 0s to 1h"),
        ("[[policy]]\nevidence_ttl = \"10ms\"\n", 2, 16, "evidence_ttl is 10ms: use 1s to 1h"),
        ("[[policy]]\nprobe = \"on\"\n", 2, 9, "write one of off, tcp"),
        ("[[policy]]\nprobe = { http = \"/\", timeout = \"2m\" }\n", 2, 33, "timeout is 2m: use 10ms to 1m"),
        ("[[policy]]\ndomain = \"/a\"\n", 1, 1, "this policy sets nothing"),
    ]);
}

#[test]
fn what_is_there_twice_names_the_first_line() {
    let two = "[[host]]\nname = \"a\"\n[[host]]\nname = \"a\"\n";
    assert_problems(&[
        (two, 4, 8, "host a is in the file twice, first in line 4: remove one"),
        (
            "[[domain]]\npath = \"/a\"\n[[domain]]\npath = \"/a\"\n",
            3,
            1,
            "domain /a is in the file twice, first in line 3",
        ),
        (
            "[[policy]]\nwalk = \"hops\"\n[[policy]]\nboundary = true\n",
            3,
            1,
            "policy of / for * is in the file twice, first in line 3",
        ),
        (
            "[[host]]\nname = \"a\"\npackages = [\"x:1\", \"x\"]\n",
            3,
            20,
            "package x of host a is in the file twice",
        ),
        (
            &package("[[host.package]]\ntype = \"x\"\n"),
            5,
            1,
            "package x of host a is in the file twice, first in line 5",
        ),
    ]);
    let primary = "[[host.package]]\ntype = \"x\"\nport = 1\nrole = \"primary\"\n";
    let primaries = format!("[[host]]\nname = \"a\"\n{primary}[[host]]\nname = \"b\"\n{primary}");
    assert_problems(&[(&primaries, 9, 1, "x on b is the second primary of its type, after line 5")]);
    assert_problems(&[("framework = \"b\"\n", 1, 1, "this is no valid TOML: duplicate key")]);
}

#[test]
fn what_must_be_there_is_asked_for() {
    let error = refused("format = 1\n");
    assert!(
        error.to_string().starts_with("acme.toml:1:1: the file has no framework: add framework = \"acme\""),
        "{error}"
    );
    assert_problems(&[
        ("\n[[host]]\ndomain = \"/a\"\n", 2, 1, "host has no name: add name = \"agent1\""),
        ("[[domain]]\n", 1, 1, "domain has no path"),
        ("[[host]]\nname = \"a\"\n[[host.package]]\nport = 1\n", 3, 1, "package has no type"),
    ]);
    let error = refused("format = 2\nframework = \"acme\"\n");
    assert!(error.to_string().contains("acme.toml:1:10: format 2 is not known to this version"), "{error}");
    let error = refused("");
    assert!(error.to_string().contains("the file has no framework"), "{error}");
}

#[test]
fn more_packages_than_fit_on_a_host_are_refused() {
    let packages: Vec<_> = (0..65).map(|i| format!("\"t{i}\"")).collect();
    let text = format!("[[host]]\nname = \"a\"\npackages = [{}]\n", packages.join(", "));
    assert_problems(&[(&text, 2, 8, "host a has 65 packages: at most 64 fit on one")]);
}

#[test]
fn all_problems_of_a_file_are_told_in_its_order() {
    let error =
        refused(&format!("{HEAD}[[policy]]\nwalk = 1\n[[host]]\nnam = \"a\"\n[[host]]\nname = \"B\"\n"));
    let places: Vec<_> = error.problems.iter().map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(4, 8), (5, 1), (6, 1), (8, 8)], "{error}");
    assert_eq!(error.to_string().lines().count(), 4);
    let failure = Failure::from(&error);
    assert_eq!(failure.place, "acme.toml:4:8");
    assert!(matches!(error.problems[3].fault, Fault::Name(NameError { what: "host name", .. })));
}

#[test]
fn json_problems_have_their_place_too() {
    let error = refused("{\"framework\": \"acme\",\n \"host\": [{\"name\": \"A\"}]}");
    assert_eq!((error.problems[0].line, error.problems[0].column), (2, 20), "{error}");
    let error = refused("{\"framework\": \"acme\",\n \"host\": [{\"name\" \"A\"}]}");
    assert_eq!((error.problems[0].line, error.problems[0].column), (2, 19), "{error}");
    assert!(error.to_string().contains("no valid JSON: expected `:`"), "{error}");
    let error = parse("x.json", b"[1]").unwrap_err();
    assert!(error.to_string().starts_with("x.json:1:1: the file is a list: write a table"), "{error}");
    assert!(parse("x.json", b"").unwrap_err().to_string().starts_with("x.json:1:1: this is no valid JSON"));
}

#[test]
fn what_is_no_text_at_all_is_answered_at_its_first_bad_byte() {
    let error = parse("a", b"format = 1\nframework = \"\xff\"\n").unwrap_err();
    assert_eq!((error.problems[0].line, error.problems[0].column), (2, 14), "{error}");
    assert!(error.to_string().contains("no UTF-8"), "{error}");
    let error = parse("a", b"format = 1\n\0").unwrap_err();
    assert_eq!((error.problems[0].line, error.problems[0].column), (2, 1), "{error}");
    let error = parse("a", &vec![b'a'; MAX_INPUT + 1]).unwrap_err();
    assert!(error.to_string().starts_with("a:1:1: the file has 33554433 bytes"), "{error}");
}

/// A deadline no machine should miss for ten megabytes, and that a search of quadratic cost would.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn ten_megabytes_of_garbage_are_answered_in_seconds() {
    const SIZE: usize = 10 << 20;
    let of = |piece: &str| piece.repeat(SIZE / piece.len());
    let garbage: [(&str, Vec<u8>); 8] = [
        ("bytes", (0..SIZE).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("letters", of("a").into()),
        ("lines", of("a\n").into()),
        ("brackets", of("[").into()),
        ("inline tables", of("a={").into()),
        ("quotes", of("\"").into()),
        ("the same host", of("[[host]]\nname = \"a\"\n").into()),
        ("json lists", format!("{{\"a\":{}", of("[")).into()),
    ];
    for (what, input) in garbage {
        let begun = Instant::now();
        let error = parse("garbage", &input).expect_err(what);
        assert!(error.problems.len() <= 20 && error.to_string().len() < 10_000, "{what}: {error}");
        assert!(begun.elapsed() < DEADLINE, "{what} took {:?}", begun.elapsed());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse("x", &input);
    }

    #[test]
    fn no_text_that_looks_like_a_topology_makes_it_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "[[host]]\n", "[host]\n", "[[host.package]]\n", "host", "package", "name", "=", ".", "\"a\"", "\"", "[", "]", "{", "}",
            ",", "1", "\n", "'''", "\"\"\"", "#", "-", "1979-05-27", "é", "\\", "check", "framework = \"a\"\n", "[[policy]]\n", "[a.b]\n",
        ]), 0..40)
    ) {
        let _ = parse("x", pieces.concat().as_bytes());
    }
}
