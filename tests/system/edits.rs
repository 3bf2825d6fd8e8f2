//! What operators change: policies, drained hosts, many hosts at once, and what is refused.

use crate::failover::Scene;
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Answer, Console, Manager, Sandbox, Stub, TYPE, Topology, wait_for, wait_until};
use serde_json::{Value, json};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};

/// The order of the candidates of a host.
fn order(console: &Console, host: &str, file: &str) -> Vec<String> {
    let route = console.object(&format!("route --host {host} --type {TYPE}{file}"));
    let ranked = route["candidates"].as_array().unwrap().iter().filter(|c| !c["rank"].is_null());
    ranked.map(|c| c["host"].as_str().unwrap().to_owned()).collect()
}

fn managers(of: &[(&str, &str)]) -> Topology {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    of.iter().fold(Topology::new(), |all, (host, domain)| all.manager(host, domain, address))
}

/// `echelon LINE` with this file as its standard input.
fn with_input(console: &Console, line: &str, input: &std::path::Path) -> Answer {
    let mut command = console.command(line.split_whitespace());
    Answer::of(command.stdin(File::open(input).unwrap()))
}

fn drained(console: &Console, host: &str) -> Value {
    console.object(&format!("host show {host}"))["drained"].clone()
}

/// The walks, boundaries and the inheritance of single settings do what docs/routing.md says, set and taken away by
/// `policy`, and an exported registry routes the same.
#[test]
fn policies_set_by_command_order_candidates() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let hosts = [("top", "/"), ("mid", "/a"), ("low", "/a/b/c"), ("far", "/z")];
    manager.apply(&managers(&hosts));
    console.ok("host add asker --domain /a/b");
    assert_eq!(order(&console, "asker", ""), ["mid", "top", "low", "far"], "chain: up first, then elsewhere");

    console.ok("policy set / walk=subtree failback_hold=5s");
    assert_eq!(order(&console, "asker", ""), ["low", "mid", "top", "far"], "subtree: own subdomains first");
    console.ok("policy set /a walk=hops");
    assert_eq!(order(&console, "asker", ""), ["mid", "low", "top", "far"], "hops: the nearer domain wins");
    console.ok(&format!("policy set /a --type {TYPE} walk=chain connect_hedge=20ms"));
    assert_eq!(order(&console, "asker", ""), ["mid", "top", "low", "far"], "the value for the type wins");
    console.ok(&format!("policy unset /a --type {TYPE} walk"));
    assert_eq!(order(&console, "asker", "")[1], "low", "and is inherited again");

    console.ok("policy set /a boundary=true");
    assert_eq!(order(&console, "asker", ""), ["mid", "low"]);
    console.ok("policy set /a/b boundary=false");
    assert_eq!(order(&console, "asker", "").len(), 4, "a nearer domain lifts the fence");

    let listed = console.objects("policy list");
    assert_eq!(
        listed,
        [
            json!({"domain": "/", "type": "*", "walk": "subtree", "failback_hold": "5s"}),
            json!({"domain": "/a", "type": "*", "walk": "hops", "boundary": true}),
            json!({"domain": "/a", "type": TYPE, "connect_hedge": "20ms"}),
            json!({"domain": "/a/b", "type": "*", "boundary": false}),
        ]
    );
    assert_eq!(console.objects("policy list /a/b").len(), 1);
    assert!(console.ok("policy list").contains("walk=hops boundary=true"));
    let file = sandbox.file("exported.toml", console.ok("export"));
    let from_file = format!(" --file {}", file.display());
    assert_eq!(order(&console, "asker", &from_file), order(&console, "asker", ""));

    let bad = console.fails(2, "policy set / wlak=hops");
    assert!(bad.err.contains("failback_jitter"), "the settings there are: {bad:?}");
    let bad = console.fails(2, "policy set / connect_timeout=2m");
    assert!(bad.err.contains("10ms to 1m"), "{bad:?}");
    console.fails(1, "policy set /nowhere walk=hops");
}

/// A drained host serves nothing, says why wherever it is shown, and is put back into service by the manager
/// itself; what was withdrawn by itself stays so. An export knows nothing of it, and applying one leaves it alone.
#[test]
fn a_drained_host_is_passed_over_until_it_is_resumed() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let console = scene.registry.console();
    let before = console.ok("export");
    let calls = scene.calls();
    let mut drain = console.command(["host", "drain", "near", "--for", "1h", "--reason", "kernel update"]);
    assert_eq!(Answer::of(&mut drain).code, 0);
    calls.wait_served_by("hub");
    scene.caller.wait_served_by(TYPE, "hub");
    let live = scene.caller.route(TYPE);
    let asked = console.object(&format!("route --host caller --type {TYPE}"));
    for route in [&live, &asked] {
        let near = &route["candidates"][0];
        assert_eq!((&near["host"], &near["state"]), (&"near".into(), &"withdrawn".into()), "{route}");
        assert!(near["reason"].as_str().unwrap().contains("host drained: kernel update"), "{near}");
    }
    let shown = drained(&console, "near");
    assert!(shown["until"].is_string() && shown["reason"] == "kernel update", "{shown}");
    for line in ["host show near", "host list", "tree", "package list"] {
        assert!(console.ok(line).contains("kernel update"), "echelon {line}");
    }
    assert_eq!(console.ok("export"), before, "a drain is no part of a topology");
    let file = sandbox.file("same.toml", &before);
    console.ok(&format!("apply {}", file.display()));
    assert_eq!(drained(&console, "near"), shown, "applying a topology leaves it alone");

    // The operator shortens it; the manager ends it.
    console.ok("host drain near --for 1s");
    calls.wait_served_by("near");
    assert_eq!(drained(&console, "near"), Value::Null);
    calls.stop();
}

