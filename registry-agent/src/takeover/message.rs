//! What two processes say to each other.

use serde::{Deserialize, Serialize};

/// The versions that this build speaks. A new one is made when an older process would do the wrong thing with what a
/// newer one says, and the old one is spoken for as long as processes of that build may run.
pub(super) const VERSIONS: Versions = Versions { lowest: 1, highest: 1 };

/// A range of versions. It stays as it is in all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Versions {
    pub(super) lowest: u32,
    pub(super) highest: u32,
}

/// What a successor says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromSuccessor {
    /// First. It stays as it is in all versions.
    Hello { versions: Versions, build: String },
    /// All that could fail is done.
    Ready,
    /// It gives up, for this reason.
    Failed(String),
    /// It lets callers in.
    Serving,
}

/// What a predecessor says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromPredecessor {
    /// It goes on by itself, for this reason. It stays as it is in all versions.
    Refused(String),
    /// The lock of the state directory and these places follow as descriptors, in this order.
    Offer { version: u32, build: String, places: Vec<HandedPlace> },
    /// All of it is the successor's.
    Granted,
}

/// A listening socket that is handed over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct HandedPlace {
    /// What it was opened for.
    pub(super) asked: String,
    /// Whether the service manager opened it.
    pub(super) activated: bool,
}

impl Versions {
    /// The highest that both speak.
    pub(super) fn common(self, other: Self) -> Option<u32> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.lowest == self.highest {
            true => self.highest.fmt(f),
            false => write!(f, "{} to {}", self.lowest, self.highest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken_or_none() {
        let range = |lowest, highest| Versions { lowest, highest };
        assert_eq!(range(1, 1).common(range(1, 4)), Some(1));
        assert_eq!(range(2, 5).common(range(1, 4)), Some(4));
        assert_eq!(range(1, 1).common(range(2, 3)), None);
        assert_eq!(range(4, 4).common(range(2, 3)), None);
        assert_eq!(range(2, 3).common(range(3, 1)), None);
    }

    /// Other builds say it in these words.
    #[test]
    fn what_stays_the_same_in_all_versions_is_written_so() {
        let hello = FromSuccessor::Hello { versions: VERSIONS, build: "0.1.0".into() };
        let text = r#"{"hello":{"versions":{"lowest":1,"highest":1},"build":"0.1.0"}}"#;
        assert_eq!(serde_json::to_string(&hello).unwrap(), text);
        let more = r#"{"hello":{"versions":{"lowest":1,"highest":1},"build":"0.1.0","more":[1]}}"#;
        assert_eq!(serde_json::from_str::<FromSuccessor>(more).unwrap(), hello);
        let refused = FromPredecessor::Refused("no".into());
        assert_eq!(serde_json::to_string(&refused).unwrap(), r#"{"refused":"no"}"#);
    }
}
