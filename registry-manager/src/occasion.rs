//! Saying things not too often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets something be said at most once in an interval, and tells how often it was not.
pub(crate) struct Occasion {
    interval: Duration,
    state: Mutex<(Option<Instant>, u64)>,
}

impl Occasion {
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// Whether to say it now; if so, how often it was left unsaid since the last time.
    pub(crate) fn now(&self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (said, unsaid) = *state;
        let due = said.is_none_or(|said| now.duration_since(said) >= self.interval);
        *state = if due { (Some(now), 0) } else { (said, unsaid.saturating_add(1)) };
        due.then_some(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_too_often_is_counted_instead() {
        let (occasion, begin) = (Occasion::every(Duration::from_secs(1)), Instant::now());
        let at = |ms| occasion.at(begin + Duration::from_millis(ms));
        assert_eq!([0, 1, 999, 1000, 1001, 2000].map(at), [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
