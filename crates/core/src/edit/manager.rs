//! How registry managers come and go, and which of them count for commits.

use super::Draft;
use super::enrol::Wish;
use crate::access::{Access, Identity, Subject, Token};
use crate::change::NewIssuer;
use crate::endpoint::Endpoint;
use crate::grant::SyncRule;
use crate::id::{HostId, TokenId};
use crate::issuer::Issuer;
use crate::limits::{MAX_PACKAGES_PER_HOST, MAX_REGISTRY_MANAGERS, RENEW_GRACE};
use crate::name::{HostName, ManagerType};
use crate::package::{Listens, NumberError, Package, Role};
use crate::refusal::{EnrolRefusal, Refusal};
use crate::row::{Meta, Row, RowKey};
use std::sync::Arc;

impl Draft {
    /// The package of the registry manager on a host.
    fn registry_package(&self, host: HostId) -> Option<Arc<Package>> {
        self.next.package(host, &ManagerType::registry()).cloned()
    }

    fn name_of(&self, host: HostId) -> Result<HostName, Refusal> {
        self.next.host(host).map(|h| h.name.clone()).ok_or(Refusal::NotEnrolled { id: host })
    }

    /// The package of a registry manager that is there.
    fn manager_on(&self, host: HostId) -> Result<Arc<Package>, Refusal> {
        let name = self.name_of(host)?;
        self.registry_package(host).ok_or(Refusal::NoRegistryManager { host: name })
    }

    fn set_sync(&mut self, sync: SyncRule) -> Result<(), Refusal> {
        Ok(self.set(Row::Meta(Meta { sync, ..self.next.meta().clone() }))?)
    }

    fn set_issuer(&mut self, host: HostId, issuer: &NewIssuer) -> Result<(), Refusal> {
        let NewIssuer { id, not_after } = *issuer;
        if self.next.issuer(&id).is_some_and(|known| known.host != host || !known.is_in_force()) {
            return Err(Refusal::IssuerUsed);
        }
        Ok(self.set(Row::Issuer(Issuer { id, host, not_after, renew_only: None, dropped: false }))?)
    }

    /// Records the identity and the issuer that a manager has.
    pub(super) fn record_manager(
        &mut self,
        host: HostId,
        enrolment: u32,
        key_hash: &[u8; 32],
        issuer: &NewIssuer,
    ) -> Result<(), Refusal> {
        self.manager_on(host)?;
        let subject = Subject::Manager(host);
        let enrolled = self.next.identity(&subject).map_or(self.now, |i| i.enrolled);
        self.set(Row::Identity(Identity {
            subject,
            enrolment,
            access: Access::Manager,
            allow_types: Default::default(),
            key_hash: *key_hash,
            enrolled,
        }))?;
        self.set_issuer(host, issuer)
    }

    /// Takes in a manager that shows a join token. It does not count for commits yet.
    pub(super) fn join_manager(
        &mut self,
        token: TokenId,
        wish: &Wish<'_>,
        endpoint: &Endpoint,
        issuer: &NewIssuer,
    ) -> Result<(), Refusal> {
        let token = self.usable_token(token, wish, Access::Manager)?;
        let host = match self.next.host_named(wish.host).cloned() {
            Some(host) => {
                self.check_known_place(&token, &host, wish)?;
                self.make_room(&token, host.id)?;
                host.id
            }
            None => self.enrol_new_host(&token, wish)?,
        };
        if self.next.packages_of(&ManagerType::registry()).count() >= MAX_REGISTRY_MANAGERS {
            return Err(Refusal::TooManyRegistryManagers);
        }
        if self.next.packages_on(host).count() >= MAX_PACKAGES_PER_HOST {
            return Err(Refusal::TooManyPackages { host: wish.host.clone() });
        }
        self.check_free(endpoint)?;
        let mut package = Package::bare(host, ManagerType::registry());
        package.listens = Listens::At(endpoint.clone());
        package.role = Some(Role::Backup);
        self.set(Row::Package(package))?;
        self.enrol_subject(Subject::Manager(host), &token, wish.key_hash)?;
        self.set_issuer(host, issuer)
    }

    /// Checks that no other manager is said to be there: whoever asks for one of the two would reach the other.
    fn check_free(&self, endpoint: &Endpoint) -> Result<(), Refusal> {
        let registry = ManagerType::registry();
        let at = |package: &Package| {
            self.next.host(package.host).and_then(|host| package.endpoint(&host.reached_at()))
        };
        let there = |package: &&Arc<Package>| at(package).as_ref() == Some(endpoint);
        match self.next.packages_of(&registry).find(there) {
            None => Ok(()),
            Some(package) => {
                Err(Refusal::EndpointTaken { host: self.name_of(package.host)?, endpoint: endpoint.clone() })
            }
        }
    }

