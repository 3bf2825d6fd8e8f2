//! How things are with a manager among the others, for everybody who has to know.

use echelon_core::grant::Chain;
use echelon_core::id::HostId;
use echelon_core::member::{CannotWrite, Member, Peer, Standing};
use echelon_core::position::Position;
use echelon_core::time::Monotonic;
use std::collections::BTreeMap;

/// As the journal last knew it; made anew after each of its turns.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    /// The grants that this manager goes by.
    pub(crate) chain: Chain,
    /// Whether it is the primary.
    pub(crate) leading: bool,
    /// Whether an edit can be taken.
    pub(crate) writes: Result<(), CannotWrite>,
    /// Where its journal stands.
    pub(crate) standing: Standing,
    /// The other managers it was ever linked to.
    pub(crate) peers: BTreeMap<HostId, Peer>,
    /// A position that others have seen and this manager has lost.
    pub(crate) rolled_back: Option<Position>,
    /// The chains in conflict with its own; hardly ever any.
    pub(crate) rivals: Vec<Chain>,
    /// Whether its journal is being copied from another manager's.
    pub(crate) copying: bool,
}

impl Situation {
    /// What it is now.
    pub(super) fn of(member: &Member) -> Self {
        Self {
            chain: member.chain().clone(),
            leading: member.is_leading(),
            writes: member.may_write(),
            standing: member.standing(),
            peers: member.peers().map(|(host, peer)| (host, peer.clone())).collect(),
            rolled_back: member.rolled_back(),
            rivals: member.rivals().to_vec(),
            copying: member.is_copying(),
        }
    }

    /// Whether entries that were made here wait for others to say that they hold them.
    pub(crate) fn is_waiting(&self) -> bool {
        self.leading && self.standing.committed < self.standing.last.revision()
    }

    /// How many of the standbys that count take edits now, as the primary knows.
    pub(crate) fn synced(&self, now: Monotonic) -> usize {
        let takes = |host: &&HostId| {
            self.peers.get(*host).is_some_and(|peer| peer.is_synced(self.standing.grant, now))
        };
        self.standing.rule.members.iter().filter(takes).count()
    }

    /// The manager that the newest grant makes the primary.
    pub(crate) fn primary(&self) -> HostId {
        self.chain.head().holder
    }
}
