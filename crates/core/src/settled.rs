//! Previews: who would serve whom once all holds have elapsed.
//!
//! The console with a file, and the manager's online `route`, answer through this. It calls the same
//! `order` and `choose` as an agent does, with a fresh memory.

use crate::choice::{Choice, Memory, Situation, choose};
use crate::evidence::Verdict;
use crate::id::{DomainId, HostId};
use crate::name::{HostName, ManagerType, Text};
use crate::order::{Exclusion, Order};
use crate::registry::Registry;
use crate::report::{Basis, CandidateState, Down, Outcome, RouteReport};
use crate::route::{Entry, Route};
use crate::row::Host;
use crate::spread::{Equals, Scorer};
use crate::tiers::{Ranking, Seat, Tiers};
use crate::time::Monotonic;
use crate::view::{Manager, View};
use std::sync::Arc;

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

/// How the hosts of a registry find their managers of one type: what they all share, worked out once.
pub struct TypeRoutes<'a> {
    registry: &'a Registry,
    view: &'a View,
    ty: ManagerType,
    /// By host id.
    managers: Vec<Arc<Manager>>,
    /// Of the managers' domains.
    ancestries: Vec<Arc<[DomainId]>>,
    /// What is known of the managers, where configuration does not take them out of use.
    verdicts: Vec<Verdict>,
}

/// The same for the hosts of one domain.
pub struct DomainRoutes<'a> {
    of_type: &'a TypeRoutes<'a>,
    domain: DomainId,
    most: usize,
    /// As many as are nearly always enough.
    tiers: Tiers,
}

/// How one host finds its manager.
pub struct HostRoute<'a> {
    of_domain: &'a DomainRoutes<'a>,
    host: &'a Host,
    candidates: &'a [Seat],
    choice: Choice,
    /// As many of the candidates as the choice was made among; it would be the same among all.
    order: Order,
}

/// Room to work routes out in, which is used again for the next one.
#[derive(Debug, Default)]
pub struct Room(Ranking);

/// How many candidates are looked at first: one of them nearly always is usable, and then those after it
/// change nothing.
const FEW: usize = 4;

/// How many of a domain's candidates are kept at least, so that a choice among all, which are found anew for it,
/// is seldom needed. Keeping all of 20,000 managers for each of 5,000 domains would take gigabytes.
const KEPT: usize = 64;

impl<'a> Settled<'a> {
    /// How `host` would find its manager of type `ty`. Position and age are the caller's to add.
    pub fn route(&self, host: &Host, ty: &ManagerType) -> RouteReport {
        let of_type = self.of_type(ty);
        of_type.of_domain(host.domain, usize::MAX).route(host, &mut Room::default()).report()
    }

    /// How hosts would find their managers of type `ty`.
    pub fn of_type(&self, ty: &ManagerType) -> TypeRoutes<'a> {
        let managers: Vec<_> = self.view.managers_of(ty).cloned().collect();
        let ancestry = |m: &Arc<Manager>| self.view.hierarchy().ancestry(m.domain).cloned();
        TypeRoutes {
            registry: self.registry,
            view: self.view,
            ty: ty.clone(),
            ancestries: managers.iter().map(|m| ancestry(m).unwrap_or_default()).collect(),
            verdicts: managers.iter().map(|m| self.verdict(m)).collect(),
            managers,
        }
    }

    fn verdict(&self, manager: &Manager) -> Verdict {
        match self.down.iter().any(|d| d.covers(&manager.name, &manager.ty)) {
            true => Verdict::new(CandidateState::Down, "taken as down"),
            false => (self.state_of)(manager.host, &manager.ty).into(),
        }
    }
}

impl TypeRoutes<'_> {
    /// The names of the managers' hosts.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.managers.iter().map(|m| &m.name)
    }

    /// How the hosts right in this domain find their managers; of their candidates the first `most` are asked
    /// for.
    pub fn of_domain(&self, domain: DomainId, most: usize) -> DomainRoutes<'_> {
        DomainRoutes { of_type: self, domain, most, tiers: self.tiers(domain, most.max(KEPT)) }
    }

    fn tiers(&self, domain: DomainId, least: usize) -> Tiers {
        let domains = self.registry.hierarchy().ancestry(domain).map_or(&[][..], |ancestry| ancestry);
        let managers = self.managers.iter().zip(&self.ancestries).map(|(m, a)| (&**m, &**a));
        Tiers::nearest(self.view, domains, &self.ty, managers, least)
    }
}

