//! The difference between a file and a registry.

use echelon_core::change::Change;
use echelon_core::message::{Failure, FailureClass, Retry};
use echelon_core::name::{DomainPath, FrameworkName, HostName, ManagerType};
use echelon_core::package::Role;
use serde::Serialize;
use std::fmt;

/// How a difference is worked out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Removes what is not in the file; never hosts with a `registry` package, nor those packages.
    pub prune: bool,
}

/// What brings a registry to what a file says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// The changes, in an order in which each is valid; none where the registry is so already.
    pub changes: Vec<Change>,
    /// The same for people, one line for each object.
    pub lines: Vec<DiffLine>,
    /// What was left out or left as it is, and what to do about it.
    pub warnings: Vec<String>,
    /// Domains that the plan adds, parents before subdomains.
    pub created_domains: Vec<DomainPath>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(crate) fn line(&mut self, sign: Sign, kind: &'static str, name: impl fmt::Display, details: String) {
        self.lines.push(DiffLine { sign, kind, name: name.to_string(), details });
    }
}

/// What a plan does to one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DiffLine {
    /// In one character.
    pub sign: Sign,
    /// `domain`, `host`, `package` or `policy`.
    pub kind: &'static str,
    /// The path, the name, host and type, or path and type.
    pub name: String,
    /// What it is or how it changes; may be empty.
    pub details: String,
}

impl fmt::Display for DiffLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.sign, self.kind, self.name)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

/// The kind of a difference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// It is new.
    Add,
    /// It changes.
    Change,
    /// It goes.
    Remove,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Remove => "-",
        })
    }
}

/// Why a file cannot be applied to a registry. Nothing has been changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DiffError {
    /// The file speaks of another framework.
    #[error("the file is of framework {file}, the registry of {registry}")]
    OtherFramework {
        /// The file's.
        file: FrameworkName,
        /// The registry's.
        registry: FrameworkName,
    },
    /// The file writes roles that differ from the registry's.
    #[error("{}", list(.0))]
    Roles(Vec<RoleConflict>),
    /// Every manager of a type in the file is a backup, and nobody else would be primary.
    #[error("every manager of type {ty} in the file has role = \"backup\", and none would be its primary")]
    NoPrimary {
        /// The type.
        ty: ManagerType,
    },
}

/// A written role that differs from the registry's. Roles change hands by `promote` only, so that the
/// two primaries of a hand-over are never both in office.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{ty} on {host} has role = \"{written}\" in the file, but {} in the registry: {}", self.actual(), self.command())]
pub struct RoleConflict {
    /// The host of the written role.
    pub host: HostName,
    /// The type.
    pub ty: ManagerType,
    /// The role in the file.
    pub written: Role,
    /// The primary in the registry.
    pub primary: HostName,
    /// Who would have to be promoted for the file to be right.
    pub heir: Option<HostName>,
}

impl RoleConflict {
    fn actual(&self) -> String {
        match self.primary == self.host {
            true => "it is the primary".into(),
            false => format!("{} is the primary", self.primary),
        }
    }

    /// The command that would make the file right.
    pub fn command(&self) -> String {
        let heir = self.heir.as_ref().map_or("HOST", HostName::as_str);
        match self.ty.is_registry() {
            true => format!("echelon promote {heir}"),
            false => format!("echelon promote {heir} --type {}", self.ty),
        }
    }
}

/// Most conflicts that are shown at once.
const MAX_SHOWN: usize = 20;

fn list(conflicts: &[RoleConflict]) -> String {
    let mut lines: Vec<_> = conflicts.iter().take(MAX_SHOWN).map(RoleConflict::to_string).collect();
    if conflicts.len() > MAX_SHOWN {
        lines.push(format!("and {} more", conflicts.len() - MAX_SHOWN));
    }
    lines.join("\n")
}

impl DiffError {
    fn remedy(&self) -> String {
        match self {
            Self::OtherFramework { registry, .. } => {
                format!("use a file of framework {registry}, or another --manager")
            }
            Self::Roles(conflicts) => conflicts.first().map(RoleConflict::command).unwrap_or_default(),
            Self::NoPrimary { .. } => "write role = \"primary\" at one of them, or leave role out".into(),
        }
    }
}

impl From<&DiffError> for Failure {
    fn from(error: &DiffError) -> Self {
        let name = match error {
            DiffError::OtherFramework { .. } => "other-framework",
            DiffError::Roles(_) => "role-differs",
            DiffError::NoPrimary { .. } => "no-primary",
        };
        Self {
            error: name.into(),
            class: FailureClass::Forbidden,
            message: error.to_string(),
            place: String::new(),
            remedy: error.remedy(),
            retry: Retry::Pointless,
        }
    }
}
