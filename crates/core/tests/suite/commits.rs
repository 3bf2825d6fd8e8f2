//! What must hold of every commit, over random histories.

use crate::support::*;
use echelon_core::access::Access;
use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::edit::Edited;
use echelon_core::fencing::Fencing;
use echelon_core::id::{DomainId, TokenId};
use echelon_core::name::{DomainName, DomainPath, HostName, ManagerType};
use echelon_core::package::{Listens, Package, Role};
use echelon_core::policy::{PolicySettings, TypeSelector};
use echelon_core::position::Position;
use echelon_core::project::{moved_places, place, project, project_commit};
use echelon_core::registry::Registry;
use echelon_core::row::{Commit, Meta, Row};
use echelon_core::view::{View, ViewChange};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use uuid::Uuid;

type Checked = Result<(), TestCaseError>;

/// Everything a commit promises, given the registry before and after it.
pub(crate) fn check(before: &Registry, after: &Registry, commit: &Commit) -> Checked {
    same(&before.apply(commit).expect("a commit follows on the state it was made on"), after)?;
    same(&Registry::from_rows(after.position(), after.rows()).expect("rows of a registry"), after)?;
    check_rows(before, after, commit)?;
    check_view(before, after, commit)?;
    check_places(before, after, commit)?;
    check_serving(before, after, commit)?;
    check_roles(after)?;
    check_fencing(before, after)
}

/// What is counted as serving is what the view shows so, and a commit says how many did before it.
fn check_serving(before: &Registry, after: &Registry, commit: &Commit) -> Checked {
    let shown =
        |of: &ManagerType| project(after).managers_of(of).filter(|m| !m.is_withdrawn()).count() as u64;
    for of in TYPES.map(ty) {
        prop_assert_eq!(after.serving().of(&of), shown(&of));
    }
    prop_assert_eq!(commit.served, before.serving().total());
    let ends = after.hosts().filter_map(|h| h.drained.as_ref()?.until).min();
    prop_assert_eq!(after.next_drain_end(), ends);
    Ok(())
}

/// Two registries are the same in everything that can be asked of them, apart from remembered requests.
fn same(a: &Registry, b: &Registry) -> Checked {
    prop_assert_eq!(a.rows().collect::<Vec<_>>(), b.rows().collect::<Vec<_>>());
    prop_assert_eq!(a.position(), b.position());
    prop_assert_eq!(a.manager_count(), b.manager_count());
    prop_assert_eq!(a.serving().total(), b.serving().total());
    prop_assert_eq!(a.next_drain_end(), b.next_drain_end());
    prop_assert!(a.hosts_by_name().eq(b.hosts_by_name()));
    for host in b.hosts() {
        prop_assert_eq!(a.host_named(&host.name), Some(host));
        prop_assert!(a.packages_on(host.id).eq(b.packages_on(host.id)));
    }
    prop_assert_eq!(a.hierarchy().len(), b.hierarchy().len());
    for domain in b.hierarchy().iter() {
        prop_assert_eq!(a.path(domain.id), b.path(domain.id));
        prop_assert_eq!(a.hierarchy().find(&b.path(domain.id)), Some(domain.id));
        prop_assert!(a.hosts_in(domain.id).eq(b.hosts_in(domain.id)));
        prop_assert_eq!(a.is_used(domain.id), b.is_used(domain.id), "{:?}", domain);
        prop_assert!(a.hierarchy().children(domain.id).eq(b.hierarchy().children(domain.id)));
    }
    for of in TYPES.map(ty) {
        prop_assert!(a.packages_of(&of).eq(b.packages_of(&of)));
        prop_assert_eq!(a.serving().of(&of), b.serving().of(&of));
        prop_assert_eq!(a.primary_of(&of), b.primary_of(&of));
    }
    prop_assert_eq!(project(a).digest(), project(b).digest());
    Ok(())
}

