//! `echelon status`.

use crate::console::Console;
use crate::problem::{Problem, failed};
use crate::style;
use echelon_core::duration::print;
use echelon_core::message::Query;
use echelon_core::report::StatusReport;
use std::time::Duration;

/// Shows how the manager is.
pub(crate) async fn run(console: &mut Console) -> Result<(), Problem> {
    let manager = console.manager().await?;
    let reports: Vec<StatusReport> = manager.query(Query::Status).await.map_err(|e| e.failure())?;
    manager.close().await;
    let report = reports.into_iter().next();
    let report = report.ok_or_else(|| failed("no-status", "the manager gave no report of its own state"))?;
    match console.out.is_json() {
        true => console.out.object(&report),
        false => lines(&report).into_iter().try_for_each(|line| console.out.line(line)),
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
    ];
    if r.warming {
        lines.push(format!(
            "{odd}warming{odd:#}    started a moment ago: agents that were not heard yet are not judged"
        ));
    }
    if r.self_doubt {
        lines.push(format!("{odd}doubting{odd:#}   too many agents fell silent at once: none is judged for now, look at the network"));
    }
    lines
}

/// A duration to its largest unit, which is all that matters to a reader.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = [86_400, 3600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    print(Duration::from_secs(seconds / unit * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_down_to_one_unit() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m"), (7300, "2h"), (200_000, "2d")] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }
}
