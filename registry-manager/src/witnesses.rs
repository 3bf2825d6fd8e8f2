//! Who may write by this manager's grants, and what its agents, as witnesses, have to say about that.

use crate::journal::Said;
use crate::offered::{OfferError, examine};
use crate::server::Shared;
use echelon_core::digest::Digest;
use echelon_core::grant::{Chain, Mark, Relation};
use echelon_core::id::HostId;
use echelon_core::issuer::Doubt;
use echelon_core::member::Input;
use echelon_core::message::{Holding, ToAgent};
use echelon_core::position::Position;
use echelon_core::registry::Registry;
use echelon_core::witness::{Standing, standing};
use echelon_wire::{Bytes, Wire};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tracing::{debug, warn};

/// How many of the newest marks of the journal are kept to be compared with what agents hold: agents are a few
/// edits behind at most, and one that is further behind has its say when it is level.
const KEPT_MARKS: usize = 256;

/// A chain of grants, ready to be told.
pub(crate) struct Grants {
    pub(crate) chain: Chain,
    pub(crate) digest: Digest,
    /// The message that tells it to an agent: encoded once for all sessions.
    pub(crate) frame: Bytes,
}

impl Grants {
    fn new(chain: Chain) -> Self {
        let (digest, frame) = (chain.digest(), ToAgent::Grants(chain.clone()).encode());
        Self { chain, digest, frame }
    }
}

/// A chain that an agent holds and that has what this manager's has not; it is proved.
pub(crate) struct Heard {
    pub(crate) chain: Chain,
    /// What the registry knows against whoever has given what is new in it.
    pub(crate) against: Option<Doubt>,
}

/// The grants that this manager goes by, and what agents have told that speaks against them or against its journal.
pub(crate) struct Witnesses {
    grants: watch::Sender<Arc<Grants>>,
    heard: watch::Sender<Option<Arc<Heard>>>,
    position: watch::Sender<Option<Position>>,
    rewritten: watch::Sender<Option<Position>>,
    marks: Mutex<VecDeque<Mark>>,
}

impl Witnesses {
    pub(crate) fn new(chain: Chain) -> Self {
        Self {
            grants: watch::Sender::new(Arc::new(Grants::new(chain))),
            heard: watch::Sender::new(None),
            position: watch::Sender::new(None),
            rewritten: watch::Sender::new(None),
            marks: Mutex::default(),
        }
    }

    /// The grants that this manager goes by, as they change.
    pub(crate) fn grants(&self) -> watch::Receiver<Arc<Grants>> {
        self.grants.subscribe()
    }

    /// The grants that this manager goes by now.
    pub(crate) fn current(&self) -> Arc<Grants> {
        Arc::clone(&self.grants.borrow())
    }

    /// Goes by this chain from now on, and tells it to every session.
    pub(crate) fn set_chain(&self, chain: Chain) {
        self.grants.send_if_modified(|grants| {
            let changed = grants.chain != chain;
            if changed {
                *grants = Arc::new(Grants::new(chain));
            }
            changed
        });
    }

    /// The last chain that an agent was found to hold and that beats this manager's, or is in conflict with it.
    pub(crate) fn heard(&self) -> watch::Receiver<Option<Arc<Heard>>> {
        self.heard.subscribe()
    }

    /// The furthest position that an agent holds beyond what this manager has committed, under the same grants. Where
    /// nobody else can have committed it, this manager's state directory was rolled back.
    pub(crate) fn position(&self) -> watch::Receiver<Option<Position>> {
        self.position.subscribe()
    }

    /// All that agents have said and that the journal is to hear, once more.
    pub(crate) fn said(&self) -> Vec<Input> {
        let heard = self.heard.borrow().as_deref().map(Heard::input);
        let position = self.position.borrow().map(Input::Witnessed);
        heard.into_iter().chain(position).collect()
    }

    /// A position of which an agent was told another hash of the journal than this manager has.
    pub(crate) fn rewritten(&self) -> Option<Position> {
        *self.rewritten.borrow()
    }

    /// Takes in the chain for which the agent of a host has refused this manager. Takes the time of some signatures.
    pub(crate) fn hear_chain(&self, registry: &Registry, host: HostId, chain: Chain) {
        let own = self.current();
        let known = self.heard.borrow().as_ref().is_some_and(|heard| heard.chain == chain);
        match own.chain.compare(&chain) {
            Relation::Newer(_) | Relation::Conflict { .. } if known => {}
            Relation::Newer(_) | Relation::Conflict { .. } => match examine(registry, &own.chain, &chain) {
                Ok(against) => {
                    let why = against.map(tracing::field::display);
                    warn!(host.id = %host, grant = %chain.head().id, against = why, "An agent knows of another primary");
                    self.heard.send_replace(Some(Arc::new(Heard { chain, against })));
                }
                Err(error) => tell_unproved(host, &error),
            },
            Relation::Same | Relation::Older => debug!(host.id = %host, "An agent's grants are nothing new"),
            Relation::Foreign => warn!(host.id = %host, "An agent's grants are of another registry"),
        }
    }

