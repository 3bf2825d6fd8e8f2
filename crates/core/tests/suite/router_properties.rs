//! What must hold of a router whatever happens, judged from the routes it publishes alone.

use crate::rig::*;
use crate::support::*;
use echelon_core::change::{Change, PackageSpec};
use echelon_core::check::{Check, CheckKind};
use echelon_core::evidence::Seen;
use echelon_core::id::HostId;
use echelon_core::message::Health;
use echelon_core::moves::Move;
use echelon_core::name::Text;
use echelon_core::package::Listens;
use echelon_core::policy::{Failback, PolicySettings, Probe};
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::route::{Entry, Route};
use echelon_core::router::Input;
use echelon_core::time::Monotonic;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What repeated failures lead to at most.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// For how long an overload counts at most: a minute, and half as long again for some hosts.
const LONGEST_OVERLOAD: Duration = Duration::from_secs(90);

/// After this time at most it is known whether one that was slow is live: the first probe of it has been made.
const SLOW_FOR: Duration = Duration::from_millis(1250);

/// Between two probes of what is in use, where that is asked for answers.
const INTERVAL: Duration = Duration::from_secs(5);

/// What rounding may come to: the clock counts whole microseconds.
const GRAIN: Duration = Duration::from_micros(10);

const MANAGERS: [&str; 3] = ["agent3", "agent1", "framework-manager"];

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    /// A caller connects along the route, and tells what came of each attempt.
    Call,
    Kill(usize),
    Revive(usize),
    Report(usize, u8),
    Silence(usize),
    Overtaken(usize),
    Overloaded(usize, u64),
    /// The network is gone, or there again.
    Cut(bool),
    Return,
    Withdraw(usize),
    Restore(usize),
    Complete,
    Session(bool),
    /// Connections are open from now on, or none is.
    Occupied(bool),
    /// An edit of `failback` and `failback_hold`, in seconds.
    Settings(Failback, u64),
    /// An edit of `probe`.
    Probed(bool),
    /// An edit by which the manager listens elsewhere.
    Move(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let i = 0..MANAGERS.len();
    let failback =
        prop::sample::select(vec![Failback::Auto, Failback::Auto, Failback::Dormant, Failback::Off]);
    let hold = prop::sample::select(vec![0_u64, 1, 30, 400]);
    prop_oneof![
        6 => (0..45_000_000_u64).prop_map(Event::Pass),
        2 => (0..2_000_000_u64).prop_map(Event::Pass),
        3 => Just(Event::Call),
        2 => i.clone().prop_map(Event::Kill),
        2 => i.clone().prop_map(Event::Revive),
        4 => (i.clone(), 0..4_u8).prop_map(|(i, h)| Event::Report(i, h)),
        1 => i.clone().prop_map(Event::Silence),
        1 => i.clone().prop_map(Event::Overtaken),
        1 => (i.clone(), 0..100_u64).prop_map(|(i, s)| Event::Overloaded(i, s)),
        2 => any::<bool>().prop_map(Event::Cut),
        1 => Just(Event::Return),
        1 => i.clone().prop_map(Event::Withdraw),
        1 => i.clone().prop_map(Event::Restore),
        1 => Just(Event::Complete),
        1 => any::<bool>().prop_map(Event::Session),
        1 => any::<bool>().prop_map(Event::Occupied),
        1 => (failback, hold).prop_map(|(failback, hold)| Event::Settings(failback, hold)),
        1 => any::<bool>().prop_map(Event::Probed),
        1 => i.prop_map(Event::Move),
    ]
}

fn health(n: u8) -> Health {
    match n {
        0 => Health::Unchecked,
        1 | 2 => Health::Passing,
        _ => Health::Failing { demands_answer: true, reason: Text::lossy("no answer") },
    }
}

