//! Removes what a file does not name.

use crate::diff::Diff;
use crate::export::settings_text;
use crate::plan::Sign;
use echelon_core::change::Change;
use echelon_core::name::{HostName, ManagerType};
use echelon_core::package::{Package, Role};
use echelon_core::policy::PolicySettings;
use echelon_core::registry::Registry;
use echelon_core::row::Host;
use std::collections::BTreeSet;

impl Diff<'_> {
    /// Adds what removes everything that is not in the file: packages first, then hosts, policies and
    /// domains, so that each change is valid when its turn comes.
    pub(crate) fn prune(&mut self) {
        let registry = self.registry;
        let (gone, kept): (Vec<&Host>, Vec<&Host>) =
            registry.hosts_by_name().map(|h| &**h).partition(|h| self.is_gone(h));
        self.keep_places(&kept);
        self.prune_packages(&gone, &kept);
        for host in gone {
            let types: Vec<_> = registry.packages_on(host.id).map(|p| p.ty.to_string()).collect();
            let with = if types.is_empty() { "no packages".into() } else { types.join(", ") };
            self.plan.line(Sign::Remove, "host", &host.name, format!("with {with}"));
            self.plan.changes.push(Change::RemoveHost { host: host.name.clone(), with_packages: true });
        }
        self.prune_policies();
        self.prune_domains();
    }

    fn is_gone(&self, host: &Host) -> bool {
        !self.hosts.contains_key(&host.name) && self.stays_because(host).is_none()
    }

    /// Why a host stays though the file does not name it, and what would take it out; none for one that goes.
    fn stays_because(&self, host: &Host) -> Option<String> {
        if has_registry(self.registry, host) {
            let way_out = "registry-manager leave, run there, takes it out";
            return Some(format!("it has a registry manager; {way_out}"));
        }
        let announced = self.registry.packages_on(host.id).find(|p| p.is_announced())?;
        let way_out = format!("echelon host remove {} --with-packages", host.name);
        Some(format!(
            "it announced the package {} itself; to remove it all the same: {way_out}",
            announced.ty
        ))
    }

    /// Domains in which hosts stay without the file saying so are needed too.
    fn keep_places(&mut self, kept: &[&Host]) {
        for host in kept {
            let entry = self.hosts.get(&host.name);
            if let Some(why) = self.stays_because(host).filter(|_| entry.is_none()) {
                let host = &host.name;
                let warning = format!("host {host} is not in the file and stays all the same: {why}");
                self.plan.warnings.push(warning);
            }
            if entry.is_none_or(|e| e.domain.is_none()) {
                self.need(&self.registry.path(host.domain));
            }
        }
    }

    fn prune_packages(&mut self, gone: &[&Host], kept: &[&Host]) {
        let registry = self.registry;
        let of_kept = kept.iter().flat_map(|host| registry.packages_on(host.id).map(move |p| (*host, p)));
        let of_kept = of_kept.filter(|(host, p)| !p.ty.is_registry() && !self.is_named(&host.name, &p.ty));
        let (announced, of_kept): (Vec<_>, Vec<_>) = of_kept.partition(|(_, p)| p.is_announced());
        for (host, package) in announced {
            let (host, ty) = (&host.name, &package.ty);
            self.plan.warnings.push(format!(
                "the package {ty} of {host} is not in the file and stays all the same: its host announced it; to \
                 remove it all the same: echelon package remove {host} {ty}"
            ));
        }
        let of_kept: Vec<_> = of_kept.into_iter().map(|(host, p)| (host, &**p, true)).collect();
        let of_gone = gone.iter().flat_map(|host| registry.packages_on(host.id).map(move |p| (*host, p)));
        let all: Vec<_> = of_kept.into_iter().chain(of_gone.map(|(host, p)| (host, &**p, false))).collect();
        // A primary that nobody succeeds goes after its backups.
        let ends: BTreeSet<_> = all.iter().filter(|(_, p, _)| self.ends(p)).map(|(_, p, _)| &p.ty).collect();
        let is_primary = |p: &Package| p.role == Some(Role::Primary);
        for (host, package, stays) in all.iter().filter(|(_, p, _)| !is_primary(p)) {
            if *stays || ends.contains(&package.ty) {
                self.remove_package(host, package, *stays);
            }
        }
        for (host, package, stays) in all.iter().filter(|(_, p, _)| is_primary(p)) {
            self.remove_package(host, package, *stays);
        }
    }

    fn is_named(&self, host: &HostName, ty: &ManagerType) -> bool {
        self.hosts.get(host).is_some_and(|entry| entry.packages.iter().any(|p| p.ty == *ty))
    }

    /// Whether the type ends with this package, which is removed.
    fn ends(&self, package: &Package) -> bool {
        package.role == Some(Role::Primary) && !self.roles.heirs.contains_key(&package.ty)
    }

    fn remove_package(&mut self, host: &Host, package: &Package, is_line: bool) {
        let primary = package.role == Some(Role::Primary);
        let successor = self.roles.heirs.get(&package.ty).filter(|_| primary).copied().cloned();
        let (host, ty) = (host.name.clone(), package.ty.clone());
        if is_line || successor.is_some() {
            let heir = successor.as_ref().map(|heir| format!("{heir} becomes primary"));
            self.plan.line(Sign::Remove, "package", format!("{host} {ty}"), heir.unwrap_or_default());
        }
        self.plan.changes.push(Change::RemovePackage { host, ty, successor });
    }

    fn prune_policies(&mut self) {
        let named: BTreeSet<_> = self.topology.policies.iter().map(|p| (&p.domain, &p.ty)).collect();
        for policy in self.registry.policies() {
            let (domain, ty) = (self.registry.path(policy.domain), policy.ty.clone());
            if named.contains(&(&domain, &ty)) {
                continue;
            }
            let old = settings_text(&policy.settings).join(", ");
            self.plan.line(Sign::Remove, "policy", format!("{domain} {ty}"), old);
            let settings = PolicySettings::default();
            self.plan.changes.push(Change::ReplacePolicy { domain, ty, settings });
        }
    }

    fn prune_domains(&mut self) {
        let paths = self.registry.hierarchy().iter().filter_map(|d| self.registry.hierarchy().path(d.id));
        let spare: BTreeSet<_> = paths.filter(|p| !p.is_root() && !self.needed.contains(p)).collect();
        // Backwards, so that subdomains go before their parents.
        for path in spare.into_iter().rev() {
            self.plan.line(Sign::Remove, "domain", &path, String::new());
            self.plan.changes.push(Change::RemoveDomain { path, recursive: false });
        }
    }
}

fn has_registry(registry: &Registry, host: &Host) -> bool {
    registry.package(host.id, &ManagerType::registry()).is_some()
}
