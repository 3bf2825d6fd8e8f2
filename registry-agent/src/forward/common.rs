//! What the forwarders of one agent have in common.

use crate::forward::crew::Crew;
use crate::slots::Slots;
use std::sync::Arc;
use tokio::sync::watch;

/// What the forwarders of one agent have in common. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Who carries callers' bytes.
    pub(crate) crew: Arc<Crew>,
    /// Slots for the connections of all.
    pub(crate) slots: Slots,
    /// Whether open connections to dead managers are closed.
    pub(crate) close_dead: watch::Receiver<bool>,
}

#[cfg(test)]
impl Common {
    /// Of one forwarder in a test.
    pub(crate) fn alone() -> Self {
        let (crew, slots) = (Arc::default(), Slots::by_descriptors());
        Self { crew, slots, close_dead: watch::Sender::new(true).subscribe() }
    }
}
