//! `echelon lineage`.

use crate::console::Console;
use crate::problem::{Problem, failed};
use crate::progress::shown;
use crate::promotion::{Granting, position};
use crate::sides::{Side, given_up, sides};
use crate::style;
use crate::table::{Table, cell, maybe};
use echelon_core::grant::Basis;
use echelon_core::id::{Lineage as LineageId, RequestId};
use echelon_core::message::{FailureClass, Query};
use echelon_core::name::Text;
use echelon_core::promotion::{EvidenceReport, GrantReport, GrantState, Promotion, Way};
use serde::Serialize;

/// What to do with lineages.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Lineage {
    /// Show the chain of grants: who was primary since when, why and by whose word; of lineages in conflict also
    /// what each holds
    #[command(after_help = "Example:\n  echelon lineage show")]
    Show,
    /// Of lineages in conflict choose one; the others are given up
    #[command(after_help = "Examples:
  echelon lineage choose 017f22e2-79b0-7cc3-98c4-dc0c0c07398f --reason 'site was cut off' --dry-run
  echelon lineage choose 017f22e2-79b0-7cc3-98c4-dc0c0c07398f --reason 'site was cut off'")]
    Choose(Choose),
}

/// Which one, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Choose {
    /// The lineage that goes on
    #[arg(value_name = "LINEAGE")]
    lineage: LineageId,
    /// Why, for those who look at it later
    #[arg(long, value_name = "TEXT")]
    reason: Text,
    /// Do not ask for the framework's name, this is it
    #[arg(long, value_name = "FRAMEWORK")]
    yes: Option<String>,
    /// Only show what would be given up
    #[arg(long)]
    dry_run: bool,
    /// UUIDv7 under which a repetition has no second effect [default: a new one]
    #[arg(long, value_name = "ID")]
    request_id: Option<RequestId>,
}

/// Does it.
pub(crate) async fn run(args: Lineage, console: &mut Console) -> Result<(), Problem> {
    match args {
        Lineage::Show => list(console).await,
        Lineage::Choose(args) => choose(args, console).await,
    }
}

async fn list(console: &mut Console) -> Result<(), Problem> {
    let manager = console.manager().await?;
    let grants: Vec<GrantReport> = manager.query(Query::Lineage).await.map_err(|e| e.failure())?;
    manager.close().await;
    let sides = shown("Asking every side of the conflict", sides(console, &grants)).await?;
    if console.out.is_json() {
        let side = |grant: &GrantReport| {
            sides.iter().find(|side| (side.lineage, side.epoch) == (grant.lineage, grant.epoch))
        };
        return grants.iter().try_for_each(|grant| console.out.object(&Shown { grant, held: side(grant) }));
    }
    console.out.table(&table(&grants))?;
    if sides.is_empty() {
        return Ok(());
    }
    let (bad, count) = (style::BAD, sides.len());
    console.out.line("")?;
    console.out.line(format!(
        "{bad}{count} lineages are in conflict{bad:#}: each holds what the others lack, and one has to be chosen"
    ))?;
    sides.iter().flat_map(Side::lines).try_for_each(|line| console.out.line(line))
}

/// A grant, and where it heads a lineage in conflict, what that holds.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    grant: &'a GrantReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<&'a Side>,
}

fn table(grants: &[GrantReport]) -> Table {
    let mut table =
        Table::new(["LINEAGE", "EPOCH", "PRIMARY", "WHEN", "BASIS", "ON REVISION", "BY", "STATE", "REASON"]);
    for g in grants {
        table.row([
            cell(g.lineage),
            cell(g.epoch),
            cell(&g.holder),
            cell(&g.at),
            cell(basis(g.basis)),
            maybe(g.parent.map(|at| at.revision)),
            cell(format!("{} {}", g.grantor.kind, g.grantor.name)),
            cell(state(g.state)),
            maybe(g.reason.as_ref()),
        ]);
    }
    table
}

fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Init => "init",
        Basis::Handover => "handover",
        Basis::Force => "force",
        Basis::Restore => "restore",
        Basis::Choice => "choice",
        Basis::Majority => "majority",
    }
}

fn state(state: GrantState) -> &'static str {
    match state {
        GrantState::Newest => "newest",
        GrantState::Past => "past",
        GrantState::Rival => "in conflict",
        GrantState::Proposed => "proposed",
    }
}

async fn choose(args: Choose, console: &mut Console) -> Result<(), Problem> {
    let id = args.request_id.unwrap_or_else(echelon_client::new_request_id);
    let (lineage, reason) = (args.lineage, Some(args.reason.clone()));
    let step = |trial| Promotion::Choose { id, lineage, reason: reason.clone(), trial };
    // What cannot be learned of the other sides now keeps nobody from a choice.
    let known = shown("Asking every side of the conflict", known_losses(console, lineage)).await;
    let given_up = known.unwrap_or_default();
    if args.dry_run {
        return Granting::try_out(console, step(true), &given_up).await;
    }
    let (way, reason, yes) = (Way::Choice, reason.clone(), args.yes.as_deref());
    let what = "Asking the primary of that lineage".to_owned();
    let given_up = &given_up;
    Granting { id, way, reason, yes, what, step: &step, same: same_rivals, given_up }.run(console).await
}

/// What the other lineages hold that this one lacks.
async fn known_losses(console: &Console, chosen: LineageId) -> Result<Vec<Side>, Problem> {
    let manager = console.manager().await?;
    let grants: Vec<GrantReport> = manager.query(Query::Lineage).await.map_err(|e| e.failure())?;
    manager.close().await;
    given_up(console, &grants, chosen).await
}

/// Whether nothing is given up that was not confirmed.
fn same_rivals(confirmed: &EvidenceReport, seen: &EvidenceReport) -> Result<(), Problem> {
    let known = |grant: &GrantReport| {
        confirmed.rivals.iter().any(|c| (c.lineage, c.epoch) == (grant.lineage, grant.epoch))
    };
    match seen.rivals.iter().find(|grant| !known(grant)) {
        None => Ok(()),
        Some(new) => {
            let at = new.parent.map(|at| position(&at)).unwrap_or_default();
            Err(failed(
                "changed-meanwhile",
                format!("since you were asked another grant came to light, on {at}; nothing was changed"),
            )
            .remedy("look at it again: give the command once more")
            .class(FailureClass::Forbidden))
        }
    }
}