fn happen(rig: &mut Rig, event: &Event) {
    match event {
        Event::Pass(micros) => rig.pass(Duration::from_micros(*micros)),
        Event::Call => {
            for target in rig.route().targets.clone() {
                let seen = rig.connect(target.host);
                let connected = seen == Seen::Connected;
                rig.input(seen_of(target.host, seen));
                if connected {
                    break;
                }
            }
        }
        Event::Kill(i) => {
            rig.dead.insert(rig.world.host_id(MANAGERS[*i]));
        }
        Event::Revive(i) => rig.revive(MANAGERS[*i]),
        Event::Report(i, h) => {
            rig.report(MANAGERS[*i], health(*h));
        }
        Event::Silence(i) => rig.silence(MANAGERS[*i], Health::Passing),
        Event::Overtaken(i) => {
            rig.saw(MANAGERS[*i], Seen::Overtaken);
        }
        Event::Overloaded(i, seconds) => {
            rig.saw(MANAGERS[*i], Seen::Overloaded(secs(*seconds)));
        }
        Event::Cut(cut) => rig.cut_off = *cut,
        Event::Return => {
            rig.input(Input::Return(ty(CC)));
        }
        Event::Withdraw(i) => rig.edit([withdraw(MANAGERS[*i], CC)]),
        Event::Restore(i) => rig.edit([restore(MANAGERS[*i], CC)]),
        Event::Complete => {
            rig.tell(true, vec![]);
        }
        Event::Session(up) => {
            rig.input(Input::Session(*up));
        }
        Event::Occupied(occupied) => {
            rig.input(Input::Occupied { ty: ty(CC), occupied: *occupied });
        }
        Event::Settings(failback, hold) => rig.edit([settings(*failback, *hold)]),
        Event::Probed(probed) => rig.edit([probe(*probed)]),
        Event::Move(i) => {
            let port = 7000 + rig.published.len() as u16 % 1000;
            let spec = PackageSpec { listens: Listens::Port(port.try_into().unwrap()), ..manager_spec() };
            rig.edit([Change::SetPackage { host: name(MANAGERS[*i]), ty: ty(CC), spec }]);
        }
    }
}

fn settings(failback: Failback, hold: u64) -> Change {
    let (failback, failback_hold) = (Some(failback), Some(secs(hold)));
    set_policy("/", CC, PolicySettings { failback, failback_hold, ..PolicySettings::default() })
}

fn probe(probed: bool) -> Change {
    let http = CheckKind::Http { path: parse("/"), status: None, host: None };
    let probe = if probed { Probe::By(Check::every(INTERVAL, http)) } else { Probe::Off };
    set_policy("/", CC, PolicySettings { probe: Some(probe), ..PolicySettings::default() })
}

fn usable(entry: &Entry) -> bool {
    matches!(entry.state, CandidateState::Live | CandidateState::Unknown)
}

fn allowed(entry: &Entry) -> bool {
    !matches!(entry.state, CandidateState::Withdrawn | CandidateState::Excluded)
}

fn host(entry: &Entry) -> HostId {
    entry.candidate.manager.host
}

/// What a candidate has to sit out.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    Jitter,
    /// So many holds: at least, and at most.
    Holds(f64, f64),
}

/// Follows the routes as they are published and knows what each candidate has to sit out.
#[derive(Default)]
struct Judge {
    chosen: Option<HostId>,
    wait: BTreeMap<HostId, Wait>,
    live_since: BTreeMap<HostId, Monotonic>,
    /// Those that have failed and were not live since.
    failed: BTreeSet<HostId>,
    /// How many holds each had to sit out for its last failure at most, and when it recovered from that.
    penalties: BTreeMap<HostId, (f64, Monotonic)>,
    /// Whether the host was ever isolated: then failures may count less.
    isolated: bool,
    occupied: bool,
    slow_since: BTreeMap<HostId, Monotonic>,
    /// When each said last that it is overloaded.
    overloaded: BTreeMap<HostId, Monotonic>,
}

impl Judge {
    /// Takes in what is about to happen.
    fn happens(&mut self, rig: &Rig, event: &Event) {
        match event {
            Event::Occupied(occupied) => self.occupied = *occupied,
            Event::Return => self.wait.retain(|host, _| !self.live_since.contains_key(host)),
            Event::Overloaded(i, _) => drop(self.overloaded.insert(rig.world.host_id(MANAGERS[*i]), rig.now)),
            _ => {}
        }
    }

    fn published(&mut self, now: Monotonic, route: &Route) -> Result<(), TestCaseError> {
        check_choice(route)?;
        self.isolated |= route.isolated;
        for entry in &route.entries {
            self.follow(now, entry, route.policy.failback_hold);
        }
        self.check_failback(now, route)?;
        self.chosen = route.chosen().map(host);
        if let Some(chosen) = route.chosen().filter(|e| usable(e)) {
            self.wait.remove(&host(chosen));
            self.failed.remove(&host(chosen));
        }
        Ok(())
    }

