//! What an agent makes of the grants that managers offer: agents are the witnesses of who may write.
//!
//! An agent keeps the newest chain of grants that it was shown and never gives it up for an older one. By that
//! chain it tells which states of the registry count, and which of two comes later.

use crate::grant::{Chain, GrantId, Relation};
use crate::position::Position;
use std::cmp::Ordering;

/// What is done about a chain that a manager offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the one that is kept: the session goes on.
    Same,
    /// It beats what is kept. What is new in it is to be proved, then kept durably, then gone by.
    Adopt,
    /// The manager is refused, and told the chain that is kept.
    Refuse(Objection),
}

/// Why a manager is refused. What is kept stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Objection {
    /// It goes by older grants: another manager has been made primary since, and it does not know.
    #[error("the manager goes by the grants up to {theirs}, and this agent knows those up to {ours}")]
    Older {
        /// The newest grant that is kept.
        ours: GrantId,
        /// The newest one that it knows.
        theirs: GrantId,
    },
    /// Two managers were made primary of one state, and nobody has chosen.
    #[error("there are two lineages: this agent goes by {ours}, the manager by {theirs}")]
    Conflict {
        /// The first grant of the kept branch.
        ours: GrantId,
        /// The first grant of the other one.
        theirs: GrantId,
    },
    /// It is of another registry.
    #[error("the manager is of another registry: its first grant is {theirs}, that of this agent's {ours}")]
    Foreign {
        /// The first grant that is kept.
        ours: GrantId,
        /// The first one of the other.
        theirs: GrantId,
    },
}

/// Judges a chain that is offered to whoever keeps `kept`; nothing is kept before the first.
pub fn judge(kept: Option<&Chain>, offered: &Chain) -> Verdict {
    let Some(kept) = kept else { return Verdict::Adopt };
    let (ours, theirs) = (kept.head().id, offered.head().id);
    match kept.compare(offered) {
        Relation::Same => Verdict::Same,
        Relation::Newer(_) => Verdict::Adopt,
        Relation::Older => Verdict::Refuse(Objection::Older { ours, theirs }),
        Relation::Conflict { ours, theirs } => Verdict::Refuse(Objection::Conflict { ours, theirs }),
        Relation::Foreign => {
            let (ours, theirs) = (kept.first().id, offered.first().id);
            Verdict::Refuse(Objection::Foreign { ours, theirs })
        }
    }
}

/// How a state that is offered stands to the one that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It comes before, after, or is the same.
    Compares(Ordering),
    /// What is held was given up with its grant; nothing about it counts any more.
    Replaces,
    /// It is no state under the grants that are kept.
    Outside,
}

/// How a state at `offered` stands to one at `held`, for somebody who keeps `kept`. Epochs rise along a chain,
/// whatever their lineage. Where no grants are known, states of one lineage compare, and any other replaces.
pub fn standing(kept: Option<&Chain>, held: &Position, offered: &Position) -> Standing {
    let number = |p: &Position| (p.epoch, p.revision);
    let comparable = match kept {
        Some(chain) if !chain.contains(offered) => return Standing::Outside,
        Some(chain) => chain.get(GrantId::of(held)).is_some(),
        None => held.lineage == offered.lineage,
    };
    match comparable {
        true => Standing::Compares(number(offered).cmp(&number(held))),
        false => Standing::Replaces,
    }
}
