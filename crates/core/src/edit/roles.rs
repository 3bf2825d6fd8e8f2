//! Who is primary of a type, while an edit is carried out.

use super::Draft;
use crate::fencing::Fencing;
use crate::name::{HostName, ManagerType};
use crate::package::{NumberError, Package, Role};
use crate::refusal::Refusal;
use crate::row::{Row, RowKey};
use std::sync::Arc;

impl Draft {
    /// Whether a new manager of a type is a backup: the first one is primary. One that comes where a primary has
    /// gone and backups are left does not take their turn.
    pub(super) fn is_led(&self, ty: &ManagerType) -> bool {
        self.next.primary_of(ty).is_some() || self.a_backup(ty).is_some()
    }

    fn a_backup(&self, ty: &ManagerType) -> Option<Arc<Package>> {
        self.next.packages_of(ty).find(|p| p.role == Some(Role::Backup)).cloned()
    }

    /// Makes a backup the primary.
    pub(super) fn succeed(&mut self, host: &HostName, ty: &ManagerType) -> Result<(), Refusal> {
        if self.package(host, ty)?.role != Some(Role::Backup) {
            return Err(Refusal::NoBackup { host: host.clone(), ty: ty.clone() });
        }
        self.change_package(host, ty, |p| p.role = Some(Role::Primary))
    }

    /// Makes a manager the primary in place of the present one.
    pub(super) fn promote(&mut self, host: &HostName, ty: &ManagerType) -> Result<(), Refusal> {
        if ty.is_registry() {
            return Err(Refusal::RegistryRole { host: host.clone() });
        }
        let package = self.package(host, ty)?;
        if package.role == Some(Role::Primary) {
            // One of a journal from before there were numbers gets its number.
            return self.change_package(host, ty, |_| {});
        }
        if let Some(old) = self.next.primary_of(ty).cloned() {
            self.set(Row::Package(Package { role: Some(Role::Backup), ..Package::clone(&old) }))?;
        }
        self.succeed(host, ty)
    }

    /// Promotes a host's managers of the types of which `from` has the primary.
    pub(super) fn promote_from(&mut self, host: &HostName, from: &HostName) -> Result<(), Refusal> {
        let (to, old) = (self.host(host)?.id, self.host(from)?.id);
        let is_backup = |p: &Package| p.role == Some(Role::Backup);
        let led = self.next.packages_on(old).filter(|p| p.role == Some(Role::Primary) && !p.ty.is_registry());
        let types: Vec<_> = led
            .map(|primary| primary.ty.clone())
            .filter(|ty| self.next.package(to, ty).is_some_and(|p| is_backup(p)))
            .collect();
        if types.is_empty() {
            return Err(Refusal::NothingToPromote { host: host.clone(), from: from.clone() });
        }
        types.iter().try_for_each(|ty| self.promote(host, ty))
    }

    /// Gives the number of this edit to those who become primary by it, and takes it from those who no longer are.
    /// The whole edit counts: who is primary before and after it keeps its number.
    pub(super) fn number_primaries(&mut self, number: Result<Fencing, NumberError>) -> Result<(), Refusal> {
        let touched = self.before.keys().filter_map(|key| match key {
            RowKey::Package(host, ty) => self.next.package(*host, ty).cloned(),
            _ => None,
        });
        let touched: Vec<_> = touched.collect();
        for package in touched {
            let fencing = match (package.role, package.fencing) {
                (Some(Role::Primary), None) => Some(number.clone()?),
                (Some(Role::Primary), known) => known,
                _ => None,
            };
            if fencing != package.fencing {
                self.set(Row::Package(Package { fencing, ..Package::clone(&package) }))?;
            }
        }
        Ok(())
    }

    /// Has every primary get the number of this edit, also one that was primary before: where revisions were given up,
    /// a resource may have seen a larger number than is known here, and would refuse whoever is primary now.
    pub(super) fn renumber_primaries(&mut self) -> Result<(), Refusal> {
        let numbered: Vec<_> = self.next.packages().filter(|p| p.fencing.is_some()).cloned().collect();
        for package in numbered {
            self.set(Row::Package(Package { fencing: None, ..Package::clone(&package) }))?;
        }
        Ok(())
    }

    /// Notes that the primary of a type, on this host, went without a successor.
    pub(super) fn orphan(&mut self, host: &HostName, ty: &ManagerType) {
        self.orphaned.insert(ty.clone(), host.clone());
    }

    /// Refuses an edit after which a type has backups and no primary. The whole edit counts, not the order of its
    /// changes: the backups may be removed by it too.
    pub(super) fn check_roles(&self) -> Result<(), Refusal> {
        self.orphaned.iter().filter(|(ty, _)| self.next.primary_of(ty).is_none()).try_for_each(
            |(ty, host)| match self.a_backup(ty).and_then(|p| self.next.host(p.host)) {
                None => Ok(()),
                Some(backup) => Err(Refusal::PrimaryHasBackups {
                    host: host.clone(),
                    ty: ty.clone(),
                    backup: backup.name.clone(),
                }),
            },
        )
    }
}
