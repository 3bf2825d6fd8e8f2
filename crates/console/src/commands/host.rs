//! `echelon host`.

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::hosts::{HostArg, names};
use crate::problem::Problem;
use echelon_core::change::Change;
use echelon_core::duration;
use echelon_core::endpoint::Address;
use echelon_core::id::HostId;
use echelon_core::limits::{MAX_DRAIN, MIN_DRAIN};
use echelon_core::name::{DomainPath, HostName, Text};
use std::time::Duration;
use uuid::Uuid;

/// What to do with hosts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Host {
    /// Add hosts to a domain
    #[command(after_help = "Example:\n  echelon host add agent5 agent6 --domain /sub1")]
    Add {
        /// Names of the hosts; - reads them from standard input, one a line
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostArg>,
        /// The domain they are in
        #[arg(long, value_name = "PATH")]
        domain: DomainPath,
        /// Where others reach them [default: the host's name, resolved]
        #[arg(long, value_name = "IP")]
        address: Option<Address>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Move hosts to another domain
    #[command(after_help = "Example:\n  echelon host move agent5 agent6 --domain /sub2")]
    Move {
        /// Names of the hosts; - reads them from standard input, one a line
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostArg>,
        /// The domain they are in from now on
        #[arg(long, value_name = "PATH")]
        domain: DomainPath,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Give a host another name
    #[command(after_help = "Example:\n  echelon host rename agent5 web5")]
    Rename {
        /// Its name
        name: HostName,
        /// Its new name
        new: HostName,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Remove hosts and deny their identities
    #[command(after_help = "Example:\n  echelon host remove agent5 --with-packages")]
    Remove {
        /// Names of the hosts; - reads them from standard input, one a line
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostArg>,
        /// Remove their packages too; without this, hosts with packages stay
        #[arg(long)]
        with_packages: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Take everything on hosts out of service for a while, registry managers apart
    #[command(after_help = "Examples:
  echelon host drain agent5 --for 2h --reason 'kernel update'
  echelon host drain - < hosts.txt")]
    Drain {
        /// Names of the hosts; - reads them from standard input, one a line
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostArg>,
        /// Resume them after this time, 1s to 30d [default: not before echelon host resume]
        #[arg(long = "for", value_name = "DURATION", value_parser = lasting)]
        lasting: Option<Duration>,
        /// Why, for whoever looks at it later
        #[arg(long, value_name = "TEXT")]
        reason: Option<Text>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Put drained hosts back into service; packages that were withdrawn by themselves stay so
    #[command(after_help = "Example:\n  echelon host resume agent5")]
    Resume {
        /// Names of the hosts; - reads them from standard input, one a line
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostArg>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Show one host: its packages, its agent, what it uses, the policies in force there
    #[command(after_help = "Example:\n  echelon host show agent5")]
    Show {
        /// Its name
        name: HostName,
    },
    /// List hosts
    #[command(after_help = "Examples:
  echelon host list --domain /emea --type command-control
  echelon host list --unhealthy --output json
  echelon host list --not-home --type command-control
  echelon host list --stale 30s
  echelon host list --without-type audit --file topology.toml")]
    List(super::host_list::List),
}

/// Does it.
pub(crate) async fn run(command: Host, console: &mut Console) -> Result<(), Problem> {
    let (changes, args) = match command {
        Host::Show { name } => return super::host_show::run(&name, console).await,
        Host::List(args) => return super::host_list::run(&args, console).await,
        Host::Add { names, domain, address, edit } => {
            let added = |name| Change::AddHost {
                id: HostId(Uuid::now_v7()),
                name,
                domain: domain.clone(),
                address: address.clone(),
            };
            (for_each(names, added)?, edit)
        }
        Host::Move { names, domain, edit } => {
            (for_each(names, |host| Change::MoveHost { host, domain: domain.clone() })?, edit)
        }
        Host::Rename { name, new, edit } => (vec![Change::RenameHost { host: name, name: new }], edit),
        Host::Remove { names, with_packages, edit } => {
            (for_each(names, |host| Change::RemoveHost { host, with_packages })?, edit)
        }
        Host::Drain { names, lasting, reason, edit } => {
            (for_each(names, |host| Change::DrainHost { host, lasting, reason: reason.clone() })?, edit)
        }
        Host::Resume { names, edit } => (for_each(names, |host| Change::ResumeHost { host })?, edit),
    };
    edit(console, &args, changes).await
}

fn for_each(hosts: Vec<HostArg>, change: impl FnMut(HostName) -> Change) -> Result<Vec<Change>, Problem> {
    Ok(names(hosts)?.into_iter().map(change).collect())
}

fn lasting(text: &str) -> Result<Duration, String> {
    let lasting = duration::parse(text).map_err(|error| format!("{text:?} {error}"))?;
    match (MIN_DRAIN..=MAX_DRAIN).contains(&lasting) {
        true => Ok(lasting),
        false => Err(format!(
            "{} is out of range: a drain lasts {} to {}, or without --for until the host is resumed",
            duration::print(lasting),
            duration::print(MIN_DRAIN),
            duration::print(MAX_DRAIN)
        )),
    }
}
