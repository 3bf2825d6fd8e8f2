//! How registry managers stand among each other, in tables.

use crate::rough::rough_ms;
use crate::table::{NOTHING, Table, cell, maybe};
use comfy_table::Cell;
use echelon_core::promotion::MemberReport;

/// All of them.
pub(crate) fn members(managers: &[MemberReport]) -> Table {
    let mut table = Table::new([
        "REGISTRY MANAGER",
        "ROLE",
        "COUNTS",
        "STATE",
        "POSITION",
        "LAG",
        "AGENTS",
        "HEARD",
        "NOTES",
    ]);
    for member in managers {
        let counts = match (member.role.as_str(), member.counts) {
            ("primary", _) => NOTHING,
            (_, true) => "yes",
            (_, false) => "not yet",
        };
        let state = if member.connected { "live" } else { "silent" };
        let first = [cell(&member.host), cell(role(member)), cell(counts), cell(state)];
        table.row(first.into_iter().chain(member_cells(member)));
    }
    table
}

/// By the newest grant; of one that the registry still has for the primary, that it is none.
pub(crate) fn role(member: &MemberReport) -> &str {
    if member.fenced_since.is_some() { "fenced" } else { &member.role }
}

/// The position, the lag, the agents, when it was heard, and what is out of the ordinary.
pub(crate) fn member_cells(member: &MemberReport) -> [Cell; 5] {
    let at = member.position.as_ref().map(|at| format!("{}.{}", at.epoch, at.revision));
    let heard = member.heard_ms.map(|ms| format!("{} ago", rough_ms(ms)));
    [maybe(at), maybe(lag(member)), maybe(member.agents), maybe(heard), cell(notes(member))]
}

/// The same of one manager, each with what it is, and in full.
pub(crate) fn member_lines(member: &MemberReport) -> Vec<(&'static str, String)> {
    let at = member.position.as_ref().map(|at| ("position", crate::promotion::position(at)));
    let committed = member.committed.map(|revision| ("committed", format!("revision {revision}")));
    let lacks = lag(member).map(|lag| ("lacks", format!("{lag} of the newest edits known")));
    let agents = member.agents.map(|agents| ("agents", agents.to_string()));
    let heard = member.heard_ms.map(|ms| ("heard", format!("{} ago", rough_ms(ms))));
    let odd = Some(("notes", notes(member))).filter(|(_, notes)| notes != NOTHING);
    [at, committed, lacks, agents, heard, odd].into_iter().flatten().collect()
}

/// How many edits it lacks, and for how long it has.
fn lag(member: &MemberReport) -> Option<String> {
    let edits = member.lag_edits?;
    Some(match member.lag_ms.filter(|_| edits > 0) {
        Some(ms) => format!("{edits} for {}", rough_ms(ms)),
        None => edits.to_string(),
    })
}

fn notes(member: &MemberReport) -> String {
    let notes = [(member.sealed, "sealed"), (member.copying, "copying"), (member.rolled_back, "rolled back")];
    let notes = notes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, note)| note.to_owned());
    let fenced = member.fenced_since.iter().map(|at| format!("not the primary since {}", to_the_second(at)));
    let said: Vec<_> = fenced.chain(follows_nobody(member)).chain(notes).collect();
    if said.is_empty() { NOTHING.to_owned() } else { said.join(", ") }
}

/// Of a manager that is not the primary and has no link to it.
fn follows_nobody(member: &MemberReport) -> Option<String> {
    member.follows_nobody_ms.map(|ms| format!("follows nobody for {}", rough_ms(ms)))
}

/// A time in RFC 3339 without parts of a second: what ends in a month needs none, and some certificates have none.
pub(crate) fn to_the_second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_manager_has_its_line_with_what_it_lacks_and_what_is_odd_about_it() {
        let primary = MemberReport {
            host: "hub".into(),
            role: "primary".into(),
            fenced_since: None,
            follows_nobody_ms: None,
            counts: false,
            connected: true,
            heard_ms: Some(0),
            position: None,
            committed: None,
            lag_edits: Some(0),
            lag_ms: None,
            agents: Some(3),
            sealed: false,
            copying: false,
            rolled_back: false,
        };
        let standby = MemberReport {
            host: "spare".into(),
            role: "standby".into(),
            counts: true,
            connected: false,
            heard_ms: Some(61_000),
            lag_edits: Some(7),
            lag_ms: Some(5_000),
            agents: None,
            sealed: true,
            copying: true,
            ..primary.clone()
        };
        let fenced = MemberReport {
            host: "old".into(),
            role: "standby".into(),
            fenced_since: Some("2027-11-22T10:00:00.123Z".into()),
            follows_nobody_ms: Some(300_000),
            ..primary.clone()
        };
        let table = members(&[primary, standby, fenced]);
        let plain = |line: String| anstream::adapter::strip_str(&line).to_string().trim_end().to_owned();
        let lines: Vec<_> = table.lines().map(plain).collect();
        assert_eq!(
            lines,
            [
                "REGISTRY MANAGER  ROLE     COUNTS   STATE   POSITION  LAG       AGENTS  HEARD   NOTES",
                "hub               primary  -        live    -         0         3       0s ago  -",
                "spare             standby  yes      silent  -         7 for 5s  -       1m ago  sealed, copying",
                "old               fenced   not yet  live    -         0         3       0s ago  \
                 not the primary since 2027-11-22T10:00:00Z, follows nobody for 5m",
            ]
        );
    }
}
