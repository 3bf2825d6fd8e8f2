//! What each candidate has to sit out before connections return to it.

use crate::choice::Situation;
use crate::id::HostId;
use crate::name::HostName;
use crate::penalty::{LONGEST_HOLD, Penalty};
use crate::policy::{Effective, Failback};
use crate::report::CandidateState;
use crate::time::Monotonic;
use std::time::Duration;

/// The way back of one candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Track {
    wait: Wait,
    live_since: Option<Monotonic>,
    /// It has failed and was not live since: whose fault that may be.
    failed: Option<Fault>,
    penalty: Penalty,
    /// Whether it came after the one in use, when last seen.
    pub(crate) behind: bool,
}

/// What a candidate must sit out, once live, before connections return to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wait {
    /// Nothing: it was never away, or only slow, silent or overloaded.
    Nothing,
    /// The host's part of the jitter: an edit brought it.
    Jitter,
    /// So many holds, and the jitter: it failed.
    Holds(f64),
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The candidate's.
    Its,
    /// This host's own, which is isolated: no penalty follows.
    Ours,
}

/// The share of `failback_jitter` that this host sits out: fixed, from its name, evenly spread over
/// hosts, in `[0, 1)`.
pub fn jitter_share(host: &HostName) -> f64 {
    let hash = blake3::hash(host.as_str().as_bytes());
    let first: [u8; 4] = hash.as_bytes()[..4].try_into().expect("a BLAKE3 hash has 32 bytes");
    f64::from(u32::from_be_bytes(first)) / (f64::from(u32::MAX) + 1.0)
}

impl Track {
    /// One of which nothing is known yet.
    pub(crate) fn new(wait: Wait) -> Self {
        Self { wait, live_since: None, failed: None, penalty: Penalty::default(), behind: false }
    }

    /// Takes in what is known of the candidate now.
    pub(crate) fn after(mut self, state: CandidateState, failbacks: &Failbacks) -> Self {
        match state {
            CandidateState::Live if self.live_since.is_none() => self.recover(failbacks),
            CandidateState::Live => {}
            CandidateState::Unknown | CandidateState::Suspect => self.live_since = None,
            CandidateState::Down => {
                (self.wait, self.live_since) = (Wait::Holds(1.0), None);
                self.failed = self.failed.or(Some(Fault::Its));
            }
            CandidateState::Withdrawn | CandidateState::Excluded => {
                (self.wait, self.live_since, self.failed) = (Wait::Jitter, None, None);
            }
        }
        if failbacks.isolated {
            self.failed = self.failed.and(Some(Fault::Ours));
        }
        self
    }

    fn recover(&mut self, failbacks: &Failbacks) {
        self.live_since = Some(failbacks.now);
        if self.failed.take() == Some(Fault::Its) {
            self.wait = Wait::Holds(self.penalty.recovered(failbacks.now, failbacks.hold));
        }
    }

    /// An edit has put the candidate before the one in use: what it had to sit out before that it still has to,
    /// and the jitter at least, from now.
    pub(crate) fn put_before(mut self, failbacks: &Failbacks) -> Self {
        let ready = self.ready_at(failbacks).is_some_and(|ready| ready <= failbacks.now);
        if ready {
            self.live_since = None;
        }
        if ready || self.wait == Wait::Nothing {
            self.wait = Wait::Jitter;
        }
        self
    }

    /// It has nothing left to sit out, being in use.
    pub(crate) fn settle(&mut self) {
        (self.wait, self.failed) = (Wait::Nothing, None);
    }

    /// An operator wants it to be used, if it is live.
    pub(crate) fn excuse(&mut self) {
        if self.live_since.is_some() {
            self.wait = Wait::Nothing;
        }
    }

    /// When it has sat out what it has to; none while it is not live.
    pub(crate) fn ready_at(&self, failbacks: &Failbacks) -> Option<Monotonic> {
        Some(self.live_since? + failbacks.wait(self.wait))
    }

