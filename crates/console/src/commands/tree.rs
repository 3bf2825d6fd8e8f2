//! `echelon tree`.

use crate::console::Console;
use crate::inventory::{From, Inventory, PackageEntry};
use crate::problem::Problem;
use crate::style;
use echelon_core::describe::DrainReport;
use echelon_core::endpoint::Address;
use echelon_core::id::DomainId;
use echelon_core::name::{DomainPath, HostName};
use echelon_core::row::Host;
use serde::Serialize;

/// Which part of the tree.
#[derive(Debug, clap::Args)]
pub(crate) struct Tree {
    /// The domain to begin with
    #[arg(value_name = "PATH", default_value = "/")]
    path: DomainPath,
    #[command(flatten)]
    from: From,
}

/// One line for programs.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Entry {
    Domain {
        path: DomainPath,
    },
    Host {
        name: HostName,
        domain: DomainPath,
        address: Option<Address>,
        drained: Option<DrainReport>,
        packages: Vec<PackageEntry>,
    },
}

/// Shows it.
pub(crate) async fn run(args: Tree, console: &mut Console) -> Result<(), Problem> {
    let inventory = Inventory::load(console, &args.from).await?;
    let top = inventory.domain(&args.path)?;
    if console.out.is_json() {
        return entries(&inventory, top).try_for_each(|entry| console.out.object(&entry));
    }
    let (bold, dim, framework) = (style::BOLD, style::DIM, &inventory.registry.meta().framework);
    console.out.line(format!("{bold}{}{bold:#}  {dim}framework {framework}{dim:#}", args.path))?;
    draw(&inventory, top, "", &mut |line| console.out.line(line))
}

fn entries(inventory: &Inventory, top: DomainId) -> impl Iterator<Item = Entry> {
    let registry = &inventory.registry;
    registry.hierarchy().subtree(top).into_iter().flat_map(move |domain| {
        let hosts = sorted_hosts(inventory, domain).into_iter().map(move |host| Entry::Host {
            name: host.name.clone(),
            domain: registry.path(domain),
            address: host.address.clone(),
            drained: host.drained.as_ref().map(DrainReport::from),
            packages: inventory.entries(host).collect(),
        });
        std::iter::once(Entry::Domain { path: registry.path(domain) }).chain(hosts)
    })
}

fn sorted_hosts(inventory: &Inventory, domain: DomainId) -> Vec<&Host> {
    let mut hosts: Vec<_> = inventory.registry.hosts_in(domain).map(AsRef::as_ref).collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    hosts
}

/// Draws what is in and below a domain: its hosts, then its subdomains. As deep as domains may be nested.
fn draw(
    inventory: &Inventory,
    domain: DomainId,
    indent: &str,
    line: &mut dyn FnMut(String) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let hosts = sorted_hosts(inventory, domain);
    let subdomains: Vec<_> = inventory.registry.hierarchy().children(domain).collect();
    let width = hosts.iter().map(|host| host.name.as_str().len()).max().unwrap_or(0);
    let mut left = hosts.len() + subdomains.len();
    let mut branch = || {
        left -= 1;
        if left == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") }
    };
    for host in hosts {
        let drained = host.drained.as_ref().map(|drain| drain_label(&DrainReport::from(drain)));
        let packages = inventory.entries(host).map(|entry| label(&entry));
        let packages = packages.chain(drained).collect::<Vec<_>>().join("  ");
        let gap = if packages.is_empty() { 0 } else { width };
        line(format!("{indent}{}{:gap$}  {packages}", branch().0, host.name).trim_end().to_owned())?;
    }
    for (name, subdomain) in subdomains {
        let (bold, (corner, below)) = (style::BOLD, branch());
        line(format!("{indent}{corner}{bold}{name}/{bold:#}"))?;
        draw(inventory, subdomain, &format!("{indent}{below}"), line)?;
    }
    Ok(())
}

fn drain_label(drain: &DrainReport) -> String {
    let odd = style::ODD;
    format!("{odd}drained {drain}{odd:#}")
}

fn label(entry: &PackageEntry) -> String {
    let dim = style::DIM;
    let endpoint = entry.endpoint.as_ref().map(|e| format!(" {dim}{e}{dim:#}")).unwrap_or_default();
    match entry.state {
        None => format!("{}{endpoint}", entry.ty),
        Some(state) => {
            let style = style::of_state(state);
            format!("{} {style}{state}{style:#}{endpoint}", entry.ty)
        }
    }
}
