//! The root of a framework's trust.

use crate::chain::CertificateChain;
use crate::credentials::Credentials;
use crate::issuer::Issuer;
use crate::key::{KeyError, KeyPair, PublicKey};
use crate::lifetime;
use crate::sign::{IssueError, Signer, authority_params, self_sign};
use crate::trust::TrustBundle;
use echelon_core::id::HostId;
use echelon_core::name::FrameworkName;
use echelon_core::time::UnixMillis;

/// Why there is no new authority, or no new issuer. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// No key for it.
    #[error("the authority's key could not be made; nothing was written")]
    Key(#[source] KeyError),
    /// No certificate for it.
    #[error("the authority's certificate could not be made; nothing was written")]
    Issue(#[from] IssueError),
}

/// The root: a key and its self-signed certificate. Needed only to add managers and to rotate; managers
/// issue and renew everything else through their own [`Issuer`].
#[derive(Clone, Debug)]
pub struct Authority(Signer);

impl Authority {
    /// A new root of `framework`, valid for [`lifetime::ROOT`].
    ///
    /// # Errors
    /// No randomness, or the library refused.
    pub fn create(framework: &FrameworkName, now: UnixMillis) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Key)?;
        let params = authority_params(framework, &format!("{framework} authority"), 1)?;
        let chain = CertificateChain::single(self_sign(params, &key, lifetime::ROOT, now)?);
        Ok(Self::from_credentials(Credentials::of_own_key(key, chain))?)
    }

    /// An authority read back from where it was kept.
    ///
    /// # Errors
    /// These are not the credentials of a signing certificate.
    pub fn from_credentials(credentials: Credentials) -> Result<Self, IssueError> {
        Signer::new(credentials).map(Self)
    }

    /// Key and certificate, to be kept in a file with mode 0600.
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    /// The framework whose root this is.
    pub fn framework(&self) -> &FrameworkName {
        &self.0.framework
    }

    /// The root's certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        self.0.credentials.chain().leaf()
    }

    /// Last moment of validity.
    pub fn not_after(&self) -> UnixMillis {
        self.0.not_after
    }

    /// The bundle in which this root is the only one.
    pub fn trust(&self) -> TrustBundle {
        TrustBundle::of_root(self.certificate().to_vec(), self.framework().clone())
    }

    /// A new issuer for the manager on `host`, with a key of its own, valid for [`lifetime::ISSUER`].
    ///
    /// # Errors
    /// The root has expired, or the library refused.
    pub fn issue_intermediate(&self, host: HostId, now: UnixMillis) -> Result<Issuer, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Key)?;
        let chain = self.certify_issuer(host, &key.public_key(), now)?;
        Ok(Issuer::from_credentials(Credentials::of_own_key(key, chain))?)
    }

    /// The chain of an issuer whose key was made elsewhere, as by a manager that joins.
    ///
    /// # Errors
    /// The root has expired, or the library refused.
    pub fn certify_issuer(
        &self,
        host: HostId,
        key: &PublicKey,
        now: UnixMillis,
    ) -> Result<CertificateChain, IssueError> {
        let params = authority_params(self.framework(), &format!("issuer {host}"), 0)?;
        self.0.sign(params, key, lifetime::ISSUER, now)
    }
}
