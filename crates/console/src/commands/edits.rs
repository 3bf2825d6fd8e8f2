//! `echelon edits`.

mod apply;
mod dismiss;

use crate::console::Console;
use crate::line::line;
use crate::managers::{Answered, ask_all};
use crate::problem::{Problem, failed};
use crate::progress::shown;
use crate::style;
use echelon_core::message::{FailureClass, Query};
use echelon_core::name::HostName;
use echelon_core::promotion::LostEditReport;
use std::collections::BTreeSet;

/// What to do with edits.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Edits {
    /// List edits that were given up when the primary changed by force, or make them once more
    #[command(after_help = "Examples:
  echelon edits lost
  echelon edits lost --apply --dry-run
  echelon edits lost --apply 18 19
  echelon edits lost --dismiss registry1             # they are dealt with: ends the alarm, and keeps them")]
    Lost(Lost),
}

/// Which, and what to do with them.
#[derive(Debug, clap::Args)]
pub(crate) struct Lost {
    /// Make them once more, as ordinary edits; without revisions all that were not yet
    #[arg(long, value_name = "REVISION", num_args = 0..)]
    apply: Option<Vec<u64>>,
    /// Say of all that this manager keeps that they are dealt with. They stay in its file, and the alarm ends
    #[arg(long, value_name = "HOST", conflicts_with = "apply")]
    dismiss: Option<HostName>,
    /// Also those that were dismissed
    #[arg(long, conflicts_with_all = ["apply", "dismiss"])]
    all: bool,
    /// With --apply: only say what would change, each by itself
    #[arg(long, requires = "apply")]
    dry_run: bool,
    /// With --apply: also what takes the last serving manager of a type, or leaves less than half of them all
    #[arg(long, requires = "apply")]
    allow_shrink: bool,
}

/// Does it.
pub(crate) async fn run(args: Edits, console: &mut Console) -> Result<(), Problem> {
    let Edits::Lost(args) = args;
    if let Some(host) = &args.dismiss {
        return dismiss::run(console, host).await;
    }
    let Kept { lost, reached, silent } = collect(console).await?;
    match &args.apply {
        None => list(console, &lost, &reached, args.all)?,
        Some(revisions) => apply::run(console, &args, revisions, &lost).await?,
    }
    console.out.finish()?;
    match silent.is_empty() {
        true => Ok(()),
        false => Err(failed(
            "managers-not-reached",
            format!("what these managers keep is not known, they were not reached: {}", silent.join("; ")),
        )
        .class(FailureClass::Unreachable)
        .remedy("start them, and ask again")),
    }
}

/// What managers keep.
struct Kept {
    /// The edits, oldest first, each once.
    lost: Vec<LostEditReport>,
    /// The managers that have told theirs.
    reached: Vec<HostName>,
    /// The others, each with the reason.
    silent: Vec<String>,
}

async fn collect(console: &Console) -> Result<Kept, Problem> {
    let (mut lost, mut reached, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    let asked = ask_all::<LostEditReport>(console, Query::Lost);
    for Answered { host, answer } in shown("Asking every registry manager", asked).await? {
        match answer {
            Ok(edits) => {
                lost.extend(edits);
                reached.push(host);
            }
            Err(failure) => silent.push(format!("{host}: {}", failure.message)),
        }
    }
    lost.sort_by_key(|edit: &LostEditReport| {
        (edit.at_position.epoch, edit.at_position.revision, edit.request_id)
    });
    let mut seen = BTreeSet::new();
    lost.retain(|edit| {
        seen.insert((edit.at_position.lineage, edit.at_position.epoch, edit.at_position.revision))
    });
    Ok(Kept { lost, reached, silent })
}

fn list(
    console: &mut Console,
    lost: &[LostEditReport],
    reached: &[HostName],
    all: bool,
) -> Result<(), Problem> {
    let wanted = || lost.iter().filter(|edit| all || edit.dismissed.is_none());
    if console.out.is_json() {
        let plain = |edit: &LostEditReport| LostEditReport { changes: Vec::new(), ..edit.clone() };
        return wanted().try_for_each(|edit| console.out.object(&plain(edit)));
    }
    if wanted().next().is_none() {
        console.out.line(nothing(reached))?;
    }
    for edit in wanted() {
        console.out.line(head(edit))?;
        edit.changed.iter().try_for_each(|changed| console.out.line(format!("  {}", line(changed))))?;
    }
    match lost.len() - wanted().count() {
        0 => Ok(()),
        more => console.out.note(format!("{more} more were dismissed: echelon edits lost --all")),
    }
}

/// `registry1, registry2 keep no edit that was given up`: of those that were not reached that is not known.
fn nothing(reached: &[HostName]) -> String {
    let names = reached.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
    match reached.len() {
        0 => "no registry manager has said whether it keeps edits that were given up".to_owned(),
        1 => format!("{names} keeps no edit that was given up"),
        _ => format!("{names} keep no edit that was given up"),
    }
}

/// `revision 18  2027-01-15T08:00:00Z  console admin  kept by registry1, given up by epoch 2 of 017f…`
fn head(edit: &LostEditReport) -> String {
    let (bold, dim, good) = (style::BOLD, style::DIM, style::GOOD);
    let applied = match (edit.applied, &edit.dismissed) {
        (Some(revision), _) => format!("  {good}made once more as revision {revision}{good:#}"),
        (None, Some(at)) => {
            format!(
                "  {good}dismissed by {} at {at}{good:#}",
                edit.dismissed_by.as_deref().unwrap_or("an admin")
            )
        }
        (None, None) => String::new(),
    };
    format!(
        "{bold}revision {}{bold:#}  {}  {}  {dim}kept by {}, given up by epoch {} of {}{dim:#}{applied}",
        edit.at_position.revision,
        edit.at,
        edit.actor,
        edit.manager,
        edit.lost_to.epoch,
        edit.lost_to.lineage
    )
}
