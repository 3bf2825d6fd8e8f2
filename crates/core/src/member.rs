//! One registry manager among those of its registry: who may write, what is committed, and how that changes hands.
//!
//! A [`Member`] is told what happens ([`Input`]) and says what is to be done ([`Effect`]), in this order: persist,
//! then send, then publish. It holds no entries, only where they are; whoever drives it keeps the journal. A state
//! that an effect makes durable counts as durable from then on: where that fails, the process has to end.
//!
//! - The holder of the newest grant writes. Everybody else follows it, and takes entries from nobody else.
//! - An entry is committed once it is durable here and on as many of the standbys that count as the rule says
//!   ([`Log`]); only then anybody but managers sees it.
//! - Whoever hears of a newer chain of grants adopts it before doing anything else, and gives up the entries that
//!   do not belong to it (they are kept as a surplus). For a primary that is the fence.
//! - A forced promotion first asks everybody it can reach for a durable promise ([`Seal`]) to take no more entries
//!   under the old grant; then what they hold is all that can have been committed.

mod entry;
mod follow;
mod handover;
mod lead;
mod log;
mod message;
mod peer;
mod promotion;
mod seals;

pub use entry::{Entry, SyncChange, link, sync_change};
pub use handover::{HANDOVER, HandOver};
pub use lead::CannotWrite;
pub use log::{Log, Pending};
pub use message::{Append, MemberMessage, STANDING_INTERVAL, Seal, Standing};
pub use peer::Peer;
pub use promotion::{ANSWER, Choose, FETCH, PROMISE, Prepare, Proposal, READY};
pub use seals::{MAX_SEALS, Seals};

use crate::grant::{Chain, Cut, Grant, GrantId, Mark, Parent, Relation};
use crate::id::{HostId, RequestId};
use crate::position::Position;
use crate::time::Monotonic;
use promotion::Promotion;
use std::collections::BTreeMap;

/// Most chains in conflict with one's own that are remembered, for an admin to choose between.
pub const MAX_RIVALS: usize = 8;

/// What a manager starts from: what it has made durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The grants.
    pub chain: Chain,
    /// The journal. Its committed revision is a lower bound.
    pub log: Log,
    /// The promises it is held by.
    pub seals: Seals,
    /// A position that others have seen and this journal has lost.
    pub rolled_back: Option<Position>,
}

/// What happens to a manager.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A link to another manager of the registry is up; perhaps to a new process of it, in place of one that is gone.
    Met(HostId),
    /// The last link to another manager is gone.
    Lost(HostId),
    /// Another manager says this. Chains in it are proved.
    Said(HostId, MemberMessage),
    /// The registry has no such manager any more.
    Forgotten(HostId),
    /// Entries made here, after [`Member::may_write`] said yes; they follow on the last one.
    Write(Vec<Entry>),
    /// An agent holds this chain; it is proved.
    Heard(Chain),
    /// Somebody holds this chain; it is proved, and this registry speaks against whoever has given what is new in it. It
    /// is never adopted; an admin may choose against it.
    Contested(Chain),
    /// An agent holds this position.
    Witnessed(Position),
    /// The journal has no such entry as this manager says is its last; see [`Effect::Feed`].
    NoSuchMark(HostId),
    /// What the journal is, after [`Effect::Adopt`] with a cut, or [`Effect::Copy`].
    Loaded(Stored),
    /// There is no copy: whoever was asked could not give it.
    NotCopied,
    /// Hand the primary's role over.
    HandOver(HandOver),
    /// Find out whether this manager can be promoted by force.
    Prepare(Prepare),
    /// Choose this manager's lineage over those in conflict with it.
    Choose(Choose),
    /// The grant that was proposed, proved.
    Promote(Grant),
    /// Nothing comes of this hand-over, promotion or choice.
    Abort(RequestId),
    /// Time has passed.
    Tick,
}

