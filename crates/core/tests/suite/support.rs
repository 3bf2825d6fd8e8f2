//! A registry to edit, and short ways to say what changes.

use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::edit::{Context, Edited};
use echelon_core::grant::SyncRule;
use echelon_core::id::{DomainId, HostId, Lineage, RequestId};
use echelon_core::name::{DomainPath, HostName, ManagerType};
use echelon_core::package::Listens;
use echelon_core::policy::{PolicySettings, TypeSelector};
use echelon_core::position::Position;
use echelon_core::project::{place, project};
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_core::row::{Actor, Commit, Meta};
use echelon_core::setting::Setting;
use echelon_core::time::{Monotonic, UnixMillis};
use echelon_core::view::{Place, View};
use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// The type of most managers here.
pub(crate) const CC: &str = "command-control";

/// Some day in 2026.
pub(crate) const START: UnixMillis = UnixMillis(1_780_000_000_000);

pub(crate) fn parse<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|e| panic!("{text:?}: {e:?}"))
}

pub(crate) fn name(text: &str) -> HostName {
    parse(text)
}

pub(crate) fn path(text: &str) -> DomainPath {
    parse(text)
}

pub(crate) fn ty(text: &str) -> ManagerType {
    parse(text)
}

pub(crate) fn host_id(n: u128) -> HostId {
    HostId(Uuid::from_u128(n))
}

pub(crate) fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(crate) fn at(s: f64) -> Monotonic {
    Monotonic((s * 1e6) as u64)
}

/// A UUIDv7 (RFC 9562) made at `time`, the `n`th.
pub(crate) fn request(time: UnixMillis, n: u64) -> RequestId {
    let (version, variant) = (7 << 76, 2 << 62);
    RequestId(Uuid::from_u128(u128::from(time.0) << 80 | version | variant | u128::from(n)))
}

/// An empty registry at its first position.
pub(crate) fn empty_registry() -> Registry {
    let position = Position { lineage: Lineage(Uuid::from_u128(7)), epoch: 1, revision: 0 };
    let meta = Meta {
        framework: parse("acme"),
        next_domain: DomainId(1),
        trust: vec![vec![1, 2, 3]],
        emptied: None,
        sync: SyncRule::alone(),
    };
    Registry::new(position, meta)
}

/// A registry and the time, both of which move on.
pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) now: UnixMillis,
    made: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { registry: empty_registry(), now: START, made: 0 }
    }

    pub(crate) fn with(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut world = Self::new();
        world.edit(changes);
        world
    }

    /// A change set under a request id of its own, whose sender means whatever it does.
    pub(crate) fn set(&mut self, changes: impl IntoIterator<Item = Change>) -> ChangeSet {
        self.made += 1;
        let request = request(self.now, self.made);
        ChangeSet { request, if_revision: None, allow_shrink: true, changes: changes.into_iter().collect() }
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            now: self.now,
            actor: Actor::Console(parse("ops")),
            from: None,
            content: [self.made as u8; 32],
        }
    }

    /// Carries out changes that must succeed.
    pub(crate) fn edit(&mut self, changes: impl IntoIterator<Item = Change>) -> Commit {
        let set = self.set(changes);
        match self.registry.edit(&set, &self.context()).unwrap() {
            Edited::Done(next, commit) => {
                self.registry = *next;
                commit
            }
            Edited::Repeated(revision) => panic!("a new request id was known, from revision {revision}"),
        }
    }

    /// Why changes are refused, which they must be.
    pub(crate) fn refuse(&mut self, changes: impl IntoIterator<Item = Change>) -> Refusal {
        let set = self.set(changes);
        self.registry.edit(&set, &self.context()).unwrap_err()
    }

    /// Carries out changes whose sender does not say that they are meant to leave few managers.
    pub(crate) fn edit_guarded(
        &mut self,
        actor: Actor,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Commit, Refusal> {
        let set = ChangeSet { allow_shrink: false, ..self.set(changes) };
        match self.registry.edit(&set, &Context { actor, ..self.context() })? {
            Edited::Done(next, commit) => {
                self.registry = *next;
                Ok(commit)
            }
            Edited::Repeated(revision) => panic!("a new request id was known, from revision {revision}"),
        }
    }

    pub(crate) fn view(&self) -> View {
        project(&self.registry)
    }

    pub(crate) fn host_id(&self, host: &str) -> HostId {
        self.registry.host_named(&name(host)).unwrap().id
    }

    pub(crate) fn place(&self, host: &str) -> Place {
        place(&self.registry, self.host_id(host)).unwrap()
    }
}

