//! `echelon alarm`.

use crate::console::Console;
use crate::managers;
use crate::problem::Problem;
use crate::progress::shown;
use crate::rough::rough_ms;
use crate::style;
use crate::table::{Table, cell};
use comfy_table::{Cell, Color};
use echelon_core::alarm::Severity;
use echelon_core::message::Query;
use echelon_core::name::HostName;
use echelon_core::report::AlarmReport;

/// What to do with alarms.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Alarm {
    /// List what is wrong at the moment, the worst first: what every registry manager that answers knows, or with
    /// --manager that one
    #[command(after_help = "Examples:\n  echelon alarm list\n  echelon alarm list --output json")]
    List,
}

/// Does it.
pub(crate) async fn run(Alarm::List: Alarm, console: &mut Console) -> Result<(), Problem> {
    let manager = console.manager().await?;
    let alarms = manager.query::<AlarmReport>(Query::Alarms).await.map_err(|error| error.failure());
    manager.close().await;
    let mut alarms = alarms?;
    if !console.is_directed() {
        let silent = add_others(console, &mut alarms).await?;
        if !silent.is_empty() {
            let names = silent.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
            console.out.note(format!(
                "not asked for what they know of themselves, since they do not answer: {names}"
            ))?;
        }
    }
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

/// Adds what the other registry managers tell, of themselves above all. Gives the names of those that do not answer.
async fn add_others(console: &Console, alarms: &mut Vec<AlarmReport>) -> Result<Vec<HostName>, Problem> {
    let all = managers::all(console).await?;
    if all.len() < 2 {
        return Ok(Vec::new());
    }
    let asked = managers::ask_each::<AlarmReport>(console, &all, Query::Alarms);
    let mut silent = Vec::new();
    for answered in shown("Asking every registry manager", asked).await? {
        match answered.answer {
            Ok(told) => merge(alarms, told),
            Err(_) => silent.push(answered.host),
        }
    }
    Ok(silent)
}

/// Adds what is not there; of what is, the worse word and the longer time count.
fn merge(alarms: &mut Vec<AlarmReport>, told: Vec<AlarmReport>) {
    for alarm in told {
        match alarms.iter_mut().find(|a| (&a.name, &a.subject) == (&alarm.name, &alarm.subject)) {
            None => alarms.push(alarm),
            Some(known) if known.severity < alarm.severity => *known = alarm,
            Some(known) => known.since_ms = known.since_ms.max(alarm.since_ms),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(subject: &str, severity: Severity, since_ms: u64) -> AlarmReport {
        AlarmReport {
            name: "surplus".parse().expect("a name of an alarm"),
            severity,
            subject: subject.into(),
            message: String::new(),
            remedy: String::new(),
            since_ms,
        }
    }

    #[test]
    fn an_alarm_that_several_managers_tell_is_listed_once_as_the_worst_of_them_tells_it() {
        let mut alarms = vec![alarm("hub", Severity::Warning, 5), alarm("spare", Severity::Warning, 5)];
        merge(&mut alarms, vec![alarm("hub", Severity::Critical, 1), alarm("spare", Severity::Info, 9)]);
        merge(&mut alarms, vec![alarm("third", Severity::Info, 2)]);
        assert_eq!(
            alarms,
            [
                alarm("hub", Severity::Critical, 1),
                alarm("spare", Severity::Warning, 9),
                alarm("third", Severity::Info, 2)
            ]
        );
    }
}
