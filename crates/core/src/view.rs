//! What an agent's replica holds: the routing view, the same for all, and its own host's place.

use crate::access::{Denial, Subject};
use crate::check::{Check, CheckKind};
use crate::digest::{Digest, RowHasher};
use crate::endpoint::{Address, Endpoint};
use crate::hierarchy::{Hierarchy, TreeError};
use crate::id::{DomainId, HostId};
use crate::issuer::{Issuer, IssuerId};
use crate::name::{DomainPath, HostName, ManagerType};
use crate::package::{Listens, Package, Role, Withdrawal};
use crate::policy::{Effective, Policy, PolicySettings, Probe, TypeSelector};
use crate::row::Domain;
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A manager as every agent sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manager {
    /// Its host's id.
    pub host: HostId,
    /// Its type.
    pub ty: ManagerType,
    /// Its host's name.
    pub name: HostName,
    /// Its host's domain.
    pub domain: DomainId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Lower is preferred inside a tier.
    pub priority: u32,
    /// Its share inside a tier and priority.
    pub weight: u32,
    /// Its role.
    pub role: Role,
    /// The operator wants it to serve nothing.
    pub withdrawn: bool,
    /// Its host wants it to serve nothing.
    pub withdrawn_by_host: bool,
    /// The operator wants nothing on its host to serve: why.
    pub drained: Option<Withdrawal>,
}

impl Manager {
    /// The manager that a package is, on a host of this name, domain and address that is drained or not; none for
    /// inventory.
    pub fn of(
        package: &Package,
        name: &HostName,
        domain: DomainId,
        address: &Address,
        drained: Option<&Withdrawal>,
    ) -> Option<Self> {
        Some(Self {
            host: package.host,
            ty: package.ty.clone(),
            name: name.clone(),
            domain,
            endpoint: package.endpoint(address)?,
            priority: package.priority,
            weight: package.weight,
            role: package.role.unwrap_or(Role::Backup),
            withdrawn: package.withdrawn.is_some(),
            withdrawn_by_host: package.is_withdrawn_by_host(),
            drained: drained.filter(|_| !package.ty.is_registry()).cloned(),
        })
    }

    /// Whether either side, operator or host, wants it to serve nothing.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn || self.withdrawn_by_host || self.drained.is_some()
    }
}

/// Names one row of the view.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ViewKey {
    /// The trust bundle.
    Trust,
    /// A domain that holds a manager or a policy, or is an ancestor of one.
    Domain(DomainId),
    /// A manager. The type comes first, so that the managers of one type lie together.
    Manager(ManagerType, HostId),
    /// A policy.
    Policy(DomainId, TypeSelector),
    /// A denial of a registry manager, or of a host in the view.
    Denial(Subject),
    /// What a registry manager signs with.
    Issuer(IssuerId),
}

/// One row of the view.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ViewRow {
    /// Root certificates (DER).
    Trust(Vec<Vec<u8>>),
    /// A domain.
    Domain(Domain),
    /// A manager.
    Manager(Manager),
    /// A policy.
    Policy(Policy),
    /// A denial.
    Denial(Denial),
    /// What a registry manager signs with.
    Issuer(Issuer),
}

/// One row set, or removed where there is no row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ViewChange {
    /// Which.
    pub key: ViewKey,
    /// What it is now.
    pub row: Option<ViewRow>,
}

impl ViewRow {
    /// The row's name.
    pub fn key(&self) -> ViewKey {
        match self {
            Self::Trust(_) => ViewKey::Trust,
            Self::Domain(d) => ViewKey::Domain(d.id),
            Self::Manager(m) => ViewKey::Manager(m.ty.clone(), m.host),
            Self::Policy(p) => ViewKey::Policy(p.domain, p.ty.clone()),
            Self::Denial(d) => ViewKey::Denial(d.subject.clone()),
            Self::Issuer(i) => ViewKey::Issuer(i.id),
        }
    }
}

/// A host's own rows, which only its agent gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Its id.
    pub host: HostId,
    /// Its name.
    pub name: HostName,
    /// Its domain's path.
    pub path: DomainPath,
    /// Its domain and that domain's ancestors, the root first. The view may lack the lower ones.
    pub domains: Vec<DomainId>,
    /// Its packages, by type.
    pub packages: Vec<Package>,
    /// Where its packages listen that have a port but no endpoint.
    pub address: Address,
    /// Its own denial.
    pub denial: Option<Denial>,
    /// The types that it may announce.
    pub allow_types: BTreeSet<ManagerType>,
    /// The operator wants nothing on it to serve, its `registry` package apart: why.
    pub drained: Option<Withdrawal>,
}

