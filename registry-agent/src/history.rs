//! Where the routes of this host have led since its agent started.

use crate::clock::unix_now;
use echelon_core::moves::Move;
use echelon_core::name::ManagerType;
use echelon_core::report::RouteMove;
use echelon_core::route::Route;
use echelon_core::time::UnixMillis;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Moves remembered of one type: with a return after each failure, a month of four a day. Types are bounded by
/// [`echelon_core::limits::MAX_WANTED_TYPES`], since only those have routes; all of it is under 20 MiB.
const MAX_MOVES: usize = 256;

/// What has happened to each route, in memory only.
#[derive(Debug)]
pub(crate) struct History {
    since: UnixMillis,
    moves: Mutex<BTreeMap<ManagerType, VecDeque<RouteMove>>>,
}

impl History {
    /// One that begins now.
    pub(crate) fn new() -> Self {
        Self { since: unix_now(), moves: Mutex::default() }
    }

    /// When it began.
    pub(crate) fn since(&self) -> UnixMillis {
        self.since
    }

    /// Remembers that `route` leads to another manager than `before`, the route it follows; or to the first.
    pub(crate) fn note(&self, before: Option<&Route>, route: &Route) {
        let (cause, reason) = match before {
            Some(before) => match route.moved_from(before) {
                Some(moved) => (moved.why, &moved.words),
                None => return,
            },
            None if route.chosen.is_some() => (Move::Served, &route.cause),
            None => return,
        };
        let name = |route: &Route| route.chosen().map(|entry| entry.candidate.manager.name.clone());
        let noted = RouteMove {
            at: unix_now().to_string(),
            from: before.and_then(name),
            to: name(route),
            endpoint: route.chosen().map(|entry| entry.candidate.manager.endpoint.clone()),
            outcome: route.outcome,
            cause: cause.as_str().into(),
            reason: reason.as_str().into(),
        };
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        let moves = moves.entry(route.ty.clone()).or_default();
        if moves.len() >= MAX_MOVES {
            moves.pop_front();
        }
        moves.push_back(noted);
    }

    /// What is remembered of a type, the newest last; none of one that nobody has asked for, or that never had a
    /// manager.
    pub(crate) fn of(&self, ty: &ManagerType) -> Vec<RouteMove> {
        let moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        moves.get(ty).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{manager, snapshot, ty};
    use echelon_core::policy::PolicySettings;
    use echelon_core::router::{Input, Router};
    use echelon_core::time::Monotonic;
    use std::sync::Arc;

    /// The routes of a host that knows one manager at a time, these in turn.
    fn routes_to(managers: &[u8]) -> Vec<Arc<Route>> {
        let replica =
            |n| snapshot(1, &[manager(n, 1, ([127, 0, 0, 1], 70).into())], PolicySettings::default());
        let mut router = Router::new(replica(0).view.clone(), replica(0).place.clone());
        let mut out = Vec::new();
        router.handle(Monotonic::default(), Input::Want(ty()), &mut out);
        let route = |n: &u8| {
            router.handle(Monotonic::default(), Input::View(replica(*n).view.clone()), &mut out);
            router.route(&ty()).cloned().unwrap()
        };
        managers.iter().map(route).collect()
    }

    #[test]
    fn only_moves_are_remembered_and_the_oldest_are_forgotten() {
        let (history, routes) = (History::new(), routes_to(&[1, 1, 2, 2, 1]));
        let before = std::iter::once(None).chain(routes.iter().map(Some));
        for (before, route) in before.zip(&routes) {
            history.note(before.map(Arc::as_ref), route);
        }
        let told = |entry: &RouteMove| {
            let [from, to] = [&entry.from, &entry.to].map(|name| name.as_ref().map(ToString::to_string));
            (from.unwrap_or_default(), to.unwrap(), entry.cause.clone())
        };
        let entry = |from: &str, to: &str, cause: &str| (from.to_owned(), to.to_owned(), cause.to_owned());
        let wanted = [
            entry("", "host1", "served"),
            entry("host1", "host2", "removed"),
            entry("host2", "host1", "removed"),
        ];
        assert_eq!(history.of(&ty()).iter().map(told).collect::<Vec<_>>(), wanted);
        for _ in 0..MAX_MOVES {
            history.note(Some(&routes[0]), &routes[2]);
        }
        let kept = history.of(&ty());
        assert_eq!((kept.len(), told(&kept[0])), (MAX_MOVES, wanted[1].clone()));
        assert!(history.of(&"audit".parse().unwrap()).is_empty());
    }
}
