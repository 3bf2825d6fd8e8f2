//! `choose` against a reading of routing.md that shares nothing with it: a list of all that happened, gone through
//! anew at every step.

use crate::support::*;
use echelon_core::choice::{Memory, Situation, attempts, choose, jitter_share};
use echelon_core::evidence::Verdict;
use echelon_core::order::{Order, order};
use echelon_core::policy::{Effective, Failback};
use echelon_core::report::CandidateState::{self, *};
use echelon_core::time::Monotonic;
use proptest::prelude::*;
use std::time::Duration;

const N: usize = 4;

/// The clock's grain.
const GRAIN: u64 = 1_000_000;

/// The state of the world over some time.
#[derive(Clone, Debug)]
struct Step {
    seconds: u64,
    states: [CandidateState; N],
    occupied: bool,
    isolated: bool,
    asked: bool,
    /// The settings in force, of which an edit may change each.
    failback: Failback,
    hold: u64,
}

fn state() -> impl Strategy<Value = CandidateState> {
    prop_oneof![8 => Just(Live), 1 => Just(Unknown), 2 => Just(Suspect), 4 => Just(Down), 1 => Just(Withdrawn)]
}

fn step() -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![4 => 0..20_u64, 2 => 0..200_u64, 1 => 0..2000_u64];
    let rare = || prop::bool::weighted(0.1);
    let hold = prop::sample::select(vec![1_u64, 30, 400, 900]);
    let states = [state(), state(), state(), state()];
    (seconds, states, any::<bool>(), rare(), rare(), failback(), hold).prop_map(
        |(seconds, states, occupied, isolated, asked, failback, hold)| Step {
            seconds,
            states,
            occupied,
            isolated,
            asked,
            failback,
            hold,
        },
    )
}

/// Settings stay as they are for a while.
fn settle(steps: &mut [Step]) {
    for at in 1..steps.len() {
        if at % 5 != 0 {
            (steps[at].failback, steps[at].hold) = (steps[at - 1].failback, steps[at - 1].hold);
        }
    }
}

fn usable(state: CandidateState) -> bool {
    matches!(state, Live | Unknown)
}

/// What the steps up to now come to.
struct Reading {
    jitter: f64,
    /// The steps, each with the time at which it began.
    steps: Vec<(f64, Step)>,
    /// Who was chosen at each.
    chosen: Vec<Option<usize>>,
}

impl Reading {
    fn state(&self, at: usize, i: usize) -> CandidateState {
        self.steps[at].1.states[i]
    }

    /// The step since which `i` is live without a break, as of step `at`.
    fn live_since(&self, at: usize, i: usize) -> Option<usize> {
        let broken = (0..=at).rev().find(|&s| self.state(s, i) != Live);
        let since = broken.map_or(0, |s| s + 1);
        (since <= at).then_some(since)
    }

    /// How many times the hold is served from step `since`, as of the last recovery from a failure: twice what is left
    /// of the time before, and once at least. None where there was no failure.
    fn holds(&self, since: usize, i: usize) -> Option<f64> {
        // When it recovered last from a failure of its own, and how many holds that took.
        let mut last = None;
        // It has failed and was not live since: whether the fault was its own.
        let mut failed: Option<bool> = None;
        let mut holds = None;
        for s in 0..=since {
            match self.state(s, i) {
                Down => failed = failed.or(Some(true)),
                Withdrawn | Excluded => failed = None,
                Live | Unknown | Suspect => {}
            }
            if self.steps[s].1.isolated && failed.is_some() && self.state(s, i) != Live {
                failed = Some(false);
            }
            let recovers = self.state(s, i) == Live && (s == 0 || self.state(s - 1, i) != Live);
            if let Some(its) = failed.filter(|_| recovers) {
                failed = None;
                let now = self.steps[s].0;
                let left =
                    last.map_or(0.0, |(times, at): (f64, f64)| times * 0.5_f64.powf((now - at) / 300.0));
                let most = (600.0 / self.steps[s].1.hold as f64).max(1.0);
                let times = (2.0 * left).max(1.0).min(most);
                holds = Some(if its { times } else { 1.0 });
                if its {
                    last = Some((times, now));
                }
            }
            if self.served(s, i) {
                failed = None;
            }
        }
        holds
    }

