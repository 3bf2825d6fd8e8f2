//! The registry in memory: rows, and the indexes that edits and routing need.
//!
//! A registry is a value. Cloning it costs nothing to speak of (its maps are persistent), so that an edit
//! works on a copy, readers keep the state they began with, and what fails leaves no trace.

use crate::access::{Access, Denial, Identity, Subject, Token};
use crate::grant::GrantId;
use crate::hierarchy::{Hierarchy, TreeError};
use crate::id::{DomainId, HostId, RequestId, TokenId};
use crate::issuer::{Issuer, IssuerId};
use crate::limits::REQUEST_TTL;
use crate::name::{DomainPath, HostName, ManagerType};
use crate::package::{Package, Role};
use crate::policy::{Policy, TypeSelector};
use crate::position::Position;
use crate::row::{Commit, Domain, Host, Meta, Row, RowChange, RowKey};
use crate::serving::Serving;
use crate::time::UnixMillis;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A committed edit, as far as a repetition of it is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// What was asked; see [`Commit::content`].
    pub content: [u8; 32],
    /// Where it was committed.
    pub position: Position,
}

/// The whole state of a registry at one position.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) position: Position,
    pub(crate) meta: Arc<Meta>,
    pub(crate) hierarchy: Arc<Hierarchy>,
    hosts: RedBlackTreeMapSync<HostId, Arc<Host>>,
    host_names: RedBlackTreeMapSync<HostName, HostId>,
    hosts_in: RedBlackTreeSetSync<(DomainId, HostId)>,
    packages: RedBlackTreeMapSync<(HostId, ManagerType), Arc<Package>>,
    packages_of: RedBlackTreeSetSync<(ManagerType, HostId)>,
    managers_in: RedBlackTreeSetSync<(DomainId, HostId, ManagerType)>,
    primaries: RedBlackTreeMapSync<ManagerType, HostId>,
    serving: Serving,
    /// The hosts whose draining ends by itself, by when.
    drains: RedBlackTreeSetSync<(UnixMillis, HostId)>,
    policies: RedBlackTreeMapSync<(DomainId, TypeSelector), Arc<Policy>>,
    identities: RedBlackTreeMapSync<Subject, Arc<Identity>>,
    denials: RedBlackTreeMapSync<Subject, Arc<Denial>>,
    tokens: RedBlackTreeMapSync<TokenId, Arc<Token>>,
    issuers: RedBlackTreeMapSync<IssuerId, Arc<Issuer>>,
    pub(crate) requests: RedBlackTreeMapSync<RequestId, Answered>,
}

/// Rows that are no registry. The store they came from is damaged, or not a registry's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RowsError {
    /// There is no [`Meta`] row.
    #[error("the rows say nothing about which framework they belong to")]
    NoMeta,
    /// The domains are no tree.
    #[error("the domains are no tree: {0}")]
    Tree(TreeError),
    /// A row refers to one that is not there.
    #[error("{0:?} refers to a row that is not there")]
    Dangling(RowKey),
    /// Two hosts have one name.
    #[error("two hosts are called {0}")]
    NameTaken(HostName),
}

impl Registry {
    /// A registry at `position` with nothing but the root domain and what `meta` says.
    pub fn new(position: Position, meta: Meta) -> Self {
        Self {
            position,
            meta: Arc::new(meta),
            hierarchy: Arc::default(),
            hosts: Default::default(),
            host_names: Default::default(),
            hosts_in: Default::default(),
            packages: Default::default(),
            packages_of: Default::default(),
            managers_in: Default::default(),
            primaries: Default::default(),
            serving: Serving::default(),
            drains: Default::default(),
            policies: Default::default(),
            identities: Default::default(),
            denials: Default::default(),
            tokens: Default::default(),
            issuers: Default::default(),
            requests: Default::default(),
        }
    }

