//! Identities that never change, as opposed to names, which may.

use crate::name::{NameError, NameProblem};
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                Uuid::try_parse(value).map(Self).map_err(|_| NameError::new($what, value, NameProblem::Uuid))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_type!(
    /// A host, whatever it is called and wherever it is moved. Stands in its certificate.
    HostId, "host id"
);
uuid_type!(
    /// One edit, as its sender named it (UUIDv7). Sending it again has no second effect.
    RequestId, "request id"
);
uuid_type!(
    /// One chain of registry states; a forced promotion or a restore begins a new one.
    Lineage, "lineage"
);
uuid_type!(
    /// A join token, without its secret.
    TokenId, "token id"
);

impl RequestId {
    /// When the id was made, by the clock of its maker; none where it is no UUIDv7 (RFC 9562).
    pub fn made_at(self) -> Option<UnixMillis> {
        (self.0.get_version_num() == 7).then(|| UnixMillis((self.0.as_u128() >> 80) as u64))
    }
}

/// A domain, whatever it is called and wherever it is moved. Given out by the registry in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DomainId(pub u64);

impl DomainId {
    /// The root, `/`.
    pub const ROOT: Self = Self(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_tells_when_it_was_made() {
        let id: RequestId = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        assert_eq!(id.made_at(), Some(UnixMillis(0x017f_22e2_79b0)));
        let random: RequestId = "c1f2b2a0-0000-4000-8000-000000000000".parse().unwrap();
        assert_eq!(random.made_at(), None);
    }
}
