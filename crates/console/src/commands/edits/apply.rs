//! Making edits once more that were given up.

use super::Lost;
use crate::console::Console;
use crate::edit::{explain, submit};
use crate::line::line;
use crate::problem::{Problem, failed};
use crate::style;
use echelon_client::ManagerClient;
use echelon_core::change::ChangeSet;
use echelon_core::describe::Changed;
use echelon_core::message::{Failure, FailureClass};
use echelon_core::promotion::LostEditReport;
use serde::Serialize;

/// What became of one; its JSON is what scripts rely on.
#[derive(Serialize)]
struct Applied<'a> {
    /// The revision it had.
    revision: u64,
    /// The manager that keeps it.
    manager: &'a str,
    /// The revision by which it was made once more.
    applied: Option<u64>,
    dry_run: bool,
    changed: Vec<Changed>,
    /// Why it could not be made.
    error: Option<Failure>,
    /// What of it no edit makes, with the reasons.
    left_out: &'a [String],
}

/// Offers those edits, oldest first, one change set each.
pub(super) async fn run(
    console: &mut Console,
    args: &Lost,
    revisions: &[u64],
    lost: &[LostEditReport],
) -> Result<(), Problem> {
    let unknown = |revision: &&u64| !lost.iter().any(|edit| edit.at_position.revision == **revision);
    if let Some(revision) = revisions.iter().find(unknown) {
        return Err(failed("unknown-revision", format!("no edit was given up that had revision {revision}"))
            .remedy("echelon edits lost")
            .pointless());
    }
    let wanted = |edit: &&LostEditReport| {
        revisions.contains(&edit.at_position.revision) || (revisions.is_empty() && edit.is_open())
    };
    let wanted: Vec<_> = lost.iter().filter(wanted).collect();
    if wanted.is_empty() && !console.out.is_json() {
        return console.out.line("no edit is to be made once more");
    }
    let manager = console.manager().await?;
    let mut failures = 0_usize;
    for edit in &wanted {
        let applied = apply(&manager, args, edit).await?;
        failures += usize::from(applied.error.is_some());
        show(console, &applied)?;
    }
    manager.close().await;
    console.out.finish()?;
    match failures {
        0 => Ok(()),
        count => Err(failed(
            "not-all-applied",
            format!("{count} of {} edits could not be made once more", wanted.len()),
        )
        .remedy("see the reason beside each; make by hand what is still wanted")
        .class(FailureClass::Forbidden)),
    }
}

async fn apply<'a>(
    manager: &ManagerClient,
    args: &Lost,
    edit: &'a LostEditReport,
) -> Result<Applied<'a>, Problem> {
    let (revision, left_out) = (edit.at_position.revision, edit.left_out.as_slice());
    let nothing = Applied {
        revision,
        manager: edit.manager.as_str(),
        applied: edit.applied,
        dry_run: args.dry_run,
        changed: Vec::new(),
        error: None,
        left_out,
    };
    if edit.changes.is_empty() || edit.applied.is_some() {
        return Ok(nothing);
    }
    let (request, changes) = (edit.again, edit.changes.clone());
    let set = ChangeSet { request, if_revision: None, allow_shrink: args.allow_shrink, changes };
    match submit(manager, set, args.dry_run).await {
        Ok(answer) => {
            let applied = (!args.dry_run).then_some(answer.position.revision);
            Ok(Applied { applied, changed: explain(manager, &answer).await, ..nothing })
        }
        // One that does not fit into the registry of today keeps no other from it.
        Err(Problem::Failed(failure))
            if failure.class != FailureClass::Unreachable && failure.class != FailureClass::Unknown =>
        {
            Ok(Applied { error: Some(*failure), ..nothing })
        }
        Err(problem) => Err(problem),
    }
}

fn show(console: &mut Console, applied: &Applied<'_>) -> Result<(), Problem> {
    if console.out.is_json() {
        return console.out.object(applied);
    }
    let (good, bad, odd) = (style::GOOD, style::BAD, style::ODD);
    let became = match (&applied.error, applied.applied) {
        (Some(why), _) => format!("{bad}not made{bad:#}: {}", why.message),
        (None, Some(revision)) => format!("{good}made{good:#} as revision {revision}"),
        (None, None) if applied.dry_run && !applied.changed.is_empty() => "would change".to_owned(),
        (None, None) => format!("{odd}nothing to make{odd:#}"),
    };
    console.out.line(format!("revision {}  {became}", applied.revision))?;
    applied.changed.iter().try_for_each(|changed| console.out.line(format!("  {}", line(changed))))?;
    applied.left_out.iter().try_for_each(|why| console.out.line(format!("  {odd}left out{odd:#}  {why}")))
}
