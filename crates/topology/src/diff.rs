//! Works out what brings a registry to what a file says.

use crate::export::{listens_text, settings_text};
use crate::plan::{DiffError, Options, Plan, Sign};
use crate::roles::Roles;
use crate::topology::{HostEntry, PackageEntry, PackageState, PolicyEntry, Topology};
use echelon_core::change::{Change, PackageSpec};
use echelon_core::id::HostId;
use echelon_core::name::{DomainPath, HostName};
use echelon_core::package::{Package, Role};
use echelon_core::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// The changes that bring `registry` to what `topology` says; `new_id` makes an id for each new host.
///
/// What the file leaves out is left as it is, unless [`Options::prune`] is set. A key that is left out
/// takes its default, but an existing host keeps its domain and address, and an existing package its
/// role and state. What its host announced of a package stays, too.
///
/// # Errors
/// The file is of another framework, or contradicts the registry's roles.
pub fn diff(
    topology: &Topology,
    registry: &Registry,
    options: Options,
    new_id: &mut dyn FnMut() -> HostId,
) -> Result<Plan, DiffError> {
    let (file, own) = (&topology.framework, &registry.meta().framework);
    if file != own {
        return Err(DiffError::OtherFramework { file: file.clone(), registry: own.clone() });
    }
    let filled = with_announced(topology, registry);
    let topology = filled.as_ref().unwrap_or(topology);
    let hosts: BTreeMap<_, _> = topology.hosts.iter().map(|h| (&h.name, h)).collect();
    let roles = Roles::settle(topology, registry, &hosts, options.prune)?;
    let plan = Plan::default();
    let mut diff = Diff { topology, registry, hosts, roles, needed: BTreeSet::new(), plan };
    diff.domains();
    diff.hosts(new_id);
    diff.packages();
    diff.policies();
    if options.prune {
        diff.prune();
    }
    Ok(diff.plan)
}

/// The file with what hosts have announced in place of the keys that it leaves out; none where that makes no
/// difference.
fn with_announced(topology: &Topology, registry: &Registry) -> Option<Topology> {
    if !registry.packages().any(|p| p.is_announced()) {
        return None;
    }
    let mut filled = topology.clone();
    for entry in &mut filled.hosts {
        let Some(host) = registry.host_named(&entry.name) else { continue };
        for package in &mut entry.packages {
            let announced = registry.package(host.id, &package.ty).filter(|p| p.is_announced());
            if let Some(announced) = announced {
                package.fill_in(announced);
            }
        }
    }
    Some(filled)
}

/// A plan in the making.
pub(crate) struct Diff<'t> {
    pub(crate) topology: &'t Topology,
    pub(crate) registry: &'t Registry,
    pub(crate) hosts: BTreeMap<&'t HostName, &'t HostEntry>,
    pub(crate) roles: Roles<'t>,
    /// The domains that the file names, with their parents.
    pub(crate) needed: BTreeSet<DomainPath>,
    pub(crate) plan: Plan,
}

impl<'t> Diff<'t> {
    fn domains(&mut self) {
        let topology = self.topology;
        let of_hosts = topology.hosts.iter().filter_map(|h| h.domain.as_ref());
        let of_policies = topology.policies.iter().map(|p| &p.domain);
        for path in topology.domains.iter().chain(of_policies).chain(of_hosts) {
            self.need(path);
        }
        // The set's order puts parents before their subdomains.
        let missing = self.needed.iter().filter(|path| self.registry.hierarchy().find(path).is_none());
        self.plan.created_domains = missing.cloned().collect();
        for path in self.plan.created_domains.clone() {
            self.plan.line(Sign::Add, "domain", &path, String::new());
            self.plan.changes.push(Change::AddDomain { path });
        }
    }

    /// Notes that a domain and its parents are needed.
    pub(crate) fn need(&mut self, path: &DomainPath) {
        let mut next = Some(path.clone());
        while let Some(path) = next.filter(|path| !self.needed.contains(path)) {
            next = path.parent();
            self.needed.insert(path);
        }
    }

    fn hosts(&mut self, new_id: &mut dyn FnMut() -> HostId) {
        for entry in &self.topology.hosts {
            match self.registry.host_named(&entry.name) {
                None => self.add_host(entry, new_id()),
                Some(host) => {
                    self.move_host(entry, &self.registry.path(host.domain));
                    self.readdress(entry, host.address.as_ref());
                }
            }
        }
    }

    fn add_host(&mut self, entry: &HostEntry, id: HostId) {
        let (name, address) = (entry.name.clone(), entry.address.clone());
        let domain = entry.domain.clone().unwrap_or_else(DomainPath::root);
        let at = address.as_ref().map(|a| format!(", at {a}")).unwrap_or_default();
        self.plan.line(Sign::Add, "host", &name, format!("in {domain}{at}"));
        self.plan.changes.push(Change::AddHost { id, name, domain, address });
    }

    fn move_host(&mut self, entry: &HostEntry, old: &DomainPath) {
        if let Some(domain) = entry.domain.clone().filter(|new| new != old) {
            self.plan.line(Sign::Change, "host", &entry.name, format!("domain {old} → {domain}"));
            self.plan.changes.push(Change::MoveHost { host: entry.name.clone(), domain });
        }
    }

    fn readdress(&mut self, entry: &HostEntry, old: Option<&echelon_core::endpoint::Address>) {
        if let Some(address) = entry.address.clone().filter(|new| Some(new) != old) {
            let old = old.map_or("none".into(), ToString::to_string);
            self.plan.line(Sign::Change, "host", &entry.name, format!("address {old} → {address}"));
            let host = entry.name.clone();
            self.plan.changes.push(Change::SetAddress { host, address: Some(address) });
        }
    }

