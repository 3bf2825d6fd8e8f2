//! The primary: it writes, feeds the others, and counts what is durable where.

use super::{Effect, Entry, Member, MemberMessage, Peer, Told};
use crate::grant::{Chain, GrantId, Mark, SyncRule};
use crate::id::{HostId, RequestId};
use crate::position::Position;
use crate::time::Monotonic;

/// Most entries that wait to be committed: with more, something is wrong, and more would not help.
const MAX_WAITING: usize = 10_000;

/// How many entries a standby may lack to count as level when it is to be admitted among those that count. Edits
/// go on meanwhile; it is level with them soon.
const LEVEL: u64 = 64;

/// Why no edit can be taken at the moment. Nothing was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CannotWrite {
    /// Another manager is the primary.
    NotPrimary {
        /// Which.
        holder: HostId,
        /// When it was last heard; none where that was never.
        heard: Option<Monotonic>,
    },
    /// It holds the newest grant, and lacks entries that this builds on.
    NotLevel,
    /// Its journal has lost what others have seen.
    RolledBack {
        /// The newest position that they have.
        seen: Position,
    },
    /// It is handing over, or being chosen: a moment later it is known who writes.
    Handing,
    /// Too few of the standbys that count take edits.
    TooFew {
        /// How many have to.
        needed: usize,
        /// How many do.
        connected: usize,
        /// Those that do not: they are not there, or can write nothing.
        silent: Vec<HostId>,
    },
    /// Too many edits wait to be committed.
    Full,
}

impl Member {
    /// Whether an edit can be taken now.
    ///
    /// # Errors
    /// See [`CannotWrite`].
    pub fn may_write(&self) -> Result<(), CannotWrite> {
        self.may_write_under(self.log.rule_under(self.chain.head()))
    }

    /// Whether an edit can be taken now that is committed under this rule alone.
    ///
    /// # Errors
    /// See [`CannotWrite`].
    pub fn may_write_under(&self, rule: &SyncRule) -> Result<(), CannotWrite> {
        if let Some(seen) = self.rolled_back {
            return Err(CannotWrite::RolledBack { seen });
        }
        if !self.leading {
            return Err(self.not_leading());
        }
        if self.handover.is_some() || self.promotion.is_some() {
            return Err(CannotWrite::Handing);
        }
        if self.log.waiting() >= MAX_WAITING {
            return Err(CannotWrite::Full);
        }
        let silent: Vec<_> = rule.members.iter().copied().filter(|m| !self.is_synced(*m)).collect();
        let (needed, connected) = (rule.needed(), rule.members.len() - silent.len());
        match connected >= needed {
            true => Ok(()),
            false => Err(CannotWrite::TooFew { needed, connected, silent }),
        }
    }

    fn not_leading(&self) -> CannotWrite {
        match self.chain.head().holder {
            holder if holder == self.me => CannotWrite::NotLevel,
            holder => {
                let heard = self.peers.get(&holder).and_then(|p| p.heard);
                CannotWrite::NotPrimary { holder, heard }
            }
        }
    }

    fn is_synced(&self, host: HostId) -> bool {
        self.peers.get(&host).is_some_and(|p| p.is_synced(self.head(), self.now))
    }

    /// Becomes the primary, where it holds the newest grant and has what this builds on.
    pub(super) fn try_to_lead(&mut self, out: &mut Vec<Effect>) {
        if self.leading || self.rolled_back.is_some() || !self.chain.is_held_by(self.me) {
            return;
        }
        let (head, last) = (self.chain.head(), self.log.last());
        let begun = GrantId::of(&last.position) == head.id;
        if begun || head.parent.is_none_or(|parent| parent.mark == last) {
            self.leading = true;
            out.push(Effect::Lead);
            self.tell_all(MemberMessage::Standing(self.standing()), out);
            self.feed_all(out);
            self.commit_what_is_held(out);
        } else if let Some(from) = self.who_has_what_is_built_on() {
            self.fetch(from, out);
        }
    }

    /// A manager that has what the newest grant builds on.
    fn who_has_what_is_built_on(&self) -> Option<HostId> {
        let wanted = self.chain.head().parent?.mark.revision();
        let has = |p: &(&HostId, &Peer)| {
            let standing = p.1.standing.as_ref().filter(|s| s.grant == self.head());
            p.1.may_feed(self.now) && standing.is_some_and(|s| s.last.revision() >= wanted)
        };
        self.peers.iter().find(has).map(|(host, _)| *host)
    }

