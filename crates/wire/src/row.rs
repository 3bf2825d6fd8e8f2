//! The registry's content as rows, and the journal's entries.

use crate::access::{Denial, Identity, Issuer, Subject, Token};
use crate::error::DecodeError;
use crate::field::Field;
use crate::grant::SyncRule;
use crate::package::Package;
use crate::policy::Policy;
use echelon_core::id::DomainId;
use echelon_core::name::DomainName;
use echelon_core::{position, row};

message! { position::Position => Position {
    #[prost(bytes = "vec", tag = "1")] lineage: Vec<u8>,
    #[prost(uint64, tag = "2")] epoch: u64,
    #[prost(uint64, tag = "3")] revision: u64,
} }

message! { row::Meta => Meta {
    #[prost(string, tag = "1")] framework: String,
    #[prost(uint64, tag = "2")] next_domain: u64,
    #[prost(bytes = "vec", repeated, tag = "3")] trust: Vec<Vec<u8>>,
    #[prost(uint64, optional, tag = "4")] emptied: Option<u64>,
    #[prost(message, optional, tag = "5")] sync: Option<SyncRule>,
} }

message! { row::Domain => Domain {
    #[prost(uint64, tag = "1")] id: u64,
    #[prost(message, optional, tag = "2")] place: Option<DomainPlace>,
} }

/// A domain's parent, and its name there.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DomainPlace {
    #[prost(uint64, tag = "1")]
    parent: u64,
    #[prost(string, tag = "2")]
    name: String,
}

impl Field<DomainPlace> for (DomainId, DomainName) {
    fn pack(&self) -> DomainPlace {
        DomainPlace { parent: self.0.pack(), name: self.1.pack() }
    }

    fn unpack(packed: DomainPlace, _: &'static str) -> Result<Self, DecodeError> {
        Ok((DomainId(packed.parent), Field::unpack(packed.name, "DomainPlace.name")?))
    }
}

message! { row::Host => Host {
    #[prost(bytes = "vec", tag = "1")] id: Vec<u8>,
    #[prost(string, tag = "2")] name: String,
    #[prost(uint64, tag = "3")] domain: u64,
    #[prost(string, optional, tag = "4")] address: Option<String>,
    #[prost(message, optional, tag = "5")] drained: Option<Drain>,
} }

message! { row::Drain => Drain {
    #[prost(uint64, optional, tag = "1")] until: Option<u64>,
    #[prost(string, optional, tag = "2")] reason: Option<String>,
} }

choice! { row::Row => Row, RowKind ("RowKind", "1, 2, 3, 4, 5, 6, 7, 8, 9")
    unit {}
    value {
        #[prost(message, tag = "1")] Meta(Box<Meta>),
        #[prost(message, tag = "2")] Domain(Box<Domain>),
        #[prost(message, tag = "3")] Host(Box<Host>),
        #[prost(message, tag = "4")] Package(Box<Package>),
        #[prost(message, tag = "5")] Policy(Box<Policy>),
        #[prost(message, tag = "6")] Identity(Box<Identity>),
        #[prost(message, tag = "7")] Denial(Box<Denial>),
        #[prost(message, tag = "8")] Token(Box<Token>),
        #[prost(message, tag = "9")] Issuer(Box<Issuer>),
    }
    record {}
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RowKey {
    #[prost(oneof = "RowKeyKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    kind: Option<RowKeyKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum RowKeyKind {
    #[prost(message, tag = "1")]
    Meta(()),
    #[prost(uint64, tag = "2")]
    Domain(u64),
    #[prost(bytes = "vec", tag = "3")]
    Host(Vec<u8>),
    #[prost(message, tag = "4")]
    Package(PackageKey),
    #[prost(message, tag = "5")]
    Policy(PolicyKey),
    #[prost(message, tag = "6")]
    Identity(Subject),
    #[prost(message, tag = "7")]
    Denial(Subject),
    #[prost(bytes = "vec", tag = "8")]
    Token(Vec<u8>),
    #[prost(bytes = "vec", tag = "9")]
    Issuer(Vec<u8>),
}

/// A package's host and type.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PackageKey {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) host: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) ty: String,
}

