//! Who is primary of a type once a file has been applied.

use crate::plan::{DiffError, RoleConflict};
use crate::topology::{HostEntry, PackageEntry, Topology};
use echelon_core::name::{HostName, ManagerType};
use echelon_core::package::Role;
use echelon_core::registry::Registry;
use std::collections::BTreeMap;

/// The managers of one type in a file, as far as the role of primary is concerned.
#[derive(Default)]
pub(crate) struct Managers<'t> {
    /// The written primary.
    written: Option<&'t HostName>,
    /// The first one that is not written as a backup.
    first: Option<&'t HostName>,
    /// All with a written role.
    roles: Vec<(&'t HostName, Role)>,
}

impl<'t> Managers<'t> {
    /// The file's managers, by type.
    pub(crate) fn of(topology: &'t Topology) -> BTreeMap<&'t ManagerType, Self> {
        let mut types: BTreeMap<_, Self> = BTreeMap::new();
        for host in &topology.hosts {
            for package in host.packages.iter().filter(|p| p.is_manager()) {
                types.entry(&package.ty).or_default().add(&host.name, package);
            }
        }
        types
    }

    fn add(&mut self, host: &'t HostName, package: &PackageEntry) {
        if package.role == Some(Role::Primary) {
            self.written.get_or_insert(host);
        }
        if package.role != Some(Role::Backup) {
            self.first.get_or_insert(host);
        }
        self.roles.extend(package.role.map(|role| (host, role)));
    }

    /// Who becomes primary where nobody is.
    pub(crate) fn heir(&self) -> Option<&'t HostName> {
        self.written.or(self.first)
    }

    /// The written roles that a registry with this primary contradicts.
    fn conflicts(&self, ty: &ManagerType, primary: &HostName, registry: &Registry) -> Vec<RoleConflict> {
        let wrong = self.roles.iter().filter(|(host, role)| (*host == primary) != (*role == Role::Primary));
        let heir = || self.written.cloned().or_else(|| some_backup(registry, ty));
        let conflict = |(host, written): &(&HostName, Role)| RoleConflict {
            host: HostName::clone(host),
            ty: ty.clone(),
            written: *written,
            primary: primary.clone(),
            heir: heir(),
        };
        wrong.map(conflict).collect()
    }
}

fn some_backup(registry: &Registry, ty: &ManagerType) -> Option<HostName> {
    let backup = registry.packages_of(ty).find(|p| p.role == Some(Role::Backup))?;
    registry.host(backup.host).map(|h| h.name.clone())
}

/// What a plan has to do so that the right manager is primary.
#[derive(Default)]
pub(crate) struct Roles<'t> {
    /// For types whose primary is missing or goes: who takes its place.
    pub(crate) heirs: BTreeMap<&'t ManagerType, &'t HostName>,
}

impl<'t> Roles<'t> {
    /// Compares the roles in the file with the registry's.
    ///
    /// # Errors
    /// A written role differs, or a type would have no primary.
    pub(crate) fn settle(
        topology: &'t Topology,
        registry: &Registry,
        hosts: &BTreeMap<&HostName, &HostEntry>,
        prune: bool,
    ) -> Result<Self, DiffError> {
        let (mut settled, mut conflicts) = (Self::default(), Vec::new());
        for (ty, managers) in Managers::of(topology) {
            let primary = registry.primary_of(ty).and_then(|p| registry.host(p.host)).map(|h| &h.name);
            // What a host announced itself is not pruned.
            let prune = prune && !registry.primary_of(ty).is_some_and(|p| p.is_announced());
            match primary.filter(|host| ty.is_registry() || stays(hosts.get(*host), ty, prune)) {
                Some(primary) => conflicts.extend(managers.conflicts(ty, primary, registry)),
                None if ty.is_registry() => {}
                None => {
                    let heir = managers.heir().ok_or_else(|| DiffError::NoPrimary { ty: ty.clone() })?;
                    settled.heirs.insert(ty, heir);
                }
            }
        }
        if conflicts.is_empty() { Ok(settled) } else { Err(DiffError::Roles(conflicts)) }
    }
}

/// Whether a manager on this host of the registry is one still, once the file has been applied.
fn stays(host: Option<&&HostEntry>, ty: &ManagerType, prune: bool) -> bool {
    let package = host.and_then(|h| h.packages.iter().find(|p| p.ty == *ty));
    package.map_or(!prune, PackageEntry::is_manager)
}
