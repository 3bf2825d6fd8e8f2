//! `echelon promote`.

mod of_type;

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::problem::{Problem, failed};
use echelon_core::name::HostName;
use of_type::OfType;

/// How it is typed.
pub(crate) const EXAMPLES: &str = "Examples:
  echelon promote agent3 --type command-control --dry-run
  echelon promote agent3 --type command-control audit
  echelon promote agent3 --from agent1";

/// Whom to promote, to what.
#[derive(Debug, clap::Args)]
pub(crate) struct Promote {
    /// Whose managers become primary
    #[arg(value_name = "HOST")]
    host: HostName,
    #[command(flatten)]
    of_type: OfType,
    #[command(flatten)]
    edit: EditArgs,
}

/// Does it.
pub(crate) async fn run(args: Promote, console: &mut Console) -> Result<(), Problem> {
    match args.of_type.changes(&args.host) {
        Some(changes) => edit(console, &args.edit, changes).await,
        None => Err(nothing_named(&args.host)),
    }
}

fn nothing_named(host: &HostName) -> Problem {
    let help =
        format!("echelon promote {host} --type TYPE, or --from OLDHOST for all that OLDHOST is primary of");
    failed("nothing-named", "say which types its managers are to be primary of")
        .remedy(help)
        .pointless()
        .usage()
}