/// A policy's domain and type.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PolicyKey {
    #[prost(uint64, tag = "1")]
    pub(crate) domain: u64,
    #[prost(string, tag = "2")]
    pub(crate) ty: String,
}

impl Field<RowKey> for row::RowKey {
    fn pack(&self) -> RowKey {
        let kind = match self {
            Self::Meta => RowKeyKind::Meta(()),
            Self::Domain(id) => RowKeyKind::Domain(id.pack()),
            Self::Host(id) => RowKeyKind::Host(id.pack()),
            Self::Package(host, ty) => RowKeyKind::Package(PackageKey { host: host.pack(), ty: ty.pack() }),
            Self::Policy(domain, ty) => {
                RowKeyKind::Policy(PolicyKey { domain: domain.pack(), ty: ty.pack() })
            }
            Self::Identity(subject) => RowKeyKind::Identity(subject.pack()),
            Self::Denial(subject) => RowKeyKind::Denial(subject.pack()),
            Self::Token(id) => RowKeyKind::Token(id.pack()),
            Self::Issuer(id) => RowKeyKind::Issuer(id.pack()),
        };
        RowKey { kind: Some(kind) }
    }

    fn unpack(packed: RowKey, _: &'static str) -> Result<Self, DecodeError> {
        Ok(match packed.kind.ok_or(DecodeError::UnknownKind { message: "RowKey" })? {
            RowKeyKind::Meta(()) => Self::Meta,
            RowKeyKind::Domain(id) => Self::Domain(DomainId(id)),
            RowKeyKind::Host(id) => Self::Host(Field::unpack(id, "RowKey.Host")?),
            RowKeyKind::Package(key) => Self::Package(
                Field::unpack(key.host, "PackageKey.host")?,
                Field::unpack(key.ty, "PackageKey.ty")?,
            ),
            RowKeyKind::Policy(key) => {
                Self::Policy(DomainId(key.domain), Field::unpack(key.ty, "PolicyKey.ty")?)
            }
            RowKeyKind::Identity(subject) => Self::Identity(Field::unpack(subject, "RowKey.Identity")?),
            RowKeyKind::Denial(subject) => Self::Denial(Field::unpack(subject, "RowKey.Denial")?),
            RowKeyKind::Token(id) => Self::Token(Field::unpack(id, "RowKey.Token")?),
            RowKeyKind::Issuer(id) => Self::Issuer(Field::unpack(id, "RowKey.Issuer")?),
        })
    }
}

required!(row::RowKey, RowKey);

message! { row::RowChange => RowChange {
    #[prost(message, optional, tag = "1")] key: Option<RowKey>,
    #[prost(message, optional, tag = "2")] before: Option<Row>,
    #[prost(message, optional, tag = "3")] after: Option<Row>,
} check |change| {
    let fits = |row: &Option<row::Row>| row.as_ref().is_none_or(|row| row.key() == change.key);
    let something = change.before.is_some() || change.after.is_some();
    (something && fits(&change.before) && fits(&change.after))
        .then_some(())
        .ok_or(DecodeError::Key { at: "RowChange" })
} }

choice! { row::Actor => Actor, ActorKind ("ActorKind", "1, 2, 3, 4")
    unit {}
    value {
        #[prost(string, tag = "1")] Console(String),
        #[prost(string, tag = "2")] Agent(String),
        #[prost(string, tag = "3")] Manager(String),
        #[prost(bytes = "vec", tag = "4")] Token(Vec<u8>),
    }
    record {}
}

message! { row::Commit => Commit {
    #[prost(message, optional, tag = "1")] position: Option<Position>,
    #[prost(uint64, tag = "2")] at: u64,
    #[prost(message, optional, tag = "3")] actor: Option<Actor>,
    #[prost(bytes = "vec", tag = "4")] request: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")] content: Vec<u8>,
    #[prost(message, repeated, tag = "6")] rows: Vec<RowChange>,
    #[prost(uint64, tag = "7")] served: u64,
    #[prost(bool, tag = "8")] shrinks: bool,
    #[prost(bool, tag = "10")] alone: bool,
    #[prost(string, optional, tag = "9")] from: Option<String>,
} }
