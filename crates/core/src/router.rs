//! One host's routing: view, place, hearsay and own observations in; routes and probes out.
//!
//! A deterministic state machine. Its shell hands it the time and what happened, carries out what it
//! asks for, and calls again at the deadline it names.

use crate::check::{Check, CheckKind};
use crate::choice::{Choice, Memory, Situation, attempts, choose, jitter_share};
use crate::endpoint::Endpoint;
use crate::evidence::{Circumstances, Evidence, Seen, Verdict};
use crate::hearsay::Hearsay;
use crate::id::HostId;
use crate::isolation::{Isolation, Standing};
use crate::limits::{MAX_TARGETS, MAX_WANTED_TYPES};
use crate::message::{Health, LivenessEntry, Using};
use crate::moves::Moved;
use crate::name::{HostName, ManagerType, Text};
use crate::order::{Candidate, Order};
use crate::policy::{Effective, Failback};
use crate::probe::{Pace, Probes, Wanted};
use crate::report::CandidateState;
use crate::roster::Roster;
use crate::route::{Entry, Route, Since, Target};
use crate::settled::standing;
use crate::spread::Equals;
use crate::tiers::{Ranking, Seat, Tiers};
use crate::time::Monotonic;
use crate::view::{Place, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Managers that are seated one by one when they change; where more do, all are seated anew, which takes no longer.
const MOST_RESEATED: usize = 16;

/// Within this time a candidate is probed of which there is news. Its users all have the same news.
const NEWS: Duration = Duration::from_secs(1);

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
        /// Where it was tried; none where it listens now. What came of it elsewhere counts no more.
        endpoint: Option<Endpoint>,
        /// What demanded an answer. What came of another check than the one in force counts no more.
        check: Option<CheckKind>,
        /// What.
        seen: Seen,
        /// How long the attempt was under way.
        took: Duration,
    },
    /// From now on connections to managers of this type are open, or none is. Counted are all that the host
    /// knows of, whichever manager they lead to; only whether there are any matters, and only with
    /// [`Failback::Dormant`]: it has to be known when a view sets that.
    Occupied {
        /// The type.
        ty: ManagerType,
        /// Whether any is open.
        occupied: bool,
    },
    /// An operator wants connections of this type to return to the best candidate that is live.
    Return(ManagerType),
    /// The deadline has come.
    Tick,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// From now on this is how far what the host sees can be believed.
    Standing(Standing),
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
        /// What demands an answer beyond the connection; none where a connection is enough.
        check: Option<CheckKind>,
    },
}

/// The routing of one host.
#[derive(Debug)]
pub struct Router {
    view: View,
    place: Place,
    alone_since: Option<Monotonic>,
    isolation: Isolation,
    hearsay: Hearsay,
    types: BTreeMap<ManagerType, TypeState>,
}

/// How the host is that decides.
struct Host<'a> {
    now: Monotonic,
    place: &'a Place,
    alone_since: Option<Monotonic>,
    isolated: bool,
}

#[derive(Debug)]
struct TypeState {
    roster: Roster,
    tiers: Tiers,
    order: Order,
    /// Where in the roster each candidate of the order is.
    places: Vec<usize>,
    memory: Memory,
    probes: Probes,
    since: Since,
    /// Why what is chosen is chosen since then.
    moved: Option<Moved>,
    published: Option<Arc<Route>>,
    next_change: Option<Monotonic>,
    /// Whether connections are open.
    occupied: bool,
    /// Whether something has happened that no decision has been made on yet.
    stale: bool,
}

impl Router {
    /// The routing of the host at `place`, as yet without a registry manager.
    pub fn new(view: View, place: Place) -> Self {
        let alone_since = Some(Monotonic::default());
        let (hearsay, isolation) = (Hearsay::default(), Isolation::default());
        Self { view, place, alone_since, isolation, hearsay, types: BTreeMap::new() }
    }

    /// Takes in what happened at `now` and appends what is to be done.
    pub fn handle(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        self.handle_all(now, [input], out);
    }

