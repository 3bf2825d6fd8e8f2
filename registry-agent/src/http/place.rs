//! A request's place among those under way.

use crate::routes::Occupied;
use tokio::sync::OwnedSemaphorePermit;

/// The place of a request, until its answer has ended; of a tunnel, until it has.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// While there are any, `failback = dormant` holds requests where they are.
    _occupied: Occupied,
}

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit, occupied: Occupied) -> Self {
        Self { _permit: permit, _occupied: occupied }
    }
}
