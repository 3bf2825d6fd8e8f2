//! The worked example of routing.md, row by row.

use crate::support::*;
use echelon_core::report::{CandidateState, Down, Outcome, RouteReport};
use echelon_core::settled::Settled;

const HOSTS: [&str; 5] = ["agent1", "agent2", "agent3", "agent4", "framework-manager"];

fn settled(world: &World, host: &str, down: &[&str]) -> RouteReport {
    let view = world.view();
    let down: Vec<Down> = down.iter().map(|d| parse(d)).collect();
    let live = |_, _: &_| (CandidateState::Live, String::new());
    let settled = Settled { registry: &world.registry, view: &view, state_of: &live, down: &down };
    settled.route(world.registry.host_named(&name(host)).unwrap(), &ty(CC))
}

fn chosen(world: &World, down: &[&str]) -> Vec<String> {
    let chosen =
        |host: &&str| settled(world, host, down).chosen.map_or("none".into(), |c| c.host.to_string());
    HOSTS.iter().map(chosen).collect()
}

fn candidates(report: &RouteReport) -> Vec<&str> {
    report.candidates.iter().map(|c| c.host.as_str()).collect()
}

#[test]
fn all_live() {
    let world = reference_case();
    assert_eq!(chosen(&world, &[]), ["agent1", "agent1", "agent3", "agent3", "framework-manager"]);
    for host in HOSTS {
        assert_eq!(settled(&world, host, &[]).outcome, Outcome::Home, "{host}");
    }
}

#[test]
fn agent3s_down() {
    let world = reference_case();
    assert_eq!(chosen(&world, &["agent3"]), ["agent1", "agent1", "agent1", "agent1", "framework-manager"]);
    let report = settled(&world, "agent4", &["agent3:command-control"]);
    assert_eq!((report.outcome, report.cause.as_str()), (Outcome::Failover, "agent3: taken as down"));
    assert_eq!(report.home, Some(name("agent3")));
    assert_eq!(settled(&world, "agent1", &["agent3"]).outcome, Outcome::Home);
    // Another type of the same host says nothing about this one.
    assert_eq!(settled(&world, "agent4", &["agent3:audit"]).outcome, Outcome::Home);
}

#[test]
fn agent1s_down_as_well() {
    let world = reference_case();
    assert_eq!(chosen(&world, &["agent3", "agent1"]), ["framework-manager"; 5]);
}

#[test]
fn agent3s_up_again_agent1s_down_the_one_on_framework_manager_withdrawn() {
    let mut world = reference_case();
    world.edit([withdraw("framework-manager", CC)]);
    assert_eq!(chosen(&world, &["agent1"]), ["agent3"; 5]);
    let report = settled(&world, "agent2", &["agent1"]);
    assert_eq!(candidates(&report), ["agent1", "framework-manager", "agent3"]);
    let states: Vec<_> = report.candidates.iter().map(|c| c.state).collect();
    assert_eq!(states, [CandidateState::Down, CandidateState::Withdrawn, CandidateState::Live]);
}

#[test]
fn nobody_is_left_only_where_configuration_leaves_nobody() {
    let mut world = reference_case();
    let all = ["agent1", "agent3", "framework-manager"];
    let report = settled(&world, "agent4", &all);
    assert_eq!((report.outcome, report.chosen.unwrap().host), (Outcome::LastResort, name("agent3")));
    let report = settled(&world, "agent1", &all);
    assert_eq!(report.outcome, Outcome::LastResort, "its home is down too");
    world.edit(all.map(|host| withdraw(host, CC)));
    let report = settled(&world, "agent4", &[]);
    assert_eq!((report.outcome, report.chosen, report.home), (Outcome::Unserved, None, None));
    assert!(report.cause.contains("withdrawn or excluded"), "{}", report.cause);
}

#[test]
fn another_branch_serves_only_if_no_other_manager_is_live() {
    let mut world = reference_case();
    world.edit([add_domain("/sub2"), add_host("agent5", "/sub2"), add_manager("agent5", CC)]);
    let others = ["agent1", "agent3", "framework-manager"];
    for host in ["agent1", "agent2", "agent3", "agent4"] {
        for some_live in 0..7_usize {
            let down: Vec<_> = (0..3).filter(|i| some_live & (1 << i) != 0).map(|i| others[i]).collect();
            assert_ne!(settled(&world, host, &down).chosen.unwrap().host, name("agent5"), "{host} {down:?}");
        }
        assert_eq!(settled(&world, host, &others).chosen.unwrap().host, name("agent5"), "{host}");
    }
    assert_eq!(
        candidates(&settled(&world, "agent4", &[])),
        ["agent3", "agent1", "framework-manager", "agent5"]
    );
    assert_eq!(settled(&world, "agent5", &[]).chosen.unwrap().host, name("agent5"));
}

#[test]
fn the_report_has_the_documented_shape() {
    let mut world = reference_case();
    world.edit(["agent1", "agent3"].map(|h| {
        let last = &h[5..];
        let address = Some(parse(&format!("127.0.0.1{last}")));
        echelon_core::change::Change::SetAddress { host: name(h), address }
    }));
    let json = serde_json::to_value(settled(&world, "agent4", &["agent3"])).unwrap();
    let third = json["candidates"][1].clone();
    let expected = serde_json::json!({"rank": 2, "host": "agent1", "domain": "/sub1", "endpoint": "127.0.0.11:7000",
        "up": 1, "down": 0, "same_host": false, "priority": 100, "weight": 1, "role": "backup", "state": "live",
        "reason": "parent domain, 1 up"});
    assert_eq!(third, expected);
    assert_eq!(json["basis"], "settled");
    assert_eq!(json["outcome"], "failover");
    for absent in ["lineage", "epoch", "revision", "age_ms", "since_ms", "source"] {
        assert!(json.get(absent).is_none(), "{absent}");
    }
}
