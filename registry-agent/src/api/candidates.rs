//! The candidates of routes as JSON, made once for all who ask: they are nearly all of an answer, and seldom
//! change.

use crate::routes::Snapshot;
use echelon_core::name::ManagerType;
use echelon_core::route::Route;
use echelon_core::time::Monotonic;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The newest candidates of each type. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Candidates(Arc<Mutex<BTreeMap<ManagerType, Made>>>);

/// What one text was made from. References that keep nothing alive tell whether it still is that; routes are
/// kept for a bounded number of types, and so are these.
struct Made {
    route: Weak<Route>,
    replica: Weak<Snapshot>,
    /// The second in which it was made, where it tells ages.
    second: Option<u64>,
    json: Arc<str>,
}

impl Candidates {
    /// The candidates of a route. Ages in it may be a second old.
    pub(super) fn json(
        &self,
        route: &Arc<Route>,
        replica: &Arc<Snapshot>,
        now: Monotonic,
    ) -> serde_json::Result<Arc<str>> {
        let second = now.0 / 1_000_000;
        let is_of = |made: &Made| {
            std::ptr::eq(made.route.as_ptr(), Arc::as_ptr(route))
                && std::ptr::eq(made.replica.as_ptr(), Arc::as_ptr(replica))
                && made.second.is_none_or(|at| at == second)
        };
        // Nothing under this lock can leave it half changed.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = lock().get(&route.ty).filter(|made| is_of(made)) {
            return Ok(Arc::clone(&made.json));
        }
        let json: Arc<str> = serde_json::to_string(&route.candidates(&replica.view, now))?.into();
        let made = Made {
            route: Arc::downgrade(route),
            replica: Arc::downgrade(replica),
            second: route.tells_ages().then_some(second),
            json: Arc::clone(&json),
        };
        lock().insert(route.ty.clone(), made);
        Ok(json)
    }
}

/// `head` with these candidates where it has `null`.
pub(super) fn with_candidates(head: &str, candidates: &str) -> String {
    // Quotes inside of texts are escaped, so that this can only be the key.
    const NONE: &str = "\"candidates\":null";
    let (before, after) = head.split_once(NONE).unwrap_or((head, ""));
    [before, "\"candidates\":", candidates, after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn candidates_take_the_place_of_null_and_of_nothing_that_looks_like_it() {
        let head =
            json!({"cause": "\"candidates\":null", "candidates": null, "source": "replica"}).to_string();
        let whole: Value = serde_json::from_str(&with_candidates(&head, "[1]")).unwrap();
        let expected = json!({"cause": "\"candidates\":null", "candidates": [1], "source": "replica"});
        assert_eq!(whole, expected);
    }
}
