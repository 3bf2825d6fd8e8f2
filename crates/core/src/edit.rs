//! Carrying out change sets: all of one or nothing.

use crate::access::{Access, Denial, Identity, Subject, Token};
use crate::change::{Change, ChangeSet, PackageSpec};
use crate::endpoint::Address;
use crate::hierarchy::TreeError;
use crate::id::{DomainId, HostId, RequestId, TokenId};
use crate::limits::{
    MAX_CHANGES, MAX_PACKAGES_PER_HOST, MAX_TOKEN_TTL, MAX_TOKEN_USES, MAX_TOKENS, REQUEST_CLOCK_SKEW,
    REQUEST_TTL,
};
use crate::name::{DomainName, DomainPath, HostName, ManagerType};
use crate::package::{NumberError, Package, Role, Withdrawal, check_priority, check_weight};
use crate::policy::{Policy, PolicySettings, TypeSelector};
use crate::refusal::{EnrolRefusal, Refusal};
use crate::registry::Registry;
use crate::row::{Actor, Commit, Domain, Host, Row, RowChange, RowKey};
use crate::time::UnixMillis;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a denial is kept: `renew_grace` (30 days) and two lifetimes of a host's certificate (24 h
/// each), after which no certificate of the denied enrolment can be renewed any more.
const DENIAL_TTL: Duration = Duration::from_secs((30 + 2) * 24 * 3600);

/// Most forgotten tokens and denials that one edit clears away, so that no edit pays for a backlog.
const MAX_CLEARED: usize = 64;

/// Under which circumstances an edit is carried out.
#[derive(Clone, Debug)]
pub struct Context {
    /// The time, by the clock of the manager.
    pub now: UnixMillis,
    /// Who asks.
    pub actor: Actor,
    /// The digest of what is asked: of the changes alone, without request id and `if_revision`.
    pub content: [u8; 32],
}

/// What has become of an edit.
#[derive(Clone, Debug)]
pub enum Edited {
    /// It makes this commit, after which the registry is this. The rows may be none: the edit asked for
    /// what was so already, and is recorded all the same.
    Done(Box<Registry>, Commit),
    /// It was committed before, at this revision, and has no effect now.
    Repeated(u64),
}

impl Registry {
    /// Works out what `set` does to this registry, which stays as it is.
    ///
    /// A repeated request id is looked up first, before `if_revision` and validation.
    ///
    /// # Errors
    /// See [`Refusal`]: nothing of the set is carried out.
    pub fn edit(&self, set: &ChangeSet, context: &Context) -> Result<Edited, Refusal> {
        if let Some(answered) = self.answered(set.request) {
            return match answered.content == context.content {
                true => Ok(Edited::Repeated(answered.position.revision)),
                false => {
                    Err(Refusal::RequestReused { id: set.request, revision: answered.position.revision })
                }
            };
        }
        check_request(set.request, context.now)?;
        if let Some(expected) = set.if_revision.filter(|&r| r != self.position.revision) {
            return Err(Refusal::RevisionMoved { expected, actual: self.position.revision });
        }
        match set.changes.len() {
            0 => return Err(Refusal::Empty),
            1..=MAX_CHANGES => {}
            changes => return Err(Refusal::TooManyChanges { changes }),
        }
        let mut draft = Draft { next: self.clone(), before: BTreeMap::new(), now: context.now };
        set.changes.iter().try_for_each(|change| draft.carry_out(change))?;
        draft.clear_away()?;
        Ok(draft.finish(set.request, context))
    }

    /// This registry after a commit that some manager has made on top of it.
    ///
    /// # Errors
    /// The commit does not follow on this state.
    pub fn apply(&self, commit: &Commit) -> Result<Self, TreeError> {
        let mut next = self.clone();
        for change in &commit.rows {
            match &change.after {
                Some(row) => next.set(row.clone())?,
                None => next.unset(&change.key)?,
            }
        }
        next.position = commit.position;
        next.note(commit);
        Ok(next)
    }
}

fn check_request(id: RequestId, now: UnixMillis) -> Result<(), Refusal> {
    let made = id.made_at().ok_or(Refusal::RequestNotTimed { id })?;
    if made < now - REQUEST_TTL {
        return Err(Refusal::RequestTooOld { id });
    }
    if made > now + REQUEST_CLOCK_SKEW {
        return Err(Refusal::RequestFromFuture { id });
    }
    Ok(())
}