impl Place {
    /// Its domain.
    pub fn domain(&self) -> DomainId {
        self.domains.last().copied().unwrap_or(DomainId::ROOT)
    }

    /// Its package of this type.
    pub fn package(&self, ty: &ManagerType) -> Option<&Package> {
        self.packages.iter().find(|p| p.ty == *ty)
    }

    /// The hash of everything a place says.
    pub fn digest(&self) -> Digest {
        let mut h = RowHasher::default();
        h.bytes(self.host.0.as_bytes()).text(self.name.as_str()).text(&self.path.to_string());
        h.number(self.domains.len() as u64);
        self.domains.iter().for_each(|d| {
            h.number(d.0);
        });
        h.number(self.packages.len() as u64).text(&self.address.to_string());
        self.packages.iter().for_each(|p| hash_package(&mut h, p));
        optional(&mut h, self.denial.as_ref().map(|d| d.up_to.into()));
        h.number(self.denial.as_ref().map_or(0, |d| d.until.0));
        h.number(self.allow_types.len() as u64);
        self.allow_types.iter().for_each(|ty| {
            h.text(ty.as_str());
        });
        hash_withdrawal(&mut h, self.drained.as_ref());
        Digest::of(h.finish())
    }
}

/// The routing view at one position. Cloning it costs nothing to speak of.
#[derive(Clone, Debug, Default)]
pub struct View {
    trust: Arc<Vec<Vec<u8>>>,
    hierarchy: Arc<Hierarchy>,
    /// By type; none of a type has no entry.
    managers: RedBlackTreeMapSync<ManagerType, Managers>,
    policies: Arc<RedBlackTreeMapSync<(DomainId, TypeSelector), Arc<PolicySettings>>>,
    denials: Arc<RedBlackTreeMapSync<Subject, Arc<Denial>>>,
    issuers: RedBlackTreeMapSync<IssuerId, Arc<Issuer>>,
    digest: Digest,
}

/// The managers of one type, by host id: a list, since all who route go through the whole of it at each change.
pub(crate) type Managers = Arc<Vec<Arc<Manager>>>;

impl View {
    /// The view of these rows.
    ///
    /// # Errors
    /// Their domains are no tree.
    pub fn from_rows(rows: impl IntoIterator<Item = ViewRow>) -> Result<Self, TreeError> {
        let set = |row: ViewRow| ViewChange { key: row.key(), row: Some(row) };
        Self::default().with(rows.into_iter().map(set))
    }

    /// This view with rows set and removed, which may come in any order; of two changes of one row, the later
    /// one counts.
    ///
    /// # Errors
    /// The domains would be no tree.
    pub fn with(&self, changes: impl IntoIterator<Item = ViewChange>) -> Result<Self, TreeError> {
        let mut last = BTreeMap::new();
        for ViewChange { key, row } in changes {
            let key = row.as_ref().map_or(key, ViewRow::key);
            last.insert(key, row.filter(|row| !row.says_nothing()));
        }
        let mut next = self.clone();
        let mut domains = Vec::new();
        for (key, row) in last {
            if let Some(old) = self.row(&key) {
                next.digest.remove(old.digest());
            }
            if let Some(row) = &row {
                next.digest.add(row.digest());
            }
            match (key, row) {
                (_, Some(ViewRow::Domain(domain))) => domains.push((domain.id, Some(domain))),
                (ViewKey::Domain(id), _) => domains.push((id, None)),
                (key, row) => next.put(key, row),
            }
        }
        if !domains.is_empty() {
            next.hierarchy = Arc::new(self.hierarchy.with(domains)?);
        }
        Ok(next)
    }

    fn put(&mut self, key: ViewKey, row: Option<ViewRow>) {
        match (key, row) {
            (_, Some(ViewRow::Trust(roots))) => self.trust = Arc::new(roots),
            (_, Some(ViewRow::Manager(m))) => self.put_manager(m),
            (_, Some(ViewRow::Policy(p))) => {
                Arc::make_mut(&mut self.policies).insert_mut((p.domain, p.ty), Arc::new(p.settings));
            }
            (_, Some(ViewRow::Denial(d))) => {
                Arc::make_mut(&mut self.denials).insert_mut(d.subject.clone(), Arc::new(d));
            }
            (_, Some(ViewRow::Issuer(i))) => self.issuers.insert_mut(i.id, Arc::new(i)),
            (ViewKey::Trust, _) => self.trust = Arc::default(),
            (ViewKey::Manager(ty, host), _) => self.remove_manager(&ty, host),
            (ViewKey::Policy(domain, ty), _) => {
                Arc::make_mut(&mut self.policies).remove_mut(&(domain, ty));
            }
            (ViewKey::Denial(subject), _) => {
                Arc::make_mut(&mut self.denials).remove_mut(&subject);
            }
            (ViewKey::Issuer(id), _) => {
                self.issuers.remove_mut(&id);
            }
            // Domains are put together as a whole; see `with`.
            (ViewKey::Domain(_), _) => {}
        }
    }

