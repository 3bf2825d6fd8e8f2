//! One host's routing: view, place, hearsay and own observations in; routes and probes out.
//!
//! A deterministic state machine. Its shell hands it the time and what happened, carries out what it
//! asks for, and calls again at the deadline it names.

use crate::choice::{Choice, Memory, attempts, choose};
use crate::evidence::{Circumstances, Evidence, Seen};
use crate::id::HostId;
use crate::limits::MAX_WANTED_TYPES;
use crate::message::{Health, LivenessEntry, Using};
use crate::name::{ManagerType, Text};
use crate::order::{Candidate, Order, order};
use crate::probe::Probes;
use crate::replication::MAX_SNAPSHOT_ROWS;
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
    /// Somebody asks for managers of this type; from now on there is a route for it.
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
    /// This host's own checks report, which counts as hearsay here too.
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
    session: bool,
    heard: BTreeMap<HostId, LivenessEntry>,
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

impl Router {
    /// The routing of the host at `place`.
    pub fn new(view: View, place: Place) -> Self {
        Self { view, place, session: false, heard: BTreeMap::new(), types: BTreeMap::new() }
    }

    /// Takes in what happened at `now` and appends what is to be done.
    pub fn handle(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        let touched = self.take_in(now, input);
        let (place, session) = (&self.place, self.session);
        let touched = |ty: &ManagerType| touched.as_ref().is_none_or(|t| t == ty);
        for (ty, state) in self.types.iter_mut().filter(|(ty, _)| touched(ty)) {
            state.decide(now, place, session, ty, out);
        }
    }

    /// Says which type alone is touched; none where all may be.
    fn take_in(&mut self, now: Monotonic, input: Input) -> Option<ManagerType> {
        match input {
            Input::Want(ty) => {
                self.want(now, &ty);
                return Some(ty);
            }
            Input::Saw { ty, host, seen } => {
                self.saw(now, &ty, host, seen);
                return Some(ty);
            }
            Input::View(view) => {
                self.view = view;
                self.reorder();
            }
            Input::Place(place) => {
                self.place = place;
                self.reorder();
            }
            Input::Liveness { complete, entries } => self.hear(now, complete, entries),
            Input::OwnHealth(packages) => self.hear_own(now, packages),
            Input::Session(session) => self.session = session,
            Input::Tick => {}
        }
        None
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

    fn want(&mut self, now: Monotonic, ty: &ManagerType) {
        if self.types.contains_key(ty) || self.types.len() >= MAX_WANTED_TYPES {
            return;
        }
        let state = TypeState {
            order: order(&self.view, (&self.place).into(), ty),
            evidence: BTreeMap::new(),
            memory: Memory::default(),
            probes: Probes::default(),
            since: Since::new(now),
            published: None,
            next_change: None,
        };
        self.types.insert(ty.clone(), state);
        let entries: Vec<_> = self.heard.values().cloned().collect();
        entries.iter().for_each(|entry| self.apply_report(now, entry));
    }

    fn reorder(&mut self) {
        let there: BTreeSet<_> = self.view.managers().map(|m| m.host).collect();
        self.heard.retain(|host, _| there.contains(host));
        for (ty, state) in &mut self.types {
            state.order = order(&self.view, (&self.place).into(), ty);
            let there = &state.order.candidates;
            state.evidence.retain(|host, _| there.iter().any(|c| c.manager.host == *host));
        }
    }

    /// The newest report of an agent wins. What is not named stays as last known, but for its silence: only
    /// the manager that had an agent's last session judges that, and a complete report is of a session
    /// that has just begun.
    fn hear(&mut self, now: Monotonic, complete: bool, entries: Vec<LivenessEntry>) {
        let mut news = entries;
        if complete {
            let named: BTreeSet<_> = news.iter().map(|e| e.host).collect();
            let mut judged: Vec<_> = self.heard.values().filter(|e| e.silent).cloned().collect();
            judged.retain(|e| !named.contains(&e.host));
            news.extend(judged.into_iter().map(|e| LivenessEntry { silent: false, ..e }));
        }
        for entry in news {
            let known = self.heard.get(&entry.host);
            let entry = match known {
                // Never heard by that manager: it can speak of silence only.
                Some(known) if entry.incarnation == 0 => {
                    LivenessEntry { silent: entry.silent, ..known.clone() }
                }
                Some(known) if (known.incarnation, known.sequence) > (entry.incarnation, entry.sequence) => {
                    continue;
                }
                None if self.heard.len() >= MAX_SNAPSHOT_ROWS => continue,
                _ => entry,
            };
            self.apply_report(now, &entry);
            self.heard.insert(entry.host, entry);
        }
    }

    fn hear_own(&mut self, now: Monotonic, packages: BTreeMap<ManagerType, Health>) {
        let host = self.place.host;
        let sequence = self.heard.get(&host).map_or(0, |e| e.sequence);
        let incarnation = self.heard.get(&host).map_or(0, |e| e.incarnation);
        let entry = LivenessEntry { host, incarnation, sequence, silent: false, packages };
        self.apply_report(now, &entry);
    }

    fn apply_report(&mut self, now: Monotonic, entry: &LivenessEntry) {
        for (ty, state) in &mut self.types {
            let health = entry.packages.get(ty).cloned().unwrap_or(Health::Unchecked);
            if !state.order.candidates.iter().any(|c| c.manager.host == entry.host) {
                continue;
            }
            let passing = health == Health::Passing;
            let evidence = state.evidence.entry(entry.host).or_default();
            if evidence.heard(now, entry.silent, health) && passing && evidence.own_failure() {
                // Its host says that it works again: look at once instead of waiting out a backoff.
                state.probes.hurry(entry.host, now);
            }
        }
    }

    fn saw(&mut self, now: Monotonic, ty: &ManagerType, host: HostId, seen: Seen) {
        let Some(state) = self.types.get_mut(ty) else { return };
        if state.order.candidates.iter().any(|c| c.manager.host == host) {
            state.evidence.entry(host).or_default().saw(now, seen);
        }
    }
}

impl TypeState {
    fn decide(
        &mut self,
        now: Monotonic,
        place: &Place,
        session: bool,
        ty: &ManagerType,
        out: &mut Vec<Output>,
    ) {
        let states = self.states(now, session);
        let choice = choose(&self.order, &states, &mut self.memory, &place.name, now);
        self.plan_probes(now, place, &states, choice.chosen, ty, out);
        let circumstances = |host: &HostId| self.circumstances(now, session, *host);
        let judged = self.evidence.iter().filter_map(|(host, e)| e.next_change(&circumstances(host)));
        self.next_change = judged.chain(choice.next_change).chain(self.probes.next()).min();
        let route = self.route(now, place, ty, states, &choice);
        if self.published.as_ref().is_none_or(|old| old.differs(&route)) {
            let route = Arc::new(route);
            self.published = Some(Arc::clone(&route));
            out.push(Output::Publish(route));
        }
    }