    fn served(&self, at: usize, i: usize) -> bool {
        self.chosen.get(at) == Some(&Some(i)) && usable(self.state(at, i))
    }

    /// What `i`, live since step `since`, has to sit out, in seconds: for the last thing that kept it from being used,
    /// unless it was in use, or asked for, since.
    fn wait(&self, at: usize, since: usize, i: usize) -> f64 {
        for s in (0..at).rev() {
            match self.state(s, i) {
                _ if self.served(s, i) => return 0.0,
                Live if self.steps[s].1.asked => return 0.0,
                Down => break,
                Withdrawn | Excluded => return self.jitter,
                Live | Unknown | Suspect => {}
            }
        }
        // No hold is longer than ten minutes because of repeated failures, whatever was asked for when.
        let hold = self.steps[at].1.hold as f64;
        self.holds(since, i).map_or(0.0, |n| (hold * n).min(hold.max(600.0)) + self.jitter)
    }

    fn choose(&self) -> Option<usize> {
        let at = self.steps.len() - 1;
        let (now, step) = &self.steps[at];
        let usable_at = |i: &usize| usable(step.states[*i]);
        let current = at.checked_sub(1).and_then(|s| self.chosen[s]).filter(usable_at);
        let Some(current) = current else {
            let first = |wanted: &dyn Fn(CandidateState) -> bool| (0..N).find(|&i| wanted(step.states[i]));
            return first(&usable).or(first(&|s| s == Suspect)).or(first(&|s| s == Down));
        };
        let open = match step.failback {
            Failback::Auto => true,
            Failback::Dormant => !step.occupied,
            Failback::Off => false,
        };
        let ready = |i: &usize| {
            let Some(since) = self.live_since(at, *i) else { return false };
            // Whole microseconds, as the clock counts.
            let wait = (self.wait(at, since, *i) * 1e6).floor() / 1e6;
            step.asked || (open && *now + 1e-9 >= self.steps[since].0 + wait)
        };
        (0..current).find(ready).or(Some(current))
    }
}

fn order_of_four() -> Order {
    let mut world = reference_case();
    world.edit([add_manager("agent2", CC)]);
    let found = order(&world.view(), (&world.place("agent4")).into(), &ty(CC));
    assert_eq!(found.candidates.len(), N);
    found
}

fn failback() -> impl Strategy<Value = Failback> {
    prop::sample::select(Failback::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn choices_are_those_of_the_rules(
        mut steps in prop::collection::vec(step(), 1..40),
    ) {
        settle(&mut steps);
        let mut order = order_of_four();
        let host = name("agent4");
        let jitter = 30.0 * jitter_share(&host);
        let mut reading = Reading { jitter, steps: Vec::new(), chosen: Vec::new() };
        let (mut memory, mut now) = (Memory::default(), 0);
        for step in steps {
            now += step.seconds;
            order.policy = Effective {
                failback: step.failback,
                failback_hold: Duration::from_secs(step.hold),
                failback_jitter: Duration::from_secs(30),
                ..order.policy
            };
            let states: Vec<_> = step.states.map(|state| Verdict::new(state, "so it is")).to_vec();
            let Step { occupied, isolated, .. } = step;
            let situation = Situation { host: &host, now: Monotonic(now * GRAIN), occupied, isolated };
            if step.asked {
                memory.ask_return();
            }
            let choice = choose(&order, &states, &mut memory, &situation);
            reading.steps.push((now as f64, step));
            let expected = reading.choose();
            prop_assert_eq!(choice.chosen, expected, "at {} of {:#?}", now, reading.steps);
            let moved = reading.chosen.last().is_some_and(|before| *before != expected);
            prop_assert_eq!(choice.moved.is_some(), moved);
            reading.chosen.push(expected);
            // Whoever can be used is tried before suspects, and these before those that are down.
            let tried = attempts(&states, choice.chosen, usize::MAX);
            let kinds: Vec<_> = tried.iter().map(|&i| states[i].state).collect();
            let worse = |s: &CandidateState| match s { Suspect => 1, Down => 2, _ => 0 };
            prop_assert!(kinds.iter().map(worse).is_sorted(), "{:?}", kinds);
            prop_assert_eq!(kinds.len(), states.iter().filter(|v| v.state.may_serve()).count());
            prop_assert_eq!(attempts(&states, choice.chosen, 2), &tried[..tried.len().min(2)]);
        }
    }
}
