//! One host's router in virtual time: deadlines are kept exactly, probes are answered at once.

use crate::support::*;
use echelon_core::choice::jitter_share;
use echelon_core::evidence::{Met, Seen};
use echelon_core::id::HostId;
use echelon_core::isolation::Standing;
use echelon_core::message::{Health, LivenessEntry};
use echelon_core::name::Text;
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::route::Route;
use echelon_core::router::{Input, Output, Router};
use echelon_core::time::Monotonic;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The defaults of routing.md.
pub(crate) const HOLD: Duration = Duration::from_secs(30);
pub(crate) const JITTER: Duration = Duration::from_secs(30);

/// The part of the jitter that a host sits out.
pub(crate) fn jitter(host: &str) -> Duration {
    // The clock counts whole microseconds.
    Duration::from_micros(JITTER.mul_f64(jitter_share(&name(host))).as_micros() as u64)
}

pub(crate) fn failing(demands_answer: bool) -> Health {
    Health::Failing { demands_answer, reason: Text::lossy("no answer") }
}

pub(crate) fn refused() -> Seen {
    Seen::Failed(Text::lossy("connection refused"))
}

pub(crate) fn timed_out() -> Seen {
    Seen::Silent(Text::lossy("no answer within 1s"))
}

/// What was seen of a manager where it listens now.
pub(crate) fn seen_of(host: HostId, seen: Seen) -> Input {
    Input::Saw { ty: ty(CC), host, endpoint: None, check: None, seen, took: Duration::ZERO }
}

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) router: Router,
    pub(crate) now: Monotonic,
    pub(crate) host: String,
    /// Managers that refuse every connection.
    pub(crate) dead: BTreeSet<HostId>,
    /// Whether the network is gone: every connection times out, dead or not.
    pub(crate) cut_off: bool,
    /// Whether probes are lost, as behind a network that drops packets.
    pub(crate) black_hole: bool,
    /// Every probe so far.
    pub(crate) probes: Vec<(Monotonic, HostId)>,
    /// How far this host could be believed, so far.
    pub(crate) standings: Vec<(Monotonic, Standing)>,
    /// Every route so far.
    pub(crate) published: Vec<(Monotonic, Arc<Route>)>,
    sequences: BTreeMap<HostId, u64>,
}

impl Rig {
    /// The router of `host`, asked for managers of type [`CC`] at 1 s, with a session.
    pub(crate) fn new(world: World, host: &str) -> Self {
        let router = Router::new(world.view(), world.place(host));
        let mut rig = Self {
            world,
            router,
            now: at(1.0),
            host: host.to_owned(),
            dead: BTreeSet::new(),
            cut_off: false,
            black_hole: false,
            probes: Vec::new(),
            standings: Vec::new(),
            published: Vec::new(),
            sequences: BTreeMap::new(),
        };
        rig.input(Input::Session(true));
        rig.input(Input::Want(ty(CC)));
        rig
    }

    /// Hands in an input, and what comes of the probes it leads to.
    pub(crate) fn input(&mut self, input: Input) -> usize {
        let mut waiting = vec![input];
        let published = self.published.len();
        while let Some(input) = waiting.pop() {
            let mut out = Vec::new();
            self.router.handle(self.now, input, &mut out);
            assert!(
                self.router.next_deadline().is_none_or(|at| at > self.now),
                "the deadline has passed already"
            );
            for output in out {
                match output {
                    Output::Standing(standing) => self.standings.push((self.now, standing)),
                    Output::Publish(route) => self.published.push((self.now, route)),
                    Output::Probe { ty, target, check, .. } => {
                        self.probes.push((self.now, target.host));
                        let seen = self.connect(target.host);
                        let seen = if check.is_some() { answer(seen) } else { seen };
                        if !self.black_hole {
                            let (host, endpoint) = (target.host, Some(target.endpoint));
                            let took = Duration::ZERO;
                            waiting.push(Input::Saw { ty, host, endpoint, check, seen, took });
                        }
                    }
                }
            }
        }
        self.published.len() - published
    }