    /// The registry of these rows, in whatever order they come.
    ///
    /// # Errors
    /// They contradict each other; see [`RowsError`].
    pub fn from_rows(position: Position, rows: impl IntoIterator<Item = Row>) -> Result<Self, RowsError> {
        let (mut meta, mut domains, mut hosts, mut others) = (None, Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::Meta(m) => meta = Some(m),
                Row::Domain(d) => domains.push(d),
                Row::Host(host) => hosts.push(host),
                other => others.push(other),
            }
        }
        let mut registry = Self::new(position, meta.ok_or(RowsError::NoMeta)?);
        registry.hierarchy = Arc::new(Hierarchy::from_domains(domains).map_err(RowsError::Tree)?);
        registry.load_hosts(hosts)?;
        for row in others {
            registry.check_references(&row)?;
            registry.set(row).map_err(RowsError::Tree)?;
        }
        Ok(registry)
    }

    /// Takes in the hosts of a registry that has none yet. In ascending order, which spares a framework of
    /// 100,000 hosts most of the time that its maps would take else.
    fn load_hosts(&mut self, mut hosts: Vec<Host>) -> Result<(), RowsError> {
        hosts.sort_by_key(|host| host.id);
        // Of two rows with one key the later one counts.
        hosts.dedup_by(|later, earlier| {
            let same = later.id == earlier.id;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        if let Some(lost) = hosts.iter().find(|host| self.hierarchy.get(host.domain).is_none()) {
            return Err(RowsError::Dangling(RowKey::Host(lost.id)));
        }
        let mut names: Vec<_> = hosts.iter().map(|host| (host.name.clone(), host.id)).collect();
        names.sort_unstable();
        if let Some([taken, _]) = names.array_windows().find(|[a, b]| a.0 == b.0) {
            return Err(RowsError::NameTaken(taken.0.clone()));
        }
        let mut places: Vec<_> = hosts.iter().map(|host| (host.domain, host.id)).collect();
        places.sort_unstable();
        hosts.iter().filter_map(drained_until).for_each(|drain| self.drains.insert_mut(drain));
        names.into_iter().for_each(|(name, id)| self.host_names.insert_mut(name, id));
        places.into_iter().for_each(|place| self.hosts_in.insert_mut(place));
        hosts.into_iter().for_each(|host| self.hosts.insert_mut(host.id, Arc::new(host)));
        Ok(())
    }

    fn check_references(&self, row: &Row) -> Result<(), RowsError> {
        let there = match row {
            Row::Package(p) => self.hosts.contains_key(&p.host),
            Row::Policy(p) => self.hierarchy.get(p.domain).is_some(),
            _ => true,
        };
        if there { Ok(()) } else { Err(RowsError::Dangling(row.key())) }
    }

    /// Where this state stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The same state, whose next change set is made under this grant.
    pub fn under(&self, grant: GrantId) -> Self {
        Self { position: grant.at(self.position.revision), ..self.clone() }
    }

    /// What the registry as a whole is.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The tree of domains.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The path of a domain that is in the registry, `/` for one that is not.
    pub fn path(&self, domain: DomainId) -> DomainPath {
        self.hierarchy.path(domain).unwrap_or_else(DomainPath::root)
    }

    /// All hosts, by id.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values()
    }

    /// All hosts, by name.
    pub fn hosts_by_name(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.host_names.values().filter_map(|id| self.hosts.get(id))
    }

    /// How many hosts there are.
    pub fn host_count(&self) -> usize {
        self.hosts.size()
    }

    /// The host with this id.
    pub fn host(&self, id: HostId) -> Option<&Arc<Host>> {
        self.hosts.get(&id)
    }

    /// The host with this name.
    pub fn host_named(&self, name: &HostName) -> Option<&Arc<Host>> {
        self.hosts.get(self.host_names.get(name)?)
    }

    /// The hosts in a domain, not in its subdomains, by id.
    pub fn hosts_in(&self, domain: DomainId) -> impl Iterator<Item = &Arc<Host>> {
        let least = (domain, HostId(uuid::Uuid::nil()));
        self.hosts_in
            .range(least..)
            .take_while(move |(d, _)| *d == domain)
            .filter_map(|(_, host)| self.hosts.get(host))
    }

    /// All packages, by host id and type.
    pub fn packages(&self) -> impl Iterator<Item = &Arc<Package>> {
        self.packages.values()
    }

    /// How many packages there are.
    pub fn package_count(&self) -> usize {
        self.packages.size()
    }

    /// How many managers there are.
    pub fn manager_count(&self) -> usize {
        self.managers_in.size()
    }

    /// The package of this type on a host.
    pub fn package(&self, host: HostId, ty: &ManagerType) -> Option<&Arc<Package>> {
        self.packages.get(&(host, ty.clone()))
    }

    /// The packages on a host, by type.
    pub fn packages_on(&self, host: HostId) -> impl Iterator<Item = &Arc<Package>> {
        let least: ManagerType = "0".parse().expect("a digit is the least name there is");
        self.packages.range((host, least)..).take_while(move |((h, _), _)| *h == host).map(|(_, p)| p)
    }

    /// The packages of a type, by host id.
    pub fn packages_of<'a>(&'a self, ty: &'a ManagerType) -> impl Iterator<Item = &'a Arc<Package>> {
        let least = (ty.clone(), HostId(uuid::Uuid::nil()));
        self.packages_of
            .range(least..)
            .take_while(move |(t, _)| t == ty)
            .filter_map(move |(_, host)| self.package(*host, ty))
    }

    /// The primary manager of a type.
    pub fn primary_of(&self, ty: &ManagerType) -> Option<&Arc<Package>> {
        self.package(*self.primaries.get(ty)?, ty)
    }

    /// How many managers serve, and did lately.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Whether there is a manager of any type but `registry`, whether it serves or not.
    pub fn has_managers(&self) -> bool {
        let of_registry = self.packages_of(&ManagerType::registry()).filter(|p| p.is_manager()).count();
        self.manager_count() > of_registry
    }

    /// When the next draining ends by itself.
    pub fn next_drain_end(&self) -> Option<UnixMillis> {
        self.drains.first().map(|(until, _)| *until)
    }

    /// The hosts whose draining is over at `now`, in the order in which it ended.
    pub fn drains_over(&self, now: UnixMillis) -> impl Iterator<Item = &Arc<Host>> {
        let over = self.drains.iter().take_while(move |(until, _)| *until <= now);
        over.filter_map(|(_, host)| self.hosts.get(host))
    }

    /// Whether a manager or a policy is right in this domain, not in its subdomains.
    pub fn is_used(&self, domain: DomainId) -> bool {
        let least_type: ManagerType = "0".parse().expect("a digit is the least name there is");
        let least = (domain, HostId(uuid::Uuid::nil()), least_type);
        self.managers_in.range(least..).next().is_some_and(|(d, _, _)| *d == domain)
            || self.policies_of(domain).next().is_some()
    }

    /// All policies, by domain id and type.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// The policies of a domain.
    pub fn policies_of(&self, domain: DomainId) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies
            .range((domain, TypeSelector::All)..)
            .take_while(move |((d, _), _)| *d == domain)
            .map(|(_, policy)| policy)
    }

    /// The policy of a domain for a type.
    pub fn policy(&self, domain: DomainId, ty: &TypeSelector) -> Option<&Arc<Policy>> {
        self.policies.get(&(domain, ty.clone()))
    }

    /// What is known of an identity.
    pub fn identity(&self, subject: &Subject) -> Option<&Arc<Identity>> {
        self.identities.get(subject)
    }

    /// The types that a host's agent may announce.
    pub fn allowed_types(&self, host: HostId) -> BTreeSet<ManagerType> {
        let identity = self.identity(&Subject::Host(host)).filter(|i| i.access == Access::Agent);
        identity.map(|i| i.allow_types.clone()).unwrap_or_default()
    }

    /// All denials.
    pub fn denials(&self) -> impl Iterator<Item = &Arc<Denial>> {
        self.denials.values()
    }

    /// The denial of a subject.
    pub fn denial(&self, subject: &Subject) -> Option<&Arc<Denial>> {
        self.denials.get(subject)
    }

    /// The denial of a subject, where it covers the enrolment that is in force.
    pub fn denial_in_force(&self, subject: &Subject) -> Option<&Arc<Denial>> {
        let enrolment = self.identity(subject).map_or(0, |i| i.enrolment);
        self.denial(subject).filter(|d| d.up_to >= enrolment)
    }

    /// All join tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    /// How many join tokens there are.
    pub fn token_count(&self) -> usize {
        self.tokens.size()
    }

    /// The join token with this id.
    pub fn token(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    /// All issuers, by name.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.values()
    }

    /// The issuer with this name.
    pub fn issuer(&self, id: &IssuerId) -> Option<&Arc<Issuer>> {
        self.issuers.get(id)
    }

    /// The issuers of the manager on a host, those it had before among them.
    pub fn issuers_of(&self, host: HostId) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers().filter(move |issuer| issuer.host == host)
    }

    /// What became of an edit, where it was committed within the last seven days.
    pub fn answered(&self, request: RequestId) -> Option<Answered> {
        self.requests.get(&request).copied()
    }

    /// One row.
    pub fn row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Meta => Some(Row::Meta(self.meta().clone())),
            RowKey::Domain(id) => self.hierarchy.get(*id).cloned().map(Row::Domain),
            RowKey::Host(id) => self.hosts.get(id).map(|h| Row::Host(Host::clone(h))),
            RowKey::Package(host, ty) => self.package(*host, ty).map(|p| Row::Package(Package::clone(p))),
            RowKey::Policy(domain, ty) => self.policy(*domain, ty).map(|p| Row::Policy(Policy::clone(p))),
            RowKey::Identity(s) => self.identity(s).map(|i| Row::Identity(Identity::clone(i))),
            RowKey::Denial(s) => self.denial(s).map(|d| Row::Denial(Denial::clone(d))),
            RowKey::Token(id) => self.token(*id).map(|t| Row::Token(Token::clone(t))),
            RowKey::Issuer(id) => self.issuer(id).map(|i| Row::Issuer(Issuer::clone(i))),
        }
    }

    /// The rows that a viewer may read, in the order of their keys: no identities, denials, tokens.
    pub fn public_rows(&self) -> impl Iterator<Item = Row> {
        std::iter::once(Row::Meta(self.meta().clone()))
            .chain(self.hierarchy.iter().cloned().map(Row::Domain))
            .chain(self.hosts.values().map(|h| Row::Host(Host::clone(h))))
            .chain(self.packages.values().map(|p| Row::Package(Package::clone(p))))
            .chain(self.policies.values().map(|p| Row::Policy(Policy::clone(p))))
    }

    /// All rows, in the order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.public_rows()
            .chain(self.identities.values().map(|i| Row::Identity(Identity::clone(i))))
            .chain(self.denials.values().map(|d| Row::Denial(Denial::clone(d))))
            .chain(self.tokens.values().map(|t| Row::Token(Token::clone(t))))
            .chain(self.issuers.values().map(|i| Row::Issuer(Issuer::clone(i))))
    }

    /// Sets one row and keeps the indexes. The caller has checked what the row refers to.
    ///
    /// # Errors
    /// A domain can't be where the row puts it; the registry is then as it was.
    pub(crate) fn set(&mut self, row: Row) -> Result<(), TreeError> {
        match row {
            Row::Meta(meta) => self.meta = Arc::new(meta),
            Row::Domain(domain) => Arc::make_mut(&mut self.hierarchy).put(domain)?,
            Row::Host(host) => self.set_host(host),
            Row::Package(package) => self.set_package(package),
            Row::Policy(p) => self.policies.insert_mut((p.domain, p.ty.clone()), Arc::new(p)),
            Row::Identity(i) => self.identities.insert_mut(i.subject.clone(), Arc::new(i)),
            Row::Denial(d) => self.denials.insert_mut(d.subject.clone(), Arc::new(d)),
            Row::Token(t) => self.tokens.insert_mut(t.id, Arc::new(t)),
            Row::Issuer(i) => self.issuers.insert_mut(i.id, Arc::new(i)),
        }
        Ok(())
    }

    fn set_host(&mut self, host: Host) {
        let packages: Vec<_> = self.packages_on(host.id).cloned().collect();
        if let Some(old) = self.hosts.get(&host.id).cloned() {
            self.unlist_host(&old, &packages);
        }
        packages.iter().for_each(|p| self.list_manager(&host, p));
        drained_until(&host).into_iter().for_each(|drain| self.drains.insert_mut(drain));
        self.host_names.insert_mut(host.name.clone(), host.id);
        self.hosts_in.insert_mut((host.domain, host.id));
        self.hosts.insert_mut(host.id, Arc::new(host));
    }

    /// Takes a host out of the indexes. Its name stays where another host has taken it over already: the rows
    /// of one commit come in the order of their ids.
    fn unlist_host(&mut self, host: &Host, packages: &[Arc<Package>]) {
        if self.host_names.get(&host.name) == Some(&host.id) {
            self.host_names.remove_mut(&host.name);
        }
        self.hosts_in.remove_mut(&(host.domain, host.id));
        if let Some(drain) = drained_until(host) {
            self.drains.remove_mut(&drain);
        }
        packages.iter().for_each(|p| self.unlist_manager(host, p));
    }

    fn list_manager(&mut self, host: &Host, package: &Package) {
        if package.is_manager() {
            self.managers_in.insert_mut((host.domain, host.id, package.ty.clone()));
        }
        if host.serves(package) && !package.ty.is_registry() {
            self.serving.add(&package.ty);
        }
    }

    fn unlist_manager(&mut self, host: &Host, package: &Package) {
        if package.is_manager() {
            self.managers_in.remove_mut(&(host.domain, host.id, package.ty.clone()));
        }
        if host.serves(package) && !package.ty.is_registry() {
            self.serving.take(&package.ty);
        }
    }

    fn set_package(&mut self, package: Package) {
        self.unset_package(package.host, &package.ty);
        if let Some(host) = self.hosts.get(&package.host).cloned() {
            self.list_manager(&host, &package);
        }
        if package.role == Some(Role::Primary) {
            self.primaries.insert_mut(package.ty.clone(), package.host);
        }
        self.packages_of.insert_mut((package.ty.clone(), package.host));
        self.packages.insert_mut((package.host, package.ty.clone()), Arc::new(package));
    }

    fn unset_package(&mut self, host: HostId, ty: &ManagerType) {
        // A host that is gone has taken its managers along.
        if let (Some(h), Some(old)) = (self.hosts.get(&host).cloned(), self.package(host, ty).cloned()) {
            self.unlist_manager(&h, &old);
        }
        if self.primaries.get(ty) == Some(&host) {
            self.primaries.remove_mut(ty);
        }
        self.packages_of.remove_mut(&(ty.clone(), host));
        self.packages.remove_mut(&(host, ty.clone()));
    }

    /// Removes one row and keeps the indexes. The caller has checked that nothing refers to it, or removes
    /// that too before anybody sees this state.
    ///
    /// # Errors
    /// A domain has subdomains; the registry is then as it was.
    pub(crate) fn unset(&mut self, key: &RowKey) -> Result<(), TreeError> {
        match key {
            RowKey::Meta => {}
            RowKey::Domain(id) => Arc::make_mut(&mut self.hierarchy).remove(*id)?,
            RowKey::Host(id) => {
                if let Some(old) = self.hosts.get(id).cloned() {
                    let packages: Vec<_> = self.packages_on(*id).cloned().collect();
                    self.unlist_host(&old, &packages);
                    self.hosts.remove_mut(id);
                }
            }
            RowKey::Package(host, ty) => self.unset_package(*host, ty),
            RowKey::Policy(domain, ty) => {
                self.policies.remove_mut(&(*domain, ty.clone()));
            }
            RowKey::Identity(subject) => {
                self.identities.remove_mut(subject);
            }
            RowKey::Denial(subject) => {
                self.denials.remove_mut(subject);
            }
            RowKey::Token(id) => {
                self.tokens.remove_mut(id);
            }
            RowKey::Issuer(id) => {
                self.issuers.remove_mut(id);
            }
        }
        Ok(())
    }

    /// Remembers that an edit was committed, as when a journal is read back.
    pub fn remember(&mut self, request: RequestId, answered: Answered) {
        self.requests.insert_mut(request, answered);
    }

    /// Remembers that so many managers served before a commit of the last ten minutes, as when a journal is
    /// read back.
    pub fn recall(&mut self, at: UnixMillis, served: u64) {
        self.serving.note(at, served);
    }

    /// Remembers a commit that this state contains, and forgets those too old to be repeated.
    pub(crate) fn note(&mut self, commit: &Commit) {
        self.remember(commit.request, Answered { content: commit.content, position: commit.position });
        self.recall(commit.at, commit.served);
        let forgotten = Some(commit.at - REQUEST_TTL);
        let old: Vec<_> = self.requests.keys().take_while(|id| id.made_at() < forgotten).copied().collect();
        old.iter().for_each(|id| {
            self.requests.remove_mut(id);
        });
    }

    /// This registry after a commit that some manager has made on top of it.
    ///
    /// # Errors
    /// The commit does not follow on this state.
    pub fn apply(&self, commit: &Commit) -> Result<Self, TreeError> {
        let mut next = self.clone();
        let is_domain = |c: &&RowChange| matches!(c.key, RowKey::Domain(_));
        let (domains, others): (Vec<_>, Vec<_>) = commit.rows.iter().partition(is_domain);
        if !domains.is_empty() {
            let changes = domains.into_iter().filter_map(RowChange::domain);
            next.hierarchy = Arc::new(self.hierarchy.with(changes)?);
        }
        for change in others {
            match &change.after {
                Some(row) => next.set(row.clone())?,
                None => next.unset(&change.key)?,
            }
        }
        next.position = commit.position;
        next.note(commit);
        Ok(next)
    }

    /// The domain with this id, which the caller knows to be there.
    pub(crate) fn domain(&self, id: DomainId) -> Option<&Domain> {
        self.hierarchy.get(id)
    }
}

/// The entry of a host among those whose draining ends by itself.
fn drained_until(host: &Host) -> Option<(UnixMillis, HostId)> {
    Some((host.drained.as_ref()?.until?, host.id))
}