    /// Takes in all that has happened by `now`, in this order, and then decides, once for each type.
    pub fn handle_all(
        &mut self,
        now: Monotonic,
        inputs: impl IntoIterator<Item = Input>,
        out: &mut Vec<Output>,
    ) {
        self.keep_standing(now, out, |router| router.isolation.pass(now));
        for input in inputs {
            self.keep_standing(now, out, |router| router.take_in(now, input));
        }
        let standing = self.isolation.standing();
        let isolated = standing == Standing::Isolated;
        let host = Host { now, place: &self.place, alone_since: self.alone_since, isolated };
        for (ty, state) in self.types.iter_mut().filter(|(_, state)| state.stale) {
            state.decide(&host, ty, out);
        }
    }

    /// Does something by which the host may stand otherwise, and says so then.
    fn keep_standing(&mut self, now: Monotonic, out: &mut Vec<Output>, something: impl FnOnce(&mut Self)) {
        let before = self.isolation.standing();
        something(self);
        let standing = self.isolation.standing();
        if standing != before {
            self.stand(now, before);
            out.push(Output::Standing(standing));
        }
    }

    fn take_in(&mut self, now: Monotonic, input: Input) {
        match input {
            Input::Want(ty) => self.want(now, ty),
            Input::Saw { ty, host, endpoint, check, seen, took } => {
                let tried = Tried { host, endpoint, check };
                self.saw(now, &ty, &tried, seen, took);
            }
            Input::View(view) => self.see(now, view),
            Input::Place(place) => self.settle_at(now, place),
            Input::Liveness { complete, entries } => {
                let told = self.hearsay.hear(complete, entries);
                self.tell(now, told);
            }
            Input::OwnHealth(packages) => {
                self.hearsay.hear_own(packages);
                self.tell(now, [self.place.host]);
            }
            Input::Occupied { ty, occupied } => self.occupy(&ty, occupied),
            Input::Return(ty) => self.return_now(&ty),
            Input::Session(session) => {
                self.isolation.session(now, session);
                self.hold_alone_since((!session).then(|| self.alone_since.unwrap_or(now)));
            }
            Input::Tick => self.types.values_mut().for_each(|state| state.stale = true),
        }
    }

    fn hold_alone_since(&mut self, alone_since: Option<Monotonic>) {
        self.alone_since = alone_since;
        self.types.values_mut().for_each(|state| state.stale = true);
    }

    /// Goes by another standing than `before`. Probes that were slowed down begin anew.
    fn stand(&mut self, now: Monotonic, before: Standing) {
        for state in self.types.values_mut() {
            state.stale = true;
            if before == Standing::Isolated {
                state.probes.restart(now, &self.place.name);
            }
        }
    }

    fn occupy(&mut self, ty: &ManagerType, occupied: bool) {
        if let Some(state) = self.types.get_mut(ty) {
            let matters = state.order.policy.failback == Failback::Dormant;
            state.stale |= matters && state.occupied != occupied;
            state.occupied = occupied;
        }
    }

    fn return_now(&mut self, ty: &ManagerType) {
        if let Some(state) = self.types.get_mut(ty) {
            state.memory.ask_return();
            state.stale = true;
        }
    }

    /// The route for a type, once it has been asked for.
    pub fn route(&self, ty: &ManagerType) -> Option<&Arc<Route>> {
        self.types.get(ty)?.published.as_ref()
    }

    /// How far what this host sees of others can be believed.
    pub fn standing(&self) -> Standing {
        self.isolation.standing()
    }

