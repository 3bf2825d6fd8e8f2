//! Turns outcomes of connects into evidence, without telling the router the same thing a thousand times
//! a second.

use crate::routes::Routes;
use echelon_core::endpoint::Endpoint;
use echelon_core::evidence::{LONGEST_OVERLOAD, Seen};
use echelon_core::id::HostId;
use echelon_core::name::ManagerType;
use echelon_core::report::CandidateState;
use echelon_core::route::Target;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A success is told again after this time, while its manager is live anyway. Far below every
/// `evidence_ttl`, which is at least a second and by default 15 s.
const INTERVAL: Duration = Duration::from_secs(1);

/// So is the same failure after this time, while its manager is not usable anyway: when all managers of a type are
/// gone, each of a thousand callers finds that out of each. Far below the window in which a host is found isolated.
const FAILURE_INTERVAL: Duration = Duration::from_millis(100);

/// Managers remembered; past it all are forgotten, which costs one more report each.
const MAX_REMEMBERED: usize = 4096;

/// Reports for one type.
#[derive(Debug)]
pub(crate) struct Reports {
    routes: Routes,
    ty: ManagerType,
    told: Mutex<BTreeMap<HostId, Told>>,
    /// Until when managers are to be left alone that said so.
    overloaded: Mutex<BTreeMap<HostId, Instant>>,
}

/// What was told of a manager last.
#[derive(Debug)]
struct Told {
    at: Instant,
    endpoint: Endpoint,
    seen: Seen,
}

impl Reports {
    pub(crate) fn new(routes: Routes, ty: ManagerType) -> Self {
        Self { routes, ty, told: Mutex::default(), overloaded: Mutex::default() }
    }

    /// Hands in what was seen of a manager, where it is news.
    pub(crate) fn saw(&self, target: &Target, seen: Seen, took: Duration) {
        let was_told = match seen {
            Seen::Overloaded(time) => self.was_told_overloaded(target.host, time),
            _ => self.was_told(target, &seen),
        };
        if !was_told {
            self.routes.saw(&self.ty, target.host, Some(target.endpoint.clone()), seen, took);
        }
    }

    fn was_told(&self, target: &Target, seen: &Seen) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |last: &&Told| last.seen == *seen && last.endpoint == target.endpoint;
        let lately = |last: &Told| now.saturating_duration_since(last.at) < interval(seen);
        if told.get(&target.host).filter(same).is_some_and(lately) && self.has_taken_effect(target.host, seen)
        {
            return true;
        }
        if told.len() >= MAX_REMEMBERED {
            told.clear();
        }
        told.insert(target.host, Told { at: now, endpoint: target.endpoint.clone(), seen: seen.clone() });
        false
    }

    /// Whether a manager is left alone for long enough by what it said before: for at least half of the time that it
    /// wants now, so that of thousands who hear it in that time two tell it.
    fn was_told_overloaded(&self, host: HostId, time: Duration) -> bool {
        let (now, time) = (Instant::now(), time.min(LONGEST_OVERLOAD));
        let mut overloaded = self.overloaded.lock().unwrap_or_else(PoisonError::into_inner);
        if overloaded.get(&host).is_some_and(|until| until.saturating_duration_since(now) >= time / 2) {
            return true;
        }
        if overloaded.len() >= MAX_REMEMBERED {
            overloaded.clear();
        }
        overloaded.insert(host, now + time);
        false
    }

    /// Whether the manager is in a state in which the same once more would change nothing.
    fn has_taken_effect(&self, host: HostId, seen: &Seen) -> bool {
        let Some(route) = self.routes.get(&self.ty) else { return false };
        let entry = route.entries.iter().find(|e| e.candidate.manager.host == host);
        entry.is_some_and(|e| match is_success(seen) {
            true => e.state == CandidateState::Live,
            false => matches!(e.state, CandidateState::Suspect | CandidateState::Down),
        })
    }
}

fn is_success(seen: &Seen) -> bool {
    matches!(seen, Seen::Connected | Seen::Answered)
}

fn interval(seen: &Seen) -> Duration {
    if is_success(seen) { INTERVAL } else { FAILURE_INTERVAL }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::routes::RouterInput;
    use crate::testing::{eventually, manager, routes, snapshot, ty};
    use echelon_core::name::Text;
    use echelon_core::router::Input;
    use tokio::time::{advance, pause};

    #[tokio::test]
    async fn the_same_failure_is_told_once_as_long_as_it_is_lately_and_has_taken_effect() {
        let near = manager(1, 0, "127.0.0.1:9".parse().unwrap());
        let target = |port: u16| Target {
            endpoint: std::net::SocketAddr::from(([127, 0, 0, 1], port)).into(),
            host: near.host,
            name: near.name.clone(),
            hedge: Duration::ZERO,
        };
        let refused = || Seen::Failed(Text::lossy("connection refused"));
        let (routes, _tasks) = routes(snapshot(1, std::slice::from_ref(&near), Default::default())).await;
        let reports = Reports::new(routes.clone(), ty());
        assert!(!reports.was_told(&target(9), &refused()));
        assert!(!reports.was_told(&target(9), &refused()), "the router does not know of it yet");
        routes.saw(&ty(), near.host, None, refused(), Duration::ZERO);
        let is_down = || routes.get(&ty()).filter(|r| r.entries[0].state == CandidateState::Down).map(|_| ());
        eventually("it to be down", is_down).await;
        // The machine may be slow: at some time two follow each other closely.
        let both = || (!reports.was_told(&target(9), &refused()), reports.was_told(&target(9), &refused()));
        eventually("the second to be dropped", || (both().1).then_some(())).await;
        assert!(!reports.was_told(&target(10), &refused()), "elsewhere");
        assert!(!reports.was_told(&target(10), &Seen::Overtaken), "another one");
    }

    #[tokio::test]
    async fn what_is_told_says_where_it_was_seen() {
        let (routes, mut inputs) = Routes::new(Clock::start());
        let near = manager(1, 0, "127.0.0.1:9".parse().unwrap());
        let (host, name, endpoint) = (near.host, near.name, near.endpoint);
        let target = Target { host, name, endpoint: endpoint.clone(), hedge: Duration::ZERO };
        Reports::new(routes, ty()).saw(&target, Seen::Connected, Duration::ZERO);
        let told = inputs.recv().await.unwrap();
        assert!(matches!(told, RouterInput::Core(Input::Saw { endpoint: Some(at), .. }) if at == endpoint));
    }

    /// Thousands may hear the same within a second; the router need not.
    #[tokio::test]
    async fn a_word_of_overload_is_told_again_only_when_it_says_more() {
        pause();
        let (routes, mut inputs) = Routes::new(Clock::start());
        let reports = Reports::new(routes, ty());
        let target = |n: u8| {
            let near = manager(n, 0, "127.0.0.1:9".parse().unwrap());
            Target { host: near.host, name: near.name, endpoint: near.endpoint, hedge: Duration::ZERO }
        };
        let mut told = |n: u8, seconds: u64| {
            reports.saw(&target(n), Seen::Overloaded(Duration::from_secs(seconds)), Duration::ZERO);
            inputs.try_recv().is_ok()
        };
        assert!(told(1, 10) && !told(1, 10) && !told(1, 5) && told(2, 10));
        advance(Duration::from_secs(4)).await;
        assert!(!told(1, 10));
        advance(Duration::from_secs(2)).await;
        assert!(told(1, 10) && !told(1, 10), "it is held for as long again");
        assert!(told(1, 60) && !told(1, 3600), "a minute is the most that counts");
    }
}