    fn follow(&mut self, now: Monotonic, entry: &Entry, hold: Duration) {
        let id = host(entry);
        match entry.state {
            CandidateState::Live if !self.live_since.contains_key(&id) => {
                self.live_since.insert(id, now);
                if self.failed.remove(&id) {
                    self.punish(now, id, hold);
                }
            }
            CandidateState::Live => {}
            _ => drop(self.live_since.remove(&id)),
        }
        match entry.state {
            CandidateState::Down => {
                self.wait.insert(id, Wait::Holds(1.0, 1.0));
                self.failed.insert(id);
            }
            CandidateState::Withdrawn => {
                self.wait.insert(id, Wait::Jitter);
                self.failed.remove(&id);
            }
            _ => {}
        }
        match entry.state == CandidateState::Suspect && entry.reason == "slow to connect" {
            true => drop(self.slow_since.entry(id).or_insert(now)),
            false => drop(self.slow_since.remove(&id)),
        }
    }

    /// Twice what is left of the last time, half of which is forgiven in five minutes.
    fn punish(&mut self, now: Monotonic, id: HostId, hold: Duration) {
        let left =
            |(times, at): &(f64, Monotonic)| times * 0.5_f64.powf(now.since(*at).as_secs_f64() / 300.0);
        let most = (LONGEST_HOLD.as_secs_f64() / hold.as_secs_f64().max(1e-9)).max(1.0);
        let most = if hold.is_zero() { 1.0 } else { most };
        let times = (2.0 * self.penalties.get(&id).map_or(0.0, left)).max(1.0).min(most);
        self.penalties.insert(id, (times, now));
        self.wait.insert(id, Wait::Holds(if self.isolated { 1.0 } else { times }, times));
    }

    /// How long a candidate has to be live before connections return to it: at least, and at most.
    fn bounds(&self, id: HostId, hold: Duration) -> (Duration, Duration) {
        let jitter = jitter("agent4");
        let holds = |times: f64| hold.mul_f64(times).min(LONGEST_HOLD.max(hold)) + jitter;
        match self.wait.get(&id) {
            None => (Duration::ZERO, Duration::ZERO),
            Some(Wait::Jitter) => (jitter, jitter),
            Some(Wait::Holds(least, most)) => (holds(*least), holds(*most)),
        }
    }

    /// Whether connections may return at all.
    fn is_open(&self, route: &Route) -> bool {
        match route.policy.failback {
            Failback::Auto => true,
            Failback::Dormant => !self.occupied,
            Failback::Off => false,
        }
    }

    /// If the one used before could still be used, only a better one that has sat out its time replaces it.
    fn check_failback(&self, now: Monotonic, route: &Route) -> Result<(), TestCaseError> {
        let at = |id: HostId| route.entries.iter().position(|e| host(e) == id);
        let before = self.chosen.and_then(at).filter(|&i| usable(&route.entries[i]));
        let (Some(before), Some(chosen)) = (before, route.chosen) else { return Ok(()) };
        if before == chosen {
            return Ok(());
        }
        prop_assert!(chosen < before, "from a usable candidate only to a better one");
        if route.moved.as_ref().is_some_and(|moved| moved.why == Move::Asked) {
            return Ok(());
        }
        prop_assert!(self.is_open(route), "{:?} holds connections where they are", route.policy.failback);
        let id = host(&route.entries[chosen]);
        prop_assert_eq!(route.entries[chosen].state, CandidateState::Live);
        let (least, live_for) =
            (self.bounds(id, route.policy.failback_hold).0, now.since(self.live_since[&id]));
        prop_assert!(live_for + GRAIN >= least, "too early: {:?} of {:?}", live_for, least);
        Ok(())
    }

    /// No better candidate has been live for longer than it has to sit out, penalties included; none is doubted for
    /// longer than it takes to find out.
    fn check_nobody_is_forgotten(&self, now: Monotonic, route: &Route) -> Result<(), TestCaseError> {
        let better = route.entries.iter().take(route.chosen.unwrap_or(0));
        for entry in better.filter(|_| self.is_open(route)) {
            let most = self.bounds(host(entry), route.policy.failback_hold).1;
            let over = self.live_since.get(&host(entry)).is_some_and(|since| now >= *since + most + GRAIN);
            prop_assert!(!over, "{} was not returned to", entry.candidate.manager.name);
        }
        for entry in &route.entries {
            let since = self.slow_since.get(&host(entry));
            prop_assert!(since.is_none_or(|since| now <= *since + SLOW_FOR), "{:?} slow for too long", entry);
            let said = self.overloaded.get(&host(entry)).filter(|_| entry.reason == "overloaded");
            prop_assert!(said.is_none_or(|said| now <= *said + LONGEST_OVERLOAD), "{:?} overloaded", entry);
        }
        Ok(())
    }
}

