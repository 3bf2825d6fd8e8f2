//! Which candidate the next connection goes to, and why.

use crate::evidence::Verdict;
use crate::id::HostId;
use crate::moves::{Moved, Step};
use crate::name::HostName;
use crate::order::{Candidate, Order};
use crate::report::{CandidateState, Outcome};
use crate::time::Monotonic;
pub use crate::track::jitter_share;
use crate::track::{Failbacks, Former, Track, Wait};

/// What is known of each candidate, in the order of [`Order::candidates`], which has as many.
pub type States = [Verdict];

/// A choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Which of [`Order::candidates`]; none where there is nothing to try.
    pub chosen: Option<usize>,
    /// The kind of choice.
    pub outcome: Outcome,
    /// Why it is not home; empty where it is.
    pub cause: String,
    /// When this choice may change though nothing more is heard: a hold ends.
    pub next_change: Option<Monotonic>,
    /// Why it is another one than before; none where it is the same.
    pub moved: Option<Moved>,
}

/// What a host remembers between choices for one type.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    current: Option<(HostId, HostName)>,
    /// Whether that one was usable, when last seen; none before the first choice.
    served: Option<bool>,
    /// Whether an operator wants connections to return.
    asked: bool,
    /// In the order of the candidates at the last choice.
    tracks: Vec<(HostId, Track)>,
}

/// Who chooses, when, and under which circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The host that chooses.
    pub host: &'a HostName,
    /// The time.
    pub now: Monotonic,
    /// Whether connections to managers of the type are open.
    pub occupied: bool,
    /// Whether the host is cut off from everything: then failures are its own, and no penalty follows.
    pub isolated: bool,
}

impl<'a> Situation<'a> {
    /// That of a preview: nothing is open, and time plays no part.
    pub fn settled(host: &'a HostName) -> Self {
        Self { host, now: Monotonic::default(), occupied: false, isolated: false }
    }
}

/// Chooses. `states` says what is known of each candidate now; `memory` is what earlier choices left,
/// and is brought up to date. With a fresh memory the choice is the *settled* one: holds count for
/// nothing.
pub fn choose(order: &Order, states: &States, memory: &mut Memory, situation: &Situation<'_>) -> Choice {
    let current = memory.current().and_then(|id| order.candidates.iter().position(|c| c.manager.host == id));
    let asked = std::mem::take(&mut memory.asked);
    let failbacks = Failbacks::of(&order.policy, situation, asked);
    memory.keep_track(order, states, current, &failbacks);
    if asked {
        memory.tracks.iter_mut().for_each(|(_, track)| track.excuse());
    }
    let (chosen, next_change) = match current.filter(|&i| states[i].state.is_usable()) {
        Some(i) => memory.better(states, i, &failbacks),
        None => (best(states), None),
    };
    let moved = memory.moved(order, states, current, chosen, asked, situation.now);
    memory.settle_on(order, states, chosen);
    let home = home(states);
    let outcome = match chosen {
        None => Outcome::Unserved,
        Some(i) if !states[i].state.is_usable() => Outcome::LastResort,
        Some(_) if chosen == home => Outcome::Home,
        Some(_) => Outcome::Failover,
    };
    let cause = match outcome {
        Outcome::Home => String::new(),
        Outcome::Unserved => unserved(order),
        _ => home.map(|i| cause(order, states, i)).unwrap_or_default(),
    };
    Choice { chosen, outcome, cause, next_change, moved }
}

/// The candidates in the order in which a connection tries them: the chosen one, the other usable ones,
/// the suspects, those that are down; at most so many.
pub fn attempts(states: &States, chosen: Option<usize>, most: usize) -> Vec<usize> {
    let of_kind = |kind: fn(CandidateState) -> bool| {
        (0..states.len()).filter(move |&i| kind(states[i].state) && Some(i) != chosen)
    };
    chosen.into_iter().chain(KINDS.into_iter().flat_map(of_kind)).take(most).collect()
}

/// The kinds of candidates that are tried at all, in the order in which they are.
const KINDS: [fn(CandidateState) -> bool; 3] = [
    CandidateState::is_usable,
    |state| state == CandidateState::Suspect,
    |state| state == CandidateState::Down,
];

fn best(states: &States) -> Option<usize> {
    KINDS.iter().find_map(|kind| states.iter().position(|verdict| kind(verdict.state)))
}

fn home(states: &States) -> Option<usize> {
    states.iter().position(|verdict| verdict.state.may_serve())
}

