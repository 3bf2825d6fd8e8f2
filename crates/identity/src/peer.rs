//! Who holds a certificate, read from the certificate.

use crate::chain::MAX_CERTIFICATE;
use crate::key::hash_of;
use crate::lifetime::renew_at;
use crate::spiffe::{Spiffe, SpiffeError, SpiffeId};
use echelon_core::issuer::IssuerId;
use echelon_core::name::{FrameworkName, Text};
use echelon_core::time::UnixMillis;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;
use x509_parser::prelude::FromDer;

/// Why a certificate names no party of this system. It is not to be trusted; a retry is pointless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than any that is issued here.
    #[error("the certificate has {length} bytes, more than {MAX_CERTIFICATE}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not one DER certificate.
    #[error("the certificate cannot be read")]
    Malformed,
    /// A signing certificate, which is nobody's identity.
    #[error("the certificate is a signing certificate, not an identity")]
    Authority,
    /// Not a signing certificate, where one was expected.
    #[error("the certificate is not a signing certificate")]
    NotAuthority,
    /// Not exactly one name, and that a URI (X509-SVID, section 2).
    #[error("the certificate does not have exactly one name that is a URI")]
    Names,
    /// The URI names no party.
    #[error("the certificate's URI names no party of this system")]
    Uri(#[source] SpiffeError),
    /// No enrolment number.
    #[error("the certificate has no enrolment number")]
    Enrolment,
}

/// The holder of a leaf certificate. Read from the certificate alone: whether the certificate is to be
/// trusted is decided by whoever verified its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The framework it belongs to.
    pub framework: FrameworkName,
    /// The party.
    pub subject: Spiffe,
    /// Which enrolment of that party; a denial names it. Renewals keep it, a new enrolment raises it.
    pub enrolment: u32,
    /// Start of validity.
    pub not_before: UnixMillis,
    /// Last moment of validity. No connection outlives it.
    pub not_after: UnixMillis,
    /// BLAKE3 of the public key, as [`crate::PublicKey::hash`] makes it.
    pub key_hash: [u8; 32],
    /// Who signed the certificate; none where it was read without its chain.
    pub issuer: Option<IssuerId>,
    /// What the party was called when the certificate was issued, cut at 64 bytes: for people only.
    pub name: Text,
}

impl PeerIdentity {
    /// Reads a DER certificate from anywhere.
    ///
    /// # Errors
    /// It names no party of this system, exactly as [`CertificateError`] tells.
    pub fn from_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        if certificate.is_ca() {
            return Err(CertificateError::Authority);
        }
        let SpiffeId { framework, subject } =
            only_uri(&certificate)?.parse().map_err(CertificateError::Uri)?;
        Ok(Self {
            framework,
            subject,
            enrolment: enrolment(&certificate)?,
            not_before: millis(certificate.validity().not_before.timestamp()),
            not_after: millis(certificate.validity().not_after.timestamp()),
            key_hash: hash_of(certificate.public_key().raw),
            issuer: None,
            name: common_name(&certificate),
        })
    }

    /// Reads a chain from anywhere, leaf first: as [`Self::from_certificate`], and who signed the leaf. That is the
    /// next certificate, if the leaf is signed with its key; whoever shows another in its place names nobody.
    ///
    /// # Errors
    /// The leaf names no party of this system.
    pub fn from_chain<C: AsRef<[u8]>>(chain: &[C]) -> Result<Self, CertificateError> {
        let mut chain = chain.iter().map(AsRef::as_ref);
        let leaf = chain.next().ok_or(CertificateError::Malformed)?;
        let peer = Self::from_certificate(leaf)?;
        let issuer = chain.next().and_then(|next| signed_by(leaf, next));
        Ok(Self { issuer, ..peer })
    }

    /// When this certificate is due for renewal: at half its life.
    pub fn renew_at(&self) -> UnixMillis {
        renew_at(self.not_before, self.not_after)
    }

    /// The whole identity, without the enrolment.
    pub fn spiffe_id(&self) -> SpiffeId {
        SpiffeId { framework: self.framework.clone(), subject: self.subject.clone() }
    }
}

