//! `echelon status`.

use crate::console::Console;
use crate::members::members;
use crate::problem::{Problem, failed};
use crate::rough::rough;
use crate::style;
use echelon_core::alarm::Severity;
use echelon_core::message::Query;
use echelon_core::name::ManagerType;
use echelon_core::report::StatusReport;
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
    if let Some(seen) = &r.rolled_back {
        let bad = style::BAD;
        lines.push(format!(
            "{bad}set back{bad:#}   it has lost edits: others have seen revision {} of epoch {}, and it takes none",
            seen.revision, seen.epoch
        ));
    }
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
