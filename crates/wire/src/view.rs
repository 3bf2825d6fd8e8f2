//! What an agent's replica holds.

use crate::access::{Denial, Issuer, Subject};
use crate::error::DecodeError;
use crate::field::Field;
use crate::package::{Package, Withdrawal, check_rank};
use crate::policy::Policy;
use crate::row::{Domain, PackageKey, PolicyKey, Position};
use echelon_core::id::DomainId;
use echelon_core::limits::{MAX_DEPTH, MAX_PACKAGES_PER_HOST};
use echelon_core::{message, view};

message! { view::Manager => Manager {
    #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
    #[prost(string, tag = "2")] ty: String,
    #[prost(string, tag = "3")] name: String,
    #[prost(uint64, tag = "4")] domain: u64,
    #[prost(string, tag = "5")] endpoint: String,
    #[prost(uint32, tag = "6")] priority: u32,
    #[prost(uint32, tag = "7")] weight: u32,
    #[prost(int32, tag = "8")] role: i32,
    #[prost(bool, tag = "9")] withdrawn: bool,
    #[prost(bool, tag = "10")] withdrawn_by_host: bool,
    #[prost(message, optional, tag = "11")] drained: Option<Withdrawal>,
} check |manager| check_rank("Manager", manager.priority, manager.weight) }

/// Root certificates, in DER.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Trust {
    #[prost(bytes = "vec", repeated, tag = "1")]
    roots: Vec<Vec<u8>>,
}

impl Field<Trust> for Vec<Vec<u8>> {
    fn pack(&self) -> Trust {
        Trust { roots: self.clone() }
    }

    fn unpack(packed: Trust, _: &'static str) -> Result<Self, DecodeError> {
        Ok(packed.roots)
    }
}

choice! { view::ViewRow => ViewRow, ViewRowKind ("ViewRowKind", "1, 2, 3, 4, 5, 6")
    unit {}
    value {
        #[prost(message, tag = "1")] Trust(Trust),
        #[prost(message, tag = "2")] Domain(Box<Domain>),
        #[prost(message, tag = "3")] Manager(Box<Manager>),
        #[prost(message, tag = "4")] Policy(Box<Policy>),
        #[prost(message, tag = "5")] Denial(Box<Denial>),
        #[prost(message, tag = "6")] Issuer(Box<Issuer>),
    }
    record {}
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ViewKey {
    #[prost(oneof = "ViewKeyKind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<ViewKeyKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum ViewKeyKind {
    #[prost(message, tag = "1")]
    Trust(()),
    #[prost(uint64, tag = "2")]
    Domain(u64),
    #[prost(message, tag = "3")]
    Manager(PackageKey),
    #[prost(message, tag = "4")]
    Policy(PolicyKey),
    #[prost(message, tag = "5")]
    Denial(Subject),
    #[prost(bytes = "vec", tag = "6")]
    Issuer(Vec<u8>),
}

impl Field<ViewKey> for view::ViewKey {
    fn pack(&self) -> ViewKey {
        let kind = match self {
            Self::Trust => ViewKeyKind::Trust(()),
            Self::Domain(id) => ViewKeyKind::Domain(id.pack()),
            Self::Manager(ty, host) => ViewKeyKind::Manager(PackageKey { host: host.pack(), ty: ty.pack() }),
            Self::Policy(domain, ty) => {
                ViewKeyKind::Policy(PolicyKey { domain: domain.pack(), ty: ty.pack() })
            }
            Self::Denial(subject) => ViewKeyKind::Denial(subject.pack()),
            Self::Issuer(id) => ViewKeyKind::Issuer(id.pack()),
        };
        ViewKey { kind: Some(kind) }
    }

    fn unpack(packed: ViewKey, _: &'static str) -> Result<Self, DecodeError> {
        Ok(match packed.kind.ok_or(DecodeError::UnknownKind { message: "ViewKey" })? {
            ViewKeyKind::Trust(()) => Self::Trust,
            ViewKeyKind::Domain(id) => Self::Domain(DomainId(id)),
            ViewKeyKind::Manager(key) => Self::Manager(
                Field::unpack(key.ty, "PackageKey.ty")?,
                Field::unpack(key.host, "PackageKey.host")?,
            ),
            ViewKeyKind::Policy(key) => {
                Self::Policy(DomainId(key.domain), Field::unpack(key.ty, "PolicyKey.ty")?)
            }
            ViewKeyKind::Denial(subject) => Self::Denial(Field::unpack(subject, "ViewKey.Denial")?),
            ViewKeyKind::Issuer(id) => Self::Issuer(Field::unpack(id, "ViewKey.Issuer")?),
        })
    }
}

required!(view::ViewKey, ViewKey);

message! { view::ViewChange => ViewChange {
    #[prost(message, optional, tag = "1")] key: Option<ViewKey>,
    #[prost(message, optional, tag = "2")] row: Option<ViewRow>,
} check |change| match &change.row {
    Some(row) if row.key() != change.key => Err(DecodeError::Key { at: "ViewChange" }),
    _ => Ok(()),
} }

message! { message::ViewMark => ViewMark {
    #[prost(message, optional, tag = "1")] position: Option<Position>,
    #[prost(uint64, tag = "2")] view_revision: u64,
    #[prost(bytes = "vec", tag = "3")] digest: Vec<u8>,
} }

message! { view::Place => Place {
    #[prost(bytes = "vec", tag = "1")] host: Vec<u8>,
    #[prost(string, tag = "2")] name: String,
    #[prost(string, tag = "3")] path: String,
    #[prost(uint64, repeated, tag = "4")] domains: Vec<u64>,
    #[prost(message, repeated, tag = "5")] packages: Vec<Package>,
    #[prost(string, tag = "6")] address: String,
    #[prost(message, optional, tag = "7")] denial: Option<Denial>,
    #[prost(string, repeated, tag = "8")] allow_types: Vec<String>,
    #[prost(message, optional, tag = "9")] drained: Option<Withdrawal>,
} check |place| {
    DecodeError::check_count("Place.domains", place.domains.len(), MAX_DEPTH + 1)?;
    DecodeError::check_count("Place.packages", place.packages.len(), MAX_PACKAGES_PER_HOST)
} }
