//! A registry made of a file alone.

use crate::roles::Managers;
use crate::topology::{HostEntry, PackageEntry, PackageState, Topology};
use echelon_core::grant::SyncRule;
use echelon_core::id::{DomainId, HostId, Lineage};
use echelon_core::name::{DomainPath, HostName};
use echelon_core::package::{Package, Role, Withdrawal};
use echelon_core::policy::Policy;
use echelon_core::position::Position;
use echelon_core::registry::Registry;
use echelon_core::row::{Domain, Host, Meta, Row};
use std::collections::{BTreeMap, BTreeSet};
use uuid::{Builder, Uuid};

/// The registry that a file describes, with no manager behind it: for looking at a file before it is
/// applied. `registry` packages are taken as they stand. Its lineage is nil, its revision 0, it trusts no
/// root; a host's id follows from its name. The same file always gives the same registry.
pub fn to_registry(topology: &Topology) -> Registry {
    let domains = domains(topology);
    let next_domain = DomainId(domains.len() as u64);
    let meta = Meta {
        framework: topology.framework.clone(),
        next_domain,
        trust: Vec::new(),
        emptied: None,
        sync: SyncRule::alone(),
    };
    let rows = std::iter::once(Row::Meta(meta))
        .chain(domain_rows(&domains))
        .chain(host_rows(topology, &domains))
        .chain(policy_rows(topology, &domains));
    let position = Position { lineage: Lineage(Uuid::nil()), epoch: 1, revision: 0 };
    Registry::from_rows(position, rows)
        .expect("names are unique here, and what a row refers to was made above")
}

/// Every domain that the file needs, parents included, and its id: 0 for the root.
fn domains(topology: &Topology) -> BTreeMap<DomainPath, DomainId> {
    let of_hosts = topology.hosts.iter().filter_map(|h| h.domain.as_ref());
    let of_policies = topology.policies.iter().map(|p| &p.domain);
    let mut paths = BTreeSet::from([DomainPath::root()]);
    for path in topology.domains.iter().chain(of_policies).chain(of_hosts) {
        let mut next = Some(path.clone());
        while let Some(path) = next.filter(|path| !paths.contains(path)) {
            next = path.parent();
            paths.insert(path);
        }
    }
    paths.into_iter().zip(0..).map(|(path, id)| (path, DomainId(id))).collect()
}

fn domain_rows(domains: &BTreeMap<DomainPath, DomainId>) -> impl Iterator<Item = Row> {
    domains.iter().map(|(path, id)| {
        let parent = path.parent().and_then(|parent| domains.get(&parent));
        Row::Domain(Domain { id: *id, place: parent.copied().zip(path.name().cloned()) })
    })
}

fn host_rows(topology: &Topology, domains: &BTreeMap<DomainPath, DomainId>) -> impl Iterator<Item = Row> {
    let managers = Managers::of(topology);
    let mut seen = BTreeSet::new();
    let unique = topology.hosts.iter().filter(move |host| seen.insert(&host.name));
    unique.flat_map(move |host| {
        let domain = host.domain.as_ref().and_then(|path| domains.get(path)).copied();
        let HostEntry { name, address, packages, .. } = host;
        let id = id_of(name);
        let domain = domain.unwrap_or(DomainId::ROOT);
        let row = Row::Host(Host { id, name: name.clone(), domain, address: address.clone(), drained: None });
        let packages = packages.iter().map(|p| {
            let primary = managers.get(&p.ty).and_then(Managers::heir) == Some(name);
            Row::Package(package(id, p, if primary { Role::Primary } else { Role::Backup }))
        });
        std::iter::once(row).chain(packages).collect::<Vec<_>>()
    })
}

fn package(host: HostId, entry: &PackageEntry, role: Role) -> Package {
    let spec = entry.spec.clone();
    Package {
        host,
        ty: entry.ty.clone(),
        listens: spec.listens,
        priority: spec.priority,
        weight: spec.weight,
        withdrawn: (entry.state == Some(PackageState::Withdrawn)).then(Withdrawal::default),
        role: entry.is_manager().then_some(role),
        version: spec.version,
        check: spec.check,
        fencing: None,
        host_side: None,
    }
}

fn policy_rows(topology: &Topology, domains: &BTreeMap<DomainPath, DomainId>) -> impl Iterator<Item = Row> {
    topology.policies.iter().filter_map(|p| {
        let domain = *domains.get(&p.domain)?;
        Some(Row::Policy(Policy { domain, ty: p.ty.clone(), settings: p.settings.clone() }))
    })
}

/// An id that follows from the name (UUIDv8, RFC 9562: 122 bits of BLAKE3).
fn id_of(name: &HostName) -> HostId {
    let hash = blake3::derive_key("echelon host id of a topology file, 1", name.as_str().as_bytes());
    let bytes = hash.first_chunk::<16>().copied().unwrap_or_default();
    HostId(Builder::from_custom_bytes(bytes).into_uuid())
}
