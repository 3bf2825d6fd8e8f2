//! Keys: the pair that never leaves its host, and the half that does.

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use std::fmt;
use std::sync::Arc;

/// Most bytes of a public key (a DER SubjectPublicKeyInfo): P-256 takes 91, Ed25519 44.
pub const MAX_PUBLIC_KEY: usize = 128;

/// Why a key could not be made or read. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness, or the library refused.
    #[error("a new key could not be made; nothing was written, trying again is safe")]
    Generate(#[source] rcgen::Error),
    /// Not a private key in PKCS#8 PEM.
    #[error("this is no private key in PKCS#8 PEM; restore the file from a backup, or enrol anew")]
    Pem(#[source] rcgen::Error),
    /// Not ECDSA on P-256.
    #[error("this private key is not ECDSA on P-256, the only kind that is used here; enrol anew")]
    Algorithm,
    /// Not a P-256 or Ed25519 public key.
    #[error("this public key is neither P-256 nor Ed25519; make a new key")]
    Public,
}

/// A secret key (ECDSA on P-256) and its public half. Cloning shares the key.
#[derive(Clone)]
pub struct KeyPair(Arc<rcgen::KeyPair>);

impl KeyPair {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyError::Generate`].
    pub fn generate() -> Result<Self, KeyError> {
        let pair = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Generate)?;
        Ok(Self(Arc::new(pair)))
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// [`KeyError::Pem`], [`KeyError::Algorithm`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let pair = rcgen::KeyPair::from_pem(text).map_err(KeyError::Pem)?;
        if pair.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(KeyError::Algorithm);
        }
        Ok(Self(Arc::new(pair)))
    }

    /// The **secret** as PKCS#8 PEM, for a file with mode 0600 and nothing else.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The **secret** as PKCS#8 DER, for the TLS library and nothing else.
    pub fn expose_pkcs8(&self) -> &[u8] {
        self.0.serialized_der()
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.subject_public_key_info())
    }

    /// [`PublicKey::hash`] of the public half.
    pub fn public_key_hash(&self) -> [u8; 32] {
        self.public_key().hash()
    }

    pub(crate) fn signer(&self) -> &rcgen::KeyPair {
        &self.0
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = blake3::Hash::from(self.public_key_hash()).to_hex();
        write!(f, "KeyPair(public key {}, secret redacted)", &hash[..16])
    }
}

/// A public key of a kind that may be certified: P-256 or Ed25519, as a DER SubjectPublicKeyInfo
/// (RFC 5280, section 4.1.2.7).
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Takes a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError::Public`] for any other kind of key, and for what is no key.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        if der.len() > MAX_PUBLIC_KEY {
            return Err(KeyError::Public);
        }
        let key = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Public)?;
        let point = key.der_bytes();
        // An uncompressed point is 0x04 and two coordinates (SEC 1, section 2.3.3).
        let p256 =
            key.algorithm() == &PKCS_ECDSA_P256_SHA256 && point.len() == 65 && point.first() == Some(&4);
        let ed25519 = key.algorithm() == &rcgen::PKCS_ED25519 && point.len() == 32;
        // Written back it must be the same bytes: one key, one hash.
        if (p256 || ed25519) && key.subject_public_key_info() == der {
            return Ok(Self(der.to_vec()));
        }
        Err(KeyError::Public)
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// BLAKE3 of the DER SubjectPublicKeyInfo: names the key wherever it has to be remembered.
    pub fn hash(&self) -> [u8; 32] {
        hash_of(&self.0)
    }

    /// Whether this key's secret half has signed `message`: ECDSA with SHA-256 (RFC 5480, ASN.1) or Ed25519.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = self.for_rcgen() else { return false };
        let algorithm: &dyn VerificationAlgorithm = match key.algorithm() == &PKCS_ECDSA_P256_SHA256 {
            true => &ECDSA_P256_SHA256_ASN1,
            false => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, key.der_bytes()).verify(message, signature).is_ok()
    }

    pub(crate) fn for_rcgen(&self) -> Result<SubjectPublicKeyInfo, rcgen::Error> {
        SubjectPublicKeyInfo::from_der(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", blake3::Hash::from(self.hash()).to_hex())
    }
}

/// BLAKE3 of a DER SubjectPublicKeyInfo.
pub(crate) fn hash_of(spki: &[u8]) -> [u8; 32] {
    blake3::hash(spki).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_survives_pem_and_its_secret_stays_out_of_debug() {
        let key = KeyPair::generate().unwrap();
        let pem = key.to_pem();
        assert_eq!(KeyPair::from_pem(&pem).unwrap().public_key_hash(), key.public_key_hash());
        let shown = format!("{key:?}");
        let secret = pem.lines().nth(1).unwrap();
        assert!(!shown.contains(&secret[..8]) && shown.contains("redacted"), "{shown}");
    }

    #[test]
    fn only_p256_secret_keys_are_taken() {
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(matches!(KeyPair::from_pem(&ed25519.serialize_pem()), Err(KeyError::Algorithm)));
        assert!(matches!(KeyPair::from_pem("nonsense"), Err(KeyError::Pem(_))));
    }

    #[test]
    fn public_keys_of_both_kinds_are_taken_and_no_others() {
        let p256 = KeyPair::generate().unwrap().public_key();
        assert_eq!(PublicKey::from_der(p256.der()).unwrap(), p256);
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(PublicKey::from_der(&ed25519.subject_public_key_info()).is_ok());
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(PublicKey::from_der(&p384.subject_public_key_info()).is_err());
        let longer = [p256.der(), &[0]].concat();
        assert!(PublicKey::from_der(&longer).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_no_key_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(PublicKey::from_der(&bytes).is_err());
        }
    }
}
