//! What was edited, by whom, when and from where; and that it can be told later, and as it happens.

use echelon_client::{ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::id::HostId;
use echelon_core::message::Query;
use echelon_core::report::HistoryDocument;
use echelon_tests::{DEADLINE, Follower, Manager, Sandbox};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::time::timeout;

fn changed<'a>(edit: &'a Value, kind: &str) -> &'a Value {
    let list = edit["changed"].as_array().unwrap();
    list.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}: {edit}"))
}

/// Every edit is there with who, when, from where, before and after, in the names of its time: those of
/// domains and hosts that were renamed or removed since too. Secrets are not, not even their hashes.
#[test]
fn every_edit_is_told_in_the_names_of_its_time_and_without_secrets() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    let token = manager.token("--host h");
    for line in [
        "domain add /a",
        "host add h --domain /a",
        "package add h audit --port 7001",
        "domain rename /a b",
        "host rename h g",
        "package withdraw g audit --reason moved --allow-shrink",
        "host remove g --with-packages",
        "domain remove /b",
    ] {
        console.ok(line);
    }
    let edits = console.objects("history");
    let revisions: Vec<_> = edits.iter().map(|edit| edit["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions, (1..=9).collect::<Vec<_>>());
    assert_eq!(changed(&edits[2], "host")["after"]["domain"], "/a");
    assert_eq!(changed(&edits[3], "package")["name"], "h:audit");
    assert_eq!(changed(&edits[4], "domain")["before"]["path"], "/a");
    assert_eq!(changed(&edits[4], "domain")["after"]["path"], "/b");
    assert_eq!(changed(&edits[6], "package")["name"], "g:audit");
    assert_eq!(changed(&edits[6], "package")["after"]["state"], "withdrawn");
    assert_eq!(changed(&edits[7], "host")["after"], Value::Null);
    let shrinks = edits.iter().filter(|edit| edit["shrink_allowed"] == true);
    assert_eq!(shrinks.map(|edit| &edit["revision"]).collect::<Vec<_>>(), [7]);
    for edit in &edits {
        assert_eq!((&edit["actor"]["kind"], &edit["actor"]["name"]), (&"console".into(), &"admin".into()));
        assert!(edit["from"].as_str().unwrap().starts_with("127."), "{edit}");
    }
    let (all, secret) = (console.ok("history --output json"), token.split('.').nth(2).unwrap().to_owned());
    assert!(!all.contains(&secret) && !all.contains("hash"), "{all}");

    let newest = console.objects("history --limit 2");
    assert_eq!(newest, edits[7..]);
    assert_eq!(console.objects("history --since 7"), edits[7..]);
    assert_eq!(console.objects("history --since 2 --limit 1"), edits[8..]);
    assert_eq!(console.objects("history --since 9"), [Value::Null; 0]);
    let table = console.ok("history --limit 1");
    assert!(table.starts_with("revision 9  20") && table.contains("  - domain /b"), "{table}");
}

/// The history is followed from where it is, edit by edit, also over a restart of the reader; an interrupt ends
/// it in good order, and so does a reader that has seen enough.
#[test]
fn the_history_is_followed_as_edits_commit() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let console = manager.console();
    console.ok("domain add /a");
    console.ok("domain add /b");
    let mut follower = Follower::start(&console, "history --follow --limit 1");
    follower.wait_for("the newest edit", |edit| edit["revision"] == 2);
    console.ok("domain add /c");
    let told = follower.wait_for("the next edit", |edit| edit["revision"] == 3);
    assert_eq!(changed(&told, "domain")["name"], "/c");
    assert_eq!(follower.interrupt(), Some(0));
    assert_eq!(follower.printed().len(), 2, "{:?}", follower.printed());

    let mut follower = Follower::start_unread(&console, "history --follow");
    let made = std::cell::Cell::new(0);
    let nudge = || {
        made.set(made.get() + 1);
        console.ok(&format!("domain add /n{}", made.get()));
    };
    assert_eq!(follower.close(nudge), Some(0));
}

/// An edit of thousands of objects is more than one message, and one object of JSON all the same.
#[test]
fn a_large_edit_is_one_object() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let hosts: String =
        (0..3000).map(|n| format!("[[host]]\nname = \"host{n}\"\ndomain = \"/x\"\n")).collect();
    let path = sandbox.file("large.toml", format!("framework = \"acme\"\n{hosts}"));
    manager.console().ok(&format!("apply {}", path.display()));
    let edit = manager.console().object("history");
    let changed = edit["changed"].as_array().unwrap();
    let names = changed.iter().filter(|object| object["kind"] == "host");
    assert_eq!(names.count(), 3000);
    assert!(edit.get("more").is_none(), "that is between manager and console");
}

/// A history of several parts: commits of a megabyte each.
async fn make_long(client: &ManagerClient) {
    for commit in 0..8 {
        let host = |n: usize| Change::AddHost {
            id: HostId(new_request_id().0),
            name: format!("h{commit}-{n}-{}", "x".repeat(220)).parse().unwrap(),
            domain: "/".parse().unwrap(),
            address: None,
        };
        let changes = (0..4000).map(host).collect();
        let set = ChangeSet { request: new_request_id(), if_revision: None, allow_shrink: false, changes };
        client.edit(set, false).await.unwrap();
    }
}

/// Only so many read the history at once: one whose reader is gone before the first answer gives its turn back, and
/// does not go on to the end.
#[test]
fn a_reading_ends_with_whoever_asked_for_it() {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let log = sandbox.logs().join("manager.err");
    let given_up = || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.matches("A reading of the history is given up").count()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = manager.client().await;
        make_long(&client).await;
        for follow in [false, true] {
            let before = given_up();
            let begin = Instant::now();
            while given_up() == before {
                assert!(begin.elapsed() < DEADLINE, "a reading goes on for nobody, follow: {follow}");
                let asked =
                    client.query::<HistoryDocument>(Query::History { since: None, limit: None, follow });
                // Long enough for the question to arrive, and too short for the answer to one like this.
                let _ = timeout(Duration::from_millis(20), asked).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    assert_eq!(manager.console().objects("history --limit 1").len(), 1);
}
