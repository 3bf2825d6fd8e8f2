//! `echelon promote`.

mod of_type;
mod primary;

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::problem::Problem;
use echelon_core::name::HostName;
use of_type::OfType;
use primary::Forced;

/// How it is typed.
pub(crate) const EXAMPLES: &str = "Examples:
  echelon promote registry2                                   a hand-over: nothing is lost
  echelon promote registry2 --dry-run
  echelon promote registry2 --force --reason 'disk is gone'   the primary is dead
  echelon promote agent3 --type command-control --dry-run
  echelon promote agent3 --type command-control audit
  echelon promote agent3 --from agent1";

/// Whom to promote, to what: without a type, the registry manager on HOST becomes the primary one.
#[derive(Debug, clap::Args)]
pub(crate) struct Promote {
    /// Whose managers become primary
    #[arg(value_name = "HOST")]
    host: HostName,
    #[command(flatten)]
    of_type: OfType,
    #[command(flatten)]
    forced: Forced,
    #[command(flatten)]
    edit: EditArgs,
}

/// Does it.
pub(crate) async fn run(args: Promote, console: &mut Console) -> Result<(), Problem> {
    match args.of_type.clone().changes(&args.host) {
        Some(changes) => edit(console, &args.edit, changes).await,
        None => primary::run(args, console).await,
    }
}
