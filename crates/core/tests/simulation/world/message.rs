//! What goes wrong with messages, by what they say.

use super::MemberMessage;
use super::random::Random;

/// What a message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Standing,
    Ask,
    Grants,
    Append,
    Appended,
    Committed,
    Missing,
    Fetch,
    Seal,
    Sealed,
    Unseal,
}

impl Kind {
    pub(crate) fn of(message: &MemberMessage) -> Self {
        match message {
            MemberMessage::Standing(_) => Self::Standing,
            MemberMessage::Ask => Self::Ask,
            MemberMessage::Grants(_) => Self::Grants,
            MemberMessage::Append(_) => Self::Append,
            MemberMessage::Appended { .. } => Self::Appended,
            MemberMessage::Committed { .. } => Self::Committed,
            MemberMessage::Missing { .. } => Self::Missing,
            MemberMessage::Fetch { .. } => Self::Fetch,
            MemberMessage::Seal { .. } => Self::Seal,
            MemberMessage::Sealed { .. } => Self::Sealed,
            MemberMessage::Unseal { .. } => Self::Unseal,
        }
    }
}

/// Of a thousand messages so many are lost, doubled, late.
#[derive(Clone, Copy, Default)]
pub(crate) struct Trouble {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
}

impl Trouble {
    /// A little of everything.
    pub(crate) fn noise(random: &mut Random) -> Self {
        Self { lost: random.between(0, 60), doubled: random.between(0, 60), late: random.between(0, 100) }
    }

    /// Much of one thing.
    pub(crate) fn much(random: &mut Random) -> Self {
        let rate = random.between(200, 700);
        match random.between(0, 5) {
            0 | 1 => Self { lost: rate, ..Self::default() },
            2 => Self { doubled: rate, late: rate, ..Self::default() },
            _ => Self { late: rate, ..Self::default() },
        }
    }
}
