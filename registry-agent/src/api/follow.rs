//! Callers who wait for changes.

use crate::api::server::MAX_CONNECTIONS;
use echelon_core::name::ManagerType;
use echelon_core::route::Route;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most callers of one socket who wait at a time. The rest of its connections is left to those who ask and go.
const MAX_FOLLOWERS: usize = MAX_CONNECTIONS / 4 * 3;

/// The callers who wait at one socket. Clones are the same.
#[derive(Clone)]
pub(super) struct Followers {
    places: Arc<Semaphore>,
    tags: Arc<Mutex<Tags>>,
}

/// Tags of the newest routes, so that each is made once and not for every caller. Routes are kept for a bounded
/// number of types, and a reference that keeps nothing alive tells whether a tag is of this very route.
type Tags = BTreeMap<ManagerType, (Weak<Route>, String)>;

/// Nobody more can wait.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_FOLLOWERS} callers wait for changes already; ask without after, or let some of them go")]
pub(super) struct TooMany;

impl Followers {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_FOLLOWERS)), tags: Arc::default() }
    }

    /// A place for one caller, until it is dropped.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, TooMany> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| TooMany)
    }

    /// The tag of a route.
    pub(super) fn tag(&self, route: &Arc<Route>) -> String {
        // Nothing under this lock can leave it half changed.
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, tag)) = tags.get(&route.ty)
            && std::ptr::eq(known.as_ptr(), Arc::as_ptr(route))
        {
            return tag.clone();
        }
        let tag = route.tag().to_string();
        tags.insert(route.ty.clone(), (Arc::downgrade(route), tag.clone()));
        tag
    }
}
