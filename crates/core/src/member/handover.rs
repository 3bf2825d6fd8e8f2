//! A planned promotion: the primary stops, brings another manager level, and makes it the primary.

use super::{Effect, Member, Refused, Told};
use crate::grant::{Basis, Grant, GrantId, Grantor, Parent, SyncRule};
use crate::id::{HostId, RequestId};
use crate::name::Text;
use crate::time::{Monotonic, UnixMillis};
use std::time::Duration;

/// How long edits may be stopped for a hand-over: who needs longer to become level is no good successor.
pub const HANDOVER: Duration = Duration::from_secs(5);

/// A wish to hand over.
#[derive(Clone, PartialEq, Debug)]
pub struct HandOver {
    /// Under which name it is told what became of it.
    pub id: RequestId,
    /// To whom; to itself, to end promises that a dead manager was given.
    pub to: HostId,
    /// Who wants it.
    pub grantor: Grantor,
    /// Why.
    pub reason: Option<Text>,
    /// When, by the clock of the primary.
    pub at: UnixMillis,
    /// Until when it has to be done.
    pub until: Monotonic,
    /// What is being proved.
    pub grant: Option<Grant>,
}

impl HandOver {
    pub(super) fn deadline(&self) -> Monotonic {
        self.until
    }
}

impl Member {
    pub(super) fn hand_over(&mut self, wish: HandOver, out: &mut Vec<Effect>) {
        let refused = match self.peers.get(&wish.to) {
            _ if !self.leading => Some(Refused::NotPrimary { holder: self.chain.head().holder }),
            _ if self.handover.is_some() || self.promotion.is_some() => Some(Refused::Busy),
            // The grant would bring the new rule, and with it take the word of the old one away.
            _ if wish.to == self.me && self.log.is_changing(self.chain.head()) => Some(Refused::Changing),
            _ if wish.to == self.me => None,
            // The old primary takes the place of the new one: without that place, a majority of the others would
            // not know of the new one.
            _ if !self.log.rule_under(self.chain.head()).members.contains(&wish.to) => {
                Some(Refused::NotCounted)
            }
            Some(peer) if peer.is_synced(self.head(), self.now) => None,
            _ => Some(Refused::NotConnected),
        };
        if let Some(refused) = refused {
            return out.push(Effect::Told(wish.id, Told::Refused(refused)));
        }
        let until = self.now + HANDOVER;
        self.handover = Some(HandOver { until, grant: None, ..wish });
        self.move_handover_on(out);
    }

    /// Has the grant proved, once the successor is level and everything is committed.
    pub(super) fn move_handover_on(&mut self, out: &mut Vec<Effect>) {
        let (last, settled, me) = (self.log.last(), self.log.is_settled(), self.me);
        let Some(wish) = self.handover.as_ref().filter(|h| h.grant.is_none()) else { return };
        let level = wish.to == me || self.peers.get(&wish.to).is_some_and(|p| p.acked == Some(last));
        if !level || (!settled && wish.to != me) {
            return;
        }
        let head = self.chain.head();
        let grant = Grant {
            id: GrantId { lineage: head.id.lineage, epoch: head.id.epoch + 1 },
            holder: wish.to,
            parent: Some(Parent { grant: head.id, mark: last }),
            basis: Basis::Handover,
            sync: successor_rule(self.log.rule_under(head), me, wish.to),
            at: wish.at,
            grantor: wish.grantor.clone(),
            reason: wish.reason.clone(),
            rejects: Vec::new(),
            proof: None,
        };
        if let Some(wish) = &mut self.handover {
            wish.grant = Some(grant.clone());
        }
        out.push(Effect::Prove(grant));
    }

    /// The grant is proved: from here on this manager writes no more.
    pub(super) fn grant_handover(&mut self, grant: Grant, out: &mut Vec<Effect>) {
        let Some(wish) = self.handover.take() else { return };
        let proposed = wish.grant.as_ref().is_some_and(|g| *g == grant.unproved());
        let last = grant.parent.is_some_and(|p| p.mark == self.log.last());
        if !proposed || !last {
            return out.push(Effect::Told(wish.id, Told::Refused(Refused::NotAsProposed)));
        }
        match self.chain.extended(grant) {
            Ok(chain) => self.take_grant(wish.id, chain, out),
            Err(_) => out.push(Effect::Told(wish.id, Told::Refused(Refused::ChainFull))),
        }
    }

    pub(super) fn pass_time_of_handover(&mut self, out: &mut Vec<Effect>) {
        if self.handover.as_ref().is_some_and(|h| h.until <= self.now) {
            self.abort_handover(Refused::TooSlow, out);
        }
    }

    pub(super) fn abort_handover(&mut self, why: Refused, out: &mut Vec<Effect>) {
        if let Some(wish) = self.handover.take() {
            out.push(Effect::Told(wish.id, Told::Refused(why)));
        }
    }

    /// A newer grant is adopted; one that is not this hand-over's.
    pub(super) fn end_handover(&mut self, head: GrantId, out: &mut Vec<Effect>) {
        self.abort_handover(Refused::Overtaken(head), out);
    }
}

/// The standbys that count after a hand-over: the old primary in place of the new one.
fn successor_rule(rule: &SyncRule, from: HostId, to: HostId) -> SyncRule {
    match from == to {
        true => rule.clone(),
        false => rule.without(to).with(from),
    }
}