    /// Takes in what an agent holds, which may be further than this manager, that has committed up to `own`.
    pub(crate) fn witness(&self, own: &Position, holds: &Holding) {
        let chain = &self.current().chain;
        if standing(Some(chain), own, &holds.position) == Standing::Compares(Ordering::Greater) {
            self.position.send_if_modified(|seen| {
                let further = seen.is_none_or(|seen| {
                    (holds.position.epoch, holds.position.revision) > (seen.epoch, seen.revision)
                });
                *seen = if further { Some(holds.position) } else { *seen };
                further
            });
        }
        let mark = self.mark_at(&holds.position);
        if let (Some(mark), Some(hash)) = (mark, holds.journal)
            && mark.hash != hash
        {
            self.rewritten.send_replace(Some(mark.position));
        }
    }

    /// The journal is committed up to this mark.
    pub(crate) fn committed(&self, mark: Mark) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.back() != Some(&mark) {
            marks.push_back(mark);
        }
        while marks.len() > KEPT_MARKS {
            marks.pop_front();
        }
    }

    /// The hash of the journal at this position, where it is kept.
    pub(crate) fn mark_at(&self, position: &Position) -> Option<Mark> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.iter().rev().find(|mark| mark.position == *position).copied()
    }
}

/// Tells the journal what agents say against this manager, as long as it runs.
pub(crate) async fn tell_journal(shared: Shared) {
    let witnesses = &shared.hub.witnesses;
    let (mut heard, mut position) = (witnesses.heard(), witnesses.position());
    loop {
        // The hub, which tells, lives as long as this manager.
        let input = tokio::select! {
            _ = heard.changed() => heard.borrow_and_update().as_deref().map(Heard::input),
            _ = position.changed() => position.borrow_and_update().map(Input::Witnessed),
            () = shared.stop.cancelled() => return,
        };
        if let Some(input) = input {
            shared.edits.say(Said::Input(input)).await;
        }
    }
}

impl Heard {
    pub(crate) fn input(&self) -> Input {
        match self.against {
            None => Input::Heard(self.chain.clone()),
            Some(_) => Input::Contested(self.chain.clone()),
        }
    }
}

fn tell_unproved(host: HostId, error: &OfferError) {
    warn!(host.id = %host, "An agent holds grants that are not proved: {}", crate::failure::in_full(error));
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::grant::Grant;
    use echelon_core::id::Lineage;
    use echelon_core::time::UnixMillis;
    use uuid::Uuid;

    fn holding(position: Position, journal: Option<[u8; 32]>) -> Holding {
        let digest = Digest::default();
        Holding { position, view_revision: 1, digest, place: digest, journal }
    }

    fn witnesses() -> (Witnesses, Position) {
        let (lineage, host) = (Lineage(Uuid::from_u128(1)), HostId(Uuid::from_u128(1)));
        let first = Grant::first(lineage, host, "a".parse().unwrap(), UnixMillis(0));
        let own = first.id.at(10);
        (Witnesses::new(Chain::begin(first).unwrap()), own)
    }

    /// Protects: sessions are told other grants once, and what an agent holds is compared by them.
    #[test]
    fn other_grants_are_told_once() {
        let (witnesses, own) = witnesses();
        let (mut told, chain) = (witnesses.grants(), witnesses.current().chain.clone());
        witnesses.set_chain(chain.clone());
        assert!(!told.has_changed().unwrap());
        let other = Lineage(Uuid::from_u128(3));
        let first = Grant::first(other, HostId(Uuid::from_u128(1)), "a".parse().unwrap(), UnixMillis(0));
        let theirs = first.id.at(99);
        witnesses.set_chain(Chain::begin(first).unwrap());
        assert!(told.has_changed().unwrap() && told.borrow_and_update().digest != chain.digest());
        witnesses.witness(&own, &holding(theirs, None));
        assert_eq!(*witnesses.position().borrow(), None, "one's own journal is not there yet");
    }

    /// Protects: a state directory that was rolled back is recognised by what its agents hold, and by nothing else.
    #[test]
    fn only_a_position_beyond_ones_own_under_the_same_grants_is_witnessed() {
        let (witnesses, own) = witnesses();
        let at = |revision| Position { revision, ..own };
        let elsewhere = Position { lineage: Lineage(Uuid::from_u128(2)), ..at(99) };
        for nothing in [at(9), own, elsewhere] {
            witnesses.witness(&own, &holding(nothing, None));
            assert_eq!(*witnesses.position().borrow(), None, "{nothing:?}");
        }
        let mut position = witnesses.position();
        for (held, told) in [(12, true), (11, false), (12, false), (15, true)] {
            witnesses.witness(&own, &holding(at(held), None));
            assert_eq!(position.has_changed().unwrap(), told, "{held}");
            position.mark_unchanged();
        }
        assert_eq!(*position.borrow(), Some(at(15)));
    }

    #[test]
    fn another_hash_of_a_position_that_is_kept_is_noticed() {
        let (witnesses, own) = witnesses();
        let at = |revision| Position { revision, ..own };
        (1..=300).for_each(|n| witnesses.committed(Mark { position: at(n), hash: [1; 32] }));
        witnesses.witness(&at(300), &holding(at(290), Some([1; 32])));
        witnesses.witness(&at(300), &holding(at(1), Some([2; 32])));
        assert_eq!(witnesses.rewritten(), None, "too old to be told");
        witnesses.witness(&at(300), &holding(at(290), Some([2; 32])));
        assert_eq!(witnesses.rewritten(), Some(at(290)));
    }
}