/// The choice and its outcome fit the states, and callers try what is usable first.
fn check_choice(route: &Route) -> Result<(), TestCaseError> {
    let any_usable = route.entries.iter().any(usable);
    let home = route.entries.iter().position(allowed);
    match route.chosen() {
        None => {
            prop_assert!(!route.entries.iter().any(allowed), "somebody could be tried");
            prop_assert_eq!(route.outcome, Outcome::Unserved);
        }
        Some(chosen) if any_usable => {
            prop_assert!(usable(chosen), "a usable one is left");
            let expected = if route.chosen == home { Outcome::Home } else { Outcome::Failover };
            prop_assert_eq!(route.outcome, expected);
        }
        Some(chosen) => {
            prop_assert_eq!(route.outcome, Outcome::LastResort);
            let suspect = |e: &&Entry| e.state == CandidateState::Suspect;
            let first =
                route.entries.iter().find(suspect).or_else(|| route.entries.iter().find(|e| allowed(e)));
            prop_assert_eq!(first.map(host), Some(host(chosen)));
        }
    }
    prop_assert_eq!(route.cause.as_str().is_empty(), route.outcome == Outcome::Home);
    let targets: Vec<_> = route.targets.iter().map(|t| t.host).collect();
    let mut expected: Vec<_> = route.entries.iter().enumerate().filter(|(_, e)| allowed(e)).collect();
    expected.sort_by_key(|(i, e)| {
        let worse = match e.state {
            _ if Some(*i) == route.chosen => 0,
            CandidateState::Suspect => 2,
            CandidateState::Down => 3,
            _ => 1,
        };
        (worse, *i)
    });
    prop_assert_eq!(targets, expected.into_iter().map(|(_, e)| host(e)).collect::<Vec<_>>());
    Ok(())
}

fn run(events: &[Event]) -> Result<Rig, TestCaseError> {
    let mut rig = Rig::new(reference_case(), "agent4");
    let (mut judge, mut judged) = (Judge::default(), 0);
    for event in events {
        judge.happens(&rig, event);
        happen(&mut rig, event);
        for (now, route) in &rig.published[judged..] {
            judge.published(*now, route)?;
        }
        judged = rig.published.len();
        judge.check_nobody_is_forgotten(rig.now, rig.route())?;
    }
    Ok(rig)
}

proptest! {
    #[test]
    fn choices_are_calm_right_and_never_forget_a_better_one(events in prop::collection::vec(event(), 1..60)) {
        run(&events)?;
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(events in prop::collection::vec(event(), 1..40)) {
        let (one, other) = (run(&events)?, run(&events)?);
        prop_assert_eq!(one.published, other.published);
        prop_assert_eq!(one.probes, other.probes);
        prop_assert_eq!(one.router.next_deadline(), other.router.next_deadline());
    }

    /// Once faults end, every host is at home in bounded time.
    #[test]
    fn after_the_last_fault_everything_comes_home(events in prop::collection::vec(event(), 1..40)) {
        let mut rig = run(&events)?;
        rig.input(Input::Session(true));
        rig.cut_off = false;
        rig.edit([settings(Failback::Auto, HOLD.as_secs()), probe(false)]);
        for manager in MANAGERS {
            rig.revive(manager);
            rig.edit([restore(manager, CC)]);
            rig.report(manager, Health::Passing);
        }
        // The longest wait for a probe, with its jitter, or the longest overload; then the longest hold and this host's
        // part of the jitter.
        rig.pass(LONGEST_OVERLOAD + LONGEST_HOLD + jitter("agent4"));
        prop_assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
        let (probes, published) = (rig.probes.len(), rig.published.len());
        rig.pass(secs(600));
        let own_failures = rig.route().entries.iter().filter(|e| e.state != CandidateState::Live).count();
        prop_assert!(own_failures == 0 && rig.published.len() == published && rig.probes.len() == probes);
    }
}
