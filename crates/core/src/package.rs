//! Packages on hosts.

use crate::check::Check;
use crate::endpoint::{Address, Endpoint};
use crate::fencing::Fencing;
use crate::id::{HostId, RequestId};
use crate::limits::{MAX_PRIORITY, MAX_WEIGHT};
use crate::name::{ManagerType, Text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU16;

/// Default of [`Package::priority`].
pub const DEFAULT_PRIORITY: u32 = 100;
/// Default of [`Package::weight`].
pub const DEFAULT_WEIGHT: u32 = 1;

/// Where a package listens. With an endpoint of its own or a port it is a manager.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listens {
    /// Nowhere: inventory only.
    #[default]
    Nowhere,
    /// On this port of the host's address (of its name, where it has no address).
    Port(NonZeroU16),
    /// At this endpoint.
    At(Endpoint),
}

/// Who of the managers of a type may write. Says nothing about who is nearest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The one primary of its type.
    Primary,
    /// Any other manager of its type.
    Backup,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// Something of one type on one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Package {
    /// The host.
    pub host: HostId,
    /// The type; at most one package per host and type.
    pub ty: ManagerType,
    /// Where it listens.
    pub listens: Listens,
    /// Lower is preferred inside a tier; 0 to [`MAX_PRIORITY`].
    pub priority: u32,
    /// Its share of the hosts inside a tier and priority; 0 comes after all others; to [`MAX_WEIGHT`].
    pub weight: u32,
    /// The operator wants it to serve nothing, perhaps for a reason.
    pub withdrawn: Option<Withdrawal>,
    /// Its role; none for inventory.
    pub role: Option<Role>,
    /// The number under which it is primary. Backups have none, nor has a primary whose edit is not committed yet.
    pub fencing: Option<Fencing>,
    /// The installed version, as the operator or the host recorded it.
    pub version: Option<Text>,
    /// How its own host's agent checks it.
    pub check: Check,
    /// What its host says of it; none where only the operator has.
    pub host_side: Option<HostSide>,
}

/// What a host says of a package of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostSide {
    /// The number of its newest announcement.
    pub number: RequestId,
    /// Whether it announced the package itself: port, version and check are its own to say. Else it has only
    /// withdrawn what the operator recorded.
    pub announced: bool,
    /// The host wants it to serve nothing.
    pub withdrawn: bool,
}

/// An operator's wish that a package serves nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Why, for people.
    pub reason: Option<Text>,
}

impl Withdrawal {
    /// In words, where it is all of the host that is drained.
    pub fn of_host(&self) -> String {
        match &self.reason {
            None => "host drained".into(),
            Some(reason) => format!("host drained: {reason}"),
        }
    }
}

impl Package {
    /// Whether it listens somewhere, and so can be routed to.
    pub fn is_manager(&self) -> bool {
        self.listens != Listens::Nowhere
    }

    /// Whether either side, operator or host, wants it to serve nothing.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.is_some() || self.is_withdrawn_by_host()
    }

    /// Whether its own host wants it to serve nothing.
    pub fn is_withdrawn_by_host(&self) -> bool {
        self.host_side.is_some_and(|side| side.withdrawn)
    }

    /// Whether its host announced it itself.
    pub fn is_announced(&self) -> bool {
        self.host_side.is_some_and(|side| side.announced)
    }

    /// Its role as far as it may act on it: a primary without a number is none yet.
    pub fn settled_role(&self) -> Option<Role> {
        self.role.filter(|role| *role != Role::Primary || self.fencing.is_some())
    }

    /// Where it listens, given its host's address; none for inventory.
    pub fn endpoint(&self, host: &Address) -> Option<Endpoint> {
        match &self.listens {
            Listens::Nowhere => None,
            Listens::Port(port) => Some(Endpoint { address: host.clone(), port: *port }),
            Listens::At(endpoint) => Some(endpoint.clone()),
        }
    }
}

/// Checks that `value` can be a priority.
///
/// # Errors
/// It is above [`MAX_PRIORITY`].
pub fn check_priority(value: u32) -> Result<u32, NumberError> {
    NumberError::check("priority", value.into(), 0, MAX_PRIORITY.into()).map(|()| value)
}

/// Checks that `value` can be a weight.
///
/// # Errors
/// It is above [`MAX_WEIGHT`].
pub fn check_weight(value: u32) -> Result<u32, NumberError> {
    NumberError::check("weight", value.into(), 0, MAX_WEIGHT.into()).map(|()| value)
}

/// A number outside its range. Nothing was changed; a retry is pointless.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} {value} is out of range: use {least} to {most}")]
pub struct NumberError {
    /// What the number is.
    pub what: &'static str,
    /// The number.
    pub value: u64,
    /// The least allowed.
    pub least: u64,
    /// The most allowed.
    pub most: u64,
}

impl NumberError {
    /// Refuses a `value` outside `least..=most`.
    ///
    /// # Errors
    /// It lies outside.
    pub fn check(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), Self> {
        if (least..=most).contains(&value) { Ok(()) } else { Err(Self { what, value, least, most }) }
    }
}