fn check_rows(before: &Registry, after: &Registry, commit: &Commit) -> Checked {
    prop_assert!(commit.rows.is_sorted_by(|a, b| a.key < b.key), "each key once, in order");
    for row in &commit.rows {
        prop_assert_eq!(&before.row(&row.key), &row.before);
        prop_assert_eq!(&after.row(&row.key), &row.after);
        prop_assert_ne!(&row.before, &row.after);
    }
    let named: BTreeSet<_> = commit.rows.iter().map(|r| &r.key).collect();
    let unchanged = |r: &Registry| r.rows().filter(|row| !named.contains(&row.key())).collect::<Vec<_>>();
    prop_assert_eq!(unchanged(before), unchanged(after), "what is not named does not change");
    Ok(())
}

fn check_view(before: &Registry, after: &Registry, commit: &Commit) -> Checked {
    let (old, new) = (project(before), project(after));
    let changes = project_commit(before, after, commit);
    for ViewChange { key, row } in &changes {
        prop_assert_ne!(&old.row(key), row, "a change that changes nothing");
        prop_assert!(row.as_ref().is_none_or(|r| r.key() == *key));
    }
    let moved = old.with(changes).expect("a delta fits the view it was made for");
    prop_assert_eq!(moved.rows().collect::<Vec<_>>(), new.rows().collect::<Vec<_>>());
    prop_assert_eq!(moved.digest(), new.digest());
    let anew = View::from_rows(new.rows()).expect("rows of a view");
    prop_assert_eq!(anew.digest(), new.digest(), "a digest depends on the rows alone");
    for domain in new.hierarchy().iter() {
        prop_assert_eq!(moved.hierarchy().path(domain.id), Some(after.path(domain.id)));
    }
    let shown: BTreeSet<_> = new.hierarchy().iter().map(|d| d.id).collect();
    prop_assert_eq!(shown, domains_in_use(after));
    Ok(())
}

/// Every domain that holds a manager or a policy, with its ancestors, worked out from the rows alone.
fn domains_in_use(registry: &Registry) -> BTreeSet<DomainId> {
    let mut used = BTreeSet::from([DomainId::ROOT]);
    let mut note = |mut id: DomainId| {
        while used.insert(id) {
            let Some(Row::Domain(domain)) = registry.row(&echelon_core::row::RowKey::Domain(id)) else {
                panic!("{id:?}")
            };
            id = domain.place.map_or(DomainId::ROOT, |(parent, _)| parent);
        }
    };
    for row in registry.rows() {
        match row {
            Row::Policy(p) => note(p.domain),
            Row::Package(p) if p.listens != Listens::Nowhere => note(registry.host(p.host).unwrap().domain),
            _ => {}
        }
    }
    used
}

fn check_places(before: &Registry, after: &Registry, commit: &Commit) -> Checked {
    let told = moved_places(before, after, commit);
    let hosts = before.hosts().chain(after.hosts()).map(|h| h.id).collect::<BTreeSet<_>>();
    for host in hosts {
        let (old, new) = (place(before, host), place(after, host));
        prop_assert!(old == new || told.contains(&host), "{host} was not told of its new place");
        let digest = |p: &Option<_>| p.as_ref().map(echelon_core::view::Place::digest);
        prop_assert_eq!(old == new, digest(&old) == digest(&new));
    }
    Ok(())
}

/// At most one primary of a type, and one as soon as there is a manager of it.
fn check_roles(registry: &Registry) -> Checked {
    for of in TYPES.map(ty) {
        let managers: Vec<_> = registry.packages_of(&of).filter(|p| p.is_manager()).collect();
        let primaries: Vec<_> = managers.iter().filter(|p| p.role == Some(Role::Primary)).copied().collect();
        prop_assert_eq!(primaries.len(), usize::from(!managers.is_empty()));
        prop_assert_eq!(registry.primary_of(&of), primaries.first().copied());
        prop_assert!(registry.packages_of(&of).all(|p| p.role.is_some() == p.is_manager()));
    }
    Ok(())
}