    /// Asks another manager for the entries after one's last.
    pub(super) fn fetch(&mut self, from: HostId, out: &mut Vec<Effect>) {
        let (now, grant, after) = (self.now, self.head(), self.log.last());
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.feeding = Some(now);
            out.push(Effect::Send(from, MemberMessage::Fetch { grant, after }));
        }
    }

    /// Writes entries that were made here.
    pub(super) fn write(&mut self, entries: Vec<Entry>, out: &mut Vec<Effect>) {
        let follows = entries.first().is_some_and(|e| e.mark.revision() == self.log.last().revision() + 1);
        let own = entries.iter().all(|e| GrantId::of(&e.mark.position) == self.head());
        if !self.leading || !follows || !own {
            return;
        }
        self.log.append(&entries);
        out.push(Effect::Append(entries));
        self.feed_all(out);
        self.commit_what_is_held(out);
    }

    pub(super) fn feed_all(&mut self, out: &mut Vec<Effect>) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.feed(peer, out));
    }

    /// Sends a manager that follows what it lacks; also nothing, to know where it stands.
    pub(super) fn feed(&mut self, peer: HostId, out: &mut Vec<Effect>) {
        let (now, head, last, leading) = (self.now, self.head(), self.log.last(), self.leading);
        let Some(known) = self.peers.get_mut(&peer).filter(|_| leading) else { return };
        if !known.may_feed(now) || !known.goes_by(head) || known.is_sealed(head) {
            return;
        }
        if known.acked == Some(last) && known.answered {
            known.behind_since = None;
            return;
        }
        known.behind_since.get_or_insert(now);
        let acked = known.acked.filter(|_| known.answered);
        let Some(after) = acked.or(known.standing.as_ref().map(|s| s.last)) else { return };
        known.feeding = Some(now);
        known.owes.get_or_insert(now);
        out.push(Effect::Feed { to: peer, after });
    }

    pub(super) fn take_ack(
        &mut self,
        peer: HostId,
        grant: GrantId,
        last: Mark,
        accepted: bool,
        out: &mut Vec<Effect>,
    ) {
        if grant != self.head() || !self.leading {
            return;
        }
        // One that lost the entry it once had says so by a lower one.
        let known_here = self.log.may_have(last);
        if let Some(known) = self.peers.get_mut(&peer) {
            (known.feeding, known.owes, known.answered) = (None, None, true);
            known.acked = Some(last).filter(|_| accepted && known_here);
            if let Some(standing) = &mut known.standing {
                standing.last = last;
            }
        }
        self.feed(peer, out);
        self.commit_what_is_held(out);
        self.move_handover_on(out);
    }

    /// Commits what is durable on enough of the standbys that count.
    pub(super) fn commit_what_is_held(&mut self, out: &mut Vec<Effect>) {
        if !self.leading {
            return;
        }
        let holds = |rule: &SyncRule, revision: u64| {
            let acked = |m: &&HostId| {
                let acked = self.peers.get(m).and_then(|p| p.acked);
                acked.is_some_and(|mark| mark.revision() >= revision)
            };
            rule.members.iter().filter(acked).count() >= rule.needed()
        };
        let committable = self.log.committable(self.chain.head(), holds);
        if let Some(revision) = self.log.commit(committable) {
            out.push(Effect::Commit(revision));
            self.tell_all(MemberMessage::Committed { grant: self.head(), revision }, out);
        }
    }

    /// The journal has not got what a manager says is its last entry: it is another journal.
    pub(super) fn no_such_mark(&mut self, peer: HostId, out: &mut Vec<Effect>) {
        let (grant, held) = (self.head(), self.chain.is_held_by(self.me));
        let Some(known) = self.peers.get_mut(&peer) else { return };
        (known.feeding, known.owes, known.acked) = (None, None, None);
        let Some(after) = known.standing.as_ref().map(|s| s.last) else { return };
        // What only we can have written, and we have not got it.
        if held && GrantId::of(&after.position) == grant {
            return self.roll_back(after.position, out);
        }
        out.push(Effect::Send(peer, MemberMessage::Missing { grant, after }));
    }

    /// Has the registry count a standby that is level and does not count yet; one at a time.
    pub(super) fn admit_one(&mut self, out: &mut Vec<Effect>) {
        let grant = self.chain.head();
        if !self.leading || self.log.is_changing(grant) || self.may_write().is_err() {
            return;
        }
        let (head, last) = (grant.id, self.log.last().revision());
        let rule = self.log.rule_under(grant);
        let level = |(host, p): &(&HostId, &Peer)| {
            let near = p.acked.is_some_and(|mark| mark.revision() + LEVEL >= last);
            near && p.is_synced(head, self.now) && !rule.members.contains(host)
        };
        if let Some((host, _)) = self.peers.iter().find(level) {
            out.push(Effect::Admit(*host));
        }
    }

    /// Becomes the primary, or stays it, by a grant of its own.
    pub(super) fn take_grant(&mut self, id: RequestId, chain: Chain, out: &mut Vec<Effect>) {
        let done = chain.head().id;
        self.promotion = None;
        self.adopt(chain, None, out);
        out.push(Effect::Told(id, Told::Done(done)));
    }
}
