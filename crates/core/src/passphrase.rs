//! The secret that a person keeps beside a file.

use std::fmt;

/// Fewest bytes of a passphrase: with the work of sealing, guessing eight random letters takes centuries of a
/// processor; shorter ones are within reach.
pub const MIN_PASSPHRASE: usize = 8;

/// Most bytes of a passphrase: a line of any password manager.
pub const MAX_PASSPHRASE: usize = 1_024;

/// What keys are sealed with where they leave the state directory. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

/// Why a text is no passphrase. It is not repeated here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Too short, or too long.
    #[error("the passphrase has {0} bytes; use {MIN_PASSPHRASE} to {MAX_PASSPHRASE}")]
    Length(usize),
    /// More than a line.
    #[error("the passphrase has control characters; use one line of text")]
    Control,
}

impl Passphrase {
    /// A passphrase of one line; a line end at its end, as editors put it there, is none of it.
    ///
    /// # Errors
    /// See [`PassphraseError`].
    pub fn parse(text: &str) -> Result<Self, PassphraseError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if !(MIN_PASSPHRASE..=MAX_PASSPHRASE).contains(&line.len()) {
            return Err(PassphraseError::Length(line.len()));
        }
        match line.chars().any(char::is_control) {
            true => Err(PassphraseError::Control),
            false => Ok(Self(line.to_owned())),
        }
    }

    /// The **secret**.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_without_its_end_and_never_shown() {
        for text in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            let passphrase = Passphrase::parse(text).unwrap();
            assert_eq!(passphrase.expose(), "correct horse");
            assert!(!format!("{passphrase:?}").contains("horse"));
        }
    }

    #[test]
    fn what_is_too_short_too_long_or_no_line_is_refused() {
        assert_eq!(Passphrase::parse("seven b\n"), Err(PassphraseError::Length(7)));
        assert_eq!(Passphrase::parse(&"a".repeat(1_025)), Err(PassphraseError::Length(1_025)));
        assert_eq!(Passphrase::parse("two lines\nof text"), Err(PassphraseError::Control));
    }
}