    /// What a connection to the manager on `host` comes to.
    pub(crate) fn connect(&self, host: HostId) -> Seen {
        match self.dead.contains(&host) {
            _ if self.cut_off => timed_out(),
            true => refused(),
            false => Seen::Connected,
        }
    }

    /// Lets time pass, keeping every deadline on the way exactly and looking at no other time, so that what
    /// the router forgets to ask for does not happen.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.router.next_deadline().filter(|at| *at <= end) {
            self.now = deadline;
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// Carries out an edit and shows it to the router.
    pub(crate) fn edit(&mut self, changes: impl IntoIterator<Item = echelon_core::change::Change>) {
        self.world.edit(changes);
        self.input(Input::View(self.world.view()));
        self.input(Input::Place(self.world.place(&self.host)));
    }

    pub(crate) fn saw(&mut self, host: &str, seen: Seen) -> usize {
        let host = self.world.host_id(host);
        self.input(seen_of(host, seen))
    }

    /// The manager on `host` refuses this host's connection and every later one.
    pub(crate) fn fail(&mut self, host: &str) {
        self.dead.insert(self.world.host_id(host));
        self.saw(host, refused());
    }

    /// The manager on `host` takes connections again.
    pub(crate) fn revive(&mut self, host: &str) {
        let id = self.world.host_id(host);
        self.dead.remove(&id);
    }

    /// The manager on `host` works again; its agent says so, and this host has looked.
    pub(crate) fn recover(&mut self, host: &str) {
        self.revive(host);
        self.report(host, Health::Passing);
        self.saw(host, Seen::Connected);
    }

    /// A new report of the agent on `host`, which is not silent.
    pub(crate) fn report(&mut self, host: &str, health: Health) -> usize {
        let host = self.world.host_id(host);
        *self.sequences.entry(host).or_default() += 1;
        self.tell(false, vec![self.entry(host, false, health)])
    }

    /// The registry manager has not heard the agent on `host` for too long.
    pub(crate) fn silence(&mut self, host: &str, health: Health) {
        let host = self.world.host_id(host);
        self.tell(false, vec![self.entry(host, true, health)]);
    }

    pub(crate) fn entry(&self, host: HostId, silent: bool, health: Health) -> LivenessEntry {
        let sequence = self.sequences.get(&host).copied().unwrap_or_default();
        LivenessEntry { host, incarnation: 1, sequence, silent, packages: [(ty(CC), health)].into() }
    }

    pub(crate) fn tell(&mut self, complete: bool, entries: Vec<LivenessEntry>) -> usize {
        self.input(Input::Liveness { complete, entries })
    }

    pub(crate) fn route(&self) -> &Route {
        self.router.route(&ty(CC)).unwrap()
    }

    pub(crate) fn chosen(&self) -> &str {
        self.route().chosen().map_or("none", |e| e.candidate.manager.name.as_str())
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.route().outcome
    }

    pub(crate) fn state(&self, host: &str) -> CandidateState {
        let entry = self.route().entries.iter().find(|e| e.candidate.manager.name == name(host));
        entry.unwrap().state
    }

    pub(crate) fn targets(&self) -> Vec<&str> {
        self.route().targets.iter().map(|t| t.name.as_str()).collect()
    }

    /// How long the route stays as it is, which it must not do for ever.
    pub(crate) fn until_it_changes(&mut self) -> Duration {
        let (start, before) = (self.now, self.chosen().to_owned());
        for _ in 0..1000 {
            self.now = self.router.next_deadline().expect("the route stays as it is for ever");
            self.input(Input::Tick);
            if self.chosen() != before {
                return self.now.since(start);
            }
        }
        panic!("a thousand deadlines, and still {before}");
    }
}

/// What a check that demands an answer comes to, of a manager that answers every connection.
fn answer(connect: Seen) -> Seen {
    match connect {
        Seen::Failed(why) => Seen::Unanswered { why, met: Met::Refused },
        Seen::Silent(why) => Seen::Unanswered { why, met: Met::Nobody },
        _ => Seen::Answered,
    }
}
