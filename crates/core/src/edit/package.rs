//! Changes of packages.

use super::Draft;
use crate::announce::HostWord;
use crate::change::PackageSpec;
use crate::id::HostId;
use crate::limits::MAX_PACKAGES_PER_HOST;
use crate::name::{HostName, ManagerType, Text};
use crate::package::{Listens, Package, Role, Withdrawal, check_priority, check_weight};
use crate::refusal::Refusal;
use crate::row::{Row, RowKey};
use std::sync::Arc;

impl Draft {
    pub(super) fn package(&self, host: &HostName, ty: &ManagerType) -> Result<Arc<Package>, Refusal> {
        let id = self.host(host)?.id;
        let package = self.next.package(id, ty).cloned();
        package.ok_or_else(|| Refusal::UnknownPackage { host: host.clone(), ty: ty.clone() })
    }

    pub(super) fn add_package(
        &mut self,
        host: &HostName,
        ty: &ManagerType,
        spec: &PackageSpec,
    ) -> Result<(), Refusal> {
        let row = self.host(host)?;
        if ty.is_registry() {
            return Err(Refusal::RegistryPackage { host: host.clone() });
        }
        if self.next.package(row.id, ty).is_some() {
            return Err(Refusal::PackageExists { host: host.clone(), ty: ty.clone() });
        }
        if self.next.packages_on(row.id).count() >= MAX_PACKAGES_PER_HOST {
            return Err(Refusal::TooManyPackages { host: host.clone() });
        }
        self.write_package(Package::bare(row.id, ty.clone()), spec)
    }

    pub(super) fn set_package(
        &mut self,
        host: &HostName,
        ty: &ManagerType,
        spec: &PackageSpec,
    ) -> Result<(), Refusal> {
        let old = self.package(host, ty)?;
        if ty.is_registry() {
            return Err(Refusal::RegistryPackage { host: host.clone() });
        }
        if old.role == Some(Role::Primary) && spec.listens == Listens::Nowhere {
            self.orphan(host, ty);
        }
        self.write_package(Package::clone(&old), spec)
    }

    /// Records what the operator says of a package, and keeps the rest.
    fn write_package(&mut self, old: Package, spec: &PackageSpec) -> Result<(), Refusal> {
        let mut package = Package {
            listens: spec.listens.clone(),
            priority: check_priority(spec.priority)?,
            weight: check_weight(spec.weight)?,
            version: spec.version.clone(),
            check: spec.check.clone(),
            ..old
        };
        package.check.validate()?;
        package.settle_role(self.is_led(&package.ty));
        Ok(self.set(Row::Package(package))?)
    }

    /// Takes in what a host says of a package of its own, unless it has said something newer since.
    pub(super) fn announce(
        &mut self,
        host: HostId,
        ty: &ManagerType,
        word: &HostWord,
    ) -> Result<(), Refusal> {
        let Some(row) = self.next.host(host).cloned() else { return Err(Refusal::NotEnrolled { id: host }) };
        if !self.next.allowed_types(host).contains(ty) {
            return Err(Refusal::TypeNotAllowed { host: row.name.clone(), ty: ty.clone() });
        }
        let old = self.next.package(host, ty).map(|p| Package::clone(p));
        match &old {
            None if *word == HostWord::Withdraws => {
                return Err(Refusal::UnknownPackage { host: row.name.clone(), ty: ty.clone() });
            }
            None if self.next.packages_on(host).count() >= MAX_PACKAGES_PER_HOST => {
                return Err(Refusal::TooManyPackages { host: row.name.clone() });
            }
            Some(old) if old.host_side.is_some_and(|side| side.number >= self.request) => {
                return Err(Refusal::Superseded { host: row.name.clone(), ty: ty.clone() });
            }
            _ => {}
        }
        let mut package = old.unwrap_or_else(|| Package::bare(host, ty.clone()));
        word.apply(&mut package, self.request);
        package.check.validate()?;
        package.settle_role(self.is_led(ty));
        Ok(self.set(Row::Package(package))?)
    }

    pub(super) fn withdraw_package(
        &mut self,
        host: &HostName,
        ty: &ManagerType,
        reason: Option<&Text>,
    ) -> Result<(), Refusal> {
        self.change_package(host, ty, |p| {
            if p.withdrawn.is_none() || reason.is_some() {
                p.withdrawn = Some(Withdrawal { reason: reason.cloned() });
            }
        })
    }

    pub(super) fn restore_package(&mut self, host: &HostName, ty: &ManagerType) -> Result<(), Refusal> {
        self.change_package(host, ty, |p| p.withdrawn = None)
    }

    pub(super) fn change_package(
        &mut self,
        host: &HostName,
        ty: &ManagerType,
        change: impl FnOnce(&mut Package),
    ) -> Result<(), Refusal> {
        let mut row = Package::clone(&*self.package(host, ty)?);
        change(&mut row);
        Ok(self.set(Row::Package(row))?)
    }

    pub(super) fn remove_package(
        &mut self,
        host: &HostName,
        ty: &ManagerType,
        successor: Option<&HostName>,
    ) -> Result<(), Refusal> {
        let old = self.package(host, ty)?;
        if ty.is_registry() {
            return Err(Refusal::RegistryPackage { host: host.clone() });
        }
        self.unset(RowKey::Package(old.host, ty.clone()))?;
        match (old.role, successor) {
            (Some(Role::Primary), Some(next)) => self.succeed(next, ty),
            (Some(Role::Primary), None) => {
                self.orphan(host, ty);
                Ok(())
            }
            (_, Some(_)) => Err(Refusal::NotPrimary { host: host.clone(), ty: ty.clone() }),
            (_, None) => Ok(()),
        }
    }
}
