//! `echelon apply`.

use crate::console::Console;
use crate::edit::{EditArgs, explain, show_applied, submit};
use crate::inventory::read_topology;
use crate::problem::{Problem, failed};
use crate::progress;
use crate::style;
use echelon_client::{ManagerClient, Reading};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::id::HostId;
use echelon_core::message::{EditAnswer, Failure, FailureClass};
use echelon_core::name::HostName;
use echelon_topology::{DiffLine, Options, Plan, Sign, Topology};
use std::collections::BTreeSet;
use std::path::PathBuf;
use uuid::Uuid;

/// How often the difference is worked out anew, where somebody else edits in between. Whoever loses
/// more often than that should look at what is going on.
const MAX_TRIES: u32 = 4;

/// What to do when that was not enough.
const CONTENDED: &str = "others are editing the registry; look at what they do, then apply again";

/// What to apply.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// The topology file: TOML or JSON
    #[arg(value_name = "TOPOLOGY")]
    topology: PathBuf,
    /// Remove hosts, packages, policies and domains that are not in the file
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    edit: EditArgs,
}

/// Applies it in one edit, which is computed against one revision and refused at any other.
pub(crate) async fn run(args: Apply, console: &mut Console) -> Result<(), Problem> {
    let topology = read_topology(&args.topology)?;
    let manager = console.manager().await?;
    let applied = apply(&args, &topology, &manager, console).await;
    manager.close().await;
    applied
}

async fn apply(
    args: &Apply,
    topology: &Topology,
    manager: &ManagerClient,
    console: &mut Console,
) -> Result<(), Problem> {
    // One id for all tries: what is refused is not remembered, and what is done is done once.
    let set = args.edit.set(Vec::new());
    let mut shown = Vec::new();
    let mut tries = 0;
    loop {
        tries += 1;
        let reading = progress::shown("reading the registry", manager.read()).await;
        let reading = reading.map_err(|error| error.failure())?;
        let plan = plan(topology, &reading, args.prune)?;
        if plan.lines != shown || plan.is_empty() {
            show_plan(&plan, console)?;
        }
        if plan.is_empty() {
            return show_nothing(&set, &reading, &plan, console);
        }
        check_live(&plan, &reading, args.edit.allow_shrink)?;
        let if_revision = set.if_revision.or(Some(reading.registry.position().revision));
        let attempt = ChangeSet { if_revision, changes: plan.changes.clone(), ..set.clone() };
        match send(manager, attempt, args.edit.dry_run).await {
            Err(problem) if problem.name() != "revision-moved" || set.if_revision.is_some() => {
                return Err(problem);
            }
            Err(problem) if tries == MAX_TRIES => return Err(problem.remedy(CONTENDED)),
            Err(_) => {
                console.out.note("the registry has moved on meanwhile; looking at the difference again")?
            }
            Ok(answer) => {
                let changed =
                    if console.out.is_json() { explain(manager, &answer).await } else { Vec::new() };
                return show_applied(console, &answer, &changed, &plan.warnings, args.edit.dry_run);
            }
        }
        shown = plan.lines;
    }
}

fn plan(topology: &Topology, reading: &Reading, prune: bool) -> Result<Plan, Problem> {
    let mut new_id = || HostId(Uuid::now_v7());
    let plan = echelon_topology::diff(topology, &reading.registry, Options { prune }, &mut new_id);
    plan.map_err(|error| Failure::from(&error).into())
}

/// Refuses to remove hosts whose agents are connected: they are forgotten in the file more often than meant to go.
fn check_live(plan: &Plan, reading: &Reading, meant: bool) -> Result<(), Problem> {
    let heard: BTreeSet<_> = reading.liveness.iter().filter(|e| !e.silent).map(|e| e.host).collect();
    let is_live = |name: &&HostName| reading.registry.host_named(name).is_some_and(|h| heard.contains(&h.id));
    let removed = plan.changes.iter().filter_map(|change| match change {
        Change::RemoveHost { host, .. } => Some(host),
        _ => None,
    });
    let live: Vec<_> = removed.filter(is_live).collect();
    match live.first() {
        Some(first) if !meant => Err(failed(
            "hosts-in-use",
            format!(
                "{} host(s) that are not in the file have agents that are connected, such as {first}",
                live.len()
            ),
        )
        .class(FailureClass::Forbidden)
        .remedy("if they are meant to go, repeat with --allow-shrink; else name them in the file")
        .pointless()),
        _ => Ok(()),
    }
}

async fn send(manager: &ManagerClient, set: ChangeSet, dry_run: bool) -> Result<EditAnswer, Problem> {
    let what = format!("making {} changes in one edit", set.changes.len());
    progress::shown(&what, submit(manager, set, dry_run)).await
}

fn show_plan(plan: &Plan, console: &mut Console) -> Result<(), Problem> {
    for warning in &plan.warnings {
        let odd = style::ODD;
        console.out.note(format!("{odd}warning:{odd:#} {warning}"))?;
    }
    if console.out.is_json() {
        return Ok(());
    }
    plan.lines.iter().try_for_each(|line| console.out.line(colored(line)))?;
    // Before the wait for the manager.
    console.out.finish()
}

fn colored(line: &DiffLine) -> String {
    let style = match line.sign {
        Sign::Add => style::GOOD,
        Sign::Change => style::ODD,
        Sign::Remove => style::BAD,
    };
    format!("{style}{line}{style:#}")
}

/// No difference is no edit.
fn show_nothing(
    set: &ChangeSet,
    reading: &Reading,
    plan: &Plan,
    console: &mut Console,
) -> Result<(), Problem> {
    if !console.out.is_json() {
        return console.out.line("no difference: the registry is what the file says");
    }
    let position = reading.registry.position();
    let answer = EditAnswer { position, request: set.request, rows: Vec::new(), repeated: false };
    show_applied(console, &answer, &[], &plan.warnings, false)
}