fn cause(order: &Order, states: &States, i: usize) -> String {
    let (name, verdict) = (&order.candidates[i].manager.name, &states[i]);
    match verdict.state {
        CandidateState::Live => format!("{name}: live again, held back"),
        _ => format!("{name}: {}", verdict.reason),
    }
}

fn unserved(order: &Order) -> String {
    match order.candidates.as_slice() {
        [] => "there is no manager of this type".into(),
        [one] => format!("{} is the only manager of this type, and may not be used", one.manager.name),
        all => format!("all {} managers of this type are withdrawn or excluded", all.len()),
    }
}

impl Memory {
    /// Who is in use.
    pub fn current(&self) -> Option<HostId> {
        self.current.as_ref().map(|(id, _)| *id)
    }

    /// An operator wants connections to return to the best candidate that is live: the next choice sees to that,
    /// whatever hold, jitter and failback mode say.
    pub fn ask_return(&mut self) {
        self.asked = true;
    }

    /// Brings every candidate's track up to date. `current` is where the one in use stands now. A candidate
    /// that an edit has brought, or has put before the one in use, begins its wait only now, so that a
    /// thousand hosts do not follow one edit at once.
    fn keep_track(&mut self, order: &Order, states: &States, current: Option<usize>, failbacks: &Failbacks) {
        let mut former = Former::new(std::mem::take(&mut self.tracks));
        let track = |(i, (candidate, verdict)): (usize, (&Candidate, &Verdict))| {
            let id = candidate.manager.host;
            let track = match former.take(id) {
                None if self.current.is_none() => Track::new(Wait::Nothing),
                None => Track::new(Wait::Jitter),
                Some(t) if t.behind && current.is_some_and(|c| i < c) => t.put_before(failbacks),
                Some(t) => t,
            };
            (id, track.after(verdict.state, failbacks))
        };
        self.tracks = order.candidates.iter().zip(states).enumerate().map(track).collect();
    }

    /// Remembers what is in use from now on. It has nothing left to sit out.
    fn settle_on(&mut self, order: &Order, states: &States, chosen: Option<usize>) {
        if self.current() != chosen.map(|i| order.candidates[i].manager.host) {
            self.current = chosen.map(|i| &order.candidates[i].manager).map(|m| (m.host, m.name.clone()));
        }
        for (i, (_, track)) in self.tracks.iter_mut().enumerate() {
            track.behind = chosen.is_some_and(|c| i > c);
            if chosen == Some(i) && states[i].state.is_usable() {
                track.settle();
            }
        }
        self.served = Some(chosen.is_some_and(|c| states[c].state.is_usable()));
    }

    /// The best candidate before `current` to which connections may return now, else `current`; and when
    /// the next one may be returned to.
    fn better(
        &self,
        states: &States,
        current: usize,
        failbacks: &Failbacks,
    ) -> (Option<usize>, Option<Monotonic>) {
        let mut next_change: Option<Monotonic> = None;
        let live = |i: &usize| failbacks.open && states[*i].state == CandidateState::Live;
        for i in (0..current).filter(live) {
            match self.tracks.get(i).and_then(|(_, track)| track.ready_at(failbacks)) {
                Some(ready) if ready <= failbacks.now => return (Some(i), next_change),
                Some(ready) => next_change = Some(next_change.map_or(ready, |n| n.min(ready))),
                None => {}
            }
        }
        (Some(current), next_change)
    }

    /// Why the chosen one is another one than before; none where it is the same, or there was no choice before.
    /// `left` is where the one in use stands now.
    fn moved(
        &self,
        order: &Order,
        states: &States,
        left: Option<usize>,
        chosen: Option<usize>,
        asked: bool,
        now: Monotonic,
    ) -> Option<Moved> {
        let was_usable = self.served?;
        let manager = |i: usize| &order.candidates[i].manager;
        if self.current() == chosen.map(|i| manager(i).host) {
            return None;
        }
        let to = chosen.zip(chosen.and_then(|i| self.tracks.get(i)));
        let step = Step {
            from: self.current.as_ref().map(|(_, name)| name),
            was_usable,
            left: left.map(|i| &states[i]),
            to: to.map(|(i, (_, track))| (&manager(i).name, track.live_for(now))),
            is_usable: chosen.is_some_and(|i| states[i].state.is_usable()),
            is_home: chosen == home(states),
            asked,
        };
        Some(step.moved())
    }
}
