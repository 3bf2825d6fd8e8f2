//! A forced promotion: the primary is dead, and an admin wants this manager in its place. And the choice between
//! two lineages, which ends in the same way: with a grant that an admin proves.

use super::{Effect, Member, MemberMessage, Peer, Refused, Seal, Standing, Told};
use crate::grant::{Basis, Chain, Grant, GrantId, Grantor, MAX_GRANTS, Mark, Parent, SyncRule};
use crate::id::{HostId, Lineage, RequestId};
use crate::name::Text;
use crate::time::{Monotonic, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the primary and the others may take to say that they are there; availability.md.
pub const ANSWER: Duration = Duration::from_millis(300);

/// How long the others may take to promise: they answer once that is on disk.
pub const PROMISE: Duration = Duration::from_secs(2);

/// How long it may take to get the entries that another manager holds.
pub const FETCH: Duration = Duration::from_secs(30);

/// How long a proposal stands: whoever proves it has been asked everything before.
pub const READY: Duration = Duration::from_secs(10);

/// A wish to promote this manager by force.
#[derive(Clone, PartialEq, Debug)]
pub struct Prepare {
    /// Under which name it is told what became of it.
    pub id: RequestId,
    /// Under which name others are asked for promises; never used before, also where `id` was: what ends the promises
    /// of a try before may come late, and must not end those of this one.
    pub promise: RequestId,
    /// The lineage that would begin; no grant has it.
    pub lineage: Lineage,
    /// Only say what would happen: nobody is asked for a promise.
    pub trial: bool,
    /// Go on though committed entries may be lost.
    pub accept_loss: bool,
    /// Who wants it.
    pub grantor: Grantor,
    /// Why.
    pub reason: Option<Text>,
    /// When, by the clock of this manager.
    pub at: UnixMillis,
}

/// A wish to choose this manager's lineage.
#[derive(Clone, PartialEq, Debug)]
pub struct Choose {
    /// Under which name it is told what became of it.
    pub id: RequestId,
    /// Who wants it.
    pub grantor: Grantor,
    /// Why.
    pub reason: Option<Text>,
    /// When, by the clock of this manager.
    pub at: UnixMillis,
}

/// What would be granted, and on what evidence.
#[derive(Clone, PartialEq, Debug)]
pub struct Proposal {
    /// The grant, to be proved.
    pub grant: Grant,
    /// The primary so far.
    pub primary: HostId,
    /// Whether it answers.
    pub primary_answers: bool,
    /// The standbys that count so far.
    pub rule: SyncRule,
    /// Where those stand that were heard, this manager among them.
    pub heard: BTreeMap<HostId, Standing>,
    /// Why a committed entry may be known to nobody who was heard; none where all are known.
    pub doubt: Option<Refused>,
}

impl Proposal {
    /// Members of the set that were not heard.
    pub fn silent(&self) -> Vec<HostId> {
        self.rule.members.iter().copied().filter(|m| !self.heard.contains_key(m)).collect()
    }
}

/// A promotion or a choice under way.
#[derive(Clone, Debug)]
pub(super) struct Promotion {
    id: RequestId,
    phase: Phase,
    /// Who has answered since it began.
    answered: BTreeMap<HostId, Standing>,
    /// Whose promise this manager has.
    sealed: BTreeMap<HostId, Standing>,
    wish: Option<Prepare>,
}

#[derive(Clone, Debug)]
enum Phase {
    Asking { until: Monotonic },
    Sealing { until: Monotonic },
    Fetching { from: HostId, to: Mark, until: Monotonic },
    Ready { grant: Box<Grant>, until: Monotonic },
}

impl Promotion {
    /// Under which name others are asked for promises; a choice rests on none.
    fn promise(&self) -> Option<RequestId> {
        self.wish.as_ref().map(|wish| wish.promise)
    }

    pub(super) fn deadline(&self) -> Monotonic {
        match &self.phase {
            Phase::Asking { until }
            | Phase::Sealing { until }
            | Phase::Fetching { until, .. }
            | Phase::Ready { until, .. } => *until,
        }
    }
}

impl Member {
    pub(super) fn is_promoting(&self, id: RequestId) -> bool {
        self.promotion.as_ref().is_some_and(|p| p.id == id)
    }

    /// Whether entries of this manager are awaited, though it may not be the primary.
    pub(super) fn is_fetching_from(&self, peer: HostId) -> bool {
        let lacks_parent = !self.leading && self.chain.is_held_by(self.me);
        lacks_parent || self.is_fetching_to_promote(peer)
    }

    /// Whether this manager is to be promoted and gets what it lacks from that one.
    pub(super) fn is_fetching_to_promote(&self, peer: HostId) -> bool {
        let fetching = |p: &Promotion| matches!(p.phase, Phase::Fetching { from, .. } if from == peer);
        self.promotion.as_ref().is_some_and(fetching)
    }

    pub(super) fn prepare(&mut self, wish: Prepare, out: &mut Vec<Effect>) {
        let refused = if self.leading {
            Some(Refused::AlreadyPrimary)
        } else if self.promotion.is_some() || self.loading {
            Some(Refused::Busy)
        } else {
            None
        };
        if let Some(refused) = refused {
            return out.push(Effect::Told(wish.id, Told::Refused(refused)));
        }
        let phase = Phase::Asking { until: self.now + ANSWER };
        let (id, wish) = (wish.id, Some(wish));
        self.promotion =
            Some(Promotion { id, phase, answered: BTreeMap::new(), sealed: BTreeMap::new(), wish });
        self.tell_all(MemberMessage::Ask, out);
    }

    pub(super) fn pass_time_of_promotion(&mut self, out: &mut Vec<Effect>) {
        let Some(promotion) = &self.promotion else { return };
        let over = promotion.deadline() <= self.now;
        match &promotion.phase {
            Phase::Asking { .. } if over || self.have_all(&promotion.answered) => self.after_asking(out),
            Phase::Sealing { .. } if over || self.have_all(&promotion.sealed) => self.after_sealing(out),
            Phase::Fetching { to, .. } if self.log.last().revision() >= to.revision() => self.propose(out),
            Phase::Fetching { .. } | Phase::Ready { .. } if over => {
                self.abort_promotion(Refused::TooSlow, out)
            }
            Phase::Fetching { from, .. } => self.fetch_again(*from, out),
            _ => {}
        }
    }

    /// Whether all that are connected are among these; the primary need not be among those that promise.
    fn have_all(&self, answers: &BTreeMap<HostId, Standing>) -> bool {
        let holder = self.chain.head().holder;
        let asking = matches!(self.promotion, Some(Promotion { phase: Phase::Asking { .. }, .. }));
        let missing = |(host, peer): (&HostId, &Peer)| {
            peer.connected && !answers.contains_key(host) && (asking || *host != holder)
        };
        !self.peers.iter().any(missing)
    }

    fn primary_answers(&self) -> bool {
        let holder = self.chain.head().holder;
        let answer = self.promotion.as_ref().and_then(|p| p.answered.get(&holder));
        // One that cannot lead, though it knows that it should, may be replaced. So may one that leads nobody and has
        // gone over to a lineage in conflict with this one: it comes back only by a choice, and that takes a primary.
        let may_come_back = |s: &Standing| s.grant != self.head() && !self.is_of_a_rival(s.grant);
        holder != self.me && answer.is_some_and(|s| s.leads || may_come_back(s))
    }

    /// Whether this is the newest grant of a chain that is not gone by here until an admin has chosen.
    fn is_of_a_rival(&self, grant: GrantId) -> bool {
        self.rivals.iter().any(|rival| rival.head().id == grant)
    }

    fn after_asking(&mut self, out: &mut Vec<Effect>) {
        let answers = self.primary_answers();
        let Some(promotion) = &mut self.promotion else { return };
        if promotion.wish.as_ref().is_some_and(|w| w.trial) {
            return self.tell_trial(out);
        }
        if answers {
            return self.abort_promotion(Refused::PrimaryAnswers, out);
        }
        promotion.phase = Phase::Sealing { until: self.now + PROMISE };
        if self.promised_before(self.me).is_some() {
            return self.abort_promotion(Refused::Busy, out);
        }
        if let Some(seal) = self.own_seal() {
            self.tell_all(MemberMessage::Seal { chain: self.chain.clone(), seal }, out);
        }
        self.pass_time_of_promotion(out);
    }

    fn tell_trial(&mut self, out: &mut Vec<Effect>) {
        let head = self.head();
        let Some(promotion) = &self.promotion else { return };
        let heard = promotion.answered.iter().filter(|(_, s)| s.grant == head);
        let heard = heard.map(|(host, s)| (*host, s.clone())).collect();
        let (id, proposal) = (promotion.id, self.proposal(promotion, heard));
        self.promotion = None;
        if let Some(proposal) = proposal {
            out.push(Effect::Told(id, Told::Proposed(Box::new(proposal))));
        }
    }

    fn after_sealing(&mut self, out: &mut Vec<Effect>) {
        let Some(promotion) = &self.promotion else { return };
        let ahead = self.furthest_ahead(&promotion.sealed).map(|(host, standing)| (host, standing.last));
        match (ahead, &mut self.promotion) {
            (Some((from, to)), Some(promotion)) => {
                promotion.phase = Phase::Fetching { from, to, until: self.now + FETCH };
                self.fetch(from, out);
            }
            _ => self.propose(out),
        }
    }

    /// Who of those that were heard has the most entries that this manager has not got.
    fn furthest_ahead<'a>(&self, heard: &'a BTreeMap<HostId, Standing>) -> Option<(HostId, &'a Standing)> {
        let own = self.log.last().revision();
        let counts = |s: &Standing| s.grant == self.head() && self.chain.contains(&s.last.position);
        let ahead = heard.iter().filter(|(_, s)| counts(s) && s.last.revision() > own);
        ahead.max_by_key(|(_, s)| s.last.revision()).map(|(host, s)| (*host, s))
    }

    /// Entries have come from a manager that was asked for them.
    pub(super) fn fetched(&mut self, peer: HostId, out: &mut Vec<Effect>) {
        let lacking = |p: &Promotion| match p.phase {
            Phase::Fetching { from, to, .. } => from == peer && to.revision() > self.log.last().revision(),
            _ => false,
        };
        if self.promotion.as_ref().is_some_and(lacking) {
            self.fetch(peer, out);
        }
    }

    /// Nothing came for a while: it is asked for once more, of whoever is still there.
    fn fetch_again(&mut self, from: HostId, out: &mut Vec<Effect>) {
        let now = self.now;
        match self.peers.get(&from) {
            Some(peer) if peer.may_feed(now) => self.fetch(from, out),
            Some(peer) if peer.connected => {}
            _ => self.abort_promotion(Refused::SourceLost, out),
        }
    }

    /// Everything that can be known is here.
    fn propose(&mut self, out: &mut Vec<Effect>) {
        let wanted = self.chain.head().parent.map_or(0, |p| p.mark.revision());
        if !self.chain.contains(&self.log.last().position) {
            // The journal is another one than the grants speak of: nobody could follow what is built on it.
            return self.abort_promotion(Refused::NotLevel { wanted }, out);
        }
        let Some(promotion) = &self.promotion else { return };
        let Some(proposal) = self.proposal(promotion, promotion.sealed.clone()) else { return };
        let (id, accept_loss) = (promotion.id, promotion.wish.as_ref().is_some_and(|w| w.accept_loss));
        if let Some(why) = proposal.doubt.clone().filter(|_| !accept_loss) {
            return self.abort_promotion(why, out);
        }
        let grant = Box::new(proposal.grant.clone());
        if let Some(promotion) = &mut self.promotion {
            promotion.phase = Phase::Ready { grant, until: self.now + READY };
        }
        out.push(Effect::Told(id, Told::Proposed(Box::new(proposal))));
    }

    fn proposal(&self, promotion: &Promotion, mut heard: BTreeMap<HostId, Standing>) -> Option<Proposal> {
        let (wish, head) = (promotion.wish.as_ref()?, self.chain.head());
        heard.insert(self.me, self.standing());
        // For a trial nothing is fetched: it goes by where this manager would stand then.
        let ahead = self.furthest_ahead(&heard).filter(|_| wish.trial).map(|(_, standing)| standing.clone());
        let Standing { last, rule, .. } = ahead.unwrap_or_else(|| self.standing());
        let grant = Grant {
            id: GrantId { lineage: wish.lineage, epoch: head.id.epoch + 1 },
            holder: self.me,
            parent: Some(Parent { grant: head.id, mark: last }),
            basis: Basis::Force,
            sync: rule.without(self.me),
            at: wish.at,
            grantor: wish.grantor.clone(),
            reason: wish.reason.clone(),
            rejects: Vec::new(),
            proof: None,
        };
        let (primary, primary_answers) = (head.holder, self.primary_answers());
        let mut proposal = Proposal { grant, primary, primary_answers, rule, heard, doubt: None };
        proposal.doubt = self.doubt(&proposal, last);
        Some(proposal)
    }

    /// Why a committed entry may be known to nobody who was heard, were this manager to go on from `last`.
    fn doubt(&self, proposal: &Proposal, last: Mark) -> Option<Refused> {
        let (rule, silent) = (&proposal.rule, proposal.silent());
        let (needed, heard) = (rule.quorum_to_promote(), rule.members.len() - silent.len());
        let built_on = self.chain.head().parent.map_or(0, |parent| parent.mark.revision());
        let wanted = built_on.max(self.shown_revision());
        if heard < needed {
            return Some(Refused::TooFewHeard { needed, heard, silent });
        }
        if last.revision() < wanted {
            return Some(Refused::NotLevel { wanted });
        }
        (!self.is_change_safe(&proposal.grant.sync)).then_some(Refused::Changing)
    }

    /// Whether nobody could be promoted under a rule that a pending change is about to end, without knowing what
    /// was committed under `next`, the rule of a grant to this manager.
    fn is_change_safe(&self, next: &SyncRule) -> bool {
        let safe = |old: &SyncRule| old.sure_under(next, self.me) >= old.needed();
        self.log.rules_since(self.chain.head()).all(safe)
    }

    pub(super) fn choose(&mut self, wish: Choose, out: &mut Vec<Effect>) {
        let refused = if !self.leading {
            Some(Refused::NotPrimary { holder: self.chain.head().holder })
        } else if self.promotion.is_some() || self.handover.is_some() {
            Some(Refused::Busy)
        } else if self.rivals.is_empty() {
            Some(Refused::NoConflict)
        } else if self.log.is_changing(self.chain.head()) {
            Some(Refused::Changing)
        } else {
            None
        };
        if let Some(refused) = refused {
            return out.push(Effect::Told(wish.id, Told::Refused(refused)));
        }
        let (head, rule) = (self.chain.head(), self.log.rule_under(self.chain.head()).clone());
        let rejects: Vec<_> = self.rivals.iter().flat_map(|rival| given_up(&self.chain, rival)).collect();
        let grant = Grant {
            id: GrantId { lineage: head.id.lineage, epoch: self.epoch_of_choice() },
            holder: self.me,
            parent: Some(Parent { grant: head.id, mark: self.log.last() }),
            basis: Basis::Choice,
            sync: rule.clone(),
            at: wish.at,
            grantor: wish.grantor,
            reason: wish.reason,
            rejects,
            proof: None,
        };
        let proposal = Proposal {
            grant: grant.clone(),
            primary: self.me,
            primary_answers: true,
            rule,
            heard: BTreeMap::from([(self.me, self.standing())]),
            doubt: None,
        };
        let phase = Phase::Ready { grant: Box::new(grant), until: self.now + READY };
        let (answered, sealed) = (BTreeMap::new(), BTreeMap::new());
        self.promotion = Some(Promotion { id: wish.id, phase, answered, sealed, wish: None });
        out.push(Effect::Told(wish.id, Told::Proposed(Box::new(proposal))));
    }

    /// Above those of all rivals, since resources may have seen fencing numbers of theirs. One that no promotions lead
    /// to is made up, by somebody who was put out, and would leave no room for those that come.
    fn epoch_of_choice(&self) -> u64 {
        let own = self.head().epoch;
        let reached = |epoch: &u64| epoch.saturating_sub(own) <= MAX_GRANTS as u64;
        let rivals = self.rivals.iter().map(|rival| rival.head().id.epoch);
        rivals.filter(reached).fold(own, u64::max) + 1
    }

    /// A grant is proved: that of a hand-over, or the one that was proposed.
    pub(super) fn granted(&mut self, grant: Grant, out: &mut Vec<Effect>) {
        if self.handover.is_some() {
            return self.grant_handover(grant, out);
        }
        let Some(promotion) = &self.promotion else { return };
        let id = promotion.id;
        let proposed = matches!(&promotion.phase, Phase::Ready { grant: g, .. } if **g == grant.unproved());
        if !proposed || grant.parent.is_none_or(|p| p.mark != self.log.last()) {
            return self.abort_promotion(Refused::NotAsProposed, out);
        }
        match self.chain.extended(grant) {
            Ok(chain) => self.take_grant(id, chain, out),
            Err(_) => self.abort_promotion(Refused::ChainFull, out),
        }
    }

    pub(super) fn abort_promotion(&mut self, why: Refused, out: &mut Vec<Effect>) {
        let Some(promotion) = self.promotion.take() else { return };
        out.push(Effect::Told(promotion.id, Told::Refused(why)));
        self.tell_all(MemberMessage::Standing(self.standing()), out);
        if let Some(proposal) = promotion.promise() {
            self.tell_all(MemberMessage::Unseal { proposal }, out);
        }
    }

    /// A newer grant is adopted; one that is not this promotion's.
    pub(super) fn end_promotion(&mut self, head: GrantId, out: &mut Vec<Effect>) {
        if let Some(promotion) = self.promotion.take() {
            out.push(Effect::Told(promotion.id, Told::Refused(Refused::Overtaken(head))));
        }
    }

    /// What this manager promises itself while it is to be promoted by force: what it builds on does not change
    /// meanwhile. It ends with the promotion, also where that ends with the process, and is not durable.
    pub(super) fn own_seal(&self) -> Option<Seal> {
        let promotion = self.promotion.as_ref()?;
        let asked = promotion.promise().filter(|_| !matches!(promotion.phase, Phase::Asking { .. }));
        asked.map(|proposal| Seal { proposal, by: self.me, grant: self.head() })
    }

    /// A promise under the newest grant to somebody else than this one, who is there to make use of it.
    fn promised_before(&self, to: HostId) -> Option<Seal> {
        let there = |host| host == self.me || self.peers.get(&host).is_some_and(|p| !p.is_silent(self.now));
        self.seals().under(self.head()).find(|seal| seal.by != to && there(seal.by)).copied()
    }

    pub(super) fn asked_to_seal(&mut self, peer: HostId, chain: Chain, seal: Seal, out: &mut Vec<Effect>) {
        self.consider(&chain, out);
        if self.loading {
            self.after_load = Some((peer, MemberMessage::Seal { chain, seal }));
            return;
        }
        if seal.grant != self.head() {
            return self.offer_grants(peer, out);
        }
        if self.chain.is_held_by(self.me) || seal.by != peer {
            return out.push(Effect::Send(peer, MemberMessage::Standing(self.standing())));
        }
        let holds = match self.promised_before(peer) {
            Some(other) => other,
            None if self.seals.give(seal) => {
                out.push(Effect::Seal(self.seals.clone()));
                seal
            }
            None => return,
        };
        out.push(Effect::Send(peer, MemberMessage::Sealed { seal: holds, standing: self.standing() }));
    }

    pub(super) fn take_sealed(
        &mut self,
        peer: HostId,
        seal: Seal,
        standing: Standing,
        out: &mut Vec<Effect>,
    ) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.standing = Some(standing.clone());
        }
        let Some(promotion) = &mut self.promotion else { return };
        // One that comes later may know more than what was fetched.
        if !matches!(promotion.phase, Phase::Sealing { .. }) {
            return;
        }
        if promotion.promise() == Some(seal.proposal) {
            promotion.sealed.insert(peer, standing);
        } else if seal.by != self.me {
            // Another promotion came first there.
            self.abort_promotion(Refused::Busy, out);
        }
    }

    /// Notes that a manager has said where it stands, since a promotion began.
    pub(super) fn note_answer(&mut self, peer: HostId, standing: &Standing) {
        if let Some(promotion) = &mut self.promotion {
            promotion.answered.insert(peer, standing.clone());
        }
    }

    /// Ends promises to promotions of this manager that came to nothing. Once one has led to a grant, only the grant
    /// ends what was promised for it: until then nothing may be taken under the old one.
    pub(super) fn end_needless_seals(&self, peer: HostId, standing: &Standing, out: &mut Vec<Effect>) {
        let promised = self.promotion.as_ref().and_then(Promotion::promise);
        let needless = |s: &&Seal| s.by == self.me && Some(s.proposal) != promised;
        for Seal { proposal, .. } in standing.seals.under(self.head()).filter(needless).copied() {
            out.push(Effect::Send(peer, MemberMessage::Unseal { proposal }));
        }
    }

    pub(super) fn unseal(&mut self, proposal: RequestId, out: &mut Vec<Effect>) {
        if self.seals.end(proposal) {
            out.push(Effect::Seal(self.seals.clone()));
            self.tell_all(MemberMessage::Standing(self.standing()), out);
        }
    }
}

/// The grants of another chain that this one has not got: all of a branch, so that whoever stopped midway on it
/// learns of the choice too. One may be called as one's own is: a manager that was set back grants twice.
fn given_up(chain: &Chain, rival: &Chain) -> Vec<GrantId> {
    rival.unknown_to(Some(chain)).map(|(_, grant)| grant.id).collect()
}
