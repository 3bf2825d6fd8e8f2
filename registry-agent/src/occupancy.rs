//! How many connections are open to the managers of each type, for `failback = dormant`.

use echelon_core::name::ManagerType;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of every type that something is carried for. As many types as there are forwarders.
#[derive(Debug, Default)]
pub(crate) struct Occupancies(Mutex<BTreeMap<ManagerType, Occupancy>>);

/// The connections of one type. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Occupancy(Arc<AtomicUsize>);

impl Occupancies {
    /// Those of a type.
    pub(crate) fn of(&self, ty: &ManagerType) -> Occupancy {
        // Nothing under this lock can leave it half changed.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(ty.clone()).or_default().clone()
    }
}

impl Occupancy {
    /// One more is open. Says whether it is the first.
    pub(crate) fn enter(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// One that was open is not any more. Says whether it was the last.
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Whether any is open.
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}
