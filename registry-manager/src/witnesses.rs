//! Who may write by this manager's grants, and what its agents, as witnesses, can prove that speaks against it.

use crate::journal::Said;
use crate::limits::{CLAIM_INTERVAL, CLAIMS, MAX_UNPROVED, STRANGERS_LOG};
use crate::occasion::Occasion;
use crate::offered::{MarkError, OfferError, examine, examine_mark};
use crate::rates::Rates;
use crate::server::Shared;
use crate::signing::{Signed, Signing};
use echelon_core::grant::{Chain, Mark, Relation};
use echelon_core::id::HostId;
use echelon_core::issuer::Doubt;
use echelon_core::member::Input;
use echelon_core::position::Position;
use echelon_core::promotion::Unproved;
use echelon_core::registry::Registry;
use echelon_core::signed_mark::{Claim, SignedMark, claim};
use echelon_core::time::Monotonic;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// How many of the newest marks of the journal are kept to be compared with what agents hold: agents are a few
/// edits behind at most, and one that is further behind has its say when it is level.
const KEPT_MARKS: usize = 256;

/// A chain that an agent holds and that has what this manager's has not; it is proved.
pub(crate) struct Heard {
    pub(crate) chain: Chain,
    /// What the registry knows against whoever has given what is new in it.
    pub(crate) against: Option<Doubt>,
}

/// The grants that this manager goes by, and what agents have told that speaks against them or against its journal.
pub(crate) struct Witnesses {
    grants: watch::Sender<Chain>,
    heard: watch::Sender<Option<Arc<Heard>>>,
    proved: watch::Sender<Option<Arc<SignedMark>>>,
    /// What of that the other managers have been told, by their hosts.
    told: Mutex<BTreeMap<HostId, Position>>,
    rewritten: watch::Sender<Option<Position>>,
    marks: Mutex<VecDeque<Mark>>,
    /// What is signed for agents.
    pub(crate) signing: Signing,
    /// What agents have shown without proof, by the host.
    unproved: Mutex<BTreeMap<HostId, Unproved>>,
    /// How often each host's agent may show what takes the check of signatures.
    claims: Rates,
    /// For what is said of agents that prove nothing.
    disbelief: Occasion,
}

impl Witnesses {
    pub(crate) fn new(chain: Chain) -> Self {
        Self {
            grants: watch::Sender::new(chain),
            heard: watch::Sender::new(None),
            proved: watch::Sender::new(None),
            told: Mutex::default(),
            rewritten: watch::Sender::new(None),
            marks: Mutex::default(),
            signing: Signing::new(),
            unproved: Mutex::default(),
            claims: Rates::new(CLAIMS, CLAIM_INTERVAL),
            disbelief: Occasion::every(STRANGERS_LOG),
        }
    }

    /// The grants that this manager goes by, as they change.
    pub(crate) fn grants(&self) -> watch::Receiver<Chain> {
        self.grants.subscribe()
    }

    /// The grants that this manager goes by now.
    pub(crate) fn current(&self) -> Chain {
        self.grants.borrow().clone()
    }

    /// Goes by this chain from now on, and tells it to every session. What was proved of states that do not count by it
    /// is proved no more.
    pub(crate) fn set_chain(&self, chain: Chain) {
        self.proved.send_if_modified(|proved| {
            proved.take_if(|proved| !chain.contains(&proved.mark.position)).is_some()
        });
        self.grants.send_if_modified(|grants| {
            let changed = *grants != chain;
            *grants = chain;
            changed
        });
    }

    /// The last chain that an agent was found to hold and that beats this manager's, or is in conflict with it.
    pub(crate) fn heard(&self) -> watch::Receiver<Option<Arc<Heard>>> {
        self.heard.subscribe()
    }

    /// The furthest mark beyond what this manager had committed, under the same grants, that an agent has proved to have
    /// been shown. Where nobody else can have committed it, this manager's state directory was rolled back.
    pub(crate) fn proved(&self) -> watch::Receiver<Option<Arc<SignedMark>>> {
        self.proved.subscribe()
    }

    /// The position of that.
    pub(crate) fn proved_position(&self) -> Option<Position> {
        self.proved.borrow().as_ref().map(|proved| proved.mark.position)
    }

    /// What agents have proved here and another manager has not been told; it is told by this.
    pub(crate) fn to_tell(&self, peer: HostId) -> Option<SignedMark> {
        let proved = self.proved.borrow().clone()?;
        let position = proved.mark.position;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.insert(peer, position) != Some(position);
        is_news.then(|| SignedMark::clone(&proved))
    }

    /// There is a new link to another manager, which may have forgotten what it was told.
    pub(crate) fn linked(&self, peer: HostId) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    /// All that agents have proved and that the journal is to hear, once more.
    pub(crate) fn said(&self) -> Vec<Input> {
        let heard = self.heard.borrow().as_deref().map(Heard::input);
        heard.into_iter().chain(self.proved_position().map(Input::Witnessed)).collect()
    }

