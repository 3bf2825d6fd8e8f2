//! `echelon manager`.

mod remove;

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::managers::ask_each;
use crate::members::{member_cells, member_lines, role, to_the_second};
use crate::problem::{Problem, failed};
use crate::progress::shown;
use crate::table::{NOTHING, Table, cell, maybe, state};
use echelon_core::change::Change;
use echelon_core::message::Query;
use echelon_core::name::HostName;
use echelon_core::report::{IssuerReport, ManagerReport, ManagerRole, StatusReport};
use serde::Serialize;

/// What to do with registry managers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Manager {
    /// List the registry managers, the primary first
    #[command(after_help = "Examples:\n  echelon manager list\n  echelon manager list --output json")]
    List,
    /// Show one registry manager
    #[command(after_help = "Example:\n  echelon manager show registry2")]
    Show {
        /// Its host
        host: HostName,
    },
    /// Take a registry manager out; its host and the agent there stay
    #[command(after_help = "Examples:
  echelon manager remove registry2
  echelon manager remove registry2 --accept-loss     # it is dead, and edits wait for it
  echelon manager remove registry2 --compromised     # its keys are in wrong hands")]
    Remove {
        /// Its host
        host: HostName,
        /// Do it without asking it: edits that only it and the primary hold may be lost later
        #[arg(long)]
        accept_loss: bool,
        /// What it has signed is worth nothing any more: hosts with such certificates enrol anew
        #[arg(long)]
        compromised: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Change how many standbys have to hold an edit before it is acknowledged
    #[command(after_help = "Examples:
  echelon manager set min_sync=2
  echelon manager set min_sync=0 --accept-loss       # the primary alone is enough")]
    Set {
        /// The setting
        #[arg(value_name = "min_sync=N", value_parser = min_sync)]
        min_sync: u32,
        /// Needed for min_sync=0: an edit that is on the primary alone is lost with it
        #[arg(long)]
        accept_loss: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
}

fn min_sync(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("min_sync=").ok_or("write min_sync=N, such as min_sync=1")?;
    number.parse().map_err(|_| "write a whole number, such as min_sync=1".to_owned())
}

/// Does it.
pub(crate) async fn run(command: Manager, console: &mut Console) -> Result<(), Problem> {
    match command {
        Manager::List => list(console).await,
        Manager::Show { host } => show(&host, console).await,
        Manager::Remove { host, accept_loss, compromised, edit: args } => {
            remove::remove(console, &args, host, accept_loss, compromised).await
        }
        Manager::Set { min_sync, accept_loss, edit: args } => {
            edit(console, &args, vec![Change::SetMinSync { min_sync, accept_loss }]).await?;
            if args.dry_run { Ok(()) } else { say_whether_capped(min_sync, console).await }
        }
    }
}

async fn reports(console: &Console) -> Result<Vec<ManagerReport>, Problem> {
    let manager = console.manager().await?;
    let reports = manager.query::<ManagerReport>(Query::Managers).await.map_err(|error| error.failure());
    manager.close().await;
    Ok(reports?)
}

/// There may be fewer standbys that count than are asked for.
async fn say_whether_capped(min_sync: u32, console: &mut Console) -> Result<(), Problem> {
    // It is set, whether or not this can be told now.
    let Ok(reports) = reports(console).await else { return Ok(()) };
    let counting = reports.iter().filter(|m| m.counts).count();
    match usize::try_from(min_sync) {
        Ok(asked) if asked <= counting => Ok(()),
        _ => {
            let count = match counting {
                1 => "1 standby counts".to_owned(),
                count => format!("{count} standbys count"),
            };
            console.out.note(format!(
                "min_sync is {min_sync}, and {count} at the moment: until there are more, every one of them has to hold \
                 an edit"
            ))
        }
    }
}

async fn list(console: &mut Console) -> Result<(), Problem> {
    let reports = reports(console).await?;
    if console.out.is_json() {
        return reports.iter().try_for_each(|report| console.out.object(report));
    }
    let mut table = Table::new([
        "HOST", "ROLE", "COUNTS", "STATE", "POSITION", "LAG", "AGENTS", "HEARD", "NOTES", "ENDPOINT",
        "ISSUER",
    ]);
    for report in &reports {
        let mut row =
            vec![cell(&report.host), cell(role_of(report)), cell(counts(report)), state(report.state)];
        match &report.standing {
            Some(member) => row.extend(member_cells(member)),
            None => row.extend([NOTHING; 5].map(cell)),
        }
        row.extend([maybe(report.endpoint.as_ref()), maybe(report.issuers.first().map(issuer))]);
        table.row(row);
    }
    console.out.table(&table)
}

fn role_of(report: &ManagerReport) -> String {
    report.standing.as_ref().map_or_else(|| report.role.to_string(), |member| role(member).to_owned())
}

/// Whether edits wait for it; the primary always has them.
fn counts(report: &ManagerReport) -> &'static str {
    match (report.role, report.counts) {
        (ManagerRole::Standby, true) => "yes",
        (ManagerRole::Standby, false) => "not yet",
        (ManagerRole::Primary | ManagerRole::Left, _) => "-",
    }
}

