//! `echelon host`.

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::hosts::{HostArg, names};
use crate::inventory::{From, Inventory, PackageEntry};
use crate::problem::Problem;
use crate::table::{NOTHING, Table, cell, maybe};
use echelon_core::change::Change;
use echelon_core::describe::DrainReport;
use echelon_core::duration;
use echelon_core::endpoint::Address;
use echelon_core::id::HostId;
use echelon_core::limits::{MAX_DRAIN, MIN_DRAIN};
use echelon_core::name::{DomainPath, HostName, ManagerType, Text};
use echelon_core::row::Host as HostRow;
use serde::Serialize;
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
    /// Show one host with its packages
    #[command(after_help = "Example:\n  echelon host show agent5")]
    Show {
        /// Its name
        name: HostName,
    },
    /// List hosts
    #[command(after_help = "Examples:
  echelon host list --domain /emea --type command-control
  echelon host list --without-type audit --file topology.toml")]
    List(List),
}

/// Which hosts to list.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only hosts in or below this domain
    #[arg(long, value_name = "PATH")]
    domain: Option<DomainPath>,
    /// Only hosts with a package of this type
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "without_type")]
    ty: Option<ManagerType>,
    /// Only hosts without a package of this type
    #[arg(long, value_name = "TYPE")]
    without_type: Option<ManagerType>,
    #[command(flatten)]
    from: From,
}

/// A host as operators see it; its JSON is what scripts rely on.
#[derive(Serialize)]
struct HostEntry {
    name: HostName,
    domain: DomainPath,
    address: Option<Address>,
    drained: Option<DrainReport>,
    packages: Vec<PackageEntry>,
}

/// One host in full.
#[derive(Serialize)]
struct HostDocument {
    id: HostId,
    #[serde(flatten)]
    host: HostEntry,
    agent: AgentWord,
}

/// What is known of a host's agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum AgentWord {
    /// It reports.
    Heard,
    /// It did, and does no longer.
    Silent,
    /// It never did, since the manager's start.
    Unheard,
}

/// Does it.
pub(crate) async fn run(command: Host, console: &mut Console) -> Result<(), Problem> {
    let (changes, args) = match command {
        Host::Show { name } => return show(&name, console).await,
        Host::List(args) => return list(&args, console).await,
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

async fn show(name: &HostName, console: &mut Console) -> Result<(), Problem> {
    let inventory = Inventory::load(console, &From { file: None }).await?;
    let host = inventory.host(name)?;
    let agent = match inventory.liveness(host.id) {
        Some(entry) if entry.silent => AgentWord::Silent,
        Some(_) => AgentWord::Heard,
        None => AgentWord::Unheard,
    };
    let document = HostDocument { id: host.id, host: entry(&inventory, host), agent };
    match console.out.is_json() {
        true => console.out.object(&document),
        false => print(&document, console),
    }
}

fn print(document: &HostDocument, console: &mut Console) -> Result<(), Problem> {
    let HostDocument { id, host, agent } = document;
    let agent = match agent {
        AgentWord::Heard => "reports",
        AgentWord::Silent => "silent",
        AgentWord::Unheard => "not heard since the manager's start",
    };
    console.out.line(format!("name     {}", host.name))?;
    console.out.line(format!("id       {id}"))?;
    console.out.line(format!("domain   {}", host.domain))?;
    let address = host.address.as_ref().map_or_else(|| NOTHING.to_owned(), ToString::to_string);
    console.out.line(format!("address  {address}"))?;
    console.out.line(format!("agent    {agent}"))?;
    if let Some(drained) = &host.drained {
        console.out.line(format!("drained  {drained}"))?;
    }
    if host.packages.is_empty() {
        return console.out.line("packages none");
    }
    console.out.line("")?;
    console.out.table(&super::package::table(&host.packages, false))
}

async fn list(args: &List, console: &mut Console) -> Result<(), Problem> {
    let inventory = Inventory::load(console, &args.from).await?;
    let domain = args.domain.as_ref().map(|path| inventory.domain(path)).transpose()?;
    let below = |host: &HostRow| {
        domain.is_none_or(|domain| inventory.registry.hierarchy().is_within(host.domain, domain))
    };
    let has = |host: &HostRow, ty: &ManagerType| inventory.registry.package(host.id, ty).is_some();
    let wanted = |host: &HostRow| {
        below(host)
            && args.ty.as_ref().is_none_or(|ty| has(host, ty))
            && args.without_type.as_ref().is_none_or(|ty| !has(host, ty))
    };
    let hosts = inventory.registry.hosts_by_name().filter(|host| wanted(host));
    let entries = hosts.map(|host| entry(&inventory, host));
    if console.out.is_json() {
        return entries.into_iter().try_for_each(|entry| console.out.object(&entry));
    }
    let mut table = Table::new(["HOST", "DOMAIN", "ADDRESS", "PACKAGES", "DRAINED"]);
    for entry in entries {
        let packages = entry.packages.iter().map(in_short).collect::<Vec<_>>().join(" ");
        let packages = if packages.is_empty() { NOTHING.to_owned() } else { packages };
        let place = [cell(entry.name), cell(entry.domain), maybe(entry.address)];
        table.row(place.into_iter().chain([cell(packages), maybe(entry.drained)]));
    }
    console.out.table(&table)
}

fn entry(inventory: &Inventory, host: &HostRow) -> HostEntry {
    HostEntry {
        name: host.name.clone(),
        domain: inventory.registry.path(host.domain),
        address: host.address.clone(),
        drained: host.drained.as_ref().map(DrainReport::from),
        packages: inventory.entries(host).collect(),
    }
}

fn in_short(package: &PackageEntry) -> String {
    match package.state {
        None | Some(echelon_core::report::CandidateState::Live) => package.ty.to_string(),
        Some(state) => format!("{}({state})", package.ty),
    }
}