/// The name of the issuer with this certificate, where it has signed the leaf.
fn signed_by(leaf: &[u8], issuer: &[u8]) -> Option<IssuerId> {
    let (leaf, issuer) = (parse(leaf).ok()?, parse(issuer).ok()?);
    leaf.verify_signature(Some(issuer.public_key())).ok()?;
    Some(hash_of(issuer.public_key().raw))
}

/// One whole DER certificate of bounded size.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(CertificateError::TooLong { length: der.len() });
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

/// The only subject alternative name, which must be a URI.
pub(crate) fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, CertificateError> {
    let names = certificate.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
    match names.map(|extension| extension.value.general_names.as_slice()) {
        Some([GeneralName::URI(uri)]) => Ok(uri),
        _ => Err(CertificateError::Names),
    }
}

/// Seconds since 1970 as milliseconds; times before 1970 count as 1970.
pub(crate) fn millis(seconds: i64) -> UnixMillis {
    UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

fn enrolment(certificate: &X509Certificate<'_>) -> Result<u32, CertificateError> {
    let mut numbers = certificate.subject().iter_by_oid(&OID_X509_SERIALNUMBER);
    let (Some(number), None) = (numbers.next(), numbers.next()) else {
        return Err(CertificateError::Enrolment);
    };
    let text = number.as_str().map_err(|_| CertificateError::Enrolment)?;
    text.parse().ok().filter(|n: &u32| n.to_string() == text).ok_or(CertificateError::Enrolment)
}

fn common_name(certificate: &X509Certificate<'_>) -> Text {
    let name = certificate.subject().iter_common_name().next();
    Text::lossy(name.and_then(|n| n.as_str().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, SanType};

    const URI: &str = "spiffe://acme/console/anna";

    /// A self-signed certificate with these names and subject attributes.
    fn certificate(uris: &[&str], enrolments: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())).collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "anna\u{1b}[31m");
        for number in enrolments {
            params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), *number);
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_holder_is_read_and_its_label_is_fit_for_a_terminal() {
        let peer = PeerIdentity::from_certificate(&certificate(&[URI], &["7"])).unwrap();
        assert_eq!(peer.spiffe_id().to_string(), URI);
        assert_eq!(peer.enrolment, 7);
        assert_eq!(peer.name.as_str(), "anna [31m");
    }

    #[test]
    fn anything_ambiguous_is_refused() {
        use CertificateError::{Enrolment, Names, Uri};
        let read = |uris: &[&str], numbers: &[&str]| {
            PeerIdentity::from_certificate(&certificate(uris, numbers)).unwrap_err()
        };
        assert_eq!(read(&[], &["1"]), Names);
        assert_eq!(read(&[URI, URI], &["1"]), Names);
        assert!(matches!(read(&["spiffe://acme"], &["1"]), Uri(_)));
        for bad in ["", "-1", "+1", "01", "4294967296", "x"] {
            assert_eq!(read(&[URI], &[bad]), Enrolment, "{bad:?}");
        }
        assert_eq!(read(&[URI], &[]), Enrolment);
    }

    #[test]
    fn bytes_after_the_certificate_and_huge_ones_are_refused() {
        let good = certificate(&[URI], &["1"]);
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(PeerIdentity::from_certificate(&longer), Err(CertificateError::Malformed));
        let huge = vec![0x30; MAX_CERTIFICATE + 1];
        assert!(matches!(PeerIdentity::from_certificate(&huge), Err(CertificateError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(PeerIdentity::from_certificate(&bytes).is_err());
        }

        #[test]
        fn damaged_certificates_never_panic(at in 0_usize..400, value: u8, cut in 0_usize..400) {
            let mut der = certificate(&[URI], &["1"]);
            if let Some(byte) = der.get_mut(at) {
                *byte = value;
            }
            let _ = PeerIdentity::from_certificate(&der);
            der.truncate(cut);
            let _ = PeerIdentity::from_certificate(&der);
        }
    }
}