    fn put_manager(&mut self, manager: Manager) {
        let manager = Arc::new(manager);
        let Some(of_type) = self.managers.get_mut(&manager.ty) else {
            return self.managers.insert_mut(manager.ty.clone(), Arc::new(vec![manager]));
        };
        let of_type = Arc::make_mut(of_type);
        match place_of(of_type, manager.host) {
            Ok(at) => of_type[at] = manager,
            Err(at) => of_type.insert(at, manager),
        }
    }

    fn remove_manager(&mut self, ty: &ManagerType, host: HostId) {
        let Some(of_type) = self.managers.get_mut(ty) else { return };
        let Ok(at) = place_of(of_type, host) else { return };
        Arc::make_mut(of_type).remove(at);
        if of_type.is_empty() {
            self.managers.remove_mut(ty);
        }
    }

    /// The digest of all rows.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The domains that hold a manager or a policy, and their ancestors.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Root certificates (DER).
    pub fn trust(&self) -> &[Vec<u8>] {
        &self.trust
    }

    /// The managers of a type, by host id.
    pub fn managers_of(&self, ty: &ManagerType) -> impl Iterator<Item = &Arc<Manager>> + use<'_> {
        self.managers.get(ty).into_iter().flat_map(|of_type| of_type.iter())
    }

    /// The same as a list, which is this view's own.
    pub(crate) fn list_of(&self, ty: &ManagerType) -> Managers {
        self.managers.get(ty).cloned().unwrap_or_default()
    }

    /// The manager of a type on a host.
    pub fn manager(&self, ty: &ManagerType, host: HostId) -> Option<&Arc<Manager>> {
        let of_type = self.managers.get(ty)?;
        of_type.get(place_of(of_type, host).ok()?)
    }

    /// All managers, by type and host id.
    pub fn managers(&self) -> impl Iterator<Item = &Arc<Manager>> {
        self.managers.values().flat_map(|of_type| of_type.iter())
    }

    /// How many managers there are.
    pub fn manager_count(&self) -> usize {
        self.managers.values().map(|of_type| of_type.len()).sum()
    }

    /// The hosts that had managers in `old` and have none in this view.
    pub(crate) fn left_since<'o>(&'o self, old: &'o Self) -> impl Iterator<Item = HostId> + 'o {
        let changed = old.managers.iter().filter(|(ty, _)| !self.shares_managers(old, ty));
        let gone = changed.flat_map(|(ty, of_type)| {
            let mut now = self.managers_of(ty).peekable();
            of_type.iter().filter(move |old| {
                // Nearly all are the same, and need not be looked at.
                if now.next_if(|there| Arc::ptr_eq(there, old)).is_some() {
                    return false;
                }
                while now.next_if(|there| there.host < old.host).is_some() {}
                now.peek().is_none_or(|there| there.host != old.host)
            })
        });
        let hosts = gone.map(|manager| manager.host);
        hosts.filter(|host| !self.managers.values().any(|of_type| place_of(of_type, *host).is_ok()))
    }

    /// Whether this view and `other` surely have the same managers of a type. Views that came about apart may
    /// have the same ones all the same.
    pub(crate) fn shares_managers(&self, other: &Self, ty: &ManagerType) -> bool {
        match (self.managers.get(ty), other.managers.get(ty)) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    /// Whether this view and `other` surely have the same domains, policies and denials.
    pub(crate) fn shares_surroundings(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.hierarchy, &other.hierarchy)
            && Arc::ptr_eq(&self.policies, &other.policies)
            && Arc::ptr_eq(&self.denials, &other.denials)
    }

    /// Whether there is a manager of any type but `registry`.
    pub fn has_managers(&self) -> bool {
        self.managers.keys().any(|ty| !ty.is_registry())
    }

    /// Whether packages of this host are denied.
    pub fn is_denied(&self, host: HostId) -> bool {
        self.denials.contains_key(&Subject::Host(host))
    }

    /// The issuer with this name, where it counts.
    pub fn issuer(&self, id: &IssuerId) -> Option<&Arc<Issuer>> {
        self.issuers.get(id)
    }

    /// Whether to speak with the registry manager on this host, given the enrolment that its certificate names and
    /// who signed that. An issuer that is not in the view is one that came after it: the root has signed it, and
    /// those that left stay in the view until their certificates end.
    pub fn counts_manager(&self, host: HostId, enrolment: u32, issuer: Option<IssuerId>) -> bool {
        let denied = self.denials.get(&Subject::Manager(host)).is_some_and(|d| d.up_to >= enrolment);
        let left = issuer.and_then(|id| self.issuer(&id)).is_some_and(|i| !i.is_in_force());
        !denied && !left
    }

    /// Whether a certificate of this issuer serves for renewals only, so that it is to be renewed now.
    pub fn has_left(&self, issuer: Option<IssuerId>) -> bool {
        issuer.and_then(|id| self.issuer(&id)).is_some_and(|i| i.renew_only.is_some())
    }

    /// The settings in force for a type at a host in the lowest of `domains` (root first).
    pub fn effective(&self, domains: &[DomainId], ty: &ManagerType) -> Effective {
        Effective::inherit(domains.iter().rev().filter_map(|&d| Some((d, self.settings(d, ty)?))))
    }

    /// What a domain sets for a type: the settings for the type over those for `*`. A boundary for `*`
    /// never fences the type `registry`, without which a host could not be told anything; it may lift a
    /// fence, as for any other type.
    fn settings(&self, domain: DomainId, ty: &ManagerType) -> Option<PolicySettings> {
        let one = self.policies.get(&(domain, TypeSelector::One(ty.clone())));
        let all = self.policies.get(&(domain, TypeSelector::All)).map(|all| match ty.is_registry() {
            true => PolicySettings { boundary: all.boundary.filter(|b| !b), ..PolicySettings::clone(all) },
            false => PolicySettings::clone(all),
        });
        match (one, all) {
            (None, all) => all,
            (Some(one), None) => Some(PolicySettings::clone(one)),
            (Some(one), Some(all)) => Some(one.over(&all)),
        }
    }

    /// One row.
    pub fn row(&self, key: &ViewKey) -> Option<ViewRow> {
        match key {
            ViewKey::Trust => (!self.trust.is_empty()).then(|| ViewRow::Trust(self.trust.to_vec())),
            ViewKey::Domain(DomainId::ROOT) => None,
            ViewKey::Domain(id) => self.hierarchy.get(*id).cloned().map(ViewRow::Domain),
            ViewKey::Manager(ty, host) => {
                self.manager(ty, *host).map(|m| ViewRow::Manager(Manager::clone(m)))
            }
            ViewKey::Policy(domain, ty) => self.policies.get(&(*domain, ty.clone())).map(|s| {
                ViewRow::Policy(Policy {
                    domain: *domain,
                    ty: ty.clone(),
                    settings: PolicySettings::clone(s),
                })
            }),
            ViewKey::Denial(subject) => self.denials.get(subject).map(|d| ViewRow::Denial(Denial::clone(d))),
            ViewKey::Issuer(id) => self.issuers.get(id).map(|i| ViewRow::Issuer(Issuer::clone(i))),
        }
    }

    /// All rows. The root domain, which is always there, has none.
    pub fn rows(&self) -> impl Iterator<Item = ViewRow> {
        let keys = (!self.trust.is_empty())
            .then_some(ViewKey::Trust)
            .into_iter()
            .chain(self.hierarchy.iter().map(|d| ViewKey::Domain(d.id)))
            .chain(self.managers().map(|m| ViewKey::Manager(m.ty.clone(), m.host)))
            .chain(self.policies.keys().map(|(domain, ty)| ViewKey::Policy(*domain, ty.clone())))
            .chain(self.denials.keys().cloned().map(ViewKey::Denial))
            .chain(self.issuers.keys().copied().map(ViewKey::Issuer));
        keys.filter_map(|key| self.row(&key))
    }
}

