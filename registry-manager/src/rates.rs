//! How often each host may do something that costs an edit.

use echelon_core::id::HostId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Hosts remembered before those are forgotten that have their full burst again, of whom nothing need be known.
const REMEMBERED: usize = 4096;

/// A bucket for each host: so many at once, and one more in every interval.
pub(crate) struct Rates {
    burst: u32,
    interval: Duration,
    /// Since when a host's bucket has been filling, had it been empty then.
    since: Mutex<HashMap<HostId, Instant>>,
}

impl Rates {
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, since: Mutex::default() }
    }

    /// Whether a host may do it now. If so, it counts as done.
    pub(crate) fn admit(&self, host: HostId) -> bool {
        self.admit_at(host, Instant::now())
    }

    fn admit_at(&self, host: HostId, now: Instant) -> bool {
        let full = self.interval * self.burst;
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.len() >= REMEMBERED && !since.contains_key(&host) {
            since.retain(|_, since| now.saturating_duration_since(*since) < full);
        }
        // Time that the bucket has filled for, as far as it can hold it.
        let filled = since.get(&host).map_or(full, |since| now.saturating_duration_since(*since).min(full));
        let left = filled.checked_sub(self.interval);
        if let Some(left) = left {
            since.insert(host, now - left);
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_a_burst_and_then_one_for_each_interval() {
        let (rates, begin) =
            (Rates::new(3, Duration::from_secs(1)), Instant::now() + Duration::from_secs(60));
        let host = |n| HostId(uuid::Uuid::from_u128(n));
        let admit = |n, ms| rates.admit_at(host(n), begin + Duration::from_millis(ms));
        assert_eq!([0, 1, 2, 3].map(|ms| admit(1, ms)), [true, true, true, false]);
        assert!(admit(2, 3), "another host has its own");
        assert_eq!([999, 1000, 1001, 2000].map(|ms| admit(1, ms)), [false, true, false, true]);
        assert_eq!([60_000, 60_000, 60_000, 60_000].map(|ms| admit(1, ms)), [true, true, true, false]);
    }

    #[test]
    fn hosts_that_have_been_quiet_are_forgotten() {
        let (rates, begin) =
            (Rates::new(2, Duration::from_secs(1)), Instant::now() + Duration::from_secs(60));
        for n in 0..REMEMBERED as u128 {
            assert!(rates.admit_at(HostId(uuid::Uuid::from_u128(n)), begin));
        }
        assert!(rates.admit_at(HostId(uuid::Uuid::from_u128(u128::MAX)), begin + Duration::from_secs(9)));
        assert_eq!(rates.since.lock().unwrap().len(), 1);
    }
}
