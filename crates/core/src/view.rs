//! What an agent's replica holds: the routing view, the same for all, and its own host's place.

use crate::access::{Denial, Subject};
use crate::digest::{Digest, RowHasher};
use crate::endpoint::Endpoint;
use crate::hierarchy::Hierarchy;
use crate::id::{DomainId, HostId};
use crate::name::{DomainPath, HostName, ManagerType};
use crate::package::{Package, Role};
use crate::policy::{Effective, Policy, PolicySettings, TypeSelector};
use crate::row::Domain;
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

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
    /// A denial of a host in the view.
    Denial(Subject),
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
    pub address: crate::endpoint::Address,
    /// Its own denial.
    pub denial: Option<Denial>,
}
