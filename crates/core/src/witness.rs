//! What an agent makes of the grants that managers offer: agents are the witnesses of who may write.
//!
//! An agent keeps the newest chain of grants that it was shown and never gives it up for an older one. By that
//! chain it tells which states of the registry count, and which of two comes later.

use crate::grant::{Chain, GrantId, Relation};
use crate::id::HostId;
use crate::position::Position;
use crate::time::Monotonic;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

/// Shortest and longest time for which a refused manager is passed over: it is told at once what it has missed, and
/// one that does not act on it need not be asked more often than somebody looks at an alarm.
const SHUNNED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// Most managers that are remembered as refused: more than any registry has.
const MAX_SHUNNED: usize = 64;

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

/// The managers that an agent has refused, and until when it passes them over. Nobody is passed over where there is
/// nobody else: that is for whoever asks.
#[derive(Debug, Default)]
pub struct Shunned {
    /// Until when, and how often in a row.
    managers: BTreeMap<HostId, (Monotonic, u32)>,
}

impl Shunned {
    /// A manager was refused: it is passed over, each time for twice as long.
    pub fn refuse(&mut self, now: Monotonic, manager: HostId) {
        let full = self.managers.len() >= MAX_SHUNNED && !self.managers.contains_key(&manager);
        let soonest = self.managers.iter().min_by_key(|(_, (until, _))| *until).map(|(host, _)| *host);
        if let Some(soonest) = soonest.filter(|_| full) {
            self.managers.remove(&soonest);
        }
        let times = self.managers.get(&manager).map_or(0, |(_, times)| times.saturating_add(1));
        let time = SHUNNED.0.saturating_mul(1 << times.min(16)).min(SHUNNED.1);
        self.managers.insert(manager, (now + time, times));
    }

    /// A manager was taken up: whatever was is forgotten.
    pub fn accept(&mut self, manager: HostId) {
        self.managers.remove(&manager);
    }

    /// Whether a manager is passed over now.
    pub fn has(&self, now: Monotonic, manager: HostId) -> bool {
        self.managers.get(&manager).is_some_and(|(until, _)| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn host(n: u128) -> HostId {
        HostId(Uuid::from_u128(n))
    }

    #[test]
    fn a_refused_manager_is_passed_over_for_twice_as_long_each_time_up_to_a_bound() {
        let mut shunned = Shunned::default();
        let mut now = Monotonic(0);
        for expected in [10, 20, 40, 80, 160, 320, 600, 600] {
            shunned.refuse(now, host(1));
            let time = Duration::from_secs(expected);
            assert!(
                shunned.has(now + time - Duration::from_micros(1), host(1)) && !shunned.has(now, host(2))
            );
            now = now + time;
            assert!(!shunned.has(now, host(1)), "{expected}");
        }
        shunned.accept(host(1));
        shunned.refuse(now, host(1));
        assert!(!shunned.has(now + SHUNNED.0, host(1)), "it begins anew");
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut shunned = Shunned::default();
        for n in 0..200 {
            shunned.refuse(Monotonic(n), host(u128::from(n)));
        }
        assert_eq!(shunned.managers.len(), MAX_SHUNNED);
        assert!(shunned.has(Monotonic(200), host(199)) && !shunned.has(Monotonic(200), host(0)));
    }
}
