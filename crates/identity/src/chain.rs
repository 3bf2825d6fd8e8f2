//! A certificate and those that vouch for it.

use crate::peer::{CertificateError, PeerIdentity, millis, parse};
use crate::trust::TrustBundle;
use echelon_core::time::UnixMillis;
use pem::{EncodeConfig, LineEnding, Pem};
use x509_parser::certificate::X509Certificate;

/// Most bytes of one certificate: ours take about 600, and two names at their limits fit.
pub const MAX_CERTIFICATE: usize = 4096;

/// Most certificates in a chain: leaf, issuer, root, and one more for the time of a root's rotation.
pub const MAX_CHAIN: usize = 4;

const TAG: &str = "CERTIFICATE";

/// Why a chain cannot be taken, or is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// None, or too many.
    #[error("the chain has {count} certificates; expected 1 to {MAX_CHAIN}")]
    Count {
        /// How many.
        count: usize,
    },
    /// Not PEM, or something else than certificates in it.
    #[error("this is no list of certificates in PEM; restore the file from a backup, or enrol anew")]
    Pem,
    /// One of them cannot be read.
    #[error("certificate {at} of the chain (0 is the first) is not usable")]
    Certificate {
        /// Its place, from 0.
        at: usize,
        /// What is wrong with it.
        #[source]
        source: CertificateError,
    },
    /// Not signed by the next one, or the next one may not sign it.
    #[error("certificate {at} of the chain (0 is the first) is not signed by the next one")]
    Signature {
        /// Its place, from 0.
        at: usize,
    },
    /// Outside its validity.
    #[error(
        "certificate {at} of the chain (0 is the first) is not valid at this time; check the clock, or enrol anew"
    )]
    Time {
        /// Its place, from 0.
        at: usize,
    },
    /// It ends in a root that is not trusted.
    #[error("the chain does not end in a root that is trusted here")]
    Root,
}

/// DER certificates, each signed by the next: `leaf, issuer, root`. Of bounded length; nothing else is
/// promised until [`Self::verify`] has been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChain(Vec<Vec<u8>>);

impl CertificateChain {
    /// A chain from anywhere.
    ///
    /// # Errors
    /// Too few or too many certificates, or one that is too long.
    pub fn new(certificates: Vec<Vec<u8>>) -> Result<Self, ChainError> {
        let count = certificates.len();
        if !(1..=MAX_CHAIN).contains(&count) {
            return Err(ChainError::Count { count });
        }
        if let Some((at, long)) = certificates.iter().enumerate().find(|(_, c)| c.len() > MAX_CERTIFICATE) {
            let source = CertificateError::TooLong { length: long.len() };
            return Err(ChainError::Certificate { at, source });
        }
        Ok(Self(certificates))
    }

    pub(crate) fn single(certificate: Vec<u8>) -> Self {
        Self(vec![certificate])
    }

    pub(crate) fn extended(&self, leaf: Vec<u8>) -> Self {
        Self([leaf].into_iter().chain(self.0.iter().cloned()).collect())
    }

    /// The certificates, leaf first.
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The first certificate: the one whose key the holder has.
    pub fn leaf(&self) -> &[u8] {
        self.0.first().expect("a chain is made with at least one certificate")
    }

    /// The last certificate: the root.
    pub fn root(&self) -> &[u8] {
        self.0.last().expect("a chain is made with at least one certificate")
    }

    /// Who holds the leaf.
    ///
    /// # Errors
    /// It names no party of this system.
    pub fn peer(&self) -> Result<PeerIdentity, CertificateError> {
        PeerIdentity::from_chain(&self.0)
    }

    /// Whether every certificate is valid at `now`, signed by the next, and the last one trusted.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn verify(&self, trust: &TrustBundle, now: UnixMillis) -> Result<(), ChainError> {
        let fail = |(at, source)| ChainError::Certificate { at, source };
        let parsed = self.0.iter().enumerate().map(|(at, der)| parse(der).map_err(|e| fail((at, e))));
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = parsed.iter().position(|c| !is_valid_at(c, now)) {
            return Err(ChainError::Time { at });
        }
        let pairs = parsed.iter().zip(parsed.iter().skip(1));
        if let Some(at) = pairs.enumerate().position(|(below, (c, issuer))| !is_signed_by(c, issuer, below)) {
            return Err(ChainError::Signature { at });
        }
        if trust.contains(self.root()) { Ok(()) } else { Err(ChainError::Root) }
    }

    /// The certificates as PEM, leaf first.
    pub fn to_pem(&self) -> String {
        to_pem(&self.0)
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// It holds something else, or too much.
    pub fn from_pem(text: &str) -> Result<Self, ChainError> {
        Self::new(from_pem(text)?)
    }
}

/// Certificates as PEM.
pub(crate) fn to_pem(certificates: &[Vec<u8>]) -> String {
    let blocks: Vec<Pem> = certificates.iter().map(|der| Pem::new(TAG, der.as_slice())).collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// Certificates from PEM that holds nothing else.
pub(crate) fn from_pem(text: &str) -> Result<Vec<Vec<u8>>, ChainError> {
    let blocks = pem::parse_many(text).map_err(|_| ChainError::Pem)?;
    if blocks.iter().any(|block| block.tag() != TAG) {
        return Err(ChainError::Pem);
    }
    Ok(blocks.into_iter().map(Pem::into_contents).collect())
}

fn is_valid_at(certificate: &X509Certificate<'_>, now: UnixMillis) -> bool {
    let validity = certificate.validity();
    let [from, to] = [validity.not_before, validity.not_after].map(|t| millis(t.timestamp()));
    (from..=to).contains(&now)
}

/// Whether `issuer` may sign and did sign; `below` is how many signing certificates lie between it and
/// the leaf.
fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>, below: usize) -> bool {
    let may_sign = issuer.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
    let constraints = issuer.basic_constraints().ok().flatten();
    let deep_enough = constraints.is_some_and(|c| {
        let allowed = c.value.path_len_constraint;
        c.value.ca && allowed.is_none_or(|most| u32::try_from(below).is_ok_and(|below| below <= most))
    });
    may_sign
        && deep_enough
        && certificate.issuer() == issuer.subject()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}