/// A primary alone has a number, which is that of the commit that made it primary: larger than any before.
fn check_fencing(before: &Registry, after: &Registry) -> Checked {
    let largest = before.packages().filter_map(|p| p.fencing).max();
    for package in after.packages() {
        prop_assert_eq!(package.fencing.is_some(), package.role == Some(Role::Primary));
        let was = before.package(package.host, &package.ty).and_then(|p| p.fencing);
        if package.fencing != was && package.fencing.is_some() {
            prop_assert_eq!(package.fencing, Fencing::at(&after.position()).ok());
            prop_assert!(package.fencing > largest);
        }
    }
    Ok(())
}

const TYPES: [&str; 2] = [CC, "audit"];
const HOSTS: [&str; 7] = ["h0", "h1", "h2", "h3", "h4", "h5", "spare"];
const NAMES: [&str; 4] = ["a", "b", "c", "spare"];

/// What to do, with whatever is there at the time.
#[derive(Clone, Debug)]
enum Op {
    AddDomain(Index, Index),
    RenameDomain(Index, Index),
    MoveDomain(Index, Index),
    RemoveDomain(Index, bool),
    SwapDomains(Index, Index),
    AddHost(Index, Index),
    RenameHost(Index, Index),
    MoveHost(Index, Index),
    SwapHosts(Index, Index),
    SetAddress(Index, Option<u8>),
    RemoveHost(Index, bool),
    DrainHost(Index, Option<u8>),
    ResumeHost(Index),
    AddPackage(Index, Index, Option<u8>),
    SetPackage(Index, Option<u8>),
    Withdraw(Index, bool),
    Restore(Index),
    RemovePackage(Index, Option<Index>),
    Promote(Index),
    PromoteFrom(Index, Index),
    SetPolicy(Index, Option<Index>, Option<bool>),
    ReplacePolicy(Index, Option<Index>, Option<bool>),
    CreateToken(Index, bool, Index),
    RevokeToken(Index),
    Enrol(Index, Index),
}

fn op() -> impl Strategy<Value = Op> {
    let i = any::<Index>;
    let few = prop::option::of(0..3_u8);
    let of = prop::option::of(i());
    prop_oneof![
        3 => (i(), i()).prop_map(|(a, b)| Op::AddDomain(a, b)),
        2 => (i(), i()).prop_map(|(a, b)| Op::RenameDomain(a, b)),
        3 => (i(), i()).prop_map(|(a, b)| Op::MoveDomain(a, b)),
        1 => (i(), any::<bool>()).prop_map(|(a, b)| Op::RemoveDomain(a, b)),
        1 => (i(), i()).prop_map(|(a, b)| Op::SwapDomains(a, b)),
        4 => (i(), i()).prop_map(|(a, b)| Op::AddHost(a, b)),
        1 => (i(), i()).prop_map(|(a, b)| Op::RenameHost(a, b)),
        3 => (i(), i()).prop_map(|(a, b)| Op::MoveHost(a, b)),
        1 => (i(), i()).prop_map(|(a, b)| Op::SwapHosts(a, b)),
        1 => (i(), few.clone()).prop_map(|(a, b)| Op::SetAddress(a, b)),
        1 => (i(), prop::bool::weighted(0.7)).prop_map(|(a, b)| Op::RemoveHost(a, b)),
        2 => (i(), few.clone()).prop_map(|(a, b)| Op::DrainHost(a, b)),
        1 => i().prop_map(Op::ResumeHost),
        4 => (i(), i(), few.clone()).prop_map(|(a, b, c)| Op::AddPackage(a, b, c)),
        2 => (i(), few).prop_map(|(a, b)| Op::SetPackage(a, b)),
        1 => (i(), any::<bool>()).prop_map(|(a, b)| Op::Withdraw(a, b)),
        1 => i().prop_map(Op::Restore),
        2 => (i(), of.clone()).prop_map(|(a, b)| Op::RemovePackage(a, b)),
        2 => i().prop_map(Op::Promote),
        1 => (i(), i()).prop_map(|(a, b)| Op::PromoteFrom(a, b)),
        1 => (i(), of.clone(), any::<Option<bool>>()).prop_map(|(a, b, c)| Op::SetPolicy(a, b, c)),
        1 => (i(), of, any::<Option<bool>>()).prop_map(|(a, b, c)| Op::ReplacePolicy(a, b, c)),
        1 => (i(), any::<bool>(), i()).prop_map(|(a, b, c)| Op::CreateToken(a, b, c)),
        1 => i().prop_map(Op::RevokeToken),
        2 => (i(), i()).prop_map(|(a, b)| Op::Enrol(a, b)),
    ]
}

