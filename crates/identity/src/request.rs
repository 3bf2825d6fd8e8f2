//! The request with which a key's holder asks for a certificate.

use crate::key::{KeyError, KeyPair, PublicKey};
use rcgen::{CertificateParams, DistinguishedName};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// Most bytes of a request: ours take about 230; other tools add attributes, which are ignored.
pub const MAX_REQUEST: usize = 4096;

/// Why a request cannot be taken or made. No certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The library refused to sign.
    #[error("the certificate request could not be signed; nothing was sent, trying again is safe")]
    Sign(#[source] rcgen::Error),
    /// Longer than any honest one.
    #[error("the certificate request has {length} bytes, more than {MAX_REQUEST}; nothing was issued")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not one DER request (RFC 2986).
    #[error("the certificate request cannot be read; nothing was issued")]
    Malformed,
    /// A key of another kind.
    #[error("the certificate request is for a key that is not certified here; nothing was issued")]
    Key(#[source] KeyError),
    /// Not signed with its own key.
    #[error("the certificate request is not signed with its own key; nothing was issued")]
    Signature,
}

/// A PKCS#10 request whose signature holds: its sender has the secret of [`Self::public_key`]. Nothing
/// else in it is ever used; the issuer decides every field of the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    der: Vec<u8>,
    public_key: PublicKey,
}

impl CertificateRequest {
    /// Asks for a certificate for `key`.
    ///
    /// # Errors
    /// [`RequestError::Sign`].
    pub fn new(key: &KeyPair) -> Result<Self, RequestError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(key.signer()).map_err(RequestError::Sign)?;
        Ok(Self { der: request.der().to_vec(), public_key: key.public_key() })
    }

    /// Takes a request from anywhere, if it is signed with the key that it names.
    ///
    /// # Errors
    /// Every [`RequestError`] but `Sign`.
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST {
            return Err(RequestError::TooLong { length: der.len() });
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(RequestError::Malformed);
        };
        // The key's kind first, so that no other kind of signature is ever computed.
        let key = PublicKey::from_der(request.certification_request_info.subject_pki.raw);
        let public_key = key.map_err(RequestError::Key)?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        Ok(Self { der: der.to_vec(), public_key })
    }

    /// The request as it travels.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key to be certified.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_carries_its_key() {
        let key = KeyPair::generate().unwrap();
        let request = CertificateRequest::new(&key).unwrap();
        let read = CertificateRequest::from_der(request.der()).unwrap();
        assert_eq!(read.public_key(), &key.public_key());
        assert_eq!(read, request);
    }

    #[test]
    fn another_keys_signature_is_refused() {
        let [a, b] = [0, 1].map(|_| KeyPair::generate().unwrap());
        let mut der = CertificateRequest::new(&a).unwrap().der().to_vec();
        // The same request with the other's public key in it: the signature no longer fits.
        let (old, new) = (a.public_key(), b.public_key());
        let at = der.windows(old.der().len()).position(|w| w == old.der()).unwrap();
        der[at..at + old.der().len()].copy_from_slice(new.der());
        assert!(matches!(CertificateRequest::from_der(&der), Err(RequestError::Signature)));
    }

    #[test]
    fn other_kinds_of_key_trailing_bytes_and_huge_requests_are_refused() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let der = CertificateParams::default().serialize_request(&p384).unwrap().der().to_vec();
        assert!(matches!(CertificateRequest::from_der(&der), Err(RequestError::Key(_))));
        let mut der = CertificateRequest::new(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        der.push(0);
        assert!(matches!(CertificateRequest::from_der(&der), Err(RequestError::Malformed)));
        let huge = vec![0x30; MAX_REQUEST + 1];
        assert!(matches!(CertificateRequest::from_der(&huge), Err(RequestError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn damaged_requests_never_panic(at in 0_usize..230, value: u8, cut in 0_usize..230) {
            let mut der = CertificateRequest::new(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            if let Some(byte) = der.get_mut(at) {
                *byte = value;
            }
            let _ = CertificateRequest::from_der(&der);
            der.truncate(cut);
            prop_assert!(CertificateRequest::from_der(&der).is_err() || cut >= der.len());
        }
    }
}
