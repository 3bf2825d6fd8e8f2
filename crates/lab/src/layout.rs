//! What a topology becomes on one machine: which address everything has, and where the manager runs.

use crate::addresses::{Addresses, AddressesError};
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::name::{DomainPath, HostName, ManagerType};
use echelon_core::package::Listens;
use echelon_core::policy::{PolicySettings, TypeSelector};
use echelon_topology::{HostEntry, PolicyEntry, Topology};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// The registry manager's port where the topology names none: the default of registry-manager.
const REGISTRY_PORT: u16 = 29120;

/// Hold and jitter of a failback where the file sets none. In production they spread a thousand hosts over
/// half a minute; whoever watches a lab wants to see the return.
const FAILBACK: Duration = Duration::from_secs(1);

/// A topology made to fit on one machine.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The topology with loopback addresses, without `registry` packages, with a quick failback.
    pub topology: Topology,
    /// The registry manager.
    pub manager: ManagerPlace,
    /// The managers that stubs stand in for, in the order of the file.
    pub stubs: Vec<StubPlace>,
    /// What was left out, for people.
    pub notes: Vec<String>,
}

/// Where the registry manager runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerPlace {
    /// On which host.
    pub host: HostName,
    /// Why there.
    pub why: Why,
    /// Where it listens.
    pub listen: Place,
}

/// Why the registry manager runs on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file gives the host a `registry` package.
    Package,
    /// It is the first host of the root.
    FirstOfRoot,
    /// The root had no host, and the lab added this one.
    Added,
}

/// A manager that a stub stands in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StubPlace {
    /// On which host.
    pub host: HostName,
    /// Of which type.
    pub ty: ManagerType,
    /// Where it listens.
    pub listen: Place,
}

/// Where something listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub addr: SocketAddr,
    /// Whether the lab chose it, and may choose another port should this one be taken.
    pub movable: bool,
}

/// Why a topology does not fit on one machine. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Two managers at one address.
    #[error(
        "{first} and {second} both listen at {addr}: give their hosts loopback addresses of their own, or none"
    )]
    Clash {
        /// The address.
        addr: SocketAddr,
        /// Host and type of the first.
        first: String,
        /// Host and type of the second.
        second: String,
    },
    /// More managers than addresses.
    #[error(transparent)]
    Addresses(#[from] AddressesError),
}

impl Layout {
    /// The layout of a topology; the same one for the same topology.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn of(mut topology: Topology) -> Result<Self, LayoutError> {
        let (host, why, notes) = choose_manager(&mut topology);
        let mut addresses = Addresses::beside(&topology);
        let moved = move_to_loopback(&mut topology, &mut addresses)?;
        let mut stubs = stubs(&topology, &moved);
        let registry = stubs.iter().position(|s| s.ty.is_registry() && s.host == host);
        let listen = match registry.map(|at| stubs.remove(at).listen) {
            Some(listen) => listen,
            None => Place { addr: SocketAddr::new(addresses.next()?.into(), REGISTRY_PORT), movable: true },
        };
        stubs.retain(|s| !s.ty.is_registry());
        topology.hosts.iter_mut().for_each(|h| h.packages.retain(|p| !p.ty.is_registry()));
        set_quick_failback(&mut topology);
        check_clashes(&stubs)?;
        Ok(Self { topology, manager: ManagerPlace { host, why, listen }, stubs, notes })
    }

    /// Records that a manager listens elsewhere than planned.
    pub(crate) fn moved(&mut self, host: &HostName, ty: &ManagerType, addr: SocketAddr) {
        let entry = self.topology.hosts.iter_mut().find(|h| h.name == *host);
        if let Some(package) = entry.and_then(|h| h.packages.iter_mut().find(|p| p.ty == *ty)) {
            package.spec.listens = Listens::At(addr.into());
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Package => "which has the registry package",
            Self::FirstOfRoot => "the first host of the root, since no host has a registry package",
            Self::Added => "which the lab added, since the root has no host",
        })
    }
}

/// The host of the registry manager, which is added where none suits, and what there is to say about it.
fn choose_manager(topology: &mut Topology) -> (HostName, Why, Vec<String>) {
    let with_registry = |h: &&HostEntry| h.packages.iter().any(|p| p.ty.is_registry() && p.is_manager());
    let mut with_registry = topology.hosts.iter().filter(with_registry).map(|h| h.name.clone());
    if let Some(first) = with_registry.next() {
        let others: Vec<String> = with_registry.map(|host| host.to_string()).collect();
        let note = format!("only {first} runs a registry manager here; left out: {}", others.join(", "));
        return (first, Why::Package, if others.is_empty() { Vec::new() } else { vec![note] });
    }
    let in_root = |h: &&HostEntry| h.domain.as_ref().is_none_or(DomainPath::is_root);
    if let Some(first) = topology.hosts.iter().find(in_root) {
        return (first.name.clone(), Why::FirstOfRoot, Vec::new());
    }
    let name = free_name(topology);
    let root = Some(DomainPath::root());
    topology.hosts.push(HostEntry { name: name.clone(), domain: root, address: None, packages: Vec::new() });
    (name, Why::Added, Vec::new())
}