    /// A position of which an agent was shown another history than this manager has.
    pub(crate) fn rewritten(&self) -> Option<Position> {
        *self.rewritten.borrow()
    }

    /// Takes in the chain for which the agent of a host has refused this manager. Takes the time of some signatures.
    pub(crate) fn hear_chain(&self, registry: &Registry, host: HostId, chain: Chain) {
        let own = self.current();
        let known = self.heard.borrow().as_ref().is_some_and(|heard| heard.chain == chain);
        match own.compare(&chain) {
            Relation::Newer(_) | Relation::Conflict { .. } if known => {}
            Relation::Newer(_) | Relation::Conflict { .. } => match examine(registry, &own, &chain) {
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

    /// What a mark that an agent shows says against this manager, which has committed up to `own`; none where that is
    /// nothing, or nothing new. Whether it is proved is another question.
    pub(crate) fn claim(&self, own: &Position, shown: &Mark) -> Option<Claim> {
        let at_same = self.mark_at(&shown.position);
        let claim = claim(&self.current(), own, at_same.as_ref(), shown)?;
        let is_known = match claim {
            Claim::Further => !self.is_further(&shown.position),
            Claim::Differs => self.rewritten() == Some(shown.position),
        };
        (!is_known).then_some(claim)
    }

    /// Takes in what the mark that a host's agent shows says against this manager, where that is proved. Takes the time
    /// of some signatures, and so only now and then for each host.
    pub(crate) fn hear_mark(
        &self,
        registry: &Registry,
        now: Monotonic,
        host: HostId,
        claim: Claim,
        signed: &SignedMark,
    ) {
        if !self.claims.admit(host) {
            return;
        }
        let position = signed.mark.position;
        match examine_mark(registry, claim, signed) {
            Ok(()) => {
                info!(host.id = %host, %position, ?claim, "An agent proves that it was shown another state than is shown here");
                self.speaks_well(host);
                self.believe(claim, signed);
            }
            Err(why) => {
                self.tell_disbelief(host, &position, &why);
                let mut unproved = self.unproved_by_host();
                if unproved.len() < MAX_UNPROVED {
                    unproved.entry(host).or_insert(Unproved { position, since: now }).position = position;
                }
            }
        }
    }

    /// Takes in what agents have proved to another manager, as though they had shown it here.
    pub(crate) fn hear_told(&self, registry: &Registry, own: &Position, peer: HostId, signed: &SignedMark) {
        let Some(claim) = self.claim(own, &signed.mark) else { return };
        match examine_mark(registry, claim, signed) {
            Ok(()) => self.believe(claim, signed),
            Err(why) => self.tell_disbelief(peer, &signed.mark.position, &why),
        }
    }

    fn believe(&self, claim: Claim, signed: &SignedMark) {
        match claim {
            Claim::Further => {
                self.proved.send_if_modified(|proved| {
                    let known = proved.as_ref().map(|proved| proved.mark.position);
                    let further = is_further(&signed.mark.position, known.as_ref());
                    if further {
                        *proved = Some(Arc::new(signed.clone()));
                    }
                    further
                });
            }
            Claim::Differs => drop(self.rewritten.send_replace(Some(signed.mark.position))),
        }
    }

    /// Whether a position is further than all that was proved.
    fn is_further(&self, position: &Position) -> bool {
        is_further(position, self.proved_position().as_ref())
    }

    /// The agent of a host shows nothing that it cannot prove.
    pub(crate) fn speaks_well(&self, host: HostId) {
        self.unproved_by_host().remove(&host);
    }

    /// What agents have shown without proof, by the host.
    pub(crate) fn unproved(&self) -> BTreeMap<HostId, Unproved> {
        self.unproved_by_host().clone()
    }

    fn unproved_by_host(&self) -> MutexGuard<'_, BTreeMap<HostId, Unproved>> {
        self.unproved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_disbelief(&self, host: HostId, position: &Position, why: &MarkError) {
        if let Some(others) = self.disbelief.now() {
            let why = crate::failure::in_full(why);
            warn!(host.id = %host, %position, others, "An agent shows a state that it cannot prove, and nothing is made of it: {why}");
        }
    }

    /// The newest mark that is shown, signed; none where there is none, or nothing can be signed.
    pub(crate) fn signed(&self) -> Option<Arc<Signed>> {
        let newest = self.marks().back().copied()?;
        self.signing.newest(newest, Instant::now())
    }

    /// The journal is committed up to this mark.
    pub(crate) fn committed(&self, mark: Mark) {
        let mut marks = self.marks();
        if marks.back() != Some(&mark) {
            marks.push_back(mark);
        }
        while marks.len() > KEPT_MARKS {
            marks.pop_front();
        }
    }

    /// Another journal has come in place of what was: its marks say nothing about this one.
    pub(crate) fn forget_marks(&self) {
        self.marks().clear();
    }

    /// The hash of the journal at this position, where it is kept.
    pub(crate) fn mark_at(&self, position: &Position) -> Option<Mark> {
        self.marks().iter().rev().find(|mark| mark.position == *position).copied()
    }

    fn marks(&self) -> MutexGuard<'_, VecDeque<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a position is further than what is known of the same chain.
fn is_further(position: &Position, known: Option<&Position>) -> bool {
    known.is_none_or(|known| (position.epoch, position.revision) > (known.epoch, known.revision))
}

/// Tells the journal what agents say against this manager, as long as it runs.
pub(crate) async fn tell_journal(shared: Shared) {
    let witnesses = &shared.hub.witnesses;
    let (mut heard, mut proved) = (witnesses.heard(), witnesses.proved());
    loop {
        // The hub, which tells, lives as long as this manager.
        let input = tokio::select! {
            _ = heard.changed() => heard.borrow_and_update().as_deref().map(Heard::input),
            _ = proved.changed() => {
                proved.borrow_and_update().as_ref().map(|proved| Input::Witnessed(proved.mark.position))
            }
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
    use echelon_core::grant::{Grant, Proof};
    use echelon_core::id::Lineage;
    use echelon_core::time::UnixMillis;
    use uuid::Uuid;

    fn witnesses() -> (Witnesses, Position) {
        let (lineage, host) = (Lineage(Uuid::from_u128(1)), HostId(Uuid::from_u128(1)));
        let first = Grant::first(lineage, host, "a".parse().unwrap(), UnixMillis(0));
        let own = first.id.at(10);
        (Witnesses::new(Chain::begin(first).unwrap()), own)
    }

    /// What is taken for proved here.
    fn shown(position: Position, hash: u8) -> SignedMark {
        let proof = Proof { certificates: vec![], signature: vec![] };
        SignedMark { mark: Mark { position, hash: [hash; 32] }, at: UnixMillis(0), proof }
    }

    /// Protects: sessions are told other grants once; what was proved of a state that they give up counts no more.
    #[test]
    fn other_grants_are_told_once_and_end_what_was_proved_under_the_old_ones() {
        let (witnesses, own) = witnesses();
        let (mut told, chain) = (witnesses.grants(), witnesses.current());
        witnesses.set_chain(chain.clone());
        assert!(!told.has_changed().unwrap());
        witnesses.believe(Claim::Further, &shown(own.next(), 1));
        let other = Lineage(Uuid::from_u128(3));
        let first = Grant::first(other, HostId(Uuid::from_u128(1)), "a".parse().unwrap(), UnixMillis(0));
        let theirs = first.id.at(99);
        witnesses.set_chain(Chain::begin(first).unwrap());
        assert!(told.has_changed().unwrap() && told.borrow_and_update().digest() != chain.digest());
        assert_eq!(witnesses.proved_position(), None);
        assert_eq!(witnesses.claim(&own, &shown(theirs, 1).mark), None, "one's own journal is not there yet");
    }

    /// Protects: what speaks against this manager is looked at once, and the furthest of it stays.
    #[test]
    fn only_what_is_further_than_what_was_proved_is_a_claim() {
        let (witnesses, own) = witnesses();
        let at = |revision| Position { revision, ..own };
        let mut proved = witnesses.proved();
        for (held, news) in [(9, false), (10, false), (12, true), (11, false), (12, false), (15, true)] {
            let shown = shown(at(held), 1);
            let claim = witnesses.claim(&own, &shown.mark);
            assert_eq!(claim, news.then_some(Claim::Further), "{held}");
            claim.into_iter().for_each(|claim| witnesses.believe(claim, &shown));
            assert_eq!(proved.has_changed().unwrap(), news, "{held}");
            proved.mark_unchanged();
        }
        assert_eq!(witnesses.proved_position(), Some(at(15)));
    }

    #[test]
    fn another_hash_of_a_position_that_is_kept_is_a_claim() {
        let (witnesses, own) = witnesses();
        let at = |revision| Position { revision, ..own };
        (1..=300).for_each(|n| witnesses.committed(Mark { position: at(n), hash: [1; 32] }));
        let claim = |revision, hash| witnesses.claim(&at(300), &shown(at(revision), hash).mark);
        assert_eq!((claim(290, 1), claim(1, 2)), (None, None), "the same, and too old to be told");
        assert_eq!(claim(290, 2), Some(Claim::Differs));
        witnesses.believe(Claim::Differs, &shown(at(290), 2));
        assert_eq!((witnesses.rewritten(), claim(290, 2)), (Some(at(290)), None));
        witnesses.forget_marks();
        assert_eq!(claim(291, 2), None, "of another journal that was");
    }

    /// Protects: what an agent has proved to one manager the others hear, once for each link.
    #[test]
    fn what_was_proved_here_other_managers_are_told() {
        let ((witnesses, own), peer) = (witnesses(), HostId(Uuid::from_u128(9)));
        assert_eq!(witnesses.to_tell(peer), None);
        let mark = shown(own.next(), 1);
        witnesses.believe(Claim::Further, &mark);
        assert_eq!((witnesses.to_tell(peer), witnesses.to_tell(peer)), (Some(mark.clone()), None));
        witnesses.linked(peer);
        assert_eq!(witnesses.to_tell(peer), Some(mark));
    }
}