/// A registry to draw names from.
struct Draw<'a> {
    registry: &'a Registry,
    made: u64,
}

impl Draw<'_> {
    fn domain(&self, i: &Index) -> DomainPath {
        let all: Vec<_> = self.registry.hierarchy().iter().map(|d| d.id).collect();
        self.registry.path(all[i.index(all.len())])
    }

    fn domain_name(&self, i: &Index) -> DomainName {
        parse(NAMES[i.index(NAMES.len() - 1)])
    }

    fn host(&self, i: &Index) -> Option<HostName> {
        let all: Vec<_> = self.registry.hosts().map(|h| h.name.clone()).collect();
        (!all.is_empty()).then(|| all[i.index(all.len())].clone())
    }

    fn package(&self, i: &Index) -> Option<(HostName, ManagerType)> {
        let all: Vec<_> = self.registry.packages().collect();
        let package = (!all.is_empty()).then(|| all[i.index(all.len())])?;
        Some((self.registry.host(package.host)?.name.clone(), package.ty.clone()))
    }

    fn token(&self, i: &Index) -> Option<TokenId> {
        let all: Vec<_> = self.registry.tokens().map(|t| t.id).collect();
        (!all.is_empty()).then(|| all[i.index(all.len())])
    }

    fn selector(&self, i: &Option<Index>) -> TypeSelector {
        i.as_ref().map_or(TypeSelector::All, |i| TypeSelector::One(ty(TYPES[i.index(2)])))
    }

    fn spec(&self, port: &Option<u8>) -> PackageSpec {
        match port {
            None => PackageSpec::default(),
            Some(n) => PackageSpec { priority: u32::from(*n), ..manager_spec() },
        }
    }

    fn settings(&self, boundary: &Option<bool>) -> PolicySettings {
        PolicySettings { boundary: *boundary, ..PolicySettings::default() }
    }

    /// The changes that the op comes to here; none where there is nothing to do it with.
    fn changes(&self, op: &Op) -> Option<Vec<Change>> {
        Some(match op {
            Op::AddDomain(parent, name) => {
                vec![Change::AddDomain { path: self.domain(parent).join(self.domain_name(name)).ok()? }]
            }
            Op::RenameDomain(d, name) => {
                vec![Change::RenameDomain { path: self.domain(d), name: self.domain_name(name) }]
            }
            Op::MoveDomain(d, parent) => {
                vec![Change::MoveDomain { path: self.domain(d), parent: self.domain(parent) }]
            }
            Op::RemoveDomain(d, recursive) => {
                vec![Change::RemoveDomain { path: self.domain(d), recursive: *recursive }]
            }
            Op::SwapDomains(a, b) => self.swap_domains(&self.domain(a), &self.domain(b))?,
            Op::AddHost(domain, n) => {
                let (id, name) = (host_id(u128::from(self.made)), name(HOSTS[n.index(HOSTS.len() - 1)]));
                vec![Change::AddHost { id, name, domain: self.domain(domain), address: None }]
            }
            Op::RenameHost(h, n) => {
                let name = name(HOSTS[n.index(HOSTS.len() - 1)]);
                vec![Change::RenameHost { host: self.host(h)?, name }]
            }
            Op::MoveHost(h, d) => vec![Change::MoveHost { host: self.host(h)?, domain: self.domain(d) }],
            Op::SwapHosts(a, b) => {
                let (a, b) = (self.host(a)?, self.host(b)?);
                let rename = |host: &HostName, name: &HostName| Change::RenameHost {
                    host: host.clone(),
                    name: name.clone(),
                };
                let spare = name("spare");
                vec![rename(&a, &spare), rename(&b, &a), rename(&spare, &b)]
            }
            Op::SetAddress(h, address) => {
                let address = address.map(|n| parse(&format!("10.0.0.{n}")));
                vec![Change::SetAddress { host: self.host(h)?, address }]
            }
            Op::RemoveHost(h, with_packages) => {
                vec![Change::RemoveHost { host: self.host(h)?, with_packages: *with_packages }]
            }
            Op::DrainHost(h, minutes) => {
                let lasting = minutes.map(|n| secs(60 * (u64::from(n) + 1)));
                vec![Change::DrainHost { host: self.host(h)?, lasting, reason: None }]
            }
            Op::ResumeHost(h) => vec![Change::ResumeHost { host: self.host(h)? }],
            Op::AddPackage(h, t, port) => {
                let (host, ty) = (self.host(h)?, ty(TYPES[t.index(2)]));
                vec![Change::AddPackage { host, ty, spec: self.spec(port) }]
            }
            Op::SetPackage(p, port) => {
                let (host, ty) = self.package(p)?;
                vec![Change::SetPackage { host, ty, spec: self.spec(port) }]
            }
            Op::Withdraw(p, reason) => {
                let (host, ty) = self.package(p)?;
                vec![Change::WithdrawPackage { host, ty, reason: reason.then(|| parse("why")) }]
            }
            Op::Restore(p) => {
                let (host, ty) = self.package(p)?;
                vec![Change::RestorePackage { host, ty }]
            }
            Op::RemovePackage(p, successor) => {
                let (host, ty) = self.package(p)?;
                let successor = successor.as_ref().and_then(|s| self.host(s));
                vec![Change::RemovePackage { host, ty, successor }]
            }
            Op::Promote(p) => {
                let (host, ty) = self.package(p)?;
                vec![Change::Promote { host, ty }]
            }
            Op::PromoteFrom(to, from) => {
                vec![Change::PromoteFrom { host: self.host(to)?, from: self.host(from)? }]
            }
            Op::SetPolicy(d, t, boundary) => {
                let (ty, settings) = (self.selector(t), self.settings(boundary));
                vec![Change::SetPolicy { domain: self.domain(d), ty, settings }]
            }
            Op::ReplacePolicy(d, t, boundary) => {
                let (ty, settings) = (self.selector(t), self.settings(boundary));
                vec![Change::ReplacePolicy { domain: self.domain(d), ty, settings }]
            }
            Op::CreateToken(d, replace, h) => {
                let mut token = crate::enrolment::token(u128::from(self.made));
                (token.replace, token.access) = (*replace, Access::Agent);
                token.host = if *replace { self.host(h) } else { None };
                vec![Change::CreateToken { token, domain: self.domain(d) }]
            }
            Op::RevokeToken(t) => vec![Change::RevokeToken { id: self.token(t)? }],
            Op::Enrol(t, h) => vec![Change::Enrol {
                token: self.token(t)?,
                host: name(HOSTS[h.index(HOSTS.len() - 1)]),
                id: host_id(u128::from(self.made)),
                domain: None,
                address: None,
                key_hash: [3; 32],
            }],
        })
    }

    /// Two domains that lie apart take each other's names, and so their places if they are siblings.
    fn swap_domains(&self, a: &DomainPath, b: &DomainPath) -> Option<Vec<Change>> {
        let (name_a, name_b) = (a.name()?.clone(), b.name()?.clone());
        if a.is_within(b) || b.is_within(a) {
            return None;
        }
        let spare: DomainName = parse("spare");
        let parked = a.parent()?.join(spare.clone()).ok()?;
        Some(vec![
            Change::RenameDomain { path: a.clone(), name: spare },
            Change::RenameDomain { path: b.clone(), name: name_a },
            Change::RenameDomain { path: parked, name: name_b },
        ])
    }
}

