//! What a registry manager signs certificates with.

use crate::chain::CertificateChain;
use crate::credentials::Credentials;
use crate::key::PublicKey;
use crate::sign::{IssueError, Signer, params};
use crate::spiffe::{Spiffe, SpiffeId};
use echelon_core::issuer::IssuerId;
use echelon_core::name::FrameworkName;
use echelon_core::time::UnixMillis;
use rcgen::{DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use std::time::Duration;

/// X.520 `serialNumber`, in which the enrolment number stands.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// What a leaf certificate is to say; the manager decides every part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// The party.
    pub subject: &'a Spiffe,
    /// What people call it; a label, cut at 64 bytes.
    pub name: &'a str,
    /// Which enrolment of that party.
    pub enrolment: u32,
    /// How long it lives from now; [`Spiffe::lifetime`] unless there is a reason.
    pub lifetime: Duration,
}

/// One manager's signing certificate with its key, signed by the root. Issues and renews the
/// certificates of hosts, managers and consoles.
#[derive(Clone, Debug)]
pub struct Issuer(Signer);

impl Issuer {
    /// An issuer read back from where it was kept.
    ///
    /// # Errors
    /// These are not the credentials of a signing certificate.
    pub fn from_credentials(credentials: Credentials) -> Result<Self, IssueError> {
        Signer::new(credentials).map(Self)
    }

    /// Key and chain (issuer, root), to be kept in a file with mode 0600.
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    /// The framework it issues for.
    pub fn framework(&self) -> &FrameworkName {
        &self.0.framework
    }

    /// Its name in the registry.
    pub fn id(&self) -> IssuerId {
        self.0.credentials.key().public_key().hash()
    }

    /// Last moment of validity.
    pub fn not_after(&self) -> UnixMillis {
        self.0.not_after
    }

    /// The chain (leaf, issuer, root) of a new certificate for `key`. It starts an hour before `now` and
    /// never outlives this issuer.
    ///
    /// # Errors
    /// The issuer has expired, there is no randomness, or the library refused.
    pub fn issue(
        &self,
        leaf: &Leaf<'_>,
        key: &PublicKey,
        now: UnixMillis,
    ) -> Result<CertificateChain, IssueError> {
        let id = SpiffeId { framework: self.framework().clone(), subject: leaf.subject.clone() };
        let mut params = params(&id.to_string(), leaf.name)?;
        let number = leaf.enrolment.to_string().as_str().try_into().map_err(IssueError::Make)?;
        let serial_number = DnType::CustomDnType(SERIAL_NUMBER.to_vec());
        params.distinguished_name.push(serial_number, DnValue::PrintableString(number));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes(leaf.subject);
        self.0.sign(params, key, leaf.lifetime, now)
    }
}

/// Only managers serve; everybody connects.
fn purposes(subject: &Spiffe) -> Vec<ExtendedKeyUsagePurpose> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    match subject {
        Spiffe::Manager(_) => vec![ServerAuth, ClientAuth],
        Spiffe::Host(_) | Spiffe::Console(_) => vec![ClientAuth],
    }
}
