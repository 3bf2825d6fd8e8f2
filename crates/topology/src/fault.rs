//! What is wrong with a topology file, where, and what to do about it.

use echelon_core::check::CheckFault;
use echelon_core::message::{Failure, FailureClass, Retry};
use echelon_core::name::{HostName, ManagerType, NameError, quoted};
use std::fmt;

/// One thing that is wrong. Display says what, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// More bytes than are read.
    #[error(
        "the file has {bytes} bytes: at most {most} are read; split the framework, or check that this is a topology file"
    )]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// No UTF-8.
    #[error("this is no UTF-8 text: save the file as UTF-8, or check that it is a topology file")]
    NotUtf8,
    /// A control character, which neither TOML nor JSON allows.
    #[error("there is a control character {0:?} here: remove it, or check that this is a topology file")]
    Control(char),
    /// Neither TOML nor JSON; in the parser's words.
    #[error("this is no valid {language}: {problem}")]
    Syntax {
        /// `TOML` or `JSON`.
        language: &'static str,
        /// What the parser says.
        problem: String,
    },
    /// Tables or lists inside each other beyond reason.
    #[error("tables and lists are nested more than {most} levels deep here: nothing in a topology file is")]
    TooDeep {
        /// The limit.
        most: usize,
    },
    /// A key that means nothing there.
    #[error("unknown key {} in {table}{}; allowed are {}", quoted(key), guess(near), .allowed.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
        /// In what.
        table: &'static str,
        /// The allowed key that it most resembles.
        near: Option<&'static str>,
        /// All allowed keys.
        allowed: &'static [&'static str],
    },
    /// A key twice in one table.
    #[error("key {} is here twice: remove one", quoted(.0))]
    RepeatedKey(String),
    /// Another kind of value than the key takes.
    #[error("{key} is {found}: write {wanted}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it is.
        found: &'static str,
        /// What it must be, with an example.
        wanted: &'static str,
    },
    /// A key that must be there.
    #[error("{table} has no {key}: add {key} = {example}")]
    Missing {
        /// Of what.
        table: &'static str,
        /// The key.
        key: &'static str,
        /// A value it could have.
        example: &'static str,
    },
    /// A value that is no name of the kind asked for.
    #[error(transparent)]
    Name(#[from] NameError),
    /// None of the words that a key takes.
    #[error("{key} is {}: write one of {}", quoted(found), .allowed.join(", "))]
    Word {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
        /// The words.
        allowed: &'static [&'static str],
    },
    /// A number or duration outside its range.
    #[error("{key} is {found}: use {least} to {most}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
        /// The least allowed.
        least: String,
        /// The most allowed.
        most: String,
    },
    /// Not a duration.
    #[error(
        "{key} is {}: write a whole number and one unit of ms, s, m, h, as in 250ms or 30s",
        quoted(found)
    )]
    Duration {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
    },
    /// The same object twice.
    #[error("{what} is in the file twice, first in line {line}: remove one")]
    Duplicate {
        /// The object.
        what: String,
        /// The line of the first.
        line: usize,
    },
    /// Two ways to say where a package listens.
    #[error("{ty} has both port and endpoint: keep port if it listens on the host's address, else endpoint")]
    PortAndEndpoint {
        /// The package.
        ty: ManagerType,
    },
    /// A role for something that nobody is routed to.
    #[error("{ty} has a role but neither port nor endpoint: give it one of them, or remove role")]
    RoleOfInventory {
        /// The package.
        ty: ManagerType,
    },
    /// Two primaries of one type.
    #[error(
        "{ty} on {host} is the second primary of its type, after line {line}: a type has one primary, write role = \"backup\" here or leave role out"
    )]
    SecondPrimary {
        /// The host.
        host: HostName,
        /// The type.
        ty: ManagerType,
        /// The line of the first.
        line: usize,
    },
    /// More packages than a host can have.
    #[error("host {host} has {packages} packages: at most {most} fit on one")]
    TooManyPackages {
        /// The host.
        host: HostName,
        /// How many.
        packages: usize,
        /// The limit.
        most: usize,
    },
    /// A policy without settings.
    #[error("this policy sets nothing: add a setting such as walk = \"chain\", or remove the policy")]
    EmptyPolicy,
    /// A key that a host cannot announce.
    #[error(
        "{key} is not for a host to announce: the operator sets it with echelon package or a topology file"
    )]
    OperatorsKey {
        /// The key.
        key: &'static str,
    },
    /// Something that a later version reads.
    #[error("{key} is not supported yet: {instead}")]
    NotSupported {
        /// The key.
        key: &'static str,
        /// What to do for now.
        instead: &'static str,
    },
    /// Keys that make no check.
    #[error(transparent)]
    Check(#[from] CheckFault),
    /// A format that this version does not read.
    #[error("format {found} is not known to this version: write format = 1, or use a newer version")]
    Format {
        /// The number in the file.
        found: String,
    },
}

fn guess(near: &Option<&'static str>) -> String {
    near.map(|word| format!(", did you mean {word}?")).unwrap_or_default()
}

/// A fault and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// A file that is no topology. Nothing has been changed; a retry without correcting the file is pointless.
///
/// Display has one line for each problem: `FILE:LINE:COLUMN: what is wrong: what to do`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct TopologyError {
    /// The file's name, as the caller gave it, without control characters.
    pub file: String,
    /// What is wrong, in the order of the file; at least one.
    pub problems: Vec<Problem>,
    /// How many further problems were found.
    pub more: usize,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            let Problem { line, column, fault } = problem;
            write!(f, "{separator}{}:{line}:{column}: {fault}", self.file)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.file),
        }
    }
}

impl From<&TopologyError> for Failure {
    fn from(error: &TopologyError) -> Self {
        let first = error.problems.first();
        let place = first.map(|p| format!("{}:{}:{}", error.file, p.line, p.column));
        Self {
            error: "bad-topology".into(),
            class: FailureClass::Failed,
            message: error.to_string(),
            place: place.unwrap_or_else(|| error.file.clone()),
            remedy: "correct the file".into(),
            retry: Retry::Pointless,
        }
    }
}
