//! `echelon watch`: what happens, as it happens.

use echelon_core::change::{Change, ChangeSet};
use echelon_core::id::HostId;
use echelon_core::message::EditAnswer;
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Console, Follower, Manager, Sandbox, Stub, TYPE, Topology};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;

/// Starts to watch, and waits until that has begun: from then on nothing is missed.
fn watch(console: &Console) -> Follower {
    let follower = Follower::start(console, "watch");
    begin(console, &follower);
    follower
}

fn begin(console: &Console, follower: &Follower) {
    let mut made = 0;
    echelon_tests::wait_for("the watch to begin", || {
        made += 1;
        console.ok(&format!("domain add /begin{made}"));
        follower.printed().first().map(drop).ok_or(())
    });
}

fn is(event: &Value, kind: &str, subject: &str) -> bool {
    event["event"] == kind && event["subject"] == subject
}

/// An edit, an agent that comes and goes and falls silent, a check that fails and passes again, a host that is
/// not at home and back again, alarms that come and go: each is told.
#[test]
fn what_happens_is_told_as_it_happens() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let mut near = Agent::new(&sandbox, "near").forwarding(TYPE);
    let hub = SocketAddr::new(manager.listen().ip(), PORT);
    let topology = Topology::new()
        .policy("failback_hold = \"0s\"\nfailback_jitter = \"0s\"")
        .manager("hub", "/", hub.ip())
        .manager("near", "/x", near.address());
    manager.apply(&topology);
    let mut events = watch(&console);
    let edit = events.printed()[0].clone();
    assert_eq!(edit["event"], "edit");
    assert!(edit["detail"].as_str().unwrap().contains("console admin changed domain /begin"), "{edit}");

    let (_hub, mut service) = (Stub::start("hub", hub), Stub::start("near", (near.address(), PORT).into()));
    near.enroll_with(&manager);
    near.start_ready();
    near.wait_served_by(TYPE, "near");
    events.wait_for("its session", |e| is(e, "agent-connected", "near"));
    let package = format!("near:{TYPE}");
    events.wait_for("its check", |e| is(e, "package-passing", &package));

    service.kill();
    events.wait_for("the failure", |e| is(e, "package-failing", &package));
    let away = events.wait_for("the failover", |e| is(e, "not-home", &package));
    assert!(away["detail"].as_str().unwrap().starts_with("uses hub"), "{away}");
    let raised = events.wait_for("the alarm", |e| is(e, "alarm-raised", &package));
    assert_eq!(raised["alarm"]["name"], "package-failing");

    service.revive();
    events.wait_for("the return", |e| is(e, "home", &package));
    events.wait_for("the end of the alarm", |e| is(e, "alarm-cleared", &package));

    near.kill9();
    events.wait_for("its silence", |e| is(e, "agent-silent", "near"));
    events.wait_for("the alarm", |e| is(e, "alarm-raised", "near"));
    near.start();
    let sessions =
        |events: &Follower| events.printed().iter().filter(|e| is(e, "agent-connected", "near")).count();
    echelon_tests::wait_until("its return", || sessions(&events) == 2);
    near.terminate();
    events.wait_for("the end of its session", |e| is(e, "agent-disconnected", "near"));
    assert_eq!(events.interrupt(), Some(0));
}

/// Edits with long names, so that few of them fill what is on its way to a watcher.
async fn edit_many(manager: &Manager<'_>, count: usize) {
    let client = Arc::new(manager.client().await);
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let client = Arc::clone(&client);
        tasks.spawn(async move {
            for number in 0..count / 8 {
                let host = |n: usize| Change::AddHost {
                    id: HostId(echelon_client::new_request_id().0),
                    name: format!("h{lane}-{number}-{n}-{}", "x".repeat(230)).parse().unwrap(),
                    domain: "/".parse().unwrap(),
                    address: None,
                };
                let request = echelon_client::new_request_id();
                let changes = (0..3).map(host).collect();
                let answer: EditAnswer = client.edit(edit(request, changes), false).await.unwrap();
                assert!(!answer.repeated);
            }
        });
    }
    tasks.join_all().await;
}

fn edit(request: echelon_core::id::RequestId, changes: Vec<Change>) -> ChangeSet {
    ChangeSet { request, if_revision: None, allow_shrink: false, changes }
}

/// A watcher that does not read holds up nobody: edits go on, and once it reads again it is told how much it
/// has missed, and goes on with what happens then.
#[test]
fn a_slow_watcher_is_told_what_it_missed_and_goes_on() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let mut slow = Follower::start_unread(&console, "watch");
    let quick = watch(&console);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(edit_many(&manager, 4000));
    slow.read();
    let missed = slow.wait_for("word of what it missed", |event| event["event"] == "missed");
    assert!(missed["missed"].as_u64().unwrap() > 0, "{missed}");
    console.ok("domain add /afterwards");
    let after = |event: &Value| event["detail"].as_str().is_some_and(|d| d.contains("/afterwards"));
    slow.wait_for("what came afterwards", after);
    quick.wait_for("what came afterwards", after);
    assert_eq!(slow.interrupt(), Some(0));
}