/// Where the manager on this host is, or would be.
fn place_of(managers: &[Arc<Manager>], host: HostId) -> Result<usize, usize> {
    managers.binary_search_by_key(&host, |manager| manager.host)
}

impl ViewRow {
    /// Whether a view is the same without this row: it has the root domain in any case, and knows no
    /// difference between an empty trust bundle and none.
    fn says_nothing(&self) -> bool {
        match self {
            Self::Trust(roots) => roots.is_empty(),
            Self::Domain(domain) => domain.id == DomainId::ROOT && domain.place.is_none(),
            _ => false,
        }
    }

    /// The row's part in the digest of a view.
    pub fn digest(&self) -> Digest {
        let mut h = RowHasher::default();
        match self {
            Self::Trust(roots) => {
                h.number(1);
                roots.iter().for_each(|root| {
                    h.bytes(root);
                });
            }
            Self::Domain(d) => {
                h.number(2).number(d.id.0);
                if let Some((parent, name)) = &d.place {
                    h.number(parent.0).text(name.as_str());
                }
            }
            Self::Manager(m) => {
                h.number(3).bytes(m.host.0.as_bytes()).text(m.ty.as_str()).text(m.name.as_str());
                h.number(m.domain.0).text(&m.endpoint.to_string());
                h.number(m.priority.into()).number(m.weight.into());
                h.number(u64::from(m.role == Role::Primary))
                    .number(u64::from(m.withdrawn) + 2 * u64::from(m.withdrawn_by_host));
                hash_withdrawal(&mut h, m.drained.as_ref());
            }
            Self::Policy(p) => {
                h.number(4).number(p.domain.0).text(&p.ty.to_string());
                hash_settings(&mut h, &p.settings);
            }
            Self::Denial(d) => {
                h.number(5).number(d.up_to.into()).number(d.until.0);
                match &d.subject {
                    Subject::Host(id) => h.number(1).bytes(id.0.as_bytes()),
                    Subject::Console(name) => h.number(2).text(name.as_str()),
                    Subject::Manager(id) => h.number(3).bytes(id.0.as_bytes()),
                };
            }
            Self::Issuer(i) => {
                h.number(6).bytes(&i.id).bytes(i.host.0.as_bytes()).number(i.not_after.0);
                optional(&mut h, i.renew_only.map(|until| until.0));
                h.number(u64::from(i.dropped));
            }
        }
        Digest::of(h.finish())
    }
}