    /// How long it has been live.
    pub(crate) fn live_for(&self, now: Monotonic) -> Duration {
        self.live_since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// Candidates that are looked for one after the other before it pays to sort all of them: an edit moves a few.
const MOST_SOUGHT: usize = 8;

/// The tracks of the last choice, from which those of the next are made.
pub(crate) struct Former {
    tracks: Vec<(HostId, Track)>,
    /// Where the next one is, as long as the order stays as it was.
    next: usize,
    /// Where the order was left for one that had another place; nearly always it goes on there.
    left: usize,
    /// How many had to be looked for.
    sought: usize,
    /// Where each is, by host; made when the order turns out to be quite another one.
    by_host: Vec<(HostId, usize)>,
}

impl Former {
    pub(crate) fn new(tracks: Vec<(HostId, Track)>) -> Self {
        Self { tracks, next: 0, left: 0, sought: 0, by_host: Vec::new() }
    }

    pub(crate) fn take(&mut self, host: HostId) -> Option<Track> {
        // As before; behind one that has gone away from here; where another one was before this.
        let likely = [self.next, self.next + 1, self.left];
        let at = match likely.into_iter().find(|&at| self.is_at(at, host)) {
            Some(at) => at,
            None => {
                let at = self.find(host)?;
                self.left = self.next;
                at
            }
        };
        self.next = at + 1;
        self.tracks.get(at).map(|(_, track)| *track)
    }

    fn is_at(&self, at: usize, host: HostId) -> bool {
        self.tracks.get(at).is_some_and(|(there, _)| *there == host)
    }

    fn find(&mut self, host: HostId) -> Option<usize> {
        self.sought += 1;
        if self.sought <= MOST_SOUGHT {
            return self.tracks.iter().position(|(there, _)| *there == host);
        }
        if self.by_host.is_empty() {
            self.by_host = self.tracks.iter().enumerate().map(|(at, (host, _))| (*host, at)).collect();
            self.by_host.sort_unstable();
        }
        let found = self.by_host.binary_search_by_key(&host, |(host, _)| *host).ok()?;
        self.by_host.get(found).map(|(_, at)| *at)
    }
}

/// How long a host's candidates sit out what they have to, now.
#[derive(Clone, Copy)]
pub(crate) struct Failbacks {
    pub(crate) now: Monotonic,
    /// This host's part of the jitter.
    jitter: Duration,
    hold: Duration,
    /// Whether connections may return at all now.
    pub(crate) open: bool,
    isolated: bool,
}

impl Failbacks {
    /// As the policy and the situation have it. `asked` says that an operator wants connections to return now.
    pub(crate) fn of(policy: &Effective, situation: &Situation<'_>, asked: bool) -> Self {
        let open = match policy.failback {
            Failback::Auto => true,
            Failback::Dormant => !situation.occupied,
            Failback::Off => false,
        };
        Self {
            now: situation.now,
            jitter: policy.failback_jitter.mul_f64(jitter_share(situation.host)),
            hold: policy.failback_hold,
            open: open || asked,
            isolated: situation.isolated,
        }
    }

    fn wait(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Nothing => Duration::ZERO,
            Wait::Jitter => self.jitter,
            // The policy may ask for a longer hold now than when the candidate recovered.
            Wait::Holds(times) => self.hold.mul_f64(times).min(LONGEST_HOLD.max(self.hold)) + self.jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whether a few candidates have moved, are new or are gone, or all are shuffled.
        #[test]
        fn each_candidate_has_its_own_track_however_the_order_has_changed(
            moved in prop::collection::vec((0..40_usize, 0..40_usize), 0..5),
            gone in prop::collection::vec(0..40_usize, 0..3),
            shuffled in prop::option::weighted(0.2, Just((0..40).collect::<Vec<usize>>()).prop_shuffle()),
        ) {
            let host = |n: usize| HostId(uuid::Uuid::from_u128(n as u128));
            let track = |n: usize| Track::new(Wait::Holds(n as f64));
            let mut order: Vec<_> = (0..40).filter(|n| !gone.contains(n)).collect();
            let mut former = Former::new(order.iter().map(|n| (host(*n), track(*n))).collect());
            for (from, to) in moved {
                let (from, to) = (from % order.len(), to % order.len());
                let one = order.remove(from);
                order.insert(to, one);
            }
            for n in shuffled.unwrap_or(order).into_iter().chain([40]) {
                let known = n < 40 && !gone.contains(&n);
                let found = former.take(host(n)).map(|track| track.wait);
                prop_assert_eq!(found, known.then_some(Wait::Holds(n as f64)), "{}", n);
            }
        }
    }
}
