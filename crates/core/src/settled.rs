//! Previews: who would serve whom once all holds have elapsed.
//!
//! The console with a file, and the manager's online `route`, answer through this. It calls the same
//! `order` and `choose` as an agent does, with a fresh memory.

use crate::choice::{Memory, attempts, choose};
use crate::evidence::Verdict;
use crate::id::HostId;
use crate::name::{ManagerType, Text};
use crate::order::{Asker, Exclusion, order};
use crate::registry::Registry;
use crate::report::{Basis, CandidateState, Down, RouteReport};
use crate::route::{Entry, Route, Target};
use crate::row::Host;
use crate::time::Monotonic;
use crate::view::{Manager, View};

/// Why a manager is withdrawn that its host has withdrawn.
pub(crate) const WITHDRAWN_BY_HOST: &str = "withdrawn by its host";

/// What is known of a manager that is neither withdrawn nor excluded: live, unknown, suspect or down, and
/// why.
pub type StateOf<'a> = dyn Fn(HostId, &ManagerType) -> (CandidateState, String) + 'a;

/// Answers for every host of one registry.
pub struct Settled<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// Its view; see [`crate::project::project`].
    pub view: &'a View,
    /// What is known of managers.
    pub state_of: &'a StateOf<'a>,
    /// Managers taken as down.
    pub down: &'a [Down],
}

impl Settled<'_> {
    /// How `host` would find its manager of type `ty`. Position and age are the caller's to add.
    pub fn route(&self, host: &Host, ty: &ManagerType) -> RouteReport {
        self.settle(host, ty).report(self.view, Monotonic::default(), Basis::Settled)
    }

    fn settle(&self, host: &Host, ty: &ManagerType) -> Route {
        let mut domains: Vec<_> = self.registry.hierarchy().lineage(host.domain).map(|d| d.id).collect();
        domains.reverse();
        let order = order(self.view, Asker { host: host.id, name: &host.name, domains: &domains }, ty);
        let states: Vec<_> = order.candidates.iter().map(|c| self.state(&c.manager, c.excluded)).collect();
        let choice = choose(&order, &states, &mut Memory::default(), &host.name, Monotonic::default());
        let attempts = attempts(&states, choice.chosen);
        Route {
            asker: host.name.clone(),
            ty: ty.clone(),
            targets: attempts.iter().map(|&i| Target::of(&order.candidates[i])).collect(),
            entries: Entry::all(&order, states),
            chosen: choice.chosen,
            outcome: choice.outcome,
            cause: Text::lossy(&choice.cause),
            since: Monotonic::default(),
            policy: order.policy.clone(),
        }
    }

    fn state(&self, manager: &Manager, excluded: Option<Exclusion>) -> Verdict {
        standing(manager, excluded).unwrap_or_else(|| {
            match self.down.iter().any(|d| d.covers(&manager.name, &manager.ty)) {
                true => Verdict::new(CandidateState::Down, "taken as down"),
                false => (self.state_of)(manager.host, &manager.ty).into(),
            }
        })
    }
}

/// The state of a manager that configuration takes out of use; none for the others.
pub(crate) fn standing(manager: &Manager, excluded: Option<Exclusion>) -> Option<Verdict> {
    let (state, reason) = match excluded {
        Some(Exclusion::Boundary) => (CandidateState::Excluded, "outside this host's boundary".into()),
        Some(Exclusion::Denied) => (CandidateState::Excluded, "its host's identity is denied".into()),
        None => (CandidateState::Withdrawn, withdrawal(manager)?),
    };
    Some(Verdict::new(state, reason))
}

/// Who wants a manager to serve nothing; none where nobody does.
fn withdrawal(manager: &Manager) -> Option<String> {
    match &manager.drained {
        Some(drained) => Some(drained.of_host()),
        None if manager.withdrawn => Some("withdrawn by the operator".into()),
        None => manager.withdrawn_by_host.then(|| WITHDRAWN_BY_HOST.into()),
    }
}
