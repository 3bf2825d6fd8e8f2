//! The roots that are trusted.

use crate::chain::{self, ChainError};
use crate::peer::CertificateError;
use crate::sign::read_authority;
use echelon_core::name::FrameworkName;
use echelon_core::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// Most roots at a time: the current one, its successor during a rotation, and room for a mistake.
pub const MAX_ROOTS: usize = 4;

/// Why a list of roots cannot be trusted. What was trusted before stays so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// None, or too many.
    #[error("the trust bundle has {count} roots; expected 1 to {MAX_ROOTS}")]
    Count {
        /// How many.
        count: usize,
    },
    /// One that is no root of a framework.
    #[error("root {at} of the trust bundle (0 is the first) is not usable")]
    Root {
        /// Its place, from 0.
        at: usize,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// Roots of two frameworks.
    #[error("the trust bundle has roots of two frameworks, {first} and {other}")]
    Frameworks {
        /// Of the first root.
        first: FrameworkName,
        /// Of another one.
        other: FrameworkName,
    },
    /// Not certificates in PEM.
    #[error("the trust bundle is not a list of certificates in PEM")]
    Pem(#[source] ChainError),
}

/// The roots of one framework, the current one first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<u8>>", into = "Vec<Vec<u8>>")]
pub struct TrustBundle {
    roots: Vec<Vec<u8>>,
    framework: FrameworkName,
}

impl TrustBundle {
    /// Trusts these DER certificates.
    ///
    /// # Errors
    /// None or too many, one that is no root, or roots of different frameworks.
    pub fn new(roots: Vec<Vec<u8>>) -> Result<Self, TrustError> {
        let count = roots.len();
        if count > MAX_ROOTS {
            return Err(TrustError::Count { count });
        }
        let read = |(at, der): (usize, &Vec<u8>)| {
            read_authority(der).map(|(name, ..)| name).map_err(|source| TrustError::Root { at, source })
        };
        let mut names = roots.iter().enumerate().map(read);
        let first = names.next().ok_or(TrustError::Count { count })??;
        for name in names {
            let other = name?;
            if other != first {
                return Err(TrustError::Frameworks { first, other });
            }
        }
        Ok(Self { roots, framework: first })
    }

    pub(crate) fn of_root(root: Vec<u8>, framework: FrameworkName) -> Self {
        Self { roots: vec![root], framework }
    }

    /// The roots, DER, the current one first.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// The framework they vouch for.
    pub fn framework(&self) -> &FrameworkName {
        &self.framework
    }

    /// The current root's hash, which join tokens pin.
    pub fn root_hash(&self) -> [u8; 32] {
        root_hash(self.roots.first().expect("a bundle is made with at least one root"))
    }

    /// Whether this very certificate is one of the roots.
    pub fn contains(&self, root: &[u8]) -> bool {
        self.roots.iter().any(|r| r == root)
    }

    /// When the current root expires.
    pub fn not_after(&self) -> UnixMillis {
        let last = self.roots.first().and_then(|root| read_authority(root).ok()).map(|(_, _, last)| last);
        last.expect("a bundle is made of roots that could be read")
    }

    /// The roots as PEM.
    pub fn to_pem(&self) -> String {
        chain::to_pem(&self.roots)
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// As [`Self::new`], or it is no PEM.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        Self::new(chain::from_pem(text).map_err(TrustError::Pem)?)
    }
}

impl TryFrom<Vec<Vec<u8>>> for TrustBundle {
    type Error = TrustError;
    fn try_from(roots: Vec<Vec<u8>>) -> Result<Self, TrustError> {
        Self::new(roots)
    }
}

impl From<TrustBundle> for Vec<Vec<u8>> {
    fn from(bundle: TrustBundle) -> Self {
        bundle.roots
    }
}

/// BLAKE3 of a root's DER certificate: what a join token pins.
pub fn root_hash(root: &[u8]) -> [u8; 32] {
    blake3::hash(root).into()
}

/// The framework that a DER root certificate is for.
///
/// # Errors
/// It is no root of a framework.
pub fn framework_of_root(root: &[u8]) -> Result<FrameworkName, CertificateError> {
    read_authority(root).map(|(framework, ..)| framework)
}
