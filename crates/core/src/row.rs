//! The registry's content as rows.
//!
//! Every edit comes down to rows set and rows removed. The same rows are what the journal records, what
//! the store keeps, what a console reads, and what the history shows before and after.

use crate::access::{Denial, Identity, Subject, Token};
use crate::endpoint::{Address, Endpoint};
use crate::grant::SyncRule;
use crate::id::{DomainId, HostId, RequestId, TokenId};
use crate::issuer::{Issuer, IssuerId};
use crate::name::{ConsoleName, DomainName, FrameworkName, HostName, ManagerType, Text};
use crate::package::{Package, Withdrawal};
use crate::policy::{Policy, TypeSelector};
use crate::position::Position;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the registry as a whole is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// The framework's name, fixed at `init`.
    pub framework: FrameworkName,
    /// The next domain id to give out.
    pub next_domain: DomainId,
    /// Root certificates (DER) that agents and consoles trust, at least one.
    pub trust: Vec<Vec<u8>>,
    /// The revision that took away the last manager there was, those of type `registry` apart; none where
    /// that never happened. An agent that holds managers believes a view without any only where this is set.
    pub emptied: Option<u64>,
    /// The standbys that count for commits.
    pub sync: SyncRule,
}

/// A domain. The root has neither parent nor name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Domain {
    /// Its immutable id.
    pub id: DomainId,
    /// The domain it is a subdomain of, and its name there; none for the root.
    pub place: Option<(DomainId, DomainName)>,
}

/// A host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// Its immutable id.
    pub id: HostId,
    /// Its unique name.
    pub name: HostName,
    /// The one domain it is in.
    pub domain: DomainId,
    /// Where others reach it; its name, to be resolved, where there is none.
    pub address: Option<Address>,
    /// The operator wants nothing on it to serve for a while; its `registry` package apart.
    pub drained: Option<Drain>,
}

/// An operator's wish that nothing on a host serves for a while.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Drain {
    /// When the manager ends it, by its own clock; none where the operator does.
    pub until: Option<UnixMillis>,
    /// Why, for people.
    pub reason: Option<Text>,
}

impl Drain {
    /// What it comes to for each package of the host.
    pub fn withdrawal(&self) -> Withdrawal {
        Withdrawal { reason: self.reason.clone() }
    }
}

impl Host {
    /// Where others reach it.
    pub fn reached_at(&self) -> Address {
        let by_name = || match self.name.as_str().parse() {
            Ok(ip) => Address::Ip(ip),
            Err(_) => Address::Name(self.name.clone()),
        };
        self.address.clone().unwrap_or_else(by_name)
    }

    /// The drain that keeps a package of this host out of service, where there is one.
    pub fn drain_of(&self, package: &Package) -> Option<&Drain> {
        self.drained.as_ref().filter(|_| !package.ty.is_registry())
    }

    /// Whether a package of this host is a manager that serves, as far as configuration says.
    pub fn serves(&self, package: &Package) -> bool {
        package.is_manager() && !package.is_withdrawn() && self.drain_of(package).is_none()
    }
}

/// Names one row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum RowKey {
    /// The one [`Meta`].
    Meta,
    /// A domain.
    Domain(DomainId),
    /// A host.
    Host(HostId),
    /// A package.
    Package(HostId, ManagerType),
    /// A policy.
    Policy(DomainId, TypeSelector),
    /// An identity.
    Identity(Subject),
    /// A denial.
    Denial(Subject),
    /// A join token.
    Token(TokenId),
    /// What a registry manager signs with.
    Issuer(IssuerId),
}

/// One row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Row {
    /// The one [`Meta`].
    Meta(Meta),
    /// A domain.
    Domain(Domain),
    /// A host.
    Host(Host),
    /// A package.
    Package(Package),
    /// A policy.
    Policy(Policy),
    /// An identity.
    Identity(Identity),
    /// A denial.
    Denial(Denial),
    /// A join token.
    Token(Token),
    /// What a registry manager signs with.
    Issuer(Issuer),
}

impl Row {
    /// The row's name.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Meta(_) => RowKey::Meta,
            Self::Domain(d) => RowKey::Domain(d.id),
            Self::Host(h) => RowKey::Host(h.id),
            Self::Package(p) => RowKey::Package(p.host, p.ty.clone()),
            Self::Policy(p) => RowKey::Policy(p.domain, p.ty.clone()),
            Self::Identity(i) => RowKey::Identity(i.subject.clone()),
            Self::Denial(d) => RowKey::Denial(d.subject.clone()),
            Self::Token(t) => RowKey::Token(t.id),
            Self::Issuer(i) => RowKey::Issuer(i.id),
        }
    }
}

/// One row before and after; at least one of the two is there, and they differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RowChange {
    /// Which row.
    pub key: RowKey,
    /// What it was.
    pub before: Option<Row>,
    /// What it is now.
    pub after: Option<Row>,
}

impl RowChange {
    /// The domain it changes and what that is now; none where it changes another kind of row.
    pub(crate) fn domain(&self) -> Option<(DomainId, Option<Domain>)> {
        match (&self.key, &self.after) {
            (RowKey::Domain(id), Some(Row::Domain(domain))) => Some((*id, Some(domain.clone()))),
            (RowKey::Domain(id), _) => Some((*id, None)),
            _ => None,
        }
    }
}

/// Who asked for an edit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    /// A console.
    Console(ConsoleName),
    /// A host's agent.
    Agent(HostName),
    /// The registry manager on this host, as in `init`.
    Manager(HostName),
    /// Whoever held this join token.
    Token(TokenId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Console(name) => write!(f, "console {name}"),
            Self::Agent(host) => write!(f, "agent {host}"),
            Self::Manager(host) => write!(f, "manager {host}"),
            Self::Token(id) => write!(f, "token {id}"),
        }
    }
}

/// One committed change set: an entry of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// The position it made.
    pub position: Position,
    /// When, by the clock of the manager that committed it.
    pub at: UnixMillis,
    /// Who asked.
    pub actor: Actor,
    /// From where, as the manager saw it; none where the manager asked by itself.
    pub from: Option<Endpoint>,
    /// Under which id.
    pub request: RequestId,
    /// BLAKE3 of what was asked, to tell a repetition from another edit under the same id.
    pub content: [u8; 32],
    /// What it changed, in the order of the keys; each key once.
    pub rows: Vec<RowChange>,
    /// How many managers served before it; see [`crate::serving`].
    pub served: u64,
    /// Whether it left so few managers that it was refused, had its sender not said that this is meant.
    pub shrinks: bool,
    /// Whether it changes the standbys that count so that it is committed under the new rule alone; see
    /// [`crate::grant::SyncRule`].
    pub alone: bool,
}
