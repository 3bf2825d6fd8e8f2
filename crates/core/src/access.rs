//! Who may do what: identities, join tokens, denials.

use crate::id::{DomainId, HostId, TokenId};
use crate::name::{ConsoleName, HostName, ManagerType, NameError, NameProblem};
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What an identity may do. Each level but `agent` and `manager` includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Its own host's status and packages only.
    Agent,
    /// A registry manager.
    Manager,
    /// Reads.
    Viewer,
    /// Edits.
    Operator,
    /// Identities and promotion too.
    Admin,
}

impl Access {
    const WORDS: &'static str = "agent, manager, operator, viewer, admin";

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Manager => "manager",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether this level includes `needed`.
    pub fn allows(self, needed: Self) -> bool {
        self == needed || (self >= Self::Viewer && needed >= Self::Viewer && self >= needed)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Access {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        [Self::Agent, Self::Manager, Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|a| a.as_str() == value)
            .ok_or_else(|| NameError::new("access level", value, NameProblem::Choice(Self::WORDS)))
    }
}

/// Whose identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A host's agent.
    Host(HostId),
    /// A person's or a program's console.
    Console(ConsoleName),
    /// The registry manager on this host.
    Manager(HostId),
}

/// What the registry knows of an identity it has given out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Whose it is.
    pub subject: Subject,
    /// Counts the enrolments of this subject from 1. Stands in every certificate; renewals keep it.
    pub enrolment: u32,
    /// What it may do.
    pub access: Access,
    /// The types its host may announce by itself.
    pub allow_types: BTreeSet<ManagerType>,
    /// BLAKE3 of the public key, as SubjectPublicKeyInfo in DER.
    pub key_hash: [u8; 32],
    /// When it enrolled.
    pub enrolled: UnixMillis,
}

/// Enrolments of a subject that are refused everywhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Denial {
    /// Whose.
    pub subject: Subject,
    /// Every enrolment up to and including this one.
    pub up_to: u32,
    /// When the denial may be forgotten, since no certificate can be renewed any more.
    pub until: UnixMillis,
}

/// A join token as the registry keeps it: without its secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Its public id.
    pub id: TokenId,
    /// BLAKE3 of the secret.
    pub secret_hash: [u8; 32],
    /// What the enrolled identity may do.
    pub access: Access,
    /// The one host it enrols; any new one where there is none.
    pub host: Option<HostName>,
    /// The domain in or below which it enrols hosts.
    pub domain: DomainId,
    /// The types that the enrolled host may announce.
    pub allow_types: BTreeSet<ManagerType>,
    /// Whether it may enrol a host again that is enrolled, which denies the earlier enrolment.
    pub replace: bool,
    /// When it stops working.
    pub expires: UnixMillis,
    /// How often it can still be used.
    pub uses_left: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_or_manager_identity_allows_nothing_a_console_does() {
        for narrow in [Access::Agent, Access::Manager] {
            for needed in [Access::Viewer, Access::Operator, Access::Admin] {
                assert!(!narrow.allows(needed) && !needed.allows(narrow));
            }
        }
        assert!(Access::Admin.allows(Access::Viewer) && !Access::Viewer.allows(Access::Operator));
    }
}