/// The registry after these changes, or none where they are refused.
fn edited(registry: &Registry, changes: Vec<Change>, made: u64) -> Option<(Registry, Commit)> {
    let mut world = World::new();
    let set = ChangeSet { request: request(START, made), if_revision: None, allow_shrink: true, changes };
    world.registry = registry.clone();
    match world.registry.edit(&set, &world.context()) {
        Ok(Edited::Done(next, commit)) => Some((*next, commit)),
        Ok(Edited::Repeated(_)) => panic!("{made} was used before"),
        Err(_) => None,
    }
}

/// The rows, without the revision that took the last manager away, and those that made primaries.
fn dateless(registry: &Registry) -> impl Iterator<Item = Row> {
    registry.rows().map(|row| match row {
        Row::Meta(meta) => Row::Meta(Meta { emptied: None, ..meta }),
        Row::Package(package) => Row::Package(Package { fencing: None, ..package }),
        other => other,
    })
}

proptest! {
    /// Whatever is edited, in sets of up to five: see [`check`].
    #[test]
    fn every_commit_keeps_its_promises(sets in prop::collection::vec(prop::collection::vec(op(), 1..6), 1..25)) {
        let mut registry = empty_registry();
        let mut made = 0;
        for ops in sets {
            // Ops that are refused one by one are left out; the others must then succeed together.
            let (mut scratch, mut changes) = (registry.clone(), Vec::new());
            for op in &ops {
                made += 1;
                let Some(more) = (Draw { registry: &scratch, made }).changes(op) else { continue };
                if let Some((next, _)) = edited(&scratch, more.clone(), 1_000_000 + made) {
                    scratch = next;
                    changes.extend(more);
                }
            }
            if changes.is_empty() {
                continue;
            }
            let before: Vec<_> = registry.rows().collect();
            let broken = [changes.clone(), vec![move_host("nobody", "/")]].concat();
            prop_assert!(edited(&registry, broken, 2_000_000 + made).is_none(), "all or nothing");
            prop_assert!(registry.rows().eq(before));
            let (next, commit) = edited(&registry, changes, made).expect("the changes succeeded one by one");
            let same = dateless(&next).eq(dateless(&scratch));
            prop_assert!(same, "one set does what its changes do one by one");
            check(&registry, &next, &commit)?;
            registry = next;
        }
    }
}

