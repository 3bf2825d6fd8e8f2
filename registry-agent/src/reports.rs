//! Turns outcomes of connects into evidence, without telling the router the same thing a thousand times
//! a second.

use crate::routes::Routes;
use echelon_core::evidence::{LONGEST_OVERLOAD, Seen};
use echelon_core::id::HostId;
use echelon_core::name::ManagerType;
use echelon_core::report::CandidateState;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A success is told again after this time, while its manager is live anyway. Far below every
/// `evidence_ttl`, which is at least a second and by default 15 s.
const INTERVAL: Duration = Duration::from_secs(1);

/// Managers remembered; past it all are forgotten, which costs one more report each.
const MAX_REMEMBERED: usize = 4096;

/// Reports for one type.
#[derive(Debug)]
pub(crate) struct Reports {
    routes: Routes,
    ty: ManagerType,
    told: Mutex<BTreeMap<HostId, Instant>>,
    /// Until when managers are to be left alone that said so.
    overloaded: Mutex<BTreeMap<HostId, Instant>>,
}

impl Reports {
    pub(crate) fn new(routes: Routes, ty: ManagerType) -> Self {
        Self { routes, ty, told: Mutex::default(), overloaded: Mutex::default() }
    }

    /// Hands in what was seen of a manager: failures and delays always, successes and words of overload where they
    /// are news.
    pub(crate) fn saw(&self, host: HostId, seen: Seen, took: Duration) {
        let told = match seen {
            Seen::Connected | Seen::Answered => self.was_told(host),
            Seen::Overloaded(time) => self.was_told_overloaded(host, time),
            Seen::Overtaken | Seen::Failed(_) | Seen::Silent(_) | Seen::Unanswered(_) => {
                self.told().remove(&host);
                false
            }
        };
        if !told {
            self.routes.saw(&self.ty, host, seen, took);
        }
    }

    fn was_told(&self, host: HostId) -> bool {
        let now = Instant::now();
        let mut told = self.told();
        let lately = told.get(&host).is_some_and(|at| now.saturating_duration_since(*at) < INTERVAL);
        if lately && self.is_live(host) {
            return true;
        }
        if told.len() >= MAX_REMEMBERED {
            told.clear();
        }
        told.insert(host, now);
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

    fn is_live(&self, host: HostId) -> bool {
        let Some(route) = self.routes.get(&self.ty) else { return false };
        let entry = route.entries.iter().find(|e| e.candidate.manager.host == host);
        entry.is_some_and(|e| e.state == CandidateState::Live)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<HostId, Instant>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::testing::{host, ty};
    use tokio::time::{advance, pause};

    /// Thousands may hear the same within a second; the router need not.
    #[tokio::test]
    async fn a_word_of_overload_is_told_again_only_when_it_says_more() {
        pause();
        let (routes, mut inputs) = Routes::new(Clock::start());
        let reports = Reports::new(routes, ty());
        let mut told = |n: u8, seconds: u64| {
            reports.saw(host(n), Seen::Overloaded(Duration::from_secs(seconds)), Duration::ZERO);
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
