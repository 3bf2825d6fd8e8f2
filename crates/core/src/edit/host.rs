//! Changes of hosts.

use super::Draft;
use crate::access::{Denial, Subject};
use crate::endpoint::Address;
use crate::id::{DomainId, HostId};
use crate::name::{HostName, ManagerType};
use crate::refusal::Refusal;
use crate::row::{Host, Row, RowKey};
use std::sync::Arc;
use std::time::Duration;

/// How long a denial is kept: `renew_grace` (30 days) and two lifetimes of a host's certificate (24 h
/// each), after which no certificate of the denied enrolment can be renewed any more.
const DENIAL_TTL: Duration = Duration::from_secs((30 + 2) * 24 * 3600);

impl Draft {
    pub(super) fn host(&self, name: &HostName) -> Result<Arc<Host>, Refusal> {
        self.next.host_named(name).cloned().ok_or_else(|| Refusal::UnknownHost { host: name.clone() })
    }

    fn check_name_free(&self, name: &HostName) -> Result<(), Refusal> {
        match self.next.host_named(name) {
            Some(h) => Err(Refusal::HostExists { host: name.clone(), domain: self.next.path(h.domain) }),
            None => Ok(()),
        }
    }

    pub(super) fn add_host(
        &mut self,
        id: HostId,
        name: &HostName,
        domain: DomainId,
        address: Option<Address>,
    ) -> Result<(), Refusal> {
        self.check_name_free(name)?;
        if self.next.host(id).is_some() || self.next.denial(&Subject::Host(id)).is_some() {
            return Err(Refusal::HostIdUsed { id });
        }
        Ok(self.set(Row::Host(Host { id, name: name.clone(), domain, address }))?)
    }

    pub(super) fn rename_host(&mut self, host: &HostName, name: &HostName) -> Result<(), Refusal> {
        if host != name {
            self.check_name_free(name)?;
        }
        self.change_host(host, |h| h.name = name.clone())
    }

    pub(super) fn change_host(
        &mut self,
        host: &HostName,
        change: impl FnOnce(&mut Host),
    ) -> Result<(), Refusal> {
        let mut row = Host::clone(&*self.host(host)?);
        change(&mut row);
        Ok(self.set(Row::Host(row))?)
    }

    pub(super) fn remove_host(&mut self, host: &HostName, with_packages: bool) -> Result<(), Refusal> {
        let row = self.host(host)?;
        let types: Vec<_> = self.next.packages_on(row.id).map(|p| p.ty.clone()).collect();
        if types.iter().any(ManagerType::is_registry) {
            return Err(Refusal::RegistryPackage { host: host.clone() });
        }
        if !types.is_empty() && !with_packages {
            return Err(Refusal::HostHasPackages { host: host.clone(), types });
        }
        for ty in &types {
            self.remove_package(host, ty, None)?;
        }
        let subject = Subject::Host(row.id);
        if let Some(identity) = self.next.identity(&subject).cloned() {
            self.deny(subject.clone(), identity.enrolment)?;
            self.unset(RowKey::Identity(subject))?;
        }
        Ok(self.unset(RowKey::Host(row.id))?)
    }

    pub(super) fn deny(&mut self, subject: Subject, up_to: u32) -> Result<(), Refusal> {
        let until = self.now + DENIAL_TTL;
        Ok(self.set(Row::Denial(Denial { subject, up_to, until }))?)
    }
}
