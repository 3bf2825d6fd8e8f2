//! Looking at hosts: filters, one host in full, what it really uses.

use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Console, Manager, Sandbox, Stub, TYPE, Topology, wait_for, wait_until};
use std::net::SocketAddr;

fn listed(console: &Console, options: &str) -> Vec<String> {
    let hosts = console.objects(&format!("host list {options}"));
    hosts.iter().map(|host| host["name"].as_str().unwrap().to_owned()).collect()
}

/// `near` is served by itself, `caller` by `near`, until `near` goes down.
struct Scene<'a> {
    manager: Manager<'a>,
    near: Agent<'a>,
    caller: Agent<'a>,
    service: Stub,
    _hub: Stub,
}

fn scene(sandbox: &Sandbox) -> Scene<'_> {
    let manager = Manager::running(sandbox);
    let hub = SocketAddr::new(manager.listen().ip(), PORT);
    let mut near = Agent::new(sandbox, "near");
    let mut caller = Agent::new(sandbox, "caller").forwarding(TYPE);
    let topology = Topology::new()
        .policy("failback_hold = \"0s\"\nfailback_jitter = \"0s\"")
        .manager("hub", "/", hub.ip())
        .manager("near", "/x", near.address())
        .host("caller", "/x", caller.address());
    manager.apply(&topology);
    let service = Stub::start("near", (near.address(), PORT).into());
    let hub = Stub::start("hub", hub);
    for agent in [&mut near, &mut caller] {
        agent.enroll_with(&manager);
        agent.start_ready();
    }
    caller.wait_served_by(TYPE, "near");
    manager.wait_in_sync(2);
    Scene { manager, near, caller, service, _hub: hub }
}

/// Each filter finds the hosts it is for and no other, and what it looks at is in the JSON.
#[test]
fn the_list_of_hosts_is_filtered_by_what_agents_report() {
    let sandbox = Sandbox::new();
    let mut scene = scene(&sandbox);
    let console = scene.manager.console();
    let host = |name: &str| {
        let hosts = console.objects("host list");
        hosts.into_iter().find(|host| host["name"] == name).unwrap()
    };
    wait_until("a quiet system", || listed(&console, "--unhealthy").is_empty());
    assert!(listed(&console, "--not-home").is_empty() && listed(&console, "--stale 30s").is_empty());
    let caller = host("caller");
    assert_eq!((&caller["connected"], &caller["in_sync"]), (&true.into(), &true.into()), "{caller}");
    assert!(caller["heard_ms"].is_u64() && caller["behind_ms"].is_null(), "{caller}");
    let build = caller["build"].as_str().unwrap().to_owned();
    assert_eq!(listed(&console, &format!("--version {build}")), ["caller", "near"]);
    assert!(listed(&console, "--version 0.0.0").is_empty());
    assert_eq!(host("hub")["enrolment"], serde_json::Value::Null, "no agent was ever enrolled there");

    scene.service.kill();
    wait_for("the failure", || match listed(&console, "--unhealthy").as_slice() {
        [one] if one == "near" => Ok(()),
        other => Err(other.to_vec()),
    });
    wait_for("the failover", || match listed(&console, "--not-home").as_slice() {
        [one] if one == "caller" => Ok(()),
        other => Err(other.to_vec()),
    });
    assert_eq!(listed(&console, &format!("--not-home --type {TYPE}")), ["caller"]);
    assert!(listed(&console, "--not-home --type registry").is_empty());
    let using = &host("caller")["using"][0];
    assert_eq!((&using["manager"], &using["outcome"]), (&"hub".into(), &"failover".into()), "{using}");
    scene.service.revive();
    wait_until("a quiet system", || listed(&console, "--unhealthy").is_empty());

    scene.caller.kill9();
    wait_for("an agent that is gone", || match listed(&console, "--unhealthy").as_slice() {
        [one] if one == "caller" => Ok(()),
        other => Err(other.to_vec()),
    });
    wait_for("a replica nobody knows of", || match listed(&console, "--stale 3s").as_slice() {
        [one] if one == "caller" => Ok(()),
        other => Err(other.to_vec()),
    });
    assert!(host("caller")["heard_ms"].as_u64().unwrap() > 3000);
    let table = console.ok("host list --unhealthy");
    assert!(table.contains("AGENT") && table.contains("NOT HOME"), "{table}");

    let file = sandbox.file("t.toml", "framework = \"acme\"\n[[host]]\nname = \"a\"\n");
    for option in ["--unhealthy", "--not-home", "--stale 30s", "--version 1"] {
        let refused = console.fails(1, &format!("host list {option} --file {}", file.display()));
        assert!(refused.err.contains("no file knows"), "{refused:?}");
    }
}

/// What a host really uses is told by its agent, with the age of that word; where the agent is not there, that is
/// what the answer says.
#[test]
fn the_actual_route_is_what_the_agent_uses() {
    let sandbox = Sandbox::new();
    let mut scene = scene(&sandbox);
    let console = scene.manager.console();
    let ask = format!("route --host caller --type {TYPE} --actual");
    let route = console.object(&ask);
    assert_eq!((&route["basis"], &route["outcome"]), (&"live".into(), &"home".into()), "{route}");
    assert!(route["chosen"]["host"] == "near" && route["age_ms"].is_u64(), "{route}");

    scene.service.kill();
    let away = wait_for("the failover", || {
        let route = console.object(&ask);
        (route["outcome"] == "failover").then_some(route.clone()).ok_or(route)
    });
    assert!(away["chosen"]["host"] == "hub" && away["home"] == "near", "{away}");
    assert!(away["since_ms"].is_u64() && away["cause"].as_str().unwrap().contains("near"), "{away}");
    let own = scene.caller.route(TYPE);
    assert_eq!(own["chosen"], away["chosen"]);
    let text = console.ok(&format!("{ask} --explain"));
    assert!(text.contains("caller → hub") && text.contains("its agent said so"), "{text}");

    scene.caller.terminate();
    let gone = wait_for("word that the agent is gone", || {
        let answer = console.run(&format!("{ask} --output json"));
        (answer.code == 1).then(|| answer.error()).ok_or(answer)
    });
    assert_eq!(gone["error"], "agent-not-connected", "{gone}");
    let hub = console.fails(1, &format!("route --host hub --type {TYPE} --actual"));
    assert!(hub.err.contains("not heard since"), "{hub:?}");
}

/// One host in full: who it is, how its agent is, what runs there, and the policies that hold there.
#[test]
fn a_host_is_shown_in_full() {
    let sandbox = Sandbox::new();
    let scene = scene(&sandbox);
    let shown = scene.manager.console().object("host show near");
    assert_eq!(shown["enrolment"]["number"], 1, "{shown}");
    assert!(shown["enrolment"].get("key_hash").is_none(), "{shown}");
    assert_eq!((&shown["agent"], &shown["in_sync"]), (&"heard".into(), &true.into()));
    assert_eq!(shown["policies"][0]["failback_hold"], "0s", "{shown}");
    assert_eq!(shown["packages"][0]["type"], TYPE);
    let text = scene.manager.console().ok("host show near");
    assert!(text.contains("enrolment  number 1 of 20") && text.contains("policy     / *"), "{text}");
    drop(scene.near);
}
