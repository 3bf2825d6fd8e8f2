//! Grants: who may write, since which state, and by whose word.
//!
//! A grant makes a primary. All grants since `init` are a chain, which every manager keeps and every agent
//! witnesses; whoever holds the newest chain knows who may write. See [`Chain`].

use crate::id::{HostId, Lineage};
use crate::name::{ConsoleName, HostName, Text};
use crate::position::Position;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

mod chain;
mod parts;

pub use chain::{Chain, ChainError, Cut, MAX_GRANTS, Relation};
pub use parts::{Incoming, MAX_TRAIL, Outgoing, Part, PartError, trail};

/// A hash of the journal up to an entry.
pub type Hash = [u8; 32];

/// Names one grant. Epochs compare only within one chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GrantId {
    /// The lineage whose states are written under it.
    pub lineage: Lineage,
    /// Which writer, counted from 1 at `init`; rises along a chain.
    pub epoch: u64,
}

impl GrantId {
    /// The grant under which this position was made.
    pub fn of(position: &Position) -> Self {
        Self { lineage: position.lineage, epoch: position.epoch }
    }

    /// The position of a revision that is made under this grant.
    pub fn at(self, revision: u64) -> Position {
        Position { lineage: self.lineage, epoch: self.epoch, revision }
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of {}", self.epoch, self.lineage)
    }
}

/// A place in a journal: a position, and the hash of everything up to it. Two journals with an equal mark are
/// equal up to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The position of the last entry.
    pub position: Position,
    /// The hash up to and with that entry.
    pub hash: Hash,
}

impl Mark {
    /// The revision of the last entry.
    pub fn revision(&self) -> u64 {
        self.position.revision
    }
}

/// Why there is a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The registry was made.
    Init,
    /// The primary before handed over.
    Handover,
    /// An admin said so, because the primary before was dead.
    Force,
    /// A backup was restored.
    Restore,
    /// Of two lineages an admin chose this one.
    Choice,
    /// A majority of voters elected it. Of replica sets, which this build has not got.
    Majority,
}

impl Basis {
    /// Whether a grant of this kind begins a new lineage: what the old one wrote after the parent is given up.
    pub fn begins_lineage(self) -> bool {
        matches!(self, Self::Force | Self::Restore)
    }

    /// Whether revisions that somebody has seen may be given up with it.
    pub fn may_give_up(self) -> bool {
        self.begins_lineage() || self == Self::Choice
    }
}

/// Who is behind a grant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grantor {
    /// An admin, at a console.
    Console(ConsoleName),
    /// The manager on this host by itself.
    Manager(HostName),
}

impl fmt::Display for Grantor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Console(name) => write!(f, "console {name}"),
            Self::Manager(host) => write!(f, "manager {host}"),
        }
    }
}

/// The standbys that count for commits, and how many of them have to hold an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SyncRule {
    /// The set S: without the primary.
    pub members: BTreeSet<HostId>,
    /// An edit is committed when it is durable on the primary and on so many of them; capped to their number.
    pub min_sync: u32,
}

impl SyncRule {
    /// What a registry begins with: nobody, and one as soon as there is somebody.
    pub fn alone() -> Self {
        Self { members: BTreeSet::new(), min_sync: 1 }
    }

    /// How many members have to hold an entry.
    pub fn needed(&self) -> usize {
        usize::try_from(self.min_sync).unwrap_or(usize::MAX).min(self.members.len())
    }

    /// How many members, in all, have to be heard to know of every committed entry: any so many meet any
    /// [`Self::needed`] of them.
    pub fn quorum_to_promote(&self) -> usize {
        self.members.len() - self.needed() + 1
    }

    /// Of the members of this rule so many, at least, hold whatever is committed under `next`, whose primary is
    /// `holder`.
    pub fn sure_under(&self, next: &Self, holder: HostId) -> usize {
        let strangers = next.members.difference(&self.members).count();
        next.needed().saturating_sub(strangers) + usize::from(self.members.contains(&holder))
    }

    /// The rule without this member.
    pub fn without(&self, host: HostId) -> Self {
        let members = self.members.iter().copied().filter(|m| *m != host).collect();
        Self { members, min_sync: self.min_sync }
    }

    /// The rule with this member.
    pub fn with(&self, host: HostId) -> Self {
        let members = self.members.iter().copied().chain([host]).collect();
        Self { members, min_sync: self.min_sync }
    }
}

/// The state that a grant builds on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Parent {
    /// The grant before it in the chain.
    pub grant: GrantId,
    /// The newest entry that counts; made under that grant or one before it.
    pub mark: Mark,
}

/// Proof of a grant by its grantor: certificates in DER, leaf first, without the root, and a signature over
/// [`Grant`] without its proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proof {
    /// The signer's certificates.
    pub certificates: Vec<Vec<u8>>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// What makes a manager the primary.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Its name: the lineage and epoch of all that is written under it.
    pub id: GrantId,
    /// The host of the manager that may write.
    pub holder: HostId,
    /// What it builds on; none for the first.
    pub parent: Option<Parent>,
    /// Why.
    pub basis: Basis,
    /// The standbys that count from the first entry on.
    pub sync: SyncRule,
    /// When, by the clock of whoever made it.
    pub at: UnixMillis,
    /// Who is behind it.
    pub grantor: Grantor,
    /// Why, for people.
    pub reason: Option<Text>,
    /// Grants of other lineages that are given up by it. Only where the basis is [`Basis::Choice`].
    pub rejects: Vec<GrantId>,
    /// None for the first.
    pub proof: Option<Proof>,
}

impl Grant {
    /// The first grant of a registry that begins at this lineage.
    pub fn first(lineage: Lineage, holder: HostId, name: HostName, at: UnixMillis) -> Self {
        Self {
            id: GrantId { lineage, epoch: 1 },
            holder,
            parent: None,
            basis: Basis::Init,
            sync: SyncRule::alone(),
            at,
            grantor: Grantor::Manager(name),
            reason: None,
            rejects: Vec::new(),
            proof: None,
        }
    }

    /// The same grant without its proof: what is signed, and what is compared.
    pub fn unproved(&self) -> Self {
        Self { proof: None, ..self.clone() }
    }
}
