//! A standby: it takes what the primary writes.

use super::{Append, Effect, Entry, Member, MemberMessage, Refused};
use crate::grant::{GrantId, Mark};
use crate::id::HostId;

impl Member {
    pub(super) fn take_entries(&mut self, peer: HostId, append: Append, out: &mut Vec<Effect>) {
        let Append { grant, after, entries, committed } = append;
        if grant != self.head() {
            return self.offer_grants(peer, out);
        }
        let from_primary = self.chain.head().holder == peer;
        if self.leading || self.copying.is_some() || !(from_primary || self.is_fetching_from(peer)) {
            return;
        }
        if from_primary && self.is_sealed() {
            return out.push(Effect::Send(peer, MemberMessage::Standing(self.standing())));
        }
        let taken = self.take_what_follows(after, entries, out);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.feeding = None;
        }
        if from_primary {
            let ack = MemberMessage::Appended { grant, last: self.log.last(), accepted: taken };
            out.push(Effect::Send(peer, ack));
            self.follows |= taken;
            self.take_commit(peer, grant, committed, out);
        } else {
            self.fetched(peer, out);
        }
    }

    /// Takes the entries that follow on its last one. Whether the entry before them was its own.
    fn take_what_follows(&mut self, after: Mark, mut entries: Vec<Entry>, out: &mut Vec<Effect>) -> bool {
        let last = self.log.last();
        if after != last {
            // Entries that came before, since an answer was lost.
            let Some(known) = entries.iter().position(|e| e.mark == last) else { return false };
            entries.drain(..=known);
        }
        let numbered = (last.revision() + 1..).zip(&entries);
        let fits = |(revision, entry): (u64, &Entry)| {
            entry.mark.revision() == revision && self.chain.contains(&entry.mark.position)
        };
        if !numbered.into_iter().all(fits) {
            return false;
        }
        if !entries.is_empty() {
            self.log.append(&entries);
            out.push(Effect::Append(entries));
        }
        true
    }

    pub(super) fn take_commit(&mut self, peer: HostId, grant: GrantId, revision: u64, out: &mut Vec<Effect>) {
        let from_primary = grant == self.head() && self.chain.head().holder == peer && !self.leading;
        if from_primary && self.follows {
            out.extend(self.log.commit(revision).map(Effect::Commit));
        }
    }

    /// Another manager has not got our last entry: our journal is another one than theirs.
    pub(super) fn is_missing(&mut self, peer: HostId, grant: GrantId, after: Mark, out: &mut Vec<Effect>) {
        let from_primary = self.chain.head().holder == peer || self.is_fetching_from(peer);
        let ours = grant == self.head() && after == self.log.last() && !self.leading;
        if ours && self.is_fetching_to_promote(peer) {
            return self.abort_promotion(Refused::Apart { from: peer }, out);
        }
        if ours && from_primary && !self.is_sealed() && self.copying.is_none() {
            self.copying = Some(peer);
            out.push(Effect::Copy(peer));
        }
    }

    /// Whether it has promised to take nothing under the newest grant.
    fn is_sealed(&self) -> bool {
        self.seals.hold_under(self.head()) || self.own_seal().is_some()
    }
}
