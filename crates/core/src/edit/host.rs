//! Changes of hosts.

use super::Draft;
use crate::access::{Denial, Subject, Token};
use crate::endpoint::Address;
use crate::id::{DomainId, HostId};
use crate::limits::{MAX_DRAIN, MAX_DRAINS_ENDED, MIN_DRAIN, RENEW_GRACE};
use crate::name::{HostName, ManagerType, Text};
use crate::package::NumberError;
use crate::refusal::Refusal;
use crate::row::{Drain, Host, Row, RowKey};
use std::sync::Arc;
use std::time::Duration;

/// How long a denial is kept: [`RENEW_GRACE`] and two lifetimes of a host's certificate (24 h
/// each), after which no certificate of the denied enrolment can be renewed any more.
const DENIAL_TTL: Duration = RENEW_GRACE.saturating_add(Duration::from_secs(2 * 24 * 3600));

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
        let name = name.clone();
        Ok(self.set(Row::Host(Host { id, name, domain, address, drained: None }))?)
    }

    pub(super) fn rename_host(&mut self, host: &HostName, name: &HostName) -> Result<(), Refusal> {
        if host != name {
            self.check_name_free(name)?;
        }
        self.change_host(host, |h| h.name = name.clone())?;
        // Join tokens are bound to the host, not to what it was called when they were made.
        let bound: Vec<_> = self.next.tokens().filter(|t| t.host.as_ref() == Some(host)).cloned().collect();
        bound.into_iter().try_for_each(|token| {
            let token = Token { host: Some(name.clone()), ..Token::clone(&token) };
            self.set(Row::Token(token)).map_err(Refusal::from)
        })
    }

    pub(super) fn drain_host(
        &mut self,
        host: &HostName,
        lasting: Option<Duration>,
        reason: Option<&Text>,
    ) -> Result<(), Refusal> {
        if let Some(lasting) = lasting {
            NumberError::check(
                "drain in seconds",
                lasting.as_secs(),
                MIN_DRAIN.as_secs(),
                MAX_DRAIN.as_secs(),
            )?;
        }
        let until = lasting.map(|lasting| self.now + lasting);
        self.change_host(host, |h| {
            let known = h.drained.take().and_then(|drain| drain.reason);
            h.drained = Some(Drain { until, reason: reason.cloned().or(known) });
        })
    }

    /// Resumes the hosts whose time is over. What they are is looked at here, where nobody can lengthen a drain
    /// meanwhile.
    pub(super) fn end_drains(&mut self) -> Result<(), Refusal> {
        let over: Vec<_> = self.next.drains_over(self.now).take(MAX_DRAINS_ENDED).cloned().collect();
        over.into_iter().try_for_each(|host| {
            self.set(Row::Host(Host { drained: None, ..Host::clone(&host) })).map_err(Refusal::from)
        })
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
