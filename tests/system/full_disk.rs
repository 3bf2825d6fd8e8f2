//! Registry managers whose disks are full, on small disks of their own.

use crate::managers::{CLIENTS, EDITS, assert_nothing_lost};
use echelon_tests::namespace::with_disks;
use echelon_tests::{Cluster, Console, Disk, Sandbox, Writers, wait_for};
use serde_json::Value;

/// Room for some hundred edits and more than a write-ahead log takes.
const MIB: u32 = 12;

/// The first refusal of an edit with this exit code. Those before it are carried out, or nobody knows.
#[track_caller]
fn refusal(console: &Console, code: i32, name: &str) -> Value {
    let mut tries = 0;
    wait_for("an edit to be refused", || {
        tries += 1;
        let answer = console.run(&format!("host add {name}{tries} --domain / --output json"));
        if answer.code == code { Ok(answer.error()) } else { Err(answer) }
    })
}

/// A primary without room refuses every edit with what would help, at whichever manager it is asked, and goes on once
/// there is room. A standby without room holds up nobody while another one has some; without that, edits are
/// refused before they are written. Nothing that was acknowledged is lost by any of it, and no process ends.
#[test]
fn without_room_edits_are_refused_and_nothing_acknowledged_is_lost() {
    with_disks("full_disk::without_room_edits_are_refused_and_nothing_acknowledged_is_lost", || {
        let sandbox = Sandbox::new();
        let [primary, standby] = ["manager", "spare1"].map(|name| Disk::mount(&sandbox.path(name), MIB));
        let mut cluster = Cluster::running(&sandbox, 2);
        // Not through the standby that will be behind: it does not show them what it has handed on for them.
        let writers = Writers::start(&cluster, &[0, 2], CLIENTS);
        writers.wait_for_more(EDITS);

        primary.fill();
        for at in [0, 1] {
            let refused = refusal(&cluster.console_at(at), 1, &format!("full{at}-"));
            assert_eq!(
                (&refused["error"], &refused["retry"]),
                (&"not-stored".into(), &"safe".into()),
                "{refused}"
            );
            assert!(refused["message"].as_str().unwrap().contains("the disk is full"), "{refused}");
            assert!(refused["remedy"].as_str().unwrap().contains("make room"), "{refused}");
        }
        cluster.console_at(0).ok("status");
        primary.empty();
        writers.wait_for_more(EDITS);

        standby.fill();
        wait_for("the standby to notice", || {
            let log = cluster[1].process().log();
            log.contains("the disk is full").then_some(()).ok_or("nothing in its log")
        });
        writers.wait_for_more(EDITS);
        cluster[2].kill9();
        let refused = refusal(&cluster.console_at(0), 4, "alone");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("spare1") && message.contains("spare2"), "{refused}");
        standby.empty();
        writers.wait_for_more(EDITS);
        assert_nothing_lost(&cluster, writers.stop());
        for at in [0, 1] {
            assert!(cluster[at].process().is_running());
        }
    });
}