    /// When to call again though nothing happens; none if that need not be.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let decisions = self.types.values().filter_map(|t| t.next_change);
        decisions.chain(self.isolation.next_change()).min()
    }

    /// For each type asked for: what is used, where that is not home.
    pub fn using(&self, now: Monotonic) -> Vec<Using> {
        let routes = self.types.values().filter_map(|t| t.published.as_ref());
        routes.filter_map(|r| r.using(now)).collect()
    }

    fn want(&mut self, now: Monotonic, ty: ManagerType) {
        if self.types.contains_key(&ty) || self.types.len() >= MAX_WANTED_TYPES {
            return;
        }
        let mut state = TypeState::new(now);
        state.follow(now, &self.view, &self.place, &ty, &self.hearsay, true);
        self.types.insert(ty, state);
    }

    /// Takes over a new view. Types that nothing has changed for are left alone.
    fn see(&mut self, now: Monotonic, view: View) {
        let old = std::mem::replace(&mut self.view, view);
        self.hearsay.forget(self.view.left_since(&old));
        let all = !self.view.shares_surroundings(&old);
        for (ty, state) in &mut self.types {
            if all || !self.view.shares_managers(&old, ty) {
                state.follow(now, &self.view, &self.place, ty, &self.hearsay, all);
            }
        }
    }

    fn settle_at(&mut self, now: Monotonic, place: Place) {
        let old = std::mem::replace(&mut self.place, place);
        for (ty, state) in &mut self.types {
            if old.name != self.place.name {
                state.roster.rescore(&self.place.name, ty);
            }
            state.follow(now, &self.view, &self.place, ty, &self.hearsay, true);
            state.hear_all(now, &self.place, ty, &self.hearsay);
            state.stale = true;
        }
    }

    /// Hands on what is reported of these hosts to the types that have managers there.
    fn tell(&mut self, now: Monotonic, hosts: impl IntoIterator<Item = HostId>) {
        let place = &self.place;
        for host in hosts {
            for (ty, state) in &mut self.types {
                if let Some(at) = state.roster.find(host) {
                    state.hear(now, &place.name, at, self.hearsay.of(place.host, host, ty));
                }
            }
        }
    }

    fn saw(&mut self, now: Monotonic, ty: &ManagerType, tried: &Tried, seen: Seen, took: Duration) {
        let Some(state) = self.types.get_mut(ty) else { return };
        let Some(at) = state.roster.find(tried.host) else { return };
        // A session says more of registry managers, and what is on this host nothing of the network.
        if !ty.is_registry() && tried.host != self.place.host {
            self.isolation.saw(now, tried.host, &seen, took);
        }
        if state.is_of_now(at, tried, &seen) {
            state.saw(now, &self.place.name, at, seen, took);
        }
    }
}

/// What was tried.
struct Tried {
    host: HostId,
    endpoint: Option<Endpoint>,
    check: Option<CheckKind>,
}

impl TypeState {
    fn new(now: Monotonic) -> Self {
        Self {
            roster: Roster::default(),
            tiers: Tiers::default(),
            order: Order { policy: Effective::default(), candidates: Vec::new() },
            places: Vec::new(),
            memory: Memory::default(),
            probes: Probes::default(),
            since: Since::new(now),
            moved: None,
            published: None,
            next_change: None,
            occupied: false,
            stale: true,
        }
    }

    /// Works out the order anew from a view and a place; `all` says whether anything else has changed in them
    /// than managers of this type.
    fn follow(
        &mut self,
        now: Monotonic,
        view: &View,
        place: &Place,
        ty: &ManagerType,
        hearsay: &Hearsay,
        all: bool,
    ) {
        let update = self.roster.update(view, &place.name, ty);
        update.forgotten.into_iter().for_each(|host| self.probes.forget(host));
        let (roster, managers, mut ranking) = (&self.roster, self.roster.managers(), Ranking::default());
        match all || update.displaced || update.changed.len() > MOST_RESEATED {
            true => self.tiers = Tiers::new(view, &place.domains, ty, managers),
            false => self.tiers.reseat(view, &place.domains, managers, &update.changed),
        }
        let weigh = |tier: &[Seat], equals: &mut Equals| {
            equals.have_scores(tier.iter().map(|seat| roster.score(seat.at as usize)));
        };
        self.tiers.rank(place.host, managers, usize::MAX, weigh, &mut ranking);
        self.tiers.keep(&ranking);
        let former = self.order.policy.probe.clone();
        self.stale |= self.tiers.reorder(place.host, managers, ranking.seats(), &mut self.order);
        self.places = ranking.seats().iter().map(|seat| seat.at as usize).collect();
        if former != self.order.policy.probe {
            self.roster.forget_answers();
            // What they said is to be found out anew.
            self.probes.restart(now, &place.name);
        }
        for at in update.fresh {
            let host = self.roster.managers()[at].host;
            self.hear(now, &place.name, at, hearsay.of(place.host, host, ty));
        }
    }

    /// Takes in what is reported of all candidates.
    fn hear_all(&mut self, now: Monotonic, place: &Place, ty: &ManagerType, hearsay: &Hearsay) {
        for at in 0..self.roster.managers().len() {
            let host = self.roster.managers()[at].host;
            self.hear(now, &place.name, at, hearsay.of(place.host, host, ty));
        }
    }

