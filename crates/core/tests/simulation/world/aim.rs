//! Crashes at the moments that matter: between two things that a manager does.

use super::Effect;
use super::message::Kind;

/// What a manager does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    Adopt,
    Append,
    Seal,
    Commit,
    RolledBack,
    Lead,
    Fenced,
    Send(Kind),
}

impl Deed {
    /// None for what is of no interest here.
    pub(crate) fn of(effect: &Effect) -> Option<Self> {
        Some(match effect {
            Effect::Adopt { .. } => Self::Adopt,
            Effect::Append(_) => Self::Append,
            Effect::Seal(_) => Self::Seal,
            Effect::Commit(_) => Self::Commit,
            Effect::RolledBack(_) => Self::RolledBack,
            Effect::Lead => Self::Lead,
            Effect::Fenced => Self::Fenced,
            Effect::Send(_, message) => Self::Send(Kind::of(message)),
            Effect::Feed { .. } => Self::Send(Kind::Append),
            _ => return None,
        })
    }

    /// Done so often that a crash at one in a hundred is many.
    fn is_common(self) -> bool {
        matches!(
            self,
            Self::Append | Self::Commit | Self::Send(Kind::Append | Kind::Appended | Kind::Committed)
        )
    }
}

/// A process ends right after it has done this, in so many of a thousand cases.
#[derive(Clone, Copy)]
pub(crate) struct Aim {
    pub(crate) after: Deed,
    of_1000: u64,
}

impl Aim {
    pub(crate) fn new(after: Deed) -> Self {
        Self { after, of_1000: if after.is_common() { 10 } else { 250 } }
    }

    pub(crate) fn of_1000(&self) -> u64 {
        self.of_1000
    }
}
