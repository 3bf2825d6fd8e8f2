//! `echelon status`.

use crate::console::Console;
use crate::members::members;
use crate::problem::{Problem, failed};
use crate::rough::rough;
use crate::style;
use echelon_core::alarm::Severity;
use echelon_core::message::Query;
use echelon_core::name::ManagerType;
use echelon_core::report::{EditsReport, StatusReport};
use std::time::Duration;

/// How to look at it.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Exit with 7 where a warning or something critical is up; see echelon alarm list
    #[arg(long)]
    check: bool,
}

/// Shows how the manager is.
pub(crate) async fn run(args: &Status, console: &mut Console) -> Result<(), Problem> {
    let manager = console.manager().await?;
    let reports: Vec<StatusReport> = manager.query(Query::Status).await.map_err(|e| e.failure())?;
    manager.close().await;
    let report = reports.into_iter().next();
    let report = report.ok_or_else(|| failed("no-status", "the manager gave no report of its own state"))?;
    match console.out.is_json() {
        true => console.out.object(&report)?,
        false => lines(&report).into_iter().try_for_each(|line| console.out.line(line))?,
    }
    match args.check && is_bad(&report) {
        true => {
            console.out.finish()?;
            Err(Problem::BadAnswer)
        }
        false => Ok(()),
    }
}

/// Whether something is wrong. Types without a manager and a manager that doubts itself are alarms too.
fn is_bad(report: &StatusReport) -> bool {
    report.worst_alarm.is_some_and(|worst| worst > Severity::Info)
}

fn alarms(r: &StatusReport) -> String {
    match r.worst_alarm {
        None => "none".into(),
        Some(worst) => {
            let style = style::of_severity(worst);
            format!("{}, the worst is {style}{worst}{style:#}: echelon alarm list", r.alarms)
        }
    }
}

/// Whether edits are taken, where each of them has to be, and how much may fail before none is.
fn edits(e: &EditsReport) -> String {
    let (good, odd, bad) = (style::GOOD, style::ODD, style::BAD);
    if let Some(why) = &e.refused {
        return format!("{bad}refused{bad:#}: {}", why.trim_start_matches("no edit was taken: "));
    }
    let Some(connected) = e.connected else {
        return format!("{good}taken{good:#} by the primary, {}", e.primary);
    };
    match (e.members, e.needed) {
        (0, _) => format!("{good}taken{good:#}, on this manager alone: no standby counts"),
        (_, 0) => format!(
            "{odd}taken, on this manager alone{odd:#}, though standbys count: min_sync is 0, and what no standby has yet \
             is lost with it"
        ),
        (members, needed) => {
            let spare = connected.saturating_sub(needed);
            let more = match spare {
                0 => format!("{odd}none may fail{odd:#}"),
                spare => format!("{spare} may fail"),
            };
            format!(
                "{good}taken{good:#}, each on {needed} of the {members} standbys that count, {connected} of which are \
                 there: {more}"
            )
        }
    }
}

fn lines(r: &StatusReport) -> Vec<String> {
    let (odd, uptime) = (style::ODD, Duration::from_secs(r.uptime_ms / 1000));
    let mut lines = vec![
        format!("framework  {}", r.framework),
        format!("manager    {} ({}), version {}, up {}", r.manager, r.role, r.version, rough(uptime)),
        format!("position   epoch {}, revision {} of lineage {}", r.at.epoch, r.at.revision, r.at.lineage),
        format!("view       revision {}, digest {}", r.view_revision, r.view_digest),
        format!(
            "registry   {} domains, {} hosts, {} packages, of which {} managers",
            r.domains, r.hosts, r.packages, r.managers
        ),
        format!(
            "agents     {} connected, {} in sync, {} silent",
            r.agents_connected, r.agents_in_sync, r.agents_silent
        ),
        format!("routing    {} managers failing, {} hosts not home", r.managers_failing, r.hosts_not_home),
        format!("alarms     {}", alarms(r)),
    ];
    lines.extend(r.edits.as_ref().map(|edits| format!("edits      {}", self::edits(edits))));
    if let Some(seen) = &r.rolled_back {
        let bad = style::BAD;
        lines.push(format!(
            "{bad}set back{bad:#}   it has lost edits: others have seen revision {} of epoch {}, and it takes none",
            seen.revision, seen.epoch
        ));
    }
    let told_below = ["rolled-back", "type-unserved"];
    let critical = r.alarm_list.iter().filter(|alarm| alarm.severity == Severity::Critical);
    lines.extend(critical.filter(|alarm| !told_below.contains(&alarm.name.as_str())).map(|alarm| {
        let bad = style::BAD;
        format!("{bad}critical{bad:#}   {} of {}: {}", alarm.name, alarm.subject, alarm.message)
    }));
    if !r.types_unserved.is_empty() {
        let (bad, types) = (style::BAD, r.types_unserved.iter().map(ManagerType::as_str).collect::<Vec<_>>());
        lines.push(format!("{bad}unserved{bad:#}   no manager can be used of: {}", types.join(", ")));
    }
    if r.warming {
        lines.push(format!(
            "{odd}warming{odd:#}    started a moment ago: agents that were not heard yet are not judged"
        ));
    }
    if r.self_doubt {
        lines.push(format!("{odd}doubting{odd:#}   too many agents fell silent at once: none is judged for now, look at the network"));
    }
    // Of one alone the second line says it all.
    if r.registry_managers.len() > 1 {
        lines.push(String::new());
        lines.extend(members(&r.registry_managers).lines());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut EditsReport)) -> String {
        let mut report = EditsReport {
            refused: None,
            primary: "hub".into(),
            members: 3,
            min_sync: 1,
            needed: 1,
            connected: Some(3),
        };
        change(&mut report);
        anstream::adapter::strip_str(&edits(&report)).to_string()
    }

    #[test]
    fn of_edits_it_is_said_whether_they_are_taken_and_what_may_fail() {
        assert_eq!(
            of(|_| ()),
            "taken, each on 1 of the 3 standbys that count, 3 of which are there: 2 may fail"
        );
        assert!(of(|e| e.connected = Some(1)).ends_with("1 of which are there: none may fail"));
        assert!(of(|e| (e.members, e.needed) = (0, 0)).ends_with("no standby counts"));
        assert!(of(|e| (e.min_sync, e.needed) = (0, 0)).contains("min_sync is 0"));
        assert_eq!(of(|e| e.connected = None), "taken by the primary, hub");
        let why = Some("no edit was taken: the primary hub has been silent for 12s".to_owned());
        assert_eq!(of(|e| e.refused = why), "refused: the primary hub has been silent for 12s");
    }
}