/// A registry being changed, and what its changed rows were before.
struct Draft {
    next: Registry,
    before: BTreeMap<RowKey, Option<Row>>,
    now: UnixMillis,
}

impl Draft {
    fn set(&mut self, row: Row) -> Result<(), TreeError> {
        let key = row.key();
        let old = self.next.row(&key);
        self.next.set(row)?;
        self.before.entry(key).or_insert(old);
        Ok(())
    }

    fn unset(&mut self, key: RowKey) -> Result<(), TreeError> {
        let old = self.next.row(&key);
        self.next.unset(&key)?;
        self.before.entry(key).or_insert(old);
        Ok(())
    }

    fn finish(self, request: RequestId, context: &Context) -> Edited {
        let mut next = self.next;
        let rows = self.before.into_iter().map(|(key, before)| {
            let after = next.row(&key);
            RowChange { key, before, after }
        });
        let rows = rows.filter(|change| change.before != change.after).collect();
        next.position = next.position.next();
        let (at, actor, content) = (context.now, context.actor.clone(), context.content);
        let commit = Commit { position: next.position, at, actor, request, content, rows };
        next.note(&commit);
        let forgotten = context.now - REQUEST_TTL;
        let old: Vec<_> =
            next.requests.keys().take_while(|id| id.made_at() < Some(forgotten)).copied().collect();
        old.iter().for_each(|id| {
            next.requests.remove_mut(id);
        });
        Edited::Done(Box::new(next), commit)
    }

    fn clear_away(&mut self) -> Result<(), Refusal> {
        let tokens = self.next.tokens().filter(|t| t.expires < self.now || t.uses_left == 0);
        let denials = self.next.denials().filter(|d| d.until < self.now);
        let keys =
            tokens.map(|t| RowKey::Token(t.id)).chain(denials.map(|d| RowKey::Denial(d.subject.clone())));
        let keys: Vec<_> = keys.take(MAX_CLEARED).collect();
        keys.into_iter().try_for_each(|key| self.unset(key)).map_err(Refusal::from)
    }

