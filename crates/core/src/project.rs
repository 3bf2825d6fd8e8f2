//! From the registry to what agents see of it.

use crate::access::{Denial, Subject};
use crate::id::{DomainId, HostId};
use crate::issuer::Issuer;
use crate::package::Package;
use crate::policy::Policy;
use crate::registry::Registry;
use crate::row::{Commit, Drain, RowKey};
use crate::view::{Manager, Place, View, ViewChange, ViewKey, ViewRow};
use std::collections::BTreeSet;

/// The routing view of a whole registry.
pub fn project(registry: &Registry) -> View {
    let domains = registry.hierarchy().iter().map(|d| ViewKey::Domain(d.id));
    let managers = registry.packages().map(|p| ViewKey::Manager(p.ty.clone(), p.host));
    let policies = registry.policies().map(|p| ViewKey::Policy(p.domain, p.ty.clone()));
    let denials = registry.denials().map(|d| ViewKey::Denial(d.subject.clone()));
    let issuers = registry.issuers().map(|i| ViewKey::Issuer(i.id));
    let keys = std::iter::once(ViewKey::Trust).chain(domains).chain(managers).chain(policies);
    let keys = keys.chain(denials).chain(issuers);
    View::from_rows(keys.filter_map(|key| view_row(registry, &key)))
        .expect("a domain in the view has its ancestors there too")
}

/// What a commit changes in the view, given the registry before and after it. In the order of the keys;
/// nothing where agents see no difference.
pub fn project_commit(before: &Registry, after: &Registry, commit: &Commit) -> Vec<ViewChange> {
    let mut touched = Touched::default();
    commit.rows.iter().for_each(|row| touched.row(before, after, &row.key));
    let old = |key: &ViewKey| view_row(before, key);
    let changes = touched.keys(before, after).into_iter().map(|key| {
        let row = view_row(after, &key);
        (old(&key) != row).then_some(ViewChange { key, row })
    });
    changes.flatten().collect()
}

/// The hosts whose place a commit may have changed.
pub fn moved_places(before: &Registry, after: &Registry, commit: &Commit) -> BTreeSet<HostId> {
    let mut hosts = BTreeSet::new();
    for row in &commit.rows {
        match &row.key {
            RowKey::Host(id) | RowKey::Package(id, _) => {
                hosts.insert(*id);
            }
            RowKey::Identity(Subject::Host(id)) | RowKey::Denial(Subject::Host(id)) => {
                hosts.insert(*id);
            }
            RowKey::Domain(id) => {
                for registry in [before, after] {
                    let below = registry.hierarchy().subtree(*id);
                    hosts.extend(below.into_iter().flat_map(|d| registry.hosts_in(d)).map(|h| h.id));
                }
            }
            _ => {}
        }
    }
    hosts
}

/// A host's own place; none where there is no such host.
pub fn place(registry: &Registry, host: HostId) -> Option<Place> {
    let row = registry.host(host)?;
    let mut domains: Vec<_> = registry.hierarchy().lineage(row.domain).map(|d| d.id).collect();
    domains.reverse();
    Some(Place {
        host,
        name: row.name.clone(),
        path: registry.path(row.domain),
        domains,
        packages: registry.packages_on(host).map(|p| Package::clone(p)).collect(),
        address: row.reached_at(),
        denial: registry.denial_in_force(&Subject::Host(host)).map(|d| (**d).clone()),
        allow_types: registry.allowed_types(host),
        drained: row.drained.as_ref().map(Drain::withdrawal),
    })
}

/// One row of the view, as the registry has it; none where the view has no such row.
fn view_row(registry: &Registry, key: &ViewKey) -> Option<ViewRow> {
    match key {
        ViewKey::Trust => {
            let trust = &registry.meta().trust;
            (!trust.is_empty()).then(|| ViewRow::Trust(trust.clone()))
        }
        // The root is in every view, and so needs no row.
        ViewKey::Domain(DomainId::ROOT) => None,
        ViewKey::Domain(id) => {
            let used = registry.hierarchy().subtree(*id).into_iter().any(|d| registry.is_used(d));
            used.then(|| registry.domain(*id).cloned().map(ViewRow::Domain)).flatten()
        }
        ViewKey::Manager(ty, host) => {
            let (host, package) = (registry.host(*host)?, registry.package(*host, ty)?);
            let drained = host.drained.as_ref().map(Drain::withdrawal);
            Manager::of(package, &host.name, host.domain, &host.reached_at(), drained.as_ref())
                .map(ViewRow::Manager)
        }
        ViewKey::Policy(domain, ty) => {
            registry.policy(*domain, ty).map(|p| ViewRow::Policy(Policy::clone(p)))
        }
        ViewKey::Denial(subject) => {
            let host = match subject {
                Subject::Host(host) => host,
                // Also where it has enrolled anew: the certificate that is denied may be in use elsewhere.
                Subject::Manager(_) => {
                    return registry.denial(subject).map(|d| ViewRow::Denial(Denial::clone(d)));
                }
                Subject::Console(_) => return None,
            };
            let in_view = registry.packages_on(*host).any(|p| p.is_manager());
            let denial = registry.denial_in_force(subject).filter(|_| in_view)?;
            Some(ViewRow::Denial((**denial).clone()))
        }
        ViewKey::Issuer(id) => registry.issuer(id).map(|i| ViewRow::Issuer(Issuer::clone(i))),
    }
}

/// The view's keys that a commit may have changed.
#[derive(Default)]
struct Touched {
    keys: BTreeSet<ViewKey>,
    domains: BTreeSet<DomainId>,
}

impl Touched {
    fn row(&mut self, before: &Registry, after: &Registry, key: &RowKey) {
        match key {
            RowKey::Meta => {
                self.keys.insert(ViewKey::Trust);
            }
            RowKey::Domain(id) => {
                self.domains.insert(*id);
            }
            RowKey::Host(id) => [before, after].into_iter().for_each(|r| self.host(r, *id)),
            RowKey::Package(id, ty) => {
                self.keys.insert(ViewKey::Manager(ty.clone(), *id));
                self.keys.insert(ViewKey::Denial(Subject::Host(*id)));
                self.domains.extend([before, after].iter().filter_map(|r| r.host(*id)).map(|h| h.domain));
            }
            RowKey::Policy(domain, ty) => {
                self.keys.insert(ViewKey::Policy(*domain, ty.clone()));
                self.domains.insert(*domain);
            }
            RowKey::Identity(subject) | RowKey::Denial(subject) => {
                self.keys.insert(ViewKey::Denial(subject.clone()));
            }
            RowKey::Issuer(id) => {
                self.keys.insert(ViewKey::Issuer(*id));
            }
            RowKey::Token(_) => {}
        }
    }

    fn host(&mut self, registry: &Registry, id: HostId) {
        let mut managers = registry.packages_on(id).filter(|p| p.is_manager()).peekable();
        if managers.peek().is_some() {
            self.domains.extend(registry.host(id).map(|h| h.domain));
            self.keys.insert(ViewKey::Denial(Subject::Host(id)));
        }
        self.keys.extend(managers.map(|p| ViewKey::Manager(p.ty.clone(), id)));
    }

    /// All keys: those noted, and the domains noted with their ancestors before and after: a moved subtree is
    /// used under other ancestors now.
    fn keys(self, before: &Registry, after: &Registry) -> BTreeSet<ViewKey> {
        let mut keys = self.keys;
        for id in self.domains {
            for registry in [before, after] {
                keys.extend(registry.hierarchy().lineage(id).map(|d| ViewKey::Domain(d.id)));
            }
            keys.insert(ViewKey::Domain(id));
        }
        keys
    }
}