impl DomainRoutes<'_> {
    /// The route of a host in this domain.
    pub fn route<'r>(&'r self, host: &'r Host, room: &'r mut Room) -> HostRoute<'r> {
        let of_domain = self;
        self.rank(&self.tiers, host, self.most.max(FEW), room);
        let first = self.choose(host, &room.0.seats()[..room.0.seats().len().min(FEW)]);
        let (order, choice) = if matches!(first.1.outcome, Outcome::Home | Outcome::Failover) {
            first
        } else {
            // None of the first ones is usable: the choice is among all.
            match self.tiers.is_complete() {
                true => self.rank(&self.tiers, host, usize::MAX, room),
                false => self.rank(&self.of_type.tiers(self.domain, usize::MAX), host, usize::MAX, room),
            }
            self.choose(host, room.0.seats())
        };
        HostRoute { of_domain, host, candidates: room.0.seats(), choice, order }
    }

    fn rank(&self, tiers: &Tiers, host: &Host, most: usize, room: &mut Room) {
        let managers = &self.of_type.managers;
        let mut scorer = Scorer::new(&host.name, &self.of_type.ty);
        let weigh = |tier: &[Seat], equals: &mut Equals| {
            scorer.weigh(tier.iter().map(|seat| &*managers[seat.at as usize]), equals);
        };
        tiers.rank(host.id, managers, most, weigh, &mut room.0);
    }

    fn choose(&self, host: &Host, seats: &[Seat]) -> (Order, Choice) {
        let order = self.tiers.order(host.id, &self.of_type.managers, seats);
        let states: Vec<_> = seats.iter().map(|seat| self.verdict(seat)).collect();
        let choice = choose(&order, &states, &mut Memory::default(), &Situation::settled(&host.name));
        (order, choice)
    }

    fn verdict(&self, seat: &Seat) -> Verdict {
        let at = seat.at as usize;
        standing(&self.of_type.managers[at], seat.excluded)
            .unwrap_or_else(|| self.of_type.verdicts[at].clone())
    }

    fn state(&self, seat: &Seat) -> CandidateState {
        let at = seat.at as usize;
        let known = || self.of_type.verdicts[at].state;
        standing(&self.of_type.managers[at], seat.excluded).map_or_else(known, |verdict| verdict.state)
    }
}

impl HostRoute<'_> {
    /// The host.
    pub fn host(&self) -> &Host {
        self.host
    }

    /// The kind of choice.
    pub fn outcome(&self) -> Outcome {
        self.choice.outcome
    }

    /// Why it is not home; empty where it is.
    pub fn cause(&self) -> Text {
        Text::lossy(&self.choice.cause)
    }

    /// Who is used.
    pub fn chosen(&self) -> Option<&Manager> {
        self.choice.chosen.and_then(|i| self.order.candidates.get(i)).map(|c| &*c.manager)
    }

    /// The candidates that were asked for, in order.
    pub fn candidates(&self) -> impl Iterator<Item = (&Manager, CandidateState)> {
        let of_domain = self.of_domain;
        let shown = self.candidates.iter().take(of_domain.most);
        shown.map(|seat| (&*of_domain.of_type.managers[seat.at as usize], of_domain.state(seat)))
    }

    /// The whole as people and programs read it. Position and age are the caller's to add.
    pub fn report(&self) -> RouteReport {
        let DomainRoutes { of_type, tiers, most, .. } = self.of_domain;
        let order = tiers.order(self.host.id, &of_type.managers, self.candidates);
        let states = self.candidates.iter().map(|seat| self.of_domain.verdict(seat)).collect();
        let route = Route {
            asker: self.host.name.clone(),
            ty: of_type.ty.clone(),
            targets: Vec::new(),
            entries: Entry::all(&order, states),
            chosen: self.choice.chosen,
            outcome: self.choice.outcome,
            cause: self.cause(),
            since: Monotonic::default(),
            moved: None,
            isolated: false,
            policy: order.policy,
        };
        let mut report = route.report(of_type.view, Monotonic::default(), Basis::Settled);
        report.candidates.truncate(*most);
        report
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
