//! Keeps a fault that concerns every connection from filling the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// At most one line in this time: people see a fault within a second, and a thousand callers a second
/// make one line of it.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one message through in each [`INTERVAL`] and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Whether to say it now; then with how many were held back since the last time.
    pub(crate) fn let_through(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            state.held_back = state.held_back.saturating_add(1);
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_a_second_is_let_through_and_the_others_are_counted() {
        let throttle = Throttle::default();
        assert_eq!(throttle.let_through(), Some(0));
        assert_eq!([throttle.let_through(), throttle.let_through()], [None, None]);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.let_through(), Some(2));
    }
}
