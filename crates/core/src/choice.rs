//! Which candidate the next connection goes to, and why.

use crate::evidence::Verdict;
use crate::id::HostId;
use crate::name::HostName;
use crate::order::Order;
use crate::policy::Failback;
use crate::report::{CandidateState, Outcome};
use crate::time::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

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
}

/// What a host remembers between choices for one type.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    current: Option<HostId>,
    tracks: BTreeMap<HostId, Track>,
}

/// The way back of one candidate.
#[derive(Clone, Copy, Debug)]
struct Track {
    wait: Wait,
    live_since: Option<Monotonic>,
    /// Whether it came after the one in use, when last seen.
    behind: bool,
}

/// What a candidate must sit out, once live, before connections return to it; the longest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    /// Nothing: it was never away, or only slow or silent.
    Nothing,
    /// The host's part of the jitter: an edit brought it.
    Jitter,
    /// Hold and jitter: it failed.
    Hold,
}

/// The share of `failback_jitter` that this host sits out: fixed, from its name, evenly spread over
/// hosts, in `[0, 1)`.
pub fn jitter_share(host: &HostName) -> f64 {
    let hash = blake3::hash(host.as_str().as_bytes());
    let first: [u8; 4] = hash.as_bytes()[..4].try_into().expect("a BLAKE3 hash has 32 bytes");
    f64::from(u32::from_be_bytes(first)) / (f64::from(u32::MAX) + 1.0)
}

/// Chooses. `states` says what is known of each candidate now; `memory` is what earlier choices left,
/// and is brought up to date. With a fresh memory the choice is the *settled* one: holds count for
/// nothing.
pub fn choose(
    order: &Order,
    states: &States,
    memory: &mut Memory,
    host: &HostName,
    now: Monotonic,
) -> Choice {
    let current = memory.current.and_then(|id| order.candidates.iter().position(|c| c.manager.host == id));
    memory.keep_track(order, states, current, host, now);
    let (chosen, next_change) = match current.filter(|&i| usable(states[i].state)) {
        Some(i) => memory.better(order, states, i, host, now),
        None => (best(states), None),
    };
    memory.settle_on(order, states, chosen);
    let home = states.iter().position(|verdict| verdict.state.may_serve());
    let outcome = match chosen {
        None => Outcome::Unserved,
        Some(i) if !usable(states[i].state) => Outcome::LastResort,
        Some(_) if chosen == home => Outcome::Home,
        Some(_) => Outcome::Failover,
    };
    let cause = match outcome {
        Outcome::Home => String::new(),
        Outcome::Unserved => unserved(order),
        _ => home.map(|i| cause(order, states, i)).unwrap_or_default(),
    };
    Choice { chosen, outcome, cause, next_change }
}

/// The candidates in the order in which a connection tries them: the chosen one, the other usable ones,
/// the suspects, those that are down.
pub fn attempts(states: &States, chosen: Option<usize>) -> Vec<usize> {
    let rank = |i: usize| match states[i].state {
        _ if Some(i) == chosen => Some(0),
        CandidateState::Live | CandidateState::Unknown => Some(1),
        CandidateState::Suspect => Some(2),
        CandidateState::Down => Some(3),
        CandidateState::Withdrawn | CandidateState::Excluded => None,
    };
    let mut tried: Vec<_> = (0..states.len()).filter_map(|i| Some((rank(i)?, i))).collect();
    tried.sort_unstable();
    tried.into_iter().map(|(_, i)| i).collect()
}

fn usable(state: CandidateState) -> bool {
    matches!(state, CandidateState::Live | CandidateState::Unknown)
}

fn best(states: &States) -> Option<usize> {
    attempts(states, None).first().copied()
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
        self.current
    }

    /// Brings every candidate's track up to date. `current` is where the one in use stands now. A candidate
    /// that an edit has brought, or has put before the one in use, begins its wait only now, so that a
    /// thousand hosts do not follow one edit at once.
    fn keep_track(
        &mut self,
        order: &Order,
        states: &States,
        current: Option<usize>,
        host: &HostName,
        now: Monotonic,
    ) {
        let mut tracks = BTreeMap::new();
        for (i, (candidate, verdict)) in order.candidates.iter().zip(states).enumerate() {
            let id = candidate.manager.host;
            let track = match self.tracks.get(&id) {
                None if self.current.is_none() => Track::new(Wait::Nothing),
                None => Track::new(Wait::Jitter),
                Some(t) if t.behind && current.is_some_and(|c| i < c) => t.put_before(order, host, now),
                Some(t) => *t,
            };
            tracks.insert(id, track.after(verdict.state, now));
        }
        self.tracks = tracks;
    }

    /// Remembers what is in use from now on. It has nothing left to sit out.
    fn settle_on(&mut self, order: &Order, states: &States, chosen: Option<usize>) {
        self.current = chosen.map(|i| order.candidates[i].manager.host);
        for (i, candidate) in order.candidates.iter().enumerate() {
            if let Some(track) = self.tracks.get_mut(&candidate.manager.host) {
                track.behind = chosen.is_some_and(|c| i > c);
                if chosen == Some(i) && usable(states[i].state) {
                    track.wait = Wait::Nothing;
                }
            }
        }
    }

    /// The best candidate before `current` to which connections may return now, else `current`; and when
    /// the next one may be returned to.
    fn better(
        &self,
        order: &Order,
        states: &States,
        current: usize,
        host: &HostName,
        now: Monotonic,
    ) -> (Option<usize>, Option<Monotonic>) {
        let mut next_change: Option<Monotonic> = None;
        for i in (0..current).filter(|&i| states[i].state == CandidateState::Live) {
            let id = order.candidates[i].manager.host;
            match self.tracks.get(&id).and_then(|t| t.ready_at(order, host)) {
                Some(ready) if ready <= now => return (Some(i), next_change),
                Some(ready) => next_change = Some(next_change.map_or(ready, |n| n.min(ready))),
                None => {}
            }
        }
        (Some(current), next_change)
    }
}

impl Track {
    fn new(wait: Wait) -> Self {
        Self { wait, live_since: None, behind: false }
    }

    fn after(self, state: CandidateState, now: Monotonic) -> Self {
        match state {
            CandidateState::Live => Self { live_since: self.live_since.or(Some(now)), ..self },
            CandidateState::Unknown | CandidateState::Suspect => Self { live_since: None, ..self },
            CandidateState::Down => Self { wait: Wait::Hold, live_since: None, ..self },
            CandidateState::Withdrawn | CandidateState::Excluded => {
                Self { wait: Wait::Jitter, live_since: None, ..self }
            }
        }
    }

    /// An edit has put the candidate before the one in use: what it had to sit out before that it still has to,
    /// and the jitter at least, from now.
    fn put_before(self, order: &Order, host: &HostName, now: Monotonic) -> Self {
        match self.ready_at(order, host) {
            Some(ready) if ready <= now => Self::new(Wait::Jitter),
            _ => Self { wait: self.wait.max(Wait::Jitter), ..self },
        }
    }

    /// When connections may return; none while it is not live, or where they never return by themselves.
    fn ready_at(&self, order: &Order, host: &HostName) -> Option<Monotonic> {
        let policy = &order.policy;
        if policy.failback != Failback::Auto {
            return None;
        }
        let jitter = policy.failback_jitter.mul_f64(jitter_share(host));
        let wait = match self.wait {
            Wait::Nothing => Duration::ZERO,
            Wait::Jitter => jitter,
            Wait::Hold => policy.failback_hold + jitter,
        };
        Some(self.live_since? + wait)
    }
}