/// What is to be done about it, in the order of the list.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Make the chain durable; where there is a cut, in the same transaction take the entries above it out of the
    /// journal and keep them as surplus. Ends all promises. With a cut, [`Input::Loaded`] is due at once. Where the
    /// journal up to the cut is another one than the chain speaks of, the chain becomes durable all the same, and
    /// the journal stays as it is: a copy replaces it.
    Adopt {
        /// The chain.
        chain: Chain,
        /// The last entry that stays, where some go.
        cut: Option<Parent>,
    },
    /// Make entries durable, after the last one.
    Append(Vec<Entry>),
    /// Make durable that it is held by these promises, and by no other.
    Seal(Seals),
    /// Make durable that this journal has lost what others have seen.
    RolledBack(Position),
    /// Everything up to this revision is committed: show it, and answer. How far is made durable when it suits; but
    /// of a change of the standbys that count before it is shown, since after a restart the old ones would be asked
    /// for it again, of whom some may have left by then.
    Commit(u64),
    /// Send a message; it may get lost.
    Send(HostId, MemberMessage),
    /// Send the entries after this one as [`MemberMessage::Append`], as many as fit, none where there are none.
    /// Where the journal has no such entry: [`Input::NoSuchMark`].
    Feed {
        /// To whom.
        to: HostId,
        /// The entry before them.
        after: Mark,
    },
    /// Get a copy of the journal from this manager, in place of one's own, which is kept aside. Then
    /// [`Input::Loaded`] or [`Input::NotCopied`]. One at a time: a newer wish ends an older one. It is put in place
    /// only while [`Member::is_copying`] holds, together with this manager's own promises, and only where its chain
    /// is the same as this manager's or newer: else what was promised or answered since would be forgotten.
    Copy(HostId),
    /// This manager is the primary. Where the journal has no entry under the newest grant yet, the first one is
    /// to be written: the registry takes note of the new primary.
    Lead,
    /// This manager was the primary and is no longer. Edits that are not committed have an unknown outcome.
    Fenced,
    /// Have the registry count this standby, which is level; an ordinary edit.
    Admit(HostId),
    /// Prove this grant, then [`Input::Promote`].
    Prove(Grant),
    /// What became of a hand-over or a promotion.
    Told(RequestId, Told),
}

/// What became of a hand-over or a promotion.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// What would be granted, and on what evidence. For a trial that is all; else [`Input::Promote`] is awaited
    /// for [`READY`].
    Proposed(Box<Proposal>),
    /// It is done: this is the newest grant.
    Done(GrantId),
    /// Nothing has changed.
    Refused(Refused),
}

