#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use serde_json::json;
use uuid::Uuid;

const INIT: u128 = 1;
const OURS: u128 = 2;
const THEIRS: u128 = 3;

/// The grant of this lineage and epoch, built on another one's at a revision.
fn grant(lineage: u128, epoch: u64, on: Option<(u128, u64, u64)>, state: &str) -> GrantReport {
    let id = |lineage| Uuid::from_u128(lineage).to_string();
    let parent = on.map(
        |(lineage, epoch, revision)| json!({"lineage": id(lineage), "epoch": epoch, "revision": revision}),
    );
    serde_json::from_value(json!({
        "lineage": id(lineage), "epoch": epoch, "holder": format!("hub{lineage}"), "basis": "force",
        "at": "2027-01-15T08:00:00Z", "grantor": {"kind": "console", "name": "admin"}, "reason": null,
        "parent": parent, "members": [], "min_sync": 1, "rejects": [], "proved": true, "state": state,
    }))
    .unwrap()
}

/// Hub handed over on 17 and was replaced by force on 30; somebody else went on with it from 20.
fn conflict() -> Vec<GrantReport> {
    vec![
        grant(INIT, 1, None, "past"),
        grant(INIT, 2, Some((INIT, 1, 17)), "past"),
        grant(OURS, 3, Some((INIT, 2, 30)), "newest"),
        grant(THEIRS, 3, Some((INIT, 2, 20)), "rival"),
        grant(THEIRS, 4, Some((THEIRS, 3, 25)), "rival"),
    ]
}

fn status(manager: &str, lineage: u128, epoch: u64, revision: u64) -> StatusReport {
    serde_json::from_value(json!({
        "framework": "acme", "manager": manager, "role": "standby", "version": "0.1.0", "uptime_ms": 1,
        "lineage": Uuid::from_u128(lineage).to_string(), "epoch": epoch, "revision": revision, "view_revision": 1,
        "view_digest": "00", "domains": 1, "hosts": 1, "packages": 1, "managers": 1, "agents_connected": 3,
        "agents_in_sync": 3, "agents_silent": 0, "warming": false, "self_doubt": false, "managers_failing": 0,
        "hosts_not_home": 0, "types_unserved": [], "alarms": 0, "worst_alarm": null,
    }))
    .unwrap()
}

fn edit(name: &str) -> HistoryReport {
    let id = Uuid::from_u128(9).to_string();
    serde_json::from_value(json!({
        "lineage": id, "epoch": 4, "revision": 26, "at": "2027-01-15T08:00:00Z",
        "actor": {"kind": "console", "name": "admin"}, "from": null, "request_id": id, "shrink_allowed": false,
        "changed": [{"kind": "host", "name": name, "before": null, "after": {"name": name}}],
    }))
    .unwrap()
}

fn plain(lines: &[String]) -> String {
    anstream::adapter::strip_str(&lines.join("\n")).to_string()
}

#[test]
fn branches_part_at_the_lowest_state_that_either_builds_on() {
    let grants = conflict();
    let branches = branches(&grants);
    let epochs: Vec<Vec<_>> = branches.iter().map(|b| b.iter().map(|g| g.epoch).collect()).collect();
    assert_eq!(epochs, [vec![1, 2, 3], vec![1, 2, 3, 4]]);
    assert_eq!(fork(&branches[0], &branches[1]), Some(20));
    assert_eq!(fork(&branches[0], &branches[0]), None);
}

#[test]
fn without_a_rival_there_is_one_branch_and_a_circle_ends() {
    let peace = [grant(INIT, 1, None, "past"), grant(INIT, 2, Some((INIT, 1, 17)), "newest")];
    assert_eq!(branches(&peace).len(), 1);
    let circle = [grant(OURS, 3, Some((OURS, 3, 1)), "newest")];
    assert_eq!(branches(&circle)[0].len(), 1);
}

#[test]
fn a_side_says_what_it_holds_who_goes_by_it_and_what_to_type() {
    let grants = conflict();
    let said = [status("hub3", THEIRS, 4, 27), status("spare", THEIRS, 4, 26), status("hub2", OURS, 3, 31)];
    let mut side = Side::of(&grants[4], 20, &said);
    assert_eq!((side.revision, side.agents), (Some(27), 6));
    side.told_by = Some("10.0.0.3:29120".parse().unwrap());
    side.edits = Some(vec![edit("a"), edit("b")]);
    let text = plain(&side.lines());
    for part in [
        "of hub3 since 2027-01-15T08:00:00Z",
        "2 edits after revision 20: echelon history --since 20 --manager 10.0.0.3:29120",
        "hub3, spare go by it, with 6 agents",
        "echelon lineage choose 00000000-0000-0000-0000-000000000003 --reason TEXT --dry-run",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let loss = plain(&side.loss());
    assert!(loss.contains("+ host a") && loss.contains("+ host b") && !loss.contains("more"), "{loss}");
    side.edits = Some(vec![edit("a"); SHOWN + 1]);
    assert!(plain(&side.loss()).ends_with("… and more: echelon history --since 20 --manager 10.0.0.3:29120"));
}

#[test]
fn of_a_side_that_nobody_answers_for_nothing_is_claimed() {
    let grants = conflict();
    let side = Side::of(&grants[2], 20, &[]);
    let text = plain(&side.loss());
    assert_eq!(
        text,
        "not known what was edited under it after revision 20; no manager that goes by it was reached"
    );
}
