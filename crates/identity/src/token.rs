//! Join tokens: the one secret that a new host is given.

use echelon_core::id::TokenId;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// What every token begins with; the digit is the format's number.
const PREFIX: &str = "ech1.";

/// Bytes of a token as text: the prefix, a UUID, a secret and a pin in hexadecimal, two dots.
const LENGTH: usize = PREFIX.len() + 32 + 1 + 64 + 1 + 64;

/// Separates hashes of token secrets from every other use of BLAKE3.
const HASH_CONTEXT: &str = "echelon 2026 join token secret v1";

/// Shortest run after the prefix that is taken for part of a token: longer than any version or file name
/// that might begin with the prefix by chance.
const TELLING_LENGTH: usize = 16;

/// Why a text is no join token. It never repeats any part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Does not begin as tokens do.
    #[error(
        "this is no join token: it does not begin with \"{PREFIX}\"; copy it whole, as `token create` printed it"
    )]
    Prefix,
    /// Cut, or with something added.
    #[error(
        "the join token has {length} characters instead of {LENGTH}; copy it whole, as `token create` printed it"
    )]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// Not three parts.
    #[error(
        "the join token does not have the parts id, secret and pin; copy it whole, as `token create` printed it"
    )]
    Parts,
    /// One part is damaged.
    #[error("the join token's {0} is damaged; copy it whole, as `token create` printed it")]
    Part(&'static str),
    /// The system gave no randomness.
    #[error("the system gave no random numbers; no token was made, trying again is safe")]
    Random,
}

/// The secret part of a token. Compared only by hash, and never shown by Debug.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret([u8; 32]);

impl TokenSecret {
    /// The bytes themselves, for the one frame that proves possession.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the registry keeps in place of the secret.
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key(HASH_CONTEXT, &self.0)
    }

    /// Whether `stored` is this secret's hash, in a time that does not depend on how much of it fits.
    pub fn matches(&self, stored: &[u8; 32]) -> bool {
        // blake3::Hash compares in constant time; arrays do not.
        blake3::Hash::from(self.hash()) == blake3::Hash::from(*stored)
    }
}

impl From<[u8; 32]> for TokenSecret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(redacted)")
    }
}

/// Which token, its secret, and the root it makes its holder trust: `ech1.<id>.<secret>.<pin>`. Display
/// and Debug leave the secret out; only [`Self::expose`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its name, which is no secret.
    pub id: TokenId,
    /// Proof that its holder was given it.
    pub secret: TokenSecret,
    /// BLAKE3 of the root certificate's DER, as [`crate::trust::root_hash`] makes it.
    pub pin: [u8; 32],
}

impl JoinToken {
    /// A new token that pins the root with this hash; its id is a UUIDv4.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub fn generate(pin: [u8; 32]) -> Result<Self, TokenError> {
        let (mut id, mut secret) = ([0; 16], [0; 32]);
        let random = SystemRandom::new();
        random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| TokenError::Random)?;
        let id = uuid::Builder::from_random_bytes(id).into_uuid();
        Ok(Self { id: TokenId(id), secret: TokenSecret(secret), pin })
    }

    /// The whole token, **secret included**: to hand over, never to log.
    pub fn expose(&self) -> String {
        let hex = |bytes: &[u8; 32]| blake3::Hash::from(*bytes).to_hex();
        format!("{PREFIX}{}.{}.{}", self.id.0.simple(), hex(&self.secret.0), hex(&self.pin))
    }

    /// Reads what [`Self::expose`] wrote; white space around it is ignored, as files end in a newline.
    ///
    /// # Errors
    /// Every [`TokenError`] but `Random`.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if text.len() != LENGTH {
            return Err(TokenError::Length { length: text.len() });
        }
        let mut parts = rest.split('.');
        let (Some(id), Some(secret), Some(pin), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Parts);
        };
        let id = Uuid::try_parse(id).ok().filter(|_| id.len() == 32).ok_or(TokenError::Part("id"))?;
        Ok(Self { id: TokenId(id), secret: TokenSecret(bytes(secret, "secret")?), pin: bytes(pin, "pin")? })
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::parse(text)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.redacted", self.id.0.simple())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({self})")
    }
}

/// What programs say to whoever gave a token as an argument.
pub const TOKEN_IN_ARGUMENTS: &str = "a join token was given as an argument, where every user of this machine can read it; \
     revoke it (echelon token revoke ID), and give the next one in the environment variable ECHELON_TOKEN or with \
     --token-file FILE, or --token-file - for standard input";

/// Whether an argument holds a token or part of one, alone or as in `--token=ech1.…`. Arguments are seen
/// by every user of a machine, so that programs refuse such a one.
pub fn looks_like_token(argument: &str) -> bool {
    argument.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).any(|word| {
        word.strip_prefix(PREFIX).is_some_and(|rest| {
            rest.len() >= TELLING_LENGTH && rest.bytes().all(|b| b.is_ascii_hexdigit() || b == b'.')
        })
    })
}

fn bytes(hex: &str, part: &'static str) -> Result<[u8; 32], TokenError> {
    blake3::Hash::from_hex(hex).map(Into::into).map_err(|_| TokenError::Part(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken::generate([7; 32]).unwrap()
    }

    #[test]
    fn a_token_survives_its_text() {
        let token = token();
        let text = token.expose();
        assert_eq!(text.len(), LENGTH);
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token);
    }

    #[test]
    fn the_secret_is_shown_by_nothing_but_expose() {
        let token = token();
        let text = token.expose();
        let secret = text.split('.').nth(2).unwrap();
        for shown in [format!("{token}"), format!("{token:?}"), format!("{:?}", token.secret)] {
            assert!(!shown.contains(&secret[..8]), "{shown}");
        }
    }

    #[test]
    fn a_stored_hash_fits_one_secret_only() {
        let (a, b) = (token(), token());
        assert!(a.secret.matches(&a.secret.hash()));
        assert!(!b.secret.matches(&a.secret.hash()));
        assert_ne!(a.secret.hash(), *blake3::hash(a.secret.expose()).as_bytes());
    }

    #[test]
    fn damaged_tokens_are_named_without_being_repeated() {
        let text = token().expose();
        let cut = &text[..text.len() - 1];
        let bad_secret = text.replacen(&text[38..42], "zzzz", 1);
        let extra_dot = format!("{}.{}", &text[..40], &text[41..]);
        let cases = [
            ("xyz", TokenError::Prefix),
            (cut, TokenError::Length { length: LENGTH - 1 }),
            (&bad_secret, TokenError::Part("secret")),
            (&extra_dot, TokenError::Parts),
        ];
        for (bad, expected) in cases {
            let error = bad.parse::<JoinToken>().unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains(&text[50..58]));
        }
    }

    #[test]
    fn tokens_among_arguments_are_noticed() {
        let text = token().expose();
        for argument in
            [text.clone(), format!("--token={text}"), format!("a b {text}"), text[..40].to_owned()]
        {
            assert!(looks_like_token(&argument), "{argument:?}");
        }
        for argument in ["", "--token-file", "ech1.txt", "ech1.", "web1.example", "/tmp/ech1.token-of-monday"]
        {
            assert!(!looks_like_token(argument), "{argument:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_is_taken_is_whole(text in "(ech1\\.)?[0-9a-f.é]{0,170}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.expose(), text.trim());
            }
            let _ = looks_like_token(&text);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,300}") {
            prop_assert!(text.parse::<JoinToken>().is_err());
            let _ = looks_like_token(&text);
        }
    }
}
