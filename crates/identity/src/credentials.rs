//! A key together with the chain that certifies it.

use crate::chain::{CertificateChain, ChainError};
use crate::key::{KeyError, KeyPair, hash_of};
use crate::peer::{CertificateError, PeerIdentity, parse};

/// First line of a certificate in PEM, where the key ends and the chain begins.
const CHAIN_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

/// Why a key and a chain are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No usable key.
    #[error("the credentials hold no usable key")]
    Key(#[source] KeyError),
    /// No usable chain.
    #[error("the credentials hold no usable chain of certificates")]
    Chain(#[source] ChainError),
    /// The leaf cannot be read.
    #[error("the certificate of these credentials cannot be used")]
    Certificate(#[from] CertificateError),
    /// The key is not the one that the leaf certifies.
    #[error("the certificate is for another key; restore both from one backup, or enrol anew")]
    Mismatch,
}

/// A secret key and the chain whose first certificate is for it.
#[derive(Clone, Debug)]
pub struct Credentials {
    key: KeyPair,
    chain: CertificateChain,
}

impl Credentials {
    /// Puts the two together.
    ///
    /// # Errors
    /// The chain's first certificate is for another key.
    pub fn new(key: KeyPair, chain: CertificateChain) -> Result<Self, CredentialsError> {
        let certified = hash_of(parse(chain.leaf())?.public_key().raw);
        if certified != key.public_key_hash() {
            return Err(CredentialsError::Mismatch);
        }
        Ok(Self { key, chain })
    }

    /// For a chain that was just made for this very key.
    pub(crate) fn of_own_key(key: KeyPair, chain: CertificateChain) -> Self {
        Self { key, chain }
    }

    /// The key.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// Who these credentials are for.
    ///
    /// # Errors
    /// They are a root's or an issuer's, which are nobody's identity.
    pub fn peer(&self) -> Result<PeerIdentity, CertificateError> {
        self.chain.peer()
    }

    /// Key and chain in one text, so that one write replaces both. Holds the **secret**.
    pub fn to_pem(&self) -> String {
        format!("{}{}", self.key.to_pem(), self.chain.to_pem())
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// Key or chain is not usable, or they do not belong together.
    pub fn from_pem(text: &str) -> Result<Self, CredentialsError> {
        let (key, chain) = text.split_at(text.find(CHAIN_BEGINS).unwrap_or(text.len()));
        let key = KeyPair::from_pem(key).map_err(CredentialsError::Key)?;
        let chain = CertificateChain::from_pem(chain).map_err(CredentialsError::Chain)?;
        Self::new(key, chain)
    }
}
