//! Who is primary of a type, while an edit is carried out.

use super::Draft;
use crate::name::{HostName, ManagerType};
use crate::package::{Package, Role};
use crate::refusal::Refusal;
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