pub(crate) fn add_domain(domain: &str) -> Change {
    Change::AddDomain { path: path(domain) }
}

/// The id is made from the name: the same name, the same id.
pub(crate) fn add_host(host: &str, domain: &str) -> Change {
    let hash = blake3::hash(host.as_bytes());
    let id = u128::from_be_bytes(hash.as_bytes()[..16].try_into().unwrap());
    Change::AddHost { id: host_id(id), name: name(host), domain: path(domain), address: None }
}

pub(crate) fn manager_spec() -> PackageSpec {
    PackageSpec { listens: Listens::Port(7000.try_into().unwrap()), ..PackageSpec::default() }
}

pub(crate) fn add_manager(host: &str, of: &str) -> Change {
    add_package(host, of, manager_spec())
}

pub(crate) fn add_package(host: &str, of: &str, spec: PackageSpec) -> Change {
    Change::AddPackage { host: name(host), ty: ty(of), spec }
}

pub(crate) fn set_policy(domain: &str, of: &str, settings: PolicySettings) -> Change {
    Change::SetPolicy { domain: path(domain), ty: parse::<TypeSelector>(of), settings }
}

pub(crate) fn boundary(domain: &str, of: &str, fenced: bool) -> Change {
    set_policy(domain, of, PolicySettings { boundary: Some(fenced), ..PolicySettings::default() })
}

pub(crate) fn withdraw(host: &str, of: &str) -> Change {
    Change::WithdrawPackage { host: name(host), ty: ty(of), reason: None }
}

pub(crate) fn restore(host: &str, of: &str) -> Change {
    Change::RestorePackage { host: name(host), ty: ty(of) }
}

pub(crate) fn promote(host: &str, of: &str) -> Change {
    Change::Promote { host: name(host), ty: ty(of) }
}

pub(crate) fn promote_from(host: &str, from: &str) -> Change {
    Change::PromoteFrom { host: name(host), from: name(from) }
}

pub(crate) fn drain(host: &str, lasting: Option<Duration>) -> Change {
    Change::DrainHost { host: name(host), lasting, reason: None }
}

pub(crate) fn resume(host: &str) -> Change {
    Change::ResumeHost { host: name(host) }
}

pub(crate) fn unset<const N: usize>(domain: &str, keys: [Setting; N]) -> Change {
    Change::UnsetPolicy { domain: path(domain), ty: parse("*"), keys: keys.into() }
}

pub(crate) fn remove_package(host: &str, of: &str) -> Change {
    Change::RemovePackage { host: name(host), ty: ty(of), successor: None }
}

pub(crate) fn remove_host(host: &str) -> Change {
    Change::RemoveHost { host: name(host), with_packages: true }
}

pub(crate) fn move_host(host: &str, domain: &str) -> Change {
    Change::MoveHost { host: name(host), domain: path(domain) }
}

pub(crate) fn rename_host(host: &str, to: &str) -> Change {
    Change::RenameHost { host: name(host), name: name(to) }
}

pub(crate) fn rename_domain(domain: &str, to: &str) -> Change {
    Change::RenameDomain { path: path(domain), name: parse(to) }
}

pub(crate) fn move_domain(domain: &str, parent: &str) -> Change {
    Change::MoveDomain { path: path(domain), parent: path(parent) }
}

/// The tree and the managers of routing.md's worked example.
pub(crate) fn reference_case() -> World {
    World::with([
        add_domain("/sub1"),
        add_domain("/sub1/sub1a"),
        add_host("framework-manager", "/"),
        add_host("agent1", "/sub1"),
        add_host("agent2", "/sub1"),
        add_host("agent3", "/sub1/sub1a"),
        add_host("agent4", "/sub1/sub1a"),
        add_manager("framework-manager", CC),
        add_manager("agent1", CC),
        add_manager("agent3", CC),
    ])
}
