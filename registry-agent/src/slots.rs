//! How many connections may be open at a time: at one listener, and in a whole agent.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors kept back for everything but callers of forwarders: listeners, the replica, the API with its
/// connections in use, checks, probes, connections to registry managers.
const KEPT_BACK: u64 = 256;

/// Descriptors that a forwarded connection takes: the caller's, the manager's, and one for the second attempt of
/// those that are being made, or a share of the pipes that streams go through.
const FOR_EACH: u64 = 3;

/// Connections of an agent where the system sets no limit of descriptors: as many as a large machine's memory bears.
const MOST: usize = 1 << 20;

/// Slots for connections.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    own: Arc<Semaphore>,
    most: usize,
    /// Those of all, of which each of these takes one as well.
    common: Option<Arc<Semaphore>>,
}

/// The slot of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _own: OwnedSemaphorePermit,
    _common: Option<OwnedSemaphorePermit>,
}

/// Why callers wait in the kernel's queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Waiting {
    /// There is no slot.
    #[error("as many connections are open as may be ({0}); callers wait until one ends")]
    Full(usize),
    /// The system does not accept.
    #[error("the system accepts no connection: {0}")]
    Refused(io::Error),
}

impl Slots {
    /// So many.
    pub(crate) fn new(most: usize) -> Self {
        Self { own: Arc::new(Semaphore::new(most)), most, common: None }
    }

    /// As many as this process has descriptors for.
    pub(crate) fn by_descriptors() -> Self {
        Self::new(affordable(getrlimit(Resource::Nofile).current))
    }

    /// At most so many of these, and at most half: whoever takes all that he may leaves some to others.
    pub(crate) fn share(&self, most: usize) -> Self {
        let most = most.min(self.most.div_ceil(2));
        Self { common: Some(Arc::clone(&self.own)), ..Self::new(most) }
    }

    /// How many there are.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Whether none is left.
    pub(crate) fn is_full(&self) -> bool {
        let none = |slots: &Semaphore| slots.available_permits() == 0;
        none(&self.own) || self.common.as_deref().is_some_and(none)
    }

    /// A slot, as soon as there is one. Dropping the future takes none.
    pub(crate) async fn take(&self) -> Slot {
        let own = take(&self.own).await;
        let common = match &self.common {
            Some(common) => Some(take(common).await),
            None => None,
        };
        Slot { _own: own, _common: common }
    }
}

async fn take(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(slots).acquire_owned().await.expect("it is never closed")
}

/// How many connections so many descriptors allow; at least one.
fn affordable(descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors else { return MOST };
    let connections = descriptors.saturating_sub(KEPT_BACK) / FOR_EACH;
    usize::try_from(connections).unwrap_or(MOST).clamp(1, MOST)
}

/// The system's limit of descriptors for this process, raised as far as it may be: each connection takes
/// two, and the usual limit of 1024 is meant for programs that use `select`.
///
/// # Errors
/// The system refused; the limit is as it was.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn descriptors_are_kept_back_and_there_is_always_a_place() {
        assert_eq!(affordable(Some(1024)), 256);
        assert_eq!(affordable(Some(65_536)), 21_760);
        assert_eq!([affordable(Some(0)), affordable(Some(257))], [1, 1]);
        assert_eq!([affordable(None), affordable(Some(u64::MAX))], [MOST, MOST]);
    }

    #[tokio::test]
    async fn one_listener_cannot_take_what_all_have() {
        let all = Slots::new(4);
        let (greedy, other) = (all.share(100), all.share(1));
        let taken = [greedy.take().await, greedy.take().await];
        assert!(greedy.is_full() && greedy.take().now_or_never().is_none());
        assert_eq!((greedy.most(), other.most()), (2, 1));
        let others = other.take().await;
        assert!(other.is_full() && !all.is_full());
        drop((taken, others));
        assert!(!greedy.is_full() && !other.is_full());
    }

    #[tokio::test]
    async fn what_all_have_bounds_each() {
        let all = Slots::new(3);
        let shares = [all.share(2), all.share(2)];
        let taken = [shares[0].take().await, shares[0].take().await, shares[1].take().await];
        assert!(shares[1].is_full() && shares[1].take().now_or_never().is_none());
        drop(taken);
        assert!(shares[1].take().now_or_never().is_some());
    }
}
