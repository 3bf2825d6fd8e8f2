//! How single values of core travel in the fields of messages.

use crate::error::DecodeError;
use echelon_core::check::{CheckText, HttpStatus};
use echelon_core::digest::Digest;
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::fencing::Fencing;
use echelon_core::id::{DomainId, HostId, Lineage, RequestId, TokenId};
use echelon_core::name::{
    AlarmName, ConsoleName, DomainName, DomainPath, FrameworkName, HostName, HttpHost, ManagerType,
    ServiceName, Text, UrlPath,
};
use echelon_core::package::NumberError;
use echelon_core::policy::TypeSelector;
use echelon_core::report::Down;
use echelon_core::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::time::Duration;
use uuid::Uuid;

/// A value of core that travels as a `P`.
pub(crate) trait Field<P>: Sized {
    /// As it travels.
    fn pack(&self) -> P;

    /// From what came. `at` names message and field in errors.
    fn unpack(packed: P, at: &'static str) -> Result<Self, DecodeError>;
}

macro_rules! as_they_are {
    ($($ty:ty),*) => {$(
        impl Field<$ty> for $ty {
            fn pack(&self) -> $ty {
                self.clone()
            }

            fn unpack(packed: $ty, _: &'static str) -> Result<Self, DecodeError> {
                Ok(packed)
            }
        }
    )*};
}
as_they_are!(u32, u64, bool, String, Vec<u8>);

/// Texts that core parses. None of them can be empty, so that an empty one is a missing one.
macro_rules! names {
    ($($ty:ty),*) => {$(
        impl Field<String> for $ty {
            fn pack(&self) -> String {
                self.to_string()
            }

            fn unpack(packed: String, at: &'static str) -> Result<Self, DecodeError> {
                if packed.is_empty() {
                    return Err(DecodeError::Missing { at });
                }
                packed.parse().map_err(|source| DecodeError::Name { at, source })
            }
        }
    )*};
}
names!(
    HostName,
    DomainName,
    ManagerType,
    FrameworkName,
    AlarmName,
    ConsoleName,
    DomainPath,
    Address,
    Endpoint,
    TypeSelector,
    Down,
    UrlPath,
    HttpHost,
    ServiceName
);

/// Texts that may be empty.
macro_rules! texts {
    ($($ty:ty),*) => {$(
        impl Field<String> for $ty {
            fn pack(&self) -> String {
                self.as_str().to_owned()
            }

            fn unpack(packed: String, at: &'static str) -> Result<Self, DecodeError> {
                packed.try_into().map_err(|source| DecodeError::Name { at, source })
            }
        }
    )*};
}
texts!(Text, CheckText);

macro_rules! uuids {
    ($($ty:ident),*) => {$(
        impl Field<Vec<u8>> for $ty {
            fn pack(&self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }

            fn unpack(packed: Vec<u8>, at: &'static str) -> Result<Self, DecodeError> {
                exactly(packed, at).map(|bytes| Self(Uuid::from_bytes(bytes)))
            }
        }
    )*};
}
uuids!(HostId, RequestId, Lineage, TokenId);

macro_rules! numbers {
    ($($ty:ident),*) => {$(
        impl Field<u64> for $ty {
            fn pack(&self) -> u64 {
                self.0
            }

            fn unpack(packed: u64, _: &'static str) -> Result<Self, DecodeError> {
                Ok(Self(packed))
            }
        }
    )*};
}
numbers!(DomainId, UnixMillis);

fn exactly<const N: usize>(bytes: Vec<u8>, at: &'static str) -> Result<[u8; N], DecodeError> {
    match bytes.len() {
        0 => Err(DecodeError::Missing { at }),
        found => bytes.try_into().map_err(|_| DecodeError::Length { at, expected: N, found }),
    }
}

impl Field<Vec<u8>> for [u8; 32] {
    fn pack(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn unpack(packed: Vec<u8>, at: &'static str) -> Result<Self, DecodeError> {
        exactly(packed, at)
    }
}

impl Field<Vec<u8>> for Digest {
    fn pack(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    fn unpack(packed: Vec<u8>, at: &'static str) -> Result<Self, DecodeError> {
        exactly(packed, at).map(Self::from_bytes)
    }
}

impl Field<u32> for NonZeroU16 {
    fn pack(&self) -> u32 {
        self.get().into()
    }

    fn unpack(packed: u32, at: &'static str) -> Result<Self, DecodeError> {
        u16::try_from(packed).ok().and_then(Self::new).ok_or_else(|| DecodeError::Number {
            at,
            source: NumberError { what: "port", value: packed.into(), least: 1, most: u16::MAX.into() },
        })
    }
}

impl Field<u64> for Fencing {
    fn pack(&self) -> u64 {
        (*self).into()
    }

    fn unpack(packed: u64, at: &'static str) -> Result<Self, DecodeError> {
        packed.try_into().map_err(|source| DecodeError::Number { at, source })
    }
}

impl Field<u32> for HttpStatus {
    fn pack(&self) -> u32 {
        (*self).into()
    }

    fn unpack(packed: u32, at: &'static str) -> Result<Self, DecodeError> {
        packed.try_into().map_err(|source| DecodeError::Number { at, source })
    }
}

/// In nanoseconds, which is exact: a setting must not change on its way, or digests would differ. What
/// 64 bits cannot hold (584 years) becomes the most they can; no setting and no age comes near it.
impl Field<u64> for Duration {
    fn pack(&self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn unpack(packed: u64, _: &'static str) -> Result<Self, DecodeError> {
        Ok(Self::from_nanos(packed))
    }
}

impl<P, C: Field<P>> Field<Option<P>> for Option<C> {
    fn pack(&self) -> Option<P> {
        self.as_ref().map(C::pack)
    }

    fn unpack(packed: Option<P>, at: &'static str) -> Result<Self, DecodeError> {
        packed.map(|p| C::unpack(p, at)).transpose()
    }
}

impl<P, C: Field<P>> Field<Vec<P>> for Vec<C> {
    fn pack(&self) -> Vec<P> {
        self.iter().map(C::pack).collect()
    }

    fn unpack(packed: Vec<P>, at: &'static str) -> Result<Self, DecodeError> {
        packed.into_iter().map(|p| C::unpack(p, at)).collect()
    }
}

impl<P, C: Field<P> + Ord> Field<Vec<P>> for BTreeSet<C> {
    fn pack(&self) -> Vec<P> {
        self.iter().map(C::pack).collect()
    }

    fn unpack(packed: Vec<P>, at: &'static str) -> Result<Self, DecodeError> {
        packed.into_iter().map(|p| C::unpack(p, at)).collect()
    }
}

impl<P, K: Field<String> + Ord, C: Field<P>> Field<BTreeMap<String, P>> for BTreeMap<K, C> {
    fn pack(&self) -> BTreeMap<String, P> {
        self.iter().map(|(key, value)| (key.pack(), value.pack())).collect()
    }

    fn unpack(packed: BTreeMap<String, P>, at: &'static str) -> Result<Self, DecodeError> {
        packed.into_iter().map(|(key, value)| Ok((K::unpack(key, at)?, C::unpack(value, at)?))).collect()
    }
}

/// Large kinds are boxed, so that a list of many small or empty messages takes little memory.
impl<P, C: Field<P>> Field<Box<P>> for C {
    fn pack(&self) -> Box<P> {
        Box::new(self.pack())
    }

    fn unpack(packed: Box<P>, at: &'static str) -> Result<Self, DecodeError> {
        C::unpack(*packed, at)
    }
}
