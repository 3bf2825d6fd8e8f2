//! Turns outcomes of connects into evidence, without telling the router the same thing a thousand times
//! a second.

use crate::routes::Routes;
use echelon_core::evidence::Seen;
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
}

impl Reports {
    pub(crate) fn new(routes: Routes, ty: ManagerType) -> Self {
        Self { routes, ty, told: Mutex::default() }
    }

    /// Hands in what was seen of a manager: failures and delays always, successes where they are news.
    pub(crate) fn saw(&self, host: HostId, seen: Seen, took: Duration) {
        let told = match seen {
            Seen::Connected | Seen::Answered => self.was_told(host),
            Seen::Overtaken
            | Seen::Failed(_)
            | Seen::Silent(_)
            | Seen::Unanswered(_)
            | Seen::Overloaded(_) => {
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

    fn is_live(&self, host: HostId) -> bool {
        let Some(route) = self.routes.get(&self.ty) else { return false };
        let entry = route.entries.iter().find(|e| e.candidate.manager.host == host);
        entry.is_some_and(|e| e.state == CandidateState::Live)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<HostId, Instant>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