    fn circumstances(&self, now: Monotonic, session: bool, host: HostId) -> Circumstances {
        Circumstances { now, ttl: self.order.policy.evidence_ttl, session, next_probe: self.probes.at(host) }
    }

    fn states(&self, now: Monotonic, session: bool) -> Vec<(CandidateState, String)> {
        let state = |c: &Candidate| {
            standing(&c.manager, c.excluded).unwrap_or_else(|| {
                let circumstances = self.circumstances(now, session, c.manager.host);
                let evidence = self.evidence.get(&c.manager.host);
                evidence.unwrap_or(&Evidence::default()).judge(&circumstances)
            })
        };
        self.order.candidates.iter().map(state).collect()
    }

    /// Every candidate that is better than the chosen one, or that this host saw fail, and is not live, is
    /// probed in the background, so that no caller is the probe.
    fn plan_probes(
        &mut self,
        now: Monotonic,
        place: &Place,
        states: &[(CandidateState, String)],
        chosen: Option<usize>,
        ty: &ManagerType,
        out: &mut Vec<Output>,
    ) {
        let wanted = self.order.candidates.iter().enumerate().filter(|(i, c)| {
            let own_failure = self.evidence.get(&c.manager.host).is_some_and(Evidence::own_failure);
            let better = chosen.is_none_or(|chosen| *i < chosen);
            let open = matches!(
                states[*i].0,
                CandidateState::Unknown | CandidateState::Suspect | CandidateState::Down
            );
            open && (better || own_failure)
        });
        let wanted: Vec<_> = wanted.map(|(_, c)| c.manager.host).collect();
        for host in self.probes.due(now, &place.name, &wanted) {
            if let Some(candidate) = self.order.candidates.iter().find(|c| c.manager.host == host) {
                let target = Target::of(candidate);
                out.push(Output::Probe {
                    ty: ty.clone(),
                    target,
                    timeout: self.order.policy.connect_timeout,
                });
            }
        }
    }

    fn route(
        &mut self,
        now: Monotonic,
        place: &Place,
        ty: &ManagerType,
        states: Vec<(CandidateState, String)>,
        choice: &Choice,
    ) -> Route {
        let chosen = choice.chosen.map(|i| self.order.candidates[i].manager.host);
        self.since.update(now, chosen);
        let attempts = attempts(&states, choice.chosen);
        let targets = attempts.iter().map(|&i| Target::of(&self.order.candidates[i])).collect();
        let entries = self.order.candidates.iter().zip(states);
        let entries = entries.map(|(c, (state, reason))| Entry { candidate: c.clone(), state, reason });
        Route {
            asker: place.name.clone(),
            ty: ty.clone(),
            entries: entries.collect(),
            targets,
            chosen: choice.chosen,
            outcome: choice.outcome,
            cause: Text::lossy(&choice.cause),
            since: self.since.at(),
            policy: self.order.policy.clone(),
        }
    }
}
