//! One host's routing: view, place, hearsay and own observations in; routes and probes out.
//!
//! A deterministic state machine. Its shell hands it the time and what happened, carries out what it
//! asks for, and calls again at the deadline it names.

use crate::choice::{Choice, Memory, attempts, choose};
use crate::evidence::{Circumstances, Evidence, Seen, Verdict};
use crate::hearsay::Hearsay;
use crate::id::HostId;
use crate::limits::MAX_WANTED_TYPES;
use crate::message::{Health, LivenessEntry, Using};
use crate::name::{ManagerType, Text};
use crate::order::{Candidate, Order, order};
use crate::probe::{Probes, Wanted};
use crate::report::CandidateState;
use crate::route::{Entry, Route, Since, Target};
use crate::settled::standing;
use crate::time::Monotonic;
use crate::view::{Place, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What happens to a host.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody asks for managers of this type; from now on there is a route for it. Beyond
    /// [`MAX_WANTED_TYPES`] types nothing happens.
    Want(ManagerType),
    /// The replica has a new view.
    View(View),
    /// The replica has a new place.
    Place(Place),
    /// A registry manager reports liveness.
    Liveness {
        /// See [`crate::message::Liveness::complete`].
        complete: bool,
        /// The entries.
        entries: Vec<LivenessEntry>,
    },
    /// This host's own checks report on all its packages. For these they speak instead of the registry,
    /// which knows of them from here only.
    OwnHealth(BTreeMap<ManagerType, Health>),
    /// A session with a registry manager began or ended.
    Session(bool),
    /// A connection or a probe to a manager came to something.
    Saw {
        /// The type.
        ty: ManagerType,
        /// The manager's host.
        host: HostId,
        /// What.
        seen: Seen,
        /// How long the attempt was under way.
        took: Duration,
    },
    /// The deadline has come.
    Tick,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Show this route to everybody who asks.
    Publish(Arc<Route>),
    /// Connect to this manager and hand in what came of it.
    Probe {
        /// The type.
        ty: ManagerType,
        /// Whom.
        target: Target,
        /// How long it may take.
        timeout: Duration,
    },
}

/// The routing of one host.
#[derive(Debug)]
pub struct Router {
    view: View,
    place: Place,
    alone_since: Option<Monotonic>,
    hearsay: Hearsay,
    types: BTreeMap<ManagerType, TypeState>,
}

#[derive(Debug)]
struct TypeState {
    order: Order,
    evidence: BTreeMap<HostId, Evidence>,
    memory: Memory,
    probes: Probes,
    since: Since,
    published: Option<Arc<Route>>,
    next_change: Option<Monotonic>,
}

/// For which types an input may change something.
enum Touched {
    Nothing,
    One(ManagerType),
    All,
}

impl Router {
    /// The routing of the host at `place`, as yet without a registry manager.
    pub fn new(view: View, place: Place) -> Self {
        let alone_since = Some(Monotonic::default());
        Self { view, place, alone_since, hearsay: Hearsay::default(), types: BTreeMap::new() }
    }

    /// Takes in what happened at `now` and appends what is to be done.
    pub fn handle(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        let touched = self.take_in(now, input);
        let (place, alone_since) = (&self.place, self.alone_since);
        let touched = |ty: &ManagerType| match &touched {
            Touched::Nothing => false,
            Touched::One(one) => one == ty,
            Touched::All => true,
        };
        for (ty, state) in self.types.iter_mut().filter(|(ty, _)| touched(ty)) {
            state.decide(now, place, alone_since, ty, out);
        }
    }

    fn take_in(&mut self, now: Monotonic, input: Input) -> Touched {
        match input {
            Input::Want(ty) => return self.want(now, ty),
            Input::Saw { ty, host, seen, took } => return self.saw(now, ty, host, seen, took),
            Input::View(view) => {
                let old = std::mem::replace(&mut self.view, view);
                self.forget_what_changed(&old);
                self.reorder(now);
            }
            Input::Place(place) => {
                self.place = place;
                self.reorder(now);
            }
            Input::Liveness { complete, entries } => {
                let told = self.hearsay.hear(complete, entries);
                self.tell(now, told);
            }
            Input::OwnHealth(packages) => {
                self.hearsay.hear_own(packages);
                self.tell(now, [self.place.host]);
            }
            Input::Session(true) => self.alone_since = None,
            Input::Session(false) => self.alone_since = self.alone_since.or(Some(now)),
            Input::Tick => {}
        }
        Touched::All
    }

