//! `echelon package`.

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::hosts::{HostArg, names};
use crate::inventory::{From, Inventory, PackageEntry};
use crate::problem::Problem;
use crate::table::{self, Table, cell, maybe};
use echelon_core::change::{Change, PackageSpec};
use echelon_core::check::Check;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::{HostName, ManagerType, Text};
use echelon_core::package::{
    DEFAULT_PRIORITY, DEFAULT_WEIGHT, Listens, NumberError, check_priority, check_weight,
};
use echelon_core::report::CandidateState;
use std::num::NonZeroU16;

/// What to do with packages.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Package {
    /// Record a package on hosts; installs nothing
    #[command(after_help = "Examples:
  echelon package add agent5 command-control --port 7000
  echelon package add agent5 agent6 audit --endpoint audit.example:7001 --priority 50")]
    Add {
        /// Hosts it is on; - reads them from standard input, one a line
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<HostArg>,
        /// Its type
        #[arg(value_name = "TYPE")]
        ty: ManagerType,
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Take packages out of service; they stay recorded
    #[command(
        after_help = "Example:\n  echelon package withdraw agent3 command-control --reason 'disk full'"
    )]
    Withdraw {
        /// Hosts it is on; - reads them from standard input, one a line
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<HostArg>,
        /// Its type
        #[arg(value_name = "TYPE")]
        ty: ManagerType,
        /// Why, for whoever looks at it later
        #[arg(long, value_name = "TEXT")]
        reason: Option<Text>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Put withdrawn packages back into service
    #[command(after_help = "Example:\n  echelon package restore agent3 command-control")]
    Restore {
        /// Hosts it is on; - reads them from standard input, one a line
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<HostArg>,
        /// Its type
        #[arg(value_name = "TYPE")]
        ty: ManagerType,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Remove packages from the registry
    #[command(after_help = "Example:\n  echelon package remove agent3 command-control --successor agent1")]
    Remove {
        /// Hosts it is on; - reads them from standard input, one a line
        #[arg(required = true, value_name = "HOST")]
        hosts: Vec<HostArg>,
        /// Its type
        #[arg(value_name = "TYPE")]
        ty: ManagerType,
        /// The backup that becomes primary; needed where the primary is removed and backups are left
        #[arg(long, value_name = "HOST")]
        successor: Option<HostName>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// List packages
    #[command(after_help = "Examples:
  echelon package list --type command-control
  echelon package list --state down")]
    List(List),
}

/// What is recorded of a package.
#[derive(Debug, clap::Args)]
pub(crate) struct Spec {
    /// Port on the host's address; with neither this nor --endpoint it is inventory only
    #[arg(long, value_name = "N", conflicts_with = "endpoint")]
    port: Option<NonZeroU16>,
    /// Where it listens, if not on the host's address
    #[arg(long, value_name = "ADDR:PORT")]
    endpoint: Option<Endpoint>,
    /// Lower is preferred among equally near managers
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PRIORITY, value_parser = priority)]
    priority: u32,
    /// Share of hosts among equally near managers of one priority; 0 comes last
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WEIGHT, value_parser = weight)]
    weight: u32,
    /// Installed version
    #[arg(long, value_name = "V")]
    version: Option<Text>,
}

/// Which packages to list.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only packages of this type
    #[arg(long = "type", value_name = "TYPE")]
    ty: Option<ManagerType>,
    /// Only managers in this state: live, unknown, suspect, down or withdrawn
    #[arg(long, value_name = "S")]
    state: Option<CandidateState>,
    #[command(flatten)]
    from: From,
}

fn priority(text: &str) -> Result<u32, String> {
    number(text, check_priority)
}

fn weight(text: &str) -> Result<u32, String> {
    number(text, check_weight)
}

fn number(text: &str, check: fn(u32) -> Result<u32, NumberError>) -> Result<u32, String> {
    let value = text.parse().map_err(|e: std::num::ParseIntError| e.to_string())?;
    check(value).map_err(|e| e.to_string())
}

/// Does it.
pub(crate) async fn run(command: Package, console: &mut Console) -> Result<(), Problem> {
    let (hosts, args, change): (_, _, Box<dyn Fn(HostName) -> Change>) = match command {
        Package::List(args) => return list(&args, console).await,
        Package::Add { hosts, ty, spec, edit } => {
            let spec = spec.resolve();
            (
                hosts,
                edit,
                Box::new(move |host| Change::AddPackage { host, ty: ty.clone(), spec: spec.clone() }),
            )
        }
        Package::Withdraw { hosts, ty, reason, edit } => (
            hosts,
            edit,
            Box::new(move |host| Change::WithdrawPackage { host, ty: ty.clone(), reason: reason.clone() }),
        ),
        Package::Restore { hosts, ty, edit } => {
            (hosts, edit, Box::new(move |host| Change::RestorePackage { host, ty: ty.clone() }))
        }
        Package::Remove { hosts, ty, successor, edit } => (
            hosts,
            edit,
            Box::new(move |host| Change::RemovePackage {
                host,
                ty: ty.clone(),
                successor: successor.clone(),
            }),
        ),
    };
    edit(console, &args, names(hosts)?.into_iter().map(change).collect()).await
}

impl Spec {
    fn resolve(self) -> PackageSpec {
        let listens = match (self.port, self.endpoint) {
            (Some(port), _) => Listens::Port(port),
            (None, Some(endpoint)) => Listens::At(endpoint),
            (None, None) => Listens::Nowhere,
        };
        PackageSpec {
            listens,
            priority: self.priority,
            weight: self.weight,
            version: self.version,
            check: Check::default(),
        }
    }
}

async fn list(args: &List, console: &mut Console) -> Result<(), Problem> {
    let inventory = Inventory::load(console, &args.from).await?;
    let hosts = inventory.registry.hosts_by_name();
    let entries = hosts.flat_map(|host| inventory.entries(host));
    let wanted = |entry: &PackageEntry| {
        args.ty.as_ref().is_none_or(|ty| entry.ty == *ty)
            && args.state.is_none_or(|state| entry.state == Some(state))
    };
    let entries: Vec<_> = entries.filter(wanted).collect();
    match console.out.is_json() {
        true => entries.iter().try_for_each(|entry| console.out.object(entry)),
        false => console.out.table(&table(&entries, true)),
    }
}

/// Packages as a table; with `hosts`, of several hosts.
pub(crate) fn table(entries: &[PackageEntry], hosts: bool) -> Table {
    let mut table = match hosts {
        true => Table::new([
            "HOST", "DOMAIN", "TYPE", "ENDPOINT", "ROLE", "FENCING", "PRIO", "WEIGHT", "VERSION", "OWNER",
            "STATE", "REASON",
        ]),
        false => Table::new([
            "TYPE", "ENDPOINT", "ROLE", "FENCING", "PRIO", "WEIGHT", "VERSION", "OWNER", "STATE", "REASON",
        ]),
    };
    for entry in entries {
        let of_host = [cell(&entry.host), cell(&entry.domain)];
        let of_package = [
            cell(&entry.ty),
            maybe(entry.endpoint.as_ref()),
            maybe(entry.role),
            maybe(entry.fencing),
            cell(entry.priority),
            cell(entry.weight),
            maybe(entry.version.as_ref()),
            cell(if entry.announced { "host" } else { "operator" }),
            table::state(entry.state),
            cell(&entry.reason),
        ];
        table.row(of_host.into_iter().filter(|_| hosts).chain(of_package));
    }
    table
}
