//! `echelon edits`.

mod apply;

use crate::console::Console;
use crate::line::line;
use crate::managers::ask_all;
use crate::problem::{Problem, failed};
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
  echelon edits lost --apply 18 19")]
    Lost(Lost),
}

/// Which, and what to do with them.
#[derive(Debug, clap::Args)]
pub(crate) struct Lost {
    /// Make them once more, as ordinary edits; without revisions all that were not yet
    #[arg(long, value_name = "REVISION", num_args = 0..)]
    apply: Option<Vec<u64>>,
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
    let (lost, silent) = collect(console).await?;
    match &args.apply {
        None => list(console, &lost)?,
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

/// What all managers keep, oldest first, each edit once; and who was not reached, with the reason.
async fn collect(console: &Console) -> Result<(Vec<LostEditReport>, Vec<String>), Problem> {
    let (mut lost, mut silent) = (Vec::new(), Vec::new());
    for answered in ask_all::<LostEditReport>(console, Query::Lost).await? {
        let host: HostName = answered.host;
        match answered.answer {
            Ok(edits) => lost.extend(edits),
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
    Ok((lost, silent))
}

fn list(console: &mut Console, lost: &[LostEditReport]) -> Result<(), Problem> {
    if console.out.is_json() {
        let plain = |edit: &LostEditReport| LostEditReport { changes: Vec::new(), ..edit.clone() };
        return lost.iter().try_for_each(|edit| console.out.object(&plain(edit)));
    }
    if lost.is_empty() {
        return console.out.line("no edit was given up");
    }
    for edit in lost {
        console.out.line(head(edit))?;
        edit.changed.iter().try_for_each(|changed| console.out.line(format!("  {}", line(changed))))?;
    }
    Ok(())
}

/// `revision 18  2027-01-15T08:00:00Z  console admin  kept by registry1, given up by epoch 2 of 017f…`
fn head(edit: &LostEditReport) -> String {
    let (bold, dim, good) = (style::BOLD, style::DIM, style::GOOD);
    let applied = match edit.applied {
        Some(revision) => format!("  {good}made once more as revision {revision}{good:#}"),
        None => String::new(),
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