/// Why nothing came of a hand-over, promotion or choice. The registry is as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// This manager is not the primary, which it has to be.
    #[error("this manager is not the primary; {holder} is")]
    NotPrimary {
        /// Who is.
        holder: HostId,
    },
    /// This manager is the primary already.
    #[error("this manager is the primary already")]
    AlreadyPrimary,
    /// The old primary is alive.
    #[error("the primary answers: hand over instead, which loses nothing")]
    PrimaryAnswers,
    /// The primary, which would have to hand over, is not there.
    #[error("the primary does not answer, and so cannot hand over")]
    PrimarySilent,
    /// The manager that is to take over is not connected, or was lost on the way.
    #[error("the manager that is to take over cannot be reached from the primary")]
    NotConnected,
    /// The manager that has the entries which this one lacks was lost on the way.
    #[error("the manager that has the newest edits was lost before they were here")]
    SourceLost,
    /// The manager that has the entries which this one lacks has not got the last one that is here.
    #[error("the journal here is another one than that of the manager with the newest edits")]
    Apart {
        /// That manager.
        from: HostId,
    },
    /// It took too long.
    #[error("the manager that is to take over did not become level in time")]
    TooSlow,
    /// Another hand-over or promotion is under way here.
    #[error("another promotion is under way")]
    Busy,
    /// A newer grant came to light meanwhile.
    #[error("a newer grant came to light: {0}")]
    Overtaken(GrantId),
    /// What was to be granted is not what was proposed, or the journal has moved on.
    #[error("the grant is not the one that was proposed, or the journal has moved on since")]
    NotAsProposed,
    /// So few of the standbys that count were heard that a committed edit may be known to none of them.
    #[error(
        "only {heard} of the standbys that count were heard, and it takes {needed} to know of every edit"
    )]
    TooFewHeard {
        /// How many have to be.
        needed: usize,
        /// How many were.
        heard: usize,
        /// Those that were not.
        silent: Vec<HostId>,
    },
    /// What was committed, as agents have proved or the newest grant builds on it, is held by nobody that was heard.
    #[error("revision {wanted}, which was committed, is held by nobody that was heard")]
    NotLevel {
        /// Its revision.
        wanted: u64,
    },
    /// A state directory that was rolled back cannot lead.
    #[error("the journal has lost what others have seen")]
    RolledBack,
    /// The journal of the manager that is to take over takes it out of the registry: nobody would listen to it.
    #[error("the manager that is to take over was taken out of the registry")]
    Removed,
    /// The manager that is to take over is not among the standbys that count.
    #[error("the manager that is to take over is not among the standbys that count")]
    NotCounted,
    /// Which standbys count is being changed.
    #[error("a change of the standbys that count is not committed yet")]
    Changing,
    /// There is nothing to choose between.
    #[error("no other lineage is in conflict with this one")]
    NoConflict,
    /// The chain of grants is full.
    #[error("the chain of grants is full")]
    ChainFull,
    /// It was given up.
    #[error("it was given up")]
    Aborted,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Member {
    me: HostId,
    chain: Chain,
    log: Log,
    /// What it has promised others; durable.
    seals: Seals,
    rolled_back: Option<Position>,
    /// The furthest position that agents have proved to have been shown, as far as this process knows.
    shown: Option<Position>,
    leading: bool,
    peers: BTreeMap<HostId, Peer>,
    /// Chains that are in conflict with one's own, or contested.
    rivals: Vec<Chain>,
    /// Since when the journal is being copied from somebody.
    copying: Option<HostId>,
    /// Whether [`Input::Loaded`] is due.
    loading: bool,
    /// A message that is taken once it has come.
    after_load: Option<(HostId, MemberMessage)>,
    handover: Option<HandOver>,
    promotion: Option<Promotion>,
    /// Whether an entry under the newest grant came from its holder, which proves that the journals agree.
    follows: bool,
    next_standing: Monotonic,
    now: Monotonic,
}

