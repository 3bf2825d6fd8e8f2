//! Who has a session here.

use dashmap::DashMap;
use echelon_core::id::HostId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The sessions of one manager, at most one for each host.
#[derive(Default)]
pub(crate) struct Sessions {
    by_host: DashMap<HostId, Entry>,
    next: AtomicU64,
}

struct Entry {
    number: u64,
    look_again: Arc<Notify>,
    replaced: CancellationToken,
}

/// A session's place in the table. Leaves it when dropped.
pub(crate) struct Seat<'a> {
    sessions: &'a Sessions,
    host: HostId,
    number: u64,
    /// Something about this host's own place may have changed.
    pub(crate) look_again: Arc<Notify>,
    /// The host has a newer session.
    pub(crate) replaced: CancellationToken,
}

impl Sessions {
    /// Takes the host's seat. An older session of the same host is told that it is replaced: its agent was
    /// restarted, or has given it up.
    pub(crate) fn take_seat(&self, host: HostId) -> Seat<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (look_again, replaced) = (Arc::new(Notify::new()), CancellationToken::new());
        let entry = Entry { number, look_again: Arc::clone(&look_again), replaced: replaced.clone() };
        if let Some(old) = self.by_host.insert(host, entry) {
            old.replaced.cancel();
        }
        Seat { sessions: self, host, number, look_again, replaced }
    }

    /// Makes a host's session look at its place, and at its right to be there, again.
    pub(crate) fn look_again(&self, host: HostId) {
        if let Some(entry) = self.by_host.get(&host) {
            entry.look_again.notify_one();
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_host.len()
    }
}

impl Seat<'_> {
    /// Whether this is still the host's newest session.
    pub(crate) fn is_newest(&self) -> bool {
        self.sessions.by_host.get(&self.host).is_some_and(|e| e.number == self.number)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.sessions.by_host.remove_if(&self.host, |_, entry| entry.number == self.number);
    }
}