    /// Whether what came of a trial says something of the manager at this place of the roster as it is now, and of the
    /// check in force.
    fn is_of_now(&self, at: usize, tried: &Tried, seen: &Seen) -> bool {
        let here = |endpoint: &Endpoint| *endpoint == self.roster.managers()[at].endpoint;
        let answer = matches!(seen, Seen::Answered | Seen::Unanswered { .. });
        let asked = self.sentinel().map(|check| &check.kind);
        tried.endpoint.as_ref().is_none_or(here)
            && (!answer || asked.is_some_and(|kind| tried.check.as_ref() == Some(kind)))
    }

    /// Takes in what the host of this name saw of the manager at this place of the roster.
    fn saw(&mut self, now: Monotonic, host: &HostName, at: usize, seen: Seen, took: Duration) {
        if self.is_mere_miss(now, at, &seen, took) {
            self.stale = true;
            return;
        }
        let evidence = self.roster.evidence_mut(at);
        let (was_overtaken, share) = (evidence.is_overtaken(), jitter_share(host));
        let news = match seen {
            Seen::Overloaded(time) => {
                evidence.overloaded_for(now, time, share);
                true
            }
            seen => evidence.saw(now, seen, took),
        };
        self.stale |= news;
        if evidence.is_overtaken() && !was_overtaken {
            // One packet may have been lost. The attempt itself would find out too late: its system sends the packet
            // again after a second, when its time is up. An answer meanwhile makes that timeout old.
            let within = (self.order.policy.connect_timeout / 2).min(NEWS);
            self.probes.hurry(self.roster.managers()[at].host, now, host, within);
        }
    }

    fn hear(&mut self, now: Monotonic, host: &HostName, at: usize, report: Option<(bool, Health)>) {
        let Some((silent, health)) = report else { return };
        let passing = health == Health::Passing;
        let evidence = self.roster.evidence_mut(at);
        if !evidence.heard(now, silent, health) {
            return;
        }
        if passing && evidence.own_failure() {
            // Its host says that it works again: look soon instead of waiting out a backoff.
            self.probes.hurry(self.roster.managers()[at].host, now, host, NEWS);
        }
        self.stale = true;
    }

    fn decide(&mut self, host: &Host<'_>, ty: &ManagerType, out: &mut Vec<Output>) {
        self.stale = false;
        let states = self.states(host);
        let Host { now, isolated, .. } = *host;
        let situation = Situation { host: &host.place.name, now, occupied: self.occupied, isolated };
        let choice = choose(&self.order, &states, &mut self.memory, &situation);
        self.plan_probes(host, &states, choice.chosen, ty, out);
        let judged = self
            .roster
            .iter()
            .filter_map(|(manager, evidence)| evidence.next_change(&self.circumstances(host, manager.host)));
        self.next_change = judged.chain(choice.next_change).chain(self.probes.next()).min();
        let route = self.route(host, ty, states, choice);
        if self.published.as_ref().is_none_or(|old| old.differs(&route)) {
            let route = Arc::new(route);
            self.published = Some(Arc::clone(&route));
            out.push(Output::Publish(route));
        }
    }

    fn circumstances(&self, host: &Host<'_>, candidate: HostId) -> Circumstances {
        let ttl = self.order.policy.evidence_ttl;
        let next_probe = self.probes.at(candidate);
        Circumstances { now: host.now, ttl, alone_since: host.alone_since, next_probe }
    }

    fn states(&self, host: &Host<'_>) -> Vec<Verdict> {
        let state = |(c, at): (&Candidate, &usize)| {
            standing(&c.manager, c.excluded)
                .unwrap_or_else(|| self.roster.evidence(*at).judge(&self.circumstances(host, c.manager.host)))
        };
        self.order.candidates.iter().zip(&self.places).map(state).collect()
    }

    /// Whether a probe of the manager at this place of the roster got no answer for the first time, or not as often
    /// in a row as it takes to fail. A manager that this host holds failed already needs no more misses.
    fn is_mere_miss(&mut self, now: Monotonic, at: usize, seen: &Seen, took: Duration) -> bool {
        let host = self.roster.managers()[at].host;
        match seen {
            Seen::Answered => self.probes.answered(host),
            Seen::Unanswered { .. } if !self.roster.evidence(at).own_failure() => {
                if let Some(check) = self.sentinel() {
                    let (misses, wait) = (check.misses, Check::after_miss(check.interval, check.timeout));
                    return self.probes.missed(host, misses, now + wait.saturating_sub(took));
                }
            }
            _ => {}
        }
        false
    }

