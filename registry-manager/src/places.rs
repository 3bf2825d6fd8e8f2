//! How many may be connected at once.

use crate::limits::{CONNECTIONS_PER_IDENTITY, MAX_CONNECTIONS, STRANGERS};
use echelon_core::access::Subject;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places for connections: some in all, fewer for peers without a certificate, and fewer yet for each
/// identity.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    /// By identity; strangers have none.
    of: BTreeMap<Option<Subject>, usize>,
}

/// One connection's place. Given back when dropped.
pub(crate) struct Place {
    places: Places,
    subject: Option<Subject>,
}

impl Places {
    /// A place for a peer; none where too many are taken.
    pub(crate) fn take(&self, subject: Option<Subject>) -> Option<Place> {
        let most = if subject.is_some() { CONNECTIONS_PER_IDENTITY } else { STRANGERS };
        let mut taken = self.taken();
        let of = taken.of.get(&subject).copied().unwrap_or_default();
        if taken.all >= MAX_CONNECTIONS || of >= most {
            return None;
        }
        taken.all += 1;
        taken.of.insert(subject.clone(), of + 1);
        Some(Place { places: self.clone(), subject })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        match taken.of.get_mut(&self.subject) {
            Some(of) if *of > 1 => *of -= 1,
            _ => drop(taken.of.remove(&self.subject)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use echelon_core::id::HostId;
    use uuid::Uuid;

    fn host(number: u128) -> Option<Subject> {
        Some(Subject::Host(HostId(Uuid::from_u128(number))))
    }

    #[test]
    fn neither_strangers_nor_one_identity_take_the_places_of_others() {
        let places = Places::default();
        let mut kept: Vec<_> = (0..STRANGERS).map(|_| places.take(None).unwrap()).collect();
        kept.extend((0..CONNECTIONS_PER_IDENTITY).map(|_| places.take(host(0)).unwrap()));
        assert!(places.take(None).is_none() && places.take(host(0)).is_none());
        let left = MAX_CONNECTIONS - STRANGERS - CONNECTIONS_PER_IDENTITY;
        kept.extend((1..=left).map(|i| places.take(host(i as u128)).unwrap()));
        assert!(places.take(host(u128::MAX)).is_none(), "more than {MAX_CONNECTIONS}");
        kept.clear();
        assert!(places.taken().of.is_empty() && places.taken().all == 0);
    }
}
