//! How things are with a manager among the others, for everybody who has to know.

use echelon_core::grant::{Chain, Mark};
use echelon_core::id::HostId;
use echelon_core::member::{CannotWrite, Member, Peer};
use echelon_core::position::Position;
use std::collections::BTreeMap;
use std::sync::Arc;

/// As the journal last knew it; made anew after each of its turns.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    /// The grants that this manager goes by.
    pub(crate) chain: Arc<Chain>,
    /// Whether it is the primary.
    pub(crate) leading: bool,
    /// Whether an edit can be taken.
    pub(crate) writes: Result<(), CannotWrite>,
    /// Its last entry, committed or not.
    pub(crate) last: Mark,
    /// The newest revision that it knows to be committed.
    pub(crate) committed: u64,
    /// The other managers it was ever linked to.
    pub(crate) peers: BTreeMap<HostId, Peer>,
    /// A position that others have seen and this manager has lost.
    pub(crate) rolled_back: Option<Position>,
    /// How many chains are in conflict with its own.
    pub(crate) rivals: usize,
}

impl Situation {
    /// What it is now; `before` is what it was.
    pub(super) fn of(member: &Member, before: Option<&Self>) -> Self {
        let same = before.filter(|before| before.chain.head().id == member.chain().head().id);
        let chain = same.map_or_else(|| Arc::new(member.chain().clone()), |before| Arc::clone(&before.chain));
        Self {
            chain,
            leading: member.is_leading(),
            writes: member.may_write(),
            last: member.log().last(),
            committed: member.log().committed(),
            peers: member.peers().map(|(host, peer)| (host, peer.clone())).collect(),
            rolled_back: member.rolled_back(),
            rivals: member.rivals().len(),
        }
    }

    /// The manager that the newest grant makes the primary.
    pub(crate) fn primary(&self) -> HostId {
        self.chain.head().holder
    }
}
