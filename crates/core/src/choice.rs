//! Which candidate the next connection goes to, and why.

use crate::evidence::Verdict;
use crate::id::HostId;
use crate::name::HostName;
use crate::order::{Candidate, Order};
use crate::policy::Failback;
use crate::report::{CandidateState, Outcome};
use crate::time::Monotonic;
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
    /// In the order of the candidates at the last choice.
    tracks: Vec<(HostId, Track)>,
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

/// Who chooses, when, and under which circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The host that chooses.
    pub host: &'a HostName,
    /// The time.
    pub now: Monotonic,
    /// Whether connections to managers of the type are open.
    pub occupied: bool,
}

impl<'a> Situation<'a> {
    /// That of a preview: nothing is open, and time plays no part.
    pub fn settled(host: &'a HostName) -> Self {
        Self { host, now: Monotonic::default(), occupied: false }
    }
}

/// Chooses. `states` says what is known of each candidate now; `memory` is what earlier choices left,
/// and is brought up to date. With a fresh memory the choice is the *settled* one: holds count for
/// nothing.
pub fn choose(order: &Order, states: &States, memory: &mut Memory, situation: &Situation<'_>) -> Choice {
    let now = situation.now;
    let current = memory.current.and_then(|id| order.candidates.iter().position(|c| c.manager.host == id));
    let failback = Failbacks::of(order, situation);
    memory.keep_track(order, states, current, failback, now);
    let (chosen, next_change) = match current.filter(|&i| usable(states[i].state)) {
        Some(i) => memory.better(states, i, failback, now),
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
    let mut tried: Vec<_> = chosen.into_iter().collect();
    tried.reserve(states.len());
    for kind in KINDS {
        let of_kind = (0..states.len()).filter(|&i| kind(states[i].state) && Some(i) != chosen);
        tried.extend(of_kind);
    }
    tried
}

/// The kinds of candidates that are tried at all, in the order in which they are.
const KINDS: [fn(CandidateState) -> bool; 3] =
    [usable, |state| state == CandidateState::Suspect, |state| state == CandidateState::Down];

fn usable(state: CandidateState) -> bool {
    matches!(state, CandidateState::Live | CandidateState::Unknown)
}

fn best(states: &States) -> Option<usize> {
    KINDS.iter().find_map(|kind| states.iter().position(|verdict| kind(verdict.state)))
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
        failback: Failbacks,
        now: Monotonic,
    ) {
        let mut former = Former::new(std::mem::take(&mut self.tracks));
        let track = |(i, (candidate, verdict)): (usize, (&Candidate, &Verdict))| {
            let id = candidate.manager.host;
            let track = match former.take(id) {
                None if self.current.is_none() => Track::new(Wait::Nothing),
                None => Track::new(Wait::Jitter),
                Some(t) if t.behind && current.is_some_and(|c| i < c) => t.put_before(failback, now),
                Some(t) => t,
            };
            (id, track.after(verdict.state, now))
        };
        self.tracks = order.candidates.iter().zip(states).enumerate().map(track).collect();
    }

    /// Remembers what is in use from now on. It has nothing left to sit out.
    fn settle_on(&mut self, order: &Order, states: &States, chosen: Option<usize>) {
        self.current = chosen.map(|i| order.candidates[i].manager.host);
        for (i, (_, track)) in self.tracks.iter_mut().enumerate() {
            track.behind = chosen.is_some_and(|c| i > c);
            if chosen == Some(i) && usable(states[i].state) {
                track.wait = Wait::Nothing;
            }
        }
    }

    /// The best candidate before `current` to which connections may return now, else `current`; and when
    /// the next one may be returned to.
    fn better(
        &self,
        states: &States,
        current: usize,
        failback: Failbacks,
        now: Monotonic,
    ) -> (Option<usize>, Option<Monotonic>) {
        let mut next_change: Option<Monotonic> = None;
        let live = |i: &usize| failback.open && states[*i].state == CandidateState::Live;
        for i in (0..current).filter(live) {
            match self.tracks.get(i).and_then(|(_, track)| track.ready_at(failback)) {
                Some(ready) if ready <= now => return (Some(i), next_change),
                Some(ready) => next_change = Some(next_change.map_or(ready, |n| n.min(ready))),
                None => {}
            }
        }
        (Some(current), next_change)
    }
}

/// The tracks of the last choice, from which those of the next are made.
struct Former {
    tracks: Vec<(HostId, Track)>,
    /// Where the next one is, as long as the order stays as it was.
    next: usize,
    /// Where each is, by host; made when the order turns out to be another one.
    by_host: Vec<(HostId, usize)>,
}

impl Former {
    fn new(tracks: Vec<(HostId, Track)>) -> Self {
        Self { tracks, next: 0, by_host: Vec::new() }
    }

    fn take(&mut self, host: HostId) -> Option<Track> {
        let at = match self.tracks.get(self.next) {
            Some((next, _)) if *next == host => self.next,
            _ => self.find(host)?,
        };
        self.next = at + 1;
        self.tracks.get(at).map(|(_, track)| *track)
    }

    fn find(&mut self, host: HostId) -> Option<usize> {
        if self.by_host.is_empty() {
            self.by_host = self.tracks.iter().enumerate().map(|(at, (host, _))| (*host, at)).collect();
            self.by_host.sort_unstable();
        }
        let found = self.by_host.binary_search_by_key(&host, |(host, _)| *host).ok()?;
        self.by_host.get(found).map(|(_, at)| *at)
    }
}

/// How long a host's candidates sit out what they have to.
#[derive(Clone, Copy)]
struct Failbacks {
    jitter: Duration,
    /// With the jitter.
    hold: Duration,
    /// Whether connections may return at all now.
    open: bool,
}

impl Failbacks {
    /// Jitter, and hold with jitter, as the policy and the host's name have it.
    fn of(order: &Order, situation: &Situation<'_>) -> Self {
        let policy = &order.policy;
        let jitter = policy.failback_jitter.mul_f64(jitter_share(situation.host));
        let open = match policy.failback {
            Failback::Auto => true,
            Failback::Dormant => !situation.occupied,
            Failback::Off => false,
        };
        Self { jitter, hold: policy.failback_hold + jitter, open }
    }

    fn wait(self, wait: Wait) -> Duration {
        match wait {
            Wait::Nothing => Duration::ZERO,
            Wait::Jitter => self.jitter,
            Wait::Hold => self.hold,
        }
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
    fn put_before(self, failback: Failbacks, now: Monotonic) -> Self {
        match self.ready_at(failback) {
            Some(ready) if ready <= now => Self::new(Wait::Jitter),
            _ => Self { wait: self.wait.max(Wait::Jitter), ..self },
        }
    }

    /// When it has sat out what it has to; none while it is not live.
    fn ready_at(&self, failback: Failbacks) -> Option<Monotonic> {
        Some(self.live_since? + failback.wait(self.wait))
    }
}