    /// The route for a type, once it has been asked for.
    pub fn route(&self, ty: &ManagerType) -> Option<&Arc<Route>> {
        self.types.get(ty)?.published.as_ref()
    }

    /// When to call again though nothing happens; none if that need not be.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.types.values().filter_map(|t| t.next_change).min()
    }

    /// For each type asked for: what is used, where that is not home.
    pub fn using(&self, now: Monotonic) -> Vec<Using> {
        let routes = self.types.values().filter_map(|t| t.published.as_ref());
        routes.filter_map(|r| r.using(now)).collect()
    }

    fn want(&mut self, now: Monotonic, ty: ManagerType) -> Touched {
        if self.types.contains_key(&ty) || self.types.len() >= MAX_WANTED_TYPES {
            return Touched::Nothing;
        }
        let mut state = TypeState {
            order: order(&self.view, (&self.place).into(), &ty),
            evidence: BTreeMap::new(),
            memory: Memory::default(),
            probes: Probes::default(),
            since: Since::new(now),
            published: None,
            next_change: None,
        };
        state.hear_all(now, self.place.host, &ty, &self.hearsay);
        self.types.insert(ty.clone(), state);
        Touched::One(ty)
    }

    /// Drops evidence on managers that are no longer there, or listen elsewhere now.
    fn forget_what_changed(&mut self, old: &View) {
        for (ty, state) in &mut self.types {
            let endpoint = |view: &View, host| view.manager(ty, host).map(|m| m.endpoint.clone());
            let same = |host| endpoint(&self.view, host).is_some_and(|e| endpoint(old, host) == Some(e));
            let changed: Vec<_> = state.evidence.keys().copied().filter(|host| !same(*host)).collect();
            for host in changed {
                state.evidence.remove(&host);
                state.probes.forget(host);
            }
        }
        let there: BTreeSet<_> = self.view.managers().map(|m| m.host).collect();
        self.hearsay.retain(&there);
    }

    fn reorder(&mut self, now: Monotonic) {
        for (ty, state) in &mut self.types {
            state.order = order(&self.view, (&self.place).into(), ty);
            state.hear_all(now, self.place.host, ty, &self.hearsay);
        }
    }

    /// Hands on what is reported of these hosts to the types that have managers there.
    fn tell(&mut self, now: Monotonic, hosts: impl IntoIterator<Item = HostId>) {
        let here = self.place.host;
        for host in hosts {
            for (ty, state) in self.types.iter_mut().filter(|(ty, _)| self.view.manager(ty, host).is_some()) {
                state.hear(now, host, self.hearsay.of(here, host, ty));
            }
        }
    }

    fn saw(&mut self, now: Monotonic, ty: ManagerType, host: HostId, seen: Seen, took: Duration) -> Touched {
        let Some(state) = self.types.get_mut(&ty).filter(|_| self.view.manager(&ty, host).is_some()) else {
            return Touched::Nothing;
        };
        match state.evidence.entry(host).or_default().saw(now, seen, took) {
            true => Touched::One(ty),
            false => Touched::Nothing,
        }
    }
}

impl TypeState {
    /// Takes in what is reported of all candidates.
    fn hear_all(&mut self, now: Monotonic, here: HostId, ty: &ManagerType, hearsay: &Hearsay) {
        let hosts: Vec<_> = self.order.candidates.iter().map(|c| c.manager.host).collect();
        hosts.into_iter().for_each(|host| self.hear(now, host, hearsay.of(here, host, ty)));
    }

    fn hear(&mut self, now: Monotonic, host: HostId, report: Option<(bool, Health)>) {
        let Some((silent, health)) = report else { return };
        let passing = health == Health::Passing;
        let evidence = self.evidence.entry(host).or_default();
        if evidence.heard(now, silent, health) && passing && evidence.own_failure() {
            // Its host says that it works again: look at once instead of waiting out a backoff.
            self.probes.hurry(host, now);
        }
    }

