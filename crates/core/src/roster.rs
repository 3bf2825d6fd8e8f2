//! The managers of one type as one host keeps them, with what it knows of each.

use crate::evidence::Evidence;
use crate::id::HostId;
use crate::name::{HostName, ManagerType};
use crate::spread::Scorer;
use crate::view::{Manager, Managers, View};
use std::sync::Arc;

/// The managers of one type, by host id. What is known of one stays from one view to the next.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    managers: Managers,
    members: Vec<Member>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    /// How much this host prefers it among equals.
    score: f64,
    evidence: Evidence,
}

/// What a new view means to a roster.
#[derive(Debug, Default)]
pub(crate) struct Update {
    /// Places of managers that are not what they were, or new.
    pub(crate) changed: Vec<usize>,
    /// Whether any manager has another place than before.
    pub(crate) displaced: bool,
    /// Places of managers of which nothing is known yet: they are new, or listen elsewhere than before.
    pub(crate) fresh: Vec<usize>,
    /// Managers of which nothing counts any more: they are gone, or listen elsewhere.
    pub(crate) forgotten: Vec<HostId>,
}

impl Roster {
    /// Takes over the managers of `ty` that `view` has. Evidence on those that are gone, or listen elsewhere
    /// now, is dropped. The scores are for a host of this name, as before.
    pub(crate) fn update(&mut self, view: &View, host: &HostName, ty: &ManagerType) -> Update {
        let former = std::mem::replace(&mut self.managers, view.list_of(ty));
        let mut update = Update::default();
        self.make_room(&former, &mut update);
        let mut scorer = Scorer::new(host, ty);
        let mut former = former.iter().peekable();
        for (at, manager) in self.managers.iter().enumerate() {
            // Nearly all are the same, and need not be looked at.
            if former.next_if(|old| Arc::ptr_eq(old, manager)).is_some() {
                continue;
            }
            while former.next_if(|old| old.host < manager.host).is_some() {}
            let old = former.next_if(|old| old.host == manager.host);
            update.changed.push(at);
            self.members[at].score = scorer.score(manager);
            if old.is_none_or(|old| old.endpoint != manager.endpoint) {
                update.forgotten.extend(old.map(|old| old.host));
                update.fresh.push(at);
                self.members[at].evidence = Evidence::default();
            }
        }
        update
    }

    /// Moves members to where their managers are now, and forgets those of managers that are gone.
    fn make_room(&mut self, former: &[Arc<Manager>], update: &mut Update) {
        let same = |(a, b): (&Arc<Manager>, &Arc<Manager>)| Arc::ptr_eq(a, b) || a.host == b.host;
        if former.len() == self.managers.len() && former.iter().zip(self.managers.iter()).all(same) {
            return;
        }
        update.displaced = true;
        let mut members = former.iter().zip(std::mem::take(&mut self.members)).peekable();
        for manager in self.managers.iter() {
            while let Some((old, _)) = members.next_if(|(old, _)| old.host < manager.host) {
                update.forgotten.push(old.host);
            }
            let known = members.next_if(|(old, _)| old.host == manager.host);
            self.members.push(known.map_or_else(Member::default, |(_, member)| member));
        }
        update.forgotten.extend(members.map(|(old, _)| old.host));
    }

    /// Works out the scores anew, for a host of this name.
    pub(crate) fn rescore(&mut self, host: &HostName, ty: &ManagerType) {
        let mut scorer = Scorer::new(host, ty);
        for (member, manager) in self.members.iter_mut().zip(self.managers.iter()) {
            member.score = scorer.score(manager);
        }
    }

    /// The managers, by host id.
    pub(crate) fn managers(&self) -> &[Arc<Manager>] {
        &self.managers
    }

    /// The place of the manager on a host.
    pub(crate) fn find(&self, host: HostId) -> Option<usize> {
        self.managers.binary_search_by_key(&host, |m| m.host).ok()
    }

    /// How much this host prefers the manager at this place among equals.
    pub(crate) fn score(&self, at: usize) -> f64 {
        self.members[at].score
    }

    /// What is known of the manager at this place.
    pub(crate) fn evidence(&self, at: usize) -> &Evidence {
        &self.members[at].evidence
    }

    /// Forgets what came of probes that demand an answer.
    pub(crate) fn forget_answers(&mut self) {
        self.members.iter_mut().for_each(|member| member.evidence.forget_answer());
    }

    /// What is known of the manager at this place, to add to it.
    pub(crate) fn evidence_mut(&mut self, at: usize) -> &mut Evidence {
        &mut self.members[at].evidence
    }

    /// All managers and what is known of them, by host id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<Manager>, &Evidence)> {
        self.managers.iter().zip(self.members.iter().map(|member| &member.evidence))
    }
}