/// A drain whose time passes while no manager runs is over when one starts, by an edit like any other.
#[test]
fn a_drain_ends_though_the_manager_was_down_at_its_time() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let console = manager.console();
    manager.apply(&managers(&[("near", "/x"), ("far", "/")]));
    console.ok("host drain near far --allow-shrink");
    console.ok("host drain near --for 1s");
    let revision = manager.status()["revision"].as_u64().unwrap();
    manager.kill9();
    std::thread::sleep(std::time::Duration::from_millis(1100)); // the drain's time passes with nobody to see it
    manager.start();
    wait_for("the end of the drain", || {
        let drained = drained(&console, "near");
        drained.is_null().then_some(()).ok_or(drained)
    });
    assert!(!drained(&console, "far").is_null(), "one without an end goes on");
    assert_eq!(manager.status()["revision"].as_u64(), Some(revision + 1));
    console.ok("host resume far");
    assert_eq!(drained(&console, "far"), Value::Null);
}

/// An edit that takes the last serving manager of a type is refused, dry run or not, unless it is meant.
#[test]
fn the_last_manager_of_a_type_goes_only_where_that_is_meant() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    manager.apply(&managers(&[("one", "/"), ("two", "/")]));
    console.ok(&format!("package withdraw one {TYPE}"));
    let ways = [
        format!("package withdraw two {TYPE}"),
        format!("package withdraw two {TYPE} --dry-run"),
        "host drain two".into(),
        "host remove two --with-packages".into(),
        format!("package remove two {TYPE}"),
    ];
    for way in &ways {
        let error = console.fails(3, &format!("{way} --output json")).error();
        assert_eq!(
            (&error["error"], &error["retry"]),
            (&"last-manager".into(), &"pointless".into()),
            "{way}"
        );
        assert!(error["remedy"].as_str().unwrap().contains("--allow-shrink"), "{error}");
    }
    console.ok(&format!("{} --allow-shrink", ways[0]));
    console.ok(&format!("package restore one two {TYPE}"));
}

/// `apply --prune` removes no host whose agent is connected, unless that is meant.
#[test]
fn pruning_spares_hosts_that_are_connected() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let mut agent = Agent::enrolled(&manager, "busy");
    agent.start_ready();
    manager.wait_in_sync(1);
    console.ok("host add idle --domain /");
    let file = sandbox.file("empty.toml", "framework = \"acme\"\n");
    let apply = format!("apply {} --prune", file.display());
    let error = console.fails(3, &format!("{apply} --output json")).error();
    assert_eq!(error["error"], "hosts-in-use", "{error}");
    assert!(error["message"].as_str().unwrap().contains("busy"), "{error}");
    console.ok("host show idle");
    console.ok(&format!("{apply} --allow-shrink"));
    console.fails(1, "host show idle");
    wait_until("the end of its session", || manager.status()["agents_connected"] == 0);
}

/// Names on standard input are one change set: all of them or none, one revision.
#[test]
fn hosts_from_standard_input_are_one_edit() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    console.ok("domain add /a /b");
    let names = sandbox.file("names", "# the web\nweb1\n\nweb2  # second\nweb3\n");
    let revision = || manager.status()["revision"].as_u64().unwrap();
    let first = revision();
    for line in [
        "host add - --domain /a",
        "host move - --domain /b",
        "package add - audit --port 7001",
        "package withdraw - audit --allow-shrink",
        "package restore - audit",
        "host drain - --reason power --allow-shrink",
        "host resume -",
        "package remove - audit --allow-shrink",
    ] {
        let answer = with_input(&console, line, &names);
        assert_eq!(answer.code, 0, "echelon {line}: {answer:?}");
    }
    assert_eq!(revision(), first + 8);
    assert_eq!(console.objects("host list --domain /b").len(), 3);

    let some = sandbox.file("some", "web1\nnobody\nweb2\n");
    assert_eq!(with_input(&console, "host remove -", &some).code, 1);
    let bad = sandbox.file("bad", "web1\nWEB 2\n");
    let answer = with_input(&console, "host remove - --output json", &bad);
    assert_eq!((answer.code, &answer.error()["where"]), (1, &"standard input, line 2".into()), "{answer:?}");
    assert_eq!(with_input(&console, "host remove -", &sandbox.file("none", "\n")).code, 1);
    assert_eq!(revision(), first + 8, "nothing of an edit that fails is carried out");
    let answer = with_input(&console, "host remove - web3 --dry-run", &names);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(with_input(&console, "host remove -", &names).code, 0);
}

