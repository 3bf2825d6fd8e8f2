//! The clocks of one agent.

use echelon_core::time::{Monotonic, UnixMillis};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Stands for "never" where a timer wants an instant; far enough away that nobody waits for it.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Counts from the agent's start. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// When a timer is to fire for this reading; a reading out of all range is a day away.
    pub(crate) fn instant(&self, at: Monotonic) -> Instant {
        let ahead = at.since(self.now()).min(FAR);
        Instant::now() + ahead
    }
}

/// The wall clock. Certificates go by it, and nothing else does.
pub(crate) fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A duration as whole milliseconds, for JSON.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn timers_fire_when_the_reading_says_and_absurd_readings_do_no_harm() {
        let clock = Clock::start();
        let at = clock.now() + Duration::from_millis(20);
        tokio::time::sleep_until(clock.instant(at)).await;
        assert!(clock.now() >= at);
        assert!(clock.instant(Monotonic(u64::MAX)) <= Instant::now() + FAR);
        assert!(clock.instant(Monotonic(0)) <= Instant::now());
    }
}