    fn packages(&mut self) {
        let (mut records, mut states) = (Vec::new(), Vec::new());
        for entry in &self.topology.hosts {
            let id = self.registry.host_named(&entry.name).map(|h| h.id);
            for package in &entry.packages {
                let old = id.and_then(|id| self.registry.package(id, &package.ty));
                let known = if package.ty.is_registry() {
                    self.registry_package(&entry.name, package, old.map(|p| &**p))
                } else {
                    records.extend(self.record(&entry.name, package, old.map(|p| &**p)));
                    true
                };
                if known {
                    states.extend(self.state(&entry.name, package, old.map(|p| &**p)));
                }
            }
        }
        records.sort_by_key(|(order, _)| *order);
        self.plan.changes.extend(records.into_iter().map(|(_, change)| change).chain(states));
    }

    /// What records a package as the file has it, and when: the core makes the first manager of a type
    /// its primary, and lets a primary go only after its backups.
    fn record(
        &mut self,
        host: &HostName,
        package: &PackageEntry,
        old: Option<&Package>,
    ) -> Option<(Order, Change)> {
        let (ty, spec, name) = (&package.ty, &package.spec, format!("{host} {}", package.ty));
        let old_spec = old.map(PackageSpec::of);
        if old_spec.as_ref() == Some(spec) {
            return None;
        }
        let order = match old.and_then(|p| p.role) {
            Some(Role::Backup) if !package.is_manager() => Order::BackupStops,
            Some(Role::Primary) if !package.is_manager() => Order::PrimaryStops,
            _ if self.roles.heirs.get(ty) == Some(&host) => Order::Heir,
            _ => Order::Other,
        };
        let (host, ty, spec) = (host.clone(), ty.clone(), spec.clone());
        Some(match old_spec {
            None => {
                self.plan.line(Sign::Add, "package", name, listens_text(&spec.listens));
                (order, Change::AddPackage { host, ty, spec })
            }
            Some(old) => {
                self.plan.line(Sign::Change, "package", name, changed(&old, &spec));
                (order, Change::SetPackage { host, ty, spec })
            }
        })
    }

    /// Registry managers come and go by themselves. Whether this one is there.
    fn registry_package(&mut self, host: &HostName, package: &PackageEntry, old: Option<&Package>) -> bool {
        match old {
            None => self.plan.warnings.push(format!(
                "the package registry of {host} is left out: {host} becomes a registry manager with \
                 registry-manager join, run there"
            )),
            Some(old) if PackageSpec::of(old) != package.spec => self.plan.warnings.push(format!(
                "the package registry of {host} stays as it is ({}): only its registry manager changes it",
                changed(&package.spec, &PackageSpec::of(old))
            )),
            Some(_) => {}
        }
        old.is_some()
    }

    fn state(&mut self, host: &HostName, package: &PackageEntry, old: Option<&Package>) -> Option<Change> {
        let withdrawn = old.is_some_and(|p| p.withdrawn.is_some());
        let (host, ty, name) = (host.clone(), package.ty.clone(), format!("{host} {}", package.ty));
        match package.state? {
            PackageState::Withdrawn if !withdrawn => {
                self.plan.line(Sign::Change, "package", name, "state active → withdrawn".into());
                Some(Change::WithdrawPackage { host, ty, reason: None })
            }
            PackageState::Active if withdrawn => {
                self.plan.line(Sign::Change, "package", name, "state withdrawn → active".into());
                Some(Change::RestorePackage { host, ty })
            }
            _ => None,
        }
    }

    fn policies(&mut self) {
        for PolicyEntry { domain, ty, settings } in &self.topology.policies {
            let id = self.registry.hierarchy().find(domain);
            let old = id.and_then(|id| self.registry.policy(id, ty)).map(|p| &p.settings);
            if old == Some(settings) {
                continue;
            }
            let new = settings_text(settings).join(", ");
            let (sign, details) = match old {
                None => (Sign::Add, new),
                Some(old) => (Sign::Change, format!("{} → {new}", settings_text(old).join(", "))),
            };
            self.plan.line(sign, "policy", format!("{domain} {ty}"), details);
            let (domain, ty, settings) = (domain.clone(), ty.clone(), settings.clone());
            self.plan.changes.push(Change::ReplacePolicy { domain, ty, settings });
        }
    }
}

/// When a package is recorded, among the packages of a plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    BackupStops,
    PrimaryStops,
    Heir,
    Other,
}

impl PackageEntry {
    /// Takes over what is announced where the file writes nothing.
    fn fill_in(&mut self, announced: &Package) {
        if !self.written.listens {
            self.spec.listens = announced.listens.clone();
        }
        if !self.written.version {
            self.spec.version = announced.version.clone();
        }
        if !self.written.check {
            self.spec.check = announced.check.clone();
        }
    }
}

/// What differs, for people.
fn changed(old: &PackageSpec, new: &PackageSpec) -> String {
    let version = |s: &PackageSpec| s.version.as_ref().map_or("none".into(), ToString::to_string);
    let mut parts = Vec::new();
    let mut compare = |key: &str, old: &dyn Display, new: &dyn Display| {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            parts.push(format!("{key}{old} → {new}"));
        }
    };
    compare("", &listens_text(&old.listens), &listens_text(&new.listens));
    compare("priority ", &old.priority, &new.priority);
    compare("weight ", &old.weight, &new.weight);
    compare("version ", &version(old), &version(new));
    let check = |s: &PackageSpec| crate::export::check_text(&s.check);
    compare("check ", &check(old), &check(new));
    parts.join(", ")
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