/// A value that may be missing, so that "missing" and 0 differ.
fn optional(h: &mut RowHasher, value: Option<u64>) {
    match value {
        None => h.number(0),
        Some(v) => h.number(1).number(v),
    };
}

fn optional_text(h: &mut RowHasher, text: Option<&(impl AsRef<str> + ?Sized)>) {
    let text = text.map(AsRef::as_ref);
    optional(h, text.map(|t| t.len() as u64));
    h.text(text.unwrap_or_default());
}

fn hash_withdrawal(h: &mut RowHasher, withdrawal: Option<&Withdrawal>) {
    h.number(u64::from(withdrawal.is_some()));
    optional_text(h, withdrawal.and_then(|w| w.reason.as_ref()));
}

fn hash_settings(h: &mut RowHasher, s: &PolicySettings) {
    let micros = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    optional(h, s.walk.map(|w| w as u64));
    optional(h, s.boundary.map(u64::from));
    optional(h, s.failback.map(|f| f as u64));
    for duration in [
        s.failback_hold,
        s.failback_jitter,
        s.connect_hedge,
        s.connect_timeout,
        s.drain_timeout,
        s.evidence_ttl,
    ] {
        optional(h, duration.map(micros));
    }
    match &s.probe {
        None => {
            h.number(0);
        }
        Some(Probe::Off) => {
            h.number(1);
        }
        Some(Probe::By(check)) => {
            h.number(2);
            hash_check(h, check);
        }
    }
}

fn hash_check(h: &mut RowHasher, check: &Check) {
    match &check.kind {
        CheckKind::Connect => {
            h.number(0);
        }
        CheckKind::Exchange { send, expect } => {
            h.number(1).text(send.as_str()).text(expect.as_str());
        }
        CheckKind::Http { path, status, host } => {
            h.number(2).text(path.as_str());
            optional(h, status.map(|s| s.get().into()));
            optional_text(h, host.as_ref());
        }
        CheckKind::Grpc { service } => {
            h.number(3);
            optional_text(h, service.as_ref());
        }
    }
    h.number(check.interval.as_micros() as u64).number(check.timeout.as_micros() as u64);
    h.number(check.misses.into());
}

fn hash_package(h: &mut RowHasher, p: &Package) {
    h.text(p.ty.as_str()).number(p.priority.into()).number(p.weight.into());
    match &p.listens {
        Listens::Nowhere => h.number(0),
        Listens::Port(port) => h.number(1).number(port.get().into()),
        Listens::At(endpoint) => h.number(2).text(&endpoint.to_string()),
    };
    hash_withdrawal(h, p.withdrawn.as_ref());
    optional(h, p.role.map(|r| r as u64));
    optional(h, p.fencing.map(u64::from));
    optional_text(h, p.version.as_ref());
    hash_check(h, &p.check);
    match &p.host_side {
        None => h.number(0),
        Some(side) => {
            let flags = u64::from(side.announced) + 2 * u64::from(side.withdrawn);
            h.number(1).bytes(side.number.0.as_bytes()).number(flags)
        }
    };
}
