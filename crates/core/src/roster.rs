//! The managers of one type as one host keeps them, with what it knows of each.

use crate::evidence::Evidence;
use crate::id::HostId;
use crate::name::{HostName, ManagerType};
use crate::tiers::Scorer;
use crate::view::{Manager, View};
use std::sync::Arc;

/// The managers of one type, by host id. What is known of one stays from one view to the next.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    managers: Vec<Arc<Manager>>,
    members: Vec<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    /// How much this host prefers it among equals.
    score: f64,
    evidence: Evidence,
}

/// What a new view means to a roster.
#[derive(Debug, Default)]
pub(crate) struct Update {
    /// Places of managers of which nothing is known yet: they are new, or listen elsewhere than before.
    pub(crate) fresh: Vec<usize>,
    /// Managers of which nothing counts any more: they are gone, or listen elsewhere.
    pub(crate) forgotten: Vec<HostId>,
}

impl Roster {
    /// Takes over the managers of `ty` that `view` has. Evidence on those that are gone, or listen elsewhere
    /// now, is dropped. The scores are for a host of this name, as before.
    pub(crate) fn update(&mut self, view: &View, host: &HostName, ty: &ManagerType) -> Update {
        let mut update = Update::default();
        let mut scorer = Scorer::new(host, ty);
        let managers = std::mem::take(&mut self.managers);
        let mut former = managers.into_iter().zip(std::mem::take(&mut self.members)).peekable();
        for manager in view.managers_of(ty) {
            while let Some((old, _)) = former.next_if(|(old, _)| old.host < manager.host) {
                update.forgotten.push(old.host);
            }
            let known = former.next_if(|(old, _)| old.host == manager.host);
            let member = match known {
                Some((old, member)) if Arc::ptr_eq(&old, manager) => member,
                Some((old, member)) if old.endpoint == manager.endpoint => {
                    Member { score: scorer.score(manager), ..member }
                }
                other => {
                    update.forgotten.extend(other.map(|(old, _)| old.host));
                    update.fresh.push(self.managers.len());
                    Member { score: scorer.score(manager), evidence: Evidence::default() }
                }
            };
            self.managers.push(Arc::clone(manager));
            self.members.push(member);
        }
        update.forgotten.extend(former.map(|(old, _)| old.host));
        update
    }

    /// Works out the scores anew, for a host of this name.
    pub(crate) fn rescore(&mut self, host: &HostName, ty: &ManagerType) {
        let mut scorer = Scorer::new(host, ty);
        for (member, manager) in self.members.iter_mut().zip(&self.managers) {
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
