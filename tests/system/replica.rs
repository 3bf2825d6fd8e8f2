//! An agent's replica and the death of the agent.

use crate::bad_input::noise;
use echelon_client::{ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::package::Listens;
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Sandbox, TYPE, Topology, wait_until};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Managers whose rows every edit changes, so that half an edit would show.
const MANAGERS: [&str; 3] = ["a", "b", "c"];

/// Kills: each hits another moment.
const ROUNDS: usize = 4;

/// Edits that the agent must take in before each kill.
const EDITS: u64 = 20;

/// The edit that sets every manager's weight to this number.
fn weights(weight: u32) -> ChangeSet {
    let spec = PackageSpec {
        weight,
        listens: Listens::Port(NonZeroU16::new(PORT).unwrap()),
        ..PackageSpec::default()
    };
    let set = |host: &&str| Change::SetPackage {
        host: host.parse().unwrap(),
        ty: TYPE.parse().unwrap(),
        spec: spec.clone(),
    };
    ChangeSet { request: new_request_id(), if_revision: None, changes: MANAGERS.iter().map(set).collect() }
}

/// Edits without a pause until it is told to stop. Each weight is its edit's revision.
async fn edit(client: ManagerClient, mut revision: u32, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        revision += 1;
        let answer = client.edit(weights(revision), false).await.unwrap();
        assert_eq!(answer.position.revision, u64::from(revision));
    }
}

/// The revision that an agent's route says it is from; its rows must all be of that same one.
fn consistent_revision(agent: &Agent<'_>) -> u64 {
    let route = agent.route(TYPE);
    let revision = route["revision"].as_u64().unwrap();
    let candidates = route["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), MANAGERS.len(), "{route}");
    for candidate in candidates {
        assert_eq!(candidate["weight"], revision, "rows and position are of different states: {route}");
    }
    revision
}

/// Rows and position change in one transaction: an agent killed while it takes in edits starts with a state
/// that there was, not with half of one, and catches up from there.
#[test]
fn an_agent_killed_while_applying_has_a_consistent_replica_and_catches_up() {
    let sandbox = Sandbox::new();
    let mut manager = Manager::running(&sandbox);
    let address = sandbox.address();
    let topology = MANAGERS.iter().fold(Topology::new(), |all, name| all.manager(name, "/x", address));
    manager.apply(&topology.host("h", "/x", address));
    let mut agent = Agent::enrolled(&manager, "h");
    agent.start_ready();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in 0..ROUNDS {
        let head = manager.status()["revision"].as_u64().unwrap();
        let (stop, client) = (Arc::new(AtomicBool::new(false)), runtime.block_on(manager.client()));
        let edits = runtime.spawn(edit(client, u32::try_from(head).unwrap(), Arc::clone(&stop)));
        wait_until("edits taken in", || consistent_revision_once_edited(&agent, head) >= head + EDITS);
        agent.kill9();
        stop.store(true, Ordering::SeqCst);
        runtime.block_on(edits).unwrap();
        let committed = manager.status()["revision"].as_u64().unwrap();
        manager.kill9();

        agent.start_ready();
        let held = consistent_revision(&agent);
        assert!((head + EDITS..=committed).contains(&held), "it held {held}, there were {committed}");
        manager.start();
        manager.wait_in_sync(1);
        assert_eq!(consistent_revision(&agent), committed);
    }
}

/// The same while the first edit of a round may still be on its way.
fn consistent_revision_once_edited(agent: &Agent<'_>, head: u64) -> u64 {
    match agent.route(TYPE)["revision"].as_u64().unwrap() {
        revision if revision <= head => revision,
        _ => consistent_revision(agent),
    }
}

/// The files of an agent's replica.
fn replica_files(agent: &Agent<'_>) -> Vec<PathBuf> {
    let files = std::fs::read_dir(agent.state()).unwrap().map(|entry| entry.unwrap().path());
    let is_replica = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("replica");
    let files: Vec<_> = files.filter(is_replica).collect();
    assert!(!files.is_empty());
    files
}

/// A replica that was lost or damaged is made anew from a snapshot, without a new enrolment.
#[test]
fn an_agent_without_a_usable_replica_gets_a_snapshot() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let address = sandbox.address();
    manager.apply(&Topology::new().manager("a", "/x", address).host("h", "/x", address));
    let mut agent = Agent::enrolled(&manager, "h");
    agent.start_ready();
    manager.wait_in_sync(1);
    let harm: [fn(PathBuf); 2] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, noise().take(20_000).collect::<Vec<_>>()).unwrap(),
    ];
    for harm in harm {
        agent.kill9();
        replica_files(&agent).into_iter().for_each(harm);
        agent.start_ready();
        manager.wait_in_sync(1);
        assert_eq!(agent.served_by(TYPE).as_deref(), Some("a"));
    }
}