impl Member {
    /// The manager on this host. [`Input::Tick`] starts it.
    pub fn new(me: HostId, now: Monotonic, stored: Stored) -> Self {
        let Stored { chain, log, seals, rolled_back } = stored;
        Self {
            me,
            chain,
            log,
            seals,
            rolled_back,
            shown: None,
            leading: false,
            peers: BTreeMap::new(),
            rivals: Vec::new(),
            copying: None,
            loading: false,
            after_load: None,
            handover: None,
            promotion: None,
            follows: false,
            next_standing: now,
            now,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Monotonic, input: Input, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match input {
            Input::Met(peer) => self.met(peer, out),
            Input::Lost(peer) => self.lost(peer, out),
            Input::Forgotten(peer) => {
                self.lost(peer, out);
                self.peers.remove(&peer);
            }
            Input::Said(peer, message) => self.said(peer, message, out),
            Input::Write(entries) => self.write(entries, out),
            Input::Heard(chain) => {
                self.consider(&chain, out);
            }
            Input::Contested(chain) => self.note_rival(&chain),
            Input::Witnessed(position) => self.witnessed(position, out),
            Input::NoSuchMark(peer) => self.no_such_mark(peer, out),
            Input::Loaded(stored) => self.loaded(stored, out),
            Input::NotCopied => self.copying = None,
            Input::HandOver(wish) => self.hand_over(wish, out),
            Input::Prepare(wish) => self.prepare(wish, out),
            Input::Choose(wish) => self.choose(wish, out),
            Input::Promote(grant) => self.granted(grant, out),
            Input::Abort(id) => self.abort(id, Refused::Aborted, out),
            Input::Tick => {}
        }
        self.pass_time(out);
    }

    /// When [`Input::Tick`] is due, whatever else happens.
    pub fn next_deadline(&self) -> Monotonic {
        let others = [
            self.handover.as_ref().map(HandOver::deadline),
            self.promotion.as_ref().map(Promotion::deadline),
        ];
        others.into_iter().flatten().fold(self.next_standing, Monotonic::min)
    }

    fn pass_time(&mut self, out: &mut Vec<Effect>) {
        if self.loading {
            return;
        }
        self.try_to_lead(out);
        self.pass_time_of_handover(out);
        self.pass_time_of_promotion(out);
        if self.next_standing <= self.now {
            self.next_standing = self.now + STANDING_INTERVAL;
            self.tell_all(MemberMessage::Standing(self.standing()), out);
            self.feed_all(out);
            self.admit_one(out);
        }
    }

    /// The host it is on.
    pub fn me(&self) -> HostId {
        self.me
    }

    /// The grants it goes by.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Its journal.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether it is the primary: it holds the newest grant and has all that this builds on. Whether it may write
    /// at the moment, [`Self::may_write`] says.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// The other managers it has ever been linked to.
    pub fn peers(&self) -> impl Iterator<Item = (HostId, &Peer)> {
        self.peers.iter().map(|(host, peer)| (*host, peer))
    }

    /// Chains that are in conflict with its own, or contested.
    pub fn rivals(&self) -> &[Chain] {
        &self.rivals
    }

    /// The promises it is held by: those to others, and while it is to be promoted itself, its own.
    pub fn seals(&self) -> Seals {
        self.seals.iter().copied().chain(self.own_seal()).collect()
    }

    /// A position that others have seen and this journal has lost.
    pub fn rolled_back(&self) -> Option<Position> {
        self.rolled_back
    }

    /// Whether its journal is being copied from another manager's.
    pub fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    /// Where its journal stands.
    pub fn standing(&self) -> Standing {
        let head = self.chain.head();
        Standing {
            grant: head.id,
            chain: Some(self.chain.digest()),
            last: self.log.last(),
            committed: self.log.committed(),
            rule: self.log.rule_under(head).clone(),
            seals: self.seals(),
            leads: self.leading,
        }
    }

    fn head(&self) -> GrantId {
        self.chain.head().id
    }

    fn said(&mut self, peer: HostId, message: MemberMessage, out: &mut Vec<Effect>) {
        let now = self.now;
        self.peers.entry(peer).or_default().heard = Some(now);
        if self.loading {
            return;
        }
        match message {
            MemberMessage::Standing(standing) => self.take_standing(peer, standing, out),
            MemberMessage::Ask => {
                out.push(Effect::Send(peer, MemberMessage::Standing(self.standing())));
            }
            MemberMessage::Grants(chain) => {
                if self.consider(&chain, out) == Relation::Older {
                    self.offer_grants(peer, out);
                }
            }
            MemberMessage::Append(append) => self.take_entries(peer, append, out),
            MemberMessage::Appended { grant, last, accepted } => {
                self.take_ack(peer, grant, last, accepted, out);
            }
            MemberMessage::Committed { grant, revision } => self.take_commit(peer, grant, revision, out),
            MemberMessage::Missing { grant, after } => self.is_missing(peer, grant, after, out),
            MemberMessage::Fetch { grant, after } if grant == self.head() => {
                out.push(Effect::Feed { to: peer, after });
            }
            MemberMessage::Fetch { .. } => self.offer_grants(peer, out),
            MemberMessage::Seal { chain, seal } => self.asked_to_seal(peer, chain, seal, out),
            MemberMessage::Sealed { seal, standing } => self.take_sealed(peer, seal, standing, out),
            MemberMessage::Unseal { proposal } => self.unseal(proposal, out),
        }
    }

    fn met(&mut self, peer: HostId, out: &mut Vec<Effect>) {
        let now = self.now;
        self.peers.entry(peer).or_default().met(now);
        out.push(Effect::Send(peer, MemberMessage::Standing(self.standing())));
    }

    fn lost(&mut self, peer: HostId, out: &mut Vec<Effect>) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.lost();
        }
        if self.copying == Some(peer) {
            self.copying = None;
        }
        if self.handover.as_ref().is_some_and(|h| h.to == peer) {
            self.abort_handover(Refused::NotConnected, out);
        }
    }

    fn take_standing(&mut self, peer: HostId, standing: Standing, out: &mut Vec<Effect>) {
        let twin = standing.chain.is_some_and(|chain| chain != self.chain.digest());
        let same = standing.grant == self.head();
        self.end_needless_seals(peer, &standing, out);
        self.note_answer(peer, &standing);
        if let Some(known) = self.peers.get_mut(&peer) {
            // It has lost what was durable there.
            known.acked = known.acked.filter(|acked| acked.revision() <= standing.last.revision());
            known.standing = Some(standing);
        }
        if !same {
            return self.offer_grants(peer, out);
        }
        self.look_for_rollback(peer, out);
        if twin {
            // A manager that was set back grants twice. By their names nobody sees that they are in conflict.
            return self.offer_grants(peer, out);
        }
        self.feed(peer, out);
    }

    /// Tells a manager that goes by other grants which ones there are: at once, and then again and again, rarely.
    fn offer_grants(&mut self, peer: HostId, out: &mut Vec<Effect>) {
        let (now, head) = (self.now, self.head());
        let due = self.peers.get_mut(&peer).is_some_and(|known| known.is_offer_due(now, head));
        if due {
            out.push(Effect::Send(peer, MemberMessage::Grants(self.chain.clone())));
        }
    }

    /// Adopts a chain that beats its own; remembers one that is in conflict with it.
    fn consider(&mut self, other: &Chain, out: &mut Vec<Effect>) -> Relation {
        let relation = self.chain.compare(other);
        match relation {
            Relation::Newer(cut) if !self.loading => self.adopt(other.clone(), Some(cut), out),
            Relation::Conflict { .. } => self.note_rival(other),
            _ => {}
        }
        relation
    }

    /// Remembers a chain that is not gone by, and that has what one's own has not got.
    fn note_rival(&mut self, other: &Chain) {
        if !matches!(self.chain.compare(other), Relation::Newer(_) | Relation::Conflict { .. }) {
            return;
        }
        // Of two chains of one rival the newer one counts.
        self.rivals.retain(|known| !matches!(known.compare(other), Relation::Newer(_) | Relation::Same));
        let known = self.rivals.iter().any(|known| known.compare(other) == Relation::Older);
        if !known && self.rivals.len() < MAX_RIVALS {
            self.rivals.push(other.clone());
        }
    }

    /// Goes by another chain from now on, one that beats its own. Entries above the cut go.
    fn adopt(&mut self, chain: Chain, cut: Option<Cut>, out: &mut Vec<Effect>) {
        let was_leading = std::mem::take(&mut self.leading);
        let parent = cut.map(|cut| cut.parent);
        let last = self.log.last();
        // What one has above it goes; so does a last entry that is another one than it builds on.
        let goes = |p: &Parent| {
            let (revision, known) = (p.mark.revision(), self.log.mark_at(p.mark.revision()));
            last.revision() > revision || known.is_some_and(|known| known != p.mark)
        };
        let cut = parent.filter(goes);
        self.chain = chain;
        (self.seals, self.rolled_back, self.follows, self.copying) = (Seals::default(), None, false, None);
        self.forget_rivals_that_are_none();
        self.peers.values_mut().for_each(Peer::forget_acks);
        self.loading = cut.is_some();
        out.push(Effect::Adopt { chain: self.chain.clone(), cut });
        if was_leading {
            out.push(Effect::Fenced);
        }
        let head = self.head();
        self.end_handover(head, out);
        self.end_promotion(head, out);
        self.tell_all(MemberMessage::Grants(self.chain.clone()), out);
        if !self.loading {
            self.tell_all(MemberMessage::Standing(self.standing()), out);
        }
    }

    fn forget_rivals_that_are_none(&mut self) {
        self.rivals.retain(|rival| matches!(self.chain.compare(rival), Relation::Conflict { .. }));
    }

    fn loaded(&mut self, stored: Stored, out: &mut Vec<Effect>) {
        Stored { chain: self.chain, log: self.log, seals: self.seals, rolled_back: self.rolled_back } =
            stored;
        (self.loading, self.follows) = (false, false);
        self.forget_rivals_that_are_none();
        if self.copying.take().is_some() {
            // It was to build on the journal that this was, and by the grants of then.
            self.abort_promotion(Refused::NotAsProposed, out);
        }
        self.tell_all(MemberMessage::Standing(self.standing()), out);
        if let Some((peer, message)) = self.after_load.take() {
            self.said(peer, message, out);
        }
    }

    /// An agent has been shown a position. Where it is one of ours that we have not got, the journal is an older one
    /// than it was.
    fn witnessed(&mut self, position: Position, out: &mut Vec<Effect>) {
        let is_new = GrantId::of(&position) == self.head();
        if is_new && self.shown_revision() < position.revision {
            self.shown = Some(position);
        }
        if is_new && self.chain.is_held_by(self.me) && position.revision > self.log.last().revision() {
            self.roll_back(position, out);
        }
    }

    /// The furthest revision under the newest grant that agents have been shown, as far as is known; 0 where none is.
    fn shown_revision(&self) -> u64 {
        let head = self.head();
        self.shown.filter(|shown| GrantId::of(shown) == head).map_or(0, |shown| shown.revision)
    }

    /// A manager holds an entry that only we can have written, and we have not got it.
    fn look_for_rollback(&mut self, peer: HostId, out: &mut Vec<Effect>) {
        let Some(last) = self.peers.get(&peer).and_then(|p| p.standing.as_ref()).map(|s| s.last) else {
            return;
        };
        let ours = GrantId::of(&last.position) == self.head() && self.chain.is_held_by(self.me);
        if ours && !self.log.may_have(last) {
            self.roll_back(last.position, out);
        }
    }

    fn roll_back(&mut self, position: Position, out: &mut Vec<Effect>) {
        if self.rolled_back.is_some_and(|known| known.revision >= position.revision) {
            return;
        }
        self.rolled_back = Some(position);
        out.push(Effect::RolledBack(position));
        if std::mem::take(&mut self.leading) {
            out.push(Effect::Fenced);
            // What it has begun as the primary: a hand-over, or a choice.
            self.abort_handover(Refused::RolledBack, out);
            self.abort_promotion(Refused::RolledBack, out);
        }
    }

    fn tell_all(&self, message: MemberMessage, out: &mut Vec<Effect>) {
        let connected = self.peers.iter().filter(|(_, peer)| peer.connected);
        out.extend(connected.map(|(host, _)| Effect::Send(*host, message.clone())));
    }

    fn abort(&mut self, id: RequestId, why: Refused, out: &mut Vec<Effect>) {
        if self.handover.as_ref().is_some_and(|h| h.id == id) {
            self.abort_handover(why.clone(), out);
        }
        if self.is_promoting(id) {
            self.abort_promotion(why, out);
        }
    }
}

#[cfg(test)]
mod tests;
