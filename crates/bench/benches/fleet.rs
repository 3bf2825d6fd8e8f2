//! A registry manager with many agents, by default 1,000, each with its own certificate, QUIC connection and
//! SQLite file: memory for each, one edit until it is in force at all of them, what a change to a plain host
//! costs the others, and a restart.
//!
//! `-- 200` runs 200 agents; `-- 200 restart` only measures the restart.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::bare::BareFanOut;
use echelon_bench::fleet::{self, Fleet, TYPE};
use echelon_bench::report::{beside, show};
use echelon_bench::{Registry, Samples};
use echelon_client::{ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::endpoint::Endpoint;
use echelon_identity::IdentityDirectory;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const AGENTS: usize = 1000;

/// Edits, one after the other.
const EDITS: usize = 60;

/// Between two of them, so that each is one and not part of a burst.
const PAUSE: Duration = Duration::from_millis(400);

/// Until nothing is left of what came before.
const SETTLE: Duration = Duration::from_secs(10);

/// Bytes of the delta that withdraws a manager, roughly.
const DELTA: usize = 300;

#[tokio::main]
async fn main() {
    registry_agent::raise_descriptor_limit().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let agents = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(AGENTS);
    let parts = ["memory", "edits", "plain", "restart"];
    let wanted: Vec<_> = parts.into_iter().filter(|p| arguments.iter().any(|a| a == p)).collect();
    let wants = |part| wanted.is_empty() || wanted.contains(&part);

    let mut registry = Registry::start();
    registry.apply(&fleet::topology(agents));
    let begin = Instant::now();
    let states = fleet::enrol(&registry, agents).await;
    beside(&format!("{agents} agents enrolled in"), format!("{:.1?}", begin.elapsed()));
    sleep(SETTLE / 5).await;
    let before = registry.process().resident_kib();
    let begin = Instant::now();
    let fleet = Fleet::start(&states).await;
    beside(&format!("{agents} agents started and in sync in"), format!("{:.1?}", begin.elapsed()));
    if wants("memory") {
        sleep(SETTLE).await;
        memory(&registry, before, agents);
    }
    if wants("edits") {
        edits(&registry, &fleet).await;
    }
    if wants("plain") {
        plain(&registry).await;
    }
    if wants("restart") {
        restart(&mut registry, &fleet, false).await;
        sleep(SETTLE).await;
        restart(&mut registry, &fleet, true).await;
    }
    fleet.stop().await;
}

/// Resident memory of the manager's process, with all agents connected, less what it was before.
fn memory(registry: &Registry, before: u64, agents: usize) {
    let after = registry.process().resident_kib();
    let each = after.saturating_sub(before) as f64 / agents as f64;
    beside("manager's resident memory, before and with all", format!("{before} KiB, {after} KiB"));
    show("manager's memory per connected agent", format!("{each:.1} KiB"), "40 KiB", each <= 40.0);
}

/// One edit: acknowledged, and in force at all agents.
async fn edits(registry: &Registry, fleet: &Fleet) {
    let client = console(registry).await;
    let mut told = fleet.follow("manager-0");
    sleep(SETTLE / 5).await;
    let (mut acks, mut all, mut each, mut bare_times) = (vec![], vec![], vec![], vec![]);
    let mut bare = BareFanOut::start(fleet.len()).await;
    for number in 0..EDITS {
        let withdraw = number % 2 == 0;
        let begin = Instant::now();
        let edit = client.edit(withdrawal(withdraw), false).await;
        assert!(!edit.unwrap().rows.is_empty());
        acks.push(begin.elapsed());
        let mut last = begin.elapsed();
        for _ in 0..fleet.len() {
            let next = timeout(Duration::from_secs(30), told.recv()).await;
            let ((_, at), now) = next.expect("an agent does not follow").unwrap();
            assert_eq!(now, withdraw);
            each.push(at - begin);
            last = last.max(at - begin);
        }
        all.push(last);
        sleep(PAUSE).await;
        bare_times.push(bare.send(DELTA).await);
        sleep(PAUSE).await;
    }
    client.close().await;
    let (all, bare) = (Samples::new(all), Samples::new(bare_times));
    beside("an edit is acknowledged", Samples::new(acks));
    beside("an edit is in force at an agent", Samples::new(each));
    beside("the bare transport, as many bytes to as many", &bare);
    let figure = |time: Duration, bare: Duration| format!("{time:.1?}, bare {bare:.1?}");
    let (median, p99) = (all.median(), all.percentile(0.99));
    let millis = Duration::from_millis;
    let what = "an edit is in force at all agents";
    show(&format!("{what}, median"), figure(median, bare.median()), "150 ms", median <= millis(150));
    let bare = bare.percentile(0.99);
    show(&format!("{what}, 99 %"), figure(p99, bare), "300 ms", p99 <= millis(300));
}

/// What changes to a host without managers cost everybody else.
async fn plain(registry: &Registry) {
    let client = console(registry).await;
    sleep(SETTLE / 5).await;
    let before = pushed(registry);
    for number in 0..20 {
        let domain = if number % 2 == 0 { "/region/area-1" } else { "/region" };
        let change = Change::MoveHost { host: "plain".parse().unwrap(), domain: domain.parse().unwrap() };
        client.edit(edit(change), false).await.unwrap();
    }
    sleep(SETTLE / 2).await;
    client.close().await;
    let bytes = pushed(registry) - before;
    show("20 changes to a plain host, bytes beyond heartbeats", bytes, "0", bytes == 0);
}

/// The manager is restarted, in good order or by a power cut.
async fn restart(registry: &mut Registry, fleet: &Fleet, cut: bool) {
    let how = if cut { "killed" } else { "restarted" };
    let begin = Instant::now();
    match cut {
        true => registry.kill9(),
        false => registry.terminate(),
    }
    let down = begin.elapsed();
    let started = Instant::now();
    registry.launch();
    let (begun, first_edit) = tokio::join!(fleet.in_sync(begin, None), first_edit(registry, started));
    let (in_sync, longest) = begun;
    beside(&format!("manager {how}: gone after"), format!("{down:.1?}"));
    let seconds = Duration::from_secs;
    show(
        &format!("manager {how}: all in sync again after"),
        format!("{in_sync:.1?}"),
        "10 s",
        in_sync <= seconds(10),
    );
    show(
        &format!("manager {how}: longest gap at any agent"),
        format!("{longest:.1?}"),
        "10 s",
        longest <= seconds(10),
    );
    let what = format!("manager {how}: first edit after its start");
    show(&what, format!("{first_edit:.1?}"), "1 s", first_edit <= seconds(1));
    beside("datagrams dropped at its socket", metric(registry, "echelon_manager_socket_drops_total"));
}

/// How long after a start the first edit is acknowledged.
async fn first_edit(registry: &Registry, started: Instant) -> Duration {
    loop {
        let attempt = async {
            let client = connect(registry).await.ok()?;
            let change = Change::MoveHost { host: "plain".parse().unwrap(), domain: "/".parse().unwrap() };
            client.edit(edit(change), false).await.ok()?;
            Some(())
        };
        if let Ok(Some(())) = timeout(Duration::from_millis(500), attempt).await {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no edit is accepted");
        sleep(Duration::from_millis(10)).await;
    }
}

fn withdrawal(withdraw: bool) -> ChangeSet {
    let (host, ty) = ("manager-0".parse().unwrap(), TYPE.parse().unwrap());
    edit(match withdraw {
        true => Change::WithdrawPackage { host, ty, reason: None },
        false => Change::RestorePackage { host, ty },
    })
}

fn edit(change: Change) -> ChangeSet {
    ChangeSet { request: new_request_id(), if_revision: None, allow_shrink: true, changes: vec![change] }
}

async fn console(registry: &Registry) -> ManagerClient {
    connect(registry).await.unwrap()
}

async fn connect(registry: &Registry) -> Result<ManagerClient, echelon_client::ConnectError> {
    let identity = IdentityDirectory::open(&registry.console_identity()).unwrap();
    ManagerClient::connect(&identity, &[Endpoint::from(registry.listen())]).await
}

/// Bytes of messages on agents' sessions, less those of heartbeats.
fn pushed(registry: &Registry) -> u64 {
    metric(registry, "echelon_manager_pushed_bytes_total")
        - metric(registry, "echelon_manager_pushed_heartbeat_bytes_total")
}

fn metric(registry: &Registry, name: &str) -> u64 {
    let text = registry.metrics();
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
}