    fn decide(
        &mut self,
        now: Monotonic,
        place: &Place,
        alone_since: Option<Monotonic>,
        ty: &ManagerType,
        out: &mut Vec<Output>,
    ) {
        let states = self.states(now, alone_since);
        let choice = choose(&self.order, &states, &mut self.memory, &place.name, now);
        self.plan_probes(now, place, &states, choice.chosen, ty, out);
        let circumstances = |host: &HostId| self.circumstances(now, alone_since, *host);
        let judged = self.evidence.iter().filter_map(|(host, e)| e.next_change(&circumstances(host)));
        self.next_change = judged.chain(choice.next_change).chain(self.probes.next()).min();
        let route = self.route(now, place, ty, states, &choice);
        if self.published.as_ref().is_none_or(|old| old.differs(&route)) {
            let route = Arc::new(route);
            self.published = Some(Arc::clone(&route));
            out.push(Output::Publish(route));
        }
    }

    fn circumstances(&self, now: Monotonic, alone_since: Option<Monotonic>, host: HostId) -> Circumstances {
        let ttl = self.order.policy.evidence_ttl;
        Circumstances { now, ttl, alone_since, next_probe: self.probes.at(host) }
    }

    fn states(&self, now: Monotonic, alone_since: Option<Monotonic>) -> Vec<Verdict> {
        let nothing = Evidence::default();
        let state = |c: &Candidate| {
            standing(&c.manager, c.excluded).unwrap_or_else(|| {
                let evidence = self.evidence.get(&c.manager.host).unwrap_or(&nothing);
                evidence.judge(&self.circumstances(now, alone_since, c.manager.host))
            })
        };
        self.order.candidates.iter().map(state).collect()
    }

    /// Every candidate that is better than the chosen one, or that this host saw fail, and is not live, is
    /// probed in the background, so that no caller is the probe. One in use or better that only an own
    /// connection keeps live is probed again before that grows old: else a manager on a host whose agent is
    /// gone would be left and returned to for ever.
    fn plan_probes(
        &mut self,
        now: Monotonic,
        place: &Place,
        states: &[Verdict],
        chosen: Option<usize>,
        ty: &ManagerType,
        out: &mut Vec<Output>,
    ) {
        let wanted = |(i, c): (usize, &Candidate)| {
            let (host, evidence) = (c.manager.host, self.evidence.get(&c.manager.host));
            let own_failure = evidence.is_some_and(Evidence::own_failure);
            match states[i].state {
                CandidateState::Unknown | CandidateState::Suspect | CandidateState::Down => {
                    let better = chosen.is_none_or(|chosen| i < chosen);
                    (better || own_failure).then_some(Wanted { host, from: None })
                }
                CandidateState::Live if chosen.is_some_and(|chosen| i <= chosen) => {
                    let connected = evidence.and_then(Evidence::lives_by_own_connection)?;
                    Some(Wanted { host, from: Some(connected + self.order.policy.evidence_ttl / 2) })
                }
                _ => None,
            }
        };
        let wanted: Vec<_> = self.order.candidates.iter().enumerate().filter_map(wanted).collect();
        let timeout = self.order.policy.connect_timeout;
        let due = self.probes.due(now, &place.name, &wanted);
        for c in self.order.candidates.iter().filter(|c| due.contains(&c.manager.host)) {
            out.push(Output::Probe { ty: ty.clone(), target: Target::of(c), timeout });
        }
    }

    fn route(
        &mut self,
        now: Monotonic,
        place: &Place,
        ty: &ManagerType,
        states: Vec<Verdict>,
        choice: &Choice,
    ) -> Route {
        let chosen = choice.chosen.map(|i| self.order.candidates[i].manager.host);
        self.since.update(now, chosen);
        let attempts = attempts(&states, choice.chosen);
        let targets = attempts.iter().map(|&i| Target::of(&self.order.candidates[i])).collect();
        Route {
            asker: place.name.clone(),
            ty: ty.clone(),
            entries: Entry::all(&self.order, states),
            targets,
            chosen: choice.chosen,
            outcome: choice.outcome,
            cause: Text::lossy(&choice.cause),
            since: self.since.at(),
            policy: self.order.policy.clone(),
        }
    }
}
