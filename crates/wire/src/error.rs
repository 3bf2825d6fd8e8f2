//! Why bytes are not the message that was expected.

use echelon_core::grant::ChainError;
use echelon_core::name::NameError;
use echelon_core::package::NumberError;

/// Why bytes are not the message that was expected. Nothing of it was taken; the same bytes are refused
/// again, so that a retry is pointless. `at` names message and field.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no protocol buffer with the fields of this message.
    #[error("a {message} is malformed, nothing of it was taken: is the peer an Echelon process?")]
    Malformed {
        /// The message.
        message: &'static str,
        /// What is malformed, and where.
        source: prost::DecodeError,
    },
    /// A message without any kind that this build knows.
    #[error(
        "{message} is empty or of a kind that this build does not know, nothing of it was taken: upgrade the older side"
    )]
    UnknownKind {
        /// The message.
        message: &'static str,
    },
    /// A word of a list, by its number, that this build does not know.
    #[error("{at} has the unknown value {value}, nothing of the message was taken: upgrade the older side")]
    UnknownWord {
        /// Message and field.
        at: &'static str,
        /// The number.
        value: i32,
    },
    /// A field that must be there is not.
    #[error("{at} is missing, nothing of the message was taken: upgrade the older side")]
    Missing {
        /// Message and field.
        at: &'static str,
    },
    /// Bytes that have one right length have another.
    #[error("{at} has {found} bytes instead of {expected}, nothing of the message was taken")]
    Length {
        /// Message and field.
        at: &'static str,
        /// The right length.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// A text that its core type refuses.
    #[error("{at} is not valid, nothing of the message was taken")]
    Name {
        /// Message and field.
        at: &'static str,
        /// What core said.
        source: NameError,
    },
    /// A number out of its range.
    #[error("{at} is not valid, nothing of the message was taken")]
    Number {
        /// Message, and field where there is more than one such number.
        at: &'static str,
        /// What core said.
        source: NumberError,
    },
    /// A list that is too long.
    #[error("{at} has {found} entries, nothing of the message was taken: send at most {most}")]
    TooMany {
        /// Message and field.
        at: &'static str,
        /// Its length.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// Grants that are no chain.
    #[error("{at} is not valid, nothing of the message was taken")]
    Chain {
        /// Message and field.
        at: &'static str,
        /// What core said.
        source: ChainError,
    },
    /// A row under the key of another, or a change of nothing to nothing.
    #[error("{at} has rows that do not fit its key, nothing of the message was taken")]
    Key {
        /// The message.
        at: &'static str,
    },
}

impl DecodeError {
    /// Refuses more than `most` entries.
    pub(crate) fn check_count(at: &'static str, found: usize, most: usize) -> Result<(), Self> {
        if found <= most { Ok(()) } else { Err(Self::TooMany { at, found, most }) }
    }
}
