//! Which candidate the next connection goes to, and why.

use crate::id::HostId;
use crate::name::HostName;
use crate::order::Order;
use crate::policy::Failback;
use crate::report::{CandidateState, Outcome};
use crate::time::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

/// The state of each candidate and the reason for it, in the order of [`Order::candidates`].
pub type States = [(CandidateState, String)];

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
}

/// What a candidate must sit out, once live, before connections return to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    memory.keep_track(order, states, now);
    let current = memory.current.and_then(|id| order.candidates.iter().position(|c| c.manager.host == id));
    let (chosen, next_change) = match current.filter(|&i| usable(states[i].0)) {
        Some(i) => memory.better(order, states, i, host, now),
        None => (best(states), None),
    };
    memory.current = chosen.map(|i| order.candidates[i].manager.host);
    let home = order.candidates.iter().position(|c| c.excluded.is_none() && !c.manager.withdrawn);
    let outcome = match chosen {
        None => Outcome::Unserved,
        Some(_) if chosen == home => Outcome::Home,
        Some(i) if usable(states[i].0) => Outcome::Failover,
        Some(_) => Outcome::LastResort,
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
    let rank = |i: usize| match states[i].0 {
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
    let (name, (state, reason)) = (&order.candidates[i].manager.name, &states[i]);
    match state {
        CandidateState::Live => format!("{name}: live again, held back"),
        _ => format!("{name}: {reason}"),
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

    fn keep_track(&mut self, order: &Order, states: &States, now: Monotonic) {
        let first = self.current.is_none();
        let mut tracks = BTreeMap::new();
        for (candidate, (state, _)) in order.candidates.iter().zip(states) {
            let id = candidate.manager.host;
            let new = Track { wait: if first { Wait::Nothing } else { Wait::Jitter }, live_since: None };
            let track = self.tracks.get(&id).copied().unwrap_or(new);
            tracks.insert(id, track.after(*state, now));
        }
        self.tracks = tracks;
    }

    /// The best candidate before `current` to which connections may return now, else `current`; and when
    /// the next one may be returned to.
    fn better(
        &mut self,
        order: &Order,
        states: &States,
        current: usize,
        host: &HostName,
        now: Monotonic,
    ) -> (Option<usize>, Option<Monotonic>) {
        let mut next_change: Option<Monotonic> = None;
        for i in (0..current).filter(|&i| states[i].0 == CandidateState::Live) {
            let id = order.candidates[i].manager.host;
            match self.tracks.get(&id).and_then(|t| t.ready_at(order, host)) {
                Some(ready) if ready <= now => {
                    self.tracks.insert(id, Track { wait: Wait::Nothing, live_since: Some(now) });
                    return (Some(i), None);
                }
                Some(ready) => next_change = Some(next_change.map_or(ready, |n| n.min(ready))),
                None => {}
            }
        }
        (Some(current), next_change)
    }
}

impl Track {
    fn after(self, state: CandidateState, now: Monotonic) -> Self {
        match state {
            CandidateState::Live => Self { live_since: self.live_since.or(Some(now)), ..self },
            CandidateState::Unknown | CandidateState::Suspect => Self { live_since: None, ..self },
            CandidateState::Down => Self { wait: Wait::Hold, live_since: None },
            CandidateState::Withdrawn | CandidateState::Excluded => {
                Self { wait: Wait::Jitter, live_since: None }
            }
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