    fn carry_out(&mut self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::AddDomain { path } => self.add_domain(path),
            Change::RenameDomain { path, name } => self.rename_domain(path, name),
            Change::MoveDomain { path, parent } => self.move_domain(path, parent),
            Change::RemoveDomain { path, recursive } => self.remove_domain(path, *recursive),
            Change::AddHost { id, name, domain, address } => {
                let domain = self.domain(domain)?;
                self.add_host(*id, name, domain, address.clone())
            }
            Change::MoveHost { host, domain } => {
                let domain = self.domain(domain)?;
                self.change_host(host, |h| h.domain = domain)
            }
            Change::RenameHost { host, name } => self.rename_host(host, name),
            Change::SetAddress { host, address } => self.change_host(host, |h| h.address = address.clone()),
            Change::RemoveHost { host, with_packages } => self.remove_host(host, *with_packages),
            Change::AddPackage { host, ty, spec } => self.add_package(host, ty, spec),
            Change::SetPackage { host, ty, spec } => self.set_package(host, ty, spec),
            Change::WithdrawPackage { host, ty, reason } => self.change_package(host, ty, |p| {
                if p.withdrawn.is_none() || reason.is_some() {
                    p.withdrawn = Some(Withdrawal { reason: reason.clone() });
                }
            }),
            Change::RestorePackage { host, ty } => self.change_package(host, ty, |p| p.withdrawn = None),
            Change::RemovePackage { host, ty, successor } => {
                self.remove_package(host, ty, successor.as_ref())
            }
            Change::SetPolicy { domain, ty, settings } => self.set_policy(domain, ty, settings),
            Change::ReplacePolicy { domain, ty, settings } => self.replace_policy(domain, ty, settings),
            Change::CreateToken { token, domain } => self.create_token(token, domain),
            Change::RevokeToken { id } => self.revoke_token(*id),
            Change::Enrol { token, host, id, domain, address, key_hash } => {
                let wish = Wish { host, id: *id, domain: domain.as_ref(), address, key_hash };
                self.enrol(*token, &wish)
            }
        }
    }

    // --- domains ---

    fn domain(&self, path: &DomainPath) -> Result<DomainId, Refusal> {
        self.next.hierarchy().find(path).ok_or_else(|| Refusal::UnknownDomain { path: path.clone() })
    }

    fn place_domain(&mut self, path: &DomainPath, domain: Domain) -> Result<(), Refusal> {
        self.set(Row::Domain(domain)).map_err(|cause| Refusal::Tree { path: path.clone(), cause })
    }

    fn add_domain(&mut self, path: &DomainPath) -> Result<(), Refusal> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(Refusal::DomainExists { path: path.clone() });
        };
        if self.next.hierarchy().find(path).is_some() {
            return Err(Refusal::DomainExists { path: path.clone() });
        }
        let place = Some((self.domain(&parent)?, name.clone()));
        let mut meta = self.next.meta().clone();
        let id = meta.next_domain;
        meta.next_domain = DomainId(id.0 + 1);
        self.set(Row::Meta(meta))?;
        self.place_domain(path, Domain { id, place })
    }

    fn rename_domain(&mut self, path: &DomainPath, name: &DomainName) -> Result<(), Refusal> {
        let id = self.domain(path)?;
        let place = self.next.hierarchy().parent(id).map(|parent| (parent, name.clone()));
        if place.is_none() {
            return Err(Refusal::Tree { path: path.clone(), cause: TreeError::Root });
        }
        self.place_domain(path, Domain { id, place })
    }

    fn move_domain(&mut self, path: &DomainPath, parent: &DomainPath) -> Result<(), Refusal> {
        let (id, to) = (self.domain(path)?, self.domain(parent)?);
        let Some(name) = path.name() else {
            return Err(Refusal::Tree { path: path.clone(), cause: TreeError::Root });
        };
        self.place_domain(path, Domain { id, place: Some((to, name.clone())) })
    }

    fn remove_domain(&mut self, path: &DomainPath, recursive: bool) -> Result<(), Refusal> {
        let id = self.domain(path)?;
        let below = self.next.hierarchy().subtree(id);
        if below.len() > 1 && !recursive {
            return Err(Refusal::DomainHasSubdomains { path: path.clone(), subdomains: below.len() - 1 });
        }
        let hosts: Vec<_> = below.iter().flat_map(|d| self.next.hosts_in(*d)).collect();
        if let Some(first) = hosts.first() {
            let (example, hosts) = (first.name.clone(), hosts.len());
            return Err(Refusal::DomainNotEmpty { path: path.clone(), hosts, example });
        }
        // Subdomains come after their parents in `below`.
        for domain in below.into_iter().rev() {
            let policies: Vec<_> = self.next.policies_of(domain).map(|p| p.ty.clone()).collect();
            for ty in policies {
                self.unset(RowKey::Policy(domain, ty))?;
            }
            let removed = self.unset(RowKey::Domain(domain));
            removed.map_err(|cause| Refusal::Tree { path: path.clone(), cause })?;
        }
        Ok(())
    }

    // --- hosts ---

    fn host(&self, name: &HostName) -> Result<Arc<Host>, Refusal> {
        self.next.host_named(name).cloned().ok_or_else(|| Refusal::UnknownHost { host: name.clone() })
    }

    fn check_name_free(&self, name: &HostName) -> Result<(), Refusal> {
        match self.next.host_named(name) {
            Some(h) => Err(Refusal::HostExists { host: name.clone(), domain: self.next.path(h.domain) }),
            None => Ok(()),
        }
    }

    fn add_host(
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

    fn rename_host(&mut self, host: &HostName, name: &HostName) -> Result<(), Refusal> {
        if host != name {
            self.check_name_free(name)?;
        }
        self.change_host(host, |h| h.name = name.clone())
    }

    fn change_host(&mut self, host: &HostName, change: impl FnOnce(&mut Host)) -> Result<(), Refusal> {
        let mut row = Host::clone(&*self.host(host)?);
        change(&mut row);
        Ok(self.set(Row::Host(row))?)
    }

    fn remove_host(&mut self, host: &HostName, with_packages: bool) -> Result<(), Refusal> {
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

    fn deny(&mut self, subject: Subject, up_to: u32) -> Result<(), Refusal> {
        let until = self.now + DENIAL_TTL;
        Ok(self.set(Row::Denial(Denial { subject, up_to, until }))?)
    }

    // --- packages ---

    fn package(&self, host: &HostName, ty: &ManagerType) -> Result<Arc<Package>, Refusal> {
        let id = self.host(host)?.id;
        let package = self.next.package(id, ty).cloned();
        package.ok_or_else(|| Refusal::UnknownPackage { host: host.clone(), ty: ty.clone() })
    }

    fn add_package(&mut self, host: &HostName, ty: &ManagerType, spec: &PackageSpec) -> Result<(), Refusal> {
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
        self.write_package(row.id, ty, spec, None, None)
    }

    fn set_package(&mut self, host: &HostName, ty: &ManagerType, spec: &PackageSpec) -> Result<(), Refusal> {
        let old = self.package(host, ty)?;
        if ty.is_registry() {
            return Err(Refusal::RegistryPackage { host: host.clone() });
        }
        if old.role == Some(Role::Primary) && spec.listens == crate::package::Listens::Nowhere {
            self.check_no_backups(host, ty)?;
        }
        self.write_package(old.host, ty, spec, old.role, old.withdrawn.clone())
    }

    fn write_package(
        &mut self,
        host: HostId,
        ty: &ManagerType,
        spec: &PackageSpec,
        role: Option<Role>,
        withdrawn: Option<Withdrawal>,
    ) -> Result<(), Refusal> {
        spec.check.validate()?;
        let mut package = Package {
            host,
            ty: ty.clone(),
            listens: spec.listens.clone(),
            priority: check_priority(spec.priority)?,
            weight: check_weight(spec.weight)?,
            withdrawn,
            role: None,
            version: spec.version.clone(),
            check: spec.check.clone(),
        };
        if package.is_manager() {
            let first = || if self.next.primary_of(ty).is_none() { Role::Primary } else { Role::Backup };
            package.role = Some(role.unwrap_or_else(first));
        }
        Ok(self.set(Row::Package(package))?)
    }

    fn change_package(
        &mut self,
        host: &HostName,
        ty: &ManagerType,
        change: impl FnOnce(&mut Package),
    ) -> Result<(), Refusal> {
        let mut row = Package::clone(&*self.package(host, ty)?);
        change(&mut row);
        Ok(self.set(Row::Package(row))?)
    }

    fn check_no_backups(&self, host: &HostName, ty: &ManagerType) -> Result<(), Refusal> {
        let backup = self.next.packages_of(ty).find(|p| p.role == Some(Role::Backup));
        match backup.and_then(|p| self.next.host(p.host)) {
            Some(b) => {
                Err(Refusal::PrimaryHasBackups { host: host.clone(), ty: ty.clone(), backup: b.name.clone() })
            }
            None => Ok(()),
        }
    }

    fn remove_package(
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
            (Some(Role::Primary), Some(next)) => {
                let backup = self.package(next, ty)?;
                if backup.role != Some(Role::Backup) {
                    return Err(Refusal::NoBackup { host: next.clone(), ty: ty.clone() });
                }
                self.change_package(next, ty, |p| p.role = Some(Role::Primary))
            }
            (Some(Role::Primary), None) => self.check_no_backups(host, ty),
            (_, Some(_)) => Err(Refusal::NotPrimary { host: host.clone(), ty: ty.clone() }),
            (_, None) => Ok(()),
        }
    }

    // --- policies ---

    fn set_policy(
        &mut self,
        path: &DomainPath,
        ty: &TypeSelector,
        settings: &PolicySettings,
    ) -> Result<(), Refusal> {
        let domain = self.domain(path)?;
        let old = self.next.policy(domain, ty).map(|p| p.settings.clone()).unwrap_or_default();
        self.replace_policy(path, ty, &settings.over(&old))
    }

    fn replace_policy(
        &mut self,
        path: &DomainPath,
        ty: &TypeSelector,
        settings: &PolicySettings,
    ) -> Result<(), Refusal> {
        let domain = self.domain(path)?;
        settings.validate()?;
        match settings.is_empty() {
            true => Ok(self.unset(RowKey::Policy(domain, ty.clone()))?),
            false => {
                Ok(self.set(Row::Policy(Policy { domain, ty: ty.clone(), settings: settings.clone() }))?)
            }
        }
    }

    // --- tokens and enrolment ---

    fn create_token(&mut self, token: &Token, path: &DomainPath) -> Result<(), Refusal> {
        let domain = self.domain(path)?;
        if self.next.token(token.id).is_some() {
            return Err(Refusal::TokenExists { id: token.id });
        }
        if self.next.token_count() >= MAX_TOKENS {
            return Err(Refusal::TooManyTokens);
        }
        if token.replace && token.host.is_none() {
            return Err(Refusal::ReplaceNeedsHost);
        }
        if token.allow_types.iter().any(ManagerType::is_registry) {
            return Err(Refusal::RegistryType);
        }
        NumberError::check("uses", token.uses_left.into(), 1, MAX_TOKEN_USES.into())?;
        let ttl = token.expires.0.saturating_sub(self.now.0) / 1000;
        NumberError::check("ttl in seconds", ttl, 1, MAX_TOKEN_TTL.as_secs())?;
        Ok(self.set(Row::Token(Token { domain, ..token.clone() }))?)
    }

    fn revoke_token(&mut self, id: TokenId) -> Result<(), Refusal> {
        if self.next.token(id).is_none() {
            return Err(Refusal::UnknownToken { id });
        }
        Ok(self.unset(RowKey::Token(id))?)
    }

    fn enrol(&mut self, token: TokenId, wish: &Wish<'_>) -> Result<(), Refusal> {
        let token = self.next.token(token).cloned().ok_or(EnrolRefusal::UnknownToken)?;
        self.check_token(&token, wish)?;
        let host = match self.next.host_named(wish.host).cloned() {
            Some(host) => self.check_known_host(&token, &host, wish).map(|()| host.id)?,
            None => self.enrol_new_host(&token, wish)?,
        };
        let subject = Subject::Host(host);
        let before = self.next.identity(&subject).map_or(0, |i| i.enrolment);
        let denied = self.next.denial(&subject).map_or(0, |d| d.up_to);
        if before > 0 {
            self.deny(subject.clone(), before)?;
        }
        self.set(Row::Identity(Identity {
            subject,
            enrolment: before.max(denied) + 1,
            access: token.access,
            allow_types: token.allow_types.clone(),
            key_hash: *wish.key_hash,
            enrolled: self.now,
        }))?;
        Ok(self.set(Row::Token(Token { uses_left: token.uses_left - 1, ..Token::clone(&token) }))?)
    }

    fn check_token(&self, token: &Token, wish: &Wish<'_>) -> Result<(), Refusal> {
        let refusal = if token.expires <= self.now {
            EnrolRefusal::Expired
        } else if token.uses_left == 0 {
            EnrolRefusal::UsedUp
        } else if token.access != Access::Agent {
            EnrolRefusal::WrongAccess
        } else if token.host.as_ref().is_some_and(|h| h != wish.host) {
            EnrolRefusal::WrongHost
        } else {
            return Ok(());
        };
        Err(refusal.into())
    }

    fn check_known_host(&self, token: &Token, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
        if !self.next.hierarchy().is_within(host.domain, token.domain) {
            return Err(EnrolRefusal::WrongDomain.into());
        }
        if self.next.identity(&Subject::Host(host.id)).is_some() && !token.replace {
            return Err(EnrolRefusal::AlreadyEnrolled.into());
        }
        match wish.domain {
            Some(asked) if self.next.hierarchy().find(asked) != Some(host.domain) => {
                Err(Refusal::HostElsewhere { host: host.name.clone(), domain: self.next.path(host.domain) })
            }
            _ => Ok(()),
        }
    }

    fn enrol_new_host(&mut self, token: &Token, wish: &Wish<'_>) -> Result<HostId, Refusal> {
        let domain = wish.domain.map_or(Ok(token.domain), |path| self.domain(path))?;
        if !self.next.hierarchy().is_within(domain, token.domain) {
            return Err(EnrolRefusal::WrongDomain.into());
        }
        self.add_host(wish.id, wish.host, domain, wish.address.clone())?;
        Ok(wish.id)
    }
}

/// What a host that enrols wishes for.
struct Wish<'a> {
    host: &'a HostName,
    id: HostId,
    domain: Option<&'a DomainPath>,
    address: &'a Option<Address>,
    key_hash: &'a [u8; 32],
}