/// The generator reaches what the property is about.
#[test]
fn random_histories_are_not_trivial() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        let mut registry = empty_registry();
        for made in 0..120 {
            let op = op().new_tree(&mut runner).unwrap().current();
            let Some(changes) = (Draw { registry: &registry, made }).changes(&op) else { continue };
            if let Some((next, commit)) = edited(&registry, changes, made) {
                let what = format!("{op:?}");
                let what = what.split('(').next().unwrap();
                if !project_commit(&registry, &next, &commit).is_empty() {
                    seen.insert(format!("{what} seen by all"));
                }
                seen.insert(what.to_owned());
                registry = next;
            }
        }
    }
    let expected =
        ["MoveDomain", "RenameDomain", "SwapDomains", "RemoveDomain", "MoveHost", "RenameHost", "SwapHosts"];
    let more = [
        "RemoveHost",
        "DrainHost",
        "ResumeHost",
        "SetPackage",
        "Withdraw",
        "Restore",
        "RemovePackage",
        "Promote",
        "PromoteFrom",
        "SetPolicy",
        "ReplacePolicy",
        "SetAddress",
    ];
    for op in expected.into_iter().chain(more) {
        assert!(
            seen.contains(op) && (op == "RemoveDomain" || seen.contains(&format!("{op} seen by all"))),
            "{op}: {seen:?}"
        );
    }
    assert!(seen.contains("Enrol") && seen.contains("RevokeToken"));
}

/// Lineages and epochs are not part of what an edit decides.
#[test]
fn a_commit_counts_on_in_the_same_epoch() {
    let position =
        Position { lineage: echelon_core::id::Lineage(Uuid::from_u128(9)), epoch: 4, revision: 41 };
    let registry = Registry::from_rows(position, empty_registry().rows()).unwrap();
    let (next, commit) = edited(&registry, vec![add_domain("/a")], 1).unwrap();
    assert_eq!(commit.position, Position { revision: 42, ..position });
    assert_eq!(next.position(), commit.position);
}
