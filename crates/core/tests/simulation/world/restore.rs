//! Managers that are taken out of the registry and restore a backup beside the living, and what those who know that they
//! were taken out make of it.

use super::disk::request_of;
use super::node::index;
use super::{Event, Input, MemberMessage, Seen, World};
use echelon_core::grant::{Basis, Chain, Grant, GrantId, Mark, Parent, SyncRule};
use echelon_core::id::{HostId, Lineage};
use echelon_core::member::Entry;
use uuid::Uuid;

/// Somebody as whom a grant is signed: a host, and which of its enrolments.
pub(crate) type Signer = (HostId, u64);

impl World {
    /// A backup is restored: often on a manager that was taken out, and else on any.
    pub(crate) fn restore(&mut self) {
        let removed = self.those(|n| n.removed && !n.gone);
        let any = self.those(|n| !n.gone);
        let these = if removed.is_empty() || self.random.chance(200) { any } else { removed };
        if let Some(at) = self.random.pick(&these) {
            self.restore_on(at);
        }
    }

    /// What the manager does with `registry-manager restore`: a state that it once had is the newest of all that it
    /// knows of. What the backup has not got becomes a surplus.
    fn restore_on(&mut self, at: usize) {
        self.crash(at);
        let node = &self.nodes[at];
        let backups = [&node.older[..], std::slice::from_ref(&node.disk)].concat();
        let mut disk = backups[self.random.below(backups.len())].clone();
        let (known, last) = (self.nodes[at].disk.chain.clone(), disk.last());
        let base = if known.contains(&last.position) { known.clone() } else { disk.chain.clone() };
        let epoch = known.head().id.epoch.max(disk.chain.head().id.epoch) + 1;
        let Ok(chain) = base.extended(self.grant_of_restore(at, &base, last, epoch)) else { return };
        let current = &self.nodes[at].disk;
        let common = disk.entries.iter().zip(&current.entries).take_while(|(a, b)| a == b).count();
        disk.surplus = [&current.surplus[..], &current.entries[common..]].concat();
        disk.adopt(chain.clone(), None);
        self.nodes[at].disk = disk;
        self.note(|| format!("{at} restores {} as {}", last.position, chain.head().id));
        self.tally.restored += 1;
        self.grants.insert(chain.head().id);
        self.signed(at, chain.head().id);
        self.saw(&Seen::Granted { chain: &chain, lossy: true });
        self.schedule_between(10_000, 1_000_000, Event::Start { at });
    }

    fn grant_of_restore(&mut self, at: usize, base: &Chain, mark: Mark, epoch: u64) -> Grant {
        let lineage = Lineage(Uuid::from_u128(self.number().into()));
        self.lossy.insert(lineage);
        let before = base.head();
        Grant {
            id: GrantId { lineage, epoch },
            holder: self.nodes[at].host,
            parent: Some(Parent { grant: before.id, mark }),
            basis: Basis::Restore,
            sync: SyncRule { min_sync: self.profile.min_sync, ..SyncRule::alone() },
            rejects: vec![],
            ..before.clone()
        }
    }

    /// Notes that a manager has signed a grant.
    pub(crate) fn signed(&mut self, at: usize, grant: GrantId) {
        let node = &self.nodes[at];
        self.signers.insert(grant, (node.host, node.enrolment));
    }

    /// What a manager is told, as its shell tells it: grants by somebody who was put out, as far as its registry knows,
    /// are contested.
    pub(crate) fn said(&mut self, at: usize, from: HostId, message: MemberMessage) -> Input {
        match &message {
            MemberMessage::Grants(chain) | MemberMessage::Seal { chain, .. }
                if self.is_contested(at, chain) =>
            {
                self.tally.contested += 1;
                Input::Contested(chain.clone())
            }
            _ => Input::Said(from, message),
        }
    }

    /// The same of what an agent holds.
    pub(crate) fn heard(&mut self, at: usize, chain: Chain) -> Input {
        match self.is_contested(at, &chain) {
            true => Input::Contested(chain),
            false => Input::Heard(chain),
        }
    }

    fn is_contested(&self, at: usize, chain: &Chain) -> bool {
        let node = &self.nodes[at];
        let first = chain.unknown_to(Some(&node.disk.chain)).next().map(|(_, grant)| grant);
        let by_a_manager = first.filter(|grant| matches!(grant.basis, Basis::Handover | Basis::Restore));
        let signer = by_a_manager.and_then(|grant| self.signers.get(&grant.id));
        let shown = &node.disk.entries[..(node.shown as usize).min(node.disk.entries.len())];
        signer.is_some_and(|signer| self.put_out(shown, *signer))
    }

    /// Whether a manager's own journal takes it out of the registry: its shell has it promoted by nobody.
    pub(crate) fn is_put_out(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        self.put_out(&node.disk.entries, (node.host, node.enrolment))
    }

    fn put_out(&self, entries: &[Entry], (host, enrolment): Signer) -> bool {
        let removals = entries.iter().filter_map(|e| self.removals.get(&request_of(e)));
        removals.into_iter().any(|(who, up_to)| *who == host && *up_to >= enrolment)
    }

    /// The number of an entry that takes a manager out of the registry.
    pub(crate) fn removal(&mut self, host: HostId) -> u64 {
        let request = self.number();
        self.removals.insert(request, (host, self.nodes[index(host)].enrolment));
        request
    }
}
