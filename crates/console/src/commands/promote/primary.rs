//! The promotion of a registry manager.

use super::Promote;
use crate::console::Console;
use crate::edit::unless_interrupted;
use crate::problem::{Problem, failed};
use crate::progress::shown;
use crate::promotion::{Granting, done, outcome};
use echelon_core::message::FailureClass;
use echelon_core::name::Text;
use echelon_core::promotion::{EvidenceReport, Promotion, Way};

/// How a primary is replaced that is dead.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "forced-promotion")]
pub(super) struct Forced {
    /// The primary is dead: begin a new lineage without it
    #[arg(long, conflicts_with_all = ["types", "from"])]
    force: bool,
    /// Why, for those who look at it later; needed with --force
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["types", "from"])]
    reason: Option<Text>,
    /// With --force: go on though edits that were acknowledged may be lost; lists those that are known of
    #[arg(long, requires = "force")]
    accept_loss: bool,
    /// With --force: do not ask for the framework's name, this is it
    #[arg(long, value_name = "FRAMEWORK", requires = "force")]
    yes: Option<String>,
}

/// Does it, by the way that was asked for.
pub(super) async fn run(args: Promote, console: &mut Console) -> Result<(), Problem> {
    if args.edit.if_revision.is_some() || args.edit.allow_shrink {
        return Err(failed(
            "not-an-edit",
            "--if-revision and --allow-shrink are of edits; this changes who makes them",
        )
        .remedy("leave them out, or name what becomes primary: --type TYPE, --from OLDHOST")
        .pointless()
        .usage());
    }
    match args.forced.force {
        true => force(args, console).await,
        false => hand_over(args, console).await,
    }
}

async fn hand_over(args: Promote, console: &mut Console) -> Result<(), Problem> {
    let id = args.edit.request_id.unwrap_or_else(echelon_client::new_request_id);
    let step =
        |trial| Promotion::HandOver { id, to: args.host.clone(), reason: args.forced.reason.clone(), trial };
    if args.edit.dry_run {
        return Granting::try_out(console, step(true), &[]).await;
    }
    let manager = console.manager().await?;
    let what = format!("The primary hands over to {}", args.host);
    let asked = shown(&what, manager.promotion(step(false)));
    let promoted = outcome(id, unless_interrupted(id, asked).await?)?;
    manager.close().await;
    done(console, promoted)
}

async fn force(args: Promote, console: &mut Console) -> Result<(), Problem> {
    let Some(reason) = args.forced.reason.clone() else {
        return Err(failed("no-reason", "--force needs a --reason: it stands in the grant for ever")
            .remedy(format!("echelon promote {} --force --reason TEXT", args.host))
            .pointless()
            .usage());
    };
    let id = args.edit.request_id.unwrap_or_else(echelon_client::new_request_id);
    let step = |trial| Promotion::Force {
        id,
        to: args.host.clone(),
        accept_loss: args.forced.accept_loss,
        reason: Some(reason.clone()),
        trial,
    };
    if args.edit.dry_run {
        return Granting::try_out(console, step(true), &[]).await;
    }
    let (way, yes) = (Way::Forced, args.forced.yes.as_deref());
    let what = format!("Asking the others to take no more from the old primary, for {}", args.host);
    let reason = Some(reason.clone());
    let (same, given_up) = (same_as_confirmed, [].as_slice());
    Granting { id, way, reason, yes, what, step: &step, same, given_up }.run(console).await
}

/// Whether what is signed loses no more than what was confirmed.
fn same_as_confirmed(confirmed: &EvidenceReport, seen: &EvidenceReport) -> Result<(), Problem> {
    let more = seen.loss.count > confirmed.loss.count
        || seen.loss.unheard.iter().any(|host| !confirmed.loss.unheard.contains(host))
        || seen.primary.host != confirmed.primary.host;
    match more {
        false => Ok(()),
        true => Err(failed(
            "changed-meanwhile",
            "since you were asked more would be lost, or another manager is the primary; nothing was changed",
        )
        .remedy("look at it again: give the command once more")
        .class(FailureClass::Forbidden)),
    }
}
