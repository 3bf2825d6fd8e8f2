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
use tokio::runtime::Runtime;

/// Managers whose rows every edit changes, so that half an edit would show.
const MANAGERS: [&str; 3] = ["a", "b", "c"];

/// Kills: each hits another moment.
const ROUNDS: usize = 4;

/// Larger than a new replica, and smaller than one after some tens of edits.
const FULL_KIB: u32 = 256;

/// A page of SQLite's.
const PAGE_KIB: u32 = 4;

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
    ChangeSet {
        request: new_request_id(),
        if_revision: None,
        allow_shrink: false,
        changes: MANAGERS.iter().map(set).collect(),
    }
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

/// A registry with managers, and an agent on a host without one.
fn scene(sandbox: &Sandbox) -> (Manager<'_>, Agent<'_>) {
    let manager = Manager::running(sandbox);
    let address = sandbox.address();
    let topology = MANAGERS.iter().fold(Topology::new(), |all, name| all.manager(name, "/x", address));
    manager.apply(&topology.host("h", "/x", address));
    let agent = Agent::enrolled(&manager, "h");
    (manager, agent)
}

fn head(manager: &Manager<'_>) -> u64 {
    manager.status()["revision"].as_u64().unwrap()
}

/// Edits while `act` runs, which is told the revision before the first of them.
fn under_edits(manager: &Manager<'_>, runtime: &Runtime, act: impl FnOnce(u64)) {
    let head = head(manager);
    let (stop, client) = (Arc::new(AtomicBool::new(false)), runtime.block_on(manager.client()));
    let edits = runtime.spawn(edit(client, u32::try_from(head).unwrap(), Arc::clone(&stop)));
    act(head);
    stop.store(true, Ordering::SeqCst);
    runtime.block_on(edits).unwrap();
}

/// An agent killed while it takes in edits starts with a state that there was, not with half of one, and
/// catches up from there. So is every answer of one state while edits come in.
#[test]
fn an_agent_killed_while_applying_has_a_consistent_replica_and_catches_up() {
    let sandbox = Sandbox::new();
    let (mut manager, mut agent) = scene(&sandbox);
    agent.start_ready();
    let runtime = Runtime::new().unwrap();
    for _ in 0..ROUNDS {
        let mut least = 0;
        under_edits(&manager, &runtime, |head| {
            least = head + EDITS;
            wait_until("edits taken in", || revision_once_edited(&agent, head) >= least);
            agent.kill9();
        });
        let committed = head(&manager);
        manager.kill9();
        agent.start_ready();
        let held = consistent_revision(&agent);
        assert!((least..=committed).contains(&held), "it held {held}, there were {committed}");
        manager.start();
        manager.wait_in_sync(1);
        assert_eq!(consistent_revision(&agent), committed);
    }
}

/// Rows and position change in one transaction: wherever in it the disk runs full, what is on it is of one
/// state. The agent itself goes on routing with all that it is told.
#[test]
fn an_agent_whose_disk_is_full_routes_on_and_keeps_a_consistent_replica() {
    let sandbox = Sandbox::new();
    let (mut manager, mut agent) = scene(&sandbox);
    let runtime = Runtime::new().unwrap();
    for round in 0..ROUNDS {
        // One page more each time, so that the end falls into every part of a write.
        agent.start_with_files_up_to(FULL_KIB + PAGE_KIB * u32::try_from(round).unwrap());
        manager.wait_in_sync(1);
        under_edits(&manager, &runtime, |_| {
            wait_until("a full disk", || failed_writes(&agent) > 0);
        });
        let committed = head(&manager);
        wait_until("the last edit", || revision_once_edited(&agent, committed - 1) == committed);
        agent.kill9();
        manager.kill9();
        agent.start_ready();
        assert!(consistent_revision(&agent) < committed, "the disk was full");
        manager.start();
        manager.wait_in_sync(1);
        agent.kill9();
        replica_files(&agent).into_iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
}

/// How often the agent could not write its replica.
fn failed_writes(agent: &Agent<'_>) -> u64 {
    let metrics = agent.get("/metrics").unwrap().body;
    let sample = metrics.lines().find(|line| line.starts_with("echelon_agent_replica_write_failures_total "));
    sample.unwrap_or_else(|| panic!("{metrics}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// As [`consistent_revision`], where the first edit may still be on its way.
fn revision_once_edited(agent: &Agent<'_>, head: u64) -> u64 {
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
