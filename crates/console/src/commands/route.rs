//! `echelon route`.

use crate::commands::route_all;
use crate::console::Console;
use crate::inventory::{From, Inventory};
use crate::problem::{Problem, failed};
use crate::progress;
use crate::rough::rough_ms;
use crate::style;
use crate::table::{self, NOTHING, Table, cell, maybe};
use clap::ArgGroup;
use echelon_core::message::Query;
use echelon_core::name::{HostName, ManagerType};
use echelon_core::project::project;
use echelon_core::report::{Basis, CandidateReport, Down, Outcome, RouteReport};
use echelon_core::row::Host;
use echelon_core::settled::Settled;

/// Examples for its help.
pub(crate) const EXAMPLES: &str = "Examples:
  echelon route --host agent4 --type command-control
  echelon route --host agent4 --type command-control --down agent3 --explain
  echelon route --host agent4 --type command-control --actual
  echelon route --all --type command-control --down agent1:command-control
  echelon route --all --type command-control --candidates 2 --file topology.toml";

/// Who asks, and for what.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("who").required(true).args(["host", "all"]))]
pub(crate) struct Route {
    /// The host that looks for its manager
    #[arg(long, value_name = "NAME")]
    host: Option<HostName>,
    /// Every host, one line each
    #[arg(long)]
    all: bool,
    /// The type of manager
    #[arg(long = "type", value_name = "TYPE")]
    ty: ManagerType,
    /// Take a host's managers, or its manager of one type, as down; may be given several times
    #[arg(long, value_name = "HOST[:TYPE]")]
    down: Vec<Down>,
    /// Show at most so many candidates for each host
    #[arg(long, value_name = "N")]
    candidates: Option<u32>,
    /// Say why each candidate stands where it does
    #[arg(long)]
    explain: bool,
    /// What the host uses now, as its agent says, not what it ought to use
    #[arg(long, conflicts_with_all = ["all", "down", "file"])]
    actual: bool,
    #[command(flatten)]
    from: From,
}

/// Shows it.
pub(crate) async fn run(args: Route, console: &mut Console) -> Result<(), Problem> {
    if args.from.file.is_some() {
        // The process ends with it: what the system takes back as a whole need not be taken apart before.
        let inventory = Box::leak(Box::new(Inventory::load(console, &args.from).await?));
        return preview(&args, inventory, console);
    }
    let reports = ask(&args, console).await?;
    match (args.all, reports.as_slice()) {
        _ if console.out.is_json() => reports.iter().try_for_each(|report| console.out.object(report)),
        (false, [report]) => show_one(report, args.explain, console),
        _ => route_all::show(&reports, args.explain, &mut console.out),
    }
}

async fn ask(args: &Route, console: &Console) -> Result<Vec<RouteReport>, Problem> {
    let manager = console.manager().await?;
    let query = match (&args.host, args.actual) {
        (Some(host), true) => Query::Actual { host: host.clone(), ty: args.ty.clone() },
        _ => Query::Route {
            host: args.host.clone(),
            ty: args.ty.clone(),
            down: args.down.clone(),
            candidates: args.candidates,
        },
    };
    let mut reports: Vec<RouteReport> = progress::shown("asking for the routes", manager.query(query))
        .await
        .map_err(|error| error.failure())?;
    manager.close().await;
    if args.actual {
        let at_most = args.candidates.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        reports.iter_mut().for_each(|report| report.candidates.truncate(at_most));
    }
    Ok(reports)
}

/// The same from a file: by the functions that managers and agents use.
fn preview(args: &Route, inventory: &Inventory, console: &mut Console) -> Result<(), Problem> {
    let registry = &inventory.registry;
    if registry.packages_of(&args.ty).next().is_none() {
        let unknown = failed("unknown-type", format!("no package is of type {}", args.ty));
        return Err(unknown.remedy("see which there are: echelon package list").pointless());
    }
    for down in &args.down {
        inventory.host(&down.host)?;
    }
    let view = project(registry);
    let state_of = |host, ty: &ManagerType| inventory.manager_state(host, ty);
    let settled = Settled { registry, view: &view, state_of: &state_of, down: &args.down };
    let most = args.candidates.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let Some(name) = &args.host else {
        let hosts: Vec<&Host> = registry.hosts_by_name().map(AsRef::as_ref).collect();
        return route_all::work_out(&hosts, &settled.of_type(&args.ty), most, args.explain, &mut console.out);
    };
    let mut report = settled.route(inventory.host(name)?, &args.ty);
    report.candidates.truncate(most);
    match console.out.is_json() {
        true => console.out.object(&report),
        false => show_one(&report, args.explain, console),
    }
}

fn show_one(report: &RouteReport, explain: bool, console: &mut Console) -> Result<(), Problem> {
    console.out.line(sentence(report))?;
    if report.candidates.is_empty() {
        return Ok(());
    }
    console.out.line("")?;
    console.out.table(&candidates(&report.candidates, explain))?;
    if explain {
        console.out.line("")?;
        reasons(&report.candidates).try_for_each(|line| console.out.line(line))?;
    }
    Ok(())
}