    /// Checks whether a host where a manager is, or was, may get another one, which is then the only one.
    fn make_room(&mut self, token: &Token, host: HostId) -> Result<(), Refusal> {
        let subject = Subject::Manager(host);
        let was = self.next.identity(&subject).is_some() || self.next.denial(&subject).is_some();
        let there = self.registry_package(host);
        if (was || there.is_some()) && !token.replace {
            return Err(EnrolRefusal::AlreadyEnrolled.into());
        }
        let Some(package) = there else { return Ok(()) };
        if package.role == Some(Role::Primary) || self.next.meta().sync.members.contains(&host) {
            return Err(Refusal::ManagerCounts { host: self.name_of(host)? });
        }
        self.retire(host, false)
    }

    /// Has a manager count for commits from now on.
    pub(super) fn admit(&mut self, host: HostId) -> Result<(), Refusal> {
        if self.manager_on(host)?.role == Some(Role::Primary) {
            return Err(self.is_primary(host)?);
        }
        self.set_sync(self.next.meta().sync.with(host))
    }

    pub(super) fn remove_manager(
        &mut self,
        name: &HostName,
        accept_loss: bool,
        compromised: bool,
    ) -> Result<(), Refusal> {
        let host = self.host(name)?.id;
        match self.registry_package(host) {
            Some(package) if package.role == Some(Role::Primary) => return Err(self.is_primary(host)?),
            Some(_) => {}
            // That it was compromised may come out only after it has left.
            None if compromised && self.next.issuers_of(host).any(|i| !i.dropped) => {}
            None => return Err(Refusal::NoRegistryManager { host: name.clone() }),
        }
        self.retire(host, compromised)?;
        let sync = self.next.meta().sync.clone();
        if sync.members.contains(&host) {
            self.alone |= accept_loss;
            self.set_sync(sync.without(host))?;
        }
        Ok(())
    }

    /// Takes a manager out of the registry, all but its place among those that count.
    fn retire(&mut self, host: HostId, compromised: bool) -> Result<(), Refusal> {
        let subject = Subject::Manager(host);
        if let Some(identity) = self.next.identity(&subject).cloned() {
            self.deny(subject.clone(), identity.enrolment)?;
            self.unset(RowKey::Identity(subject))?;
        }
        let issuers: Vec<_> = self.next.issuers_of(host).cloned().collect();
        for issuer in issuers {
            let renew_only = issuer.renew_only.or(Some(self.now + RENEW_GRACE)).filter(|_| !compromised);
            let dropped = issuer.dropped || compromised;
            self.set(Row::Issuer(Issuer { renew_only, dropped, ..Issuer::clone(&issuer) }))?;
        }
        Ok(self.unset(RowKey::Package(host, ManagerType::registry()))?)
    }

    fn is_primary(&self, host: HostId) -> Result<Refusal, Refusal> {
        let registry = ManagerType::registry();
        let backup = self.next.packages_of(&registry).find(|p| p.host != host);
        let standby = backup.and_then(|p| self.next.host(p.host)).map(|h| h.name.clone());
        Ok(Refusal::ManagerIsPrimary { host: self.name_of(host)?, standby })
    }

    pub(super) fn set_min_sync(&mut self, min_sync: u32, accept_loss: bool) -> Result<(), Refusal> {
        NumberError::check("min_sync", min_sync.into(), 0, MAX_REGISTRY_MANAGERS as u64)?;
        let sync = self.next.meta().sync.clone();
        if sync.min_sync == min_sync {
            return Ok(());
        }
        if min_sync == 0 && !accept_loss {
            return Err(Refusal::LossNotAccepted);
        }
        self.alone |= min_sync == 0;
        self.set_sync(SyncRule { min_sync, ..sync })
    }

    /// What the first commit under a grant says: who is primary, and who counts.
    pub(super) fn take_over(
        &mut self,
        holder: HostId,
        sync: &SyncRule,
        gives_up: bool,
    ) -> Result<(), Refusal> {
        self.manager_on(holder)?;
        let managers: Vec<_> = self.next.packages_of(&ManagerType::registry()).cloned().collect();
        for package in managers {
            let role = if package.host == holder { Role::Primary } else { Role::Backup };
            self.set(Row::Package(Package { role: Some(role), ..Package::clone(&package) }))?;
        }
        if gives_up {
            self.renumber_primaries()?;
        }
        self.alone |= self.next.meta().sync != *sync;
        self.set_sync(sync.clone())
    }
}
