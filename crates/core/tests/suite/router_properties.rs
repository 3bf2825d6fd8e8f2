//! What must hold of a router whatever happens, judged from the routes it publishes alone.

use crate::rig::*;
use crate::support::*;
use echelon_core::evidence::Seen;
use echelon_core::id::HostId;
use echelon_core::message::Health;
use echelon_core::moves::Move;
use echelon_core::name::Text;
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::route::{Entry, Route};
use echelon_core::router::Input;
use echelon_core::time::Monotonic;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// What repeated failures lead to at most.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

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
}

fn event() -> impl Strategy<Value = Event> {
    let i = 0..MANAGERS.len();
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
        1 => i.prop_map(Event::Restore),
        1 => Just(Event::Complete),
        1 => any::<bool>().prop_map(Event::Session),
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
                rig.input(Input::Saw { ty: ty(CC), host: target.host, seen, took: Duration::ZERO });
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
    }
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

/// Follows the routes as they are published and knows what each candidate has to sit out.
#[derive(Default)]
struct Judge {
    chosen: Option<HostId>,
    wait: BTreeMap<HostId, Duration>,
    live_since: BTreeMap<HostId, Monotonic>,
    /// When connections last came back to a candidate that had failed.
    returned: BTreeMap<HostId, Monotonic>,
}

impl Judge {
    fn published(&mut self, now: Monotonic, route: &Route) -> Result<(), TestCaseError> {
        check_choice(route)?;
        for entry in &route.entries {
            let id = host(entry);
            match entry.state {
                CandidateState::Live => {
                    self.live_since.entry(id).or_insert(now);
                }
                _ => {
                    self.live_since.remove(&id);
                }
            }
            match entry.state {
                CandidateState::Down => self.wait.insert(id, HOLD + jitter("agent4")),
                CandidateState::Withdrawn => self.wait.insert(id, jitter("agent4")),
                _ => None,
            };
        }
        self.check_failback(now, route)?;
        self.chosen = route.chosen().map(host);
        if let Some(chosen) = route.chosen().filter(|e| usable(e)) {
            self.wait.remove(&host(chosen));
        }
        Ok(())
    }

    /// If the one used before could still be used, only a better one that has sat out its time replaces it.
    fn check_failback(&mut self, now: Monotonic, route: &Route) -> Result<(), TestCaseError> {
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
        let id = host(&route.entries[chosen]);
        prop_assert_eq!(route.entries[chosen].state, CandidateState::Live);
        let wait = self.wait.get(&id).copied().unwrap_or_default();
        prop_assert!(
            now >= self.live_since[&id] + wait,
            "too early: {:?} of {:?}",
            now.since(self.live_since[&id]),
            wait
        );
        if wait >= HOLD {
            let last = self.returned.insert(id, now);
            prop_assert!(last.is_none_or(|last| now.since(last) >= HOLD), "oscillation");
        }
        Ok(())
    }

    /// No better candidate has been live for longer than it has to sit out, penalties included.
    fn check_nobody_is_forgotten(&self, now: Monotonic, route: &Route) -> Result<(), TestCaseError> {
        for entry in route.entries.iter().take(route.chosen.unwrap_or(0)) {
            let wait = self.wait.get(&host(entry)).copied().unwrap_or_default();
            let wait = if wait < HOLD { wait } else { LONGEST_HOLD + jitter("agent4") };
            let over = self.live_since.get(&host(entry)).is_some_and(|since| now >= *since + wait);
            prop_assert!(!over, "{} was not returned to", entry.candidate.manager.name);
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
        for manager in MANAGERS {
            rig.revive(manager);
            rig.edit([restore(manager, CC)]);
            rig.report(manager, Health::Passing);
        }
        // The longest wait for a probe, with its jitter, or the longest overload; then the longest hold and this host's
        // part of the jitter.
        rig.pass(secs(60) + LONGEST_HOLD + jitter("agent4"));
        prop_assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
        let (probes, published) = (rig.probes.len(), rig.published.len());
        rig.pass(secs(600));
        let own_failures = rig.route().entries.iter().filter(|e| e.state != CandidateState::Live).count();
        prop_assert!(own_failures == 0 && rig.published.len() == published && rig.probes.len() == probes);
    }
}
