//! `echelon alarm`.

use crate::console::Console;
use crate::problem::Problem;
use crate::rough::rough_ms;
use crate::style;
use crate::table::{Table, cell};
use comfy_table::{Cell, Color};
use echelon_core::alarm::Severity;
use echelon_core::message::Query;
use echelon_core::report::AlarmReport;

/// What to do with alarms.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Alarm {
    /// List what is wrong at the moment, the worst first
    #[command(after_help = "Examples:\n  echelon alarm list\n  echelon alarm list --output json")]
    List,
}

/// Does it.
pub(crate) async fn run(Alarm::List: Alarm, console: &mut Console) -> Result<(), Problem> {
    let manager = console.manager().await?;
    let alarms = manager.query::<AlarmReport>(Query::Alarms).await.map_err(|error| error.failure());
    manager.close().await;
    let mut alarms = alarms?;
    // Stable: alarms of one severity stay in the manager's order.
    alarms.sort_by_key(|alarm| std::cmp::Reverse(alarm.severity));
    if console.out.is_json() {
        return alarms.iter().try_for_each(|alarm| console.out.object(alarm));
    }
    if alarms.is_empty() {
        return console.out.line("no alarms");
    }
    console.out.table(&table(&alarms))
}

/// Alarms as a table: what to do stands below what is wrong.
pub(crate) fn table(alarms: &[AlarmReport]) -> Table {
    let mut table = Table::new(["SEVERITY", "ALARM", "SUBJECT", "SINCE", "MESSAGE"]);
    for alarm in alarms {
        let dim = style::DIM;
        let remedy =
            if alarm.remedy.is_empty() { String::new() } else { format!("\n{dim}{}{dim:#}", alarm.remedy) };
        table.row([
            severity(alarm.severity),
            cell(&alarm.name),
            cell(&alarm.subject),
            cell(rough_ms(alarm.since_ms)),
            cell(format!("{}{remedy}", alarm.message)),
        ]);
    }
    table
}

fn severity(severity: Severity) -> Cell {
    let color = match severity {
        Severity::Critical => Color::DarkRed,
        Severity::Warning => Color::DarkYellow,
        Severity::Info => Color::DarkGrey,
    };
    Cell::new(severity).fg(color)
}
