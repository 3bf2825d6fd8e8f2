//! `echelon domain`.

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::problem::Problem;
use echelon_core::change::Change;
use echelon_core::name::{DomainName, DomainPath};

/// What to do with domains.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Domain {
    /// Add domains; their parents must exist or come before them
    #[command(after_help = "Example:\n  echelon domain add /emea /emea/de /emea/fr")]
    Add {
        /// Paths such as /emea/de
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<DomainPath>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Give a domain another name in the same place
    #[command(after_help = "Example:\n  echelon domain rename /emea/de germany")]
    Rename {
        /// The domain
        path: DomainPath,
        /// Its new name: one step, no path
        name: DomainName,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Move a domain, with all that is in and below it
    #[command(after_help = "Example:\n  echelon domain move /emea/de --parent /dach")]
    Move {
        /// The domain
        path: DomainPath,
        /// The domain it becomes a subdomain of
        #[arg(long, value_name = "PATH")]
        parent: DomainPath,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Remove a domain in which no host is
    #[command(after_help = "Example:\n  echelon domain remove /emea --recursive")]
    Remove {
        /// The domain
        path: DomainPath,
        /// Remove its subdomains too; no host may be in any of them
        #[arg(long)]
        recursive: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
}

/// Does it.
pub(crate) async fn run(command: Domain, console: &mut Console) -> Result<(), Problem> {
    let (changes, args) = changes(command);
    edit(console, &args, changes).await
}

fn changes(command: Domain) -> (Vec<Change>, EditArgs) {
    match command {
        Domain::Add { paths, edit } => {
            (paths.into_iter().map(|path| Change::AddDomain { path }).collect(), edit)
        }
        Domain::Rename { path, name, edit } => (vec![Change::RenameDomain { path, name }], edit),
        Domain::Move { path, parent, edit } => (vec![Change::MoveDomain { path, parent }], edit),
        Domain::Remove { path, recursive, edit } => (vec![Change::RemoveDomain { path, recursive }], edit),
    }
}
