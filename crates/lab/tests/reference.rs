//! The reference topology, whole: real manager, real agents, stub managers.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use echelon_core::report::Outcome;
use echelon_lab::answer::{Answer, Call, Expect};
use echelon_lab::stub::StubState;
use echelon_lab::{Command, CommandError, EditError, Lab, Options, Power, Script};
use echelon_topology::Topology;
use std::path::Path;

/// The reference case, at addresses that are nobody's: tests run beside each other, and beside a lab that
/// somebody has open.
fn reference() -> Topology {
    let text = include_str!("../../../examples/reference/topology.toml");
    let elsewhere = text.replace("address = \"127.0.0.", "address = \"10.0.0.");
    assert_ne!(elsewhere, text);
    echelon_topology::parse("topology.toml", elsewhere.as_bytes()).unwrap()
}

async fn lab() -> Lab {
    Lab::start(reference(), Options::default()).await.unwrap()
}

async fn run(lab: &Lab, command: &str) -> Answer {
    lab.run(&command.parse().unwrap()).await.unwrap_or_else(|e| panic!("{command}: {e}"))
}

/// Carries out commands; every `expect` among them has to be met.
async fn run_all(lab: &Lab, commands: &[&str]) {
    for command in commands {
        let answer = run(lab, command).await;
        assert!(!answer.is_failure(), "{command}: {answer:?}");
    }
}

async fn call(lab: &Lab, host: &str) -> Call {
    match run(lab, &format!("call {host} command-control")).await {
        Answer::Call(call) => call,
        other => panic!("{other:?}"),
    }
}

fn name(call: &Call) -> Option<&str> {
    call.answered.as_ref().map(|host| host.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_fail_hang_and_are_withdrawn_and_no_call_stays_unanswered() {
    let lab = lab().await;
    assert_eq!(lab.agents_in_sync().await, Some(5));
    run_all(&lab, &["expect agent4 command-control agent3", "expect agent1 command-control agent1"]).await;

    // A dead one: the very next call goes to the next.
    run(&lab, "down agent3").await;
    assert_eq!(name(&call(&lab, "agent4").await), Some("agent1"));
    run_all(&lab, &["expect agent4 command-control agent1"]).await;
    let Answer::Routes(routes) = run(&lab, "routes command-control").await else { panic!() };
    let agent4 = routes.iter().find(|r| r.host.as_str() == "agent4").unwrap();
    assert_eq!(agent4.outcome, Some(Outcome::Failover));
    assert_eq!(agent4.home.as_ref().unwrap().as_str(), "agent3");
    assert!(agent4.cause.starts_with("agent3: "), "{}", agent4.cause);

    // An edit: withdrawn is passed over without any connect.
    let Answer::Edit(edit) = run(&lab, "withdraw agent1 command-control").await else { panic!() };
    assert!(edit.changed);
    run_all(&lab, &["expect agent4 command-control framework-manager"]).await;
    run(&lab, "restore agent1 command-control").await;
    run_all(&lab, &["up agent3", "expect agent4 command-control agent3"]).await;

    // A hung one is connected to, and answers nothing: with a check that only connects nobody can know.
    run(&lab, "hang agent3 command-control").await;
    let (host, ty, manager) =
        ("agent4".parse().unwrap(), "command-control".parse().unwrap(), "agent1".parse().unwrap());
    let within = std::time::Duration::from_millis(300);
    let unmet: Expect = lab.expect(&host, &ty, &manager, within).await.unwrap();
    assert!(!unmet.met && unmet.answered.is_none(), "{unmet:?}");
    assert!(
        unmet.cause.contains("agent1 is live") && unmet.cause.contains("no answer within"),
        "{}",
        unmet.cause
    );
    run(&lab, "up agent3").await;
    assert_eq!(name(&call(&lab, "agent4").await), Some("agent3"));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routing_goes_on_without_the_registry_and_without_an_agents_neighbours() {
    let lab = lab().await;
    run_all(&lab, &["expect agent4 command-control agent3", "registry down", "down agent3"]).await;
    assert_eq!(lab.agents_in_sync().await, None);
    assert_eq!(name(&call(&lab, "agent4").await), Some("agent1"));
    let edit = lab.run(&"withdraw agent1 command-control".parse::<Command>().unwrap()).await;
    assert!(matches!(edit, Err(CommandError::Edit(EditError::Down))), "{edit:?}");

    // An agent starts from its replica, with no manager alive.
    let agent4 = "agent4".parse().unwrap();
    lab.switch_agent(Power::Down, &agent4).await.unwrap();
    let refused = lab.call(&agent4, &"command-control".parse().unwrap()).await;
    assert!(matches!(refused, Err(CommandError::AgentDown(_))), "{refused:?}");
    lab.switch_agent(Power::Up, &agent4).await.unwrap();
    run_all(&lab, &["expect agent4 command-control agent1"]).await;

    run_all(&lab, &["registry up", "up agent3", "expect agent4 command-control agent3"]).await;
    let directory = lab.directory().to_owned();
    assert!(directory.join("manager/console").is_dir());
    lab.stop().await;
    assert!(!directory.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_refused_and_the_lab_goes_on() {
    let lab = lab().await;
    for (command, expected) in [
        ("call agent9 command-control", "has no host agent9: use agent1"),
        ("hang agent4 command-control", "agent4 has no manager of type command-control"),
        ("routes audit", "no manager of type audit: use command-control"),
    ] {
        let error = lab.run(&command.parse().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{command}: {error}");
    }
    let nobody = lab.set_stubs(&"agent4".parse().unwrap(), None, StubState::Down).await;
    assert!(matches!(nobody, Err(CommandError::NoStub(_))));
    run_all(&lab, &["expect agent4 command-control agent3"]).await;
    lab.stop().await;
}

#[test]
fn the_script_of_the_example_fits_its_topology() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/reference/failover.lab");
    let script = Script::parse("failover.lab", &std::fs::read(path).unwrap()).unwrap();
    script.check(&echelon_lab::script::Names::of(&reference())).unwrap();
    assert!(script.lines.iter().filter(|(_, c)| matches!(c, Command::Expect { .. })).count() >= 16);
}
