//! Connections to managers that wait for the next request.

use crate::http::upstream::Link;
use echelon_core::endpoint::Endpoint;
use echelon_core::id::HostId;
use echelon_core::repeat::Effect;
use echelon_core::report::CandidateState;
use echelon_core::route::{Entry, Route, Target};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Idle connections kept for one manager, by one thread: as many requests may be under way at a time without a
/// connect.
const MAX_OF_ONE: usize = 128;

/// Idle connections kept in all, by one thread, so that many managers do not use up the descriptors.
const MAX_IDLE: usize = 512;

/// How long an idle connection is kept. Servers close theirs after five seconds and more (Node.js, Apache and
/// uvicorn: 5 s; nginx: 75 s), and a request must not meet such an end.
const IDLE: Duration = Duration::from_secs(4);

/// The same for a request that may act twice, which cannot be repeated once it has met such an end: shorter than what
/// the hastiest servers wait (gunicorn: 2 s).
const IDLE_FOR_ONCE: Duration = Duration::from_secs(1);

/// How old a connection may be when it is used again. Below the default `evidence_ttl`, so that somebody who calls all
/// the time has always connected lately, and knows whether the manager can be reached.
const LIFE: Duration = Duration::from_secs(10);

/// The idle connections of one thread.
#[derive(Debug, Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By manager, the one used last at the end.
    idle: BTreeMap<HostId, Vec<(Instant, Link)>>,
    count: usize,
    closed: bool,
}

impl Pool {
    /// A connection to this manager, for a request of this effect, over which nothing has come since its last answer.
    pub(super) fn take(&self, target: &Target, effect: Effect) -> Option<Link> {
        let now = Instant::now();
        let longest = if effect == Effect::Same { IDLE } else { IDLE_FOR_ONCE };
        let mut state = self.state();
        let idle = state.idle.get_mut(&target.host)?;
        // The one used last is the least likely to be closed meanwhile.
        let found = idle.iter().rposition(|(since, link)| {
            now.saturating_duration_since(*since) < longest && is_usable(link, target)
        });
        let (_, link) = idle.remove(found?);
        state.count -= 1;
        Some(link)
    }

    /// Keeps a connection whose answer is whole.
    pub(super) fn put(&self, link: Link) {
        let mut state = self.state();
        if state.closed || !link.may_be_kept() || state.count >= MAX_IDLE || link.age() > LIFE {
            return;
        }
        let idle = state.idle.entry(link.host()).or_default();
        if idle.len() < MAX_OF_ONE {
            idle.push((Instant::now(), link));
            state.count += 1;
        }
    }

    /// Closes connections to managers that serve no more or are elsewhere, and those that are old. What is closed
    /// meanwhile goes as well.
    pub(super) fn sweep(&self, serving: &Serving<'_>) {
        let now = Instant::now();
        let mut state = self.state();
        state.idle.retain(|host, idle| {
            idle.retain(|(since, link)| {
                let here = serving.0.get(host) == Some(&link.endpoint());
                here && now.saturating_duration_since(*since) < IDLE && link.age() < LIFE && !link.is_closed()
            });
            !idle.is_empty()
        });
        state.count = state.idle.values().map(Vec::len).sum();
    }

    /// Closes all, and keeps none from now on.
    pub(super) fn close(&self) {
        *self.state() = State { closed: true, ..State::default() };
    }

    /// How many are idle.
    pub(super) fn idle(&self) -> usize {
        self.state().count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_usable(link: &Link, target: &Target) -> bool {
    link.age() < LIFE && link.endpoint() == &target.endpoint && link.is_ready()
}

/// Where the managers are that may have idle connections: none to one that is down, whose connections may hang.
#[derive(Debug)]
pub(super) struct Serving<'a>(BTreeMap<HostId, &'a Endpoint>);

impl<'a> Serving<'a> {
    /// By this route; nobody where there is none.
    pub(super) fn of(route: Option<&'a Route>) -> Self {
        let serves = |entry: &&Entry| entry.state.may_serve() && entry.state != CandidateState::Down;
        let entries = route.map_or(&[][..], |route| &route.entries).iter().filter(serves);
        let managers = entries.map(|entry| &entry.candidate.manager);
        Self(managers.map(|manager| (manager.host, &manager.endpoint)).collect())
    }
}