/// `registry`, or the first of `registry-2`, `registry-3` and so on that no host is called.
fn free_name(topology: &Topology) -> HostName {
    let names = (1_u64..).map(|n| if n == 1 { "registry".to_owned() } else { format!("registry-{n}") });
    let mut names = names.map(|name| name.parse().expect("a valid host name"));
    let taken = |name: &HostName| topology.hosts.iter().any(|h| h.name == *name);
    names.find(|name| !taken(name)).expect("a topology has fewer hosts than there are numbers")
}

/// The hosts that were given an address, and the packages that were given an endpoint.
#[derive(Default)]
struct Moved {
    hosts: Vec<HostName>,
    packages: Vec<(HostName, ManagerType)>,
}

/// Gives every manager that is not on a loopback address one of its own.
fn move_to_loopback(topology: &mut Topology, addresses: &mut Addresses) -> Result<Moved, LayoutError> {
    let mut moved = Moved::default();
    for host in &mut topology.hosts {
        let has_port = host.packages.iter().any(|p| matches!(p.spec.listens, Listens::Port(_)));
        if has_port && !host.address.as_ref().is_some_and(is_loopback) {
            host.address = Some(Address::Ip(addresses.next()?.into()));
            moved.hosts.push(host.name.clone());
        }
        for package in &mut host.packages {
            match &mut package.spec.listens {
                Listens::At(endpoint) if !is_loopback(&endpoint.address) => {
                    endpoint.address = Address::Ip(addresses.next()?.into());
                    moved.packages.push((host.name.clone(), package.ty.clone()));
                }
                _ => {}
            }
        }
    }
    Ok(moved)
}

fn is_loopback(address: &Address) -> bool {
    matches!(address, Address::Ip(ip) if ip.to_canonical().is_loopback())
}

/// Every manager, the registry managers among them, once all of them are on loopback addresses.
fn stubs(topology: &Topology, moved: &Moved) -> Vec<StubPlace> {
    let mut stubs = Vec::new();
    for host in &topology.hosts {
        for package in &host.packages {
            let Some((ip, port)) = listens(host, &package.spec.listens) else { continue };
            let key = (host.name.clone(), package.ty.clone());
            let movable = match package.spec.listens {
                Listens::At(_) => moved.packages.contains(&key),
                _ => moved.hosts.contains(&host.name),
            };
            let listen = Place { addr: SocketAddr::new(ip, port.get()), movable };
            stubs.push(StubPlace { host: key.0, ty: key.1, listen });
        }
    }
    stubs
}

/// Where a package listens; none for inventory.
fn listens(host: &HostEntry, listens: &Listens) -> Option<(IpAddr, NonZeroU16)> {
    let (address, port) = match listens {
        Listens::Nowhere => return None,
        Listens::Port(port) => (host.address.as_ref()?, *port),
        Listens::At(Endpoint { address, port }) => (address, *port),
    };
    match address {
        Address::Ip(ip) => Some((*ip, port)),
        Address::Name(_) => None,
    }
}

/// Sets hold and jitter at the root for every type, where the file does not: what it sets anywhere else
/// is nearer, or of one type, and wins.
fn set_quick_failback(topology: &mut Topology) {
    let quick = PolicySettings {
        failback_hold: Some(FAILBACK),
        failback_jitter: Some(FAILBACK),
        ..PolicySettings::default()
    };
    let at_root = |p: &&mut PolicyEntry| p.domain.is_root() && p.ty == TypeSelector::All;
    match topology.policies.iter_mut().find(at_root) {
        Some(policy) => policy.settings = policy.settings.over(&quick),
        None => {
            let (domain, ty) = (DomainPath::root(), TypeSelector::All);
            topology.policies.push(PolicyEntry { domain, ty, settings: quick });
        }
    }
}

/// Addresses that the file fixes have to differ; those that the lab chose can be chosen again.
fn check_clashes(stubs: &[StubPlace]) -> Result<(), LayoutError> {
    let mut seen: BTreeMap<SocketAddr, &StubPlace> = BTreeMap::new();
    let name = |s: &StubPlace| format!("{}'s {}", s.host, s.ty);
    for stub in stubs.iter().filter(|s| !s.listen.movable) {
        let addr = stub.listen.addr;
        if let Some(first) = seen.insert(addr, stub) {
            return Err(LayoutError::Clash { addr, first: name(first), second: name(stub) });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