/// Why each candidate stands where it does, a line each.
fn reasons(candidates: &[CandidateReport]) -> impl Iterator<Item = String> {
    candidates.iter().map(|c| {
        let rank = c.rank.map_or_else(|| NOTHING.to_owned(), |rank| rank.to_string());
        format!("{rank} {}: {}", c.host, c.reason)
    })
}

/// `agent4 → agent1 (127.0.0.11:7000), failover: agent3: connection refused`.
fn sentence(report: &RouteReport) -> String {
    let (bold, style) = (style::BOLD, style_of(report.outcome));
    let to = match &report.chosen {
        Some(chosen) => format!("{bold}{}{bold:#} ({})", chosen.host, chosen.endpoint),
        None => "nobody".to_owned(),
    };
    let cause = if report.cause.is_empty() { String::new() } else { format!(": {}", report.cause) };
    let known = match report.basis {
        Basis::Settled => String::new(),
        Basis::Live => known(report),
    };
    format!("{} → {to}, {style}{}{style:#}{cause}{known}", report.host, word(report.outcome))
}

/// Since when a live answer is so, and how old the knowledge of it is.
fn known(report: &RouteReport) -> String {
    let dim = style::DIM;
    let since = report.since_ms.map(|since| format!("for {}", rough_ms(since)));
    let heard = report.age_ms.map(|age| format!("its agent said so {} ago", rough_ms(age)));
    let known = since.into_iter().chain(heard).collect::<Vec<_>>().join(", ");
    format!("  {dim}({known}){dim:#}")
}

pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Home => "home",
        Outcome::Failover => "failover",
        Outcome::LastResort => "last resort",
        Outcome::Unserved => "unserved",
    }
}

pub(super) fn style_of(outcome: Outcome) -> anstyle::Style {
    match outcome {
        Outcome::Home => style::GOOD,
        Outcome::Failover => style::ODD,
        Outcome::LastResort | Outcome::Unserved => style::BAD,
    }
}

fn candidates(candidates: &[CandidateReport], explain: bool) -> Table {
    let mut table = match explain {
        true => Table::new(["RANK", "MANAGER", "DOMAIN", "ENDPOINT", "STATE", "PRIO", "WEIGHT", "ROLE"]),
        false => Table::new(["RANK", "MANAGER", "DOMAIN", "ENDPOINT", "STATE"]),
    };
    for c in candidates {
        let place = [maybe(c.rank), cell(&c.host), cell(&c.domain), cell(&c.endpoint)];
        let state = table::state(Some(c.state));
        let more = [cell(c.priority), cell(c.weight), cell(c.role)];
        table.row(place.into_iter().chain([state]).chain(more.into_iter().filter(|_| explain)));
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::commands) fn report() -> RouteReport {
        serde_json::from_value(json!({
            "host": "agent4", "type": "command-control", "basis": "settled", "outcome": "failover",
            "cause": "agent3: taken as down", "home": "agent3", "isolated": false,
            "chosen": {"host": "agent1", "endpoint": "127.0.0.11:7000"},
            "candidates": [
                {"rank": 1, "host": "agent3", "domain": "/sub1/sub1a", "endpoint": "127.0.0.13:7000", "up": 0,
                 "down": 0, "same_host": false, "priority": 100, "weight": 1, "role": "backup",
                 "state": "down", "reason": "own domain; taken as down"},
                {"rank": null, "host": "agent9", "domain": "/x", "endpoint": "127.0.0.19:7000", "up": 2,
                 "down": 1, "same_host": false, "priority": 100, "weight": 1, "role": "backup",
                 "state": "excluded", "reason": "outside this host's boundary"}]}))
        .unwrap()
    }

    fn plain(text: impl AsRef<str>) -> String {
        anstream::adapter::strip_str(text.as_ref()).to_string()
    }

    #[test]
    fn one_route_is_one_sentence() {
        let expected = "agent4 → agent1 (127.0.0.11:7000), failover: agent3: taken as down";
        assert_eq!(plain(sentence(&report())), expected);
        let nobody =
            RouteReport { chosen: None, outcome: Outcome::Unserved, cause: "no manager".into(), ..report() };
        assert_eq!(plain(sentence(&nobody)), "agent4 → nobody, unserved: no manager");
    }

    #[test]
    fn candidates_are_listed_and_have_reasons() {
        let plain =
            |explain| candidates(&report().candidates, explain).lines().map(plain).collect::<Vec<_>>();
        assert_eq!(
            plain(false)[1].split_whitespace().collect::<Vec<_>>(),
            ["1", "agent3", "/sub1/sub1a", "127.0.0.13:7000", "down"]
        );
        assert!(plain(false)[2].starts_with(NOTHING));
        let reasons: Vec<_> = reasons(&report().candidates).collect();
        assert_eq!(reasons[1], "- agent9: outside this host's boundary");
    }
}
