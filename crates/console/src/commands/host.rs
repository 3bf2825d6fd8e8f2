//! `echelon host`.

use crate::console::Console;
use crate::edit::{EditArgs, edit};
use crate::inventory::{From, Inventory, PackageEntry};
use crate::problem::Problem;
use crate::table::{NOTHING, Table, cell, maybe};
use echelon_core::change::Change;
use echelon_core::endpoint::Address;
use echelon_core::id::HostId;
use echelon_core::name::{DomainPath, HostName, ManagerType};
use echelon_core::row::Host as HostRow;
use serde::Serialize;
use uuid::Uuid;

/// What to do with hosts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Host {
    /// Add hosts to a domain
    #[command(after_help = "Example:\n  echelon host add agent5 agent6 --domain /sub1")]
    Add {
        /// Names of the hosts
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostName>,
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
        /// Names of the hosts
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostName>,
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
        /// Names of the hosts
        #[arg(required = true, value_name = "NAME")]
        names: Vec<HostName>,
        /// Remove their packages too; without this, hosts with packages stay
        #[arg(long)]
        with_packages: bool,
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
        Host::Add { names, domain, address, edit } => (add(names, &domain, address.as_ref()), edit),
        Host::Move { names, domain, edit } => {
            let moved = |host| Change::MoveHost { host, domain: domain.clone() };
            (names.into_iter().map(moved).collect(), edit)
        }
        Host::Rename { name, new, edit } => (vec![Change::RenameHost { host: name, name: new }], edit),
        Host::Remove { names, with_packages, edit } => {
            (names.into_iter().map(|host| Change::RemoveHost { host, with_packages }).collect(), edit)
        }
    };
    edit(console, &args, changes).await
}

fn add(names: Vec<HostName>, domain: &DomainPath, address: Option<&Address>) -> Vec<Change> {
    let added = |name| Change::AddHost {
        id: HostId(Uuid::now_v7()),
        name,
        domain: domain.clone(),
        address: address.cloned(),
    };
    names.into_iter().map(added).collect()
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
    let mut table = Table::new(["HOST", "DOMAIN", "ADDRESS", "PACKAGES"]);
    for entry in entries {
        let packages = entry.packages.iter().map(in_short).collect::<Vec<_>>().join(" ");
        let packages = if packages.is_empty() { NOTHING.to_owned() } else { packages };
        table.row([cell(entry.name), cell(entry.domain), maybe(entry.address), cell(packages)]);
    }
    console.out.table(&table)
}

fn entry(inventory: &Inventory, host: &HostRow) -> HostEntry {
    HostEntry {
        name: host.name.clone(),
        domain: inventory.registry.path(host.domain),
        address: host.address.clone(),
        packages: inventory.entries(host).collect(),
    }
}

fn in_short(package: &PackageEntry) -> String {
    match package.state {
        None | Some(echelon_core::report::CandidateState::Live) => package.ty.to_string(),
        Some(state) => format!("{}({state})", package.ty),
    }
}
