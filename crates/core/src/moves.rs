//! Why connections go to another manager than before.

use crate::evidence::Verdict;
use crate::name::{HostName, Text};
use crate::report::CandidateState;
use std::time::Duration;

/// Why connections go to another manager than before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Move {
    /// The one in use failed.
    Down,
    /// The one in use was overtaken, says that it is overloaded, or its host's agent is silent.
    Suspect,
    /// The one in use is wanted to serve nothing.
    Withdrawn,
    /// The one in use is outside a boundary, or denied.
    Excluded,
    /// The one in use is in the registry no more.
    Removed,
    /// Back home.
    Home,
    /// A better one came up that is not home.
    Nearer,
    /// An operator wanted connections to return.
    Asked,
    /// There was nobody usable, and now there is.
    Served,
}

impl Move {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Down,
        Self::Suspect,
        Self::Withdrawn,
        Self::Excluded,
        Self::Removed,
        Self::Home,
        Self::Nearer,
        Self::Asked,
        Self::Served,
    ];

    /// Its name, for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Suspect => "suspect",
            Self::Withdrawn => "withdrawn",
            Self::Excluded => "excluded",
            Self::Removed => "removed",
            Self::Home => "home",
            Self::Nearer => "nearer",
            Self::Asked => "asked",
            Self::Served => "served",
        }
    }
}

/// That connections go to another manager than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// To whom they went; none where there was nobody.
    pub from: Option<HostName>,
    /// Why, for programs.
    pub why: Move,
    /// Why, for people.
    pub words: Text,
}

/// What a move away from `from` to `to` is judged by.
pub(crate) struct Step<'a> {
    /// Who was in use; none where nobody was.
    pub(crate) from: Option<&'a HostName>,
    /// Whether that one was usable.
    pub(crate) was_usable: bool,
    /// What is known of it now; none where there is no such candidate any more.
    pub(crate) left: Option<&'a Verdict>,
    /// Who is in use now, and for how long it has been live.
    pub(crate) to: Option<(&'a HostName, Duration)>,
    /// Whether that one is usable.
    pub(crate) is_usable: bool,
    /// Whether that one is home.
    pub(crate) is_home: bool,
    /// Whether an operator wanted it.
    pub(crate) asked: bool,
}

impl Step<'_> {
    /// The move.
    pub(crate) fn moved(&self) -> Moved {
        let (why, words) = self.why();
        Moved { from: self.from.cloned(), why, words: Text::lossy(&words) }
    }

    fn why(&self) -> (Move, String) {
        let from = match self.from {
            Some(from) if self.was_usable || !self.is_usable => from,
            _ => return (Move::Served, self.named("can be used")),
        };
        let Some(left) = self.left else {
            return (Move::Removed, format!("{from}: removed from the registry"));
        };
        let left_as = |why| (why, format!("{from}: {}", left.reason));
        match left.state {
            CandidateState::Down => left_as(Move::Down),
            CandidateState::Suspect => left_as(Move::Suspect),
            CandidateState::Withdrawn => left_as(Move::Withdrawn),
            CandidateState::Excluded => left_as(Move::Excluded),
            CandidateState::Live | CandidateState::Unknown => (self.returned(), self.in_words()),
        }
    }

    fn returned(&self) -> Move {
        match (self.asked, self.is_home) {
            (true, _) => Move::Asked,
            (false, true) => Move::Home,
            (false, false) => Move::Nearer,
        }
    }

    fn in_words(&self) -> String {
        let live_for = self.to.map_or(Duration::ZERO, |(_, live_for)| live_for);
        let asked = if self.asked { "; an operator asked" } else { "" };
        self.named(&format!("live for {} s{asked}", live_for.as_secs()))
    }

    fn named(&self, what: &str) -> String {
        self.to.map_or_else(|| what.to_owned(), |(to, _)| format!("{to}: {what}"))
    }
}