    /// The check by which this host watches what it uses: that of the policy `probe`, where it demands an answer. One
    /// that only connects would say no more than each caller's own connection.
    fn sentinel(&self) -> Option<&Check> {
        self.order.policy.probe.as_ref().filter(|check| check.kind.demands_answer())
    }

    /// Every candidate that is better than the chosen one, or that this host saw fail, and is not live, is
    /// probed in the background, so that no caller is the probe. One in use or better that only an own
    /// connection keeps live is probed again before that grows old: else a manager on a host whose agent is
    /// gone would be left and returned to for ever. Where the policy `probe` demands an answer, the one in use and
    /// those that this host would return to are probed at its interval: so a manager that hangs is found by its
    /// users.
    fn plan_probes(
        &mut self,
        host: &Host<'_>,
        states: &[Verdict],
        chosen: Option<usize>,
        ty: &ManagerType,
        out: &mut Vec<Output>,
    ) {
        let sentinel = self.sentinel();
        let pace = |i: usize, evidence: &Evidence| match states[i].state {
            // What was slow is asked soon, however seldom it is asked else.
            state if watched(i, state, chosen) && sentinel.is_some() && !evidence.is_overtaken() => {
                sentinel.map(|check| Pace::Every(check.interval))
            }
            CandidateState::Unknown | CandidateState::Suspect | CandidateState::Down => {
                let better = chosen.is_none_or(|chosen| i < chosen);
                let failed = evidence.own_failure() || evidence.is_overtaken();
                (better || failed).then_some(Pace::BackingOff)
            }
            CandidateState::Live if chosen.is_some_and(|chosen| i <= chosen) => {
                let connected = evidence.lives_by_own_connection()?;
                Some(Pace::From(connected + self.order.policy.evidence_ttl / 2))
            }
            _ => None,
        };
        let wanted = |(i, c): (usize, &Candidate)| {
            let pace = pace(i, self.roster.evidence(self.places[i]))?;
            Some(Wanted { host: c.manager.host, pace })
        };
        let wanted: Vec<_> = self.order.candidates.iter().enumerate().filter_map(wanted).collect();
        let timeout = self.order.policy.probe.as_ref().map(|check| check.timeout);
        let timeout = timeout.unwrap_or(self.order.policy.connect_timeout);
        let check = sentinel.map(|check| check.kind.clone());
        let due = self.probes.due(host.now, &host.place.name, &wanted, host.isolated);
        for i in (0..self.places.len()).filter(|i| due.contains(&self.order.candidates[*i].manager.host)) {
            let (ty, target, check) = (ty.clone(), self.target(i), check.clone());
            out.push(Output::Probe { ty, target, timeout, check });
        }
    }

    /// Where the `i`th candidate listens, and how long it is waited for.
    fn target(&self, i: usize) -> Target {
        let learned = || self.roster.evidence(self.places[i]).hedge();
        let hedge = self.order.policy.connect_hedge.unwrap_or_else(learned);
        Target::of(&self.order.candidates[i], hedge)
    }

    fn route(&mut self, host: &Host<'_>, ty: &ManagerType, states: Vec<Verdict>, choice: Choice) -> Route {
        let chosen = choice.chosen.map(|i| self.order.candidates[i].manager.host);
        self.since.update(host.now, chosen);
        self.moved = choice.moved.or(self.moved.take());
        let attempts = attempts(&states, choice.chosen, MAX_TARGETS);
        let targets = attempts.iter().map(|&i| self.target(i)).collect();
        Route {
            asker: host.place.name.clone(),
            ty: ty.clone(),
            entries: Entry::all(&self.order, states),
            targets,
            chosen: choice.chosen,
            outcome: choice.outcome,
            cause: Text::lossy(&choice.cause),
            since: self.since.at(),
            moved: self.moved.clone(),
            isolated: host.isolated,
            policy: self.order.policy.clone(),
        }
    }
}

/// Whether a sentinel watches the candidate at `i`: the one in use whatever its state, and better ones that are live.
fn watched(i: usize, state: CandidateState, chosen: Option<usize>) -> bool {
    chosen == Some(i) || (state == CandidateState::Live && chosen.is_some_and(|chosen| i < chosen))
}
