//! What every certificate issued here has in common.

use crate::chain::CertificateChain;
use crate::credentials::Credentials;
use crate::key::{KeyPair, PublicKey};
use crate::lifetime::BACKDATE;
use crate::peer::{CertificateError, millis, only_uri, parse};
use crate::spiffe::{authority_uri, parse_authority_uri};
use echelon_core::name::FrameworkName;
use echelon_core::time::UnixMillis;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SanType};
use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

/// Latest time a certificate can name: the end of 9999 (RFC 5280, section 4.1.2.5).
const LATEST: UnixMillis = UnixMillis(253_402_300_799_000);

/// Longest common name, in bytes: `ub-common-name` of RFC 5280.
const MAX_COMMON_NAME: usize = 64;

/// Why a certificate was not issued. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The signing certificate has run out.
    #[error("the signing certificate has expired; nothing was issued, renew it first")]
    Expired,
    /// The system gave no randomness for a serial number.
    #[error("the system gave no random numbers; nothing was issued, trying again is safe")]
    Random,
    /// These credentials cannot sign for others.
    #[error("these credentials cannot issue certificates; use those of a root or an issuer")]
    NotAuthority(#[source] CertificateError),
    /// The library refused.
    #[error("the certificate could not be made; nothing was issued")]
    Make(#[source] rcgen::Error),
}

/// What signs certificates: a signing certificate with its key.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) credentials: Credentials,
    pub(crate) framework: FrameworkName,
    pub(crate) not_before: UnixMillis,
    pub(crate) not_after: UnixMillis,
}

impl Signer {
    pub(crate) fn new(credentials: Credentials) -> Result<Self, IssueError> {
        let der = credentials.chain().leaf();
        let (framework, not_before, not_after) = read_authority(der).map_err(IssueError::NotAuthority)?;
        Ok(Self { credentials, framework, not_before, not_after })
    }

    /// Signs `params` for `key`; the answer ends with this signer's own chain. The certificate starts
    /// [`BACKDATE`] before `now`, ends `lifetime` after it, and never outlives the signer's.
    pub(crate) fn sign(
        &self,
        mut params: CertificateParams,
        key: &PublicKey,
        lifetime: Duration,
        now: UnixMillis,
    ) -> Result<CertificateChain, IssueError> {
        if now > self.not_after {
            return Err(IssueError::Expired);
        }
        set_validity(
            &mut params,
            (now - BACKDATE).max(self.not_before),
            (now + lifetime).min(self.not_after),
        );
        params.use_authority_key_identifier_extension = true;
        let der = self.credentials.chain().leaf().to_vec().into();
        let issuer = rcgen::Issuer::from_ca_cert_der(&der, self.credentials.key().signer());
        let key = key.for_rcgen().map_err(IssueError::Make)?;
        let made = issuer.and_then(|issuer| params.signed_by(&key, &issuer)).map_err(IssueError::Make)?;
        Ok(self.credentials.chain().extended(made.der().to_vec()))
    }
}

/// A certificate that signs itself: a root.
pub(crate) fn self_sign(
    mut params: CertificateParams,
    key: &KeyPair,
    lifetime: Duration,
    now: UnixMillis,
) -> Result<Vec<u8>, IssueError> {
    set_validity(&mut params, now - BACKDATE, now + lifetime);
    Ok(params.self_signed(key.signer()).map_err(IssueError::Make)?.der().to_vec())
}

/// The fields of a signing certificate; `path` is how many signing certificates may follow it.
pub(crate) fn authority_params(
    framework: &FrameworkName,
    name: &str,
    path: u8,
) -> Result<CertificateParams, IssueError> {
    let mut params = params(&authority_uri(framework), name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Fields with one URI, a label, and a random serial number.
pub(crate) fn params(uri: &str, name: &str) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(IssueError::Make)?)];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, label(name));
    params.serial_number = Some(serial()?.to_vec().into());
    Ok(params)
}

/// The framework and the validity of a signing certificate.
pub(crate) fn read_authority(
    der: &[u8],
) -> Result<(FrameworkName, UnixMillis, UnixMillis), CertificateError> {
    let certificate = parse(der)?;
    if !certificate.is_ca() {
        return Err(CertificateError::NotAuthority);
    }
    let framework = parse_authority_uri(only_uri(&certificate)?).map_err(CertificateError::Uri)?;
    let validity = certificate.validity();
    Ok((framework, millis(validity.not_before.timestamp()), millis(validity.not_after.timestamp())))
}

fn set_validity(params: &mut CertificateParams, from: UnixMillis, to: UnixMillis) {
    let date = |t: UnixMillis| {
        // Within the years 1970 to 9999, so that this addition cannot overflow.
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(t.min(LATEST).0 / 1000)
    };
    params.not_before = date(from);
    params.not_after = date(to);
}

/// A name as a common name: printable, and cut at what the standard allows.
fn label(name: &str) -> String {
    let mut label = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        if label.len() + c.len_utf8() > MAX_COMMON_NAME {
            break;
        }
        label.push(c);
    }
    label
}

/// A positive random number of 127 bits (RFC 5280, section 4.1.2.2: at most 20 bytes, positive).
fn serial() -> Result<[u8; 16], IssueError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IssueError::Random)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_at_a_character_and_have_no_control_characters() {
        assert_eq!(label("a\u{7}b"), "ab");
        assert_eq!(label(&"ä".repeat(40)).len(), 64);
        assert_eq!(label(&format!("a{}", "ä".repeat(40))).len(), 63);
    }

    #[test]
    fn times_beyond_the_calendar_are_cut_not_a_panic() {
        let mut params = CertificateParams::default();
        set_validity(&mut params, UnixMillis(0), UnixMillis(u64::MAX));
        assert_eq!(params.not_after.year(), 9999);
    }
}
