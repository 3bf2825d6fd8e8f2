//! Secrets in a file of their own, under a passphrase: what leaves a state directory to be kept elsewhere.
//!
//! A sealed text is a block in PEM. Its bytes are a version (1), the rounds of PBKDF2 (4 bytes, big endian), salt (16),
//! nonce (12), and the secret under AES-256-GCM with its tag; the key is PBKDF2-HMAC-SHA-256 of the passphrase. All that
//! stands before the nonce is authenticated, and so is what the secret is for.

use echelon_core::passphrase::Passphrase;
use pem::Pem;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use std::num::NonZeroU32;

/// What a block of sealed secrets is called in PEM.
const TAG: &str = "ECHELON SEALED SECRET";

/// Of the layout.
const VERSION: u8 = 1;

/// Rounds of PBKDF2-HMAC-SHA-256: OWASP's advice of 2023, about a third of a second of one core.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");

/// Most rounds that are worked through for a file, which anybody may have made: some seconds.
const MAX_ROUNDS: u32 = 10_000_000;

const SALT: usize = 16;

/// Version, rounds and salt.
const HEAD: usize = 1 + 4 + SALT;

const KEY: usize = 32;

/// What a secret is for: one that was sealed for something else does not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The root's key and certificate.
    Root,
    /// The keys in a backup.
    Backup,
}

impl Purpose {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Root => b"echelon root",
            Self::Backup => b"echelon backup",
        }
    }
}

/// Why nothing was sealed. Nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no randomness; nothing was sealed, trying again is safe")]
pub struct SealError;

/// Why a sealed text does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Not a block as [`seal`] makes them.
    #[error("this is no sealed secret; check that it is the right file and whole")]
    Form,
    /// A later build has made it.
    #[error("a later build has sealed this (version {0}, this build knows {VERSION}); use that build")]
    Version(u8),
    /// The passphrase is another one, or the text was changed, which cannot be told apart.
    #[error("the passphrase does not open it, or it was damaged; check both")]
    Passphrase,
}

/// The secret as text that only the passphrase opens, and only for the same purpose.
///
/// # Errors
/// The system gave no randomness.
pub fn seal(purpose: Purpose, passphrase: &Passphrase, secret: &[u8]) -> Result<String, SealError> {
    seal_with(ROUNDS, purpose, passphrase, secret)
}

fn seal_with(
    rounds: NonZeroU32,
    purpose: Purpose,
    passphrase: &Passphrase,
    secret: &[u8],
) -> Result<String, SealError> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
    random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| SealError)?;
    let head = [&[VERSION][..], &rounds.get().to_be_bytes(), &salt].concat();
    let mut sealed = secret.to_vec();
    key(rounds, &salt, passphrase)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(purpose, &head), &mut sealed)
        .map_err(|_| SealError)?;
    Ok(pem::encode(&Pem::new(TAG, [&head[..], &nonce, &sealed].concat())))
}

/// What [`seal`] was given.
///
/// # Errors
/// See [`UnsealError`].
pub fn unseal(purpose: Purpose, passphrase: &Passphrase, text: &str) -> Result<Vec<u8>, UnsealError> {
    let block = pem::parse(text).map_err(|_| UnsealError::Form)?;
    if block.tag() != TAG {
        return Err(UnsealError::Form);
    }
    let (head, rest) = block.contents().split_first_chunk::<HEAD>().ok_or(UnsealError::Form)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(UnsealError::Form)?;
    let [version, a, b, c, d, salt @ ..] = head;
    if *version != VERSION {
        return Err(UnsealError::Version(*version));
    }
    let rounds = u32::from_be_bytes([*a, *b, *c, *d]);
    let rounds = NonZeroU32::new(rounds).filter(|r| r.get() <= MAX_ROUNDS).ok_or(UnsealError::Form)?;
    let mut sealed = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let secret = key(rounds, salt, passphrase).open_in_place(nonce, aad(purpose, head), &mut sealed);
    secret.map(|secret| secret.to_vec()).map_err(|_| UnsealError::Passphrase)
}

fn key(rounds: NonZeroU32, salt: &[u8; SALT], passphrase: &Passphrase) -> LessSafeKey {
    let mut key = [0; KEY];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt, passphrase.expose().as_bytes(), &mut key);
    let key = UnboundKey::new(&AES_256_GCM, &key).expect("the key has the length of the algorithm's");
    // Less safe for who seals twice with one key: this one is of a salt of its own.
    LessSafeKey::new(key)
}

fn aad(purpose: Purpose, head: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([purpose.as_bytes(), head].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: NonZeroU32 = NonZeroU32::new(10).unwrap();

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::parse(text).unwrap()
    }

    fn sealed() -> String {
        seal_with(FEW, Purpose::Backup, &passphrase("correct horse"), b"the secret").unwrap()
    }

    fn unsealed(text: &str) -> Result<Vec<u8>, UnsealError> {
        unseal(Purpose::Backup, &passphrase("correct horse"), text)
    }

    /// The same block with its bytes changed.
    fn changed(text: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = pem::parse(text).unwrap().into_contents();
        change(&mut bytes);
        pem::encode(&Pem::new(TAG, bytes))
    }

    #[test]
    fn the_passphrase_opens_what_it_sealed_and_another_does_not() {
        let text = seal(Purpose::Backup, &passphrase("correct horse"), b"the secret").unwrap();
        assert_eq!(unsealed(&text).unwrap(), b"the secret");
        assert_eq!(
            unseal(Purpose::Backup, &passphrase("another horse"), &text),
            Err(UnsealError::Passphrase)
        );
        assert!(!text.contains("secret"));
        assert_ne!(text, seal(Purpose::Backup, &passphrase("correct horse"), b"the secret").unwrap());
    }

    #[test]
    fn what_was_sealed_for_one_purpose_does_not_open_for_another() {
        assert_eq!(
            unseal(Purpose::Root, &passphrase("correct horse"), &sealed()),
            Err(UnsealError::Passphrase)
        );
    }

    #[test]
    fn every_byte_counts() {
        let text = sealed();
        let length = pem::parse(&text).unwrap().contents().len();
        for at in (1..length).filter(|at| !(1..3).contains(at)) {
            assert!(unsealed(&changed(&text, |bytes| bytes[at] ^= 1)).is_err(), "byte {at}");
        }
        for cut in [0, HEAD - 1, HEAD + 3, length - 1] {
            assert!(unsealed(&changed(&text, |bytes| bytes.truncate(cut))).is_err(), "cut at {cut}");
        }
        assert_eq!(unsealed(&changed(&text, |bytes| bytes[0] = 2)), Err(UnsealError::Version(2)));
        assert_eq!(unsealed("nonsense"), Err(UnsealError::Form));
        assert_eq!(unsealed(&text.replace("SEALED SECRET", "OPEN SECRET")), Err(UnsealError::Form));
    }

    /// Whoever made the file may say how much work it is.
    #[test]
    fn a_file_that_would_take_hours_is_refused_at_once() {
        for rounds in [0, MAX_ROUNDS + 1, u32::MAX] {
            let text = changed(&sealed(), |bytes| bytes[1..5].copy_from_slice(&rounds.to_be_bytes()));
            assert_eq!(unsealed(&text), Err(UnsealError::Form));
        }
    }
}
