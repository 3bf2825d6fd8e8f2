//! What a topology file says.

use echelon_core::change::PackageSpec;
use echelon_core::endpoint::Address;
use echelon_core::name::{DomainPath, FrameworkName, HostName, ManagerType};
use echelon_core::package::{Listens, Role};
use echelon_core::policy::{PolicySettings, TypeSelector};

/// A topology. What [`crate::parse`] gives has every host, every policy, and on a host every type at most
/// once, at most one written primary for each type, and no number out of its range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Whose hosts these are.
    pub framework: FrameworkName,
    /// Domains that are to exist even without hosts.
    pub domains: Vec<DomainPath>,
    /// Policies.
    pub policies: Vec<PolicyEntry>,
    /// Hosts, in the order of the file: it decides who becomes primary where nothing else does.
    pub hosts: Vec<HostEntry>,
}

/// A policy as a file states it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyEntry {
    /// Of which domain.
    pub domain: DomainPath,
    /// For which types.
    pub ty: TypeSelector,
    /// All that it sets; not empty.
    pub settings: PolicySettings,
}

/// A host as a file states it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostEntry {
    /// Its name.
    pub name: HostName,
    /// In which domain; where none is written, a new host is in the root, and an existing one stays.
    pub domain: Option<DomainPath>,
    /// Where others reach it; where none is written, a new host is reached by its name, and an existing
    /// one stays as it is, because its enrolment may have recorded an address.
    pub address: Option<Address>,
    /// Its packages, in the order of the file.
    pub packages: Vec<PackageEntry>,
}

/// A package as a file states it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackageEntry {
    /// Its type.
    pub ty: ManagerType,
    /// What it is; keys that are not written have their defaults.
    pub spec: PackageSpec,
    /// Its state, where one is written.
    pub state: Option<PackageState>,
    /// Its role, where one is written.
    pub role: Option<Role>,
    /// Which of the keys are written that a host may announce itself.
    pub written: Written,
}

/// Of the keys that a host may announce itself, those that a file writes. The others stay as the host has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// `port` or `endpoint`.
    pub listens: bool,
    /// `version`.
    pub version: bool,
    /// `check`.
    pub check: bool,
}

/// Whether the operator wants a package to serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PackageState {
    /// It is to serve.
    Active,
    /// It is to serve nothing.
    Withdrawn,
}

impl PackageEntry {
    /// Whether it listens somewhere.
    pub fn is_manager(&self) -> bool {
        self.spec.listens != Listens::Nowhere
    }
}