/// What may be removed depends on what is left, not on the order in which it is named.
#[test]
fn what_is_left_decides_what_may_be_removed() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    manager.apply(&managers(&[("p", "/x"), ("b1", "/x/y"), ("b2", "/z")]));
    let refused = |line: &str, why: &str| {
        let error = console.fails(3, &format!("{line} --output json")).error();
        assert_eq!(error["error"], why, "echelon {line}: {error}");
    };
    refused("domain remove /x", "domain-has-subdomains");
    refused("domain remove /x --recursive", "domain-not-empty");
    refused("host remove p", "host-has-packages");
    refused("host remove p --with-packages", "primary-has-backups");
    refused(&format!("package remove p {TYPE}"), "primary-has-backups");
    refused("host remove p b1 --with-packages", "primary-has-backups");
    refused("host remove hub --with-packages", "registry-package");
    console.ok(&format!("package remove p {TYPE} --successor b2 --dry-run"));
    console.ok("host remove p b1 b2 --with-packages --allow-shrink");
    console.ok("domain remove /x --recursive");
}

/// Names change; who a host is does not. A running agent keeps its session, others are told its new name, it comes
/// back after a restart, and tokens for it and for its domain work on.
#[test]
fn a_renamed_host_goes_on_under_its_new_name() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    console.ok("domain add /old /other");
    let mut agent = Agent::new(&sandbox, "before");
    agent.enroll_with(&manager);
    console.ok("host move before --domain /old");
    console.ok(&format!("package add before {TYPE} --endpoint {}:{PORT}", agent.address()));
    let service = Stub::start("service", (agent.address(), PORT).into());
    console.ok("policy set /old boundary=true");
    let (of_domain, of_host) =
        (manager.token("--domain /old --uses 2"), manager.token("--host before --replace"));
    agent.start_ready();
    agent.wait_served_by(TYPE, "before");
    manager.wait_in_sync(1);

    console.ok("host rename before after");
    agent.wait_served_by(TYPE, "after");
    assert_eq!(agent.route(TYPE)["host"], "after");
    console.ok("domain rename /old new");
    console.ok("domain move /new --parent /other");
    let shown = console.object("host show after");
    assert_eq!((&shown["domain"], &shown["agent"]), (&"/other/new".into(), &"heard".into()), "{shown}");
    console.fails(1, "host show before");
    assert_eq!(console.objects("policy list")[0]["domain"], "/other/new");
    manager.wait_in_sync(1);

    agent.terminate();
    agent.start_ready();
    manager.wait_in_sync(1);
    agent.wait_served_by(TYPE, "after");
    assert_eq!(agent.route(TYPE)["candidates"][0]["domain"], "/other/new");

    let newcomer = Agent::new(&sandbox, "newcomer");
    let answer = newcomer.enroll(manager.listen(), &of_domain, "");
    assert_eq!(answer.code, 0, "the token's domain goes by another name: {answer:?}");
    assert_eq!(console.object("host show newcomer")["domain"], "/other/new");
    let outside = Agent::new(&sandbox, "outside");
    assert_eq!(outside.enroll(manager.listen(), &of_domain, "--domain /other").code, 5);
    let again = Agent::new(&sandbox, "after");
    let answer = again.enroll(manager.listen(), &of_host, "");
    assert_eq!(answer.code, 0, "the token is for the host, whatever it is called: {answer:?}");
    wait_until("the end of the denied session", || manager.status()["agents_connected"] == 0);
    drop(service);
}

/// With a `probe` that demands an answer, a manager that merely accepts connections again is not returned to; one
/// that answers is.
#[test]
fn a_probe_decides_when_a_manager_is_back() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let console = scene.registry.console();
    let calls = scene.calls();
    let expecting = |what: &str| format!(r#"probe={{"tcp":true,"send":"hello\n","expect":"{what}"}}"#);
    let set = |what: &str| Answer::of(console.command(["policy", "set", "/", &expecting(what)]));
    // What the one that is used meanwhile answers, and the other does not.
    assert_eq!(set("hub").code, 0);
    scene.near.kill();
    calls.wait_served_by("hub");
    scene.near.revive();
    wait_for("a probe without the answer it wants", || {
        let route = scene.caller.route(TYPE);
        let reason = route["candidates"][0]["reason"].as_str().unwrap().to_owned();
        reason.contains("probe failed").then_some(()).ok_or(route)
    });
    assert_eq!(scene.caller.served_by(TYPE).as_deref(), Some("hub"));
    assert_eq!(set("near").code, 0);
    calls.wait_served_by("near");
    let listed = console.objects("policy list");
    assert_eq!(listed[0]["probe"]["expect"], "near", "{listed:?}");
    assert_eq!(set("near").code, 0);
    calls.stop();
}