fn issuer(issuer: &IssuerReport) -> String {
    match &issuer.renew_only {
        _ if issuer.dropped => "worth nothing".to_owned(),
        Some(until) => format!("for renewals until {}", to_the_second(until)),
        None => format!("until {}", to_the_second(&issuer.not_after)),
    }
}

async fn show(host: &HostName, console: &mut Console) -> Result<(), Problem> {
    let report = reports(console).await?.into_iter().find(|report| report.host == *host);
    let report = report.ok_or_else(|| {
        failed("no-registry-manager", format!("host {host} runs no registry manager"))
            .remedy("see which there are: echelon manager list")
            .pointless()
    })?;
    let build = build(&report, console).await?;
    if console.out.is_json() {
        return console.out.object(&Shown { report: &report, version: build.as_ref().ok().cloned() });
    }
    let mut table = Table::of_one_thing();
    let mut say = |what: &str, value: String| table.row([cell(what), cell(value)]);
    say("host", report.host.to_string());
    say("role", role_of(&report));
    report.endpoint.iter().for_each(|endpoint| say("endpoint", endpoint.to_string()));
    say("counts", counts(&report).to_owned());
    report.state.iter().for_each(|state| say("state", state.to_string()));
    match &build {
        Ok(version) => say("version", version.clone()),
        Err(why) => say("version", format!("not known: {why}")),
    }
    report.standing.iter().flat_map(member_lines).for_each(|(what, value)| say(what, value));
    report.joined.iter().for_each(|joined| say("joined", to_the_second(joined)));
    report.issuers.iter().for_each(|of| say("issuer", issuer(of)));
    console.out.table(&table)
}

/// One manager, as scripts read it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    report: &'a ManagerReport,
    /// The build that runs there; none where it does not say.
    version: Option<String>,
}

/// The build that a manager runs, which it says itself; or why it does not.
async fn build(report: &ManagerReport, console: &Console) -> Result<Result<String, String>, Problem> {
    let Some(endpoint) = &report.endpoint else { return Ok(Err("it has left".to_owned())) };
    let at = [(report.host.clone(), endpoint.clone())];
    let told = shown("Asking it", ask_each::<StatusReport>(console, &at, Query::Status)).await?;
    let answer = told.into_iter().next().map(|answered| answered.answer);
    Ok(match answer {
        Some(Ok(status)) => {
            status.into_iter().next().map(|status| status.version).ok_or_else(|| "it does not say".to_owned())
        }
        Some(Err(why)) => Err(why.message),
        None => Err("it was not asked".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_issuers_are_told_to_the_second() {
        let until = |not_after: &str, renew_only: Option<&str>| {
            let renew_only = renew_only.map(str::to_owned);
            issuer(&IssuerReport {
                id: String::new(),
                not_after: not_after.into(),
                renew_only,
                dropped: false,
            })
        };
        assert_eq!(until("2027-11-22T10:00:00Z", None), "until 2027-11-22T10:00:00Z");
        let left = until("2027-11-22T10:00:00Z", Some("2026-12-22T10:00:00.123Z"));
        assert_eq!(left, "for renewals until 2026-12-22T10:00:00Z");
    }
}
